//! Two sets of rows, told apart by what they say: their canonical JSON, in which types of one meaning look alike.

use std::collections::BTreeMap;

use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;

use crate::error::{Error, ErrorKind, Result};
use crate::sink::body::Rows;

/// How often each row stands in a set, by its canonical form.
pub type Multiset = BTreeMap<String, u64>;

/// How two sets of rows differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Rows that should be there.
    pub expected: u64,
    /// Rows that are there.
    pub found: u64,
    /// Rows that should be there and are not.
    pub missing: u64,
    /// Rows that are there and should not be.
    pub extra: u64,
    /// Some of the missing ones.
    pub missing_examples: Vec<String>,
    /// Some of the others.
    pub extra_examples: Vec<String>,
}

impl Difference {
    /// Whether the sets are one.
    pub fn is_none(&self) -> bool {
        self.missing == 0 && self.extra == 0
    }
}

/// Compares rows as they should be with rows as they are. Columns that a table's file could not hold and has as text are
/// compared as text.
///
/// # Errors
/// `Limit`, naming what can't be compared: other columns, or a type without a canonical form.
pub fn compare(expected: &[RecordBatch], found: &[RecordBatch]) -> Result<Difference> {
    let Some(form) = found.first().map(RecordBatch::schema) else {
        return Ok(differ(&multiset(expected, None)?, &Multiset::new()));
    };
    if let Some(first) = expected.first() {
        let (should, are) = (names(first.schema_ref()), names(&form));
        if should != are {
            let doing = format!("the columns should be `{}`, and are `{}`", should.join("`, `"), are.join("`, `"));
            return Err(Error::new(ErrorKind::Limit, doing));
        }
    }
    Ok(differ(&multiset(expected, Some(&form))?, &multiset(found, None)?))
}

/// The difference of two sets that were counted already.
pub(super) fn differ(expected: &Multiset, found: &Multiset) -> Difference {
    let mut difference =
        Difference { expected: expected.values().sum(), found: found.values().sum(), ..Difference::default() };
    for (row, &count) in expected {
        let short = count.saturating_sub(found.get(row).copied().unwrap_or(0));
        difference.missing += short;
        note(&mut difference.missing_examples, row, short);
    }
    for (row, &count) in found {
        let over = count.saturating_sub(expected.get(row).copied().unwrap_or(0));
        difference.extra += over;
        note(&mut difference.extra_examples, row, over);
    }
    difference
}

fn note(examples: &mut Vec<String>, row: &str, times: u64) {
    if times > 0 && examples.len() < EXAMPLES_MAX {
        examples.push(row.to_owned());
    }
}

/// Counts rows; `form` says in which columns durations are text.
fn multiset(batches: &[RecordBatch], form: Option<&Schema>) -> Result<Multiset> {
    let mut counted = Multiset::new();
    for batch in batches {
        let batch = match form {
            Some(form) => as_text_where_text_is(batch, form)?,
            None => batch.clone(),
        };
        let rows = Rows::new(&batch)?;
        for row in 0..batch.num_rows() {
            let mut text = Vec::new();
            rows.write(row, &mut text)?;
            let text = String::from_utf8(text)
                .map_err(|error| Error::caused(ErrorKind::Internal, "writing a row as JSON", error))?;
            *counted.entry(text).or_insert(0) += 1;
        }
    }
    Ok(counted)
}

fn as_text_where_text_is(batch: &RecordBatch, form: &Schema) -> Result<RecordBatch> {
    let failed = |error| Error::caused(ErrorKind::Limit, "comparing columns of other types", error);
    let columns = batch.columns().iter().zip(form.fields()).map(|(column, field)| {
        match (column.data_type(), field.data_type()) {
            (DataType::Duration(_) | DataType::Interval(_), text @ (DataType::Utf8 | DataType::Utf8View)) => {
                cast(column, text)
            }
            _ => Ok(std::sync::Arc::clone(column)),
        }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let named = columns
        .iter()
        .zip(batch.schema_ref().fields())
        .map(|(column, field)| (field.name().clone(), std::sync::Arc::clone(column)));
    if columns.is_empty() {
        return Ok(batch.clone());
    }
    RecordBatch::try_from_iter(named).map_err(failed)
}

fn names(schema: &Schema) -> Vec<&str> {
    schema.fields().iter().map(|field| field.name().as_str()).collect()
}

/// How many rows of each kind are shown.
const EXAMPLES_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DurationMicrosecondArray, Float64Array, StringArray, StringViewArray};

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).expect("columns of one length")
    }

    fn keys(keys: &[&str]) -> RecordBatch {
        batch(vec![("k", Arc::new(StringViewArray::from(keys.to_vec())))])
    }

    #[test]
    fn rows_are_counted_and_batches_are_not() {
        let expected = [keys(&["a", "b"]), keys(&["b", "c"])];
        let difference = compare(&expected, &[keys(&["b", "c", "d", "d"]), keys(&["b"])]).expect("comparable");
        assert_eq!((difference.expected, difference.found), (4, 5));
        assert_eq!((difference.missing, difference.extra), (1, 2));
        assert_eq!(difference.missing_examples, [r#"{"k":"a"}"#]);
        assert_eq!(difference.extra_examples, [r#"{"k":"d"}"#]);
        assert!(compare(&expected, &[keys(&["c", "b"]), keys(&["a", "b"])]).expect("comparable").is_none());
        assert_eq!(compare(&expected, &[]).expect("comparable").missing, 4);
    }

    #[test]
    fn what_means_the_same_looks_alike() {
        let expected = batch(vec![
            ("text", Arc::new(StringViewArray::from(vec!["x"]))),
            ("zero", Arc::new(Float64Array::from(vec![-0.0]))),
            ("time", Arc::new(DurationMicrosecondArray::from(vec![90_000_000]))),
        ]);
        let text = cast(expected.column(2), &DataType::Utf8).expect("text");
        let found = batch(vec![
            ("text", Arc::new(StringArray::from(vec!["x"]))),
            ("zero", Arc::new(Float64Array::from(vec![0.0]))),
            ("time", text),
        ]);
        assert!(compare(&[expected], &[found]).expect("comparable").is_none());
    }

    #[test]
    fn other_columns_can_not_be_compared() {
        let other = batch(vec![("j", Arc::new(StringArray::from(vec!["a"])))]);
        let error = compare(&[keys(&["a"])], &[other]).expect_err("other columns");
        assert_eq!(error.to_string(), "the columns should be `k`, and are `j`");
    }
}
