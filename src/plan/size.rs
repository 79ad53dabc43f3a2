//! Limits on SQL text. The planner works by recursion, and so does what evaluates and drops a plan: what could exhaust a
//! thread's stack, or keep the planner busy for minutes, is refused before it is parsed.
//!
//! The depth of the tree that a text becomes is bounded from its tokens alone, in one pass without recursion: each operator
//! makes the expression that it stands in at most one deeper, a comma or a new clause starts another expression beside it,
//! and a bracket adds the deepest expression inside it to the one around it.

use std::ops::Range;

use super::place::blank_comments_and_strings;

/// What is too large: where, what, and what would be right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// The first limit that the text exceeds.
pub(super) fn too_large(text: &str) -> Option<TooLarge> {
    if text.len() > BYTES_MAX {
        return Some(TooLarge {
            span: 0..0,
            message: format!("the SQL has {} bytes, and at most {BYTES_MAX} are planned", text.len()),
            help: "split it into several jobs; a long list of values belongs into a source of its own",
        });
    }
    let code = blank_comments_and_strings(text);
    let mut counts = Counts { scopes: vec![Scope::default()], tokens: 0, joins: 0, sets: 0, cases: 0 };
    tokens(&code)
        .find_map(|span| counts.take(&code[span.clone()]).map(|(message, help)| TooLarge { span, message, help }))
}

/// One bracket level.
#[derive(Debug, Default)]
struct Scope {
    /// Operators since the last comma or clause.
    chain: usize,
    /// The longest chain before that.
    longest: usize,
    /// Whether commas separate tables here.
    in_from: bool,
}

struct Counts {
    scopes: Vec<Scope>,
    tokens: usize,
    joins: usize,
    sets: usize,
    cases: usize,
}

impl Counts {
    /// Takes the next token; says what is too large with it.
    fn take(&mut self, token: &str) -> Option<(String, &'static str)> {
        self.tokens += 1;
        let word = token.to_ascii_lowercase();
        match word.as_str() {
            "(" | "[" => {
                self.deepen();
                self.scopes.push(Scope::default());
            }
            ")" | "]" => self.close(),
            "," => self.joins += usize::from(self.next_expression().is_some_and(|in_from| in_from)),
            "case" => self.cases += 1,
            "end" => self.cases = self.cases.saturating_sub(1),
            "join" => self.joins += 1,
            "union" | "except" | "intersect" => self.sets += 1,
            _ => {}
        }
        match word.as_str() {
            "select" | "from" | "where" | "group" | "having" | "order" | "join" | "on" | "union" | "except"
            | "intersect" => {
                self.next_expression();
                if let Some(scope) = self.scopes.last_mut() {
                    scope.in_from = matches!(word.as_str(), "from" | "join" | "on");
                }
            }
            _ if OPERATOR_WORDS.contains(&word.as_str()) || is_operator(token) => self.deepen(),
            _ => {}
        }
        self.exceeded()
    }

    fn deepen(&mut self) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.chain += 1;
        }
    }

    fn next_expression(&mut self) -> Option<bool> {
        let scope = self.scopes.last_mut()?;
        scope.longest = scope.longest.max(scope.chain);
        scope.chain = 0;
        Some(scope.in_from)
    }

    fn close(&mut self) {
        if self.scopes.len() > 1
            && let Some(inner) = self.scopes.pop()
            && let Some(outer) = self.scopes.last_mut()
        {
            outer.chain += inner.longest.max(inner.chain);
        }
    }

    fn exceeded(&self) -> Option<(String, &'static str)> {
        let chain = self.scopes.last().map_or(0, |scope| scope.chain);
        if self.scopes.len() > BRACKETS_MAX {
            return Some((
                format!("more than {BRACKETS_MAX} brackets are open here"),
                "give inner results names in WITH",
            ));
        }
        if self.cases > CASES_MAX {
            let help = "give inner results names in WITH, or write more WHEN branches in one CASE";
            return Some((format!("more than {CASES_MAX} CASE stand inside each other"), help));
        }
        if chain > CHAIN_MAX {
            let help = "give parts of it names in WITH or in a job of its own; write `x IN (…)` for many comparisons";
            return Some((format!("one expression has more than {CHAIN_MAX} operators"), help));
        }
        if self.joins > JOINS_MAX {
            return Some((format!("there are more than {JOINS_MAX} joins"), "split it into several jobs"));
        }
        if self.sets > SETS_MAX {
            return Some((format!("more than {SETS_MAX} SELECTs are put together"), "split it into several jobs"));
        }
        let help = "split it into several jobs; a long list of values belongs into a source of its own";
        (self.tokens > TOKENS_MAX).then(|| (format!("the SQL has more than {TOKENS_MAX} words and signs"), help))
    }
}

/// Words, and signs that stand together.
fn tokens(code: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = &code[at..];
        let start = at + (rest.len() - rest.trim_start().len());
        let rest = &code[start..];
        let first = rest.chars().next()?;
        let same = |kind: fn(char) -> bool| rest.find(|letter| !kind(letter)).unwrap_or(rest.len());
        let length = match first {
            first if is_word(first) => same(is_word),
            first if is_sign(first) => same(is_sign),
            first => first.len_utf8(),
        };
        at = start + length;
        Some(start..at)
    })
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn is_sign(letter: char) -> bool {
    "+-*/%|&^=<>!:~#@?".contains(letter)
}

fn is_operator(token: &str) -> bool {
    token.starts_with(is_sign)
}

/// Words that make an expression deeper.
const OPERATOR_WORDS: [&str; 14] =
    ["and", "or", "not", "is", "in", "like", "ilike", "similar", "between", "at", "collate", "div", "xor", "case"];

/// Longer texts are refused.
const BYTES_MAX: usize = 256 * 1024;
/// Words and signs in one text.
const TOKENS_MAX: usize = 20_000;
/// Operators in one expression: about a third of what overflows a thread's stack of 2 MiB.
const CHAIN_MAX: usize = 500;
/// Brackets within brackets; for some kinds of them the parser's own limit is lower.
const BRACKETS_MAX: usize = 40;
/// CASE within CASE; what the parser says of more is misleading.
const CASES_MAX: usize = 16;
/// Joins in one text: the time to plan them grows faster than their square.
const JOINS_MAX: usize = 64;
/// `UNION`, `EXCEPT` and `INTERSECT` in one text.
const SETS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let found = too_large(text).map(|found| found.message);
        assert_eq!(
            found.as_deref().is_some_and(|found| expected.is_some_and(|part| found.contains(part))),
            expected.is_some(),
            "{found:?}"
        );
    }

    #[test]
    fn what_grows_a_tree_is_counted_and_what_stands_side_by_side_is_not() {
        let repeat = |first: &str, link: &str, times: usize| format!("{first}{}", link.repeat(times));
        check(&repeat("SELECT 1", " + 1", 400), None);
        check(&repeat("SELECT 1", "\n+\n1", 600), Some("operators"));
        check(&repeat("SELECT a", ", a + 1", 2_000), None);
        check(&repeat("SELECT a", "::int", 600), Some("operators"));
        check(&repeat("SELECT a", "[1]", 600), Some("operators"));
        check(&repeat("SELECT a", "\nIS NULL", 600), Some("operators"));
        check(&repeat("SELECT '", " + ", 600), None);
        check(&format!("SELECT ((a{0}){0}){0}", " + 1".repeat(200)), Some("operators"));
        check(&format!("SELECT (a{0}), (a{0}), (a{0})", " + 1".repeat(300)), None);
        check(&repeat("SELECT extract(day FROM a)", " + extract(day FROM a)", 600), Some("operators"));
        check(&repeat("SELECT 1 FROM a", ", a", 100), Some("joins"));
        check(&repeat("SELECT 1 FROM a", " JOIN a", 100), Some("joins"));
        check(&repeat("SELECT 1", " UNION ALL SELECT 1", 300), Some("put together"));
        check(&repeat("SELECT ", "(", 300), Some("brackets"));
        check(&repeat("SELECT ", "CASE WHEN a THEN ", 17), Some("inside each other"));
        check(&repeat("SELECT 1", ", CASE WHEN a THEN 1 END", 100), None);
        check(&repeat("SELECT 1 WHERE 1 IN (1", ", 1", 12_000), Some("words and signs"));
        check(&"x".repeat(BYTES_MAX + 1), Some("bytes"));
        check("))))) SELECT", None);
    }
}
