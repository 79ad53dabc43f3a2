//! Aggregates that weights alone keep up to date: count, sum and avg over exact types, bool_and, bool_or.
//!
//! Sums are kept in 128 bits whatever their type, so that no intermediate value wraps; a result that its type can't hold
//! fails its group, and is never a wrapped number.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, DecimalType, i256};
use arrow::record_batch::RecordBatch;
use datafusion::common::cast::as_boolean_array;
use datafusion::error::{DataFusionError, Result};

use crate::plan::{exact_mean, sql_types};
use crate::state::{StateReader, StateWriter, damaged};

use super::aggregate::{Accumulate, Failures};
use super::saved;

/// Where an aggregate finds its argument and its FILTER among the columns of the aggregation's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inputs {
    /// The argument; none for `count(*)`.
    pub(crate) argument: Option<usize>,
    /// The FILTER condition.
    pub(crate) filter: Option<usize>,
}

impl Inputs {
    /// Calls `take` for each row that counts: FILTER true and argument not null.
    pub(crate) fn for_each(&self, input: &RecordBatch, mut take: impl FnMut(usize)) -> Result<()> {
        let filter = self.filter.map(|column| as_boolean_array(input.column(column))).transpose()?;
        let argument = self.argument.map(|column| input.column(column));
        let nulls = argument.and_then(|argument| argument.logical_nulls());
        for row in 0..input.num_rows() {
            let passes = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if passes && nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
                take(row);
            }
        }
        Ok(())
    }
}

/// count, sum, avg: the weight and the weighted sum of the rows that count.
pub(crate) struct Sum {
    inputs: Inputs,
    result: SumResult,
    output: usize,
    counts: Vec<i64>,
    sums: Vec<i128>,
}

/// What a [`Sum`] shows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SumResult {
    /// How many rows counted.
    Count,
    /// The sum, as this type; null if no row counted.
    Sum(DataType),
    /// The mean as a decimal of this precision and scale, from arguments of scale `from`; digits beyond are cut off, as
    /// DataFusion does.
    MeanDecimal { precision: u8, scale: i8, from: i8 },
    /// The mean of integers as a double.
    MeanDouble,
    /// The mean of durations, as this type; what is left of a unit is cut off, as DataFusion does.
    MeanDuration(DataType),
}

impl Sum {
    /// An aggregate that stands at `output` among the aggregates of its node.
    pub(crate) fn new(inputs: Inputs, result: SumResult, output: usize) -> Self {
        Self { inputs, result, output, counts: Vec::new(), sums: Vec::new() }
    }

    /// What a group shows, as an integer or an unscaled decimal; or why it can't.
    fn show(&self, group: usize) -> Result<Option<i128>, String> {
        let (count, sum) = (self.counts[group], self.sums[group]);
        let value = match &self.result {
            SumResult::Count => return Ok(Some(i128::from(count))),
            _ if count == 0 => return Ok(None),
            SumResult::MeanDouble => sum,
            SumResult::MeanDuration(_) => sum / i128::from(count),
            SumResult::Sum(kind) => fitting("sum", sum, kind)?,
            SumResult::MeanDecimal { precision, scale, from } => {
                let factor = i256::from_i128(10_i128.pow(u32::from((scale - from).unsigned_abs())));
                let mean = i256::from_i128(sum).wrapping_mul(factor).wrapping_div(i256::from_i128(i128::from(count)));
                let kind = DataType::Decimal128(*precision, *scale);
                fitting("mean", mean.to_i128().ok_or_else(|| beyond("mean", &mean.to_string(), &kind))?, &kind)?
            }
        };
        Ok(Some(value))
    }
}

impl Accumulate for Sum {
    fn grow(&mut self, groups: usize) {
        self.counts.resize(groups, 0);
        self.sums.resize(groups, 0);
    }

    fn clear(&mut self, group: u32) {
        self.counts[group as usize] = 0;
        self.sums[group as usize] = 0;
    }

    fn update(&mut self, groups: &[u32], weights: &[i64], input: &RecordBatch) -> Result<()> {
        let values = match (self.inputs.argument, &self.result) {
            (None, _) | (_, SumResult::Count) => None,
            (Some(column), _) => Some(Exact::of(input.column(column))?),
        };
        let (counts, sums) = (&mut self.counts, &mut self.sums);
        let mut wrapped = false;
        self.inputs.for_each(input, |row| {
            let (group, weight) = (groups[row] as usize, weights[row]);
            counts[group] += weight;
            if let Some(values) = &values {
                let change = values.value(row).checked_mul(i128::from(weight));
                match change.and_then(|change| sums[group].checked_add(change)) {
                    Some(sum) => sums[group] = sum,
                    None => wrapped = true,
                }
            }
        })?;
        if wrapped { Err(DataFusionError::Execution("a sum leaves 128 bits".to_owned())) } else { Ok(()) }
    }

    fn evaluate(&self, groups: &[u32], failures: &mut Failures) -> Result<Vec<(usize, ArrayRef)>> {
        let mut show = |(position, &group): (usize, &u32)| {
            self.show(group as usize).unwrap_or_else(|reason| {
                failures.add(position, self.output, reason);
                None
            })
        };
        let shown: Vec<Option<i128>> = groups.iter().enumerate().map(&mut show).collect();
        let narrow = |value: &Option<i128>| value.and_then(|value| i64::try_from(value).ok());
        let array: ArrayRef = match &self.result {
            SumResult::Count | SumResult::Sum(DataType::Int64) => {
                Arc::new(shown.iter().map(narrow).collect::<Int64Array>())
            }
            SumResult::Sum(DataType::UInt64) => {
                let unsigned = |value: &Option<i128>| value.and_then(|value| u64::try_from(value).ok());
                Arc::new(shown.iter().map(unsigned).collect::<UInt64Array>())
            }
            SumResult::Sum(DataType::Decimal128(precision, scale))
            | SumResult::MeanDecimal { precision, scale, .. } => {
                let decimals: Decimal128Array = shown.into_iter().collect();
                Arc::new(decimals.with_precision_and_scale(*precision, *scale)?)
            }
            SumResult::Sum(kind @ DataType::Duration(_)) | SumResult::MeanDuration(kind) => {
                cast(&shown.iter().map(narrow).collect::<Int64Array>(), kind)?
            }
            SumResult::Sum(other) => {
                return Err(DataFusionError::Internal(format!("no exact sum of type {other}")));
            }
            SumResult::MeanDouble => {
                let mean = |(&group, sum): (&u32, &Option<i128>)| {
                    sum.and_then(|sum| exact_mean(sum, self.counts[group as usize]))
                };
                Arc::new(groups.iter().zip(&shown).map(mean).collect::<Float64Array>())
            }
        };
        Ok(vec![(self.output, array)])
    }

    fn bytes(&self) -> usize {
        self.counts.len() * 24
    }

    fn save(&self, state: &mut StateWriter) -> Result<()> {
        let sums: ArrayRef = Arc::new(Decimal128Array::from_iter_values(self.sums.iter().copied()));
        state.rows(saved::batch([("count", saved::numbers(self.counts.iter().copied())), ("sum", sums)])?);
        Ok(())
    }

    fn load(&mut self, groups: usize, state: &mut StateReader) -> Result<()> {
        let held = state.rows()?;
        let sums = held.columns().get(1).and_then(|column| column.as_primitive_opt::<Decimal128Type>());
        let sums = sums.ok_or_else(|| damaged("a column is not sums"))?.values().to_vec();
        self.counts = saved::of_length(saved::numbers_of(&held, 0)?, groups)?;
        self.sums = saved::of_length(sums, groups)?;
        Ok(())
    }
}

/// The value, if the type can hold it.
fn fitting(what: &str, value: i128, kind: &DataType) -> Result<i128, String> {
    let fits = match kind {
        DataType::UInt64 => u64::try_from(value).is_ok(),
        DataType::Decimal128(precision, scale) => {
            let precision = (*precision).min(DECIMAL128_MAX_PRECISION);
            Decimal128Type::validate_decimal_precision(value, precision, *scale).is_ok()
        }
        _ => i64::try_from(value).is_ok(),
    };
    if fits { Ok(value) } else { Err(beyond(what, &Decimal128Type::format_decimal(value, 38, scale_of(kind)), kind)) }
}

fn beyond(what: &str, value: &str, kind: &DataType) -> String {
    format!("the {what} is beyond {}: {value}", sql_types(&kind.to_string()))
}

fn scale_of(kind: &DataType) -> i8 {
    match kind {
        DataType::Decimal128(_, scale) => *scale,
        _ => 0,
    }
}

/// The values of a column as exact integers: integers themselves, decimals unscaled.
enum Exact {
    Integers(Int64Array),
    Unsigned(UInt64Array),
    Decimals(Decimal128Array),
}

impl Exact {
    fn of(column: &ArrayRef) -> Result<Self> {
        let wrong = || DataFusionError::Internal(format!("no exact values in {}", column.data_type()));
        Ok(match column.data_type() {
            DataType::UInt64 => {
                Self::Unsigned(column.as_any().downcast_ref::<UInt64Array>().ok_or_else(wrong)?.clone())
            }
            DataType::Decimal128(..) => {
                Self::Decimals(column.as_any().downcast_ref::<Decimal128Array>().ok_or_else(wrong)?.clone())
            }
            kind if kind.is_integer() || matches!(kind, DataType::Duration(_)) => {
                let wide = cast(column, &DataType::Int64)?;
                Self::Integers(wide.as_any().downcast_ref::<Int64Array>().ok_or_else(wrong)?.clone())
            }
            _ => return Err(wrong()),
        })
    }

    fn value(&self, row: usize) -> i128 {
        match self {
            Self::Integers(values) => i128::from(values.value(row)),
            Self::Unsigned(values) => i128::from(values.value(row)),
            Self::Decimals(values) => values.value(row),
        }
    }
}

/// bool_and, bool_or: how many rows are true, how many false.
pub(crate) struct Truth {
    inputs: Inputs,
    all: bool,
    output: usize,
    trues: Vec<i64>,
    falses: Vec<i64>,
}

impl Truth {
    /// `bool_and` if `all`, else `bool_or`.
    pub(crate) fn new(inputs: Inputs, all: bool, output: usize) -> Self {
        Self { inputs, all, output, trues: Vec::new(), falses: Vec::new() }
    }
}

impl Accumulate for Truth {
    fn grow(&mut self, groups: usize) {
        self.trues.resize(groups, 0);
        self.falses.resize(groups, 0);
    }

    fn clear(&mut self, group: u32) {
        self.trues[group as usize] = 0;
        self.falses[group as usize] = 0;
    }

    fn update(&mut self, groups: &[u32], weights: &[i64], input: &RecordBatch) -> Result<()> {
        let Some(argument) = self.inputs.argument else { return Ok(()) };
        let values = as_boolean_array(input.column(argument))?;
        let (trues, falses) = (&mut self.trues, &mut self.falses);
        self.inputs.for_each(input, |row| {
            let counts = if values.value(row) { &mut *trues } else { &mut *falses };
            counts[groups[row] as usize] += weights[row];
        })
    }

    fn evaluate(&self, groups: &[u32], _: &mut Failures) -> Result<Vec<(usize, ArrayRef)>> {
        let shown: BooleanArray = groups
            .iter()
            .map(|&group| match (self.trues[group as usize], self.falses[group as usize]) {
                (0, 0) => None,
                (trues, falses) => Some(if self.all { falses == 0 } else { trues > 0 }),
            })
            .collect();
        Ok(vec![(self.output, Arc::new(shown))])
    }

    fn bytes(&self) -> usize {
        self.trues.len() * 16
    }

    fn save(&self, state: &mut StateWriter) -> Result<()> {
        let (trues, falses) = (self.trues.iter().copied(), self.falses.iter().copied());
        state.rows(saved::batch([("trues", saved::numbers(trues)), ("falses", saved::numbers(falses))])?);
        Ok(())
    }

    fn load(&mut self, groups: usize, state: &mut StateReader) -> Result<()> {
        let held = state.rows()?;
        self.trues = saved::of_length(saved::numbers_of(&held, 0)?, groups)?;
        self.falses = saved::of_length(saved::numbers_of(&held, 1)?, groups)?;
        Ok(())
    }
}
