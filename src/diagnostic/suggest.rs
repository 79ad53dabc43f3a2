//! Did you mean: the nearest known name, and the names that are valid.

/// More names than this are counted, not listed.
const LISTED_MAX: usize = 40;

/// Help for a name that is not known: the nearest of `candidates`, if one is near, and the list of them all in the
/// order in which they come: "did you mean `a`? valid are `a`, `b`".
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    match (nearest(name, candidates.iter().copied()), candidates.as_slice()) {
        (Some(near), [_]) => format!("did you mean `{near}`? there is no other"),
        (Some(near), _) => format!("did you mean `{near}`? {}", list(&candidates)),
        (None, _) => list(&candidates),
    }
}

/// The candidate that is written most like `name`, if one is near enough to have been meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (distance(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= allowed(candidate.chars().count().max(wanted.chars().count())))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many edits make no other word, by the length of the longer name. Short names are all near each other.
fn allowed(chars: usize) -> usize {
    if chars < 3 { 0 } else { chars.div_ceil(3) }
}

/// Edits between two names; one that continues the other is one edit away.
fn distance(wanted: &str, candidate: &str) -> usize {
    let continues = |long: &str, short: &str| short.len() >= 3 && long.starts_with(short);
    if wanted != candidate && (continues(candidate, wanted) || continues(wanted, candidate)) {
        return 1;
    }
    strsim::damerau_levenshtein(wanted, candidate)
}

fn list(candidates: &[&str]) -> String {
    let shown: Vec<String> = candidates.iter().take(LISTED_MAX).map(|name| format!("`{name}`")).collect();
    match (candidates.len(), candidates.len().saturating_sub(LISTED_MAX)) {
        (0, _) => "there is none to choose from".to_owned(),
        (1, _) => format!("the only valid one is {}", shown.join(", ")),
        (_, 0) => format!("valid are {}", shown.join(", ")),
        (_, more) => format!("valid are {} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::{nearest, suggest};

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        let known = ["contract", "jetstream", "files", "unique", "upsert"];
        let cases = [
            ("contarct", Some("contract")),
            ("file", Some("files")),
            ("Upsert", Some("upsert")),
            ("jet_stream", Some("jetstream")),
            ("zzz", None),
            ("a", None),
            ("", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name, known), expected, "for `{name}`");
        }
        assert_eq!(suggest("cc", []), "there is none to choose from");
        assert_eq!(suggest("late", ["lates", "b"]), "did you mean `lates`? valid are `lates`, `b`");
        assert_eq!(suggest("late", ["lates"]), "did you mean `lates`? there is no other");
    }
}
