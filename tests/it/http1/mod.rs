//! HTTP/1 at the doors and through the whole sidecar.

mod early; // answers before the request has ended
mod expect; // `Expect: 100-continue`
mod requests;
mod unread; // clients that do not read // refusals, bodies, pieces, HTTP/1.0
