//! An app that authenticates connections (NTLM, Negotiate): one client's authentication is never used for another (RFC
//! 4559 section 6).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;

use crate::harness::{App, Client, FREELANCER, Raw, World, head};

/// An app that names the user of the connection. `Authorization: SCHEME NAME` makes NAME the user from then on; without one,
/// it asks for SCHEME.
fn app(scheme: &'static str) -> (App, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let app = App::raw(move |mut stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            let mut user = String::new();
            while let Some(asked) = head(&mut stream).await {
                if let Some((_, name)) = asked.split_once(&format!("Authorization: {scheme} ")) {
                    user = name.lines().next().unwrap_or_default().to_owned();
                }
                let text = format!("you are {user:?}\n");
                let status = match user.as_str() {
                    "" => format!("401 Unauthorized\r\nWWW-Authenticate: Digest a=b, {scheme}"),
                    _ => "200 OK".to_owned(),
                };
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{text}", text.len());
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    });
    (app, connections)
}

async fn asks(client: &mut Raw, fields: &str) -> String {
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
    let answer = client.until("you are ").await;
    let rest = if answer.ends_with('\n') { String::new() } else { client.until("\n").await };
    format!("{answer}{rest}").rsplit("you are ").next().unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_clients_authentication_counts_for_its_own_connection_only() {
    for scheme in ["NTLM", "Negotiate", "negotiate"] {
        let (app, connections) = app(scheme);
        let world = World::open(app).set("workers", 1).start();
        let mut alice = Raw::to(world.public_address()).await;
        assert_eq!(asks(&mut alice, "").await, "\"\"", "the app asks her");
        assert_eq!(asks(&mut alice, &format!("Authorization: {scheme} alice\r\n")).await, "\"alice\"");
        let mut bob = Raw::to(world.public_address()).await;
        assert_eq!(asks(&mut bob, "").await, "\"\"", "{scheme}");
        // NTLM proves it once for a connection: what follows carries no field.
        assert_eq!(asks(&mut alice, "").await, "\"alice\"", "{scheme}");
        assert_eq!(asks(&mut bob, &format!("Authorization: {scheme} bob\r\n")).await, "\"bob\"");
        assert_eq!(
            (asks(&mut alice, "").await, asks(&mut bob, "").await),
            ("\"alice\"".to_owned(), "\"bob\"".to_owned())
        );
        assert_eq!(connections.load(Ordering::Relaxed), 2, "each has one");
        drop(alice);
        let mut carol = Raw::to(world.public_address()).await;
        assert_eq!(asks(&mut carol, "").await, "\"\"", "{scheme}");
    }
}

#[tokio::test]
async fn a_proxy_that_mixes_clients_on_a_connection_mixes_no_users() {
    // A trusted one: nothing that was proved stays.
    let (named, _) = app("NTLM");
    let world = World::open(named).set("workers", 1).set("public.trusted_proxies", "127.0.0.0/8").start();
    let mut proxy = Raw::to(world.public_address()).await;
    assert_eq!(asks(&mut proxy, "X-Forwarded-For: 203.0.113.1\r\nAuthorization: NTLM alice\r\n").await, "\"alice\"");
    assert_eq!(asks(&mut proxy, "X-Forwarded-For: 203.0.113.2\r\n").await, "\"\"");
    // One that no one has listed: it stays for one signed-in user.
    let (named, _) = app("NTLM");
    let world = World::open(named).set("workers", 1).start();
    let cookies = |client: &Client| format!("Cookie: {}\r\n", client.jar().field().unwrap());
    let client = world.client();
    world.sign_in_with(&client, FREELANCER, "/upwork/auth/login?return_to=/x").await;
    let alice = cookies(&client);
    let mut proxy = Raw::to(world.public_address()).await;
    assert_eq!(asks(&mut proxy, &format!("{alice}Authorization: NTLM alice\r\n")).await, "\"alice\"");
    assert_eq!(asks(&mut proxy, &alice).await, "\"alice\"");
    assert_eq!(asks(&mut proxy, "").await, "\"\"");
    assert_eq!(asks(&mut proxy, &alice).await, "\"\"", "it was closed");
}
