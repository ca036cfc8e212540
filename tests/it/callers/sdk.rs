//! Upwork's own node SDK with credentials of ours, unchanged but for its base URLs.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::super::harness::{AGENCY, FREELANCER, World, has, program, within};
use super::{tickets, tokens};

/// What the SDK was answered at this door with this as its access token; none where there is no SDK.
async fn by_sdk(door: &str, token: &str) -> Option<Value> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = here.join("target/sdk-node/node_modules");
    let (node, sdk) = (program("node"), modules.join("@upwork/node-upwork-oauth2"));
    if !has(node.is_some(), "node") || !has(sdk.is_dir(), "@upwork/node-upwork-oauth2 (tests/run installs it)") {
        return None;
    }
    let mut command = Command::new(node?);
    command.arg(here.join("tests/it/callers/sdk.cjs")).args([door, token]).env("NODE_PATH", modules);
    let output = within(tokio::task::spawn_blocking(move || command.output())).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[tokio::test]
async fn the_node_sdk_works_next_door_with_a_ticket() {
    let world = World::new().set("app.tickets", "true").start();
    let browser = world.sign_in(AGENCY).await;
    let ticket = tickets::ticket(&world, &browser).await;
    let Some(said) = by_sdk(&world.neighbour_url(""), &ticket).await else { return };
    assert_eq!(said["graphql"]["body"]["data"]["user"]["id"], AGENCY, "{said}");
    assert_eq!(said["rest"]["status"], 200, "{said}");
}

#[tokio::test]
async fn the_node_sdk_works_at_the_public_door_with_a_personal_access_token() {
    let folder = tokens::Folder::new();
    let world = folder.world().start();
    let browser = world.sign_in(FREELANCER).await;
    let token = tokens::token(&browser).await;
    let Some(said) = by_sdk(&world.url(""), &token).await else { return };
    assert_eq!(said["graphql"]["body"]["data"]["user"]["id"], FREELANCER, "{said}");
    assert_eq!(said["rest"]["status"], 200, "{said}");
}
