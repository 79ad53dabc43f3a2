//! Bounded state: what operators may forget.
//!
//! The law: whatever is forgotten, every delta to come is what it would be had nothing been forgotten. So forgetting emits no
//! delta, results stay, and no table tells whether, or when, something was forgotten.
//!
//! It rests on one promise of a source that declares `retain`: no row will come with an event time before the source's
//! *horizon*, which never falls; such a row is late, and no change. From that follows, node by node, an [`Outlook`]: what is
//! known of the deltas to come. Its *bounds* say of a column that in every row of them, whether it appears or goes, the column
//! is null or not below the bound. A row whose column is below it is *final*: it neither appears nor goes any more. A source
//! that retains rows until their key is closed ([`ClosedKeys`]) promises that no row of a closed key comes or goes: a row is
//! final if the values of some columns are a closed key of each of some sources.
//!
//! | node | what is known of its deltas to come |
//! |---|---|
//! | source | its event time is not below the horizon; no row goes, unless it is an upsert source |
//! | filter | what is known of its input's |
//! | projection, unnest | that too; a function of a column that never falls as the column rises carries the bound over |
//! | union all | of a column that all inputs bound, the least of the bounds |
//! | aggregation, distinct, window | what is known of the group's (partition's) columns: such groups change no more |
//! | comparison with `watermark()` | bounds of a column that the compared time is a fixed distance from, lowered to what the watermark has not passed yet |
//! | join | see [`super::join_bounds`] |
//! | anything else | nothing |
//!
//! What is forgotten: a group below a bound, whole; a row of a join once its own side can't take it back and the other side
//! can't match it any more. Aggregates that only need sums, counts or, where no row goes, extremes keep no rows in the first
//! place. An operator that would have to keep rows of a source with `retain` for ever is refused: [`Circuit::kept_for_ever`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::kernels::cmp::lt;
use arrow::compute::{and, or};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use crate::definition::contract::utc_timestamp;
use crate::diagnostic::{Diagnostic, SourceText};
use crate::plan::Refusal;
use crate::types::Micros;

use super::arranged::User;
use super::closed::ClosedKeys;
use super::rising::Rising;
use super::{Circuit, Node, Operator};

/// What a source promises of its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Promise {
    /// No row ever goes.
    pub grows_only: bool,
    /// How long rows are kept; none: for ever.
    pub retain: Option<Retain>,
}

/// How long a source's rows are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retain {
    /// No row comes or goes whose event time is before the source's horizon.
    Behind {
        /// The column of the event time, never null.
        column: usize,
        /// How much event time lies between the newest row and the horizon, about: how often it is worth looking for what
        /// can be forgotten.
        span: Micros,
    },
    /// No row comes or goes whose key is closed.
    Closed {
        /// The columns of the key.
        key: Vec<usize>,
    },
}

/// What a source has forgotten.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forgotten<'a> {
    /// Everything with an earlier event time.
    pub before: Option<Micros>,
    /// Everything with one of these keys.
    pub keys: Option<&'a ClosedKeys>,
}

/// What is known of the deltas to come of a node.
#[derive(Debug, Clone)]
pub(crate) struct Outlook {
    /// The columns of its rows.
    pub(crate) schema: SchemaRef,
    /// No row goes.
    pub(crate) grows_only: bool,
    /// There is none: it has shown its rows in the first step.
    pub(crate) still: bool,
    /// By column.
    pub(crate) bounds: BTreeMap<usize, Bound>,
    /// Of each, no row satisfies it.
    pub(crate) closed: Vec<Closed>,
    /// The sources with `retain` whose rows these are, by their positions.
    pub(crate) retained: BTreeSet<usize>,
}

/// Columns whose values are a closed key of each of these sources, in the order of the source's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed(Vec<(usize, Vec<usize>)>);

impl Closed {
    /// The same of other columns, if there is one for each.
    pub(crate) fn through(&self, shown: &dyn Fn(usize) -> Option<usize>) -> Option<Self> {
        let through = |(source, columns): &(usize, Vec<usize>)| {
            Some((*source, columns.iter().map(|&column| shown(column)).collect::<Option<Vec<_>>>()?))
        };
        self.0.iter().map(through).collect::<Option<Vec<_>>>().map(Self)
    }

    /// Both.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let mut both = self.0.clone();
        both.extend(other.0.iter().filter(|test| !self.0.contains(test)).cloned());
        Self(both)
    }
}

/// Which rows, or groups, are final.
#[derive(Debug, Default)]
pub(crate) struct Finals {
    /// Those with one of these columns below its bound.
    pub(crate) bounds: Vec<(usize, Bound)>,
    /// Those that satisfy one of these.
    pub(crate) closed: Vec<Closed>,
}

impl Finals {
    /// Whether none ever is.
    pub(crate) fn is_empty(&self) -> bool {
        self.bounds.is_empty() && self.closed.is_empty()
    }

    /// Those among some rows.
    pub(crate) fn among(&self, rows: usize, columns: &[ArrayRef], round: &Forgetting<'_>) -> Result<BooleanArray> {
        let column = |column: usize| Arc::clone(&columns[column]);
        let below = round.below_any(rows, self.bounds.iter().map(|(at, bound)| (column(*at), bound)))?;
        self.closed.iter().try_fold(below, |any, closed| Ok(or(&any, &round.closed(rows, columns, closed)?)?))
    }
}

/// What the values of a column in the rows to come are not below.
#[derive(Debug, Clone)]
pub(crate) enum Bound {
    /// The horizon of a source.
    Horizon(usize),
    /// The watermark.
    Watermark,
    /// The lesser of both.
    Least(Arc<Bound>, Arc<Bound>),
    /// So many microseconds before an instant.
    Before(Arc<Bound>, Micros),
    /// A function of a bound that never falls as it rises.
    Of(Rising, Arc<Bound>),
}

/// Where time stands: it never goes back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Horizons {
    /// Of each source.
    pub(crate) sources: Vec<Option<Micros>>,
    /// Of all.
    pub(crate) watermark: Option<Micros>,
}

/// One round of forgetting.
#[derive(Debug)]
pub(crate) struct Forgetting<'a> {
    horizons: &'a Horizons,
    sources: &'a [Forgotten<'a>],
    /// How many keys are closed.
    closed: usize,
    thorough: bool,
}

/// When an operator looks through what it holds: once that has doubled since it last did, or keys enough have closed, so that the
/// cost stays with what comes; and in each thorough round.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    left: usize,
    closed: usize,
}

impl Pace {
    /// Whether to look, given how much is held.
    pub(crate) fn is_due(&self, held: usize, round: &Forgetting<'_>) -> bool {
        let closed = round.closed.saturating_sub(self.closed);
        held > 0 && (round.thorough || held >= self.left * 2 + LOOK_FROM || closed * LOOKS_A_KEY >= held)
    }

    /// So much is left.
    pub(crate) fn done(&mut self, left: usize, round: &Forgetting<'_>) {
        (self.left, self.closed) = (left, round.closed);
    }
}

impl Default for Outlook {
    fn default() -> Self {
        Self {
            schema: Arc::new(Schema::empty()),
            grows_only: false,
            still: false,
            bounds: BTreeMap::new(),
            closed: Vec::new(),
            retained: BTreeSet::new(),
        }
    }
}

impl Outlook {
    /// What is known of a source.
    fn of_source(position: usize, promise: &Promise) -> Self {
        let retained = promise.retain.iter().map(|_| position).collect();
        let known = Self { grows_only: promise.grows_only, retained, ..Self::default() };
        match &promise.retain {
            None => known,
            Some(Retain::Behind { column, .. }) => {
                Self { bounds: BTreeMap::from([(*column, Bound::Horizon(position))]), ..known }
            }
            Some(Retain::Closed { key }) => Self { closed: vec![Closed(vec![(position, key.clone())])], ..known },
        }
    }

    /// Rows that are there from the first step on, and never change.
    pub(crate) fn constant() -> Self {
        Self { grows_only: true, still: true, ..Self::default() }
    }

    /// Nothing but whose rows they are.
    pub(crate) fn unknown(&self) -> Self {
        Self { retained: self.retained.clone(), ..Self::default() }
    }

    /// Which groups are final, by these columns.
    pub(crate) fn finals(&self, columns: &[usize]) -> Finals {
        let group = |column: usize| columns.contains(&column).then_some(column);
        Finals {
            bounds: self.bounds.iter().filter(|(column, _)| columns.contains(column)).map(owned).collect(),
            closed: self.closed.iter().filter_map(|closed| closed.through(&group)).collect(),
        }
    }

    /// Groups by these columns, which have the same places in the output.
    pub(crate) fn groups(&self, columns: &[usize]) -> Self {
        let Finals { bounds, closed } = self.finals(columns);
        Self { still: self.still, bounds: bounds.into_iter().collect(), closed, ..Self::default() }
    }

    /// The same rows with other columns: of each column of the output, what of the input it shows.
    pub(crate) fn showing<'a>(&self, columns: impl IntoIterator<Item = Option<Shown<'a>>>) -> Self {
        let columns: Vec<Option<Shown<'a>>> = columns.into_iter().collect();
        let bound = |shown: &Option<Shown<'a>>| match shown.as_ref()? {
            Shown::Column(column) => self.bounds.get(column).cloned(),
            Shown::Expression(expression) => self.bound_of(expression),
        };
        let bounds = columns.iter().enumerate().filter_map(|(column, shown)| Some((column, bound(shown)?))).collect();
        let place =
            |column: usize| columns.iter().position(|shown| shown.as_ref().and_then(Shown::column) == Some(column));
        let closed = self.closed.iter().filter_map(|closed| closed.through(&place)).collect();
        Self { bounds, closed, ..self.clone() }
    }

    /// The bound of an expression over the rows.
    fn bound_of(&self, expression: &Arc<dyn PhysicalExpr>) -> Option<Bound> {
        let function = Rising::of(expression, &self.schema)?;
        let bound = self.bounds.get(&function.column())?.clone();
        Some(if function.is_column() { bound } else { Bound::Of(function, Arc::new(bound)) })
    }

    /// The rows of several nodes with the same columns.
    pub(crate) fn all(inputs: &[&Self]) -> Self {
        let mut moving = inputs.iter().filter(|input| !input.still);
        let first = moving.next().map(|first| first.bounds.clone()).unwrap_or_default();
        let bounds = moving.fold(first, |mut least, next| {
            least = least
                .into_iter()
                .filter_map(|(column, bound)| Some((column, bound.or_less(next.bounds.get(&column)?))))
                .collect();
            least
        });
        let closed = inputs.iter().filter(|input| !input.still).map(|input| input.closed.clone());
        Self {
            grows_only: inputs.iter().all(|input| input.grows_only || input.still),
            still: inputs.iter().all(|input| input.still),
            bounds,
            closed: closed.reduce(|one, other| each_with_each(&one, &other)).unwrap_or_default(),
            retained: inputs.iter().flat_map(|input| &input.retained).copied().collect(),
            ..Self::default()
        }
    }
}

/// Where a column of an output comes from.
pub(crate) enum Shown<'a> {
    /// A column of the input.
    Column(usize),
    /// An expression over the input.
    Expression(&'a Arc<dyn PhysicalExpr>),
}

impl Shown<'_> {
    /// The column of the input that it is.
    fn column(&self) -> Option<usize> {
        match self {
            Self::Column(column) => Some(*column),
            Self::Expression(expression) => Some(expression.downcast_ref::<Column>()?.index()),
        }
    }
}

/// Of rows that satisfy none of `one`, or none of `other`: what none of them satisfies.
pub(crate) fn each_with_each(one: &[Closed], other: &[Closed]) -> Vec<Closed> {
    one.iter().flat_map(|one| other.iter().map(|other| one.and(other))).take(CLOSED_MAX).collect()
}

fn owned((column, bound): (&usize, &Bound)) -> (usize, Bound) {
    (*column, bound.clone())
}

impl Bound {
    /// The lesser of both.
    pub(crate) fn or_less(&self, other: &Self) -> Self {
        Self::Least(Arc::new(self.clone()), Arc::new(other.clone()))
    }

    /// The bound now; none if it is not known yet.
    fn now(&self, horizons: &Horizons) -> Option<ScalarValue> {
        match self {
            Self::Horizon(source) => horizons.sources.get(*source).copied().flatten().map(instant),
            Self::Watermark => horizons.watermark.map(instant),
            Self::Least(one, other) => {
                let (one, other) = (one.now(horizons)?, other.now(horizons)?);
                Some(if one.partial_cmp(&other)?.is_gt() { other } else { one })
            }
            Self::Before(bound, micros) => match bound.now(horizons)? {
                ScalarValue::TimestampMicrosecond(Some(at), _) => at.checked_sub(*micros).map(instant),
                _ => None,
            },
            Self::Of(function, bound) => function.at(&bound.now(horizons)?),
        }
    }
}

impl Forgetting<'_> {
    /// Which values are below a bound.
    pub(crate) fn below(&self, values: &ArrayRef, bound: &Bound) -> Result<BooleanArray> {
        let now = bound.now(self.horizons).filter(|now| !now.is_null() && now.data_type() == *values.data_type());
        let Some(now) = now else { return Ok(none_of(values.len())) };
        let below = lt(values, &now.to_scalar()?)?;
        Ok(below.iter().map(|below| Some(below == Some(true))).collect())
    }

    /// Which rows are below one of several bounds.
    pub(crate) fn below_any<'b>(
        &self,
        rows: usize,
        bounded: impl IntoIterator<Item = (ArrayRef, &'b Bound)>,
    ) -> Result<BooleanArray> {
        let mut any = none_of(rows);
        for (values, bound) in bounded {
            any = or(&any, &self.below(&values, bound)?)?;
        }
        Ok(any)
    }

    /// Which of some rows satisfy it.
    pub(crate) fn closed(&self, rows: usize, columns: &[ArrayRef], closed: &Closed) -> Result<BooleanArray> {
        let mut all = BooleanArray::from(vec![true; rows]);
        for (source, key) in &closed.0 {
            let Some(keys) = self.sources.get(*source).and_then(|source| source.keys) else { return Ok(none_of(rows)) };
            let key: Vec<ArrayRef> = key.iter().map(|&column| Arc::clone(&columns[column])).collect();
            all = and(&all, &keys.among(&key)?)?;
        }
        Ok(all)
    }
}

fn none_of(rows: usize) -> BooleanArray {
    BooleanArray::from(vec![false; rows])
}

fn instant(micros: Micros) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(
        Some(micros),
        match utc_timestamp() {
            arrow::datatypes::DataType::Timestamp(_, zone) => zone,
            _ => None,
        },
    )
}

impl Circuit {
    /// The circuit with what its sources promise, in their order; its operators will forget what these promises make final. For
    /// a circuit that has not been stepped.
    #[must_use]
    pub fn promising(mut self, promises: &[Promise]) -> Self {
        let mut outlooks: Vec<Outlook> = Vec::with_capacity(self.nodes.len());
        for (position, node) in self.nodes.iter_mut().enumerate() {
            let schema = node.empty.batch().schema();
            let inputs: Vec<&Outlook> = node.inputs.iter().filter_map(|&input| outlooks.get(input)).collect();
            let outlook = match node.operator.as_mut() {
                Some(operator) => operator.learn(&inputs),
                None => {
                    let source = self.sources.iter().position(|&source| source == position);
                    let promise = source.and_then(|source| Some((source, promises.get(source)?)));
                    promise.map(|(source, promise)| Outlook::of_source(source, promise)).unwrap_or_default()
                }
            };
            outlooks.push(Outlook { schema, ..outlook });
        }
        let span = |promise: &Promise| match &promise.retain {
            Some(Retain::Behind { span, .. }) => Some(*span),
            _ => None,
        };
        let spans = promises.iter().map(span).collect();
        self.forgetting = Rounds { spans, outlooks, ..Rounds::default() };
        self
    }

    /// A diagnostic for each operator that would keep rows of a source with `retain` for ever. `names` are those of the
    /// sources; `files` gives each job's SQL by its index.
    pub fn kept_for_ever(&self, names: &[Arc<str>], files: &dyn Fn(usize) -> Arc<SourceText>) -> Vec<Diagnostic> {
        let retains = |source: usize| {
            let by_time = self.forgetting.spans.get(source).is_some_and(Option::is_some);
            names.get(source).map(|name| (&**name, by_time))
        };
        let refused = self.nodes.iter().flat_map(|node| {
            let of = |input: &usize| self.forgetting.outlooks.get(*input);
            let inputs: Vec<&Outlook> = node.inputs.iter().filter_map(of).collect();
            let operator = node.operator.as_deref();
            let refusal = operator.and_then(|operator| kept_for_ever(operator, &inputs, &retains));
            let files = node.jobs.iter().filter_map(|&job| Some(files(self.jobs.get(job)?.job)));
            refusal.map(|refusal| files.map(|file| refusal.diagnose(&file)).collect::<Vec<_>>())
        });
        let mut problems: Vec<Diagnostic> = Vec::new();
        for problem in refused.flatten() {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        problems
    }

    /// Forgets what has become final with what the sources, in their order, have forgotten; to be called between steps. What a
    /// source has forgotten neither comes nor goes in its deltas to come. A time that is below the last one counts as that.
    ///
    /// # Errors
    /// A broken invariant; the circuit must not be stepped again after that.
    pub fn forget(&mut self, sources: &[Forgotten<'_>]) -> Result<()> {
        let closed = sources.iter().filter_map(|source| source.keys).map(ClosedKeys::len).sum();
        let horizon = self.forgetting.advance(sources, self.times.watermark);
        if closed == 0 && horizon.is_none() {
            return Ok(());
        }
        let horizons = &self.forgetting.horizons;
        let round = Forgetting { horizons, sources, closed, thorough: horizon.unwrap_or(false) };
        for operator in self.nodes.iter_mut().filter_map(|node| node.operator.as_mut()) {
            operator.forget(&round)?;
        }
        self.arrangements.forget(&users(&self.nodes), &round)
    }

    /// Whether an arrangement forgets rows.
    pub(super) fn arrangement_forgets(&self, arrangement: usize) -> bool {
        self.arrangements.forgets(arrangement, &users(&self.nodes))
    }
}

/// The operators that look rows up.
fn users(nodes: &[Node]) -> Vec<User<'_>> {
    let of = |node: &'_ Node| node.uses.iter().copied().enumerate().collect::<Vec<_>>();
    let users = nodes.iter().filter_map(|node| Some((node.operator.as_deref()?, of(node))));
    users.flat_map(|(operator, uses)| uses.into_iter().map(move |(used, of)| User { of, used, operator })).collect()
}

/// The rounds of forgetting so far.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Of each source with `retain`.
    spans: Vec<Option<Micros>>,
    horizons: Horizons,
    /// The horizons of the last thorough round.
    looked: Vec<Option<Micros>>,
    /// What is known of each node.
    outlooks: Vec<Outlook>,
}

impl Rounds {
    /// Takes the horizons up; none if no source has one. Otherwise whether this round is thorough: one is whenever a horizon
    /// has moved by a part of its span since the last.
    fn advance(&mut self, sources: &[Forgotten<'_>], watermark: Option<Micros>) -> Option<bool> {
        self.horizons.sources.resize(self.spans.len(), None);
        self.looked.resize(self.spans.len(), None);
        self.horizons.watermark = watermark;
        let mut thorough = false;
        let known = self.spans.iter().zip(&mut self.horizons.sources).zip(&self.looked);
        for (((span, horizon), looked), now) in known.zip(sources) {
            let Some(span) = span else { continue };
            *horizon = now.before.max(*horizon);
            let Some(now) = *horizon else { continue };
            thorough |= looked.is_none_or(|looked| now.saturating_sub(looked) > span / ROUNDS_A_SPAN);
        }
        if thorough {
            self.looked.clone_from(&self.horizons.sources);
        }
        self.horizons.sources.iter().any(Option::is_some).then_some(thorough)
    }
}

/// Why an operator can never forget rows of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// What it needs them for.
    pub(crate) why: String,
    /// What to write instead if the source retains rows by event time.
    pub(crate) instead: &'static str,
    /// The same if it retains them until their key is closed.
    pub(crate) by_key: &'static str,
    /// Words of the construct; see [`Refusal::word`].
    pub(crate) word: String,
}

/// Refuses an operator that would keep rows of a source with `retain` for ever; `retains` knows a source's name, and whether
/// it retains rows by event time.
fn kept_for_ever<'n>(
    operator: &dyn Operator,
    inputs: &[&Outlook],
    retains: &dyn Fn(usize) -> Option<(&'n str, bool)>,
) -> Option<Refusal> {
    inputs.iter().enumerate().find_map(|(position, input)| {
        let (source, by_time) = retains(*input.retained.first()?)?;
        let kept = operator.kept_for_ever(position)?;
        let instead = if by_time { kept.instead } else { kept.by_key };
        Some(Refusal::new(
            format!("rows of `{source}`, which has `retain`, would be kept for ever: {}", kept.why),
            format!("{instead}, or leave `retain` of `{source}` out"),
            kept.word,
        ))
    })
}

/// Fewer rows or groups than this are not looked through because they doubled.
const LOOK_FROM: usize = 1_024;
/// For each key that closes, so many rows or groups are looked through.
const LOOKS_A_KEY: usize = 8;
/// Of more ways to be final the rest is not followed.
const CLOSED_MAX: usize = 8;
/// How many thorough rounds there are while the horizon moves by its span.
const ROUNDS_A_SPAN: Micros = 4;
