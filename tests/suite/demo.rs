//! `milepost demo` with a broker of its own, as a user at two terminals sees it.

use crate::program::{folder, milepost, start, wait_until};

#[test]
fn a_proof_that_is_sent_to_the_demo_closes_the_exception_and_lets_the_trigger_out() {
    let work = folder();
    let home = work.path().to_string_lossy().into_owned();
    let said = milepost(&["demo", "--send-proof", "--home", &home]).refusal(2);
    assert!(said.contains("milepost demo --keep"), "{said}");

    let mut kept = start(&["demo", "--keep", "--home", &home]);
    let mut sent = None;
    wait_until("the demo has taken its proof", || {
        kept.check_alive();
        sent =
            work.path().join("demo/kept.json").is_file().then(|| milepost(&["demo", "--send-proof", "--home", &home]));
        sent.as_ref().is_some_and(|said| said.status == Some(0))
    });
    let sent = sent.expect("it was sent").text();
    for expected in
        ["It is blocked because", "pod.received", "exceptions.revoked", "triggers.appeared", "ready_to_invoice"]
    {
        assert!(sent.contains(expected), "`{expected}` is not in:\n{sent}");
    }
    let again = milepost(&["demo", "--send-proof", "--home", &home]).text();
    assert!(again.contains("this was sent before"), "{again}");
    assert!(again.contains("ready_to_invoice"), "{again}");

    let said = kept.terminate().text();
    for expected in
        ["one blocked delivery", "milepost.invoice_exceptions.revoked", "milepost.invoice_triggers.appeared"]
    {
        assert!(said.contains(expected), "`{expected}` is not in:\n{said}");
    }
    assert!(!work.path().join("demo/kept.json").exists(), "nothing waits any more");
    assert_eq!(milepost(&["demo", "--send-proof", "--home", &home]).status, Some(2));
}
