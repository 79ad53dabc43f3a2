//! `round_money(amount, currency)`.

use std::sync::{Arc, LazyLock};

use arrow::array::{Decimal128Array, Decimal128Builder};
use arrow::datatypes::DataType;
use datafusion::common::utils::take_function_args;
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::SECTION;
use super::arguments::{Call, decimal_type, text_type};
use super::exact::{DecimalArgument, Exact, Scaled};

/// An amount of money, rounded half up to what the currency can be paid in.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct RoundMoney {
    signature: Signature,
}

impl RoundMoney {
    /// The function.
    pub fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl Default for RoundMoney {
    fn default() -> Self {
        Self::new()
    }
}

impl ScalarUDFImpl for RoundMoney {
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
        let [amount, currency] = take_function_args(NAME, arg_types)?;
        Ok(vec![decimal_type(NAME, "amount", amount)?, text_type(NAME, "currency", currency)?])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let call = Call::<2>::new(NAME, args)?;
        call.finish(Arc::new(evaluate(&call)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&DOCUMENTATION)
    }
}

fn evaluate(call: &Call<2>) -> Result<Decimal128Array> {
    let [amount, currency] = &call.arguments;
    let amounts = DecimalArgument::new(amount)?;
    let currencies = currency.strings()?;
    let mut results = Decimal128Builder::with_capacity(call.rows).with_precision_and_scale(PRECISION, SCALE)?;
    for row in 0..call.rows {
        if call.any_null(row) {
            results.append_null();
            continue;
        }
        let currency = currencies.value(currency.index(row));
        let digits = minor_unit(currency)?;
        let rounded = match amounts.narrow(row) {
            Some(amount) => rounded(amount, digits),
            None => amounts.wide(row).and_then(|amount| rounded(amount, digits)),
        };
        results.append_value(rounded.ok_or_else(|| {
            let amount = arrow::util::display::array_value_to_string(amount.array(), amount.index(row));
            let amount = amount.unwrap_or_default();
            exec_datafusion_err!("{NAME}: `{amount}` {currency} does not fit decimal({PRECISION}, {SCALE})")
        })?);
    }
    Ok(results.finish())
}

/// The amount at three digits behind the point, after it was rounded to `digits`; none if it does not fit.
fn rounded<T: Exact>(amount: Scaled<T>, digits: u32) -> Option<i128> {
    let at_most = Scaled { value: half_up(amount, digits)?, scale: digits.min(amount.scale) };
    let (value, dropped) = match at_most.scale.checked_sub(RESULT_SCALE) {
        None | Some(0) => (at_most.at(RESULT_SCALE)?, T::of(0)),
        Some(more) => at_most.value.divide(T::power_of_ten(more)?)?,
    };
    let value = value.narrow()?;
    (dropped == T::of(0) && value.unsigned_abs() < LIMIT).then_some(value)
}

/// The unscaled value at `digits` behind the point, or at the amount's own scale if that is smaller.
fn half_up<T: Exact>(amount: Scaled<T>, digits: u32) -> Option<T> {
    let Some(extra @ 1..) = amount.scale.checked_sub(digits) else { return Some(amount.value) };
    amount.value.divide_half_up(T::power_of_ten(extra)?)
}

/// How many digits behind the point the currency has in ISO 4217.
fn minor_unit(currency: &str) -> Result<u32> {
    if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return exec_err!("{NAME}: `{}` is not a currency code of three letters A to Z", currency.escape_debug());
    }
    Ok(EXCEPTIONS.iter().find(|(_, codes)| codes.contains(&currency)).map_or(2, |(digits, _)| *digits))
}

const NAME: &str = "round_money";
const PRECISION: u8 = 18;
const SCALE: i8 = 3;
const RESULT_SCALE: u32 = 3;
const LIMIT: u128 = 10u128.pow(18);

/// Minor units other than 2, from ISO 4217.
const EXCEPTIONS: [(u32, &[&str]); 3] = [
    (
        0,
        &[
            "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF",
            "XOF", "XPF",
        ],
    ),
    (3, &["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"]),
    (4, &["CLF", "UYW"]),
];

static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
    Documentation::builder(
        SECTION,
        "The amount as decimal(18,3), rounded half up to the currency's minor unit of ISO 4217 (EUR 2 digits, JPY 0, \
         KWD 3; 2 for every code that the standard does not list otherwise). Half up is away from zero: 0.005 EUR is \
         0.01, -0.005 EUR is -0.01, so that a credit cancels the invoice that it answers. CLF and UYW have four \
         digits: an amount whose fourth digit is not 0 after rounding does not fit and is an error.\n\n\
         Null if the amount or the currency is null.\n\n\
         Errors: an amount that does not fit decimal(18,3) once rounded; a currency that is not three letters A to Z; \
         a float (when planned).",
        "round_money(amount, currency)",
    )
    .with_sql_example(
        "```sql\n> SELECT round_money(1.005, 'EUR');   -- 1.010\n> SELECT round_money(1234.5, 'JPY');   -- 1235.000\n```",
    )
    .with_argument("amount", "a decimal of any precision and scale, or an integer")
    .with_argument("currency", "the currency's code in ISO 4217, such as `EUR`")
    .build()
});

#[cfg(test)]
mod tests {
    use super::super::testing::{check, check_error, on_rows};
    use super::*;

    #[test]
    fn amounts_are_rounded_half_away_from_zero_to_the_minor_unit() {
        let cases = [
            ("1.005, 'EUR'", "1.010"),
            ("1.004999, 'EUR'", "1.000"),
            ("-1.005, 'EUR'", "-1.010"),
            ("-1.0049, 'EUR'", "-1.000"),
            ("0.005, 'USD'", "0.010"),
            ("2.5, 'EUR'", "2.500"),
            ("7, 'EUR'", "7.000"),
            ("0.5, 'JPY'", "1.000"),
            ("0.49, 'JPY'", "0.000"),
            ("-0.5, 'JPY'", "-1.000"),
            ("1234.5, 'JPY'", "1235.000"),
            ("1.0005, 'KWD'", "1.001"),
            ("1.00049, 'KWD'", "1.000"),
            ("1.2340, 'CLF'", "1.234"),
            ("1.23396, 'CLF'", "1.234"),
            ("1.2, 'UYW'", "1.200"),
            ("1.005, 'QQQ'", "1.010"),
            ("999999999999999.994, 'EUR'", "999999999999999.990"),
            ("-999999999999999.9994, 'KWD'", "-999999999999999.999"),
            ("0.12345678901234567890123456789012345678, 'EUR'", "0.120"),
            ("0.99999999999999999999999999999999999999, 'EUR'", "1.000"),
            ("null, 'EUR'", "NULL"),
            ("1, null", "NULL"),
            ("null, 'nonsense'", "NULL"),
        ];
        for (arguments, expected) in cases {
            check(&format!("round_money({arguments})"), expected);
        }
    }

    #[test]
    fn an_amount_that_does_not_fit_is_an_error() {
        let cases = [
            "1000000000000000, 'EUR'",
            "999999999999999.995, 'EUR'",
            "-1000000000000000, 'EUR'",
            "1.2345, 'CLF'",
            "99999999999999999999999999999999999999, 'JPY'",
            "9999999999999999999999999999999999999999999999999999, 'JPY'",
        ];
        for arguments in cases {
            check_error(&format!("round_money({arguments})"), "does not fit decimal(18, 3)");
        }
    }

    #[test]
    fn a_code_that_is_not_three_capital_letters_is_an_error() {
        for code in ["", "EU", "EURO", "eur", "E R", "ÄÖ", "EÜ", "EU1"] {
            check_error(&format!("round_money(1, '{code}')"), "is not a currency code of three letters A to Z");
        }
        check_error("round_money(CAST(1 AS DOUBLE), 'EUR')", "`amount` of round_money must be a decimal");
        check_error("round_money(1, 2)", "`currency` of round_money must be a string");
    }

    #[test]
    fn columns_and_constants_mix() {
        let rows = "(1.005, 'EUR'), (1.005, 'JPY'), (null, 'EUR'), (1.0055, 'KWD'), (1.005, null)";
        check(&on_rows("round_money(a, arrow_cast(b, 'Utf8View'))", "a, b", rows), "1.010,1.000,NULL,1.006,NULL");
        check(&on_rows("round_money(a, 'CHF')", "a, b", rows), "1.010,1.010,NULL,1.010,1.010");
        check(&on_rows("round_money(2.5, b)", "a, b", rows), "2.500,3.000,2.500,2.500,NULL");
    }

    #[test]
    fn every_exception_is_listed_once() {
        let mut codes: Vec<&str> = EXCEPTIONS.iter().flat_map(|(_, codes)| codes.iter().copied()).collect();
        assert_eq!(codes.len(), 26);
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), 26);
        for code in codes {
            assert_ne!(minor_unit(code).expect("a code"), 2, "{code}");
        }
    }
}
