//! A return address.
#![no_main]

#[path = "../../tests/it/attacks/properties.rs"]
#[allow(dead_code)] // each target calls its own part
mod properties;

libfuzzer_sys::fuzz_target!(|text: &str| drop(properties::return_to(text)));
