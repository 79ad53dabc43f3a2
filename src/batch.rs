//! When a micro-batch closes.
//!
//! The law: a batch closes when it is full (events or bytes), when its first message has waited long enough, or when the
//! sources have nothing more now; never empty. A message is taken whole, however many events it carries. Time is an argument, counted from any fixed moment of the process, so
//! the same calls give the same batches. What a batch contains never shows in a table (batch equivalence), so closing early
//! or late is only a matter of delay and cost.

use std::time::Duration;

use crate::definition::pipeline::BatchLimits;

/// The most bytes that a batch takes before it closes, whatever its number of events: 64 MiB. One read may go beyond it.
pub const BATCH_BYTES_MAX: usize = 64 << 20;

/// The batch that is being filled.
///
/// ```text
///            add                      close() is some
///   empty ─────────► filling ─────────────────────────► (caller takes the batch) ── start ──► empty
///                    │  ▲ add
///                    └──┘
/// ```
#[derive(Debug)]
pub struct OpenBatch {
    limits: BatchLimits,
    events: usize,
    bytes: usize,
    first_at: Option<Duration>,
}

/// What the sources have beyond what was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supply {
    /// At least one may have more at once.
    Flowing,
    /// None has anything now.
    Dry,
}

/// Why a batch closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// It has as many events or bytes as it may.
    Full,
    /// Its first message has waited `max_wait`.
    Waited,
    /// The sources ran dry.
    Dry,
}

impl OpenBatch {
    /// An empty batch. Limits of zero events count as one.
    pub fn new(limits: BatchLimits) -> Self {
        Self { limits, events: 0, bytes: 0, first_at: None }
    }

    /// How many more events the batch takes, at most; zero: call [`OpenBatch::close`].
    pub fn room(&self) -> usize {
        if self.bytes >= BATCH_BYTES_MAX {
            return 0;
        }
        self.limits.max_rows.max(1).saturating_sub(self.events)
    }

    /// Counts what was read at `now`. Nothing read changes nothing.
    pub fn add(&mut self, events: usize, bytes: usize, now: Duration) {
        if events == 0 {
            return;
        }
        self.events += events;
        self.bytes += bytes;
        self.first_at.get_or_insert(now);
    }

    /// Whether the batch closes at `now`, and why. Call again after every `add`, whenever the sources run dry, and when
    /// [`OpenBatch::wait`] has passed.
    pub fn close(&self, supply: Supply, now: Duration) -> Option<Closing> {
        let first_at = self.first_at?;
        if self.room() == 0 {
            Some(Closing::Full)
        } else if now.saturating_sub(first_at) >= self.limits.max_wait {
            Some(Closing::Waited)
        } else if supply == Supply::Dry {
            Some(Closing::Dry)
        } else {
            None
        }
    }

    /// How long from `now` the batch may wait for more; none while it is empty: as long as one likes.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        self.first_at.map(|first_at| self.limits.max_wait.saturating_sub(now.saturating_sub(first_at)))
    }

    /// Starts the next batch, empty.
    pub fn start(&mut self) {
        *self = Self::new(self.limits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BatchLimits = BatchLimits { max_rows: 3, max_wait: Duration::from_millis(100) };

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Adds (events, at) in turn, then asks at `now`.
    fn check(added: &[(usize, u64)], supply: Supply, now: u64, expected: Option<Closing>) {
        let mut batch = OpenBatch::new(LIMITS);
        for (events, time) in added {
            batch.add(*events, 300 * events, at(*time));
        }
        assert_eq!(batch.close(supply, at(now)), expected, "{added:?} at {now}");
    }

    #[test]
    fn batch_closes_full_or_waited_or_dry_and_never_empty() {
        use Supply::{Dry, Flowing};
        check(&[], Flowing, 1_000, None);
        check(&[], Dry, 1_000, None);
        check(&[(0, 0)], Dry, 1_000, None);
        check(&[(2, 0)], Flowing, 99, None);
        check(&[(2, 0)], Flowing, 100, Some(Closing::Waited));
        check(&[(2, 0)], Dry, 0, Some(Closing::Dry));
        check(&[(2, 0), (1, 50)], Flowing, 50, Some(Closing::Full));
        check(&[(5, 0)], Flowing, 0, Some(Closing::Full));
        check(&[(1, 40), (1, 90)], Flowing, 139, None);
        check(&[(1, 40), (1, 90)], Flowing, 140, Some(Closing::Waited));
    }

    #[test]
    fn clock_that_goes_back_does_not_close_a_batch() {
        check(&[(1, 500)], Supply::Flowing, 100, None);
    }

    #[test]
    fn bytes_fill_a_batch_as_events_do() {
        let mut batch = OpenBatch::new(LIMITS);
        batch.add(1, BATCH_BYTES_MAX - 1, at(0));
        assert_eq!(batch.room(), 2);
        batch.add(1, 1, at(0));
        assert_eq!((batch.room(), batch.close(Supply::Flowing, at(0))), (0, Some(Closing::Full)));
    }

    #[test]
    fn wait_is_what_is_left_of_the_first_message_s_time() {
        let mut batch = OpenBatch::new(LIMITS);
        assert_eq!(batch.wait(at(7)), None);
        batch.add(1, 300, at(10));
        batch.add(1, 300, at(60));
        assert_eq!(batch.wait(at(70)), Some(at(40)));
        assert_eq!(batch.wait(at(500)), Some(at(0)));
    }

    #[test]
    fn started_batch_remembers_nothing() {
        let mut batch = OpenBatch::new(LIMITS);
        batch.add(3, 900, at(0));
        batch.start();
        assert_eq!((batch.room(), batch.wait(at(500)), batch.close(Supply::Dry, at(500))), (3, None, None));
    }

    #[test]
    fn limit_of_no_events_still_lets_one_through() {
        let mut batch = OpenBatch::new(BatchLimits { max_rows: 0, ..LIMITS });
        assert_eq!(batch.room(), 1);
        batch.add(1, 300, at(0));
        assert_eq!(batch.close(Supply::Flowing, at(0)), Some(Closing::Full));
    }
}
