//! HTTP/1 at the doors and through the whole sidecar.

mod early; // answers before the request has ended, `Expect: 100-continue`, trailers
mod requests; // their order, refusals and bodies
mod responses; // what an app may answer, and what the client gets of it
mod unread_bodies; // bodies that no one reads, and what follows them on the connection
