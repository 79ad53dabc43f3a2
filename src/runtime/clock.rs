//! Time: each source's watermark, the epoch's clock, and what is late. Pure: what it knows comes in.
//!
//! A source's watermark is its newest event time, capped at the clock, less its lateness; a source that was silent for its
//! `idle` follows the clock less its lateness. `watermark()` is the least over the sources that declare an event time. It
//! never falls, and it is none until each of them has spoken or is idle.

use serde::{Deserialize, Serialize};

use crate::definition::pipeline::{Clock, EventTime};
use crate::types::Micros;

/// The times of a pipeline so far.
#[derive(Debug, Clone)]
pub(crate) struct PipelineClock {
    kind: Clock,
    clock: Option<Micros>,
    watermark: Option<Micros>,
    sources: Vec<Option<SourceClock>>,
}

/// The times of one source that declares an event time.
#[derive(Debug, Clone)]
struct SourceClock {
    lateness: Micros,
    idle: Option<Micros>,
    /// The newest event time of rows that satisfy `when`.
    newest: Option<Micros>,
    /// The clock when the source last gave a row.
    spoke_at: Option<Micros>,
}

/// Where a pipeline's clock stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClockTimes {
    clock: Option<Micros>,
    watermark: Option<Micros>,
    /// Of each source that declares an event time its newest one, and the clock when it last gave a row.
    sources: Vec<Option<(Option<Micros>, Option<Micros>)>>,
}

/// What one epoch's rows say of time, for one source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The newest event time among accepted rows that satisfy `when`.
    pub(crate) newest: Option<Micros>,
    /// The newest broker timestamp.
    pub(crate) received: Option<Micros>,
    /// Whether the source gave any row.
    pub(crate) rows: bool,
}

impl PipelineClock {
    /// A clock before the first epoch; one entry a source, none for those without an event time.
    pub(crate) fn new(kind: Clock, sources: impl Iterator<Item = Option<EventTime>>) -> Self {
        let source = |declared: EventTime| SourceClock {
            lateness: declared.lateness,
            idle: declared.idle,
            newest: None,
            spoke_at: None,
        };
        Self { kind, clock: None, watermark: None, sources: sources.map(|declared| declared.map(source)).collect() }
    }

    /// The times of the pipeline and of its sources, to be [taken up](Self::take_up) by another clock of the same pipeline.
    pub(crate) fn times(&self) -> ClockTimes {
        let times = |source: &Option<SourceClock>| source.as_ref().map(|source| (source.newest, source.spoke_at));
        ClockTimes { clock: self.clock, watermark: self.watermark, sources: self.sources.iter().map(times).collect() }
    }

    /// Goes on from these times.
    pub(crate) fn take_up(&mut self, times: ClockTimes) {
        (self.clock, self.watermark) = (times.clock, times.watermark);
        for (source, times) in self.sources.iter_mut().zip(times.sources) {
            if let (Some(source), Some((newest, spoke_at))) = (source, times) {
                (source.newest, source.spoke_at) = (newest, spoke_at);
            }
        }
    }

    /// The clock of the last epoch.
    pub(crate) fn clock(&self) -> Option<Micros> {
        self.clock
    }

    /// The watermark of the last epoch.
    pub(crate) fn watermark(&self) -> Option<Micros> {
        self.watermark
    }

    /// Takes what an epoch's rows say. `logged` is the clock of a re-run epoch or of a tick; `ended` says that no source
    /// will give more, so that one without rows counts as idle.
    pub(crate) fn advance(&mut self, heard: &[Heard], logged: Option<Micros>, ended: bool) {
        let seen = heard.iter().filter_map(|heard| match self.kind {
            Clock::Broker => heard.received,
            Clock::EventTime => heard.newest,
        });
        self.clock = seen.chain(logged).chain(self.clock).max();
        for (source, heard) in self.sources.iter_mut().zip(heard) {
            if let Some(source) = source {
                source.newest = source.newest.max(heard.newest);
                if heard.rows {
                    source.spoke_at = self.clock;
                }
            }
        }
        self.watermark = self.watermark.max(self.least(ended));
    }

    /// Raises the watermark to `at`, and the clock with it: the last tick of a finished history.
    pub(crate) fn close_at(&mut self, at: Micros) {
        self.clock = self.clock.max(Some(at));
        self.watermark = self.watermark.max(Some(at));
    }

    /// The watermark that a tick at `clock` would give.
    pub(crate) fn watermark_at(&self, clock: Micros) -> Option<Micros> {
        let mut later = self.clone();
        let silence = vec![Heard::default(); self.sources.len()];
        later.advance(&silence, Some(clock), false);
        later.watermark
    }

    fn least(&self, ended: bool) -> Option<Micros> {
        let clock = self.clock?;
        let mut least: Option<Micros> = None;
        for source in self.sources.iter().flatten() {
            let Some(own) = source.watermark(clock) else {
                if ended {
                    continue;
                }
                return None;
            };
            least = Some(least.map_or(own, |least| least.min(own)));
        }
        least
    }
}

impl SourceClock {
    fn watermark(&self, clock: Micros) -> Option<Micros> {
        let silent = |idle: Micros| self.spoke_at.is_none_or(|spoke_at| clock.saturating_sub(spoke_at) >= idle);
        if self.idle.is_some_and(silent) {
            return Some(clock.saturating_sub(self.lateness));
        }
        self.newest.map(|newest| newest.min(clock).saturating_sub(self.lateness))
    }
}

/// Which rows are behind their own source's running watermark: a pure function of the rows in stream order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct LateJudge {
    newest: Option<Micros>,
    received: Option<Micros>,
}

impl LateJudge {
    /// Whether a row is late, given its event time, whether it satisfies `when`, and its broker timestamp.
    pub(crate) fn judge(
        &mut self,
        event_time: Option<Micros>,
        counts: bool,
        received: Option<Micros>,
        lateness: Micros,
    ) -> bool {
        self.received = self.received.max(received);
        let cap = self.received.unwrap_or(Micros::MAX);
        let late = match (event_time, self.newest) {
            (Some(time), Some(newest)) => time < newest.min(cap).saturating_sub(lateness),
            _ => false,
        };
        if counts {
            self.newest = self.newest.max(event_time);
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(lateness: Micros, idle: Option<Micros>) -> Option<EventTime> {
        Some(EventTime { column: 0, lateness, when: None, idle })
    }

    fn heard(newest: Micros, received: Micros) -> Heard {
        Heard { newest: Some(newest), received: Some(received), rows: true }
    }

    #[test]
    fn the_watermark_is_the_least_of_those_that_spoke_and_waits_for_the_others() {
        let mut clock = PipelineClock::new(Clock::Broker, [declared(10, None), declared(0, None), None].into_iter());
        clock.advance(&[heard(100, 200), Heard::default(), Heard::default()], None, false);
        assert_eq!((clock.clock(), clock.watermark()), (Some(200), None));
        clock.advance(&[Heard::default(), heard(150, 210), Heard::default()], None, false);
        assert_eq!((clock.clock(), clock.watermark()), (Some(210), Some(90)));
    }

    #[test]
    fn an_event_from_the_future_moves_nothing_beyond_the_clock() {
        let mut clock = PipelineClock::new(Clock::Broker, [declared(0, None)].into_iter());
        clock.advance(&[heard(1_000_000, 50)], None, false);
        assert_eq!(clock.watermark(), Some(50));
    }

    #[test]
    fn a_silent_source_follows_the_clock_after_its_idle_time() {
        let mut clock = PipelineClock::new(Clock::Broker, [declared(5, Some(30)), declared(0, None)].into_iter());
        clock.advance(&[heard(100, 100), heard(100, 100)], None, false);
        assert_eq!(clock.watermark(), Some(95));
        clock.advance(&[Heard::default(), heard(120, 120)], None, false);
        assert_eq!(clock.watermark(), Some(95));
        clock.advance(&[Heard::default(), heard(140, 140)], None, false);
        assert_eq!(clock.watermark(), Some(135));
        assert_eq!(clock.watermark_at(150), Some(140));
    }

    #[test]
    fn the_watermark_never_falls_and_a_source_without_rows_is_idle_at_the_end() {
        let mut clock = PipelineClock::new(Clock::EventTime, [declared(0, None), declared(0, None)].into_iter());
        clock.advance(&[heard(100, 0), Heard::default()], None, false);
        assert_eq!(clock.watermark(), None);
        clock.advance(&[Heard::default(), Heard::default()], None, true);
        assert_eq!(clock.watermark(), Some(100));
        clock.advance(&[Heard::default(), heard(40, 0)], None, false);
        assert_eq!(clock.watermark(), Some(100));
        clock.close_at(500);
        assert_eq!((clock.clock(), clock.watermark()), (Some(500), Some(500)));
    }

    #[test]
    fn lateness_is_judged_row_by_row_against_the_rows_before() {
        let mut judge = LateJudge::default();
        let rows = [(100, true), (80, true), (200, false), (95, true), (300, true), (250, true)];
        let late: Vec<bool> = rows.iter().map(|&(time, counts)| judge.judge(Some(time), counts, None, 10)).collect();
        assert_eq!(late, [false, true, false, false, false, true]);
    }
}
