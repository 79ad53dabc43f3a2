//! DataFusion's errors in the words of the author of the SQL: what is wrong, what would be right, and where.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use datafusion::common::{Column, Diagnostic as Known, SchemaError};
use datafusion::error::DataFusionError;

use crate::diagnostic::{Diagnostic, SourceText, nearest, suggest};

use super::place::{at, byte_range, find_word, first_code, line_and_column};
use super::session;

/// An error that the author of a SQL text can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What would be right, where it is known.
    pub help: Option<String>,
    /// The bytes of the text that are wrong, where they are known.
    pub span: Option<Range<usize>>,
}

/// Everything that DataFusion says is wrong with the file.
pub fn diagnose(error: &DataFusionError, file: &Arc<SourceText>) -> Vec<Diagnostic> {
    error
        .iter()
        .map(|error| {
            let explained = explain(error, &file.text);
            let span = explained.span.unwrap_or_else(|| first_code(&file.text));
            Diagnostic { help: explained.help, ..Diagnostic::new(file, span, explained.message) }
        })
        .collect()
}

/// One error of DataFusion about a SQL text.
pub fn explain(error: &DataFusionError, text: &str) -> Explained {
    let known = error.diagnostic();
    let span = known.and_then(place_of).map(|span| byte_range(text, span));
    let explained = match error.find_root() {
        DataFusionError::SchemaError(inner, _) => schema_error(inner, text),
        root => plain(&root.strip_backtrace(), text),
    };
    let span = span.filter(|_| !explained.message.starts_with("two columns"));
    let help = explained.help.or_else(|| known.and_then(help_of));
    Explained { span: span.or(explained.span), help, message: explained.message }
}

fn place_of(known: &Known) -> Option<datafusion::common::Span> {
    known.span.or_else(|| known.notes.iter().find_map(|note| note.span))
}

fn help_of(known: &Known) -> Option<String> {
    let mut said: Vec<&str> = known.helps.iter().map(|help| help.message.as_str()).collect();
    said.extend(known.notes.iter().map(|note| note.message.as_str()));
    said.dedup();
    (!said.is_empty()).then(|| readable(&said.join("; ")))
}

fn schema_error(error: &SchemaError, text: &str) -> Explained {
    let spanned = |column: &Column| {
        column.spans().first().map(|span| byte_range(text, span)).or_else(|| find_word(text, &column.name))
    };
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => Explained {
            message: match &field.relation {
                Some(table) if !valid_fields.iter().any(|column| column.relation.as_ref() == Some(table)) => {
                    format!("no table is called `{}` here", table.table())
                }
                Some(table) => format!("`{}` has no column `{}`", table.table(), field.name),
                None => format!("there is no column `{}` here", field.name),
            },
            help: Some(columns_like(field, valid_fields)),
            span: spanned(field),
        },
        SchemaError::AmbiguousReference { field } => Explained {
            message: format!("more than one table has a column `{}`", field.name),
            help: Some(format!("say which one is meant: `table.{}`", field.name)),
            span: spanned(field),
        },
        SchemaError::DuplicateQualifiedField { qualifier, name } => Explained {
            message: format!("`{}.{name}` could come from two places", qualifier.table()),
            help: Some(format!("give each table in FROM a name of its own: `{0} AS {0}_2`", qualifier.table())),
            span: find_word(text, &format!("join {0}|, {0}|{0}", qualifier.table())),
        },
        SchemaError::DuplicateUnqualifiedField { name } => repeated_column(name, text),
    }
}

/// The nearest of the columns that there are, by what the author wrote.
fn columns_like(wanted: &Column, valid: &[Column]) -> String {
    let of_table: Vec<&Column> = valid.iter().filter(|column| column.relation == wanted.relation).collect();
    let names: BTreeSet<&str> = match (&wanted.relation, of_table.as_slice()) {
        (Some(_), [_, ..]) => of_table.iter().map(|column| column.name()).collect(),
        _ => valid.iter().map(Column::name).collect(),
    };
    let tables: BTreeSet<&str> =
        valid.iter().filter_map(|column| column.relation.as_ref()).map(|table| table.table()).collect();
    match &wanted.relation {
        Some(table) if of_table.is_empty() => suggest(table.table(), tables),
        _ => suggest(&wanted.name, names),
    }
}

fn repeated_column(name: &str, text: &str) -> Explained {
    Explained {
        message: format!("two columns of the result are called `{name}`"),
        help: Some("name the columns, one of two otherwise: `b.key AS b_key`".to_owned()),
        span: find_word(text, &format!("as {name}|{name}")),
    }
}

/// An error that is nothing but its text.
fn plain(raw: &str, text: &str) -> Explained {
    let special: [fn(&str, &str) -> Option<Explained>; 6] = [syntax, call, watermark, repeated, value, operands];
    if let Some(explained) = special.iter().find_map(|explain| explain(raw, text)) {
        return explained;
    }
    let quoted = quoted(raw).unwrap_or_default();
    let name = quoted.rsplit('.').next().unwrap_or_default();
    if let Some(rule) = RULES.iter().find(|rule| raw.contains(rule.says)) {
        let fill = |template: &str| template.replace("{}", name);
        return Explained {
            message: if rule.message.is_empty() { readable(raw) } else { fill(rule.message) },
            help: Some(fill(rule.help)),
            span: find_word(text, &fill(rule.words)),
        };
    }
    Explained { message: readable(raw), help: None, span: find_word(text, name) }
}

/// What the parser did not expect.
fn syntax(raw: &str, text: &str) -> Option<Explained> {
    if raw.contains("RecursionLimitExceeded") {
        let help = "give inner results names in WITH, or make them jobs of their own";
        return Some(told("expressions or queries are nested too deep", help, None));
    }
    let end = text.trim_end().len();
    let place = line_and_column(raw).map(|(line, column)| at(text, line, column));
    if let Some(unclosed) =
        ["string literal", "multi-line comment", "quoted identifier"].iter().find(|what| raw.contains(**what))
    {
        let message = format!("a {unclosed} is not closed");
        let help = "close it; a quote inside a text is written twice: `'it''s'`";
        return Some(told(message, help, place.or(Some(end..end))));
    }
    let (_, rest) = raw.split_once("Expected: ")?;
    let (expected, rest) = rest.split_once(", found: ")?;
    let found = rest.split(" at Line: ").next().unwrap_or(rest).trim_end_matches(['"', ')']);
    let found = if found == "EOF" { "the end of the text".to_owned() } else { format!("`{found}`") };
    let expected = if expected.len() == 1 { format!("`{expected}`") } else { expected.to_owned() };
    let help = "mend what stands here or just before it";
    Some(told(format!("expected {expected}, found {found}"), help, place.or(Some(end..end))))
}

/// A function that there is not, or not with these arguments.
fn call(raw: &str, text: &str) -> Option<Explained> {
    if let Some((_, rest)) = raw.split_once("Invalid function '") {
        let name = rest.split('\'').next()?;
        let names = function_names();
        let help = match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "no function has a name like it; see the reference of SQL functions".to_owned(),
        };
        return Some(told(format!("there is no function `{name}`"), help, find_word(text, name)));
    }
    let (_, rest) = raw.split_once("No function matches the given name and argument types '")?;
    let signature = rest.split("'. You").next()?;
    let name = signature.split('(').next()?;
    if name.ends_with("_watermark") {
        return None;
    }
    let types = sql_types(signature.get(name.len()..).unwrap_or_default());
    let help = match syntax_of(name) {
        Some(syntax) => format!("write it as `{syntax}`, and cast the arguments to what it takes"),
        None => "cast the arguments to what it takes".to_owned(),
    };
    Some(told(format!("`{name}` can't be called with {types}"), help, find_word(text, name)))
}

fn watermark(raw: &str, text: &str) -> Option<Explained> {
    let at = raw.find("`watermark()` is ")?;
    let message = raw.get(at..)?.split(". No function").next()?;
    let (message, help) =
        message.split_once("; ").unwrap_or((message, "compare it with a TIMESTAMP or DATE of the row"));
    Some(told(sql_types(message), help, find_word(text, "watermark")))
}

fn repeated(raw: &str, text: &str) -> Option<Explained> {
    let (_, rest) = raw.split_once("unique expression names but the expression \"")?;
    let expression = rest.split('"').next()?;
    let name = expression.rsplit_once(" AS ").map_or(expression, |(_, name)| name);
    Some(repeated_column(name.rsplit('.').next().unwrap_or(name), text))
}

/// A text that should have been a value of another type.
fn value(raw: &str, text: &str) -> Option<Explained> {
    let (kind, form) = match raw {
        raw if raw.contains("rror parsing timestamp from") => ("a point in time", "`TIMESTAMP '2026-01-31T12:00:00Z'`"),
        raw if raw.contains("of Date32 type") => ("a date", "`DATE '2026-01-31'`"),
        raw if raw.contains("Cannot cast string '") => {
            ("a value of the type that it is compared with", "a value of that type")
        }
        _ => return None,
    };
    let value = quoted(raw)?;
    let span = text.find(&format!("'{value}'")).map(|start| start..start + value.len() + 2);
    Some(told(format!("`{value}` is not {kind}"), format!("write {form}"), span))
}

/// Two types that an operator or a UNION can't bring together.
fn operands(raw: &str, text: &str) -> Option<Explained> {
    let help = "cast one side to the type of the other: `CAST(x AS …)`";
    if let Some((_, rest)) = raw.split_once("ncompatible inputs for Union: Previous inputs were of type ") {
        let (before, rest) = rest.split_once(", but got incompatible type ")?;
        let (after, rest) = rest.split_once(" on column '")?;
        let message =
            format!("column `{}` is {after} here, and {before} in the SELECT before", rest.split('\'').next()?);
        return Some(told(sql_types(&message), help, find_word(text, "union")));
    }
    let (_, rest) = raw.split_once("comparison operation ").or_else(|| raw.split_once("arithmetic expression "))?;
    let operation = sql_types(rest.split(" to valid types").next()?);
    let sign = operation.split(' ').find(|word| {
        !word.is_empty() && word.chars().all(|letter| !letter.is_alphanumeric() && !"(),".contains(letter))
    });
    Some(told(format!("there is no `{operation}`"), help, sign.and_then(|sign| find_word(text, sign))))
}

fn told(message: impl Into<String>, help: impl Into<String>, span: Option<Range<usize>>) -> Explained {
    Explained { message: message.into(), help: Some(help.into()), span }
}

/// The first thing in quotes.
fn quoted(raw: &str) -> Option<&str> {
    raw.split('\'').nth(1).or_else(|| raw.split('"').nth(1)).filter(|inner| !inner.is_empty())
}

fn function_names() -> Vec<String> {
    let state = session().state();
    let mut names: Vec<String> =
        state.scalar_functions().keys().chain(state.aggregate_functions().keys()).cloned().collect();
    names.sort();
    names
}

/// How a function is written, from its documentation.
fn syntax_of(name: &str) -> Option<String> {
    let state = session().state();
    let scalar = state.scalar_functions().get(name).and_then(|function| function.documentation().cloned());
    let documentation = scalar
        .or_else(|| state.aggregate_functions().get(name).and_then(|function| function.documentation().cloned()))?;
    Some(documentation.syntax_example)
}

/// DataFusion's message in the house's form: without its class, lower case, no full stop, no advice to its developers.
fn readable(message: &str) -> String {
    let mut text = message.trim();
    for end in ["\nThis issue was likely caused", ". No function matches", "\nCandidate functions", " at Line: "] {
        text = text.split(end).next().unwrap_or(text);
    }
    while let Some(rest) = CLASSES.iter().find_map(|class| text.strip_prefix(class)) {
        text = rest.trim_start();
    }
    let text = sql_types(text.trim_end_matches('.')).replace("datafusion.public.", "");
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text,
    }
}

/// Names of Arrow types as SQL has them.
pub(crate) fn sql_types(text: &str) -> String {
    let mut rest = text;
    let mut named = String::with_capacity(text.len());
    while let Some((arrow, sql)) = first_type(rest) {
        named.push_str(&rest[..arrow.start]);
        named.push_str(sql);
        rest = &rest[arrow.end..];
    }
    named + rest
}

/// The first Arrow type in a text, parameters included where SQL leaves them out.
fn first_type(text: &str) -> Option<(Range<usize>, &'static str)> {
    let (start, (arrow, sql)) = TYPES
        .iter()
        .filter_map(|pair| Some((text.find(pair.0)?, pair)))
        .min_by_key(|&(start, pair)| (start, std::cmp::Reverse(pair.0.len())))?;
    let behind = start + arrow.len();
    let parameters = match text[behind..].find(')') {
        Some(length) if arrow.ends_with('(') && !sql.ends_with('(') => length + 1,
        _ => 0,
    };
    Some((start..behind + parameters, sql))
}

/// An error whose text is known: what it says, the message for the author (empty: its own), words to find it by, help.
/// `{}` stands for the name that the text has in quotes, without its table.
struct Rule {
    says: &'static str,
    message: &'static str,
    words: &'static str,
    help: &'static str,
}

const RULES: [Rule; 23] = [
    Rule {
        says: "The window ",
        message: "the window is not defined",
        words: "over",
        help: "define it behind FROM and WHERE: `WINDOW w AS (PARTITION BY … ORDER BY …)`",
    },
    Rule {
        says: "DISTINCT ON expressions must match",
        message: "the ORDER BY begins with something else than what DISTINCT ON names",
        words: "order by|distinct on",
        help: "order by the expressions of DISTINCT ON first: `SELECT DISTINCT ON (k) … ORDER BY k, …`",
    },
    Rule {
        says: "can only be applied to array, struct and null",
        message: "UNNEST takes a list or a struct",
        words: "unnest",
        help: "make a list of it: `unnest(string_to_array(x, ','))`, `unnest(make_array(x, y))`",
    },
    Rule {
        says: "null_aware anti join",
        message: "this `NOT IN (SELECT …)` refers to the query around it, and must know what a null in its list means",
        words: "not in|in",
        help: "write `NOT EXISTS (SELECT … WHERE …)`",
    },
    Rule {
        says: "not allowed in the WHERE clause",
        message: "an aggregate can't stand in WHERE",
        words: "where",
        help: "put the condition into HAVING, behind GROUP BY",
    },
    Rule {
        says: "FETCH clause",
        message: "FETCH is not understood",
        words: "fetch",
        help: "write `ORDER BY … LIMIT …`",
    },
    Rule {
        says: "Cannot find column with position",
        message: "",
        words: "group by|order by",
        help: "write the column's name",
    },
    Rule {
        says: "calls cannot be nested",
        message: "an aggregate can't stand inside another",
        words: "sum|avg|count|min|max|array_agg|first_value|last_value",
        help: "compute the inner one in a subquery in FROM, or in a job of its own",
    },
    Rule {
        says: "must appear in GROUP BY",
        message: "`{}` is neither grouped nor aggregated",
        words: "{}",
        help: "add it to GROUP BY, or say which of its values is meant: `min({})`, `first_value({} ORDER BY …)`",
    },
    Rule {
        says: "must appear in the GROUP BY",
        message: "`{}` is neither grouped nor aggregated",
        words: "{}",
        help: "add it to GROUP BY, or say which of its values is meant: `min({})`, `first_value({} ORDER BY …)`",
    },
    Rule {
        says: "different number of columns",
        message: "the SELECTs that are put together have different numbers of columns",
        words: "union|intersect|except",
        help: "give each of them the columns of the first",
    },
    Rule {
        says: "Correlated scalar subquery must be aggregated",
        message: "this subquery may have more than one row for a row outside",
        words: "( select",
        help: "write it as a LEFT JOIN, or let an aggregate make one row of it: `(SELECT max(x) FROM …)`",
    },
    Rule {
        says: "non-boolean predicate",
        message: "the condition `{}` is not a boolean",
        words: "{}",
        help: "compare it with something, as in `{} > 0`",
    },
    Rule {
        says: "incompatible types",
        message: "",
        words: "",
        help: "cast one side to the type of the other: `CAST(x AS …)`",
    },
    Rule {
        says: "DML not supported",
        message: "a SELECT can't change tables",
        words: "insert|update|delete",
        help: "write one SELECT that only reads",
    },
    Rule {
        says: "Query INSERT",
        message: "a SELECT can't change tables",
        words: "insert",
        help: "write one SELECT that only reads",
    },
    Rule {
        says: "DDL not supported",
        message: "a SELECT can't make tables",
        words: "into",
        help: "leave INTO out; a job's table has the job's name",
    },
    Rule {
        says: "Statement not supported",
        message: "a job is one query",
        words: "",
        help: "write one SELECT: a job only reads",
    },
    Rule {
        says: "Conflicting ordering requirements",
        message: "two aggregates need the rows of a group in different orders",
        words: "array_agg|string_agg|nth_value",
        help: "compute them in two subqueries or jobs, and join these by the columns of the GROUP BY",
    },
    Rule {
        says: "not provided a value",
        message: "`{}` has no value here",
        words: "{}",
        help: "write the value itself",
    },
    Rule {
        says: "ivide by zero",
        message: "a constant is divided by zero",
        words: "/",
        help: "divide by `nullif(x, 0)` to get a null, or decide with CASE what it should be",
    },
    Rule {
        says: "must appear in argument list",
        message: "",
        words: "distinct",
        help: "order a DISTINCT aggregate by its own argument",
    },
    Rule {
        says: "not implemented",
        message: "",
        words: "",
        help: "write it with joins, filters, UNION ALL and GROUP BY",
    },
];

/// What stands in front of a message to say where in DataFusion it comes from.
const CLASSES: [&str; 12] = [
    "Error during planning: ",
    "SQL error: ",
    "Schema error: ",
    "This feature is not implemented: ",
    "Execution error: ",
    "Internal error: ",
    "Arrow error: ",
    "Optimizer rule ",
    "type_coercion",
    "caused by",
    "ParserError(\"",
    "TokenizerError(\"",
];

/// Arrow's names of types, and SQL's; an open bracket on the left alone drops the parameters.
const TYPES: [(&str, &str); 20] = [
    ("Utf8View", "VARCHAR"),
    ("LargeUtf8", "VARCHAR"),
    ("Utf8", "VARCHAR"),
    ("Boolean", "BOOLEAN"),
    ("Int8", "TINYINT"),
    ("Int16", "SMALLINT"),
    ("Int32", "INTEGER"),
    ("Int64", "BIGINT"),
    ("UInt8", "TINYINT UNSIGNED"),
    ("UInt16", "SMALLINT UNSIGNED"),
    ("UInt32", "INTEGER UNSIGNED"),
    ("UInt64", "BIGINT UNSIGNED"),
    ("Float32", "REAL"),
    ("Float64", "DOUBLE"),
    ("Date32", "DATE"),
    ("Decimal128(", "DECIMAL("),
    ("Timestamp(", "TIMESTAMP"),
    ("Time64(", "TIME"),
    ("Interval(", "INTERVAL"),
    ("Duration(", "INTERVAL"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_named_as_in_sql() {
        let cases = [
            ("Boolean > Timestamp(µs, \"UTC\")", "BOOLEAN > TIMESTAMP"),
            ("(UInt64, Int64, Decimal128(18, 3))", "(BIGINT UNSIGNED, BIGINT, DECIMAL(18, 3))"),
            ("[Utf8View]", "[VARCHAR]"),
            ("nothing", "nothing"),
        ];
        for (arrow, sql) in cases {
            assert_eq!(sql_types(arrow), sql);
        }
    }
}
