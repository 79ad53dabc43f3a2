//! Whether a definition can go on with what a log holds. Pure.

use std::collections::BTreeMap;

use crate::checkpoint::History;
use crate::error::{Error, ErrorKind, Result};

/// That what rows followed from is what they will follow from. A job that was added is computed from the logged epochs as the
/// others are; anything else that differs would make the log say what never was.
///
/// # Errors
/// `Definition`, naming all that differs and what can be done. `place` is where the log lies.
pub(super) fn fits(history: &History, prints: &BTreeMap<String, String>, place: &str) -> Result<()> {
    let differences = match history.fingerprints() {
        Some(logged) if history.has_epochs() => differences(logged, prints),
        _ => Vec::new(),
    };
    if differences.is_empty() {
        return Ok(());
    }
    let doing = format!(
        "the pipeline is not the one that `{place}` was computed with: {}; take the change back, or begin anew: give `--home` another \
         folder or remove `{place}` (change streams are read back, and only differences are published)",
        differences.join(", ")
    );
    Err(Error::new(ErrorKind::Definition, doing))
}

fn differences(logged: &BTreeMap<String, String>, prints: &BTreeMap<String, String>) -> Vec<String> {
    let known = logged.iter().filter_map(|(what, print)| match prints.get(what) {
        Some(now) if now == print => None,
        Some(_) => Some(format!("{} has changed", quoted(what))),
        None => Some(format!("{} is gone", quoted(what))),
    });
    let new = prints.keys().filter(|what| !logged.contains_key(*what) && !what.starts_with("job "));
    known.chain(new.map(|what| format!("{} was added", quoted(what)))).collect()
}

/// `job x` as "job `x`", and `clock` as "the clock".
fn quoted(what: &str) -> String {
    what.split_once(' ').map_or_else(|| format!("the {what}"), |(kind, name)| format!("{kind} `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(logged: &[(&str, &str)], now: &[(&str, &str)], expected: &[&str]) {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(what, print)| ((*what).to_owned(), (*print).to_owned())).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(differences(&map(logged), &map(now)), expected, "{logged:?} {now:?}");
    }

    #[test]
    fn what_rows_followed_from_must_stay_and_jobs_may_come() {
        let logged = [("clock", "1"), ("job a", "1"), ("source s", "1")];
        check(&logged, &logged, &[]);
        check(&logged, &[("clock", "1"), ("job a", "1"), ("job b", "1"), ("source s", "1")], &[]);
        check(
            &logged,
            &[("clock", "2"), ("job a", "2"), ("source s", "2")],
            &["the clock has changed", "job `a` has changed", "source `s` has changed"],
        );
        check(
            &logged,
            &[("clock", "1"), ("source t", "1")],
            &["job `a` is gone", "source `s` is gone", "source `t` was added"],
        );
    }
}
