//! The corpora of the fuzz targets, replayed on the stable toolchain: what is stored, what the other corpora of the tests hold,
//! and mutants of both. `MILEPOST_FUZZ_MUTANTS` says how many mutants each target gets, `MILEPOST_FUZZ_SEED` which ones.

mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::oracle::Random;
use crate::shipped_data::in_repository;

/// The files directly in a folder of the repository whose names end so, in the order of their names.
fn files(folder: &str, end: &str) -> Vec<Vec<u8>> {
    let folder = in_repository(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> =
        entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()).collect();
    paths.sort();
    let is_one = |path: &&std::path::PathBuf| path.to_string_lossy().ends_with(end);
    paths.iter().filter(is_one).map(|path| std::fs::read(path).expect("readable")).collect()
}

/// Calls a target; what it was called with when it panics.
fn call(target: fn(&[u8]), data: &[u8], origin: &str) {
    if catch_unwind(AssertUnwindSafe(|| target(data))).is_err() {
        let path = std::env::temp_dir().join("milepost-fuzz-failure");
        std::fs::write(&path, data).expect("writable");
        panic!("{origin} panics, see `{}`: {}", path.display(), String::from_utf8_lossy(data));
    }
}

/// One input made of another, or of two.
fn mutant(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let pick = |random: &mut Random, length: usize| usize::try_from(random.below(length as u64)).expect("small");
    let mut data = seeds[pick(random, seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = pick(random, data.len() + 1);
        let other = &seeds[pick(random, seeds.len())];
        let from = pick(random, other.len() + 1);
        let length = pick(random, 24).min(other.len() - from);
        match random.below(7) {
            0 => data.truncate(at),
            1 if at < data.len() => data[at] = u8::try_from(random.below(256)).expect("a byte"),
            2 if at < data.len() => data[at] ^= 1 << random.below(8),
            3 => drop(data.splice(at..at, other[from..from + length].iter().copied())),
            4 => drop(data.drain(at..(at + length).min(data.len()))),
            5 => {
                let token = TOKENS[pick(random, TOKENS.len())];
                drop(data.splice(at..at, token.bytes()));
            }
            _ => {
                let end = (at + length).min(data.len());
                let again = data[at..end].repeat(2 + pick(random, 30));
                drop(data.splice(at..at, again));
            }
        }
    }
    data.truncate(BYTES_MAX);
    data
}

fn check(name: &str, target: fn(&[u8]), seeds: &[Vec<u8>], mutants_default: u64) {
    let stored = files(&format!("fuzz/corpus/{name}"), "");
    assert!(stored.len() >= 3, "`{name}` has a stored corpus");
    let seeds: Vec<Vec<u8>> = stored.iter().chain(seeds).cloned().collect();
    for (at, seed) in seeds.iter().enumerate() {
        call(target, seed, &format!("seed {at} of `{name}`"));
    }
    let number = |variable: &str| std::env::var(variable).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number("MILEPOST_FUZZ_SEED").unwrap_or(20_261_127);
    let mutants = number("MILEPOST_FUZZ_MUTANTS").unwrap_or(mutants_default);
    let mut random = Random(seed);
    for at in 0..mutants {
        let data = mutant(&mut random, &seeds);
        call(target, &data, &format!("mutant {at} of `{name}` by seed {seed}"));
    }
}

#[test]
fn any_message_is_rows_and_rejections() {
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for lines in ["data/order_to_invoice/injected.ndjson", "data/inventory_reconciliation/injected.ndjson"] {
        let text = std::fs::read_to_string(in_repository(lines)).expect("readable");
        let line = |(at, line): (usize, &str)| [&[u8::try_from(at % 6).expect("small")], line.as_bytes()].concat();
        seeds.extend(text.lines().take(20).enumerate().map(line));
    }
    check("decoder", targets::decoder, &seeds, 20_000);
}

#[test]
fn any_contract_compiles_or_is_told_why_not() {
    let seeds = [files("tests/definitions/contracts", ".json"), files("pipelines/contracts", ".json")].concat();
    check("contract", targets::contract, &seeds, 5_000);
}

#[test]
fn any_pipeline_file_compiles_or_is_told_why_not() {
    let seeds = [files("tests/definitions", ".yaml"), files("pipelines", ".yaml")].concat();
    check("pipeline", targets::pipeline, &seeds, 3_000);
}

#[test]
fn any_sql_compiles_or_is_told_why_not() {
    let own = |text: Vec<u8>| {
        let text = String::from_utf8(text).expect("text");
        text.replace("quantity", "amount").replace("line", "count").replace("note", "kind").into_bytes()
    };
    let seeds = [files("tests/oracle", ".sql"), files("tests/sql_errors", ".sql")].concat();
    check("sql", targets::sql, &seeds.into_iter().map(own).collect::<Vec<_>>(), 300);
}

#[test]
fn every_fuzz_target_has_a_program_a_corpus_and_a_test() {
    let manifest = std::fs::read_to_string(in_repository("fuzz/Cargo.toml")).expect("readable");
    for name in ["decoder", "contract", "pipeline", "sql"] {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        assert!(Path::new(&in_repository(&format!("fuzz/fuzz_targets/{name}.rs"))).exists(), "{name}");
    }
}

/// Pieces that turn one thing into another.
const TOKENS: [&str; 24] = [
    "\"",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\\u0000",
    "\\",
    "1e999",
    "-0",
    "null",
    "\n",
    "\t",
    "'",
    "(",
    ")",
    " AND ",
    " UNION ALL ",
    "${X:-y}",
    "- ",
    "#",
    "\u{feff}",
    "é",
];
const BYTES_MAX: usize = 20_000;
