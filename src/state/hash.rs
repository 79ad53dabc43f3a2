//! When rows and keys are equal, and one hash for both: the same for equal values, on every machine and in every run.

use arrow::array::{Array, ArrayRef, BooleanArray, Float32Array, Float64Array, UInt32Array};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::take;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::error::Result;
use hashbrown::HashMap;
use std::sync::Arc;

/// The hash of each row over `columns`; `rows` says how many rows there are (there may be no columns).
pub fn hash_rows(columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
    let mut hashes = vec![0_u64; rows];
    if columns.is_empty() {
        return Ok(hashes);
    }
    let normalised: Vec<ArrayRef> = columns.iter().map(normalise_zero).collect();
    create_hashes(&normalised, &RandomState::with_seed(SEED), &mut hashes)?;
    Ok(hashes)
}

/// Makes -0.0 the same key as 0.0; other types are returned as they are.
pub(crate) fn normalise_zero(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float64 => column.as_any().downcast_ref::<Float64Array>().map_or_else(
            || Arc::clone(column),
            |floats| Arc::new(floats.unary::<_, arrow::datatypes::Float64Type>(|value| value + 0.0)) as ArrayRef,
        ),
        DataType::Float32 => column.as_any().downcast_ref::<Float32Array>().map_or_else(
            || Arc::clone(column),
            |floats| Arc::new(floats.unary::<_, arrow::datatypes::Float32Type>(|value| value + 0.0)) as ArrayRef,
        ),
        _ => Arc::clone(column),
    }
}

/// What a null in a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NullKeys {
    /// Null equals null, as in GROUP BY.
    Equal,
    /// Null equals nothing, as in an equality join.
    Distinct,
}

/// Which rows have a null in their key, where null equals nothing; none if no row has.
pub(crate) fn null_rows(nulls: NullKeys, keys: &[ArrayRef]) -> Option<BooleanArray> {
    if nulls == NullKeys::Equal || keys.iter().all(|key| key.logical_null_count() == 0) {
        return None;
    }
    let rows = keys.first().map_or(0, |key| key.len());
    let nulls: Vec<_> = keys.iter().filter_map(|key| key.logical_nulls()).collect();
    Some((0..rows).map(|row| Some(nulls.iter().any(|null| null.is_null(row)))).collect())
}

/// Pairs of rows of two lots of keys, of the same types, that are equal; as positions, in the order of the first.
pub(crate) fn equal_pairs(
    one: &[ArrayRef],
    ones: usize,
    other: &[ArrayRef],
    others: usize,
    nulls: NullKeys,
) -> Result<Vec<(u32, u32)>> {
    let skip = [null_rows(nulls, one), null_rows(nulls, other)];
    let skipped = |side: usize, row: usize| skip[side].as_ref().is_some_and(|skip| skip.value(row));
    let mut last: HashMap<u64, u32, foldhash::fast::FixedState> =
        HashMap::with_capacity_and_hasher(others, foldhash::fast::FixedState::default());
    // Of each row of the other the one before it that has the same hash.
    let mut before: Vec<Option<u32>> = vec![None; others];
    for ((position, row), hash) in (0_u32..).zip(0..others).zip(hash_rows(other, others)?) {
        if !skipped(1, row) {
            before[row] = last.insert(hash, position);
        }
    }
    let (mut found, mut partners): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
    for ((position, row), hash) in (0_u32..).zip(0..ones).zip(hash_rows(one, ones)?) {
        let mut next = last.get(&hash).copied().filter(|_| !skipped(0, row));
        while let Some(partner) = next {
            found.push(position);
            partners.push(partner);
            next = before[partner as usize];
        }
    }
    let pairs = || found.iter().copied().zip(partners.iter().copied());
    let pick = |keys: &[ArrayRef], rows: &[u32]| -> Result<Vec<ArrayRef>> {
        let rows = UInt32Array::from(rows.to_vec());
        keys.iter().map(|key| Ok(take(key, &rows, None)?)).collect()
    };
    Ok(match unequal_rows(&pick(one, &found)?, &pick(other, &partners)?, Zeros::Same)? {
        None => pairs().collect(),
        Some(wrong) => pairs().zip(wrong).filter(|&(_, wrong)| !wrong).map(|(pair, _)| pair).collect(),
    })
}

/// Whether 0.0 and -0.0 are one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zeros {
    /// As in keys.
    Same,
    /// As in rows.
    Apart,
}

/// Which rows of two lots of columns, of the same types and lengths, differ; none if all are equal. Null equals null.
pub(super) fn unequal_rows(one: &[ArrayRef], other: &[ArrayRef], zeros: Zeros) -> Result<Option<Vec<bool>>> {
    let mut wrong: Option<Vec<bool>> = None;
    for (one, other) in one.iter().zip(other) {
        let equal = match zeros {
            Zeros::Same => equal_values(&normalise_zero(one), &normalise_zero(other))?,
            Zeros::Apart => equal_values(one, other)?,
        };
        if equal.true_count() < equal.len() {
            let flags = wrong.get_or_insert_with(|| vec![false; equal.len()]);
            for (row, flag) in flags.iter_mut().enumerate() {
                *flag |= !equal.value(row);
            }
        }
    }
    Ok(wrong)
}

/// Whether two values are the same, null being the same as null; for any type.
fn equal_values(one: &ArrayRef, other: &ArrayRef) -> Result<BooleanArray> {
    if !one.data_type().is_nested() && !matches!(one.data_type(), DataType::Interval(_)) {
        return Ok(not_distinct(one, other)?);
    }
    let converter = RowConverter::new(vec![SortField::new(one.data_type().clone())])?;
    let one = converter.convert_columns(std::slice::from_ref(one))?;
    let other = converter.convert_columns(std::slice::from_ref(other))?;
    Ok(one.iter().zip(other.iter()).map(|(one, other)| Some(one == other)).collect())
}

/// Fixed: snapshots and partitions rely on the same hash tomorrow.
const SEED: u64 = 0x4D49_4C45_504F_5354;
