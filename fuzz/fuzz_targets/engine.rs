//! Both sides of the engine at once: any client, any upstream.
#![no_main]

#[path = "../../tests/it/attacks/engine.rs"]
mod engine;

libfuzzer_sys::fuzz_target!(|input: (u8, &[u8], &[u8])| {
    engine::relays(input.0, input.1, input.2);
});
