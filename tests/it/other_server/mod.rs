//! Another authorization server than the sandbox, strict by the RFCs, in Upwork's place.
//!
//! It shares no code with the sandbox or with the modules that it tests, and records everything that a client must not
//! do.

mod answers;
mod server;
mod sign_in;

use std::time::Duration;

use crate::harness::{Answer, Client, Plan, World};
use server::Server;

/// A secret with everything in it that has to be escaped somewhere.
const SECRET: &str = "s3cr+t/=~&% \"<x>";
const CLIENT_ID: &str = "another-client.1";
const ISSUER: &str = "https://as.example";

const ME: &str = "{ user { id } }";

/// A sidecar whose Upwork is `server`.
fn world(server: &Server) -> Plan {
    let at = |path: &str| format!("http://{}{path}", server.address);
    World::new()
        .set("upwork.client_id", CLIENT_ID)
        .set("upwork.client_secret", SECRET)
        .set("upwork.authorize_url", at("/authorize"))
        .set("upwork.token_url", at("/token"))
        .set("upwork.revoke_url", at("/revoke"))
        .set("upwork.graphql_url", at("/graphql"))
        .set("upwork.api_url", at(""))
}

/// Begins a sign-in and lets the server answer; returns the callback's address, which was not opened yet.
async fn callback(world: &World, server: &Server, client: &Client, target: &str) -> String {
    server.lock().redirect = world.url("/upwork/auth/callback");
    let asked = client.navigate(target).await.location();
    Client::at(server.address).navigate(&asked).await.location()
}

/// The callback's answer.
async fn come_back(world: &World, server: &Server, client: &Client) -> Answer {
    let back = callback(world, server, client, "/x").await;
    client.navigate(&back).await
}

async fn sign_in(world: &World, server: &Server) -> Client {
    let client = world.client();
    let answer = come_back(world, server, &client).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/x"), "{}", answer.text());
    client
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
