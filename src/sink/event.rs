//! One message of a change stream: a CloudEvents 1.0 envelope in structured JSON around a row, written and read back.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::Stamp;
use super::body::instant;
use super::ledger::{Change, Content, Digest, Next, Revision};
use super::subject::decode_token;
use crate::error::{Error, ErrorKind, Result};

/// The media type of the messages.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Who publishes: a job of a pipeline. Makes and recognises ids.
#[derive(Debug, Clone)]
pub struct Publisher {
    source: String,
    job: String,
    /// `pipeline/job/`, percent-encoded.
    id_prefix: String,
}

#[derive(Serialize)]
struct Envelope<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    datacontenttype: &'static str,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    predecessor: Option<String>,
    epoch: String,
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    revision: u64,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl Publisher {
    /// The publisher of this job's changes.
    pub fn new(pipeline: &str, job: &str) -> Self {
        Self {
            source: format!("milepost/{}", encoded(pipeline)),
            job: job.to_owned(),
            id_prefix: format!("{}/{}/", encoded(pipeline), encoded(job)),
        }
    }

    /// The id of a key's revision: `pipeline/job/key/revision`, each part (and each column of the key) percent-encoded.
    /// `key` holds the values as subject tokens.
    pub fn id(&self, key: &[&str], revision: u64) -> String {
        format!("{}{}/{revision}", self.id_prefix, key.join("/"))
    }

    /// The message for a change. `data` is the row in canonical form; it is left out of a revocation.
    ///
    /// # Errors
    /// `Limit` where the stamp's clock is beyond the calendar, `Internal` where `data` is not JSON.
    pub fn message(&self, stamp: Stamp, key: &[&str], next: &Next, data: &[u8]) -> Result<Vec<u8>> {
        let failed = |error: serde_json::Error| Error::caused(ErrorKind::Internal, "writing a change as JSON", error);
        let number = next.revision.number;
        let row: Option<&RawValue> = match next.revision.content {
            Content::Present(_) => Some(serde_json::from_slice(data).map_err(failed)?),
            Content::Revoked => None,
        };
        let envelope = Envelope {
            specversion: "1.0",
            id: &self.id(key, number),
            source: &self.source,
            kind: &self.kind(next.change),
            subject: &shown_key(key),
            time: stamp.clock.map(instant).transpose()?,
            datacontenttype: "application/json",
            revision: number,
            predecessor: (number > 1).then(|| self.id(key, number - 1)),
            epoch: stamp.epoch.to_string(),
            data: row,
        };
        serde_json::to_vec(&envelope).map_err(failed)
    }

    /// The revision of `key` that a message holds; none where this publisher can't have written it for this key.
    pub fn read(&self, key: &[&str], message: &[u8]) -> Option<Revision> {
        let stored: Stored<'_> = serde_json::from_slice(message).ok()?;
        if stored.id != self.id(key, stored.revision) {
            return None;
        }
        let content = match stored.data {
            None if stored.kind == self.kind(Change::Revoked) => Content::Revoked,
            Some(data) if stored.kind != self.kind(Change::Revoked) => Content::Present(digest(data.get().as_bytes())),
            _ => return None,
        };
        Some(Revision { number: stored.revision, content })
    }

    fn kind(&self, change: Change) -> String {
        let change = match change {
            Change::Appeared => "appeared",
            Change::Changed => "changed",
            Change::Revoked => "revoked",
        };
        format!("milepost.{}.{change}", self.job)
    }
}

/// The digest of a row's canonical bytes.
pub fn digest(data: &[u8]) -> Digest {
    Sha256::digest(data).into()
}

/// The key for people: the value of a single column as it is (`~` where it is empty), several as they stand in the id.
fn shown_key(key: &[&str]) -> String {
    match key {
        [one] => decode_token(one).filter(|value| !value.is_empty()).unwrap_or_else(|| (*one).to_owned()),
        several => several.join("/"),
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// All but letters, digits, `_` and `-`.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Epoch;

    const ROW: &[u8] = br#"{"trigger_key":"S1/O1/10","amount":"10.500"}"#;

    fn stamp(clock: Option<i64>) -> Stamp {
        Stamp { epoch: Epoch(7), clock, watermark: None }
    }

    fn next(change: Change, number: u64, content: Content) -> Next {
        Next { change, revision: Revision { number, content } }
    }

    fn message(clock: Option<i64>, key: &[&str], next: &Next) -> String {
        let publisher = Publisher::new("order_to_invoice", "invoice_triggers");
        String::from_utf8(publisher.message(stamp(clock), key, next, ROW).unwrap()).unwrap()
    }

    #[test]
    fn a_message_is_a_cloud_event_around_the_canonical_row() {
        let content = Content::Present(digest(ROW));
        assert_eq!(
            message(Some(1_500_000), &["S1%2FO1%2F10"], &next(Change::Appeared, 1, content)),
            concat!(
                r#"{"specversion":"1.0","id":"order_to_invoice/invoice_triggers/S1%2FO1%2F10/1","source":"milepost/order_to_invoice","#,
                r#""type":"milepost.invoice_triggers.appeared","subject":"S1/O1/10","time":"1970-01-01T00:00:01.500000Z","#,
                r#""datacontenttype":"application/json","revision":1,"epoch":"7","#,
                r#""data":{"trigger_key":"S1/O1/10","amount":"10.500"}}"#
            )
        );
        assert_eq!(
            message(None, &["a%2Fb", "~"], &next(Change::Revoked, 2, Content::Revoked)),
            concat!(
                r#"{"specversion":"1.0","id":"order_to_invoice/invoice_triggers/a%2Fb/~/2","source":"milepost/order_to_invoice","#,
                r#""type":"milepost.invoice_triggers.revoked","subject":"a%2Fb/~","datacontenttype":"application/json","#,
                r#""revision":2,"predecessor":"order_to_invoice/invoice_triggers/a%2Fb/~/1","epoch":"7","data":null}"#
            )
        );
    }

    #[test]
    fn a_message_is_read_back_as_the_revision_that_was_written() {
        let publisher = Publisher::new("p", "j");
        for (change, content) in [
            (Change::Appeared, Content::Present(digest(ROW))),
            (Change::Changed, Content::Present(digest(ROW))),
            (Change::Revoked, Content::Revoked),
        ] {
            let next = next(change, 4, content);
            let bytes = publisher.message(stamp(None), &["k"], &next, ROW).unwrap();
            assert_eq!(publisher.read(&["k"], &bytes), Some(next.revision), "{change:?}");
            assert_eq!(publisher.read(&["other"], &bytes), None);
            assert_eq!(Publisher::new("p", "other").read(&["k"], &bytes), None);
        }
        for foreign in ["", "{}", r#"{"id":"p/j/k/1","type":"x","revision":1,"data":null}"#, "not json"] {
            assert_eq!(publisher.read(&["k"], foreign.as_bytes()), None, "{foreign}");
        }
    }
}
