//! The path that every byte goes through, from real sockets to real sockets, with the whole sidecar between them.
//!
//! Heavy tests scale with [`full`]: `UPWARDEN_TESTS_QUICK=1` makes them smaller, for the time of writing code.

mod answers;
mod connections;
mod crowds;
mod cuts;
mod differential;
mod drains;
mod drains_http2;
mod early;
mod forwarded;
mod frames;
mod http2;
mod http2_times;
mod limits;
mod lines;
mod memory;
mod paths;
mod process;
pub(super) mod requests;
pub(super) mod responses;
mod strict;
mod tls;
mod tools;
mod upgrades;

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{App, Plan, World, within};

/// Whether tests run at their full size.
#[expect(clippy::disallowed_methods, reason = "the switch of the test run, not of the product")]
pub(crate) fn full() -> bool {
    std::env::var("UPWARDEN_TESTS_QUICK").map_or(true, |value| value != "1")
}

/// A world whose app needs no session.
fn open(app: App) -> Plan {
    World::new().app(app).set("app.public_paths", "/")
}

/// Where the world's public door is.
fn door(world: &World) -> SocketAddr {
    let url = world.url("");
    url.strip_prefix("http://").unwrap().parse().unwrap()
}

/// A client on a raw socket.
struct Raw(TcpStream);

impl Raw {
    async fn to(address: SocketAddr) -> Self {
        Self(within(TcpStream::connect(address)).await.unwrap())
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until `end` was read; everything up to the end of what came.
    async fn until(&mut self, end: &str) -> String {
        let mut came = Vec::new();
        while !String::from_utf8_lossy(&came).contains(end) {
            let mut space = [0; 4096];
            let count = within(self.0.read(&mut space)).await.unwrap();
            assert_ne!(count, 0, "ended after {:?} without {end:?}", String::from_utf8_lossy(&came));
            came.extend_from_slice(&space[..count]);
        }
        String::from_utf8_lossy(&came).into_owned()
    }

    /// Everything up to the end of the connection; a reset is an end, too.
    async fn rest(&mut self) -> String {
        let mut came = Vec::new();
        let _ = within(self.0.read_to_end(&mut came)).await;
        String::from_utf8_lossy(&came).into_owned()
    }
}

/// Reads one request's head from `stream`, byte by byte, so that nothing after it is taken; `None` at the end.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}
