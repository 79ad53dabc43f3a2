//! `sla_deadline(ts, cutoff, closes_at, time_zone, working_days, holidays, days)`.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, ListArray, PrimitiveArray, TimestampMicrosecondArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Field, Int64Type, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use chrono_tz::Tz;
use datafusion::common::utils::take_function_args;
use datafusion::common::{Result, exec_datafusion_err, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use hashbrown::HashMap;

use super::SECTION;
use super::arguments::{Argument, Call, text_type, within};
use super::calendar::{Calendar, DAY, FREE_DAYS_MAX, instant, local_day};
use super::zones::Zones;
use crate::definition::contract::utc_timestamp;

/// Until when something that was released must have left its site.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SlaDeadline {
    signature: Signature,
}

impl SlaDeadline {
    /// The function.
    pub fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl Default for SlaDeadline {
    fn default() -> Self {
        Self::new()
    }
}

impl ScalarUDFImpl for SlaDeadline {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(utc_timestamp())
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [ts, cutoff, closes_at, time_zone, working_days, holidays, days] = take_function_args(NAME, arg_types)?;
        Ok(vec![
            scalar_type("ts", ts, utc_timestamp(), |given| matches!(given, DataType::Timestamp(..)))?,
            time_type("cutoff", cutoff)?,
            time_type("closes_at", closes_at)?,
            text_type(NAME, "time_zone", time_zone)?,
            list_type("working_days", working_days, DataType::Int64)?,
            list_type("holidays", holidays, DataType::Date32)?,
            scalar_type("days", days, DataType::Int64, DataType::is_integer)?,
        ])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let call = Call::<7>::new(NAME, args)?;
        let results = evaluate(&call)?;
        call.finish(Arc::new(results.with_timezone("UTC")))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&DOCUMENTATION)
    }
}

fn time_type(argument: &str, given: &DataType) -> Result<DataType> {
    scalar_type(argument, given, DataType::Time64(TimeUnit::Microsecond), |given| {
        matches!(given, DataType::Time32(_) | DataType::Time64(_))
    })
}

fn scalar_type(
    argument: &str,
    given: &DataType,
    wanted: DataType,
    is_kin: impl Fn(&DataType) -> bool,
) -> Result<DataType> {
    match given {
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(wanted),
        given if is_kin(given) => Ok(wanted),
        other => plan_err!("`{argument}` of {NAME} must be `{wanted}`, not `{other}`"),
    }
}

fn list_type(argument: &str, given: &DataType, element: DataType) -> Result<DataType> {
    let is_kin = match given {
        DataType::Null => true,
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            let given = field.data_type();
            let text = matches!(given, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
            match element {
                DataType::Int64 => given.is_null() || given.is_integer(),
                _ => given.is_null() || text || *given == element,
            }
        }
        _ => false,
    };
    if !is_kin {
        return plan_err!("`{argument}` of {NAME} must be a list of `{element}`, not `{given}`");
    }
    Ok(DataType::List(Arc::new(Field::new_list_field(element, true))))
}

fn evaluate(call: &Call<7>) -> Result<TimestampMicrosecondArray> {
    let [ts, cutoff, closes_at, time_zone, working_days, holidays, days] = &call.arguments;
    let released = ts.primitives::<TimestampMicrosecondType>()?;
    let cutoffs = cutoff.primitives::<Time64MicrosecondType>()?;
    let closings = closes_at.primitives::<Time64MicrosecondType>()?;
    let counts = days.primitives::<Int64Type>()?;
    let mut zones = Zones::new(NAME, time_zone.strings()?);
    let working_days = Lists::<Int64Type>::new("working_days", working_days)?;
    let holidays = Lists::<Date32Type>::new("holidays", holidays)?;
    let mut sorted: HashMap<&[i32], Vec<i32>> = HashMap::new();

    let mut results = TimestampMicrosecondArray::builder(call.rows);
    for row in 0..call.rows {
        if call.any_null(row) {
            results.append_null();
            continue;
        }
        let free = holidays.row(row)?;
        let free = if free.is_sorted() { free } else { sorted.entry(free).or_insert_with(|| sort(free)).as_slice() };
        let site = Site {
            zone: zones.get(time_zone.index(row))?,
            cutoff: within(NAME, "cutoff", cutoffs.value(cutoff.index(row)), 0, DAY - 1)?,
            closes_at: within(NAME, "closes_at", closings.value(closes_at.index(row)), 0, DAY - 1)?,
            calendar: Calendar { weekdays: weekdays(working_days.row(row)?)?, holidays: free },
        };
        let count = within(NAME, "days", counts.value(days.index(row)), 0, DAYS_MAX)?;
        results.append_value(site.deadline(released.value(ts.index(row)), count)?);
    }
    Ok(results.finish())
}

/// What one row says of its site.
struct Site<'a> {
    zone: Tz,
    cutoff: i64,
    closes_at: i64,
    calendar: Calendar<'a>,
}

impl Site<'_> {
    fn deadline(&self, released: i64, days: i64) -> Result<i64> {
        let out_of_range = || exec_datafusion_err!("{NAME}: `{released}` µs lies outside the years 1 to 9999");
        let free = || exec_datafusion_err!("{NAME}: no working day within {FREE_DAYS_MAX} days");
        let day = local_day(self.zone, released).ok_or_else(out_of_range)?;
        let cutoff = instant(self.zone, day, self.cutoff).ok_or_else(out_of_range)?;
        let start = if released < cutoff { day } else { day + 1 };
        let first = self.calendar.at_or_after(start).ok_or_else(free)?;
        let last = self.calendar.add(first, days).ok_or_else(free)?;
        instant(self.zone, last, self.closes_at).ok_or_else(out_of_range)
    }
}

/// A column of lists, seen as slices of their elements.
struct Lists<'a, T: ArrowPrimitiveType> {
    name: &'static str,
    argument: &'a Argument,
    lists: &'a ListArray,
    elements: &'a PrimitiveArray<T>,
}

impl<'a, T: ArrowPrimitiveType> Lists<'a, T> {
    fn new(name: &'static str, argument: &'a Argument) -> Result<Self> {
        let lists = argument.array().as_list_opt::<i32>().ok_or_else(|| argument.uncoerced())?;
        let elements = lists.values().as_primitive_opt::<T>().ok_or_else(|| argument.uncoerced())?;
        Ok(Self { name, argument, lists, elements })
    }

    fn row(&self, row: usize) -> Result<&'a [T::Native]> {
        let index = self.argument.index(row);
        let offsets = self.lists.value_offsets();
        let (start, end) = (offsets[index] as usize, offsets[index + 1] as usize);
        if self.elements.null_count() > 0 && (start..end).any(|element| self.elements.is_null(element)) {
            return exec_err!("{NAME}: `{}` holds a null", self.name);
        }
        Ok(&self.elements.values()[start..end])
    }
}

fn weekdays(days: &[i64]) -> Result<u8> {
    if days.is_empty() {
        return exec_err!("{NAME}: `working_days` is empty");
    }
    days.iter().try_fold(0, |mask, day| Ok(mask | 1 << (within(NAME, "working_days", *day, 1, 7)? - 1)))
}

fn sort(days: &[i32]) -> Vec<i32> {
    let mut days = days.to_vec();
    days.sort_unstable();
    days
}

const NAME: &str = "sla_deadline";

/// Ten years.
const DAYS_MAX: i64 = 3660;

const ARGUMENTS: [(&str, &str); 7] = [
    ("ts", "when it was released; a timestamp without a zone is taken as UTC"),
    ("cutoff", "the local time of day before which the day of release still counts"),
    ("closes_at", "the local time of day at which the deadline passes"),
    ("time_zone", "the site's zone in the IANA database, such as `Europe/Berlin`"),
    ("working_days", "a list of ISO weekdays, 1 (Monday) to 7 (Sunday), not empty"),
    ("holidays", "a list of dates that are no working days; may be empty"),
    ("days", "how many working days, 0 to 3660"),
];

static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
    let builder = Documentation::builder(
        SECTION,
        "The deadline of what was released at `ts`, in the local time of a site. Released before the cut-off, days are \
         counted from that day; at or after it, from the next. The first working day at or after the day counted from \
         is day 0, so 0 days is the same day, at closing; the deadline is `closes_at` on working day `days`. A local \
         time that is skipped when clocks go forward moves forward by as much; of one that comes twice the first \
         counts; both hold for the cut-off too.\n\n\
         Null if any argument is null: write `[]` where there are no holidays.\n\n\
         Errors: an unknown time zone, an empty list of working days, a weekday other than 1 to 7, a null in a list, \
         days below 0 or above 3660, no working day for 366 days, an instant outside the years 1 to 9999.",
        "sla_deadline(ts, cutoff, closes_at, time_zone, working_days, holidays, days)",
    )
    .with_sql_example(
        "```sql\n> SELECT sla_deadline('2026-03-27T13:30:00Z', '14:00', '18:00', 'Europe/Berlin', [1,2,3,4,5], [], 1);\n\
         -- 14:30 in Berlin is past the cut-off, so Monday is day 0: 2026-03-31T16:00:00Z\n```",
    );
    ARGUMENTS.iter().fold(builder, |builder, (name, text)| builder.with_argument(*name, *text)).build()
});

#[cfg(test)]
mod tests {
    use super::super::testing::{check, check_error, on_rows};

    const WEEK: &str = "[1,2,3,4,5]";

    /// Cut-off 14:00, closing 18:00.
    fn deadline(released: &str, zone: &str, holidays: &str, days: u32, expected: &str) {
        let call = format!("sla_deadline('{released}', '14:00', '18:00', '{zone}', {WEEK}, {holidays}, {days})");
        check(&call, expected);
    }

    #[test]
    fn days_are_counted_from_the_day_of_release_before_the_cut_off_and_from_the_next_after_it() {
        let berlin = "Europe/Berlin";
        let cases = [
            // Wednesday 2026-01-14, 13:59:59 and 14:00 in Berlin.
            ("2026-01-14T12:59:59Z", "[]", 0, "2026-01-14T17:00:00Z"),
            ("2026-01-14T13:00:00Z", "[]", 0, "2026-01-15T17:00:00Z"),
            ("2026-01-14T12:59:59Z", "[]", 1, "2026-01-15T17:00:00Z"),
            ("2026-01-14T12:59:59Z", "[]", 5, "2026-01-21T17:00:00Z"),
            ("2026-01-14T13:00:00Z", "[]", 5, "2026-01-22T17:00:00Z"),
            // Friday after the cut-off, Saturday and Sunday all roll to Monday.
            ("2026-01-16T13:00:00Z", "[]", 0, "2026-01-19T17:00:00Z"),
            ("2026-01-17T08:00:00Z", "[]", 0, "2026-01-19T17:00:00Z"),
            ("2026-01-18T22:30:00Z", "[]", 0, "2026-01-19T17:00:00Z"),
            ("2026-01-17T08:00:00Z", "[]", 1, "2026-01-20T17:00:00Z"),
            // 23:30 UTC on Sunday is Monday in Berlin.
            ("2026-01-18T23:30:00Z", "[]", 1, "2026-01-20T17:00:00Z"),
            // Holidays, in any order; one on a weekend changes nothing.
            ("2026-12-23T10:00:00Z", "['2026-12-26', '2026-12-25', '2026-12-24']", 0, "2026-12-23T17:00:00Z"),
            ("2026-12-23T10:00:00Z", "['2026-12-26', '2026-12-25', '2026-12-24']", 1, "2026-12-28T17:00:00Z"),
            ("2026-12-23T13:00:00Z", "['2026-12-24', '2026-12-25']", 0, "2026-12-28T17:00:00Z"),
            // Over the change of the clocks: Friday 15:00 UTC+1 to Monday 18:00 UTC+2.
            ("2026-03-27T13:30:00Z", "[]", 0, "2026-03-30T16:00:00Z"),
            ("2026-03-27T12:30:00Z", "[]", 1, "2026-03-30T16:00:00Z"),
            ("2026-10-23T11:30:00Z", "[]", 1, "2026-10-26T17:00:00Z"),
        ];
        for (released, holidays, days, expected) in cases {
            deadline(released, berlin, holidays, days, expected);
        }
        // Chicago: 13:59 and 14:00 CST; clocks go forward on Sunday 2026-03-08, back on Sunday 2026-11-01.
        deadline("2026-03-06T19:59:00Z", "America/Chicago", "[]", 1, "2026-03-09T23:00:00Z");
        deadline("2026-03-06T20:00:00Z", "America/Chicago", "[]", 1, "2026-03-10T23:00:00Z");
        deadline("2026-10-30T18:59:00Z", "America/Chicago", "[]", 1, "2026-11-03T00:00:00Z");
    }

    #[test]
    fn a_cut_off_or_closing_in_a_skipped_or_repeated_hour_counts_once() {
        // Sunday 2026-03-29: 02:30 is skipped and moves to 03:30, 01:30Z.
        let call = |released: &str, cutoff: &str, closes_at: &str| {
            format!("sla_deadline('{released}', '{cutoff}', '{closes_at}', 'Europe/Berlin', [1,2,3,4,5,6,7], [], 0)")
        };
        let cases = [
            ("2026-03-29T01:29:59Z", "02:30", "04:00", "2026-03-29T02:00:00Z"),
            ("2026-03-29T01:30:00Z", "02:30", "04:00", "2026-03-30T02:00:00Z"),
            ("2026-03-28T20:00:00Z", "02:00", "02:30", "2026-03-29T01:30:00Z"),
            // Sunday 2026-10-25: 02:30 comes at 00:30Z and at 01:30Z; the second time lies behind the first.
            ("2026-10-25T00:29:59Z", "02:30", "04:00", "2026-10-25T03:00:00Z"),
            ("2026-10-25T00:30:00Z", "02:30", "04:00", "2026-10-26T03:00:00Z"),
            ("2026-10-25T01:15:00Z", "02:30", "04:00", "2026-10-26T03:00:00Z"),
            ("2026-10-24T20:00:00Z", "02:00", "02:30", "2026-10-25T00:30:00Z"),
        ];
        for (released, cutoff, closes_at, expected) in cases {
            check(&call(released, cutoff, closes_at), expected);
        }
    }

    #[test]
    fn columns_and_constants_mix() {
        let rows = "('2026-01-14T12:59:59Z', 'Europe/Berlin', [1,2,3,4,5], ['2026-01-15'], 1), \
                    ('2026-01-14T12:59:59Z', 'America/Chicago', [1,2,3,4,5], ['2026-01-15'], 1), \
                    (null, 'Europe/Berlin', [3], [], 1), \
                    ('2026-01-14T12:59:59Z', 'Europe/Berlin', [3], [], 1), \
                    ('2026-01-14T12:59:59Z', 'Europe/Berlin', null, [], 1), \
                    ('2026-01-14T12:59:59Z', 'Europe/Berlin', [1,2,3,4,5], [], 0)";
        check(
            &on_rows(
                "sla_deadline(arrow_cast(a, 'Timestamp(µs, \"UTC\")'), '14:00', '18:00', arrow_cast(b, 'Utf8View'), \
                 c, d, e)",
                "a, b, c, d, e",
                rows,
            ),
            "2026-01-16T17:00:00Z,2026-01-17T00:00:00Z,NULL,2026-01-21T17:00:00Z,NULL,2026-01-14T17:00:00Z",
        );
        for argument in 0..7 {
            let mut arguments =
                ["'2026-01-14T12:59:59Z'", "'14:00'", "'18:00'", "'Europe/Berlin'", WEEK, "[]", "1"].map(str::to_owned);
            arguments[argument] = "null".to_owned();
            check(&format!("sla_deadline({})", arguments.join(", ")), "NULL");
        }
    }

    #[test]
    fn calendars_that_make_no_sense_are_errors() {
        let cases = [
            ("'Europe/Berlni', [1], [], 1", "`Europe/Berlni` is not a time zone of the IANA database"),
            ("'Europe/Berlin', [], [], 1", "`working_days` is empty"),
            ("'Europe/Berlin', [0], [], 1", "`working_days` must lie between 1 and 7, not `0`"),
            ("'Europe/Berlin', [8], [], 1", "`working_days` must lie between 1 and 7, not `8`"),
            ("'Europe/Berlin', [1, null], [], 1", "`working_days` holds a null"),
            ("'Europe/Berlin', [1], [null], 1", "`holidays` holds a null"),
            ("'Europe/Berlin', [1], [], -1", "`days` must lie between 0 and 3660, not `-1`"),
            ("'Europe/Berlin', [1], [], 3661", "`days` must lie between 0 and 3660, not `3661`"),
            (
                "'Europe/Berlin', [3], generate_series(DATE '2026-01-01', DATE '2027-12-31', INTERVAL '1' DAY), 0",
                "no working day within 366 days",
            ),
            ("'Europe/Berlin', ['Monday'], [], 1", "`working_days` of sla_deadline must be a list of `Int64`"),
            ("'Europe/Berlin', [1], 5, 1", "`holidays` of sla_deadline must be a list of `Date32`"),
            ("'Europe/Berlin', [1], [], 1.5", "`days` of sla_deadline must be `Int64`"),
        ];
        for (arguments, expected) in cases {
            check_error(&format!("sla_deadline('2026-01-14T12:00:00Z', '14:00', '18:00', {arguments})"), expected);
        }
    }

    #[test]
    fn the_longest_count_ends() {
        deadline("2026-01-14T12:00:00Z", "Europe/Berlin", "[]", 3660, "2040-01-25T17:00:00Z");
    }
}
