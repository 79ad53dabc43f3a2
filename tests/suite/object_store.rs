//! The test's own S3-compatible server does what the code that is tested on it relies on.

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions};

use crate::support::s3::S3Server;

#[tokio::test]
async fn an_object_is_created_once() {
    let server = S3Server::start();
    server.bucket("bucket");
    let (store, path) = (server.store("bucket"), Path::from("a/b c=d%2F.txt"));
    let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let first = store.put_opts(&path, "first".into(), create.clone()).await.expect("stored");
    let second = store.put_opts(&path, "second".into(), create).await.expect_err("it is there");
    assert!(matches!(second, object_store::Error::AlreadyExists { .. }), "{second}");
    let read = store.get(&path).await.expect("it is there").bytes().await.expect("read");
    assert_eq!(&read[..], b"first");

    let expected = PutOptions { mode: PutMode::Update(first.into()), ..PutOptions::default() };
    store.put_opts(&path, "third".into(), expected.clone()).await.expect("stored");
    let late = store.put_opts(&path, "fourth".into(), expected).await.expect_err("it is another by now");
    assert!(matches!(late, object_store::Error::Precondition { .. }), "{late}");
}
