//! The integration test binary. Each module is one subject.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failing helper fails its test; clippy's own exception for tests does not reach the harness"
)]

mod access_log; // one line a request
mod accessibility; // axe on every page that is ours, in Chromium
mod apps; // JupyterLab, Streamlit and Vite behind a real host name, in Chromium
mod architecture; // the code against the layers in src/lib.rs
mod attacks; // what an attacker would try: headers, paths, return addresses, cookies, any input at the parsers
mod benchmarks; // `bench/compare` runs, and ends what it started
mod branding; // the operator's name, logo, colour and help on our pages, and where a sign-out leads
mod browser; // the main job in Chromium
mod callers; // callers without a browser: neighbour door, tickets, personal access tokens, service identity
mod config; // `check`, `key`, `health`, `completions`: the configuration and the commands, by the real binary
mod demo; // `demo` as a newcomer runs it, and how it ends
mod deploy; // systemd, Kubernetes, image, packages: what `deploy/` has, run or checked by the real tools
mod doctor; // `doctor`: what it finds out about an app, Upwork, a clock, certificates
mod drain; // the end of a process: no request is lost
mod framing; // where messages end: tables, properties, and both through the whole sidecar
mod habits; // documentation and deployment files against the code
mod harness; // what the tests are made of
mod http1; // order, refusals, bodies, early answers
mod http2; // requests, abuse, slow clients
mod instructions; // what a request costs, in instructions, against the budget in bench/instructions.toml
mod limits; // sizes, counts, time-outs, crowds, memory
mod main_job; // sign-in, sessions and API calls at the public door
mod observability; // metrics, alerts, traces: what an operator sees
mod other_server; // another authorization server, strict by the RFCs, in Upwork's place
mod pacing; // Upwork's rate limits, checked by the sandbox that enforces them
mod pages; // what the pages show, and what they must never contain
mod protocol; // models of refresh and pacing over replicas, explored exhaustively within small bounds
mod proxy_protocol; // a TCP load balancer names its client
mod public_socket; // a proxy of the same machine in front of the public door's Unix socket
mod real_clients; // curl and h2load
mod routes; // parts of the app with rules or an upstream of their own
mod sample_app; // the app that the demo guards
mod sandbox; // the local imitation of Upwork, over real sockets
mod sessions; // refresh, implicit grant, tabs, stores, sign-out: sessions that never lose a user
mod stores; // one contract for every store, and what only one store has
mod tls; // versions, names, changing certificates, an app behind a private CA
mod upgrades; // WebSocket and other protocols
mod upstream; // the app and the API behind the sidecar
