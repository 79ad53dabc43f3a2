//! The names of all objects of a pipeline's state, below its place in the store. Nothing else makes or reads such a name.
//!
//! ```text
//! log/00000000000000000042.json                              one commit
//! folded/00000000000000000001-00000000000000001000.json      a thousand of them, without what was published
//! epochs/00000000000000000043-9c1f2ab04d5e6f70.json          the epochs of a generation that was read anew
//! outbox/00000000000000000044-9c1f2ab04d5e6f70.json          the messages of a commit, where they are many
//! ledger/00000000000000000045-9c1f2ab04d5e6f70-0.json        what was published to a stream before it was adopted
//! snapshots/00000000000000000046-9c1f2ab04d5e6f70.state      the state behind a commit, and beside it (.json) where its pieces lie
//! pieces/5ab1…-9c1f2ab04d5e6f70.arrow                        rows of the state, by their digest
//! ```

/// The folder of manifests.
pub(super) const LOG: &str = "log";
/// The folder of folded manifests.
pub(super) const FOLDED: &str = "folded";
/// The folder of the epochs of generations.
pub(super) const EPOCHS: &str = "epochs";
/// The folder of the messages of commits.
pub(super) const OUTBOX: &str = "outbox";
/// The folder of ledgers.
pub(super) const LEDGER: &str = "ledger";

/// The name of a manifest. Names sort as numbers do.
pub(super) fn manifest(number: u64) -> String {
    format!("{LOG}/{number:020}.json")
}

/// The number of a manifest by its name.
pub(super) fn manifest_number(name: &str) -> Option<u64> {
    digits(name.strip_prefix(LOG)?.strip_prefix('/')?.strip_suffix(".json")?)
}

/// The name of the manifests `first` to `last`, folded.
pub(super) fn folded(first: u64, last: u64) -> String {
    format!("{FOLDED}/{first:020}-{last:020}.json")
}

/// First and last number of what is folded, by its name.
pub(super) fn folded_range(name: &str) -> Option<(u64, u64)> {
    let (first, last) = name.strip_prefix(FOLDED)?.strip_prefix('/')?.strip_suffix(".json")?.split_once('-')?;
    Some((digits(first)?, digits(last)?))
}

/// The name of an object that a manifest of this number is going to name. The writer's nonce keeps it apart from that of
/// another writer, whose manifest may win the number.
pub(super) fn part(folder: &str, number: u64, nonce: &str) -> String {
    format!("{folder}/{number:020}-{nonce}.json")
}

/// The name of an object of the snapshot that covers the manifests up to this number.
pub(super) fn snapshot(covers: u64, nonce: &str, kind: &str) -> String {
    format!("snapshots/{covers:020}-{nonce}.{kind}")
}

/// The name of a piece of snapshots.
pub(super) fn piece(sha256: &str, nonce: &str) -> String {
    format!("pieces/{sha256}-{nonce}.arrow")
}

/// The same for one of several.
pub(super) fn one_part(folder: &str, number: u64, nonce: &str, at: usize) -> String {
    format!("{folder}/{number:020}-{nonce}-{at}.json")
}

fn digits(text: &str) -> Option<u64> {
    (text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

const DIGITS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_its_numbers_back_and_other_names_give_none() {
        for number in [1, 42, u64::MAX] {
            assert_eq!(manifest_number(&manifest(number)), Some(number));
            assert_eq!(folded_range(&folded(number, u64::MAX)), Some((number, u64::MAX)));
        }
        for name in
            ["log/42.json", "log/0000000000000000004x.json", "log/00000000000000000042.json#1", "folded/1-2.json"]
        {
            assert_eq!((manifest_number(name), folded_range(name)), (None, None), "{name}");
        }
        assert!(manifest(9) < manifest(10));
    }
}
