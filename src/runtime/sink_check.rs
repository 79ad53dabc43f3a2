//! Whether what a job yields fits where it goes: judged when the pipeline is compiled, not at the first row.

use std::ops::Range;

use arrow::datatypes::{Field, Schema};

use crate::definition::pipeline::{Pipeline, SinkTarget};
use crate::diagnostic::{Diagnostic, Diagnostics, suggest};
use crate::plan::PlannedJob;
use crate::sink::{body, table};

/// A problem at the place of the sink for each column that it can't hold. Sinks of jobs that were not planned are passed over.
pub(super) fn check_sinks(pipeline: &Pipeline, planned: &[PlannedJob]) -> Diagnostics {
    let mut problems = Diagnostics::default();
    for sink in &pipeline.sinks {
        let Some(job) = planned.iter().find(|planned| planned.job == sink.job) else { continue };
        let unfit = match &sink.target {
            SinkTarget::Parquet { partition_by, .. } => {
                check_partition_by(pipeline, job, partition_by, &mut problems);
                unfit_for_table(&job.schema)
            }
            SinkTarget::JetStream { .. } => unfit_for_stream(&job.schema),
        };
        for (message, help) in unfit {
            let message = format!("job `{}`: {message}", job.name);
            problems.push(Diagnostic::new(&pipeline.text, sink.span.clone(), message).with_help(help));
        }
    }
    problems
}

/// A problem at each column of `partition_by` that the job does not have, or that can't make folders.
fn check_partition_by(
    pipeline: &Pipeline,
    job: &PlannedJob,
    partition_by: &[(String, Range<usize>)],
    problems: &mut Diagnostics,
) {
    for (column, span) in partition_by {
        let (message, help) = match job.schema.field_with_name(column) {
            Err(_) => {
                let columns = job.schema.fields().iter().map(|field| field.name().as_str());
                (format!("job `{}` has no column `{column}`", job.name), suggest(column, columns))
            }
            Ok(field) => match table::unsupported_partition(field) {
                Some(unfit) => (format!("job `{}`: {}", job.name, unfit.message), unfit.help),
                None => continue,
            },
        };
        problems.push(Diagnostic::new(&pipeline.text, span.clone(), message).with_help(help));
    }
}

fn unfit_for_table(schema: &Schema) -> Vec<(String, String)> {
    table::unsupported(schema).into_iter().map(|unfit| (unfit.message, unfit.help)).collect()
}

fn unfit_for_stream(schema: &Schema) -> Vec<(String, String)> {
    let has_form = |field: &Field| body::check_schema(&Schema::new(vec![field.clone()])).is_ok();
    let unfit = |field: &Field| {
        let message = format!("column `{}` is `{}`, which has no JSON form", field.name(), field.data_type());
        (message, "cast it in the job's SELECT, or publish its parts as columns".to_owned())
    };
    schema.fields().iter().filter(|field| !has_form(field)).map(|field| unfit(field)).collect()
}
