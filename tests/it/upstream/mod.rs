//! What is behind the sidecar: the app and the API, on real sockets.

mod added; // the headers of `app.headers`
pub(crate) mod answers; // what an app may answer
mod api; // the broker: what goes to Upwork, what comes back, what is removed
mod assertion; // the signed assertion, verified by libraries of three languages
mod authenticated; // an app that authenticates connections, not requests
mod connections; // to the app: pooled, closed in time, retried where that is safe
pub(crate) mod cuts; // what breaks off on one side breaks off on the other
mod fields; // what the app learns about the user and the client
mod grpc; // an app that speaks gRPC
mod http2; // an app that speaks HTTP/2
mod outbound; // a proxy and a private CA on the way to Upwork
mod own_address; // redirects of an app that knows only its own address
mod streams; // bodies piece by piece, whole, with trailers
