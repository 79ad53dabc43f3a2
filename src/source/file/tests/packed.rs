//! Packed files: the same records, or an error before the first of them.

use super::*;

/// Lines that differ, so that packing keeps some of them apart.
fn lines(count: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|number| format!("{{\"id\":{number},\"text\":\"{:x}\"}}\n", number * 2_654_435_761).into_bytes())
        .collect()
}

async fn unpacked(name: &str, content: &[u8]) -> Vec<u8> {
    let scenery = Scenery::new(&[(name, content)]);
    let read = read_to_end(&mut scenery.source(name)).await.unwrap_or_else(|error| panic!("{name}: {}", error.chain()));
    messages(read).iter().flat_map(|message| [&message.body[..], b"\n"].concat()).collect()
}

#[tokio::test]
async fn packed_records_are_those_of_the_plain_file() {
    let content = lines(50_000);
    let (first, second) = content.split_at(content.len() / 3);
    let packed = [
        ("a.ndjson.gz", gzip(&content)),
        ("a.jsonl.gz", [gzip(first), gzip(second)].concat()),
        ("a.ndjson.GZ", [gzip(b""), gzip(&content), gzip(b"")].concat()),
        ("a.ndjson.zst", zstd_packed(&content)),
        ("a.json.zst", [zstd_packed(first), zstd_packed(second)].concat()),
    ];
    for (name, packed) in packed {
        assert!(unpacked(name, &packed).await == content, "{name}");
    }
    assert_eq!(unpacked("a.ndjson.gz", &gzip(b"")).await, b"");
    assert_eq!(unpacked("a.ndjson.zst", &zstd_packed(b"")).await, b"");
}

#[tokio::test]
async fn file_that_is_cut_anywhere_gives_no_record_at_all() {
    let content = lines(20_000);
    for (name, packed) in [
        ("a.ndjson.gz", gzip(&content)),
        ("a.ndjson.zst", zstd_packed(&content)),
        ("b.ndjson.gz", [gzip(&content[..9]), gzip(b"{}")].concat()),
        ("b.ndjson.zst", [zstd_packed(&content[..9]), zstd_packed(b"{}")].concat()),
    ] {
        let end = packed.len();
        for cut in [0, 1, 5, 12, end / 2, end - 20, end - 9, end - 8, end - 4, end - 1] {
            let scenery = Scenery::new(&[(name, &packed[..cut])]);
            let error = scenery.refusal(name).await;
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{name} cut at {cut}: {}", error.chain());
            assert!(error.chain().starts_with(&format!("source file `{name}` is damaged: ")), "{}", error.chain());
        }
    }
}

#[tokio::test]
async fn file_that_is_changed_or_is_something_else_gives_no_record_at_all() {
    let content = lines(20_000);
    let mut changed = gzip(&content);
    let middle = changed.len() / 2;
    changed[middle] ^= 0xFF;
    for (name, packed) in [
        ("a.ndjson.gz", changed),
        ("b.ndjson.gz", content.clone()),
        ("c.ndjson.gz", [gzip(&content), b"garbage".to_vec()].concat()),
        ("d.ndjson.zst", content.clone()),
        ("e.ndjson.zst", gzip(&content)),
        ("f.ndjson.zst", [zstd_packed(&content), b"garbage".to_vec()].concat()),
    ] {
        let error = Scenery::new(&[(name, &packed)]).refusal(name).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {}", error.chain());
    }
}
