//! What identifies a file: its name, its size and a digest of its content.

use std::fmt;
use std::str::FromStr;

/// Written as `data/orders.ndjson 1234 bytes sha256:…`. Of an object the digest is the store's own, its ETag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileIdentity {
    /// As the pipeline names it; of an object the whole URL.
    pub(super) name: String,
    pub(super) size: u64,
    /// With what it is, as in `sha256:…`; without spaces.
    pub(super) digest: String,
}

impl fmt::Display for FileIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, size, digest } = self;
        write!(f, "{name} {size} bytes {digest}")
    }
}

impl FromStr for FileIdentity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.rsplitn(4, ' ');
        let (Some(digest), Some("bytes"), Some(size), Some(name)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(());
        };
        Ok(Self { name: name.to_owned(), size: size.parse().map_err(|_| ())?, digest: digest.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_read_back_as_it_was_written() {
        for name in ["a.csv", "a 5 bytes sha256:0.csv", "s3://bucket/a b.csv"] {
            let identity = FileIdentity { name: name.to_owned(), size: 7, digest: "etag:\"x\"".to_owned() };
            assert_eq!(identity.to_string().parse(), Ok(identity));
        }
        for text in ["", "a.csv", "STREAM created 2026-01-01T00:00:00Z", "a seven bytes x"] {
            assert_eq!(text.parse::<FileIdentity>(), Err(()), "{text}");
        }
    }
}
