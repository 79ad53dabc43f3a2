//! `convert_uom(quantity, from_numerator, from_denominator, to_numerator, to_denominator)`.

use std::sync::{Arc, LazyLock};

use arrow::array::{Decimal128Array, Decimal128Builder};
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use datafusion::common::utils::take_function_args;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::SECTION;
use super::arguments::{Argument, Call, decimal_type};
use super::exact::{DecimalArgument, Exact, Scaled};

/// A quantity in another unit of measure, by the factors of both to a common base unit.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ConvertUom {
    signature: Signature,
}

impl ConvertUom {
    /// The function.
    pub fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl Default for ConvertUom {
    fn default() -> Self {
        Self::new()
    }
}

impl ScalarUDFImpl for ConvertUom {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(PRECISION, SCALE))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let given: [&DataType; 5] = take_function_args(NAME, arg_types)?;
        ARGUMENTS.iter().zip(given).map(|((name, _), given)| decimal_type(NAME, name, given)).collect()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let call = Call::<5>::new(NAME, args)?;
        call.finish(Arc::new(evaluate(&call)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&DOCUMENTATION)
    }
}

fn evaluate(call: &Call<5>) -> Result<Decimal128Array> {
    let columns = call.arguments.iter().map(DecimalArgument::new).collect::<Result<Vec<_>>>()?;
    let columns: [DecimalArgument<'_>; 5] = take_function_args(NAME, columns)?;
    let narrow = columns.iter().all(DecimalArgument::is_narrow);
    let mut results = Decimal128Builder::with_capacity(call.rows).with_precision_and_scale(PRECISION, SCALE)?;
    for row in 0..call.rows {
        if call.any_null(row) {
            results.append_null();
            continue;
        }
        for (position, column) in columns.iter().enumerate().skip(1) {
            if column.wide(row).is_some_and(|factor| factor.value <= Exact::of(0)) {
                return Err(not_positive(ARGUMENTS[position].0, &call.arguments[position], row));
            }
        }
        let quick = if narrow { converted(columns.each_ref().map(|column| column.narrow(row))) } else { None };
        let wide = || converted(columns.each_ref().map(|column| column.wide(row)));
        results.append_value(quick.or_else(wide).ok_or_else(|| does_not_fit(call, row))?);
    }
    Ok(results.finish())
}

/// The unscaled quantity with three digits behind the point; none if it or a product on the way does not fit.
fn converted<T: Exact>(row: [Option<Scaled<T>>; 5]) -> Option<i128> {
    let [quantity, from_numerator, from_denominator, to_numerator, to_denominator] = row;
    let dividend = quantity?.times(from_numerator?)?.times(to_denominator?)?;
    let divisor = from_denominator?.times(to_numerator?)?;
    let scale = dividend.scale.max(divisor.scale);
    let thousandths = dividend.at(scale)?.times(T::power_of_ten(RESULT_SCALE)?)?;
    let value = thousandths.divide_half_up(divisor.at(scale)?)?.narrow()?;
    (value.unsigned_abs() < LIMIT).then_some(value)
}

fn not_positive(name: &str, argument: &Argument, row: usize) -> DataFusionError {
    exec_datafusion_err!("{NAME}: `{name}` must be above zero, not `{}`", text(argument, row))
}

fn does_not_fit(call: &Call<5>, row: usize) -> DataFusionError {
    let [quantity, factors @ ..] = call.arguments.each_ref().map(|argument| text(argument, row));
    let [from_numerator, from_denominator, to_numerator, to_denominator] = factors;
    exec_datafusion_err!(
        "{NAME}: `{quantity}` at {from_numerator}/{from_denominator} to {to_numerator}/{to_denominator} does not fit \
         decimal({PRECISION}, {SCALE})"
    )
}

fn text(argument: &Argument, row: usize) -> String {
    array_value_to_string(argument.array(), argument.index(row)).unwrap_or_default()
}

const NAME: &str = "convert_uom";
const PRECISION: u8 = 18;
const SCALE: i8 = 3;
const RESULT_SCALE: u32 = 3;
const LIMIT: u128 = 10u128.pow(18);

const ARGUMENTS: [(&str, &str); 5] = [
    ("quantity", "the quantity in the unit it is given in"),
    ("from_numerator", "one of that unit is `from_numerator / from_denominator` of the base unit"),
    ("from_denominator", "see `from_numerator`"),
    ("to_numerator", "one of the unit wanted is `to_numerator / to_denominator` of the base unit; 1 for the base unit"),
    ("to_denominator", "see `to_numerator`; 1 for the base unit"),
];

static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
    let builder = Documentation::builder(
        SECTION,
        "The quantity in another unit of measure, as decimal(18,3): quantity × (from_numerator / from_denominator) / \
         (to_numerator / to_denominator), where both factors lead to the item's base unit. It is computed exactly and \
         rounded once, at the end, half away from zero to three digits: 10 pieces of 3 a pack are 3.333 packs. The \
         quantity may be negative.\n\n\
         Null if any argument is null, so that a unit without factors gives no quantity rather than a wrong one.\n\n\
         Errors: a factor that is zero or negative; a result that does not fit decimal(18,3); products of more than \
         76 digits; a float (when planned).",
        "convert_uom(quantity, from_numerator, from_denominator, to_numerator, to_denominator)",
    )
    .with_sql_example(
        "```sql\n> SELECT convert_uom(3, 12, 1, 1, 1);   -- 36.000: three cartons of twelve, in pieces\n\
         > SELECT convert_uom(30, 1, 1, 12, 1);   -- 2.500: thirty pieces, in cartons of twelve\n```",
    );
    ARGUMENTS.iter().fold(builder, |builder, (name, text)| builder.with_argument(*name, *text)).build()
});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{check, check_error, on_rows};
    use super::*;

    #[test]
    fn a_quantity_goes_by_the_base_unit_into_the_one_wanted() {
        let cases = [
            ("3, 12, 1, 1, 1", "36.000"),
            ("30, 1, 1, 12, 1", "2.500"),
            ("5, 12, 1, 36, 1", "1.667"),
            ("2.5, 1000, 125, 1, 1", "20.000"),
            ("20, 1, 1, 1000, 125", "2.500"),
            ("1, 1, 3, 1, 3", "1.000"),
            ("-3, 12, 1, 1, 1", "-36.000"),
            ("0, 12, 1, 1, 1", "0.000"),
            ("1.005, 0.5, 0.25, 1, 1", "2.010"),
            ("3, 1, 0.001, 1, 1", "3000.000"),
            ("1, 1, 1, 0.001, 1", "1000.000"),
            ("1, 1, 1, 1, 0.001", "0.001"),
            ("null, 12, 1, 1, 1", "NULL"),
            ("3, null, 1, 1, 1", "NULL"),
            ("3, 12, null, 1, 1", "NULL"),
            ("3, 12, 1, null, 1", "NULL"),
            ("3, 12, 1, 1, null", "NULL"),
            ("null, 0, 1, 1, 1", "NULL"),
        ];
        for (arguments, expected) in cases {
            check(&format!("convert_uom({arguments})"), expected);
        }
    }

    #[test]
    fn only_the_result_is_rounded_and_half_goes_away_from_zero() {
        let cases = [
            ("10, 1, 1, 3, 1", "3.333"),
            ("20, 1, 1, 3, 1", "6.667"),
            ("-20, 1, 1, 3, 1", "-6.667"),
            ("0.001, 1, 2, 1, 1", "0.001"),
            ("-0.001, 1, 2, 1, 1", "-0.001"),
            ("0.001, 499, 1000, 1, 1", "0.000"),
            // A third of a third of nine: a factor rounded on the way would leave 0.999.
            ("9, 1, 3, 3, 1", "1.000"),
        ];
        for (arguments, expected) in cases {
            check(&format!("convert_uom({arguments})"), expected);
        }
    }

    #[test]
    fn digits_on_the_way_may_exceed_those_of_the_result() {
        let (nines, factor) = ("999999999999999.999", "9".repeat(30));
        check(&format!("convert_uom({nines}, {factor}, {factor}, 1, 1)"), nines);
        check(&format!("convert_uom(-{nines}, 1, 1, {factor}, {factor})"), "-999999999999999.999");
        check(&format!("convert_uom(1, 1, {}, 1, 1)", "9".repeat(38)), "0.000");
    }

    #[test]
    fn what_does_not_fit_and_factors_that_are_none_are_errors() {
        check_error("convert_uom(999999999999999, 2, 1, 1, 1)", "does not fit decimal(18, 3)");
        check_error("convert_uom(999999999999999.9995, 1, 1, 1, 1)", "at 1/1 to 1/1 does not fit decimal(18, 3)");
        check_error("convert_uom(1, 0, 1, 1, 1)", "`from_numerator` must be above zero, not `0`");
        check_error("convert_uom(1, 1, 0, 1, 1)", "`from_denominator` must be above zero");
        check_error("convert_uom(1, 1, 1, -2.5, 1)", "`to_numerator` must be above zero, not `-2.5`");
        check_error("convert_uom(1, 1, 1, 1, 0.0)", "`to_denominator` must be above zero");
        check_error("convert_uom(CAST(1 AS DOUBLE), 1, 1, 1, 1)", "`quantity` of convert_uom must be a decimal");
        check_error("convert_uom(1, '1', 1, 1, 1)", "`from_numerator` of convert_uom must be a decimal");
        check_error("convert_uom(1, 1, 1)", "convert_uom");
    }

    #[test]
    fn columns_and_constants_mix() {
        let rows = "(3, 12, 1), (-1.5, 10, 4), (null, 1, 1), (2, null, 1)";
        check(&on_rows("convert_uom(a, b, c, 1, 1)", "a, b, c", rows), "36.000,-3.750,NULL,NULL");
        check(&on_rows("convert_uom(12, 1, 1, b, 1)", "a, b, c", rows), "1.000,1.200,12.000,NULL");
    }

    proptest! {
        /// Into a unit and back is the quantity again where the way there needs no rounding; 128 and 256 bits agree.
        #[test]
        fn there_and_back_is_the_same(quantity in -1_000_000i128..1_000_000, numerator in 1i128..1_000, denominator in 1i128..1_000) {
            let scaled = |value, scale| Some(Scaled { value, scale });
            let there = converted([scaled(quantity * denominator, 0), scaled(numerator, 0), scaled(denominator, 0), scaled(1, 0), scaled(1, 0)]);
            prop_assert_eq!(there, Some(quantity * numerator * 1_000));
            let back = converted([scaled(quantity * numerator, 0), scaled(1, 0), scaled(1, 0), scaled(numerator, 0), scaled(denominator, 0)]);
            prop_assert_eq!(back, Some(quantity * denominator * 1_000));
            let wide = |value: i128| Some(Scaled { value: arrow::datatypes::i256::from_i128(value), scale: 1 });
            let narrow = converted([quantity, numerator, denominator, 7, 3].map(|value| scaled(value, 1)));
            prop_assert_eq!(narrow, converted([quantity, numerator, denominator, 7, 3].map(wide)));
        }
    }
}
