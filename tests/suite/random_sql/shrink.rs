//! Cutting a failing case down: less of the query, fewer steps, fewer rows, for as long as it fails.

use super::case::Case;
use super::grammar::read;
use super::node::{Column, Node};
use super::tables::{Row, Step};
use super::{Outcome, run};

/// Cases that are tried for one failure, at most.
const TRIES_MAX: usize = 1_500;

struct Tries(usize);

impl Tries {
    async fn fails(&mut self, case: &Case) -> bool {
        self.0 += 1;
        self.0 <= TRIES_MAX && matches!(run(case).await, Outcome::Wrong(_))
    }
}

/// The case without whatever it fails without, too.
pub(super) async fn cut_down(mut case: Case) -> Case {
    let mut tries = Tries(0);
    while let Some(less) = smaller_query(&case, &mut tries).await {
        case = less;
    }
    while let Some(less) = smaller_history(&case, &mut tries).await {
        case = less;
    }
    while let Some(less) = smaller_query(&case, &mut tries).await {
        case = less;
    }
    case
}

async fn smaller_query(case: &Case, tries: &mut Tries) -> Option<Case> {
    let leaf = |columns: &[Column]| -> Node {
        let matching = |table: &&super::TableShape| {
            columns.iter().filter(|(_, kind)| table.columns.iter().any(|(_, other)| other == kind)).count()
        };
        read(case.tables.iter().max_by_key(matching).expect("there are tables"), columns)
    };
    let mut smaller = case.query.smaller(&leaf);
    smaller.retain(|query| query.sql().len() < case.query.sql().len());
    for query in smaller {
        let less = Case { query, ..case.clone() };
        if tries.fails(&less).await {
            return Some(less);
        }
    }
    None
}

async fn smaller_history(case: &Case, tries: &mut Tries) -> Option<Case> {
    let history = &case.history;
    let steps = (0..history.len()).map(|step| {
        let mut less = history.clone();
        less.remove(step);
        less
    });
    let tables = (0..history.len()).flat_map(|step| (0..case.tables.len()).map(move |table| (step, table)));
    let tables = tables.filter(|&(step, table)| history[step].changes[table].len() > 1).map(|(step, table)| {
        let mut less = history.clone();
        less[step].changes[table].clear();
        less
    });
    let rows = history.iter().enumerate().flat_map(|(step, held)| {
        let places = held.changes.iter().enumerate();
        places.flat_map(move |(table, rows)| (0..rows.len()).map(move |row| (step, table, row)))
    });
    let rows = rows.map(|(step, table, row)| without(history, step, table, row));
    for history in steps.chain(tables).chain(rows).collect::<Vec<_>>() {
        if !holds_what_goes(&history, case.tables.len()) {
            continue;
        }
        let less = Case { history, ..case.clone() };
        if tries.fails(&less).await {
            return Some(less);
        }
    }
    None
}

/// The history without a change, and without the removal of a row that then never came.
fn without(history: &[Step], step: usize, table: usize, row: usize) -> Vec<Step> {
    let mut less = history.to_vec();
    let (gone, weight) = less[step].changes[table].remove(row);
    if weight > 0 {
        for later in &mut less[step..] {
            let changes = &mut later.changes[table];
            if let Some(place) = changes.iter().position(|(row, weight)| *weight < 0 && *row == gone) {
                changes.remove(place);
                break;
            }
        }
    }
    less
}

/// Whether every row that goes was there.
fn holds_what_goes(history: &[Step], tables: usize) -> bool {
    let mut held: Vec<Vec<&Row>> = vec![Vec::new(); tables];
    for step in history {
        for (rows, changes) in held.iter_mut().zip(&step.changes) {
            for (row, weight) in changes {
                if *weight > 0 {
                    rows.push(row);
                } else {
                    let Some(place) = rows.iter().position(|held| *held == row) else { return false };
                    rows.swap_remove(place);
                }
            }
        }
    }
    true
}
