//! What a job's operators are, and what their state grows with.

use std::collections::{BTreeMap, BTreeSet};

use super::{Circuit, Held, NodeDescription};

/// What an operator keeps of its inputs' past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// Nothing: it looks at the delta alone.
    Nothing,
    /// Every row of its inputs.
    Rows,
    /// The rows of its input that the watermark has not passed.
    WaitingRows,
    /// Something for each of these groups.
    Groups(String),
    /// Every row of its input, by group.
    RowsByGroup(String),
}

impl Circuit {
    /// The operators of a job, in the order in which they run; of another job or a history that it reads only the name.
    pub fn operators_of(&self, job: usize) -> Vec<NodeDescription> {
        let parts = self.parts_of(job);
        let described = self.describe().into_iter().filter_map(|node| {
            Some(match parts.get(&node.id)? {
                None => node,
                Some(other) => {
                    NodeDescription { inputs: Vec::new(), text: other.clone(), held: Held::default(), ..node }
                }
            })
        });
        described.collect()
    }

    /// What the state of a job's own operators grows with; nothing if it does not.
    pub fn growth(&self, job: usize) -> Vec<String> {
        let parts = self.parts_of(job);
        let mut shows: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        let mut growth: BTreeSet<String> = BTreeSet::new();
        let mut waiting: BTreeSet<String> = BTreeSet::new();
        for (&id, other) in &parts {
            let Some(node) = self.nodes.get(id) else { continue };
            let rows_of =
                |table: &str| BTreeSet::from([format!("rows of {}", table.rsplit(' ').next().unwrap_or(table))]);
            let own = match (other, &node.operator) {
                (Some(other), _) => rows_of(other),
                (None, None) if node.arrangement.is_some() => {
                    let rows: BTreeSet<String> =
                        node.inputs.iter().filter_map(|input| shows.get(input)).flatten().cloned().collect();
                    growth.extend(rows.iter().cloned());
                    rows
                }
                (None, None) => rows_of(&node.label),
                (None, Some(operator)) => {
                    let inputs: BTreeSet<String> =
                        node.inputs.iter().filter_map(|input| shows.get(input)).flatten().cloned().collect();
                    let keeps = operator.keeps();
                    match &keeps {
                        Keeps::Nothing => {}
                        Keeps::Rows | Keeps::RowsByGroup(_) => growth.extend(inputs.iter().cloned()),
                        Keeps::WaitingRows => waiting.extend(inputs.iter().cloned()),
                        Keeps::Groups(_) => {}
                    }
                    match keeps {
                        Keeps::Groups(groups) | Keeps::RowsByGroup(groups) if groups.is_empty() => BTreeSet::new(),
                        Keeps::Groups(groups) | Keeps::RowsByGroup(groups) => {
                            growth.insert(format!("groups by {groups}"));
                            BTreeSet::from([format!("groups by {groups}")])
                        }
                        _ => inputs,
                    }
                }
            };
            shows.insert(id, own);
        }
        let waiting = waiting.difference(&growth).map(|rows| format!("{rows} that the watermark has not passed"));
        let waiting: Vec<String> = waiting.collect();
        growth.into_iter().chain(waiting).collect()
    }

    /// The nodes that a job's rows come from, and which other job or history each is, if one: `job x`, `history x_history`.
    fn parts_of(&self, job: usize) -> BTreeMap<usize, Option<String>> {
        let mut parts = BTreeMap::new();
        let Some(last) = self.jobs.get(job).map(|job| job.node) else { return parts };
        let mut open = vec![last];
        while let Some(id) = open.pop() {
            let job = self.jobs.iter().find(|other| other.node == id).filter(|_| id != last);
            let history = self.histories.iter().find(|history| history.node == id);
            let other = match (job, history) {
                (Some(job), _) => Some(format!("job {}", job.name)),
                (None, Some(history)) => Some(format!("history {}", history.table.name)),
                (None, None) => None,
            };
            let own = other.is_none();
            if parts.insert(id, other).is_none() && own {
                open.extend(self.nodes.get(id).into_iter().flat_map(|node| self.reads(node)));
            }
        }
        parts
    }
}
