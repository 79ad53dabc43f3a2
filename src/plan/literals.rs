//! Literals in the names that DataFusion gives expressions, as SQL has them: `'x'` and not `Utf8("x")`.

/// The text with its literals as in SQL.
pub(crate) fn plain_literals(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((start, kind)) = first_literal(rest) {
        let open = start + kind.len() + 1;
        let Some((value, end)) = literal(&rest[open..], kind) else {
            plain.push_str(&rest[..open]);
            rest = &rest[open..];
            continue;
        };
        plain.push_str(&rest[..start]);
        plain.push_str(&value);
        rest = &rest[open + end..];
    }
    plain + rest
}

/// Where the first literal starts, and of which kind it is.
fn first_literal(text: &str) -> Option<(usize, &'static str)> {
    let found = KINDS.iter().filter_map(|&kind| {
        let opens = |start: &usize| text[start + kind.len()..].starts_with('(');
        let alone = |start: &usize| {
            text[..*start].chars().next_back().is_none_or(|before| !before.is_alphanumeric() && before != '_')
        };
        let start = text.match_indices(kind).map(|(start, _)| start).find(|start| opens(start) && alone(start))?;
        Some((start, kind))
    });
    found.min_by_key(|&(start, kind)| (start, std::cmp::Reverse(kind.len())))
}

/// The value behind an opening bracket, and where the text goes on behind the closing one.
fn literal(text: &str, kind: &str) -> Option<(String, usize)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let close = quoted.find("\")")?;
        return Some((format!("'{}'", quoted.get(..close)?.replace('\'', "''")), close + 3));
    }
    let close = text.find(')')?;
    let value = text.get(..close)?;
    let value = if kind == "Decimal128" { value.split(',').next().unwrap_or(value) } else { value };
    Some((value.to_owned(), close + 1))
}

/// As DataFusion calls them; those with a time zone or several parts stay as they are.
const KINDS: [&str; 16] = [
    "Utf8View",
    "LargeUtf8",
    "Utf8",
    "Boolean",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
    "Float32",
    "Float64",
    "Decimal128",
    "Date32",
];

#[cfg(test)]
mod tests {
    use super::plain_literals;

    #[test]
    fn literals_are_written_as_in_sql() {
        for (named, plain) in [
            ("sum(a.x) FILTER (WHERE a.t = Utf8(\"pod.received\"))", "sum(a.x) FILTER (WHERE a.t = 'pod.received')"),
            ("a.x = Utf8View(\"it's (so)\") AND a.y > Int64(-5)", "a.x = 'it''s (so)' AND a.y > -5"),
            ("percentile_cont(a.x,Decimal128(0.9,1,1))", "percentile_cont(a.x,0.9)"),
            ("Boolean(true) OR UInt64(7) = Float64(1.5)", "true OR 7 = 1.5"),
            ("MyUtf8(\"x\") and Utf8 alone, Int64(", "MyUtf8(\"x\") and Utf8 alone, Int64("),
            ("count(Int64(1))", "count(1)"),
            ("ünïcode = Utf8(\"é\")", "ünïcode = 'é'"),
        ] {
            assert_eq!(plain_literals(named), plain);
        }
    }
}
