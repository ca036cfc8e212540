//! Cookies in HTTP messages: finding ours in a request, splitting a long value, setting and clearing it.
//!
//! Handles only names and sealed text, never the meaning of a value.

mod jar;
mod request;
#[cfg(test)]
mod tests;

pub use jar::Jar;
pub(crate) use jar::TooLarge;
pub use request::RequestCookies;
pub(crate) use request::joined;
