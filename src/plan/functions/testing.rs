//! One way to try a function: through SQL, in a session set up as the crate's sessions are.

use arrow::array::Array;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::Result;
use datafusion::prelude::{SessionConfig, SessionContext};

/// The values of a SELECT's only column, joined by commas; null is `NULL`.
pub(super) fn evaluate(select: &str) -> Result<String> {
    let mut config = SessionConfig::new().with_target_partitions(1);
    config.options_mut().sql_parser.parse_float_as_decimal = true;
    let context = SessionContext::new_with_config(config);
    for function in super::all() {
        context.register_udf(function.as_ref().clone());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let batches = runtime.block_on(async { context.sql(select).await?.collect().await })?;
    let options = FormatOptions::default().with_null("NULL");
    let mut values = Vec::new();
    for batch in &batches {
        assert_eq!(batch.num_columns(), 1, "{select}");
        let column = batch.column(0);
        let formatter = ArrayFormatter::try_new(column, &options)?;
        values.extend((0..column.len()).map(|row| formatter.value(row).to_string()));
    }
    Ok(values.join(","))
}

/// Evaluates an expression, or a whole SELECT, and compares.
pub(super) fn check(sql: &str, expected: &str) {
    match evaluate(&select(sql)) {
        Ok(found) => assert_eq!(found, expected, "{sql}"),
        Err(error) => panic!("{sql}: {error}"),
    }
}

/// Evaluates an expression that must fail, with a text that contains `expected`.
pub(super) fn check_error(sql: &str, expected: &str) {
    match evaluate(&select(sql)) {
        Ok(found) => panic!("{sql} gave {found} in place of an error with {expected:?}"),
        Err(error) => assert!(error.to_string().contains(expected), "{sql}: {error}"),
    }
}

/// The SELECT of an expression over rows of the named columns, so that nothing is folded into a constant.
pub(super) fn on_rows(expression: &str, columns: &str, rows: &str) -> String {
    format!("SELECT {expression} FROM (VALUES {rows}) AS rows ({columns})")
}

fn select(sql: &str) -> String {
    if sql.starts_with("SELECT") { sql.to_owned() } else { format!("SELECT {sql}") }
}
