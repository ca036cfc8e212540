//! A tap: it passes bytes both ways and records them.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::wire::{Recorded, Wire};

/// Forwards to an address and looks just like it.
#[derive(Clone, Debug)]
pub(crate) struct Tap {
    /// Where to connect instead.
    pub(crate) address: SocketAddr,
    /// The bytes that passed, both ways.
    pub(crate) wire: Wire,
}

impl Tap {
    /// Binds a port; [`Tap::run`] then forwards.
    pub(super) fn bind() -> (Self, std::net::TcpListener) {
        let listener = super::world::listener();
        (Self { address: listener.local_addr().unwrap(), wire: Wire::default() }, listener)
    }

    /// Forwards every connection to `target`, until `shutdown`.
    pub(super) async fn run(self, listener: TcpListener, target: SocketAddr, shutdown: CancellationToken) {
        let passing = async {
            while let Ok((near, _)) = listener.accept().await {
                let (tap, shutdown) = (self.clone(), shutdown.clone());
                tokio::spawn(async move { shutdown.run_until_cancelled(tap.pass(near, target)).await });
            }
        };
        shutdown.run_until_cancelled(passing).await;
    }

    async fn pass(self, mut near: TcpStream, target: SocketAddr) {
        let Ok(far) = TcpStream::connect(target).await else { return };
        let mut far = Recorded { stream: far, read: self.wire.clone(), written: self.wire.clone() };
        // How it ends matters only to the two ends.
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    }
}
