//! `within_tolerance(actual, expected, under_pct, over_pct, under_abs, over_abs)`.

use std::sync::{Arc, LazyLock};

use arrow::array::{BooleanArray, BooleanBuilder};
use arrow::datatypes::DataType;
use datafusion::common::utils::take_function_args;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::SECTION;
use super::arguments::{Call, decimal_type};
use super::exact::{DecimalArgument, Exact, Scaled};

/// Whether an actual amount is near enough to an expected one, exactly, with limits of its own for each side.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct WithinTolerance {
    signature: Signature,
}

impl WithinTolerance {
    /// The function.
    pub fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl Default for WithinTolerance {
    fn default() -> Self {
        Self::new()
    }
}

impl ScalarUDFImpl for WithinTolerance {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let given: [&DataType; 6] = take_function_args(NAME, arg_types)?;
        ARGUMENTS.iter().zip(given).map(|((name, _), given)| decimal_type(NAME, name, given)).collect()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let call = Call::<6>::new(NAME, args)?;
        call.finish(Arc::new(evaluate(&call)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&DOCUMENTATION)
    }
}

fn evaluate(call: &Call<6>) -> Result<BooleanArray> {
    let arguments = call.arguments.iter().map(DecimalArgument::new).collect::<Result<Vec<_>>>()?;
    let arguments: [DecimalArgument<'_>; 6] = take_function_args(NAME, arguments)?;
    let narrow = arguments.iter().all(DecimalArgument::is_narrow);
    let mut results = BooleanBuilder::with_capacity(call.rows);
    for row in 0..call.rows {
        let [actual, expected, ..] = &arguments;
        if actual.is_null(row) || expected.is_null(row) {
            results.append_null();
            continue;
        }
        let quick = if narrow { passes(arguments.each_ref().map(|column| column.narrow(row))) } else { None };
        let verdict = quick.or_else(|| passes(arguments.each_ref().map(|column| column.wide(row))));
        results.append_value(
            verdict.ok_or_else(|| {
                exec_datafusion_err!("{NAME}: the values have too many digits to be compared exactly")
            })?,
        );
    }
    Ok(results.finish())
}

/// The verdict on one row; none if an intermediate value overflows.
fn passes<T: Exact>(row: [Option<Scaled<T>>; 6]) -> Option<bool> {
    let [actual, expected, under_pct, over_pct, under_abs, over_abs] = row;
    let (actual, expected) = (actual?, expected?);
    let scale = actual.scale.max(expected.scale);
    let difference = actual.at(scale)?.minus(expected.at(scale)?)?;
    let zero = T::of(0);
    if difference == zero {
        return Some(true);
    }
    let (percent, absolute) = if difference < zero { (under_pct, under_abs) } else { (over_pct, over_abs) };
    let distance = Scaled { value: difference.magnitude()?, scale };
    if absolute.is_some_and(|limit| distance.positive_at_most(limit)) {
        return Some(true);
    }
    let Some(percent) = percent else { return Some(false) };
    let base = Scaled { value: expected.value.magnitude()?, scale: expected.scale };
    let hundredths = base.times(percent)?;
    Some(distance.positive_at_most(Scaled { value: hundredths.value, scale: hundredths.scale + 2 }))
}

const NAME: &str = "within_tolerance";

const ARGUMENTS: [(&str, &str); 6] = [
    ("actual", "what was found"),
    ("expected", "what it is compared with"),
    ("under_pct", "how far below `expected`, in percent of its absolute value: 5 is 5 %; null: not set"),
    ("over_pct", "how far above, in percent; null: not set"),
    ("under_abs", "how far below, in the unit of `expected`; null: not set"),
    ("over_abs", "how far above, in the unit of `expected`; null: not set"),
];

static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
    let builder = Documentation::builder(
        SECTION,
        "Whether `actual` lies near enough to `expected`. Below it the `under` limits count, above it the `over` \
         limits; a value inside either limit of its side, the bound included, passes. A null limit is not set; if \
         both of a side are null its tolerance is zero, and so it is for a limit that is negative. Equal values always \
         pass. Decimals of any precision and scale and integers are compared exactly.\n\n\
         Null if `actual` or `expected` is null.\n\n\
         Errors: a float or any other type (when planned); values whose product needs more than 76 digits.",
        "within_tolerance(actual, expected, under_pct, over_pct, under_abs, over_abs)",
    )
    .with_sql_example(
        "```sql\n> SELECT within_tolerance(95, 100, 5, null, null, null);   -- true\n\
         > SELECT within_tolerance(94.999, 100, 5, null, null, null);   -- false\n```",
    );
    ARGUMENTS.iter().fold(builder, |builder, (name, text)| builder.with_argument(*name, *text)).build()
});

#[cfg(test)]
mod tests {
    use super::super::testing::{check, check_error, on_rows};

    #[test]
    fn a_value_passes_inside_either_limit_of_its_side() {
        let cases = [
            ("100, 100, null, null, null, null", "true"),
            ("99.999, 100, null, null, null, null", "false"),
            ("100.001, 100, null, null, null, null", "false"),
            ("95, 100, 5, null, null, null", "true"),
            ("94.999, 100, 5, null, null, null", "false"),
            ("105, 100, 5, null, null, null", "false"),
            ("105, 100, null, 5, null, null", "true"),
            ("105.0000001, 100, null, 5, null, null", "false"),
            ("90, 100, 5, null, 10, null", "true"),
            ("89.9, 100, 5, null, 10, null", "false"),
            ("95, 100, 5, null, 1, null", "true"),
            ("90, 100, null, null, null, 10", "false"),
            ("110, 100, null, null, null, 10", "true"),
            ("110, 100, null, 0, null, 10", "true"),
            ("1, 0, null, 100, null, null", "false"),
            ("1, 0, null, 100, null, 1", "true"),
            ("0, 0, null, null, null, null", "true"),
            ("99, 100, -5, null, -5, null", "false"),
            ("100, 100, -5, -5, -5, -5", "true"),
            // The expected value may be negative (a stock position): percent counts from its absolute value.
            ("-105, -100, 5, null, null, null", "true"),
            ("-106, -100, 5, null, null, null", "false"),
            ("-95, -100, null, 5, null, null", "true"),
            // A third of a percent is not rounded.
            ("99.67, 100, 0.33, null, null, null", "true"),
            ("99.6699999, 100, 0.33, null, null, null", "false"),
            ("null, 100, 5, 5, 5, 5", "NULL"),
            ("100, null, 5, 5, 5, 5", "NULL"),
        ];
        for (arguments, expected) in cases {
            check(&format!("within_tolerance({arguments})"), expected);
        }
    }

    #[test]
    fn digits_at_the_limit_of_the_type_do_not_overflow() {
        let nines = "9".repeat(38);
        check(&format!("within_tolerance({nines}, {nines}, 5, 5, 5, 5)"), "true");
        check(&format!("within_tolerance({nines}, -{nines}, 5, 100, null, null)"), "false");
        check(&format!("within_tolerance({nines}, -{nines}, 5, 200, null, null)"), "true");
        check(&format!("within_tolerance({nines}, 0.{}1, 5, {nines}, null, null)", "0".repeat(37)), "false");
        check(
            &format!("within_tolerance(0.{}1, {nines}, 99.{}, null, null, null)", "0".repeat(37), "9".repeat(36)),
            "false",
        );
        check(&format!("within_tolerance(0.{}1, {nines}, 100, null, null, null)", "0".repeat(37)), "true");
        check("within_tolerance(9223372036854775807, -9223372036854775808, null, 200, null, null)", "true");
    }

    #[test]
    fn columns_and_constants_mix() {
        check(
            &on_rows(
                "within_tolerance(a, b, 10, c, null, 1)",
                "a, b, c",
                "(1.0, 1, null), (0.9, 1, null), (0.8, 1, 3), (3, 1, 200), (null, 1, 1), (3, 1, null), (2, 1, null)",
            ),
            "true,true,false,true,NULL,false,true",
        );
    }

    #[test]
    fn floats_and_wrong_counts_are_refused_when_planned() {
        check_error(
            "within_tolerance(CAST(1 AS DOUBLE), 1, 1, 1, 1, 1)",
            "`actual` of within_tolerance must be a decimal or an integer, not `Float64`",
        );
        check_error("within_tolerance(1, 1, 1, 1, 1)", "within_tolerance");
        check_error("within_tolerance('1', 1, 1, 1, 1, 1)", "`actual` of within_tolerance must be");
    }
}
