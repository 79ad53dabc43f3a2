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
    /// The operators of a job, in the order in which they run; of another job that it reads only the name.
    pub fn operators_of(&self, job: usize) -> Vec<NodeDescription> {
        let parts = self.parts_of(job);
        let described = self.describe().into_iter().filter_map(|node| {
            Some(match parts.get(&node.id)? {
                None => node,
                Some(other) => NodeDescription {
                    inputs: Vec::new(),
                    text: format!("job {}", self.jobs.get(*other)?.name),
                    held: Held::default(),
                    ..node
                },
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
            let name =
                |job: &usize| self.jobs.get(*job).map_or_else(String::new, |job| format!("rows of {}", job.name));
            let own = match (other, &node.operator) {
                (Some(other), _) => BTreeSet::from([name(other)]),
                (None, None) if node.arrangement.is_some() => {
                    let rows: BTreeSet<String> =
                        node.inputs.iter().filter_map(|input| shows.get(input)).flatten().cloned().collect();
                    growth.extend(rows.iter().cloned());
                    rows
                }
                (None, None) => BTreeSet::from([format!("rows of {}", node.label.trim_start_matches("source "))]),
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

    /// The nodes that a job's rows come from, and of which other job each is the result, if of one.
    fn parts_of(&self, job: usize) -> BTreeMap<usize, Option<usize>> {
        let mut parts = BTreeMap::new();
        let Some(last) = self.jobs.get(job).map(|job| job.node) else { return parts };
        let mut open = vec![last];
        while let Some(id) = open.pop() {
            let other = self.jobs.iter().position(|other| other.node == id).filter(|_| id != last);
            if parts.insert(id, other).is_none() && other.is_none() {
                open.extend(self.nodes.get(id).into_iter().flat_map(|node| self.reads(node)));
            }
        }
        parts
    }
}
