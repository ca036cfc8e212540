//! `Cookie` lines.
#![no_main]

#[path = "../../tests/it/attacks/properties.rs"]
#[allow(dead_code)] // each target calls its own part
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::cookie(bytes));
