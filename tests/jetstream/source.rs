//! What a JetStream source promises, also when the broker, the consumer or the stream goes away.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::stream::{Config, PersistenceMode, RetentionPolicy, StorageType};
use futures::{StreamExt, TryStreamExt};
use milepost::definition::pipeline::Start;
use milepost::error::{Error, ErrorKind};
use milepost::source::connect::connect;
use milepost::source::jetstream::JetStreamSource;
use milepost::source::{Read, ReadLimit, Rest, Source};

use crate::support::{Nats, SOON};

fn upto(messages: usize) -> ReadLimit {
    ReadLimit { messages, before: None, wait: SOON }
}

fn bodies(numbers: std::ops::Range<u64>) -> impl Iterator<Item = String> {
    numbers.map(|number| format!("{{\"n\":{number}}}"))
}

async fn open(nats: &Nats, start: Start) -> JetStreamSource {
    JetStreamSource::open(&nats.broker, "S", &[], start).await.unwrap_or_else(|error| panic!("{}", error.chain()))
}

async fn read(source: &mut JetStreamSource, limit: ReadLimit) -> Read {
    source.read(limit).await.unwrap_or_else(|error| panic!("{}", error.chain()))
}

/// Reads until `messages` have come; their sequences.
async fn read_all(source: &mut JetStreamSource, messages: usize) -> Vec<u64> {
    let mut sequences = Vec::new();
    while sequences.len() < messages {
        let read = read(source, upto(messages - sequences.len())).await;
        assert!(!read.messages.is_empty(), "{} of {messages} messages came", sequences.len());
        sequences.extend(read.messages.iter().map(|message| message.sequence));
    }
    sequences
}

/// Reads until the source fails.
async fn failure(source: &mut JetStreamSource) -> Error {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        if let Err(error) = source.read(upto(1_000)).await {
            return error;
        }
    }
    panic!("the source goes on");
}

async fn refusal(nats: &Nats, subjects: &[&str], start: Start) -> Error {
    let subjects: Vec<String> = subjects.iter().map(|&subject| subject.to_owned()).collect();
    match JetStreamSource::open(&nats.broker, "S", &subjects, start).await {
        Ok(mut source) => failure(&mut source).await,
        Err(error) => error,
    }
}

#[tokio::test]
async fn messages_come_whole_and_in_order_with_their_place_and_time() {
    let nats = Nats::start().await;
    nats.stream("S", &["s.>"]).await;
    let mut headers = HeaderMap::new();
    headers.append("b", "2");
    headers.append("a", "1");
    headers.append("a", "0");
    let context = nats.broker.jetstream();
    context.publish_with_headers("s.first", headers, "one".into()).await.unwrap().await.unwrap();
    nats.publish("s.second", ["two".to_owned()]).await;

    let mut source = open(&nats, Start::All).await;
    let mut messages = read(&mut source, upto(1)).await.messages;
    messages.extend(read(&mut source, upto(10)).await.messages);
    let [first, second] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!((&*first.stream, first.sequence, &*first.subject, &first.body[..]), ("S", 1, "s.first", &b"one"[..]));
    let headers: Vec<(&str, &str)> =
        first.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers, [("a", "1"), ("a", "0"), ("b", "2")]);
    assert_eq!((second.sequence, &*second.subject, &second.body[..]), (2, "s.second", &b"two"[..]));
    let mut stream = context.get_stream("S").await.unwrap();
    let last = stream.info().await.unwrap().state.last_timestamp.unix_timestamp_nanos();
    assert_eq!(second.received_at.map(i128::from), Some(last.div_euclid(1_000)));
    assert!(first.received_at < second.received_at);
}

#[tokio::test]
async fn a_read_says_where_it_ended_and_whether_more_is_there() {
    let nats = Nats::start().await;
    nats.stream("S", &["s"]).await;
    let mut source = open(&nats, Start::All).await;
    let none = ReadLimit { messages: 10, before: None, wait: Duration::ZERO };
    let empty = read(&mut source, none).await;
    assert_eq!((empty.messages.len(), empty.next, empty.rest), (0, 1, Rest::CaughtUp));
    assert_eq!(source.end().await.unwrap(), Some(1));

    nats.publish("s", bodies(0..30)).await;
    assert_eq!(source.end().await.unwrap(), Some(31));
    // (limit.messages, limit.before, expected messages, next, rest)
    for (messages, before, expected, next, rest) in [
        (10, None, 1..11, 11, Rest::More),
        (10, Some(15), 11..15, 15, Rest::More),
        (10, Some(15), 15..15, 15, Rest::More),
        (100, Some(31), 15..31, 31, Rest::CaughtUp),
        (100, Some(31), 31..31, 31, Rest::CaughtUp),
    ] {
        let mut sequences = Vec::new();
        let last = loop {
            let limit = ReadLimit { messages: messages - sequences.len(), before, wait: Duration::ZERO };
            let read = read(&mut source, limit).await;
            sequences.extend(read.messages.iter().map(|message| message.sequence));
            if read.messages.is_empty() || read.next >= next {
                break read;
            }
        };
        assert_eq!(sequences, expected.collect::<Vec<u64>>());
        assert_eq!((last.next, last.rest), (next, rest), "{sequences:?}");
    }
}

#[tokio::test]
async fn deleted_messages_are_jumped_over_also_at_the_end() {
    let nats = Nats::start().await;
    nats.stream("S", &["s"]).await;
    nats.publish("s", bodies(0..10)).await;
    let stream = nats.broker.jetstream().get_stream("S").await.unwrap();
    for sequence in [4, 5, 9, 10] {
        stream.delete_message(sequence).await.unwrap();
    }
    let mut source = open(&nats, Start::All).await;
    assert_eq!(read_all(&mut source, 6).await, [1, 2, 3, 6, 7, 8]);
    let end = source.end().await.unwrap().expect("a stream knows its end");
    assert_eq!(end, 11);
    let rest = read(&mut source, ReadLimit { messages: 10, before: Some(end), wait: Duration::ZERO }).await;
    assert_eq!((rest.messages.len(), rest.next), (0, 11));
}

#[tokio::test]
async fn only_the_wanted_subjects_come_and_the_position_passes_the_others() {
    let nats = Nats::start().await;
    nats.stream("S", &["s.>"]).await;
    for number in 0..5 {
        nats.publish("s.a", bodies(number..number + 1)).await;
        nats.publish("s.b", bodies(number..number + 1)).await;
        nats.publish("s.c.d", bodies(number..number + 1)).await;
    }
    for (subjects, expected) in
        [(vec!["s.a"], vec![1, 4, 7, 10, 13]), (vec!["s.a", "s.c.>"], vec![1, 3, 4, 6, 7, 9, 10, 12, 13, 15])]
    {
        let subjects: Vec<String> = subjects.into_iter().map(str::to_owned).collect();
        let mut source = JetStreamSource::open(&nats.broker, "S", &subjects, Start::All).await.unwrap();
        assert_eq!(read_all(&mut source, expected.len()).await, expected);
        let end = source.end().await.unwrap().expect("a stream knows its end");
        let rest = read(&mut source, ReadLimit { messages: 10, before: Some(end), wait: Duration::ZERO }).await;
        assert_eq!((rest.messages.len(), rest.next), (0, 16), "{subjects:?}");
    }
}

#[tokio::test]
async fn reading_starts_at_a_sequence_or_a_time() {
    let nats = Nats::start().await;
    nats.stream("S", &["s"]).await;
    nats.publish("s", bodies(0..5)).await;
    let mut all = open(&nats, Start::All).await;
    let mut times = Vec::new();
    while times.len() < 5 {
        times.extend(read(&mut all, upto(5)).await.messages.iter().map(|message| message.received_at.unwrap()));
    }
    for (start, first) in [
        (Start::Sequence(1), Some(1)),
        (Start::Sequence(4), Some(4)),
        (Start::Sequence(6), None),
        (Start::Time(0), Some(1)),
        (Start::Time(times[4] + 1), None),
        (Start::Time(times[4] + 60_000_000), None),
    ] {
        let mut source = open(&nats, start).await;
        let read = read(&mut source, ReadLimit { messages: 10, before: None, wait: Duration::ZERO }).await;
        assert_eq!(read.messages.first().map(|message| message.sequence), first, "{start:?}");
        assert!(first.is_some() || read.next == 6, "{start:?}: {}", read.next);
    }
    let mut source = open(&nats, Start::Time(times[2])).await;
    let first = read(&mut source, upto(1)).await.messages.remove(0);
    assert!(first.received_at >= Some(times[2]) && first.sequence <= 3, "{first:?}");
    assert_eq!(read_all(&mut open(&nats, Start::Time(times[2] - 1_000_000)).await, 5).await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn seeking_back_gives_the_same_messages_again() {
    let nats = Nats::start().await;
    nats.stream("S", &["s"]).await;
    nats.publish("s", bodies(0..50)).await;
    let mut source = open(&nats, Start::All).await;
    let mut first = Vec::new();
    while first.len() < 50 {
        first.extend(read(&mut source, upto(7)).await.messages);
    }
    for next in [1, 20, 50] {
        source.seek(next).await.unwrap();
        let mut again = Vec::new();
        while again.len() < 51 - next as usize {
            again.extend(read(&mut source, upto(13)).await.messages);
        }
        assert_eq!(again, first[next as usize - 1..]);
    }
    source.seek(51).await.unwrap();
    let read = read(&mut source, ReadLimit { messages: 10, before: None, wait: Duration::ZERO }).await;
    assert_eq!((read.messages.len(), read.next), (0, 51));
}

#[tokio::test]
async fn a_dropped_read_loses_nothing() {
    let nats = Nats::start().await;
    nats.stream("S", &["s"]).await;
    let mut source = open(&nats, Start::All).await;
    let mut sequences = Vec::new();
    for round in 0..40 {
        // The read waits for a first message when it is dropped, at another point in each round.
        let patience = Duration::from_micros(round * 50);
        if let Ok(Ok(read)) = tokio::time::timeout(patience, source.read(upto(100))).await {
            sequences.extend(read.messages.iter().map(|message| message.sequence));
        }
        nats.publish("s", bodies(round * 5..round * 5 + 5)).await;
    }
    let missing = 200 - sequences.len();
    sequences.extend(read_all(&mut source, missing).await);
    assert_eq!(sequences, (1..=200).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_large_message_and_many_small_ones_pass_the_read_ahead() {
    let nats = Nats::start().await;
    nats.stream("S", &["s"]).await;
    let large = "x".repeat(1_000_000);
    nats.publish("s", (0..40).map(|_| large.clone())).await;
    nats.publish("s", bodies(0..30_000)).await;
    let mut source = open(&nats, Start::All).await;
    let sequences = read_all(&mut source, 30_040).await;
    assert_eq!(sequences, (1..=30_040).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_restarted_server_costs_no_message_and_gives_none_twice() {
    let mut nats = Nats::start().await;
    nats.stream("S", &["s"]).await;
    nats.publish("s", bodies(0..20_000)).await;
    let mut source = open(&nats, Start::All).await.with_patience(SOON);
    let mut sequences = read_all(&mut source, 5_000).await;
    nats.kill();
    nats.revive().await;
    sequences.extend(read_all(&mut source, 15_000).await);
    nats.publish("s", bodies(0..10)).await;
    sequences.extend(read_all(&mut source, 10).await);
    assert_eq!(sequences, (1..=20_010).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_after_which_reading_goes_on() {
    let mut nats = Nats::start().await;
    nats.stream("S", &["s"]).await;
    nats.publish("s", bodies(0..10)).await;
    let mut source = open(&nats, Start::All).await.with_patience(Duration::from_millis(200));
    assert_eq!(read_all(&mut source, 10).await.len(), 10);
    nats.kill();
    let error = failure(&mut source).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    assert!(error.chain().contains("reading stream `S` at 11"), "{}", error.chain());
    nats.revive().await;
    nats.publish("s", bodies(0..10)).await;
    let mut source = source.with_patience(SOON);
    assert_eq!(read_all(&mut source, 10).await, (11..=20).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_deleted_consumer_is_replaced_where_it_ended() {
    let nats = Nats::start().await;
    nats.stream("S", &["s"]).await;
    nats.publish("s", bodies(0..30_000)).await;
    let mut source = open(&nats, Start::All).await;
    let mut sequences = Vec::new();
    let mut deleted = 0;
    while sequences.len() < 30_000 {
        sequences.extend(read_all(&mut source, 3_000).await);
        // What was read ahead keeps the source going: there may be no consumer yet in place of the last.
        let stream = nats.broker.jetstream().get_stream("S").await.unwrap();
        let names: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
        for name in names {
            stream.delete_consumer(&name).await.unwrap();
            deleted += 1;
        }
    }
    assert_eq!(sequences, (1..=30_000).collect::<Vec<u64>>());
    assert!(deleted > 1, "{deleted} consumers were deleted");
}

#[tokio::test]
async fn a_source_that_is_closed_leaves_no_consumer_behind() {
    let nats = Nats::start().await;
    nats.stream("S", &["s"]).await;
    nats.publish("s", bodies(0..10)).await;
    let mut source = open(&nats, Start::All).await;
    assert_eq!(source.position(), Some(1));
    assert_eq!(read_all(&mut source, 10).await.len(), 10);
    assert_eq!(source.position(), Some(11));
    let stream = nats.broker.jetstream().get_stream("S").await.unwrap();
    assert_eq!(stream.consumer_names().try_collect::<Vec<String>>().await.unwrap().len(), 1);
    source.close().await;
    assert_eq!(stream.consumer_names().try_collect::<Vec<String>>().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_stream_that_is_deleted_or_created_anew_while_it_is_read_is_noticed() {
    for recreated in [false, true] {
        let nats = Nats::start().await;
        nats.stream("S", &["s"]).await;
        nats.publish("s", bodies(0..10)).await;
        let mut source = open(&nats, Start::All).await;
        assert_eq!(read_all(&mut source, 10).await.len(), 10);
        let identity = source.identity().await.unwrap();
        nats.broker.jetstream().delete_stream("S").await.unwrap();
        if recreated {
            nats.stream("S", &["s"]).await;
            nats.publish("s", bodies(0..20)).await;
            assert_ne!(open(&nats, Start::All).await.identity().await.unwrap(), identity);
        }
        let error = failure(&mut source).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.chain());
        let expected = if recreated { "was created anew" } else { "was deleted" };
        assert!(error.chain().contains(expected), "{}", error.chain());
    }
}

#[tokio::test]
async fn a_stream_that_lost_its_tail_is_noticed_also_when_its_sequences_are_used_again() {
    for (again, expected) in
        [(0, "ends before 11, but 21 was to be read next"), (15, "message 20 of stream `S` is another one")]
    {
        let mut nats = Nats::start().await;
        nats.stream("S", &["s"]).await;
        nats.publish("s", bodies(0..10)).await;
        nats.kill();
        let backup = nats.backup();
        nats.revive().await;
        nats.publish("s", bodies(10..20)).await;
        let mut source = open(&nats, Start::All).await.with_patience(SOON);
        assert_eq!(read_all(&mut source, 20).await.len(), 20);
        nats.kill();
        nats.restore(&backup);
        nats.revive().await;
        nats.publish("s", bodies(10..10 + again)).await;
        let error = failure(&mut source).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.chain());
        assert!(error.chain().contains(expected), "{}", error.chain());
    }
}

#[tokio::test]
async fn messages_that_were_removed_before_they_were_read_are_an_error_and_not_a_gap() {
    let nats = Nats::start().await;
    nats.stream("S", &["s"]).await;
    nats.publish("s", bodies(0..100)).await;
    let mut source = open(&nats, Start::All).await;
    assert_eq!(read_all(&mut source, 10).await.len(), 10);
    let stream = nats.broker.jetstream().get_stream("S").await.unwrap();
    stream.purge().sequence(51).await.unwrap();
    let error = source.seek(11).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("holds nothing before 51, but 11 was to be read next"), "{error}");
    assert_eq!(source.seek(102).await.unwrap_err().kind(), ErrorKind::Corrupt);
    source.seek(51).await.unwrap();
    assert_eq!(read_all(&mut source, 50).await, (51..=100).collect::<Vec<u64>>());
    assert_eq!(read_all(&mut open(&nats, Start::All).await, 50).await, (51..=100).collect::<Vec<u64>>());
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_the_remedy() {
    let nats = Nats::start().await;
    let error = refusal(&nats, &["orders.>"], Start::All).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("create it with `nats stream add S --subjects \"orders.>\""), "{error}");

    nats.stream("S", &["s.>"]).await;
    nats.publish("s.a", bodies(0..3)).await;
    for (subjects, start, expected) in [
        (vec![], Start::Sequence(5), "the start at sequence 5 is not in the stream"),
        (vec!["s.>", "s.a"], Start::All, "opening a consumer on stream `S` for subjects `s.>`, `s.a`"),
    ] {
        let error = refusal(&nats, &subjects, start).await;
        assert_eq!(error.kind(), ErrorKind::Definition, "{}", error.chain());
        assert!(error.chain().contains(expected), "{}", error.chain());
    }
}

#[tokio::test]
async fn a_setting_that_deletes_what_is_read_is_refused_until_it_is_mended() {
    let nats = Nats::start().await;
    let good = Config { name: "S".to_owned(), subjects: vec!["s".to_owned()], ..Config::default() };
    for (settings, expected, editable) in [
        (Config { retention: RetentionPolicy::WorkQueue, ..good.clone() }, "has retention `work`", false),
        (Config { retention: RetentionPolicy::Interest, ..good.clone() }, "stream edit S --retention limits`", true),
        (Config { max_messages_per_subject: 1, ..good.clone() }, "stream edit S --max-msgs-per-subject=-1`", true),
    ] {
        nats.broker.jetstream().create_stream(settings).await.unwrap();
        let error = refusal(&nats, &[], Start::All).await;
        assert_eq!(error.kind(), ErrorKind::Definition, "{}", error.chain());
        assert!(
            error.to_string().starts_with("stream `S` can't be read: ") && error.to_string().contains(expected),
            "{error}"
        );
        let edited = Config { max_messages_per_subject: -1, ..good.clone() };
        assert_eq!(nats.broker.jetstream().update_stream(edited).await.is_ok(), editable, "{expected}");
        if editable {
            open(&nats, Start::All).await;
        }
        nats.broker.jetstream().delete_stream("S").await.unwrap();
    }
}

#[tokio::test]
async fn what_is_only_warned_of_can_be_mended_as_said_or_not_at_all() {
    let nats = Nats::start().await;
    let good = Config { name: "S".to_owned(), subjects: vec!["s".to_owned()], ..Config::default() };
    for (settings, editable) in [
        (Config { storage: StorageType::Memory, ..good.clone() }, false),
        (Config { persist_mode: Some(PersistenceMode::Async), ..good.clone() }, false),
        (Config { allow_message_ttl: true, ..good.clone() }, false),
        (Config { no_ack: true, ..good.clone() }, true),
        (Config { allow_rollup: true, ..good.clone() }, true),
        (Config { max_age: Duration::from_secs(3600), ..good.clone() }, true),
        (Config { max_messages: 10, ..good.clone() }, true),
        (Config { max_bytes: 1_000_000, ..good.clone() }, true),
    ] {
        let said = format!("{settings:?}");
        nats.broker.jetstream().create_stream(settings).await.unwrap();
        open(&nats, Start::All).await;
        let edited = Config { max_messages: -1, max_bytes: -1, ..good.clone() };
        assert_eq!(nats.broker.jetstream().update_stream(edited).await.is_ok(), editable, "{said}");
        nats.broker.jetstream().delete_stream("S").await.unwrap();
    }
}

#[tokio::test]
async fn messages_that_the_broker_removes_while_the_stream_is_read_are_an_error_and_not_a_gap() {
    let nats = Nats::start().await;
    let limited =
        Config { name: "S".to_owned(), subjects: vec!["s".to_owned()], max_messages: 50, ..Config::default() };
    nats.broker.jetstream().create_stream(limited).await.unwrap();
    // More than is read ahead, so that the broker has to keep some of them for the reader, and can't.
    let large = "x".repeat(1_000_000);
    nats.publish("s", (0..50).map(|_| large.clone())).await;
    let mut source = open(&nats, Start::All).await;
    let mut sequences = read_all(&mut source, 1).await;
    nats.publish("s", (0..100).map(|_| large.clone())).await;
    let error = loop {
        match source.read(upto(1_000)).await {
            Ok(read) => {
                assert!(!read.messages.is_empty(), "the source goes on behind {sequences:?}");
                sequences.extend(read.messages.iter().map(|message| message.sequence));
            }
            Err(error) => break error,
        }
    };
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.chain());
    assert!(error.to_string().contains("messages were removed before they were read"), "{error}");
}

#[tokio::test]
async fn a_gap_that_the_broker_did_not_make_is_passed_also_where_it_makes_room() {
    let nats = Nats::start().await;
    let subjects = vec!["s.>".to_owned()];
    let limited = Config { name: "S".to_owned(), subjects, max_messages: 1_000, ..Config::default() };
    nats.broker.jetstream().create_stream(limited).await.unwrap();
    for number in 0..10 {
        nats.publish("s.a", bodies(number..number + 1)).await;
        nats.publish("s.b", bodies(number..number + 1)).await;
    }
    let stream = nats.broker.jetstream().get_stream("S").await.unwrap();
    stream.delete_message(5).await.unwrap();
    let subjects = ["s.a".to_owned()];
    let mut source = JetStreamSource::open(&nats.broker, "S", &subjects, Start::All).await.unwrap();
    assert_eq!(read_all(&mut source, 9).await, [1, 3, 7, 9, 11, 13, 15, 17, 19]);
}

#[tokio::test]
async fn a_message_that_somebody_else_took_from_the_consumer_is_read_again() {
    let nats = Nats::start().await;
    nats.stream("S", &["s"]).await;
    nats.publish("s", bodies(0..10)).await;
    let mut source = open(&nats, Start::All).await;
    let mut sequences = read_all(&mut source, 10).await;

    // The broker serves this request in turn with the source's own.
    let client = nats.broker.client();
    let stream = nats.broker.jetstream().get_stream("S").await.unwrap();
    let names: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
    let mut thief = client.subscribe("thief").await.unwrap();
    let take = format!("$JS.API.CONSUMER.MSG.NEXT.S.{}", names[0]);
    client.publish_with_reply(take, "thief", r#"{"batch":3,"expires":60000000000}"#.into()).await.unwrap();
    client.flush().await.unwrap();
    while stream.consumer_info(&names[0]).await.unwrap().num_waiting < 2 {}
    nats.publish("s", bodies(10..40)).await;
    let stolen = thief.next().await.unwrap();
    assert!(stolen.reply.is_some_and(|reply| reply.starts_with("$JS.ACK.S.")), "the thief has a message of the stream");

    let rest = tokio::time::timeout(SOON, read_all(&mut source, 30)).await;
    sequences.extend(rest.expect("what was taken is read again"));
    assert_eq!(sequences, (1..=40).collect::<Vec<u64>>());
}

#[tokio::test]
async fn how_much_is_to_be_read_is_known_without_asking() {
    let nats = Nats::start().await;
    nats.stream("S", &["s.>"]).await;
    nats.publish("s.a", bodies(0..30)).await;
    let subjects = ["s.a".to_owned()];
    let mut source = JetStreamSource::open(&nats.broker, "S", &subjects, Start::All).await.unwrap();
    assert_eq!(source.known_end(), Some(31));
    nats.publish("s.b", bodies(0..5)).await;
    nats.publish("s.a", bodies(30..40)).await;
    assert_eq!(read_all(&mut source, 10).await.len(), 10);
    // 30 more are selected: too few to reach the end, as others lie between.
    let known = source.known_end().unwrap();
    assert!((41..=46).contains(&known), "{known}");
    assert_eq!(read_all(&mut source, 30).await.last(), Some(&45));
    assert_eq!(source.known_end(), Some(46));
}

#[tokio::test]
async fn a_refused_permission_is_named_and_credentials_are_not_shown() {
    let folder = tempfile::TempDir::new().unwrap();
    let configuration = folder.path().join("users.conf");
    let users = r#"
        authorization {
          users: [
            { user: all, password: pass }
            { user: ann, password: "se/cret", permissions: { publish: { deny: "$JS.API.CONSUMER.MSG.NEXT.>" } } }
          ]
        }
        no_auth_user: all
    "#;
    std::fs::write(&configuration, users).unwrap();
    let nats = Nats::start_with(vec!["-c".to_owned(), configuration.display().to_string()]).await;
    nats.stream("S", &["s"]).await;
    nats.publish("s", bodies(0..10)).await;

    let wrong = connect(&nats.url().replace("nats://", "nats://ann:wrong@")).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Unavailable);
    assert!(!wrong.chain().contains("wrong"), "{}", wrong.chain());

    let ann = connect(&nats.url().replace("nats://", "nats://ann:se%2Fcret@")).await.unwrap();
    let mut source =
        JetStreamSource::open(&ann, "S", &[], Start::All).await.unwrap().with_patience(Duration::from_secs(1));
    let error = failure(&mut source).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    assert!(error.chain().to_lowercase().contains("permissions violation"), "{}", error.chain());
}
