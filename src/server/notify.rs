//! Tells a supervisor that upwarden is ready and when it drains: `sd_notify(3)`, for systemd's `Type=notify`.
//!
//! Takes the name of the supervisor's socket from the environment. Reports readiness once the store answers; the doors
//! are bound by then. Never waits for the supervisor.

use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::admin::{Phase, Readiness};
use crate::config::Sources;
use crate::store::Store;

const STORE_RETRY: Duration = Duration::from_millis(200);

pub(super) fn supervisor(sources: &Sources) -> Option<SocketAddr> {
    let (_, name) = sources.env.iter().find(|(name, _)| name == "NOTIFY_SOCKET")?;
    let address = address(name);
    if let Err(error) = &address {
        tracing::warn!(name, %error, "NOTIFY_SOCKET names no socket; the supervisor is not notified");
    }
    address.ok()
}

/// A path, or with `@` a name in Linux's abstract namespace.
fn address(name: &str) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = name.strip_prefix('@') {
        return <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name);
    }
    SocketAddr::from_pathname(name)
}

/// Runs until `ended`.
pub(super) async fn watch(supervisor: SocketAddr, store: Store, readiness: Readiness, ended: CancellationToken) {
    let telling = async {
        while store.ready().await.is_err() {
            tokio::time::sleep(STORE_RETRY).await;
        }
        send(&supervisor, "READY=1");
        readiness.reached(Phase::DrainDelay).await;
        send(&supervisor, "STOPPING=1");
    };
    ended.run_until_cancelled(telling).await;
}

fn send(supervisor: &SocketAddr, state: &str) {
    let sent = UnixDatagram::unbound().and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), supervisor)
    });
    if let Err(error) = sent {
        tracing::warn!(state, %error, "the supervisor could not be notified");
    }
}
