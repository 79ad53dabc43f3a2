//! Aggregates that weights alone keep up to date: count, sum and avg over exact types, bool_and, bool_or.
//!
//! Sums are kept in 128 bits whatever their type, so that no intermediate value wraps; a result that its type can't hold
//! is an error, never a wrapped number.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::common::cast::as_boolean_array;
use datafusion::error::{DataFusionError, Result};

use super::aggregate::Accumulate;

/// Where an aggregate finds its argument and its FILTER among the columns of the aggregation's input.
#[derive(Debug, Clone, Copy)]
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
}

impl Sum {
    /// An aggregate that stands at `output` among the aggregates of its node.
    pub(crate) fn new(inputs: Inputs, result: SumResult, output: usize) -> Self {
        Self { inputs, result, output, counts: Vec::new(), sums: Vec::new() }
    }

    fn show(&self, group: usize) -> Result<Option<i128>> {
        let (count, sum) = (self.counts[group], self.sums[group]);
        Ok(match &self.result {
            SumResult::Count => Some(i128::from(count)),
            _ if count == 0 => None,
            SumResult::Sum(_) | SumResult::MeanDouble => Some(sum),
            SumResult::MeanDecimal { scale, from, .. } => {
                let factor = 10_i128.pow(u32::from((scale - from).unsigned_abs()));
                let scaled = sum.checked_mul(factor).ok_or_else(|| beyond("avg", sum))?;
                Some(scaled / i128::from(count))
            }
        })
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

    fn evaluate(&self, groups: &[u32]) -> Result<Vec<(usize, ArrayRef)>> {
        let shown: Vec<Option<i128>> = groups.iter().map(|&group| self.show(group as usize)).collect::<Result<_>>()?;
        let array: ArrayRef = match &self.result {
            SumResult::Count | SumResult::Sum(DataType::Int64) => Arc::new(integers(&shown)?),
            SumResult::Sum(DataType::UInt64) => Arc::new(unsigned(&shown)?),
            SumResult::Sum(DataType::Decimal128(precision, scale))
            | SumResult::MeanDecimal { precision, scale, .. } => {
                let decimals: Decimal128Array = shown.into_iter().collect();
                let decimals = decimals.with_precision_and_scale(*precision, *scale)?;
                decimals.validate_decimal_precision(*precision)?;
                Arc::new(decimals)
            }
            SumResult::Sum(other) => {
                return Err(DataFusionError::Internal(format!("no exact sum of type {other}")));
            }
            SumResult::MeanDouble => Arc::new(self.means(groups, &shown)),
        };
        Ok(vec![(self.output, array)])
    }

    fn bytes(&self) -> usize {
        self.counts.len() * 24
    }
}

impl Sum {
    #[expect(clippy::cast_precision_loss, reason = "DataFusion's avg of integers is a double")]
    fn means(&self, groups: &[u32], sums: &[Option<i128>]) -> Float64Array {
        groups
            .iter()
            .zip(sums)
            .map(|(&group, sum)| sum.map(|sum| sum as f64 / self.counts[group as usize] as f64))
            .collect()
    }
}

fn integers(values: &[Option<i128>]) -> Result<Int64Array> {
    let narrow = |value: i128| i64::try_from(value).map_err(|_| beyond("sum", value));
    values.iter().map(|value| value.map(narrow).transpose()).collect()
}

fn unsigned(values: &[Option<i128>]) -> Result<UInt64Array> {
    let narrow = |value: i128| u64::try_from(value).map_err(|_| beyond("sum", value));
    values.iter().map(|value| value.map(narrow).transpose()).collect()
}

fn beyond(function: &str, value: i128) -> DataFusionError {
    DataFusionError::Execution(format!("the result of {function} is beyond its type: {value}"))
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
            kind if kind.is_integer() => {
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

    fn evaluate(&self, groups: &[u32]) -> Result<Vec<(usize, ArrayRef)>> {
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
}
