//! The layout of `src/`, as ARCHITECTURE.md draws it: who may import whom, where the outside world begins, and that the
//! engine knows nothing of logistics.

mod tokens;

use std::fs;
use std::path::{Path, PathBuf};

use tokens::{Placed, Token, is};

/// The modules in the order in which data flow, each with those that it may import.
const MODULES: [(&str, &[&str]); 15] = [
    ("types", &[]),
    ("error", &[]),
    ("diagnostic", &[]),
    ("definition", &[]),
    ("plan", &["definition"]),
    ("state", &[]),
    ("circuit", &["definition", "plan", "state"]),
    ("store", &[]),
    ("source", &["definition", "decode", "store"]),
    ("decode", &["definition"]),
    ("batch", &["definition"]),
    ("sink", &["definition", "state", "store"]),
    ("checkpoint", &["store"]),
    ("runtime", ALL_BEFORE_RUNTIME),
    ("cli", ALL_BEFORE_CLI),
];

/// What every module may import.
const SHARED: [&str; 3] = ["types", "error", "diagnostic"];

const ALL_BEFORE_RUNTIME: &[&str] =
    &["definition", "plan", "state", "circuit", "store", "source", "decode", "batch", "sink", "checkpoint"];

const ALL_BEFORE_CLI: &[&str] =
    &["definition", "plan", "state", "circuit", "store", "source", "decode", "batch", "sink", "checkpoint", "runtime"];

/// The files that talk to NATS, files, processes and terminals; a folder stands for all files below it.
const EDGES: [&str; 26] = [
    "main.rs",
    "cli/",
    "runtime/driver.rs",
    "runtime/driver/snapshot.rs",
    "runtime/failpoint.rs",
    "runtime/shared.rs",
    "runtime/socket.rs",
    "definition/load.rs",
    "store.rs",
    "source/connect.rs",
    "source/connect/",
    "source/feed.rs",
    "source/file.rs",
    "source/file/",
    "source/jetstream.rs",
    "source/server.rs",
    "source/stream_settings.rs",
    "source/stream_state.rs",
    "sink/change_stream.rs",
    "sink/change_target.rs",
    "sink/history.rs",
    "sink/table/disk.rs",
    "sink/table/object.rs",
    "checkpoint/jetstream.rs",
    "checkpoint/local.rs",
    "checkpoint/object.rs",
];

/// Edges that touch the file system alone.
const FILE_EDGES: [&str; 1] = ["sink/table/store.rs"];

/// What only an edge may name: the first two segments of a path, or the first.
const OUTSIDE: [&str; 8] =
    ["async_nats", "object_store", "tokio", "std::env", "std::fs", "std::net", "std::process", "std::thread"];

/// Words of the field, in the singular. `delivery` is missing: it is also what a broker does with a message.
const NOUNS: [&str; 11] = [
    "shipment",
    "invoice",
    "carrier",
    "customer",
    "consignee",
    "warehouse",
    "sku",
    "freight",
    "parcel",
    "payment",
    "incoterm",
];

/// Where the words of the field may stand: the SQL functions of the field, and the examples of `--help`.
const NOUNS_ALLOWED: [&str; 2] = ["plan/functions/", "cli/mod.rs"];

/// The name of the shipped pipeline, which `demo` runs.
const SHIPPED_PIPELINE: &str = "order_to_invoice";

/// Lines, at most; style asks for a reason from 600 on.
const LINES_MAX: usize = 900;

#[test]
fn sources_keep_to_the_layout() {
    let root = root().join("src");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file is readable text");
        (path.strip_prefix(&root).expect("below src").to_string_lossy().replace('\\', "/"), text)
    };
    let files: Vec<(String, String)> = rust_files(&root).into_iter().map(read).collect();
    let tests: Vec<String> = files.iter().flat_map(|(name, text)| test_modules(name, text)).collect();
    let violations: Vec<String> = files.iter().flat_map(|(name, text)| violations_of(name, text, &tests)).collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn modules_stand_in_one_order_in_code_and_architecture() {
    let names: Vec<&str> = MODULES.iter().map(|(name, _)| *name).collect();
    let library = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let declared: Vec<&str> =
        library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(declared, names, "src/lib.rs");
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let rows: Vec<&str> = map.lines().filter_map(|line| line.strip_prefix("| [`")?.split('`').next()).collect();
    assert_eq!(rows, names, "ARCHITECTURE.md");
}

#[test]
fn edges_are_files_that_exist() {
    for edge in EDGES.iter().chain(&FILE_EDGES) {
        assert!(root().join("src").join(edge).exists(), "src/{edge} is named as an edge and is not there");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Everything in the file `name` (its path below `src/`) that the layout forbids, one line each. What lies in `tests`,
/// modules of test code, may reach outside and speak of logistics; imports go with the flow everywhere.
fn violations_of(name: &str, text: &str, tests: &[String]) -> Vec<String> {
    let all = tokens::tokens(text);
    let path = module_path(name).join("::");
    let is_test = tests.iter().any(|test| path == *test || path.starts_with(&format!("{test}::")));
    let production = if is_test { Vec::new() } else { tokens::without_tests(&all) };
    let mut found = forbidden_imports(name, &all);
    found.extend(reaches_outside(name, &production));
    found.extend(words_of_the_field(name, &production));
    let lines = text.lines().count();
    if lines > LINES_MAX {
        found.push((LINES_MAX + 1, format!("the file has {lines} lines; {LINES_MAX} are the most")));
    }
    found.sort();
    found.into_iter().map(|(line, text)| format!("src/{name}:{line}: {text}")).collect()
}

type Violation = (usize, String);

/// The modules that `name` declares as test code in files of their own: `#[cfg(test)] mod tests;`.
fn test_modules(name: &str, text: &str) -> Vec<String> {
    let all = tokens::tokens(text);
    let production = tokens::without_tests(&all);
    let declared = |tokens: &[Placed]| -> Vec<String> {
        let named = |window: &[Placed]| match window {
            [keyword, (Token::Word(module), _), end] if is(keyword, "mod") && is(end, ";") => Some(module.clone()),
            _ => None,
        };
        tokens.windows(3).filter_map(named).collect()
    };
    let kept = declared(&production);
    let path = |module: String| module_path(name).into_iter().chain([module.as_str()]).collect::<Vec<_>>().join("::");
    declared(&all).into_iter().filter(|module| !kept.contains(module)).map(path).collect()
}

/// The modules that a file lies in, from the crate's root: `sink/table/mod.rs` is in `sink`, `table`.
fn module_path(name: &str) -> Vec<&str> {
    let mut path: Vec<&str> = name.strip_suffix(".rs").unwrap_or(name).split('/').collect();
    if matches!(path.last(), Some(&("mod" | "lib" | "main"))) {
        path.pop();
    }
    path
}

fn forbidden_imports(name: &str, tokens: &[Placed]) -> Vec<Violation> {
    let path = module_path(name);
    let Some(own) = path.first() else { return Vec::new() };
    let Some((_, allowed)) = MODULES.iter().find(|(module, _)| module == own) else {
        return vec![(
            1,
            format!("the module `{own}` is not in the layout: add it to the map and say what it may import"),
        )];
    };
    let known = |module: &str| MODULES.iter().any(|(name, _)| *name == module);
    imported_modules(tokens, path.len())
        .into_iter()
        .filter(|(_, module)| known(module) && module != own)
        .filter(|(_, module)| !SHARED.contains(&module.as_str()) || *own == "types")
        .filter(|(_, module)| !allowed.contains(&module.as_str()))
        .map(|(line, module)| (line, format!("`{own}` may not import `{module}`")))
        .collect()
}

/// The first segment of every path from the crate's root, written `crate::` or with as many `super::` as it takes.
fn imported_modules(tokens: &[Placed], depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut braces = 0_usize;
    let mut inline_modules: Vec<usize> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let word = |offset: usize, text: &str| tokens.get(at + offset).is_some_and(|next| is(next, text));
        if is(token, "{") {
            braces += 1;
            if at >= 2 && tokens.get(at - 2).is_some_and(|before| is(before, "mod")) {
                inline_modules.push(braces);
            }
        } else if is(token, "}") {
            inline_modules.retain(|&opened| opened < braces);
            braces = braces.saturating_sub(1);
        } else if is(token, "crate") && word(1, "::") {
            found.extend(heads(tokens, at + 2));
        } else if is(token, "super") && (at == 0 || tokens.get(at - 1).is_some_and(|before| !is(before, "::"))) {
            let supers = (0..).take_while(|step| word(2 * step, "super") && word(2 * step + 1, "::")).count();
            if supers == depth + inline_modules.len() {
                found.extend(heads(tokens, at + 2 * supers));
            }
        }
    }
    found
}

/// The names at `at`: one word, or the first word of each entry of a group in braces.
fn heads(tokens: &[Placed], at: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let mut first = true;
    for (token, line) in tokens.iter().skip(at) {
        match token {
            Token::Word(word) if first => found.push((*line, word.clone())),
            Token::Sign('{') => depth += 1,
            Token::Sign('}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        first = depth == 1 && matches!(token, Token::Sign('{' | ','));
        if depth == 0 {
            break;
        }
    }
    found
}

fn reaches_outside(name: &str, tokens: &[Placed]) -> Vec<Violation> {
    let stands_in =
        |edges: &[&str]| edges.iter().any(|edge| name == *edge || (edge.ends_with('/') && name.starts_with(edge)));
    if stands_in(&EDGES) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let (Token::Word(first), true) = (&token.0, tokens.get(at + 1).is_some_and(|next| is(next, "::"))) else {
            continue;
        };
        let starts = at == 0 || tokens.get(at - 1).is_some_and(|before| !is(before, "::"));
        if !starts {
            continue;
        }
        let seconds = heads(tokens, at + 2);
        let paths = seconds.iter().map(|(line, second)| (*line, format!("{first}::{second}")));
        let named = paths.filter(|(_, path)| OUTSIDE.contains(&first.as_str()) || OUTSIDE.contains(&path.as_str()));
        let named = named.filter(|(_, path)| path != "std::fs" || !stands_in(&FILE_EDGES));
        found.extend(named.map(|(line, path)| (line, format!("`{path}` stands only in edge files"))));
    }
    found
}

fn words_of_the_field(name: &str, tokens: &[Placed]) -> Vec<Violation> {
    if NOUNS_ALLOWED.iter().any(|place| name.starts_with(place)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (token, line) in tokens {
        let (Token::Word(text) | Token::Text(text)) = token else { continue };
        for word in words(&text.replace(SHIPPED_PIPELINE, "")) {
            if NOUNS.contains(&word.strip_suffix('s').unwrap_or(&word)) {
                found.push((
                    *line,
                    format!("`{word}` is a word of the field; the logistics stand in SQL and contracts"),
                ));
            }
        }
    }
    found
}

/// The words of an identifier or text, in lower case: `ShipmentId`, `shipment_id` and `a shipment` all have `shipment`.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for character in text.chars() {
        if !character.is_alphabetic() || (was_lower && character.is_uppercase()) {
            words.push(String::new());
        }
        if character.is_alphabetic() {
            words.last_mut().expect("never empty").extend(character.to_lowercase());
        }
        was_lower = character.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// That the checker bites: what a file `name` with this text is told, without the place.
fn check(name: &str, text: &str, expected: &[&str]) {
    let found = violations_of(name, text, &["decode::oracle".to_owned()]);
    let said: Vec<&str> = found.iter().filter_map(|line| line.splitn(3, ':').nth(2)).map(str::trim).collect();
    assert_eq!(said, expected, "{name}:\n{text}");
}

#[test]
fn import_against_the_flow_is_seen_however_it_is_written() {
    let refused = &["`state` may not import `circuit`"];
    check("state/delta.rs", "use crate::circuit::Circuit;", refused);
    check("state/delta.rs", "fn f() -> crate::circuit::Circuit { todo() }", refused);
    check("state/delta.rs", "use crate::{types::{Micros, Epoch}, circuit};", refused);
    check("state/delta.rs", "use super::super::circuit;", refused);
    check("state/mod.rs", "use super::circuit;", refused);
    check("state/mod.rs", "mod inner { use super::super::circuit; }", refused);
    check("state/mod.rs", "#[cfg(test)]\nmod tests { use crate::circuit::Circuit; }", refused);
    check("types.rs", "use crate::error::Error;", &["`types` may not import `error`"]);
    check("drawer.rs", "", &["the module `drawer` is not in the layout: add it to the map and say what it may import"]);
}

#[test]
fn import_along_the_flow_passes() {
    check("circuit/mod.rs", "use crate::{plan, state::Delta, types::Micros};\nuse super::error::Result;", &[]);
    check("state/delta.rs", "use super::circuit;\nuse crate::state::hash;", &[]);
    check("state/mod.rs", "mod inner { use super::circuit; }", &[]);
    check(
        "state/mod.rs",
        "// use crate::circuit\n/* crate::circuit /* nested */ crate::plan */\nconst A: &str = \"crate::plan\";",
        &[],
    );
    check("cli/run.rs", "use crate::runtime::Run;\npub(crate) fn run() {}", &[]);
}

#[test]
fn outside_world_is_named_only_at_the_edge() {
    let text = "use std::{env, sync::Arc};\nuse tokio::time::sleep;\nfn f() { std::fs::read(\"a\") }";
    let (env, tokio, fs) = (
        "`std::env` stands only in edge files",
        "`tokio::time` stands only in edge files",
        "`std::fs` stands only in edge files",
    );
    check("circuit/join.rs", text, &[env, tokio, fs]);
    check("sink/table/store.rs", text, &[env, tokio]);
    check("cli/run.rs", text, &[]);
    check("source/file/records.rs", text, &[]);
    check("circuit/join.rs", "#[cfg(test)]\nmod tests { use std::fs; }\nuse std::sync::Arc;", &[]);
    check("decode/oracle.rs", text, &[]);
    check("decode/oracle/values.rs", text, &[]);
    check("decode/oracle_of_many.rs", "use std::fs;", &[fs]);
    check("circuit/join.rs", "use crate::tokio_like::A; use other::tokio::B;", &[]);
}

#[test]
fn test_modules_are_those_declared_under_cfg_test() {
    let text = "mod a;\n#[cfg(test)]\nmod tests;\nmod b;\n#[cfg(test)]\nmod inline { mod c; }";
    assert_eq!(test_modules("sink/table/mod.rs", text), ["sink::table::tests", "sink::table::c"]);
    assert_eq!(test_modules("decode.rs", "mod tests;"), Vec::<String>::new());
}

#[test]
fn words_of_the_field_stand_only_in_its_functions() {
    let said = |word: &str| format!("`{word}` is a word of the field; the logistics stand in SQL and contracts");
    let text = "struct ShipmentState;\nconst A: &str = r#\"the \"customers\" column\"#;\nfn sku_of() {}";
    let (shipment, customers, sku) = (said("shipment"), said("customers"), said("sku"));
    check("sink/event.rs", text, &[&shipment, &customers, &sku]);
    check("plan/functions/calendar.rs", text, &[]);
    check("sink/event.rs", "/// A shipment.\n#[cfg(test)]\nfn shipment() { let a = 'x'; }\nfn f<'a>() {}", &[]);
    check("cli/demo.rs", "const A: &str = \"pipelines/order_to_invoice.yaml\";", &[]);
}

#[test]
fn file_beyond_the_limit_is_refused() {
    check("state/delta.rs", &"\n".repeat(LINES_MAX), &[]);
    check("state/delta.rs", &"\n".repeat(LINES_MAX + 1), &["the file has 901 lines; 900 are the most"]);
}
