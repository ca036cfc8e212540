//! The Dockerfile, built by buildah on stand-in bases.

use std::process::Command;

use crate::harness::{has, program};

#[test]
#[expect(clippy::disallowed_methods, reason = "the switch of the test run, not of the product")]
fn the_image_runs_read_only_without_capabilities_or_a_shell() {
    let wanted = std::env::var("UPWARDEN_TESTS_IMAGE").is_ok_and(|value| value == "1");
    if !wanted || !has(program("buildah").is_some(), "buildah") {
        return;
    }
    let output = Command::new("tests/image").arg(env!("CARGO_BIN_EXE_upwarden")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("upwarden "), "it says its version");
}
