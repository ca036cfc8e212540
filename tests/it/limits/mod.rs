//! Limits and time-outs, and what happens at them.

mod connections; // at one door
mod crowds; // thousands of clients at once
mod memory; // what bodies and slow readers cost
mod settings; // each limit by its setting, through the whole sidecar
mod timeouts; // at one door
