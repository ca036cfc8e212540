//! Runs upwarden inside a program of your own: `cargo run --example embed`, with the configuration in the environment.

use std::sync::Arc;

use upwarden::config::{self, Sources};
use upwarden::server::{self, SystemClock};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = config::load(&Sources::of_process(None, Vec::new()))?;
    // Bound first, so that the ports are known, or refused, before anything runs.
    let doors = server::bind(&config, Vec::new())?;
    let shutdown = async {
        // Without a signal handler there is nothing to wait for, and it ends at once.
        let _ = tokio::signal::ctrl_c().await;
    };
    server::run(config, doors, Arc::new(SystemClock), None, shutdown).await?;
    Ok(())
}
