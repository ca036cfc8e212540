//! What the strict reader lets through, read by hyper: the same messages, or fewer.
#![no_main]

#[path = "../../tests/it/attacks/wire.rs"]
#[allow(dead_code)] // each target calls its own part
mod wire;

libfuzzer_sys::fuzz_target!(|input: (&[u8], &[u8])| wire::agrees_with_hyper(input.1, input.0));
