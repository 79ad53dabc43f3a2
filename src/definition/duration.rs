//! Lengths of time in the pipeline file: a whole number and a unit, `100ms`, `5s`, `5m`, `1h`, `1d`.

use crate::types::Micros;

/// The units with their length in microseconds, shortest first.
const UNITS: [(&str, Micros); 5] =
    [("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];

/// Longer than any delay in logistics, and far from overflow when added to a point in time.
const DAYS_MAX: Micros = 36_500;

/// A length of time in microseconds, or why it is none with what would be right.
pub(crate) fn parse(text: &str) -> Result<Micros, (String, String)> {
    let help = "a whole number and a unit: `ms`, `s`, `m`, `h` or `d`, as in `100ms` or `1h`";
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    if digits.is_empty() {
        return Err(("is not a duration".to_owned(), help.to_owned()));
    }
    if unit.is_empty() {
        return Err(("has no unit".to_owned(), format!("write `{digits}s` for seconds, or `ms`, `m`, `h`, `d`")));
    }
    let Some((_, length)) = UNITS.iter().find(|(name, _)| *name == unit.trim_start()) else {
        return Err(match unit.starts_with('.') {
            true => ("has a fraction".to_owned(), "use a smaller unit: `90m` for one and a half hours".to_owned()),
            false => ("is not a duration".to_owned(), help.to_owned()),
        });
    };
    let micros = digits.parse::<Micros>().ok().and_then(|number| number.checked_mul(*length));
    match micros.filter(|micros| *micros <= DAYS_MAX * 86_400_000_000) {
        Some(micros) => Ok(micros),
        None => Err(("is too long".to_owned(), format!("at most `{DAYS_MAX}d`"))),
    }
}

/// A length of time as one writes it, in the largest unit of which it is a whole number.
pub(crate) fn text(micros: Micros) -> String {
    let fits = |&&(_, length): &&(&str, Micros)| micros % length == 0;
    let (unit, length) = UNITS.iter().rev().find(fits).unwrap_or(&("us", 1));
    if micros == 0 { "0s".to_owned() } else { format!("{}{unit}", micros / length) }
}

#[cfg(test)]
mod tests {
    use super::{parse, text};

    #[test]
    fn a_length_is_shown_as_it_is_written() {
        for shown in ["0s", "100ms", "5s", "90m", "36h", "30d"] {
            assert_eq!(text(parse(shown).expect("a duration")), shown);
        }
        assert_eq!(text(3_600_000_000), "1h");
    }

    #[test]
    fn a_duration_is_a_whole_number_with_a_unit() {
        let cases = [
            ("100ms", Ok(100_000)),
            ("0s", Ok(0)),
            ("5 s", Ok(5_000_000)),
            ("1d", Ok(86_400_000_000)),
            ("36500d", Ok(3_153_600_000_000_000)),
            ("36501d", Err("is too long")),
            ("99999999999999999999h", Err("is too long")),
            ("5", Err("has no unit")),
            ("1.5h", Err("has a fraction")),
            ("1h30m", Err("is not a duration")),
            ("-1s", Err("is not a duration")),
            ("5 weeks", Err("is not a duration")),
            ("", Err("is not a duration")),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).map_err(|(message, _)| message), expected.map_err(str::to_owned), "of `{text}`");
        }
    }
}
