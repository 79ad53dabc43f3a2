//! Files as sources: what is a record, where reading goes on, what a file is.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::*;
use crate::diagnostic::SourceText;
use crate::types::{RawMessage, SequenceRange};

mod many;
mod packed;
mod typed;

const ALL: ReadLimit = ReadLimit { messages: usize::MAX, before: None, wait: Duration::from_secs(20) };

const CONTRACT: &str = r#"{"type": "object", "required": ["id"], "properties": {
    "id": {"type": "integer", "maximum": 1000000},
    "text": {"type": "string", "maxLength": 5},
    "amount": {"type": "number", "x-decimal": {"precision": 10, "scale": 2}},
    "at": {"type": "string", "format": "date-time"}
}}"#;

fn contract(text: &str) -> Arc<Contract> {
    let compiled = Contract::compile(&SourceText::new("c.json", text));
    compiled.map(Arc::new).unwrap_or_else(|problems| panic!("{}", problems.render(false)))
}

/// A folder with files, and sources of them.
struct Scenery {
    folder: TempDir,
    contract: Arc<Contract>,
}

impl Scenery {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let scenery = Self { folder: tempfile::tempdir().expect("a folder"), contract: contract(CONTRACT) };
        for (name, content) in files {
            scenery.write(name, content);
        }
        scenery
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).expect("writable");
    }

    fn source(&self, text: &str) -> FileSource {
        self.watched(text, None)
    }

    fn watched(&self, text: &str, watch: Option<Duration>) -> FileSource {
        let files = FileSet::parse(self.folder.path(), text).unwrap_or_else(|(message, _)| panic!("{message}"));
        FileSource::open(&FileSet { watch, ..files }, &self.contract, self.folder.path()).expect("a source")
    }

    /// What is said when the files are read to their end.
    async fn refusal(&self, text: &str) -> Error {
        let mut source = self.source(text);
        let refused = read_to_end(&mut source).await.expect_err("refused");
        assert_eq!(source.position(), Some(1), "nothing was given");
        refused
    }
}

/// Everything to the end, with the identity of the file of each read.
async fn read_to_end(source: &mut FileSource) -> Result<Vec<Read>> {
    let mut reads = Vec::new();
    loop {
        let read = source.read(ALL).await?;
        assert_eq!(read.changed, None);
        let ended = read.rest != Rest::More;
        reads.push(read);
        if ended {
            return Ok(reads);
        }
    }
}

fn messages(reads: Vec<Read>) -> Vec<RawMessage> {
    reads.into_iter().flat_map(|read| read.messages).collect()
}

fn bodies(read: &Read) -> Vec<&[u8]> {
    read.messages.iter().map(|message| &*message.body).collect()
}

/// The records of one file.
async fn check(name: &str, content: &[u8], expected: &[&[u8]]) {
    let scenery = Scenery::new(&[(name, content)]);
    let mut source = scenery.source(name);
    let shown = String::from_utf8_lossy(content);
    let messages =
        messages(read_to_end(&mut source).await.unwrap_or_else(|error| panic!("{shown:?}: {}", error.chain())));
    let bodies: Vec<&[u8]> = messages.iter().map(|message| &*message.body).collect();
    assert_eq!(bodies, expected, "{shown:?}");
    let sequences: Vec<_> = messages.iter().map(|message| message.sequence).collect();
    assert_eq!(sequences, (1..=expected.len() as u64).collect::<Vec<_>>(), "{shown:?}");
    let after = source.read(ALL).await.expect("read");
    assert_eq!((after.messages.len(), after.next, after.rest), (0, expected.len() as u64 + 1, Rest::End), "{shown:?}");
}

#[tokio::test]
async fn every_line_is_a_message_but_an_empty_one_at_the_very_end() {
    for (content, expected) in [
        (&b""[..], &[][..]),
        (b"\n", &[]),
        (b"{}\n{\"a\":1}\n", &[&b"{}"[..], b"{\"a\":1}"]),
        (b"{}\n{}", &[b"{}", b"{}"]),
        (b"{}\r\n{}\r\n", &[b"{}", b"{}"]),
        (b"{}\n\n", &[b"{}"]),
        (b"{}\n\n\n", &[b"{}", b""]),
        (b"\n{}\n", &[b"", b"{}"]),
        (b"{}\n\n{}", &[b"{}", b"", b"{}"]),
        (b"{}\n  \n", &[b"{}", b"  "]),
        (b"\xEF\xBB\xBF{}\n", &[b"{}"]),
        (b"\xEF\xBB", &[b"\xEF\xBB"]),
        (b"\xEF\xBB\xBF", &[]),
        (b"a", &[b"a"]),
        (b"\xFF\xFE\n{}\n", &[b"\xFF\xFE", b"{}"]),
    ] {
        check("a.ndjson", content, expected).await;
    }
}

#[tokio::test]
async fn csv_record_ends_at_a_line_end_outside_quotes() {
    for (content, expected) in [
        (&b"a,b\n"[..], &[][..]),
        (b"a,b", &[]),
        (b"\xEF\xBB\xBFa,b\r\n1,2\r\n3,4", &[&b"1,2"[..], b"3,4"]),
        (b"a,b\n\"one\ntwo\",2\n3,4\n", &[b"\"one\ntwo\",2", b"3,4"]),
        (b"a,b\n\"x\"\"\n\"\"\",2\r\n3,4\n", &[b"\"x\"\"\n\"\"\",2", b"3,4"]),
        (b"a,b\n5\" pipe,2\n3,4\n", &[b"5\" pipe,2", b"3,4"]),
        (b"a,b\n\"x\" y\",2\n3,4\n", &[b"\"x\" y\",2", b"3,4"]),
        (b"a,b\n1,2\n\n3,4\n\n", &[b"1,2", b"", b"3,4"]),
        (b"a,b\n\"never closed\n3,4\n", &[b"\"never closed\n3,4\n"]),
    ] {
        check("a.csv", content, expected).await;
    }
}

#[tokio::test]
async fn each_csv_record_has_the_columns_of_its_own_file() {
    let scenery = Scenery::new(&[
        ("1.csv", b"\xEF\xBB\xBForder_id,\"unit, price\"\r\n1,2\r\n"),
        ("2.csv", b"unit,order_id\n3,4\n"),
        ("3.ndjson", b"{}\n"),
    ]);
    let read = messages(read_to_end(&mut scenery.source("*")).await.expect("read"));
    let columns: Vec<_> = read.iter().map(|message| message.columns.as_deref().map(<[String]>::to_vec)).collect();
    let named = |names: [&str; 2]| Some(names.map(str::to_owned).to_vec());
    assert_eq!(columns, [named(["order_id", "unit, price"]), named(["unit", "order_id"]), None]);
}

#[tokio::test]
async fn reads_of_any_size_give_the_same_messages() {
    let scenery = Scenery::new(&[("1.ndjson", b"a\nb\n\nc\nd"), ("2.ndjson", b""), ("3.ndjson", b"e\nf\n")]);
    let whole = messages(read_to_end(&mut scenery.source("*.ndjson")).await.expect("read"));
    assert_eq!(whole.len(), 7);
    for messages in 1..8 {
        let mut source = scenery.source("*.ndjson");
        let mut pieces = Vec::new();
        loop {
            let read = source.read(ReadLimit { messages, ..ALL }).await.expect("read");
            assert!(read.messages.len() <= messages);
            assert_eq!(source.position(), Some(read.next));
            pieces.extend(read.messages);
            if read.rest == Rest::End {
                break;
            }
        }
        assert_eq!(pieces, whole);
    }
}

#[tokio::test]
async fn read_stops_before_a_sequence() {
    let scenery = Scenery::new(&[("a.ndjson", b"a\nb\nc\n")]);
    let mut source = scenery.source("a.ndjson");
    let read = source.read(ReadLimit { before: Some(3), ..ALL }).await.expect("read");
    assert_eq!((bodies(&read), read.next, read.rest), (vec![&b"a"[..], b"b"], 3, Rest::More));
    let read = source.read(ReadLimit { before: Some(3), ..ALL }).await.expect("read");
    assert_eq!((read.messages.len(), read.next, read.rest), (0, 3, Rest::More));
}

#[tokio::test]
async fn seek_goes_to_a_record_forwards_and_back() {
    for (name, content) in [("a.csv", b"h\na\n\"b\nb\"\nc\n".to_vec()), ("a.csv.gz", gzip(b"h\na\n\"b\nb\"\nc\n"))] {
        let scenery = Scenery::new(&[(name, &content)]);
        let mut source = scenery.source(name);
        for (next, expected) in
            [(3, vec![&b"c"[..]]), (2, vec![b"\"b\nb\"", b"c"]), (4, vec![]), (1, vec![b"a", b"\"b\nb\"", b"c"])]
        {
            source.seek(next).await.expect("there are so many");
            let read = source.read(ALL).await.expect("read");
            assert_eq!((bodies(&read), read.next), (expected, 4));
        }
    }
}

#[tokio::test]
async fn seek_beyond_the_end_is_an_error_and_so_is_reading_there() {
    let scenery = Scenery::new(&[("a.ndjson", b"a\nb\n")]);
    let mut source = scenery.source("a.ndjson");
    assert_eq!(source.seek(4).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(source.read(ALL).await.unwrap_err().kind(), ErrorKind::Corrupt);
    source.seek(3).await.expect("the end");
    assert_eq!(source.read(ALL).await.expect("read").messages, []);
}

#[tokio::test]
async fn part_of_a_read_is_the_files_name_size_and_digest() {
    let scenery = Scenery::new(&[("orders.ndjson", b"abc")]);
    let read = scenery.source("orders.ndjson").read(ALL).await.expect("read");
    let expected = "orders.ndjson 3 bytes sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(read.part.as_deref(), Some(expected));
    assert_eq!(&*read.messages[0].stream, "orders.ndjson");
}

#[tokio::test]
async fn line_beyond_the_cap_is_cut_and_its_neighbours_are_whole() {
    let mut content = b"{}\n".to_vec();
    content.extend(std::iter::repeat_n(b'x', RECORD_BYTES_MAX + 1_000));
    content.extend(b"\n{}\n");
    let scenery = Scenery::new(&[("a.ndjson", &content)]);
    let read = scenery.source("a.ndjson").read(ALL).await.expect("read");
    let lengths: Vec<_> = bodies(&read).iter().map(|body| body.len()).collect();
    assert_eq!(lengths, [2, RECORD_BYTES_MAX, 2]);
}

#[tokio::test]
async fn unclosed_quote_swallows_no_more_than_the_cap() {
    let mut content = b"a\n\"open\n".to_vec();
    for _ in 0..=RECORD_BYTES_MAX / 1_000 {
        content.extend(std::iter::repeat_n(b'x', 999));
        content.push(b'\n');
    }
    content.extend(b"last\n");
    let scenery = Scenery::new(&[("a.csv", &content)]);
    let read = scenery.source("a.csv").read(ALL).await.expect("read");
    assert!(bodies(&read)[0].len() < RECORD_BYTES_MAX + 1_000);
    assert_eq!(bodies(&read).last(), Some(&&b"last"[..]));
}

#[tokio::test]
async fn read_ends_early_when_it_holds_enough_bytes() {
    let mut content = Vec::new();
    for _ in 0..6 {
        content.extend(std::iter::repeat_n(b'x', RECORD_BYTES_MAX - 1));
        content.push(b'\n');
    }
    let scenery = Scenery::new(&[("a.ndjson", &content)]);
    let mut source = scenery.source("a.ndjson");
    let read = source.read(ALL).await.expect("read");
    assert_eq!((read.messages.len(), read.rest), (5, Rest::More));
    assert_eq!(source.read(ALL).await.expect("read").messages.len(), 1);
}

#[tokio::test]
async fn file_that_cannot_be_a_source_is_an_error_of_the_definition() {
    let scenery = Scenery::new(&[("empty.csv", b""), ("twice.csv", b"a,b,a\n"), ("text.csv", b"a,\xFF\n")]);
    fs::create_dir(scenery.path("folder.ndjson")).expect("a folder");
    for (name, part) in [
        ("absent.ndjson", "there is no file"),
        ("folder.ndjson", "`folder.ndjson` is a folder; to read all files in it, write `folder.ndjson/`"),
        ("empty.csv", "header of `empty.csv` is missing"),
        ("twice.csv", "header of `twice.csv` names column `a` twice"),
        ("text.csv", "reading the header of `text.csv`"),
    ] {
        let error = scenery.refusal(name).await;
        assert_eq!(error.kind(), ErrorKind::Definition, "{name}");
        assert!(error.chain().contains(part), "{name}: {}", error.chain());
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).expect("written");
    encoder.finish().expect("finished")
}

fn zstd_packed(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 3).expect("packed")
}
