//! Everything that is tested from outside, a module a theme.

/// `check`, `key`, `health`, `completions`: the configuration and the commands, by the real binary.
mod config;
