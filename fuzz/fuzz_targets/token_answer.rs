//! A token endpoint's answer; the first two bytes are its status.
#![no_main]

#[path = "../../tests/it/attacks/properties.rs"]
#[allow(dead_code)] // each target calls its own part
mod properties;

libfuzzer_sys::fuzz_target!(|input: (u16, &[u8])| properties::token_answer(100 + input.0 % 500, input.1));
