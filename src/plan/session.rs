//! The one session configuration that serves circuit, `query` and oracle alike.

use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SessionContext;
use datafusion::optimizer::Analyzer;
use datafusion::prelude::SessionConfig;

use super::arithmetic::CheckArithmetic;
use super::canonical::CanonicalOrder;
use super::row_order::OrderRows;
use super::ties::BreakTies;
use super::watermark::watermark_function;

/// A new session: DataFusion's own functions and Milepost's, literals with a point as decimals, spans kept, one partition,
/// integer arithmetic that fails where it would wrap, ties in the order of rows broken the same way everywhere, and
/// doubles added up in one order.
pub fn session() -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
    let options = config.options_mut();
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.collect_spans = true;
    options.sql_parser.map_string_types_to_utf8view = true;
    let mut rules = Analyzer::new().rules;
    rules.push(Arc::new(CheckArithmetic));
    rules.push(Arc::new(BreakTies));
    rules.push(Arc::new(CanonicalOrder));
    rules.push(Arc::new(OrderRows));
    let state =
        SessionStateBuilder::new().with_config(config).with_default_features().with_analyzer_rules(rules).build();
    let context = SessionContext::new_with_state(state);
    context.register_udf(watermark_function());
    for function in super::functions::all() {
        context.register_udf(function.as_ref().clone());
    }
    context
}
