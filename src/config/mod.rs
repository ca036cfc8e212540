//! Configuration: the file, the environment and `--set`, merged and checked as a whole.
//!
//! [`load`] turns [`Sources`] into a [`Config`], which has each module's own part, or into all of its [`Problems`]. It
//! opens no socket and writes nothing. It reads the configuration file, and the files of secrets, certificates and keys
//! that it names. No problem, log line or `Debug` output contains the value of a secret.

mod check;
mod file;
mod load;
mod memory;
mod parse;
mod problem;
mod raw;
mod reader;
mod schema;
mod session_keys;
mod sources;
#[cfg(test)]
mod tests;
mod value;

pub use check::Config;
pub(crate) use load::admin_address;
pub use load::load;
pub(crate) use parse::socket;
pub use problem::{Problem, Problems, Source};
pub(crate) use raw::split_setting;
pub use session_keys::KeyError;
pub(crate) use session_keys::SessionKeys;
pub use sources::Sources;
