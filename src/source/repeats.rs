//! What was logged a short while ago, so that it is not logged again.

use std::time::{Duration, Instant};

/// The texts that were logged last.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    /// Each text, when it was logged last, and how often it came since then.
    known: Vec<(String, Instant, u64)>,
}

impl Repeats {
    /// How often a text came since it was logged last, this time included; none: it is not due yet.
    pub(crate) fn due(&mut self, text: &str, now: Instant) -> Option<u64> {
        if let Some((_, logged, times)) = self.known.iter_mut().find(|(known, ..)| known == text) {
            *times += 1;
            if now.duration_since(*logged) < LOG_AGAIN_AFTER {
                return None;
            }
            *logged = now;
            return Some(std::mem::take(times));
        }
        if self.known.len() == TEXTS_KNOWN_MAX {
            self.known.remove(0);
        }
        self.known.push((text.to_owned(), now, 0));
        Some(1)
    }
}

/// How long the same text is not logged again.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How many texts are told apart.
const TEXTS_KNOWN_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_same_text_is_due_once_a_minute_with_how_often_it_came() {
        let start = now();
        let mut repeats = Repeats::default();
        let mut at = |seconds: u64, text: &str| repeats.due(text, start + Duration::from_secs(seconds));
        assert_eq!(at(0, "lost"), Some(1));
        assert_eq!(at(1, "refused"), Some(1));
        assert_eq!(at(2, "lost"), None);
        assert_eq!(at(59, "lost"), None);
        assert_eq!(at(60, "lost"), Some(3));
        assert_eq!(at(61, "lost"), None);
        assert_eq!(at(62, "refused"), Some(1));
        for other in 0..40 {
            at(63, &other.to_string());
        }
        assert_eq!(at(64, "lost"), Some(1), "what is known is bounded");
    }
}
