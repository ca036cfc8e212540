//! The whole server over several store servers: one is lost, or the store's address changes.

use std::io::Write;
use std::time::Instant;

use futures_util::{StreamExt, stream};

use super::ME;
use super::stores::readiness;
use crate::harness::{AGENCY, Answer, Client, FREELANCER, Plan, World, until};
use crate::stores::nodes::{Cluster, SentinelGroup};
use crate::stores::world::{Server, Transport};

fn plan(url: &str) -> Plan {
    World::new().set("store.kind", "valkey").set("store.url", url).set("public.limits.sign_ins_per_address", 1000)
}

/// A sign-in from its first page on, or the 503 in its way.
async fn try_sign_in(world: &World, client: &Client) -> Answer {
    let asked = client.navigate("/x").await;
    if asked.status != 303 {
        return asked;
    }
    let back = world.upwork.consent(&asked.location(), AGENCY).await;
    client.navigate(&back).header("sec-fetch-site", "cross-site").await
}

#[tokio::test]
async fn a_killed_primary_costs_no_session_no_read_and_seconds_without_sign_ins() {
    let Some(mut group) = SentinelGroup::start() else { return };
    let world = plan(group.url().expose()).start();
    let clients: Vec<Client> =
        stream::iter(0..20).map(|_| world.sign_in(FREELANCER)).buffer_unordered(4).collect().await;
    until("readiness", async || (readiness(&world).await == 200).then_some(())).await;
    let first = group.primary();
    group.servers[first].kill();
    let (began, mut refused) = (Instant::now(), 0);
    let back = loop {
        for client in &clients {
            assert_eq!(client.get("/x").await.status, 200, "reads go on");
        }
        let newcomer = world.client();
        let answer = try_sign_in(&world, &newcomer).await;
        if answer.status == 303 {
            break newcomer;
        }
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
        refused += 1;
    };
    let _ = writeln!(std::io::stderr(), "sign-ins after {:?}, {refused} refused with Retry-After", began.elapsed());
    // Another Sentinel may have led the failover.
    until("the new primary", async || (group.primary() != first).then_some(())).await;
    until("readiness", async || (readiness(&world).await == 200).then_some(())).await;
    for client in clients.iter().chain([&back]) {
        assert_eq!(client.get("/x").await.status, 200);
        assert_eq!(client.graphql(ME).await.status, 200);
    }
}

#[tokio::test]
async fn everything_works_with_a_cluster() {
    let Some(cluster) = Cluster::start(0) else { return };
    let world = plan(cluster.url().expose()).replicas(2).start();
    let (here, there, other) =
        (world.sign_in(FREELANCER).await, world.sign_in(FREELANCER).await, world.sign_in(AGENCY).await);
    let there = world.replica(&there, 1);
    for client in [&here, &there, &other] {
        assert_eq!(client.graphql(ME).await.status, 200);
    }
    let out = here.post("/upwork/auth/logout", "everywhere=1").header("origin", &world.url("")).await;
    assert_eq!(out.location(), "/upwork/auth/logout?done=revoked&everywhere=1");
    assert_eq!(there.get("/x").await.problem(), "sign-in-required");
    assert_eq!(other.get("/x").await.status, 200);
}

#[tokio::test]
async fn a_changed_url_file_moves_to_the_new_servers_without_a_restart() {
    let (Some(mut server), Some(cluster)) = (Server::start(Transport::Tcp), Cluster::start(0)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, server.url.expose()).unwrap();
    let world = World::new().file("").set("store.kind", "valkey").set("store.url_file", file.display()).start();
    let client = world.sign_in(FREELANCER).await;
    assert_eq!(client.get("/x").await.status, 200);
    // The user's password is changed first, and in the file then.
    let mut admin = server.admin().await;
    let mut renew = redis::cmd("ACL");
    renew.arg("SETUSER").arg("upwarden").arg("resetpass").arg(">n3w").query_async::<()>(&mut admin).await.unwrap();
    std::fs::write(&file, server.url.expose().replace("s3cr3t", "n3w")).unwrap();
    // No connection with the old one can be made or kept.
    redis::cmd("CLIENT").arg("KILL").arg("USER").arg("upwarden").query_async::<()>(&mut admin).await.unwrap();
    until("the new password", async || (client.get("/x").await.status == 200).then_some(())).await;
    assert_eq!(client.get("/x").await.status, 200);
    // A wrong URL changes nothing.
    std::fs::write(&file, "http://nowhere").unwrap();
    assert_eq!(client.get("/x").await.status, 200);
    std::fs::write(&file, cluster.url().expose()).unwrap();
    until("the other servers", async || (client.get("/x").await.status == 401).then_some(())).await;
    server.kill();
    until("readiness", async || (readiness(&world).await == 200).then_some(())).await;
    assert_eq!(world.sign_in(FREELANCER).await.get("/x").await.status, 200);
    let kept: usize =
        cluster.nodes.iter().map(|node| node.order::<Vec<String>>(&["KEYS", "upwarden:{*}:s"]).len()).sum();
    assert_eq!(kept, 1);
}
