//! Secrets in files, changed while everything runs.

use std::path::Path;

use upwarden::sandbox;
use upwarden::testing::secret::Secret;

use super::SECOND;
use crate::harness::{FREELANCER, Plan, World, logs, until};

/// Writes the file, and waits until it is in force.
async fn change(world: &World, file: &Path, text: &str) {
    let read = "upwarden_config_last_reload_success_timestamp_seconds";
    let before = world.metric(read).await;
    world.turn(SECOND);
    std::fs::write(file, text).unwrap();
    until("the reload", async || (world.metric(read).await > before).then_some(())).await;
    assert_eq!(world.metric("upwarden_config_last_reload_successful").await, 1);
}

fn with_client(secret: &str) -> Plan {
    let client = sandbox::Client {
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        secret: Secret::new(secret),
        redirect_uri: "http://127.0.0.1:1/upwork/auth/callback".to_owned(),
    };
    let upwork = sandbox::Config { clients: vec![client], ..sandbox::Config::default() };
    World::new().upwork(upwork).set("public_url", "http://127.0.0.1:1")
}

#[tokio::test]
async fn a_changed_client_secret_is_used_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "the one before").unwrap();
    let plan = with_client("the new one").set("upwork.client_secret", "");
    let world = plan.set("upwork.client_secret_file", file.display()).start();
    let sign_in = async || {
        let client = world.client().named("127.0.0.1:1");
        let back = world.callback(&client, "/x").await;
        client.navigate(&back).await.status.as_u16()
    };
    assert_eq!(sign_in().await, 502, "Upwork refuses the old secret");
    change(&world, &file, "the new one\n").await;
    assert_eq!(sign_in().await, 303);
}

#[tokio::test]
async fn a_changed_secret_of_the_neighbour_door_is_required_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "before").unwrap();
    let world = World::new().set("neighbour.secret_file", file.display()).start();
    let ask = async |secret: &str| {
        let call = world.neighbour().get("/upwork/api/hr/v2/users/me.json");
        call.header("x-upwarden-secret", secret).await.status.as_u16()
    };
    assert_eq!((ask("before").await, ask("after").await), (200, 403));
    change(&world, &file, "after").await;
    assert_eq!((ask("before").await, ask("after").await), (403, 200));
}

#[tokio::test]
async fn a_secret_that_cannot_be_replaced_is_named_when_its_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy");
    std::fs::write(&file, "http://user:first@127.0.0.1:9").unwrap();
    let world = World::new().set("upwork.proxy_file", file.display()).start();
    change(&world, &file, "http://user:hunter3@127.0.0.1:9").await;
    until("the log", async || {
        let named = |line: &str| line.contains("\"keys\":\"upwork.proxy_file\"") && line.contains("after a restart");
        logs().lines().any(named).then_some(())
    })
    .await;
    assert!(!logs().contains("hunter3"));
}

#[tokio::test]
async fn the_secret_of_another_client_waits_for_the_restart_that_its_id_needs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "the one in force").unwrap();
    let toml = |id: &str| format!("[upwork]\nclient_id = \"{id}\"\nclient_secret_file = \"{}\"\n", file.display());
    let plan = with_client("the one in force").set("upwork.client_secret", "").set("upwork.client_id", "");
    let world = plan.file(&toml("0123456789abcdef0123456789abcdef")).start();
    std::fs::write(&file, "of the other").unwrap();
    let read = "upwarden_config_last_reload_success_timestamp_seconds";
    let before = world.metric(read).await;
    world.turn(SECOND);
    world.rewrite(&toml("fedcba9876543210fedcba9876543210"));
    until("the reload", async || (world.metric(read).await > before).then_some(())).await;
    let client = world.client().named("127.0.0.1:1");
    let answer = world.sign_in_with(&client, FREELANCER, "/x").await;
    assert_eq!(answer.status, 303, "{}", answer.text());
}
