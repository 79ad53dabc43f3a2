//! What a job's operators are, and what their state grows with.

use std::collections::{BTreeMap, BTreeSet};

use super::{Circuit, Held, NodeDescription, Operator};

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

/// What the state of some operators grows with.
#[derive(Debug, Default)]
struct Growth {
    for_ever: BTreeSet<String>,
    until_forgotten: BTreeSet<String>,
    until_passed: BTreeSet<String>,
}

impl Growth {
    /// Adds what an operator keeps of its inputs, given what the rows of each are; returns what its own rows are.
    fn add(&mut self, operator: &dyn Operator, inputs: &[BTreeSet<String>]) -> BTreeSet<String> {
        let all = || inputs.iter().flatten().cloned().collect();
        let keeps = operator.keeps();
        if matches!(keeps, Keeps::Rows | Keeps::RowsByGroup(_)) {
            inputs.iter().enumerate().for_each(|(input, what)| self.keep(what, operator.forgets(input)));
        }
        match keeps {
            Keeps::Groups(groups) | Keeps::RowsByGroup(groups) if groups.is_empty() => BTreeSet::new(),
            Keeps::Groups(groups) | Keeps::RowsByGroup(groups) => {
                let groups = BTreeSet::from([format!("groups by {groups}")]);
                self.keep(&groups, operator.forgets(0));
                groups
            }
            Keeps::WaitingRows => {
                self.until_passed.extend(inputs.iter().flatten().cloned());
                all()
            }
            Keeps::Nothing | Keeps::Rows => all(),
        }
    }

    /// Adds what is kept, until it is forgotten or for ever.
    fn keep(&mut self, what: &BTreeSet<String>, forgotten: bool) {
        let kept = if forgotten { &mut self.until_forgotten } else { &mut self.for_ever };
        kept.extend(what.iter().cloned());
    }

    fn finish(self) -> Vec<String> {
        let forgotten = self.until_forgotten.difference(&self.for_ever);
        let forgotten: Vec<String> = forgotten.map(|what| format!("{what} until they are forgotten")).collect();
        let passed = self.until_passed.difference(&self.for_ever);
        let passed: Vec<String> = passed.map(|rows| format!("{rows} that the watermark has not passed")).collect();
        self.for_ever.into_iter().chain(forgotten).chain(passed).collect()
    }
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
        let mut growth = Growth::default();
        for (&id, other) in &parts {
            let Some(node) = self.nodes.get(id) else { continue };
            let rows_of =
                |table: &str| BTreeSet::from([format!("rows of {}", table.rsplit(' ').next().unwrap_or(table))]);
            let own = match (other, &node.operator) {
                (Some(other), _) => rows_of(other),
                (None, None) if node.arrangement.is_some() => {
                    let rows: BTreeSet<String> =
                        node.inputs.iter().filter_map(|input| shows.get(input)).flatten().cloned().collect();
                    growth.keep(&rows, node.arrangement.is_some_and(|at| self.arrangement_forgets(at)));
                    rows
                }
                (None, None) => rows_of(&node.label),
                (None, Some(operator)) => {
                    let of = |input: &usize| shows.get(input).cloned().unwrap_or_default();
                    let inputs: Vec<BTreeSet<String>> = node.inputs.iter().map(of).collect();
                    growth.add(operator.as_ref(), &inputs)
                }
            };
            shows.insert(id, own);
        }
        growth.finish()
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
