//! `local_date(ts, time_zone)`.

use std::sync::{Arc, LazyLock};

use arrow::array::Date32Array;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::utils::take_function_args;
use datafusion::common::{Result, exec_datafusion_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use crate::definition::contract::utc_timestamp;

use super::SECTION;
use super::arguments::{Call, text_type};
use super::calendar::local_day;
use super::zones::Zones;

/// The day that the calendar on the wall shows.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct LocalDate {
    signature: Signature,
}

impl LocalDate {
    /// The function.
    pub fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl Default for LocalDate {
    fn default() -> Self {
        Self::new()
    }
}

impl ScalarUDFImpl for LocalDate {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Date32)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [ts, time_zone] = take_function_args(NAME, arg_types)?;
        let ts = match ts {
            DataType::Null | DataType::Timestamp(..) | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                utc_timestamp()
            }
            other => return plan_err!("`ts` of {NAME} must be a timestamp, not `{other}`"),
        };
        Ok(vec![ts, text_type(NAME, "time_zone", time_zone)?])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let call = Call::<2>::new(NAME, args)?;
        call.finish(Arc::new(evaluate(&call)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&DOCUMENTATION)
    }
}

fn evaluate(call: &Call<2>) -> Result<Date32Array> {
    let [ts, time_zone] = &call.arguments;
    let instants = ts.primitives::<TimestampMicrosecondType>()?;
    let mut zones = Zones::new(NAME, time_zone.strings()?);
    let mut days = Date32Array::builder(call.rows);
    for row in 0..call.rows {
        if call.any_null(row) {
            days.append_null();
            continue;
        }
        let zone = zones.get(time_zone.index(row))?;
        let instant = instants.value(ts.index(row));
        let day = local_day(zone, instant).and_then(|day| i32::try_from(day).ok());
        days.append_value(day.ok_or_else(|| exec_datafusion_err!("{NAME}: `{instant}` µs lies outside the calendar"))?);
    }
    Ok(days.finish())
}

const NAME: &str = "local_date";

static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
    Documentation::builder(
        SECTION,
        "The date on which an instant falls by the clocks of a time zone, daylight saving time included.\n\n\
         Null if an argument is null.\n\n\
         Errors: a name that is not in the IANA database, an instant outside the calendar.",
        "local_date(ts, time_zone)",
    )
    .with_sql_example("```sql\n> SELECT local_date('2024-03-30T23:30:00Z', 'Europe/Berlin');   -- 2024-03-31\n```")
    .with_argument("ts", "an instant")
    .with_argument("time_zone", "an IANA name such as `Europe/Berlin`")
    .build()
});

#[cfg(test)]
mod tests {
    use super::super::testing::{check, check_error, on_rows};

    #[test]
    fn the_date_is_that_of_the_clocks_on_the_wall() {
        let cases = [
            ("'2024-03-30T23:30:00Z', 'Europe/Berlin'", "2024-03-31"),
            ("'2024-03-31T22:00:00Z', 'Europe/Berlin'", "2024-04-01"),
            ("'2024-03-31T21:59:59.999999Z', 'Europe/Berlin'", "2024-03-31"),
            ("'2024-01-01T05:59:59Z', 'America/Chicago'", "2023-12-31"),
            ("'2024-01-01T10:30:00Z', 'Pacific/Kiritimati'", "2024-01-02"),
            ("'1969-12-31T23:59:59Z', 'UTC'", "1969-12-31"),
            ("null, 'UTC'", "NULL"),
            ("'2024-01-01T00:00:00Z', null", "NULL"),
        ];
        for (arguments, expected) in cases {
            check(&format!("local_date({arguments})"), expected);
        }
    }

    #[test]
    fn every_row_has_its_own_zone_and_unknown_ones_are_errors() {
        let rows = "('Europe/Berlin'), ('America/Chicago'), (null)";
        check(&on_rows("local_date('2024-01-01T23:30:00Z', a)", "a", rows), "2024-01-02,2024-01-01,NULL");
        check_error("local_date('2024-01-01T00:00:00Z', 'Berlin')", "`Berlin` is not a time zone");
        check_error("local_date(1, 'UTC')", "`ts` of local_date must be a timestamp");
    }
}
