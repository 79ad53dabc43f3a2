//! How many of a source's last events were bad. Pure: what it knows comes in.
//!
//! The window holds whole epochs, the newest ones, as few as have `after` events together: so a feed that goes bad is noticed
//! within about so many events, however long it was good before. It follows from the logged epochs alone.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::definition::pipeline::DeadLetterBudget;

use super::report::SourceCounts;

/// The newest epochs of a source.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct BudgetWindow {
    epochs: VecDeque<Share>,
    sum: Share,
}

/// Bad events among all that were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Share {
    pub(super) dead_letters: u64,
    pub(super) read: u64,
}

impl BudgetWindow {
    /// Takes what an epoch read; returns the share of dead letters if it is more than the budget has.
    pub(super) fn take(&mut self, counts: SourceCounts, budget: DeadLetterBudget) -> Option<Share> {
        if counts.read > 0 {
            let epoch = Share { dead_letters: counts.dead_letters, read: counts.read };
            self.epochs.push_back(epoch);
            self.sum.dead_letters += epoch.dead_letters;
            self.sum.read += epoch.read;
        }
        while let Some(oldest) =
            self.epochs.front().copied().filter(|oldest| self.sum.read - oldest.read >= budget.after)
        {
            self.epochs.pop_front();
            self.sum.dead_letters -= oldest.dead_letters;
            self.sum.read -= oldest.read;
        }
        let Share { dead_letters, read } = self.sum;
        let borne = u128::from(read) * u128::from(budget.max_share_millionths);
        (read >= budget.after && u128::from(dead_letters) * 1_000_000 > borne).then_some(self.sum)
    }
}

/// What to tell whoever has to do something about it.
pub(super) fn overdraft(source: &str, share: Share, budget: DeadLetterBudget, examples: &str) -> String {
    let Share { dead_letters, read } = share;
    format!(
        "of the last {read} events of source `{source}` {dead_letters} are dead letters ({}), and its `dead_letters` bear {}: {examples}; \
         nothing of this epoch was published: mend the feed, or raise `max_share` to go on with it",
        percent(u128::from(dead_letters) * 1_000_000 / u128::from(read.max(1))),
        percent(u128::from(budget.max_share_millionths))
    )
}

/// Millionths as the author of a pipeline writes them.
fn percent(millionths: u128) -> String {
    let text = format!("{}.{:04}", millionths / 10_000, millionths % 10_000);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes epochs of (read, dead letters); in which of them the budget is overdrawn, and with what.
    #[track_caller]
    fn check(max_share_millionths: u32, after: u64, epochs: &[(u64, u64)], expected: Option<(usize, u64, u64)>) {
        let budget = DeadLetterBudget { max_share_millionths, after };
        let mut window = BudgetWindow::default();
        let found = epochs.iter().enumerate().find_map(|(at, &(read, dead_letters))| {
            let counts = SourceCounts { read, dead_letters, ..SourceCounts::default() };
            window.take(counts, budget).map(|share| (at, share.dead_letters, share.read))
        });
        assert_eq!(found, expected, "{epochs:?}");
    }

    #[test]
    fn a_share_is_judged_once_there_are_enough_events() {
        check(10_000, 100, &[(50, 50), (49, 0)], None);
        check(10_000, 100, &[(50, 50), (50, 0)], Some((1, 50, 100)));
        check(10_000, 100, &[(100, 1), (100, 1)], None);
        check(10_000, 100, &[(100, 2)], Some((0, 2, 100)));
        check(0, 1, &[(10, 0), (1, 1)], Some((1, 1, 1)));
        check(1_000_000, 1, &[(10, 10)], None);
        check(0, 1, &[(0, 0)], None);
    }

    #[test]
    fn what_was_good_long_ago_pays_for_nothing_and_what_was_bad_long_ago_is_forgiven() {
        let good = vec![(100, 0); 1_000];
        check(500_000, 1_000, &[good.clone(), vec![(100, 100); 6]].concat(), Some((1_005, 600, 1_000)));
        check(10_000, 100, &[vec![(60, 0), (40, 1), (60, 0)], good, vec![(100, 1)]].concat(), None);
    }

    #[test]
    fn an_overdraft_says_how_much_and_what_to_do() {
        let budget = DeadLetterBudget { max_share_millionths: 5_000, after: 10 };
        let said = overdraft("a", Share { dead_letters: 10, read: 30 }, budget, "REQUIRED at sequence 7, event 0");
        assert!(
            said.contains("10 are dead letters (33.3333%), and its `dead_letters` bear 0.5%: REQUIRED at"),
            "{said}"
        );
        assert_eq!([0, 1, 10_000, 1_000_000].map(percent), ["0%", "0.0001%", "1%", "100%"]);
    }

    #[test]
    fn one_large_epoch_is_judged_as_a_whole() {
        check(10_000, 100, &[(1_000_000, 10_000)], None);
        check(10_000, 100, &[(1_000_000, 10_001)], Some((0, 10_001, 1_000_000)));
    }
}
