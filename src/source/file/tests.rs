//! Files as sources: what is a record, where reading goes on, what a file is.

use std::io::Write;
use std::time::Duration;

use tempfile::NamedTempFile;

use super::*;

const ALL: ReadLimit = ReadLimit { messages: usize::MAX, before: None, wait: Duration::ZERO };

/// A file's futures are complete when they are first polled, which is what makes them safe to drop.
fn block_on<T>(future: BoxFuture<'_, T>) -> T {
    future.now_or_never().expect("nothing to wait for")
}

fn file(content: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file
}

fn open_file(file: &NamedTempFile, format: FileFormat) -> FileSource {
    FileSource::open(file.path(), "data/orders", format).unwrap()
}

fn bodies(read: &Read) -> Vec<&[u8]> {
    read.messages.iter().map(|message| &*message.body).collect()
}

fn check(content: &[u8], format: FileFormat, expected: &[&[u8]]) {
    let file = file(content);
    let mut source = open_file(&file, format);
    let read = block_on(source.read(ALL)).unwrap();
    let shown = String::from_utf8_lossy(content);
    assert_eq!(bodies(&read), expected, "{shown:?}");
    let sequences: Vec<_> = read.messages.iter().map(|message| message.sequence).collect();
    assert_eq!(sequences, (1..=expected.len() as u64).collect::<Vec<_>>(), "{shown:?}");
    assert_eq!(read.next, expected.len() as u64 + 1, "{shown:?}");
    assert_eq!(block_on(source.end()).unwrap(), read.next, "{shown:?}");
    assert_eq!(block_on(source.read(ALL)).unwrap().rest, Rest::End, "{shown:?}");
}

#[test]
fn every_line_is_a_message_but_an_empty_one_at_the_very_end() {
    let check = |content: &[u8], expected: &[&[u8]]| check(content, FileFormat::Ndjson, expected);
    check(b"", &[]);
    check(b"\n", &[]);
    check(b"{}\n{\"a\":1}\n", &[b"{}", b"{\"a\":1}"]);
    check(b"{}\n{}", &[b"{}", b"{}"]);
    check(b"{}\r\n{}\r\n", &[b"{}", b"{}"]);
    check(b"{}\n\n", &[b"{}"]);
    check(b"{}\n\n\n", &[b"{}", b""]);
    check(b"\n{}\n", &[b"", b"{}"]);
    check(b"{}\n\n{}", &[b"{}", b"", b"{}"]);
    check(b"{}\n  \n", &[b"{}", b"  "]);
    check(b"\xEF\xBB\xBF{}\n", &[b"{}"]);
    check(b"\xEF\xBB", &[b"\xEF\xBB"]);
    check(b"\xFF\xFE\n{}\n", &[b"\xFF\xFE", b"{}"]);
}

#[test]
fn csv_record_ends_at_a_line_end_outside_quotes() {
    let check = |content: &[u8], expected: &[&[u8]]| check(content, FileFormat::Csv, expected);
    check(b"a,b\n", &[]);
    check(b"a,b", &[]);
    check(b"\xEF\xBB\xBFa,b\r\n1,2\r\n3,4", &[b"1,2", b"3,4"]);
    check(b"a,b\n\"one\ntwo\",2\n3,4\n", &[b"\"one\ntwo\",2", b"3,4"]);
    check(b"a,b\n\"x\"\"\n\"\"\",2\r\n3,4\n", &[b"\"x\"\"\n\"\"\",2", b"3,4"]);
    check(b"a,b\n5\" pipe,2\n3,4\n", &[b"5\" pipe,2", b"3,4"]);
    check(b"a,b\n\"x\" y\",2\n3,4\n", &[b"\"x\" y\",2", b"3,4"]);
    check(b"a,b\n1,2\n\n3,4\n\n", &[b"1,2", b"", b"3,4"]);
    check(b"a,b\n\"never closed\n3,4\n", &[b"\"never closed\n3,4\n"]);
}

#[test]
fn header_gives_the_decoder_its_columns() {
    let file = file(b"\xEF\xBB\xBForder_id,\"unit, price\"\r\n1,2\r\n");
    let header = vec!["order_id".to_owned(), "unit, price".to_owned()];
    assert_eq!(open_file(&file, FileFormat::Csv).format(), Format::Csv { header });
    assert_eq!(open_file(&file, FileFormat::Ndjson).format(), Format::Json);
}

#[test]
fn reads_of_any_size_give_the_same_messages() {
    let file = file(b"a\nb\n\nc\nd");
    let whole = block_on(open_file(&file, FileFormat::Ndjson).read(ALL)).unwrap().messages;
    for messages in 1..6 {
        let mut source = open_file(&file, FileFormat::Ndjson);
        let mut pieces = Vec::new();
        loop {
            let read = block_on(source.read(ReadLimit { messages, ..ALL })).unwrap();
            assert!(read.messages.len() <= messages);
            pieces.extend(read.messages);
            if read.rest == Rest::End {
                break;
            }
        }
        assert_eq!(pieces, whole);
    }
}

#[test]
fn read_stops_before_a_sequence() {
    let file = file(b"a\nb\nc\n");
    let mut source = open_file(&file, FileFormat::Ndjson);
    let read = block_on(source.read(ReadLimit { before: Some(3), ..ALL })).unwrap();
    assert_eq!((bodies(&read), read.next, read.rest), (vec![&b"a"[..], b"b"], 3, Rest::More));
    let read = block_on(source.read(ReadLimit { before: Some(3), ..ALL })).unwrap();
    assert_eq!((read.messages.len(), read.next, read.rest), (0, 3, Rest::More));
}

#[test]
fn seek_goes_to_a_record_forwards_and_back() {
    let file = file(b"h\na\n\"b\nb\"\nc\n");
    let mut source = open_file(&file, FileFormat::Csv);
    for (next, expected) in
        [(3, vec![&b"c"[..]]), (2, vec![b"\"b\nb\"", b"c"]), (4, vec![]), (1, vec![b"a", b"\"b\nb\"", b"c"])]
    {
        block_on(source.seek(next)).unwrap();
        let read = block_on(source.read(ALL)).unwrap();
        assert_eq!((bodies(&read), read.next), (expected, 4));
    }
}

#[test]
fn seek_beyond_the_end_is_an_error_and_so_is_reading_there() {
    let file = file(b"a\nb\n");
    let mut source = open_file(&file, FileFormat::Ndjson);
    assert_eq!(block_on(source.seek(4)).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(block_on(source.read(ALL)).unwrap_err().kind(), ErrorKind::Corrupt);
    block_on(source.seek(3)).unwrap();
    assert_eq!(block_on(source.read(ALL)).unwrap().messages, []);
}

#[test]
fn end_counts_without_moving() {
    let file = file(b"a\nb\nc\n");
    let mut source = open_file(&file, FileFormat::Ndjson);
    block_on(source.read(ReadLimit { messages: 1, ..ALL })).unwrap();
    assert_eq!(block_on(source.end()).unwrap(), 4);
    assert_eq!(bodies(&block_on(source.read(ALL)).unwrap()), [b"b", b"c"]);
}

#[test]
fn identity_is_name_size_and_digest() {
    let file = file(b"abc");
    let identity = block_on(open_file(&file, FileFormat::Ndjson).identity()).unwrap();
    assert_eq!(identity, "data/orders 3 bytes sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn line_beyond_the_cap_is_cut_and_its_neighbours_are_whole() {
    let mut content = b"{}\n".to_vec();
    content.extend(std::iter::repeat_n(b'x', RECORD_BYTES_MAX + 1_000));
    content.extend(b"\n{}\n");
    let file = file(&content);
    let read = block_on(open_file(&file, FileFormat::Ndjson).read(ALL)).unwrap();
    let lengths: Vec<_> = bodies(&read).iter().map(|body| body.len()).collect();
    assert_eq!(lengths, [2, RECORD_BYTES_MAX, 2]);
}

#[test]
fn unclosed_quote_swallows_no_more_than_the_cap() {
    let mut content = b"a\n\"open\n".to_vec();
    for _ in 0..=RECORD_BYTES_MAX / 1_000 {
        content.extend(std::iter::repeat_n(b'x', 999));
        content.push(b'\n');
    }
    content.extend(b"last\n");
    let file = file(&content);
    let read = block_on(open_file(&file, FileFormat::Csv).read(ALL)).unwrap();
    assert!(bodies(&read)[0].len() < RECORD_BYTES_MAX + 1_000);
    assert_eq!(bodies(&read).last(), Some(&&b"last"[..]));
}

#[test]
fn read_ends_early_when_it_holds_enough_bytes() {
    let mut content = Vec::new();
    for _ in 0..6 {
        content.extend(std::iter::repeat_n(b'x', RECORD_BYTES_MAX - 1));
        content.push(b'\n');
    }
    let file = file(&content);
    let mut source = open_file(&file, FileFormat::Ndjson);
    let read = block_on(source.read(ALL)).unwrap();
    assert_eq!((read.messages.len(), read.rest), (5, Rest::More));
    assert_eq!(block_on(source.read(ALL)).unwrap().messages.len(), 1);
}

#[test]
fn file_that_cannot_be_a_source_is_an_error_of_the_definition() {
    let directory = tempfile::tempdir().unwrap();
    let check = |path: &Path, format, part: &str| {
        let error = FileSource::open(path, "x", format).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Definition);
        assert!(error.chain().contains(part), "{}", error.chain());
    };
    check(&directory.path().join("absent.ndjson"), FileFormat::Ndjson, "absent.ndjson");
    check(directory.path(), FileFormat::Ndjson, "is a directory");
    check(file(b"").path(), FileFormat::Csv, "is missing");
    check(file(b"a,b,a\n").path(), FileFormat::Csv, "names column `a` twice");
    check(file(b"a,\xFF\n").path(), FileFormat::Csv, "reading the header");
}

#[test]
fn file_that_vanished_is_an_error_to_count_but_reading_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.ndjson");
    std::fs::write(&path, "a\nb\n").unwrap();
    let mut source = FileSource::open(&path, "a", FileFormat::Ndjson).unwrap();
    block_on(source.read(ReadLimit { messages: 1, ..ALL })).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(block_on(source.end()).unwrap_err().kind(), ErrorKind::Definition);
    std::fs::write(&path, "a\nb\n").unwrap();
    assert_eq!(bodies(&block_on(source.read(ALL)).unwrap()), [b"b"]);
}
