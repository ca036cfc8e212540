//! Serves a sandbox on two bound listeners.

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::control;
use super::server::Sandbox;
use crate::listener::plain;

/// Serves Upwork's paths on `listener` and the control address on `control` until `shutdown`, which releases all held
/// answers.
pub async fn run(sandbox: Sandbox, listener: TcpListener, control: TcpListener, shutdown: CancellationToken) {
    let upwork = sandbox.clone();
    let upwork = plain::serve(
        listener,
        move |request, peer| {
            let sandbox = upwork.clone();
            async move { sandbox.handle(request, peer).await }
        },
        shutdown.clone(),
    );
    let controlled = sandbox.clone();
    let control = plain::serve(
        control,
        move |request, _peer| {
            let sandbox = controlled.clone();
            async move { control::answer(&sandbox, request).await }
        },
        shutdown.clone(),
    );
    let close = async {
        shutdown.cancelled().await;
        sandbox.close();
    };
    tokio::join!(upwork, control, close);
}
