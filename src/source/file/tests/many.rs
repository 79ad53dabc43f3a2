//! Many files: their order, their places after a restart, and what of them may change.

use super::*;

/// The names of the files that records come from, with their sequences.
fn places(reads: &[Read]) -> Vec<(String, Sequence)> {
    let messages = reads.iter().flat_map(|read| &read.messages);
    messages.map(|message| (message.stream.to_string(), message.sequence)).collect()
}

/// What a log would say of these reads.
fn taken(reads: &[Read]) -> Vec<TakenPart> {
    let mut taken: Vec<TakenPart> = Vec::new();
    for read in reads.iter().filter(|read| !read.messages.is_empty()) {
        let identity = read.part.as_deref().expect("files have identities").to_owned();
        let range = SequenceRange { start: read.messages[0].sequence, end: read.next };
        match taken.last_mut().filter(|last| last.identity == identity) {
            Some(last) => last.range.end = range.end,
            None => taken.push(TakenPart { identity, range, anchor: None }),
        }
    }
    taken
}

fn owned(expected: &[(&str, Sequence)]) -> Vec<(String, Sequence)> {
    expected.iter().map(|(name, sequence)| ((*name).to_owned(), *sequence)).collect()
}

#[tokio::test]
async fn files_follow_one_another_in_the_order_of_their_names() {
    let scenery = Scenery::new(&[
        ("b.ndjson", b"1\n2\n"),
        ("a.ndjson", b"3\n"),
        ("c.ndjson", b""),
        ("d.ndjson.gz", &gzip(b"4\n5")),
    ]);
    let reads = read_to_end(&mut scenery.source("*.ndjson*")).await.expect("read");
    let expected = [("a.ndjson", 1), ("b.ndjson", 2), ("b.ndjson", 3), ("d.ndjson.gz", 4), ("d.ndjson.gz", 5)];
    assert_eq!(places(&reads), owned(&expected));
}

#[tokio::test]
async fn restart_at_any_place_reads_what_was_read_from_the_same_files_and_then_the_others() {
    let files: [(&str, &[u8]); 4] =
        [("b.ndjson", b"1\n2\n3\n"), ("c.ndjson", b""), ("d.ndjson", b"4\n"), ("e.ndjson", b"5\n6\n")];
    for stop in 0..7 {
        let scenery = Scenery::new(&files);
        let mut source = scenery.source("*.ndjson");
        let mut before = Vec::new();
        while source.position() <= Some(stop) {
            before.push(source.read(ReadLimit { messages: 1, ..ALL }).await.expect("read"));
        }
        let taken = taken(&before);
        scenery.write("a.ndjson", b"7\n");
        let mut again = scenery.source("*.ndjson");
        assert_eq!(again.resume(&taken).await.expect("listed"), None);
        let limit = ReadLimit { before: Some(stop + 1), ..ALL };
        let mut reads = Vec::new();
        while again.position() <= Some(stop) {
            reads.push(again.read(limit).await.expect("read"));
        }
        assert_eq!((places(&reads), self::taken(&reads)), (places(&before), taken), "stopped behind {stop}");
        let rest = read_to_end(&mut again).await.expect("read");
        let names: Vec<String> = places(&rest).into_iter().map(|(name, _)| name).collect();
        let first_new = names.iter().position(|name| name == "a.ndjson");
        let known = places(&before).last().map(|(name, _)| name.clone());
        let left_of_known = names.iter().take_while(|name| Some(*name) == known.as_ref()).count();
        assert_eq!(first_new, Some(left_of_known), "a new file comes behind those that were begun: {names:?}");
        assert_eq!(places(&rest).len() as u64, 7 - stop);
        assert_eq!(places(&rest).last().map(|(_, sequence)| *sequence), Some(7));
    }
}

/// What a source says that was read to its end before something happened to its files.
async fn difference(happens: impl FnOnce(&Scenery)) -> Option<String> {
    let scenery = Scenery::new(&[("a.ndjson", b"1\n2\n"), ("b.ndjson", b"3\n")]);
    let before = read_to_end(&mut scenery.source("*.ndjson")).await.expect("read");
    happens(&scenery);
    scenery.source("*.ndjson").resume(&taken(&before)).await.expect("listed")
}

const CHANGED: &str = "`a.ndjson` has changed since it was read; its rows were accepted as they were, so put the old content \
                       back, and new rows into another file (`files` may be a glob or a folder)";
const GONE: &str = "`b.ndjson` was read and is gone; its rows are read again after a restart, so put it back";

#[tokio::test]
async fn files_that_were_read_must_be_as_they_were() {
    let rewritten = |scenery: &Scenery| scenery.write("a.ndjson", b"1\n2\n");
    assert_eq!(difference(rewritten).await, None, "the same content written again");
    let added = |scenery: &Scenery| scenery.write("0.ndjson", b"0\n");
    assert_eq!(difference(added).await, None, "another file");
    let appended = |scenery: &Scenery| scenery.write("a.ndjson", b"1\n2\n2.5\n");
    assert_eq!(difference(appended).await.as_deref(), Some(CHANGED));
    let edited = |scenery: &Scenery| scenery.write("a.ndjson", b"1\n9\n");
    assert_eq!(difference(edited).await.as_deref(), Some(CHANGED));
    let removed = |scenery: &Scenery| fs::remove_file(scenery.path("b.ndjson")).expect("removed");
    assert_eq!(difference(removed).await.as_deref(), Some(GONE));
    let moved = |scenery: &Scenery| fs::rename(scenery.path("b.ndjson"), scenery.path("c.ndjson")).expect("renamed");
    assert_eq!(difference(moved).await.as_deref(), Some(GONE));
}

#[tokio::test]
async fn file_that_changes_while_it_is_read_is_noticed_at_its_end() {
    let scenery = Scenery::new(&[("a.ndjson", b"1\n2\n")]);
    let mut source = scenery.source("a.ndjson");
    source.read(ReadLimit { messages: 1, ..ALL }).await.expect("read");
    fs::rename(scenery.path("a.ndjson"), scenery.path("old")).expect("renamed");
    scenery.write("a.ndjson", b"3\n4\n");
    let read = source.read(ALL).await.expect("read");
    assert_eq!((bodies(&read), read.rest), (vec![&b"2"[..]], Rest::More), "what was begun is read to its end");
    assert_eq!(source.read(ALL).await.expect("looked").changed.as_deref(), Some(CHANGED));
    assert_eq!(source.read(ALL).await.expect("looked").changed.as_deref(), Some(CHANGED), "again");
}

#[tokio::test]
async fn file_that_vanishes_before_it_is_read_was_never_there() {
    let scenery = Scenery::new(&[("a.ndjson", b"1\n2\n"), ("b.ndjson", b"3\n"), ("c.ndjson", b"4\n")]);
    let mut source = scenery.source("*.ndjson");
    source.read(ReadLimit { messages: 1, ..ALL }).await.expect("read");
    fs::remove_file(scenery.path("b.ndjson")).expect("removed");
    let reads = read_to_end(&mut source).await.expect("read");
    assert_eq!(places(&reads), owned(&[("a.ndjson", 2), ("c.ndjson", 3)]));
}

const OFTEN: Duration = Duration::from_millis(1);

#[tokio::test]
async fn watched_folder_gives_files_that_come_later() {
    let scenery = Scenery::new(&[("b.ndjson", b"1\n"), ("c.ndjson", b"")]);
    let folder = format!("{}/", scenery.folder.path().display());
    let mut source = scenery.watched(&folder, Some(OFTEN));
    let reads = read_to_end(&mut source).await.expect("read");
    assert_eq!((reads.last().map(|read| read.rest), source.position()), (Some(Rest::CaughtUp), Some(2)));
    scenery.write("a.ndjson.tmp", b"2\n3\n");
    let read = source.read(ReadLimit { wait: 20 * OFTEN, ..ALL }).await.expect("read");
    assert_eq!((read.messages.len(), read.rest), (0, Rest::CaughtUp), "it is being written");
    fs::rename(scenery.path("a.ndjson.tmp"), scenery.path("a.ndjson")).expect("renamed");
    let read = source.read(ALL).await.expect("read");
    assert_eq!((bodies(&read), read.messages[0].sequence), (vec![&b"2"[..], b"3"], 2));
    scenery.write("c.ndjson", b"4\n");
    let read = source.read(ALL).await.expect("read");
    assert_eq!(bodies(&read), [b"4"], "a file without records may get some");
    fs::remove_file(scenery.path("a.ndjson")).expect("removed");
    let read = source.read(ALL).await.expect("looked");
    assert!(read.changed.is_some_and(|changed| changed.contains("a.ndjson` was read and is gone")));
}

#[tokio::test]
async fn watched_file_need_not_be_there_yet() {
    let scenery = Scenery::new(&[]);
    let mut source = scenery.watched("a.ndjson", Some(OFTEN));
    let read = source.read(ReadLimit { wait: 5 * OFTEN, ..ALL }).await.expect("read");
    assert_eq!((read.messages.len(), read.rest), (0, Rest::CaughtUp));
    scenery.write("a.ndjson", b"1\n");
    assert_eq!(bodies(&source.read(ALL).await.expect("read")), [b"1"]);
}
