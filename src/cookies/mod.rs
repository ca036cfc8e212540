//! Cookies on the wire: reading ours out of a request, splitting a long value, and setting and clearing it.
//!
//! It knows only names and sealed text, never what a value means.

mod jar;
mod request;
#[cfg(test)]
mod tests;

pub use jar::Jar;
pub(crate) use jar::TooLarge;
pub use request::RequestCookies;
pub(crate) use request::joined;
