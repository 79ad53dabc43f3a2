//! UNNEST: a row for each element of its lists, and a column for each field of its structs. Applied to the delta's rows, weights
//! kept.
//!
//! Lists of one row are unnested side by side; the shorter ones are filled up with nulls. Whether a null or empty list leaves a
//! row depends on the plan's null handling.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::NullHandling;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::logical_plan::Unnest as UnnestPlan;

use crate::plan::Refusal;
use crate::state::{Delta, StateReader, StateWriter, with_rows};

use super::compile::{Compiler, Problem};
use super::expression::row_schema;
use super::recipe::Recipe;
use super::{Operator, StepContext};

/// Appends an UNNEST.
pub(super) fn build(compiler: &mut Compiler, plan: &UnnestPlan) -> Result<usize, Problem> {
    let lists: Vec<usize> = plan.list_type_columns.iter().map(|&(column, _)| column).collect();
    if plan.list_type_columns.iter().any(|(_, list)| list.depth != 1) {
        return Err(Refusal::new(
            "lists of lists are unnested one level at a time",
            "unnest the outer list in a subquery, and its elements in the query around it",
            "unnest",
        )
        .into());
    }
    let node = compiler.build(&plan.input)?;
    let schema = row_schema(&plan.schema);
    let names: Vec<&str> = plan.exec_columns.iter().map(|column| column.name.as_str()).collect();
    let operator = Unnest {
        lists,
        structs: plan.struct_type_columns.clone(),
        nulls: plan.options.null_handling,
        schema: Arc::clone(&schema),
        text: format!("unnest {}", names.join(", ")),
    };
    let recipe = Recipe::new(format!("unnest {:?} {:?} {:?}", operator.lists, operator.structs, operator.nulls));
    Ok(compiler.push(Box::new(operator), vec![node], &schema, recipe))
}

/// See the module.
struct Unnest {
    lists: Vec<usize>,
    structs: Vec<usize>,
    nulls: NullHandling,
    schema: SchemaRef,
    text: String,
}

/// Where the elements of each row's list lie in the array of all elements.
struct Elements {
    values: ArrayRef,
    ranges: Vec<Option<(u64, u64)>>,
}

impl Operator for Unnest {
    fn step(&mut self, inputs: &[&Delta], _: &mut StepContext) -> Result<Delta> {
        let Some(&input) = inputs.first() else { return Ok(Delta::empty(&self.schema)) };
        let lists =
            self.lists.iter().map(|&column| elements(input.batch().column(column))).collect::<Result<Vec<_>>>()?;
        let lengths: Vec<u64> = (0..input.len())
            .map(|row| {
                let longest = lists.iter().map(|list| self.length(list.ranges.get(row).copied().flatten())).max();
                longest.unwrap_or(1)
            })
            .collect();
        let rows: UInt32Array =
            (0_u32..).zip(&lengths).flat_map(|(row, &length)| (0..length).map(move |_| Some(row))).collect();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for (position, column) in input.batch().columns().iter().enumerate() {
            let shown = match self.lists.iter().position(|&list| list == position).and_then(|list| lists.get(list)) {
                Some(list) => list.spread(&lengths)?,
                None => take(column, &rows, None)?,
            };
            match self.structs.contains(&position) {
                true => columns.extend(shown.as_struct_opt().ok_or_else(not_a_struct)?.columns().iter().cloned()),
                false => columns.push(shown),
            }
        }
        let weights: Vec<i64> = rows.values().iter().map(|&row| input.weights()[row as usize]).collect();
        Delta::new(with_rows(&self.schema, columns, weights.len())?, weights).consolidate()
    }

    fn save(&self, _: &mut StateWriter) -> Result<()> {
        Ok(())
    }

    fn load(&mut self, _: &mut StateReader) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        self.text.clone()
    }
}

impl Unnest {
    /// How many rows a list makes by itself.
    fn length(&self, range: Option<(u64, u64)>) -> u64 {
        match (range, &self.nulls) {
            (None, NullHandling::Drop) => 0,
            (None, _) => 1,
            (Some((start, end)), NullHandling::PreserveAndExpandEmpty) => (end - start).max(1),
            (Some((start, end)), _) => end - start,
        }
    }
}

impl Elements {
    /// The elements row by row, filled up with nulls to these lengths.
    fn spread(&self, lengths: &[u64]) -> Result<ArrayRef> {
        let places: UInt64Array = self
            .ranges
            .iter()
            .zip(lengths)
            .flat_map(|(range, &length)| {
                let (start, end) = range.unwrap_or((0, 0));
                (0..length).map(move |element| (start + element < end).then_some(start + element))
            })
            .collect();
        Ok(take(&self.values, &places, None)?)
    }
}

fn elements(list: &ArrayRef) -> Result<Elements> {
    let (values, ranges): (&ArrayRef, Vec<(i64, i64)>) = match list.data_type() {
        DataType::List(_) => {
            let list = list.as_list::<i32>();
            (list.values(), between(list.value_offsets()))
        }
        DataType::LargeList(_) => {
            let list = list.as_list::<i64>();
            (list.values(), between(list.value_offsets()))
        }
        DataType::FixedSizeList(..) => {
            let list = list.as_fixed_size_list();
            let start = |row: usize| i64::from(list.value_offset(row));
            let length = i64::from(list.value_length());
            (list.values(), (0..list.len()).map(|row| (start(row), start(row) + length)).collect())
        }
        DataType::ListView(_) => {
            let list = list.as_list_view::<i32>();
            (list.values(), sized(list.value_offsets(), list.value_sizes()))
        }
        DataType::LargeListView(_) => {
            let list = list.as_list_view::<i64>();
            (list.values(), sized(list.value_offsets(), list.value_sizes()))
        }
        other => return Err(DataFusionError::Internal(format!("UNNEST of {other}"))),
    };
    let place = |offset: i64| u64::try_from(offset).unwrap_or(0);
    let ranges = ranges.into_iter().enumerate();
    let ranges = ranges.map(|(row, (start, end))| list.is_valid(row).then(|| (place(start), place(end)))).collect();
    Ok(Elements { values: Arc::clone(values), ranges })
}

/// Each list reaches from its own offset to the next one.
fn between<T: Copy + Into<i64>>(offsets: &[T]) -> Vec<(i64, i64)> {
    let pairs = offsets.iter().zip(offsets.iter().skip(1));
    pairs.map(|(&start, &end)| (start.into(), end.into())).collect()
}

/// Each list has an offset and a size.
fn sized<T: Copy + Into<i64>>(offsets: &[T], sizes: &[T]) -> Vec<(i64, i64)> {
    let pairs = offsets.iter().zip(sizes);
    pairs.map(|(&start, &size)| (start.into(), start.into() + size.into())).collect()
}

fn not_a_struct() -> DataFusionError {
    DataFusionError::Internal("UNNEST of a struct met something else".to_owned())
}
