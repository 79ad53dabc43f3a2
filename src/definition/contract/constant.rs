//! Constants in a contract: `enum`, `const`, `default`, and bounds. Decimals are exact: what does not fit is refused.

use super::compile::Compiler;
use super::{Kind, Value};
use crate::definition::tree::{Content, Node, shorten};
use crate::types::Micros;

impl Compiler<'_> {
    /// The values of `enum` or `const`, if one is given.
    pub(super) fn allowed(&mut self, node: &Node, kind: &Kind, nullable: bool) -> Option<Vec<Value>> {
        let (list, single) = (node.get("enum"), node.get("const"));
        if let (Some(_), Some(single)) = (list, single) {
            self.report.problem(&single.span, "a property can't have both `enum` and `const`", "keep one of them");
        }
        if let Some(single) = single {
            return self.constant(single, "`const`", kind, nullable).map(|value| vec![value]);
        }
        let list = list?;
        let items = self.report.list(list, "`enum`", "write the allowed values as in `[\"a\", \"b\"]`")?;
        if items.is_empty() {
            self.report.problem(&list.span, "`enum` is empty", "an empty list would reject every event");
        }
        let mut values = Vec::new();
        for item in items {
            let Some(value) = self.constant(item, "a value of `enum`", kind, nullable) else { continue };
            if values.contains(&value) {
                self.report.problem(
                    &item.span,
                    format!("{} stands in `enum` twice", item.found(self.report.syntax)),
                    "keep one of the two",
                );
            }
            values.push(value);
        }
        Some(values)
    }

    /// A value that the kind allows.
    pub(super) fn constant(&mut self, node: &Node, what: &str, kind: &Kind, nullable: bool) -> Option<Value> {
        let value = match (&node.content, kind) {
            (Content::Null, _) if nullable => Some(Value::Null),
            (Content::Null, _) => None,
            (Content::Text(text), Kind::Text { max_length }) => {
                if max_length.is_some_and(|limit| text.value.chars().count() > limit) {
                    let help = format!("at most {} characters", max_length.unwrap_or_default());
                    self.report.problem(&node.span, format!("{what} is longer than `maxLength`"), help);
                }
                Some(Value::Text(text.value.clone()))
            }
            (Content::Boolean(value), Kind::Boolean) => Some(Value::Boolean(*value)),
            (Content::Number(number), Kind::Integer { minimum, maximum }) => {
                let value = number.parse().ok();
                self.within(value, *minimum, *maximum, node, what);
                value.map(Value::Integer)
            }
            (Content::Number(number), Kind::Number { minimum, maximum }) => {
                let value = number.parse().ok().filter(|value: &f64| value.is_finite());
                self.within(value, *minimum, *maximum, node, what);
                value.map(Value::Number)
            }
            (Content::Number(_) | Content::Text(_), Kind::Decimal { minimum, maximum, .. }) => {
                let value = self.decimal_constant(node, what, kind)?;
                self.within(Some(value), *minimum, *maximum, node, what);
                Some(Value::Decimal(value))
            }
            (_, kind) if kind.has_constants() => None,
            _ => {
                let message = format!("{what} is not supported for {}", kind.describe());
                self.report.problem(&node.span, message, "leave it out");
                return None;
            }
        };
        if value.is_none() {
            let help = match node.content {
                Content::Null => "add `\"null\"` to `type` if null is allowed",
                _ => "a value must be of the property's own type",
            };
            self.report.mismatch(node, what, kind.describe(), help);
        }
        value
    }

    fn within<T: PartialOrd>(
        &mut self,
        value: Option<T>,
        minimum: Option<T>,
        maximum: Option<T>,
        node: &Node,
        what: &str,
    ) {
        let Some(value) = value else { return };
        if minimum.is_some_and(|minimum| value < minimum) || maximum.is_some_and(|maximum| value > maximum) {
            self.report.problem(&node.span, format!("{what} is out of bounds"), "see `minimum` and `maximum`");
        }
    }

    /// The kind with the bounds that stand in `node`, where they are tighter than its own.
    pub(super) fn bounded(&mut self, kind: Kind, node: &Node) -> Kind {
        match kind {
            Kind::Text { max_length } => {
                let given =
                    node.get("maxLength").and_then(|node| self.report.integer(node, "`maxLength`", 1, LENGTH_MAX));
                let given = given.and_then(|given| usize::try_from(given).ok());
                Kind::Text { max_length: lower(max_length, given) }
            }
            Kind::Integer { minimum, maximum } => {
                let (minimum, maximum) =
                    self.bounds(node, ["minimum", "maximum"], minimum, maximum, Self::integer_bound);
                Kind::Integer { minimum, maximum }
            }
            Kind::Number { minimum, maximum } => {
                let (minimum, maximum) =
                    self.bounds(node, ["minimum", "maximum"], minimum, maximum, Self::number_bound);
                Kind::Number { minimum, maximum }
            }
            Kind::Decimal { precision, scale, minimum, maximum } => {
                let read = |compiler: &mut Self, node: &Node, what: &str| compiler.decimal_constant(node, what, &kind);
                let (minimum, maximum) = self.bounds(node, ["minimum", "maximum"], minimum, maximum, read);
                Kind::Decimal { precision, scale, minimum, maximum }
            }
            Kind::Timestamp { minimum, maximum, nanoseconds } => {
                let (minimum, maximum) =
                    self.bounds(node, ["x-minimum", "x-maximum"], minimum, maximum, Self::instant_bound);
                Kind::Timestamp { minimum, maximum, nanoseconds }
            }
            other => other,
        }
    }

    /// Both bounds, the tighter of those in `node` and the given ones.
    fn bounds<T: PartialOrd + Copy>(
        &mut self,
        node: &Node,
        names: [&str; 2],
        minimum: Option<T>,
        maximum: Option<T>,
        read: impl Fn(&mut Self, &Node, &str) -> Option<T>,
    ) -> (Option<T>, Option<T>) {
        let [minimum_name, maximum_name] = names;
        let given_minimum = node.get(minimum_name).and_then(|node| read(self, node, &format!("`{minimum_name}`")));
        let given_maximum = node.get(maximum_name).and_then(|node| read(self, node, &format!("`{maximum_name}`")));
        let (minimum, maximum) = (higher(minimum, given_minimum), lower(maximum, given_maximum));
        if let (Some(low), Some(high)) = (minimum, maximum)
            && low > high
            && let Some(place) = node.get(minimum_name).or_else(|| node.get(maximum_name))
        {
            let message = format!("`{minimum_name}` is above `{maximum_name}`");
            self.report.problem(&place.span, message, "no value lies between them");
        }
        (minimum, maximum)
    }

    fn integer_bound(&mut self, node: &Node, what: &str) -> Option<i64> {
        let value = match &node.content {
            Content::Number(number) => number.parse().ok(),
            _ => None,
        };
        if value.is_none() {
            self.report.mismatch(node, what, "an integer of 64 bits", "a bound of an integer has no fraction");
        }
        value
    }

    fn number_bound(&mut self, node: &Node, what: &str) -> Option<f64> {
        let value = match &node.content {
            Content::Number(number) => number.parse().ok().filter(|value: &f64| value.is_finite()),
            _ => None,
        };
        if value.is_none() {
            self.report.mismatch(node, what, "a finite number", "write a number such as `0.5`");
        }
        value
    }

    fn instant_bound(&mut self, node: &Node, what: &str) -> Option<Micros> {
        let word = self.report.word(node, what)?;
        let instant = chrono::DateTime::parse_from_rfc3339(&word.value.value).ok();
        if instant.is_none() {
            let message = format!("`{}` is not an instant", shorten(&word.value.value));
            self.report.problem(&node.span, message, "date, time and offset as in `2000-01-01T00:00:00Z`");
        }
        instant.map(|instant| instant.timestamp_micros())
    }

    /// The unscaled value of a number or text at a decimal's scale.
    fn decimal_constant(&mut self, node: &Node, what: &str, kind: &Kind) -> Option<i128> {
        let Kind::Decimal { precision, scale, .. } = kind else { return None };
        let text = match &node.content {
            Content::Number(number) => number.as_str(),
            Content::Text(text) => text.value.as_str(),
            _ => "",
        };
        let value = unscaled(text, *precision, u32::from(scale.unsigned_abs()));
        if value.is_none() {
            let expected = format!("a decimal of {precision} digits, {scale} of them behind the point");
            self.report.mismatch(node, what, &expected, "more digits would have to be rounded");
        }
        value
    }
}

/// A decimal at a scale, exactly; none if it has more digits. Exponents are refused: a person writes this.
fn unscaled(text: &str, precision: u8, scale: u32) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let fraction_kept = fraction.trim_end_matches('0');
    let missing = scale.checked_sub(u32::try_from(fraction_kept.len()).ok()?)?;
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let value: i128 = format!("{whole}{fraction_kept}").parse().ok()?;
    let value = value.checked_mul(10_i128.checked_pow(missing)?)?;
    let value = (value < 10_i128.pow(u32::from(precision))).then_some(value)?;
    Some(if negative { -value } else { value })
}

fn higher<T: PartialOrd>(left: Option<T>, right: Option<T>) -> Option<T> {
    match (left, right) {
        (Some(left), Some(right)) => Some(if left > right { left } else { right }),
        (left, right) => left.or(right),
    }
}

fn lower<T: PartialOrd>(left: Option<T>, right: Option<T>) -> Option<T> {
    match (left, right) {
        (Some(left), Some(right)) => Some(if left < right { left } else { right }),
        (left, right) => left.or(right),
    }
}

/// No text in a message is longer than this.
const LENGTH_MAX: u64 = u32::MAX as u64;

#[cfg(test)]
mod tests {
    use super::unscaled;

    #[test]
    fn a_decimal_is_exact_or_refused() {
        let cases = [
            ("0", Some(0)),
            ("1.5", Some(1500)),
            ("-1.005", Some(-1005)),
            ("1.0050", Some(1005)),
            ("1.0005", None),
            ("99999.999", Some(99_999_999)),
            ("100000", None),
            ("1e3", None),
            ("", None),
            (".5", None),
            ("5.", None),
            ("-", None),
            ("170141183460469231731687303715884105728", None),
        ];
        for (text, expected) in cases {
            assert_eq!(unscaled(text, 8, 3), expected, "of `{text}`");
        }
        assert_eq!(unscaled(&"9".repeat(38), 38, 0), Some(10_i128.pow(38) - 1));
    }
}
