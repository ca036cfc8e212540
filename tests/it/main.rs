//! Integration tests: one binary, a module a theme.

mod pages;
mod sample_app;
