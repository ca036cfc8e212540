//! Limits and time-outs, and what happens when they are reached.

mod connections; // per door and per client
mod crowds; // thousands of clients at once
mod descriptors; // files that a process may open
mod memory; // what bodies and slow readers cost
mod sizes; // of heads and bodies
mod timeouts; // of heads, bodies, answers and idle connections
