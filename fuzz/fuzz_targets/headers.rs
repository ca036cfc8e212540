//! A client's fields, towards the app and Upwork, and what they claim about addresses.
#![no_main]

#[path = "../../tests/it/attacks/properties.rs"]
#[allow(dead_code)] // each target calls its own part
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    properties::headers(bytes);
    properties::forwarded(bytes);
});
