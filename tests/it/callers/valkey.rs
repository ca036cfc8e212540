//! Personal access tokens and the service identity in Valkey or Redis, where replicas share them.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{WHO, ask, tokens, whom};
use crate::harness::{AGENCY, FREELANCER, World, has, program, until};

/// A server for one test, without persistence.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    async fn start() -> Option<Self> {
        let found = ["valkey-server", "redis-server"].into_iter().find_map(program);
        if !has(found.is_some(), "valkey-server or redis-server") {
            return None;
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(found?);
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, url: format!("redis://127.0.0.1:{port}") };
        until("the server", || async { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok() }).await;
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn tokens_tickets_and_the_service_identity_work_with_valkey() {
    let Some(server) = Server::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("refresh-token");
    let world = World::new()
        .upwork(upwarden::sandbox::Config { strict: true, ..Default::default() })
        .set("app.tickets", "true")
        .set("store.kind", "valkey")
        .set("store.url", &server.url)
        .set("service.grant", "refresh_token")
        .set("service.refresh_token_file", file.display())
        .start();
    let granted = world.upwork.sandbox.grant(AGENCY, "0123456789abcdef0123456789abcdef").unwrap();
    std::fs::write(&file, granted.refresh_token.expose()).unwrap();
    assert_eq!(whom(&ask(&world.neighbour(), WHO).await), AGENCY);
    let browser = world.sign_in(FREELANCER).await;
    let token = tokens::token(&browser).await;
    world.turn(Duration::from_hours(25));
    let ticket = super::tickets::ticket(&world, &browser).await;
    let by_token = ask(&world.client(), WHO).header("authorization", &format!("Bearer {token}"));
    let by_ticket = ask(&world.neighbour(), WHO).header("x-upwork-ticket", &ticket);
    let (one, other, third) = tokio::join!(by_token, by_ticket, browser.graphql(WHO));
    for answer in [one, other, third] {
        assert_eq!(whom(&answer), FREELANCER);
    }
    assert_eq!(whom(&ask(&world.neighbour(), WHO).await), AGENCY);
    let out = browser.post("/upwork/auth/logout", "").await;
    assert_eq!(out.location(), "/upwork/auth/logout?done=kept");
    let still = ask(&world.client(), WHO).header("authorization", &format!("Bearer {token}")).await;
    assert_eq!(whom(&still), FREELANCER);
}
