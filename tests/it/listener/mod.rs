//! The listener on real sockets.

mod door;
mod drain;
mod http1;
mod http2;
mod limits;
mod rests;
mod times;
mod upgrade;
