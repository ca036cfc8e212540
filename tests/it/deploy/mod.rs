//! What `deploy/` has, run or checked by the real tools.

mod systemd; // readiness, passed sockets, and the unit
