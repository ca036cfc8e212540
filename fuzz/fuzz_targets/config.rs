//! A configuration file, with a `--set`.
#![no_main]

#[path = "../../tests/it/attacks/properties.rs"]
#[allow(dead_code)] // each target calls its own part
mod properties;

libfuzzer_sys::fuzz_target!(|input: (&str, &[u8])| {
    // One file a process: libFuzzer runs its cases one after another.
    static FILE: std::sync::LazyLock<tempfile::NamedTempFile> =
        std::sync::LazyLock::new(|| tempfile::NamedTempFile::new().expect("a temporary file"));
    properties::config(FILE.path(), input.1, input.0);
});
