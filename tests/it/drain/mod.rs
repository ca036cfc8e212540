//! The end of a process: no request is lost, and nothing delays the end.

mod doors; // at one door
mod load; // under load, over HTTP/1, HTTP/2 and TLS
mod process; // signals, exit codes, what is in flight
mod rolling; // two replicas, one after the other, as Kubernetes restarts them
