//! What is behind the sidecar: the app and the API, on real sockets.

mod api; // the broker: what goes to Upwork, what comes back, what stays behind
mod app; // the reverse proxy: streams, sockets, headers
mod connections; // to the app: pooled, dropped in time, freed when the client goes away
mod cuts; // what breaks off on one side breaks off on the other
mod forwarded; // what the app learns about the client
mod neighbour; // the door for programs next door
mod outbound; // a proxy on the way to Upwork, and a CA of one's own
