//! The listener on real sockets.

mod door;
mod http1;

pub(crate) use door::{Door, Opened};
