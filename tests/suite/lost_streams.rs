//! What was read or published is no longer what it was: `run` says so, and what to do, and nothing is published out of turn.

use async_nats::jetstream::stream::Config;

use crate::connection::{feed, small};
use crate::program::folder;
use crate::support::Nats;

async fn length(nats: &Nats, stream: &str) -> u64 {
    nats.broker.jetstream().get_stream(stream).await.expect("a stream").cached_info().state.last_sequence
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_created_anew_is_named_and_another_home_begins_anew() {
    let nats = Nats::start().await;
    feed(&nats.broker).await;
    let mut setting = small("", &["--nats", &nats.url()]);
    setting.run(&[]).text();
    let published = length(&nats, "SEEN").await;
    nats.broker.jetstream().delete_stream("EVENTS").await.expect("deleted");
    feed(&nats.broker).await;
    let said = setting.run(&[]).refusal(3);
    assert!(said.contains("source `events` can't be read again as it was"), "{said}");
    assert!(said.contains("it was created anew") && said.contains("`--home`"), "{said}");
    // What the error says helps, and what was published stays published.
    let pipeline = setting.home;
    setting.home = folder();
    setting.run(&[]).text();
    assert_eq!(length(&nats, "SEEN").await, published);
    drop(pipeline);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_purged_or_lost_its_end_is_named() {
    let mut nats = Nats::start().await;
    feed(&nats.broker).await;
    let setting = small("", &["--nats", &nats.url()]);
    setting.run(&[]).text();
    nats.kill();
    let older = nats.backup();
    nats.revive().await;
    nats.publish("events.a", [r#"{"id":"9"}"#.to_owned()]).await;
    setting.run(&[]).text();

    nats.kill();
    let newest = nats.backup();
    nats.restore(&older);
    nats.revive().await;
    let said = setting.run(&[]).refusal(3);
    assert!(said.contains("lost its tail"), "{said}");
    // The sequence is used again, by another message.
    nats.publish("events.a", [r#"{"id":"10"}"#.to_owned()]).await;
    let said = setting.run(&[]).refusal(3);
    assert!(said.contains("message 4 of stream `EVENTS`") && said.contains("is another one"), "{said}");

    nats.kill();
    nats.restore(&newest);
    nats.revive().await;
    setting.run(&[]).text();
    nats.broker.jetstream().get_stream("EVENTS").await.expect("a stream").purge().await.expect("purged");
    let said = setting.run(&[]).refusal(3);
    assert!(said.contains("is no longer there: it was purged or deleted"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_stream_that_was_deleted_is_named_and_another_home_publishes_what_it_lacks() {
    let nats = Nats::start().await;
    feed(&nats.broker).await;
    let mut setting = small("", &["--nats", &nats.url()]);
    setting.run(&[]).text();
    // The last commit could be published again: what came before it could not.
    nats.publish("events.a", [r#"{"id":"9"}"#.to_owned()]).await;
    setting.run(&[]).text();
    nats.broker.jetstream().delete_stream("SEEN").await.expect("deleted");
    let said = setting.run(&[]).refusal(3);
    assert!(said.contains("stream `SEEN` lacks messages") && said.contains("another `--home`"), "{said}");
    let before = setting.home;
    setting.home = folder();
    setting.run(&[]).text();
    assert_eq!(length(&nats, "SEEN").await, 4, "three changes and their marker");
    drop(before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_job_is_named_with_what_to_do_and_the_change_taken_back_goes_on() {
    let nats = Nats::start().await;
    feed(&nats.broker).await;
    let setting = small("", &["--nats", &nats.url()]);
    setting.run(&[]).text();
    let sql = setting.home.path().join("seen.sql");
    std::fs::write(&sql, "SELECT id FROM events WHERE id <> '1'").expect("writable");
    let said = setting.run(&[]).refusal(2);
    assert!(said.contains("job `seen` has changed") && said.contains("another folder"), "{said}");
    std::fs::write(&sql, "SELECT id FROM events").expect("writable");
    setting.run(&[]).text();
    assert_eq!(length(&nats, "SEEN").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_stream_without_atomic_batches_is_refused_with_the_command_that_mends_it() {
    let nats = Nats::start().await;
    feed(&nats.broker).await;
    let subjects = vec!["seen.*".to_owned(), "_milepost.SEEN.*".to_owned()];
    let config = Config { name: "SEEN".to_owned(), subjects, ..Config::default() };
    nats.broker.jetstream().create_stream(config).await.expect("a stream");
    let said = small("", &["--nats", &nats.url()]).run(&[]).refusal(2);
    assert!(said.contains("`nats stream edit SEEN --allow-batch`"), "{said}");
}
