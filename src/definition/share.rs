//! Shares in the pipeline file: a percentage, `1%`, `0.25%`.

/// A share in millionths, or why it is none with what would be right.
pub(crate) fn parse(text: &str) -> Result<u32, (String, String)> {
    let help = "a number from 0 to 100 and `%`, as in `1%` or `0.25%`";
    let Some(number) = text.strip_suffix('%') else {
        let is_number = text.parse::<f64>().is_ok();
        let (message, help) =
            if is_number { ("has no `%`", "write a percentage, as in `1%`") } else { ("is not a percentage", help) };
        return Err((message.to_owned(), help.to_owned()));
    };
    let (whole, part) = number.trim_end().split_once('.').unwrap_or((number.trim_end(), "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return Err(("is not a percentage".to_owned(), help.to_owned()));
    }
    if part.len() > DECIMALS_MAX {
        return Err(("has too many decimals".to_owned(), format!("at most {DECIMALS_MAX} of them")));
    }
    let millionths = format!("{whole}{part:0<DECIMALS_MAX$}").parse::<u32>().ok();
    match millionths.filter(|millionths| *millionths <= 1_000_000) {
        Some(millionths) => Ok(millionths),
        None => Err(("is more than everything".to_owned(), "at most `100%`".to_owned())),
    }
}

/// Decimals of a percentage.
const DECIMALS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_share_is_a_percentage() {
        for (text, expected) in [
            ("1%", Ok(10_000)),
            ("0%", Ok(0)),
            ("100%", Ok(1_000_000)),
            ("0.25 %", Ok(2_500)),
            ("0.0001%", Ok(1)),
            ("0.00001%", Err("has too many decimals")),
            ("100.1%", Err("is more than everything")),
            ("99999999999%", Err("is more than everything")),
            ("0.01", Err("has no `%`")),
            ("1", Err("has no `%`")),
            ("-1%", Err("is not a percentage")),
            (".5%", Err("is not a percentage")),
            ("1.%", Err("is not a percentage")),
            ("%", Err("is not a percentage")),
            ("few", Err("is not a percentage")),
            ("", Err("is not a percentage")),
        ] {
            assert_eq!(parse(text).map_err(|(message, _)| message), expected.map_err(str::to_owned), "of `{text}`");
        }
    }
}
