//! Callers without a browser: programs at the neighbour door, the app with a ticket, a user's scripts with a token.

mod app;
mod door;
mod login;
mod sdk;
mod service;
mod tickets;
mod tokens;
mod valkey;

use http::Request;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use upwarden::sandbox;
use upwarden::testing::body::Body;

use crate::harness::{Answer, Call, Client, World, within};

/// The first query of the SDKs.
const WHO: &str = "{ user { id nid } }";
const MUTATION: &str = "mutation { createProposalNote(input: { text: \"x\" }) { id } }";

/// GraphQL as a program sends it, without the fields that a browser adds.
fn ask(client: &Client, query: &str) -> Call {
    let body = serde_json::json!({ "query": query }).to_string();
    client.post("/upwork/graphql", body).header("content-type", "application/json")
}

/// The user whose token Upwork was called with.
fn whom(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let said: Value = answer.json();
    said["data"]["user"]["id"].as_str().unwrap_or_else(|| panic!("no user: {said}")).to_owned()
}

/// Settings for the real binary, with the world's sandbox as Upwork.
fn settings(world: &World) -> Vec<String> {
    let upwork = format!("http://{}", world.upwork.address);
    let sets = [
        ("public_url", "http://127.0.0.1:1".to_owned()),
        ("app.url", "http://127.0.0.1:1".to_owned()),
        ("access.anyone", "true".to_owned()),
        ("session.keys", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8".to_owned()),
        ("upwork.client_id", "0123456789abcdef0123456789abcdef".to_owned()),
        ("upwork.client_secret", "fedcba9876543210".to_owned()),
        ("upwork.authorize_url", format!("{upwork}{}", sandbox::AUTHORIZE_PATH)),
        ("upwork.token_url", format!("{upwork}{}", sandbox::TOKEN_PATH)),
        ("upwork.graphql_url", format!("{upwork}{}", sandbox::GRAPHQL_PATH)),
        ("upwork.api_url", upwork),
    ];
    sets.into_iter().map(|(key, value)| format!("--set={key}={value}")).collect()
}

/// Sends the same query many times over one connection with a ticket; the bodies of the answers.
async fn ask_often(client: &Client, times: usize, ticket: &str) -> Vec<String> {
    let stream = TokioIo::new(client.connect().await);
    let (mut sender, connection) = within(hyper::client::conn::http1::handshake(stream)).await.unwrap();
    tokio::spawn(connection);
    let query = serde_json::json!({ "query": WHO }).to_string();
    let mut bodies = Vec::new();
    for _ in 0..times {
        let request = Request::post("/upwork/graphql").header("host", "localhost").header("x-upwork-ticket", ticket);
        let request = request.header("content-type", "application/json").body(Body::full(query.clone())).unwrap();
        let answer = within(sender.send_request(request)).await.unwrap();
        let body = within(Body::from(answer.into_body()).collect(1 << 16)).await.unwrap();
        bodies.push(String::from_utf8_lossy(&body).into_owned());
    }
    bodies
}
