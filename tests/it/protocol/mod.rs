//! Models of what replicas agree on, explored exhaustively within small bounds: kill, pause, partition, lost messages.
//!
//! Each action names the function of upwarden that it stands for. A model is also shown to find a fault: with one rule
//! broken, it must give a counterexample.

mod pacing;
mod refresh;
