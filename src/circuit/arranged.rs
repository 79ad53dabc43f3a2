//! Arrangements that operators share.
//!
//! An operator that looks up rows of one of its inputs asks for an [`Arrangement`] of it. Those of one input by one key, with
//! one meaning of null, are held once, by the circuit, for all jobs. In a step every operator sees them as they were before it;
//! they are brought up to date when all operators are done.
//!
//! Inputs that show columns of one node count as that node: their rows are in one arrangement with the columns of them all. So
//! the index and the columns that they share exist once, and no column is held that none of them needs; what is held is never
//! more than apart. An operator that keeps something beside each row ([`Wanted::Rows`]) needs rows that come and go just as its
//! input's do: it shares with those that read the same node, and with those that read fewer columns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::Schema;
use datafusion::error::Result;

use crate::state::{Arrangement, Delta, Match, NullKeys, RowId, StateReader, StateWriter};

use super::{Held, Node};

/// Names the use of an arrangement by an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Use(usize);

/// What an operator asks for.
#[derive(Debug)]
pub(super) struct Request {
    /// The input.
    pub(super) node: usize,
    /// The columns of the input by which it is looked up.
    pub(super) key: Vec<usize>,
    /// What a null in the key means.
    pub(super) nulls: NullKeys,
    /// How the rows are seen.
    pub(super) wanted: Wanted,
}

/// How an operator sees the rows of an arrangement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// As values: which of equal rows is which does not matter.
    Values,
    /// As rows with identifiers, which come and go as the input's delta says.
    Rows,
}

impl Request {
    /// The name of the request at this position among all.
    pub(super) fn name(position: usize) -> Use {
        Use(position)
    }
}

/// All arrangements of a circuit.
#[derive(Debug, Default)]
pub(crate) struct Arrangements {
    shared: Vec<Shared>,
    /// By [`Use`]; none for a request that no operator was made for.
    views: Vec<Option<View>>,
}

/// An arrangement and where its rows come from.
#[derive(Debug)]
struct Shared {
    rows: Arrangement,
    /// The node whose delta it takes in.
    fed_by: usize,
    /// Which of that node's columns are held, in the arrangement's order.
    columns: Vec<usize>,
    /// Whether the delta has to be consolidated, because it loses columns.
    narrowed: bool,
}

/// What one use sees.
#[derive(Debug)]
struct View {
    shared: usize,
    /// Where each column of the input is in the arrangement.
    columns: Vec<usize>,
    /// The node that stands for the arrangement.
    node: usize,
}

/// The rows of an input as they were before the step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arranged<'a> {
    rows: &'a Arrangement,
    columns: &'a [usize],
}

impl Arrangements {
    /// What a use sees.
    pub(crate) fn view(&self, of: Use) -> Arranged<'_> {
        let view = self.views[of.0].as_ref().expect("an operator's uses are settled");
        Arranged { rows: &self.shared[view.shared].rows, columns: &view.columns }
    }

    /// The node that stands for the arrangement of a use.
    pub(super) fn node(&self, of: Use) -> Option<usize> {
        self.views.get(of.0)?.as_ref().map(|view| view.node)
    }

    /// What an arrangement holds.
    pub(super) fn held(&self, arrangement: usize) -> Held {
        self.shared
            .get(arrangement)
            .map_or_else(Held::default, |shared| Held { rows: shared.rows.rows(), bytes: shared.rows.bytes() })
    }

    /// Writes all rows.
    pub(super) fn save(&self, state: &mut StateWriter) -> Result<()> {
        self.shared.iter().try_for_each(|shared| shared.rows.save(state))
    }

    /// Takes up what the arrangements of a circuit compiled alike wrote.
    pub(super) fn load(&mut self, state: &mut StateReader) -> Result<()> {
        self.shared.iter_mut().try_for_each(|shared| shared.rows.load(state))
    }

    /// Takes in what the nodes changed; the end of a step.
    pub(super) fn apply(&mut self, deltas: &[Delta]) -> Result<()> {
        for shared in &mut self.shared {
            let Some(delta) = deltas.get(shared.fed_by).filter(|delta| !delta.is_empty()) else { continue };
            let delta = delta.project(&shared.columns)?;
            shared.rows.apply(&if shared.narrowed { delta.consolidate()? } else { delta })?;
        }
        Ok(())
    }
}

impl Arranged<'_> {
    /// The rows whose key equals that of a probe row; see [`Arrangement::probe`].
    pub(crate) fn probe(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<Match>> {
        self.rows.probe(keys, rows)
    }

    /// The first `width` columns of the input, of these rows.
    pub(crate) fn gather(&self, width: usize, rows: &[RowId]) -> Result<Vec<ArrayRef>> {
        self.rows.gather_columns(self.columns.get(..width).unwrap_or(self.columns), rows)
    }

    /// The weight of each of these rows.
    pub(crate) fn weights(&self, rows: impl Iterator<Item = RowId>) -> Vec<i64> {
        rows.map(|row| self.rows.weight(row)).collect()
    }

    /// Which rows of the input's delta will come, and under which identifiers; for [`Wanted::Rows`].
    pub(crate) fn coming(&self, keys: &[ArrayRef], weights: &[i64]) -> Vec<(usize, RowId)> {
        self.rows.coming(keys, weights)
    }

    /// The rows that went with the last step that changed the input; for [`Wanted::Rows`].
    pub(crate) fn gone(&self) -> &[RowId] {
        self.rows.gone()
    }
}

/// An arrangement as it takes shape.
struct Plan {
    /// The node that it is of.
    node: usize,
    /// Which of the node's columns are held.
    columns: BTreeSet<usize>,
    /// The key, as columns of the node.
    key: Vec<usize>,
    nulls: NullKeys,
    /// A request whose input has exactly these columns: its delta is the arrangement's.
    fed_by: Option<usize>,
    /// The requests that it answers.
    answers: Vec<usize>,
}

/// A request by the node whose columns its input shows.
struct Asked {
    position: usize,
    node: usize,
    /// The input's columns, as columns of the node.
    columns: Vec<usize>,
    key: Vec<usize>,
}

/// Decides which arrangements there are, and puts a node for each behind the one that it is of. Returns the new number of
/// each node. `results` are nodes that are more than their columns: the results of jobs.
pub(super) fn settle(
    nodes: &mut Vec<Node>,
    requests: &[Request],
    results: &BTreeSet<usize>,
) -> (Arrangements, Vec<usize>) {
    let used: BTreeSet<usize> = nodes.iter().flat_map(|node| node.uses.iter().map(|of| of.0)).collect();
    let asked: Vec<Asked> = used.into_iter().map(|position| asked(nodes, requests, position, results)).collect();
    let plans = plans(requests, &asked);
    let mut arrangements = Arrangements { shared: Vec::new(), views: requests.iter().map(|_| None).collect() };
    for (position, plan) in plans.iter().enumerate() {
        arrangements.shared.push(plan.arrange(nodes, requests, &asked));
        for asked in asked.iter().filter(|asked| plan.answers.contains(&asked.position)) {
            let view = View { shared: position, columns: plan.places(&asked.columns), node: plan.node };
            arrangements.views[asked.position] = Some(view);
        }
    }
    let (renumbered, of_plans) = insert_nodes(nodes, &plans);
    for shared in &mut arrangements.shared {
        shared.fed_by = renumbered[shared.fed_by];
    }
    for view in arrangements.views.iter_mut().flatten() {
        view.node = of_plans[view.shared];
    }
    (arrangements, renumbered)
}

/// Follows a request's input to the node whose columns it shows.
fn asked(nodes: &[Node], requests: &[Request], position: usize, results: &BTreeSet<usize>) -> Asked {
    let request = &requests[position];
    let mut node = request.node;
    let mut columns: Vec<usize> = (0..nodes[node].empty.batch().num_columns()).collect();
    while !results.contains(&node)
        && let Some(shown) = nodes[node].operator.as_ref().and_then(|operator| operator.columns_shown())
        && let [input] = nodes[node].inputs[..]
    {
        columns.iter_mut().for_each(|column| *column = shown[*column]);
        node = input;
    }
    let key = request.key.iter().map(|&column| columns[column]).collect();
    Asked { position, node, columns, key }
}

/// One arrangement for all requests that can share it.
fn plans(requests: &[Request], asked: &[Asked]) -> Vec<Plan> {
    let mut groups: BTreeMap<(usize, &[usize], NullKeys), Vec<&Asked>> = BTreeMap::new();
    for asked in asked {
        groups.entry((asked.node, &asked.key, requests[asked.position].nulls)).or_default().push(asked);
    }
    let mut plans = Vec::new();
    for ((node, key, nulls), group) in groups {
        let plan = |columns: BTreeSet<usize>, fed_by: Option<usize>| Plan {
            node,
            columns,
            key: key.to_vec(),
            nulls,
            fed_by,
            answers: Vec::new(),
        };
        let (exact, others): (Vec<&Asked>, Vec<&Asked>) =
            group.into_iter().partition(|asked| requests[asked.position].wanted == Wanted::Rows);
        let mut made: Vec<Plan> = Vec::new();
        for asked in exact {
            let input = |position: usize| requests[position].node;
            let same = |plan: &&mut Plan| plan.fed_by.map(input) == Some(input(asked.position));
            match made.iter_mut().find(same) {
                Some(known) => known.answers.push(asked.position),
                None => {
                    let columns = asked.columns.iter().copied().collect();
                    made.push(Plan { answers: vec![asked.position], ..plan(columns, Some(asked.position)) });
                }
            }
        }
        let mut rest: Vec<&Asked> = Vec::new();
        for asked in others {
            let holds = |plan: &&mut Plan| asked.columns.iter().all(|column| plan.columns.contains(column));
            match made.iter_mut().filter(holds).min_by_key(|plan| plan.columns.len()) {
                Some(plan) => plan.answers.push(asked.position),
                None => rest.push(asked),
            }
        }
        if !rest.is_empty() {
            let columns: BTreeSet<usize> = rest.iter().flat_map(|asked| asked.columns.iter().copied()).collect();
            let whole = rest.iter().find(|asked| columns.iter().all(|column| asked.columns.contains(column)));
            let fed_by = whole.map(|asked| asked.position);
            made.push(Plan { answers: rest.iter().map(|asked| asked.position).collect(), ..plan(columns, fed_by) });
        }
        plans.append(&mut made);
    }
    plans
}

impl Plan {
    /// Where these columns of the node are in the arrangement.
    fn places(&self, columns: &[usize]) -> Vec<usize> {
        columns.iter().filter_map(|column| self.columns.iter().position(|held| held == column)).collect()
    }

    /// The arrangement, empty, with the nodes' numbers as they are.
    fn arrange(&self, nodes: &[Node], requests: &[Request], asked: &[Asked]) -> Shared {
        let schema = nodes[self.node].empty.batch().schema();
        let fields: Vec<_> = self.columns.iter().map(|&column| Arc::clone(&schema.fields()[column])).collect();
        let rows = Arrangement::new(Arc::new(Schema::new(fields)), self.places(&self.key), self.nulls);
        match self.fed_by.and_then(|position| asked.iter().find(|asked| asked.position == position)) {
            Some(whole) => {
                let place = |column: &usize| whole.columns.iter().position(|shown| shown == column);
                let columns = self.columns.iter().filter_map(place).collect();
                Shared { rows, fed_by: requests[whole.position].node, columns, narrowed: false }
            }
            None => {
                let narrowed = self.columns.len() < schema.fields().len();
                Shared { rows, fed_by: self.node, columns: self.columns.iter().copied().collect(), narrowed }
            }
        }
    }

    fn text(&self, schema: &Schema) -> String {
        let names = |columns: &mut dyn Iterator<Item = &usize>| {
            columns.map(|&column| schema.field(column).name().as_str()).collect::<Vec<_>>().join(", ")
        };
        let by = if self.key.is_empty() { "as one".to_owned() } else { format!("by {}", names(&mut self.key.iter())) };
        format!("rows {by}: {}", names(&mut self.columns.iter()))
    }
}

/// Puts a node for each arrangement behind the one that it is of. Returns the new number of each node, and the number of each
/// arrangement's.
fn insert_nodes(nodes: &mut Vec<Node>, plans: &[Plan]) -> (Vec<usize>, Vec<usize>) {
    let jobs = |plan: &Plan| -> Vec<usize> {
        let users = nodes.iter().filter(|node| node.uses.iter().any(|of| plan.answers.contains(&of.0)));
        users.flat_map(|node| node.jobs.iter().copied()).collect::<BTreeSet<_>>().into_iter().collect()
    };
    let mut made: Vec<(usize, Node)> = Vec::new();
    for (position, plan) in plans.iter().enumerate() {
        let of = &nodes[plan.node];
        let node = Node {
            operator: None,
            arrangement: Some(position),
            inputs: vec![plan.node],
            uses: Vec::new(),
            jobs: jobs(plan),
            empty: of.empty.clone(),
            label: plan.text(&of.empty.batch().schema()),
        };
        made.push((plan.node, node));
    }
    let mut renumbered = Vec::with_capacity(nodes.len());
    let mut of_plans = vec![0; plans.len()];
    let mut all: Vec<Node> = Vec::with_capacity(nodes.len() + plans.len());
    for (old, node) in std::mem::take(nodes).into_iter().enumerate() {
        renumbered.push(all.len());
        all.push(node);
        for (_, node) in made.extract_if(.., |(of, _)| *of == old) {
            if let Some(place) = node.arrangement.and_then(|plan| of_plans.get_mut(plan)) {
                *place = all.len();
            }
            all.push(node);
        }
    }
    for node in &mut all {
        node.inputs.iter_mut().for_each(|input| *input = renumbered[*input]);
    }
    *nodes = all;
    (renumbered, of_plans)
}
