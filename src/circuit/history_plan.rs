//! Histories of sources and jobs to nodes: each is a table that jobs may read.

use std::sync::Arc;

use datafusion::error::Result;

use crate::plan::HistoryTable;
use crate::state::Delta;

use super::Node;
use super::compile::Compiler;
use super::history::History;

/// A history inside a circuit.
#[derive(Debug, Clone)]
pub struct CompiledHistory {
    /// Its table.
    pub table: HistoryTable,
    pub(super) node: usize,
}

impl Compiler {
    /// The histories of a table, each a table from here on.
    pub(super) fn histories(
        &mut self,
        of: &str,
        node: usize,
        histories: &[HistoryTable],
    ) -> Result<Vec<CompiledHistory>> {
        let mut compiled = Vec::new();
        for table in histories.iter().filter(|history| *history.of == *of) {
            let operator = History::new(table.content, Arc::clone(&table.schema), format!("every version of {of}"))?;
            self.nodes.push(Node {
                operator: Some(Box::new(operator)),
                arrangement: None,
                inputs: vec![node],
                uses: Vec::new(),
                jobs: self.job.into_iter().collect(),
                empty: Delta::empty(&table.schema),
                label: String::new(),
            });
            let node = self.nodes.len() - 1;
            self.tables.push((Arc::clone(&table.name), node));
            compiled.push(CompiledHistory { table: table.clone(), node });
        }
        Ok(compiled)
    }
}
