//! Arguments of a call: columns and constants alike, without writing a constant out for every row.

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, StringViewArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType};
use datafusion::common::utils::take_function_args;
use datafusion::common::{Result, ScalarValue, exec_err, internal_datafusion_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

/// One argument: a column of the batch, or one value that holds for all its rows.
pub(super) struct Argument {
    array: ArrayRef,
    constant: bool,
}

/// The arguments of one call, and how many results it has to give.
pub(super) struct Call<const N: usize> {
    /// In the order of the SQL.
    pub(super) arguments: [Argument; N],
    /// As many results are computed: the batch's rows, or one if every argument is constant.
    pub(super) rows: usize,
    constant: bool,
}

impl<const N: usize> Call<N> {
    /// Takes the arguments of a call of `function`.
    ///
    /// # Errors
    ///
    /// Another number of arguments than `N`.
    pub(super) fn new(function: &str, args: ScalarFunctionArgs) -> Result<Self> {
        let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let arguments = args.args.into_iter().map(Argument::new).collect::<Result<Vec<_>>>()?;
        Ok(Self { arguments: take_function_args(function, arguments)?, rows, constant })
    }

    /// The call's value: a constant again if every argument was one.
    pub(super) fn finish(&self, results: ArrayRef) -> Result<ColumnarValue> {
        if self.constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&results, 0)?));
        }
        Ok(ColumnarValue::Array(results))
    }

    /// Whether any argument is null in `row`.
    pub(super) fn any_null(&self, row: usize) -> bool {
        self.arguments.iter().any(|argument| argument.is_null(row))
    }
}

impl Argument {
    fn new(value: ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Array(array) => Self { array, constant: false },
            ColumnarValue::Scalar(scalar) => Self { array: scalar.to_array_of_size(1)?, constant: true },
        })
    }

    /// The values; a constant's only one stands at 0.
    pub(super) fn array(&self) -> &ArrayRef {
        &self.array
    }

    /// Where the value of `row` stands in [`Argument::array`].
    pub(super) fn index(&self, row: usize) -> usize {
        if self.constant { 0 } else { row }
    }

    /// Whether the value of `row` is null.
    pub(super) fn is_null(&self, row: usize) -> bool {
        self.array.is_null(self.index(row))
    }

    /// The values as strings.
    pub(super) fn strings(&self) -> Result<&StringViewArray> {
        self.array.as_string_view_opt().ok_or_else(|| self.uncoerced())
    }

    /// The values as primitives.
    pub(super) fn primitives<T: ArrowPrimitiveType>(&self) -> Result<&PrimitiveArray<T>> {
        self.array.as_primitive_opt().ok_or_else(|| self.uncoerced())
    }

    /// The error of a caller that did not coerce its arguments.
    pub(super) fn uncoerced(&self) -> datafusion::common::DataFusionError {
        internal_datafusion_err!("argument was not coerced from `{}`", self.array.data_type())
    }
}

/// The type of a decimal argument: decimals as they are, integers as decimals that hold all of them.
///
/// # Errors
///
/// Any other type; a float names the cast that keeps the value exact.
pub(super) fn decimal_type(function: &str, argument: &str, given: &DataType) -> Result<DataType> {
    match given {
        DataType::Null => Ok(DataType::Decimal128(1, 0)),
        DataType::Dictionary(_, value) => decimal_type(function, argument, value),
        given if given.is_integer() => Ok(DataType::Decimal128(20, 0)),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
            if *scale >= 0 =>
        {
            Ok(DataType::Decimal128(*precision, *scale))
        }
        DataType::Decimal256(precision, scale) if *scale >= 0 => Ok(DataType::Decimal256(*precision, *scale)),
        other => plan_err!(
            "`{argument}` of {function} must be a decimal or an integer, not `{other}`; \
             cast it, as in `CAST({argument} AS DECIMAL(18, 3))`"
        ),
    }
}

/// The type of a text argument: `Utf8View` for every kind of string.
///
/// # Errors
///
/// Any other type.
pub(super) fn text_type(function: &str, argument: &str, given: &DataType) -> Result<DataType> {
    match given {
        DataType::Dictionary(_, value) => text_type(function, argument, value),
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(DataType::Utf8View),
        other => plan_err!("`{argument}` of {function} must be a string, not `{other}`"),
    }
}

/// A row's value that must lie within bounds, both included.
pub(super) fn within(function: &str, argument: &str, value: i64, minimum: i64, maximum: i64) -> Result<i64> {
    if (minimum..=maximum).contains(&value) {
        return Ok(value);
    }
    exec_err!("{function}: `{argument}` must lie between {minimum} and {maximum}, not `{value}`")
}
