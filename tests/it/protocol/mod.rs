//! Models of what replicas agree on, explored exhaustively within small bounds: kill, pause, partition, lost messages.
//!
//! Each action names the function of upwarden that it represents. Each model is also shown to find faults: with one
//! rule broken, it must find a counterexample.

mod pacing;
mod refresh;
