//! What is behind the sidecar: the app and the API, on real sockets.

mod api; // the broker: what goes to Upwork, what comes back, what stays behind
mod app; // the reverse proxy: streams, sockets, cuts
mod neighbour; // the door for programs next door
mod outbound; // a proxy on the way to Upwork, and a CA of one's own
