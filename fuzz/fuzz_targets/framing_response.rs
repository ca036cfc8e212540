//! An answer on a connection, whole and in pieces.
#![no_main]

#[path = "../../tests/it/attacks/wire.rs"]
#[allow(dead_code)] // each target calls its own part
mod wire;

libfuzzer_sys::fuzz_target!(|input: (bool, bool, &[u8], &[u8])| wire::responses(input.3, input.2, input.0, input.1));
