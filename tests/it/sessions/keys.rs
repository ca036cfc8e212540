//! Session keys, changed while everything runs.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use crate::harness::{Client, FREELANCER, World, logs, until};

const OLD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const NEW: &str = "HxscGxoZGBcWFRQTEhEQDw4NDAsKCQgHBgUEAwIBAAA";
const NEWEST: &str = "QAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// Whether a request with these cookies gets the expected answer. It uses a copy of them, so that none is resealed.
async fn seen(client: &Client, status: u16, cookies: usize) -> Option<()> {
    let answer = client.twin().get("/upwork/auth/session").await;
    (answer.status == status && answer.set_cookies().len() == cookies).then_some(())
}

#[tokio::test]
async fn a_changed_keyring_signs_no_one_out_and_reseals_on_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, OLD).unwrap();
    let world = World::new().set("session.keys", "").set("session.key_files", path.display()).start();
    let (used, idle) = (world.sign_in(FREELANCER).await, world.sign_in(FREELANCER).await);

    std::fs::write(&path, format!("{NEW}\n{OLD}\n")).unwrap();
    until("the new key", || seen(&used, 200, 1)).await;
    // The app, the API and our own endpoints all reseal.
    for target in ["/x", "/upwork/api/hr/v2/users/me.json", "/upwork/auth/"] {
        let twin = idle.twin();
        assert_eq!(twin.get(target).await.set_cookies().len(), 1, "{target}");
        assert_eq!(twin.get(target).await.set_cookies().len(), 0, "{target}: once");
    }
    let before = used.cookie("upwarden");
    used.get("/x").await;
    assert_ne!(used.cookie("upwarden"), before);

    // An invalid file changes nothing, and is reported.
    std::fs::write(&path, "no key at all, and not even near one\n").unwrap();
    until("the log", async || {
        logs().contains("reload failed, the previous configuration stays in force").then_some(())
    })
    .await;
    assert!(!logs().contains("and not even near one"), "the file's content is not logged");
    assert!(seen(&used, 200, 0).await.is_some() && seen(&idle, 200, 1).await.is_some());

    std::fs::write(&path, format!("{NEWEST}\n{NEW}\n")).unwrap();
    until("the old key's end", || seen(&idle, 401, 0)).await;
    assert!(seen(&used, 200, 1).await.is_some(), "a resealed session lives on");
}

/// Writes other content of the same length with the same modification time.
fn swap(path: &Path, key: &str) {
    let modified = File::open(path).unwrap().metadata().unwrap().modified().unwrap();
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(key.as_bytes()).unwrap();
    file.set_modified(modified).unwrap();
}

#[tokio::test]
async fn sighup_reads_the_keys_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, OLD).unwrap();
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    let (server, address) =
        super::stores::serve(&world, &[("session.keys", ""), ("session.key_files", &path.display().to_string())]).await;
    let client = client.through(address);
    assert!(seen(&client, 200, 0).await.is_some());
    swap(&path, NEW);
    server.signal("HUP");
    until("another key", || seen(&client, 401, 0)).await;
    swap(&path, OLD);
    server.signal("HUP");
    until("the key from before", || seen(&client, 200, 0)).await;
}
