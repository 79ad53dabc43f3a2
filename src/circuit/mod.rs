//! The circuit: jobs compiled into operators that map input deltas to output deltas.
//!
//! The law: for every operator, its output deltas up to any epoch add up to what the plan node returns over the input
//! deltas added up to that epoch. [`Circuit::step`] is synchronous and pure: no I/O, no clock, no randomness; the same
//! steps give the same output on every machine. Nothing is planned in a step.

mod aggregate;
mod aggregate_plan;
mod arranged;
mod columns;
mod compile;
mod distinct;
mod expression;
mod growth;
mod grouping_sets;
mod intake;
mod join;
mod join_plan;
mod key;
mod map;
mod ordered;
mod recipe;
mod saved;
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

use datafusion::error::Result;

use crate::plan::plain_literals;
use crate::state::{Delta, StateReader, StateWriter, damaged};
use crate::types::Micros;

use arranged::{Arrangements, Use};
pub use compile::{CompiledJob, compile};
pub(crate) use growth::Keeps;
pub use intake::{Admitted, Intake, positions};

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

    /// Writes what it keeps, all of it: see [`crate::state::StateWriter`].
    fn save(&self, state: &mut StateWriter) -> Result<()>;

    /// Takes up what an operator that was compiled alike wrote, before its first step.
    fn load(&mut self, state: &mut StateReader) -> Result<()>;

    /// What state the operator holds.
    fn held(&self) -> Held {
        Held::default()
    }

    /// What it keeps of its inputs' past.
    fn keeps(&self) -> Keeps {
        Keeps::Nothing
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
    /// The watermark of the epoch before.
    pub(crate) watermark_before: Option<Micros>,
    /// The watermark of this epoch; never lower.
    pub(crate) watermark: Option<Micros>,
    /// Rows that can't stand in an output, with the weight of their appearance; collected over all operators.
    pub(crate) errors: Vec<ErrorRow>,
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
    started: bool,
    watermark: Option<Micros>,
}

/// What a step changed.
#[derive(Debug)]
pub struct StepOutput {
    /// For each compiled job its change, consolidated.
    pub jobs: Vec<Delta>,
    /// Rows that can't stand in an output, consolidated, in a fixed order.
    pub errors: Vec<ErrorRow>,
}

impl Circuit {
    /// Takes the changes of the sources, in the order of [`compile`]'s tables, and the epoch's watermark. A watermark
    /// below the last one counts as the last one: it never falls.
    ///
    /// What fails on a row, and a group whose values can't be expressed, is an error row of the output.
    ///
    /// # Errors
    /// A limit (2^32 rows or groups, sums of more than 128 bits) or a broken invariant; the circuit must not be stepped again
    /// after that.
    pub fn step(&mut self, sources: &[Delta], watermark: Option<Micros>) -> Result<StepOutput> {
        let watermark = watermark.max(self.watermark);
        let mut context = StepContext {
            arrangements: &self.arrangements,
            first: !self.started,
            watermark_before: self.watermark,
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
        self.watermark = watermark;
        let jobs = self.jobs.iter().map(|job| deltas[job.node].clone().consolidate()).collect::<Result<_>>()?;
        Ok(StepOutput { jobs, errors: consolidate_errors(errors) })
    }

    /// Writes the state of all operators.
    pub fn save(&self, state: &mut StateWriter) -> Result<()> {
        state.value(&(self.started, self.watermark, self.nodes.len()))?;
        for node in &self.nodes {
            if let Some(operator) = &node.operator {
                state.value(&operator.describe())?;
                operator.save(state)?;
            }
        }
        self.arrangements.save(state)
    }

    /// Takes up the state that a circuit compiled alike wrote, before the first step.
    ///
    /// # Errors
    /// Another circuit wrote it. This one must not be stepped then.
    pub fn load(&mut self, state: &mut StateReader) -> Result<()> {
        let (started, watermark, nodes): (bool, Option<Micros>, usize) = state.value()?;
        if nodes != self.nodes.len() {
            return Err(damaged(&format!("it has {nodes} operators, the jobs {} now", self.nodes.len())));
        }
        for node in &mut self.nodes {
            if let Some(operator) = &mut node.operator {
                let described: String = state.value()?;
                if described != operator.describe() {
                    return Err(damaged(&format!("`{described}` is `{}` now", operator.describe())));
                }
                operator.load(state)?;
            }
        }
        self.arrangements.load(state)?;
        (self.started, self.watermark) = (started, watermark);
        Ok(())
    }

    /// The jobs in the order of [`StepOutput::jobs`].
    pub fn jobs(&self) -> &[CompiledJob] {
        &self.jobs
    }

    /// The watermark of the last step.
    pub fn watermark(&self) -> Option<Micros> {
        self.watermark
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
