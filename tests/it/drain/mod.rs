//! The end of a process: no request is lost, and nothing holds the end up.

mod doors; // at one door
mod load; // SIGTERM under load, over HTTP/2 and under TLS
mod process; // signals, exit codes, ports
