//! Means and sums of integers without rounding and without wrapping.
//!
//! DataFusion adds integers modulo their width, and takes the mean of integers as that of doubles. These functions add in 128
//! bits, which hold the sum of more integers than there can be rows. They can also give a value back, so that they serve
//! window frames that slide.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Int64Type, UInt64Type};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

use super::explain::sql_types;

/// `avg` of integers: the exact sum by the count.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ExactMean {
    signature: Signature,
}

impl ExactMean {
    /// The function.
    pub(super) fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for ExactMean {
    fn name(&self) -> &str {
        "avg"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(state_fields(args.name))
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(ExactAccumulator { total: Total::default(), shows: Shows::Mean }))
    }
}

/// `sum` of integers, which fails where its type could not hold it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ExactSum {
    signature: Signature,
}

impl ExactSum {
    /// The function.
    pub(super) fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for ExactSum {
    fn name(&self) -> &str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().filter(|kind| kind.is_unsigned_integer()).map_or(DataType::Int64, |_| DataType::UInt64))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(state_fields(args.name))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let shows = Shows::Sum(args.return_field.data_type().clone());
        Ok(Box::new(ExactAccumulator { total: Total::default(), shows }))
    }
}

fn state_fields(name: &str) -> Vec<FieldRef> {
    let field = |part: &str, kind: DataType| Arc::new(Field::new(format_state_name(name, part), kind, false));
    vec![field("count", DataType::Int64), field("sum", SUM_TYPE)]
}

/// How many values that are no null, and what they add up to.
#[derive(Debug, Default)]
struct Total {
    count: i64,
    sum: i128,
}

impl Total {
    fn of(values: &[ArrayRef]) -> Result<Self> {
        let Some(values) = values.first() else { return Ok(Self::default()) };
        let sum = if values.data_type().is_unsigned_integer() {
            let wide = cast(values, &DataType::UInt64)?;
            wide.as_primitive::<UInt64Type>().iter().flatten().map(i128::from).sum::<i128>()
        } else {
            let wide = cast(values, &DataType::Int64)?;
            wide.as_primitive::<Int64Type>().iter().flatten().map(i128::from).sum::<i128>()
        };
        Ok(Self { count: i64::try_from(values.len() - values.logical_null_count()).unwrap_or(i64::MAX), sum })
    }
}

#[derive(Debug)]
enum Shows {
    Mean,
    /// A sum of this type.
    Sum(DataType),
}

#[derive(Debug)]
struct ExactAccumulator {
    total: Total,
    shows: Shows,
}

impl Accumulator for ExactAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let more = Total::of(values)?;
        self.total.count += more.count;
        self.total.sum += more.sum;
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let less = Total::of(values)?;
        self.total.count -= less.count;
        self.total.sum -= less.sum;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let Total { count, sum } = self.total;
        let Shows::Sum(kind) = &self.shows else { return Ok(ScalarValue::Float64(exact_mean(sum, count))) };
        let too_large = |_| {
            let kind = sql_types(&kind.to_string());
            DataFusionError::Execution(format!("the sum is beyond {kind}: {sum}"))
        };
        if count == 0 {
            return ScalarValue::try_from(kind);
        }
        match kind {
            DataType::UInt64 => Ok(ScalarValue::UInt64(Some(u64::try_from(sum).map_err(too_large)?))),
            _ => Ok(ScalarValue::Int64(Some(i64::try_from(sum).map_err(too_large)?))),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let Total { count, sum } = self.total;
        Ok(vec![ScalarValue::Int64(Some(count)), ScalarValue::Decimal128(Some(sum), 38, 0)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [counts, sums] = states else {
            return Err(DataFusionError::Internal("the state of a mean is a count and a sum".to_owned()));
        };
        self.total.count += counts.as_primitive::<Int64Type>().iter().flatten().sum::<i64>();
        self.total.sum += sums.as_primitive::<Decimal128Type>().iter().flatten().sum::<i128>();
        Ok(())
    }
}

/// The mean of integers as a double; none of no values.
#[expect(clippy::cast_precision_loss, reason = "the mean of integers is a double")]
pub(crate) fn exact_mean(sum: i128, count: i64) -> Option<f64> {
    (count != 0).then(|| sum as f64 / count as f64)
}

const SUM_TYPE: DataType = DataType::Decimal128(38, 0);
