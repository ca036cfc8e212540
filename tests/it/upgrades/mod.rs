//! Connections that become another protocol.

mod cuts; // a reset on one side is a reset on the other
mod other_protocols; // any bytes, half-close, declined and refused upgrades
pub(crate) mod websockets; // sessions, close codes, time-outs
