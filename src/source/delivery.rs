//! What the broker says about a delivered message, read from its reply subject.

/// The numbers in the reply subject of a message that a consumer delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Where the message stands in the stream.
    pub(super) stream_sequence: u64,
    /// How many messages the consumer had delivered with this one; rises by one at each.
    pub(super) consumer_sequence: u64,
    /// When the broker stored it, in nanoseconds since 1970.
    pub(super) stored_nanos: i64,
    /// How many messages the consumer still has to deliver after this one.
    pub(super) pending: u64,
}

impl Delivery {
    /// Reads `$JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<stored>.<pending>`, or
    /// the longer form with `<domain>.<account>` before the stream and a token of no meaning at the end.
    pub(super) fn parse(reply: &str) -> Option<Self> {
        let tokens = reply.strip_prefix("$JS.ACK.")?.split('.');
        let before_the_numbers = match reply.split('.').count() {
            9 => 3,
            11.. => 5,
            _ => return None,
        };
        let mut numbers = tokens.skip(before_the_numbers);
        Some(Self {
            stream_sequence: numbers.next()?.parse().ok()?,
            consumer_sequence: numbers.next()?.parse().ok()?,
            stored_nanos: numbers.next()?.parse().ok()?,
            pending: numbers.next()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_reply_subject_are_read_and_others_refused() {
        let delivery =
            Delivery { stream_sequence: 40, consumer_sequence: 7, stored_nanos: 1_700_000_000_123_456_789, pending: 3 };
        for (reply, expected) in [
            ("$JS.ACK.ORDERS.c1.1.40.7.1700000000123456789.3", Some(delivery)),
            ("$JS.ACK.hub.Ab12.ORDERS.c1.1.40.7.1700000000123456789.3.xyz", Some(delivery)),
            ("$JS.ACK.hub.Ab12.ORDERS.c1.1.40.7.1700000000123456789.3", Some(delivery)),
            ("$JS.ACK.ORDERS.c1.1.40.7.1700000000123456789", None),
            ("$JS.ACK.ORDERS.c1.1.forty.7.1700000000123456789.3", None),
            ("_INBOX.abc", None),
            ("", None),
        ] {
            assert_eq!(Delivery::parse(reply), expected, "{reply}");
        }
    }
}
