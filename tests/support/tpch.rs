//! TPC-H: its tables, and its queries as jobs (`tests/tpch/*.sql`).

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use tpchgen::distribution::Distributions;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen::text::TextPool;
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow, SupplierArrow,
};

/// The tables by name, each with its rows.
pub(crate) type Tables = Vec<(Arc<str>, RecordBatch)>;

/// The queries by name, in order.
pub(crate) fn queries() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tpch");
    (1..=22)
        .map(|number| {
            let name = format!("q{number:02}");
            let sql = std::fs::read_to_string(folder.join(&name).with_extension("sql")).expect("a file for each query");
            (name, sql)
        })
        .collect()
}

/// All rows at a scale factor. Comments are cut from `text`: the specification's own (300 MiB, some seconds) is
/// `TextPool::get_or_init_default()`.
pub(crate) fn tables(scale: f64, text: &'static TextPool) -> Tables {
    let words = Distributions::static_default();
    macro_rules! sized {
        ($arrow:ident, $generator:ident) => {
            $arrow::new($generator::new_with_distributions_and_text_pool(scale, 1, 1, words, text))
        };
    }
    vec![
        whole("region", RegionArrow::new(RegionGenerator::new_with_distributions_and_text_pool(words, text))),
        whole("nation", NationArrow::new(NationGenerator::new_with_distributions_and_text_pool(words, text))),
        whole("part", sized!(PartArrow, PartGenerator)),
        whole("supplier", sized!(SupplierArrow, SupplierGenerator)),
        whole("partsupp", PartSuppArrow::new(PartSuppGenerator::new_with_text_pool(scale, 1, 1, text))),
        whole("customer", sized!(CustomerArrow, CustomerGenerator)),
        whole("orders", sized!(OrderArrow, OrderGenerator)),
        whole("lineitem", sized!(LineItemArrow, LineItemGenerator)),
    ]
}

fn whole(name: &str, rows: impl Iterator<Item = Result<RecordBatch, ArrowError>>) -> (Arc<str>, RecordBatch) {
    let batches: Vec<RecordBatch> = rows.map(|batch| batch.expect("rows can be made")).collect();
    let schema: SchemaRef = batches.first().expect("no table is empty").schema();
    (Arc::from(name), concat_batches(&schema, &batches).expect("batches of one schema"))
}
