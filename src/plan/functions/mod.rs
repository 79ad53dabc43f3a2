//! The SQL functions of the field, usable in any job and in any batch query.
//!
//! Each is immutable, works on whole columns, and says in its `documentation()` what it returns for null and when it
//! is an error. An error of one row is an error of the call: the caller narrows the batch down to the row.
//!
//! Nothing here goes through binary floating point: decimals and integers are taken as they are, a float is refused
//! when the SQL is planned.

use std::sync::Arc;

use datafusion::logical_expr::{DocSection, ScalarUDF};

mod arguments;
mod calendar;
mod convert_uom;
mod exact;
mod local_date;
mod percent_encode;
mod round_money;
mod sla_deadline;
mod within_tolerance;
mod zones;

#[cfg(test)]
mod testing;

pub use convert_uom::ConvertUom;
pub use local_date::LocalDate;
pub use percent_encode::PercentEncode;
pub use round_money::RoundMoney;
pub use sla_deadline::SlaDeadline;
pub use within_tolerance::WithinTolerance;

/// All functions, in the order of their names, to be registered in every session: circuit, `query` and oracle.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::from(ConvertUom::new())),
        Arc::new(ScalarUDF::from(LocalDate::new())),
        Arc::new(ScalarUDF::from(PercentEncode::new())),
        Arc::new(ScalarUDF::from(RoundMoney::new())),
        Arc::new(ScalarUDF::from(SlaDeadline::new())),
        Arc::new(ScalarUDF::from(WithinTolerance::new())),
    ]
}

/// The heading under which the functions are documented.
const SECTION: DocSection = DocSection { include: true, label: "Logistics functions", description: None };

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::Volatility;

    use super::*;

    #[test]
    fn every_function_is_immutable_and_documented() {
        for function in all() {
            assert_eq!(function.signature().volatility, Volatility::Immutable, "{}", function.name());
            let documentation = function.documentation().expect("documented");
            assert!(documentation.sql_example.is_some(), "{}", function.name());
            for word in ["null", "error"] {
                assert!(documentation.description.to_lowercase().contains(word), "{} on {word}", function.name());
            }
        }
    }

    #[test]
    fn names_are_sorted_and_distinct() {
        let names: Vec<String> = all().iter().map(|function| function.name().to_owned()).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }
}
