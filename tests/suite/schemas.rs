//! The schemas of published messages lie in the repository, and are those of the jobs as they are now.

use std::path::Path;

use milepost::definition::load;
use milepost::definition::pipeline::SinkTarget;
use milepost::runtime::engine::build_circuit;
use milepost::sink::body::row_schema;

#[tokio::test]
async fn every_published_job_has_its_schema_in_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pipeline =
        load(&root.join("pipelines/order_to_invoice.yaml"), &|_| None).expect("the shipped pipeline is right");
    let circuit = build_circuit(&pipeline).await.expect("the shipped pipeline compiles");
    for sink in pipeline.sinks.iter().filter(|sink| matches!(sink.target, SinkTarget::JetStream { .. })) {
        let job = circuit.jobs().iter().find(|job| job.job == sink.job).expect("compiled");
        let key: Vec<String> = job.key.iter().map(|&column| job.schema.field(column).name().clone()).collect();
        let path = root.join(format!("pipelines/schemas/{}.json", job.name));
        let held = std::fs::read_to_string(&path).unwrap_or_default();
        let held: serde_json::Value = serde_json::from_str(&held).unwrap_or_default();
        let now = row_schema(&job.name, &job.schema, &key);
        let command =
            format!("milepost schema pipelines/order_to_invoice.yaml {0} > pipelines/schemas/{0}.json", job.name);
        assert_eq!(held, now, "write it anew with `{command}`");
    }
}
