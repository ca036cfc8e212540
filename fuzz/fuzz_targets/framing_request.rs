//! Requests on a connection, whole and in pieces.
#![no_main]

#[path = "../../tests/it/attacks/wire.rs"]
#[allow(dead_code)] // each target calls its own part
mod wire;

libfuzzer_sys::fuzz_target!(|input: (&[u8], &[u8])| drop(wire::requests(input.1, input.0)));
