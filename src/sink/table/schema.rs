//! Which columns a Parquet table can hold so that every reader sees the same values.

use arrow::datatypes::{DataType, Schema, TimeUnit};

use crate::error::{Error, ErrorKind, Result};

/// A column that no Parquet table can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// The column's name; empty if the table has no columns at all.
    pub column: String,
    /// What is wrong: lower case, values in backticks.
    pub message: String,
    /// What would be right.
    pub help: String,
}

/// All columns that a table of this schema could not hold, in their order; empty if it can be written.
pub fn unsupported(schema: &Schema) -> Vec<Unsupported> {
    let mut problems = Vec::new();
    if schema.fields().is_empty() {
        problems.push(Unsupported {
            column: String::new(),
            message: "a table needs at least one column".to_owned(),
            help: "name the columns in the SELECT".to_owned(),
        });
    }
    for (index, field) in schema.fields().iter().enumerate() {
        let column = field.name();
        if schema.fields().iter().take(index).any(|other| other.name() == column) {
            problems.push(Unsupported {
                column: column.clone(),
                message: format!("column `{column}` occurs twice"),
                help: "give each column a name of its own with `AS`".to_owned(),
            });
        }
        if let Some((wrong, help)) = reason(field.data_type()) {
            problems.push(Unsupported {
                column: column.clone(),
                message: format!("column `{column}` is `{}`: {wrong}", field.data_type()),
                help: help.to_owned(),
            });
        }
    }
    problems
}

/// The same as one error.
///
/// # Errors
///
/// Kind `Definition`, naming every column that a table can't hold.
pub fn check_schema(schema: &Schema) -> Result<()> {
    let problems = unsupported(schema);
    if problems.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = problems.iter().map(|problem| format!("{} ({})", problem.message, problem.help)).collect();
    Err(Error::new(ErrorKind::Definition, format!("a Parquet table cannot hold this: {}", texts.join("; "))))
}

fn reason(data_type: &DataType) -> Option<(&'static str, &'static str)> {
    match data_type {
        DataType::Interval(_) => {
            Some(("Parquet has no calendar durations that readers agree on", "publish the two instants, or a number"))
        }
        DataType::Duration(_) => Some((
            "Parquet has no durations; some readers would see a bare number without its unit",
            "publish a number with the unit in its name, such as `date_part('epoch', b) - date_part('epoch', a)`",
        )),
        DataType::Null => Some(("it has no type", "cast it, as in `CAST(NULL AS VARCHAR)`")),
        DataType::Timestamp(TimeUnit::Second, _) | DataType::Date64 => {
            Some(("Parquet has no such unit", "cast it to microseconds or to a date"))
        }
        DataType::Time32(TimeUnit::Second) => Some(("Parquet has no such unit", "cast it to `TIME`")),
        DataType::Float16 => Some(("not every reader knows it", "cast it to `REAL`")),
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale)
            if *scale < 0 =>
        {
            Some(("Parquet has no negative scale", "cast it to a decimal of scale 0 or more"))
        }
        DataType::Decimal256(precision, scale) if *precision > 38 || *scale < 0 => {
            Some(("readers hold at most 38 digits", "cast it to a decimal of at most 38 digits"))
        }
        DataType::Union(..) | DataType::RunEndEncoded(..) | DataType::ListView(_) | DataType::LargeListView(_) => {
            Some(("Parquet has no such type", "cast it, or publish its parts as columns"))
        }
        DataType::Struct(fields) if fields.is_empty() => Some(("it has no fields", "leave it out")),
        DataType::Struct(fields) => fields.iter().find_map(|field| reason(field.data_type())),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => reason(field.data_type()),
        DataType::Dictionary(_, value) => reason(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, Fields, IntervalUnit};

    use super::*;
    use crate::definition::contract::utc_timestamp;

    fn check(data_type: DataType, expected: Option<&str>) {
        let schema = Schema::new(vec![Field::new("c", data_type.clone(), true)]);
        let found = unsupported(&schema);
        match expected {
            None => assert_eq!(found, vec![], "{data_type}"),
            Some(text) => {
                assert_eq!(found.len(), 1, "{data_type}");
                assert_eq!(found[0].column, "c");
                assert!(found[0].message.contains(text), "{}", found[0].message);
                let error = check_schema(&schema).expect_err("refused");
                assert_eq!(error.kind(), ErrorKind::Definition);
                assert!(error.to_string().contains("column `c`"), "{error}");
            }
        }
    }

    #[test]
    fn types_without_a_parquet_form_are_refused_wherever_they_stand() {
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        let nested = DataType::Struct(Fields::from(vec![Field::new("x", interval.clone(), true)]));
        check(interval.clone(), Some("calendar durations"));
        check(DataType::List(Arc::new(Field::new_list_field(interval, true))), Some("calendar durations"));
        check(nested, Some("calendar durations"));
        check(DataType::Duration(TimeUnit::Microsecond), Some("durations"));
        check(DataType::Null, Some("no type"));
        check(DataType::Timestamp(TimeUnit::Second, None), Some("no such unit"));
        check(DataType::Decimal256(39, 2), Some("38 digits"));
        check(DataType::Decimal128(10, -2), Some("negative scale"));
        check(DataType::Struct(Fields::empty()), Some("no fields"));
    }

    #[test]
    fn types_of_contracts_and_of_sql_are_held() {
        let held = [
            DataType::Utf8View,
            DataType::Utf8,
            DataType::Boolean,
            DataType::Int64,
            DataType::UInt64,
            DataType::Float64,
            DataType::Decimal128(38, 3),
            utc_timestamp(),
            DataType::Date32,
            DataType::Time64(TimeUnit::Microsecond),
            DataType::List(Arc::new(Field::new_list_field(DataType::Utf8View, true))),
        ];
        for data_type in held {
            check(data_type, None);
        }
    }

    #[test]
    fn a_column_twice_or_none_at_all_is_refused() {
        let field = || Field::new("a", DataType::Int64, true);
        assert_eq!(unsupported(&Schema::new(vec![field(), field()]))[0].message, "column `a` occurs twice");
        assert_eq!(unsupported(&Schema::empty())[0].message, "a table needs at least one column");
    }
}
