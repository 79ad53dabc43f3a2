//! The circuit: jobs compiled into operators that map input deltas to output deltas.
//!
//! The law: for every operator, its output deltas up to any epoch add up to what the plan node returns over the input
//! deltas added up to that epoch. [`Circuit::step`] is synchronous and pure: no I/O, no clock, no randomness; the same
//! steps give the same output on every machine. Nothing is planned in a step.

mod aggregate;
mod aggregate_plan;
mod arranged;
mod closed;
mod columns;
mod compile;
mod distinct;
mod expression;
mod growth;
mod grouping_sets;
mod history;
mod history_plan;
mod intake;
mod join;
mod join_bounds;
mod join_plan;
mod key;
mod map;
mod ordered;
mod recipe;
mod retention;
mod rising;
mod scalar;
mod single;
mod sums;
mod temporal;
mod top;
mod top_plan;
mod union;
mod unnest;
mod upsert;
mod window;
mod window_plan;

use arrow::array::{ArrayRef, BooleanArray};
use datafusion::error::Result;

use crate::plan::plain_literals;
use crate::state::Delta;
use crate::types::Micros;

use arranged::{Arrangements, Use};
pub use closed::ClosedKeys;
pub(crate) use closed::RowKey;
pub use compile::{CompiledJob, compile};
pub(crate) use growth::Keeps;
pub use history_plan::CompiledHistory;
pub use intake::{Admitted, Arrivals, Intake, positions};
use retention::Rounds;
pub(crate) use retention::{Forgetting, Kept, Outlook, Pace};
pub use retention::{Forgotten, Promise, Retain};

/// One operator. An implementor keeps what it needs of its inputs' past, and nothing else.
pub(crate) trait Operator: Send {
    /// The change of the output that follows from the changes of the inputs.
    fn step(&mut self, inputs: &[&Delta], context: &mut StepContext) -> Result<Delta>;

    /// Which columns of its one input it shows, if it does nothing else.
    fn columns_shown(&self) -> Option<&[usize]> {
        None
    }

    /// Whether the watermark alone can change the output.
    fn follows_watermark(&self) -> bool {
        false
    }

    /// What state the operator holds.
    fn held(&self) -> Held {
        Held::default()
    }

    /// What it keeps of its inputs' past.
    fn keeps(&self) -> Keeps {
        Keeps::Nothing
    }

    /// Learns what is known of the deltas to come of its inputs, before the first step; returns what follows for its output.
    /// The law is in [`retention`].
    fn learn(&mut self, inputs: &[&Outlook]) -> Outlook;

    /// Forgets what no delta to come can touch. Emits nothing.
    fn forget(&mut self, _: &Forgetting<'_>) -> Result<()> {
        Ok(())
    }

    /// Which of so many rows that it looks up can be forgotten, by their columns as its input has them; `used` is which of
    /// the things that it looks up.
    fn finals(&self, _used: usize, rows: usize, _columns: Vec<ArrayRef>, _: &Forgetting<'_>) -> Result<BooleanArray> {
        Ok(BooleanArray::from(vec![false; rows]))
    }

    /// Whether it forgets what it keeps or looks up of an input.
    fn forgets(&self, _input: usize) -> bool {
        false
    }

    /// Why the rows that it keeps of an input can't be forgotten, if they can't.
    fn kept_for_ever(&self, _input: usize) -> Option<Kept> {
        None
    }

    /// The operator in one line, for `check`.
    fn describe(&self) -> String;
}

/// What an operator may know beside its inputs.
#[derive(Debug)]
pub(crate) struct StepContext<'a> {
    /// What the operators look up, as it was before the step.
    pub(crate) arrangements: &'a Arrangements,
    /// Whether this is the circuit's first step: what does not depend on any row appears now.
    pub(crate) first: bool,
    /// The clock of this epoch; never lower than the one before.
    pub(crate) clock: Option<Micros>,
    /// The watermark of the epoch before.
    pub(crate) watermark_before: Option<Micros>,
    /// The watermark of this epoch; never lower.
    pub(crate) watermark: Option<Micros>,
    /// Rows that can't stand in an output, with the weight of their appearance; collected over all operators.
    pub(crate) errors: Vec<ErrorRow>,
}

/// The times of an epoch, as they are logged.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct EpochTimes {
    /// The clock; none before anything said what time it is.
    pub clock: Option<Micros>,
    /// The watermark; none before all sources spoke.
    pub watermark: Option<Micros>,
}

/// A watermark alone: only a history looks at the clock.
impl From<Option<Micros>> for EpochTimes {
    fn from(watermark: Option<Micros>) -> Self {
        Self { clock: None, watermark }
    }
}

/// A row that an expression failed on, or that has a null in its job's key: it stands here instead of in the output, until
/// it goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrorRow {
    /// The job, an index into the compiled jobs.
    pub job: usize,
    /// The expression, or the column of the key.
    pub expression: String,
    /// What failed.
    pub reason: String,
    /// The input row (of a null key the job's own row), column by column.
    pub row: String,
    /// How often it appears (or, negative, goes).
    pub weight: i64,
}

/// How much state an operator holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Rows, groups or values.
    pub rows: usize,
    /// Bytes, roughly.
    pub bytes: usize,
}

/// How a job is kept up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Maintenance {
    /// Work follows the rows that changed.
    Incremental,
    /// Some groups are computed anew whenever one of their rows changes; the reasons.
    Recompute(Vec<String>),
}

/// One operator as `check` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDescription {
    /// The operator's number; inputs have lower ones.
    pub id: usize,
    /// The operators that it reads.
    pub inputs: Vec<usize>,
    /// The jobs that it is part of; none for a source.
    pub jobs: Vec<usize>,
    /// What it does.
    pub text: String,
    /// What it holds now.
    pub held: Held,
}

/// A source, an operator, or an arrangement of another node's rows.
struct Node {
    operator: Option<Box<dyn Operator>>,
    /// Of an arrangement its position among them.
    arrangement: Option<usize>,
    /// The nodes whose changes it takes.
    inputs: Vec<usize>,
    /// What it looks up.
    uses: Vec<Use>,
    jobs: Vec<usize>,
    empty: Delta,
    label: String,
}

/// All jobs of a pipeline as one graph of operators, in topological order.
pub struct Circuit {
    nodes: Vec<Node>,
    arrangements: Arrangements,
    sources: Vec<usize>,
    jobs: Vec<CompiledJob>,
    histories: Vec<CompiledHistory>,
    started: bool,
    times: EpochTimes,
    forgetting: Rounds,
}

/// What a step changed.
#[derive(Debug)]
pub struct StepOutput {
    /// For each compiled job its change, consolidated.
    pub jobs: Vec<Delta>,
    /// For each history its change, consolidated.
    pub histories: Vec<Delta>,
    /// Rows that can't stand in an output, consolidated, in a fixed order.
    pub errors: Vec<ErrorRow>,
}

impl Circuit {
    fn new(
        nodes: Vec<Node>,
        arrangements: Arrangements,
        sources: Vec<usize>,
        jobs: Vec<CompiledJob>,
        histories: Vec<CompiledHistory>,
    ) -> Self {
        let (times, forgetting) = (EpochTimes::default(), Rounds::default());
        Self { nodes, arrangements, sources, jobs, histories, started: false, times, forgetting }
    }

    /// Takes the changes of the sources, in the order of [`compile`]'s tables, and the epoch's times. A clock or watermark
    /// below the last one counts as the last one: neither ever falls.
    ///
    /// What fails on a row, and a group whose values can't be expressed, is an error row of the output.
    ///
    /// # Errors
    /// A limit (2^32 rows or groups, sums of more than 128 bits) or a broken invariant; the circuit must not be stepped again
    /// after that.
    pub fn step(&mut self, sources: &[Delta], times: impl Into<EpochTimes>) -> Result<StepOutput> {
        let (times, before) = (times.into(), self.times);
        let clock = times.clock.max(before.clock);
        let watermark = times.watermark.max(before.watermark);
        let mut context = StepContext {
            arrangements: &self.arrangements,
            first: !self.started,
            clock,
            watermark_before: before.watermark,
            watermark,
            errors: Vec::new(),
        };
        let mut deltas: Vec<Delta> = Vec::with_capacity(self.nodes.len());
        for (position, node) in self.nodes.iter_mut().enumerate() {
            let delta = match self.sources.iter().position(|&source| source == position) {
                Some(source) => sources.get(source).unwrap_or(&node.empty).clone(),
                None => node.step(&deltas, &mut context)?,
            };
            deltas.push(delta);
        }
        let errors = context.errors;
        self.arrangements.apply(&deltas)?;
        self.started = true;
        self.times = EpochTimes { clock, watermark };
        let jobs = self.jobs.iter().map(|job| deltas[job.node].clone().consolidate()).collect::<Result<_>>()?;
        let histories = self.histories.iter().map(|history| deltas[history.node].clone()).collect();
        Ok(StepOutput { jobs, histories, errors: consolidate_errors(errors) })
    }

    /// The jobs in the order of [`StepOutput::jobs`].
    pub fn jobs(&self) -> &[CompiledJob] {
        &self.jobs
    }

    /// The histories in the order of [`StepOutput::histories`].
    pub fn histories(&self) -> &[CompiledHistory] {
        &self.histories
    }

    /// The watermark of the last step.
    pub fn watermark(&self) -> Option<Micros> {
        self.times.watermark
    }

    /// Every operator, for `check` and `status`.
    pub fn describe(&self) -> Vec<NodeDescription> {
        let describe = |(id, node): (usize, &Node)| NodeDescription {
            id,
            inputs: self.reads(node),
            jobs: node.jobs.clone(),
            text: node
                .operator
                .as_ref()
                .map_or_else(|| node.label.clone(), |operator| plain_literals(&operator.describe())),
            held: match node.arrangement {
                Some(arrangement) => self.arrangements.held(arrangement),
                None => node.operator.as_ref().map_or_else(Held::default, |operator| operator.held()),
            },
        };
        self.nodes.iter().enumerate().map(describe).collect()
    }

    /// The nodes that a node takes changes of, and the arrangements that it looks up.
    fn reads(&self, node: &Node) -> Vec<usize> {
        let looked_up = node.uses.iter().filter_map(|&of| self.arrangements.node(of));
        let mut reads: Vec<usize> = Vec::new();
        for read in node.inputs.iter().copied().chain(looked_up) {
            if !reads.contains(&read) {
                reads.push(read);
            }
        }
        reads
    }
}

impl Node {
    fn step(&mut self, deltas: &[Delta], context: &mut StepContext) -> Result<Delta> {
        let Some(operator) = self.operator.as_mut() else { return Ok(self.empty.clone()) };
        let inputs: Vec<&Delta> = self.inputs.iter().map(|&input| &deltas[input]).collect();
        let ticked = operator.follows_watermark() && context.watermark != context.watermark_before;
        if !context.first && !ticked && inputs.iter().all(|input| input.is_empty()) {
            return Ok(self.empty.clone());
        }
        let known = context.errors.len();
        let delta = operator.step(&inputs, context)?;
        let found = context.errors.split_off(known);
        for &job in &self.jobs {
            context.errors.extend(found.iter().map(|error| ErrorRow { job, ..error.clone() }));
        }
        Ok(delta)
    }
}

fn consolidate_errors(mut errors: Vec<ErrorRow>) -> Vec<ErrorRow> {
    errors.sort();
    let mut kept: Vec<ErrorRow> = Vec::new();
    for error in errors {
        match kept.last_mut() {
            Some(last)
                if (last.job, &last.expression, &last.reason, &last.row)
                    == (error.job, &error.expression, &error.reason, &error.row) =>
            {
                last.weight += error.weight;
            }
            _ => kept.push(error),
        }
    }
    kept.retain(|error| error.weight != 0);
    kept
}
