#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/suite/fuzz/targets.rs"]
#[allow(dead_code, reason = "each target is a program of its own")]
mod targets;

fuzz_target!(|data: &[u8]| targets::sql(data));
