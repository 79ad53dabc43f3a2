//! One hash for rows and keys: the same for equal values, on every machine and in every run.

use arrow::array::{Array, ArrayRef, Float32Array, Float64Array};
use arrow::datatypes::DataType;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::error::Result;
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

/// Fixed: snapshots and partitions rely on the same hash tomorrow.
const SEED: u64 = 0x4D49_4C45_504F_5354;
