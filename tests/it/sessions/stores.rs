//! The whole server over each store: down, back, killed under traffic, and signing out everywhere.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::net::TcpStream;

use super::ME;
use crate::harness::{AGENCY, App, Client, FREELANCER, Plan, Upwarden, World, listener, until, within};
use crate::stores::world::{Server, Transport};

/// The real binary as one more replica of `world`, with some settings of its own, listening.
pub(crate) async fn serve(world: &World, own: &[(&str, &str)]) -> (Upwarden, SocketAddr) {
    let (public, admin) = (listener().local_addr().unwrap(), listener().local_addr().unwrap());
    serve_at(world, own, public, admin).await
}

pub(super) async fn serve_at(
    world: &World,
    own: &[(&str, &str)],
    public: SocketAddr,
    admin: SocketAddr,
) -> (Upwarden, SocketAddr) {
    let arguments = arguments(world, own, public, admin);
    let server = Upwarden::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    until("the other process listens", async || TcpStream::connect(public).await.ok()).await;
    (server, public)
}

/// The command line of one more replica of `world`.
pub(crate) fn arguments(world: &World, own: &[(&str, &str)], public: SocketAddr, admin: SocketAddr) -> Vec<String> {
    let (public_text, admin_text) = (public.to_string(), admin.to_string());
    let doors = [("public.listen", public_text.as_str()), ("admin.listen", &admin_text), ("neighbour.listen", "")];
    let own: Vec<_> = own.iter().copied().chain(doors).collect();
    let usual = world.settings().iter().filter(|line| !own.iter().any(|(key, _)| line.starts_with(&format!("{key}="))));
    let sets = usual
        .cloned()
        .chain(own.iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| format!("{key}={value}")));
    let mut arguments = vec!["serve".to_owned()];
    arguments.extend(sets.flat_map(|line| ["--set".to_owned(), line]));
    arguments
}

fn with_valkey(server: &Server) -> [(&'static str, String); 2] {
    [("store.kind", "valkey".to_owned()), ("store.url", server.url.expose().to_owned())]
}

pub(super) fn plan(server: &Server) -> Plan {
    with_valkey(server).into_iter().fold(World::new(), |plan, (key, value)| plan.set(key, value))
}

pub(super) async fn readiness(world: &World) -> u16 {
    world.admin().get("/readyz").await.status.as_u16()
}

#[tokio::test]
async fn while_the_store_is_down_requests_get_a_503_and_never_a_sign_in() {
    let Some(mut server) = Server::start(Transport::Tcp) else { return };
    let world = plan(&server).start();
    let client = world.sign_in(FREELANCER).await;
    until("readiness", async || (readiness(&world).await == 200).then_some(())).await;
    server.kill();
    until("no readiness", async || (readiness(&world).await == 503).then_some(())).await;
    for target in ["/x", "/upwork/auth/", "/upwork/api/hr/v2/users/me.json", "/upwork/auth/logout"] {
        let page = client.navigate(target).await;
        assert_eq!((page.status.as_u16(), page.header("location")), (503, ""), "{target}");
        assert!(!page.header("retry-after").is_empty() && page.set_cookies().is_empty(), "{target}: {page:?}");
    }
    assert_eq!(client.graphql(ME).await.problem(), "store-down");
    assert_eq!(client.post("/upwork/auth/logout", "").await.problem(), "store-down");
    assert_eq!(client.get("/upwork/auth/verify").await.problem(), "store-down", "a 401 would begin a sign-in");
    let stranger = world.client();
    // For two seconds a sign-in may begin, since the store may be back when it ends.
    let page = until("no one is sent to sign in", async || {
        Some(stranger.navigate("/x").await).filter(|page| page.status == 503)
    })
    .await;
    assert!(page.header("location").is_empty() && !page.header("retry-after").is_empty(), "{page:?}");
    server.restart();
    until("readiness", async || (readiness(&world).await == 200).then_some(())).await;
    assert_eq!(client.navigate("/x").await.status, 200);
    assert_eq!(client.graphql(ME).await.status, 200);
    assert_eq!(world.sign_in_with(&stranger, FREELANCER, "/x").await.location(), "/x");
}

#[tokio::test]
async fn signing_out_everywhere_ends_every_session_of_the_user_at_once_on_all_replicas() {
    let Some(server) = Server::start(Transport::Tcp) else { return };
    let world = plan(&server).replicas(2).start();
    let (here, there, other) =
        (world.sign_in(FREELANCER).await, world.sign_in(FREELANCER).await, world.sign_in(AGENCY).await);
    let there = world.replica(&there, 1);
    assert!(here.navigate("/upwork/auth/").await.text().contains("everywhere"));
    assert_eq!(there.get("/x").await.status, 200);
    let out = here.post("/upwork/auth/logout", "everywhere=1").header("origin", &world.url("")).await;
    assert_eq!(out.location(), "/upwork/auth/logout?done=revoked&everywhere=1");
    assert_eq!(there.get("/x").await.problem(), "sign-in-required");
    assert_eq!(other.get("/x").await.status, 200);
}

#[tokio::test]
async fn with_cookies_not_before_ends_sessions_while_everything_runs() {
    let world = World::new().app(App::sample()).file("").start();
    let client = world.sign_in(FREELANCER).await;
    assert!(!client.navigate("/upwork/auth/").await.text().contains("everywhere"), "there is no such button");
    let mut socket = client.websocket("/echo").await.unwrap();
    let other = world.sign_in(AGENCY).await;
    world.rewrite(&format!("access.not_before = {{\"{FREELANCER}\" = \"2026-11-24T02:01:00Z\"}}\n"));
    until("the new rule", async || (client.get("/x").await.status == 401).then_some(())).await;
    assert_eq!(other.get("/x").await.status, 200);
    world.turn(Duration::from_secs(61));
    let end = within(socket.next()).await;
    assert!(end.is_none_or(|end| end.map_or(true, |end| end.is_close())), "its WebSocket ends at the next check");
    let again = world.sign_in(FREELANCER).await;
    assert_eq!(again.get("/x").await.status, 200, "a new sign-in is accepted");
}

/// Signs in at `door` again and again until it is gone; returns the clients that got a session.
async fn sign_in_until_gone(
    world: World,
    door: SocketAddr,
    count: tokio::sync::watch::Sender<usize>,
) -> (World, Vec<Client>) {
    let mut acknowledged = Vec::new();
    loop {
        let client = world.client().through(door);
        let Ok(asked) = client.navigate("/x").attempt().await else { break };
        let location = asked.whole().await.location();
        let back = world.upwork.consent(&location, FREELANCER).await;
        let Ok(answer) = client.navigate(&back).attempt().await else { break };
        if answer.status == 303 {
            acknowledged.push(client);
            count.send_replace(acknowledged.len());
        }
    }
    (world, acknowledged)
}

/// Kills the process during sign-ins; returns the clients that got a session.
async fn killed_during_sign_ins(world: World, mut server: Upwarden, door: SocketAddr) -> (World, Vec<Client>) {
    let (sender, mut count) = tokio::sync::watch::channel(0);
    let signing_in = tokio::spawn(sign_in_until_gone(world, door, sender));
    within(count.wait_for(|count| *count >= 10)).await.unwrap();
    server.kill();
    within(signing_in).await.unwrap()
}

#[tokio::test]
async fn no_acknowledged_session_is_lost_when_the_process_with_the_file_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db").display().to_string();
    let world = World::new().start();
    let own = [("store.kind", "embedded"), ("store.path", path.as_str())];
    let (server, door) = serve(&world, &own).await;
    let (world, clients) = killed_during_sign_ins(world, server, door).await;
    let (_server, again) = serve(&world, &own).await;
    for client in &clients {
        assert_eq!(client.through(again).get("/x").await.status, 200, "of {}", clients.len());
    }
}

#[tokio::test]
async fn no_acknowledged_session_is_lost_when_a_replica_is_killed() {
    let Some(redis) = Server::start(Transport::Tcp) else { return };
    let world = plan(&redis).start();
    let (server, door) = serve(&world, &[]).await;
    let (world, clients) = killed_during_sign_ins(world, server, door).await;
    for client in &clients {
        assert_eq!(client.through(world.address(0)).get("/x").await.status, 200, "of {}", clients.len());
    }
}

/// 100 sessions and 2,000 requests, of which few are refused, since the server is back at once. `kills` does the same with ten
/// thousand sessions.
#[tokio::test]
async fn a_restart_of_redis_under_traffic_loses_no_session() {
    let Some(mut server) = Server::start(Transport::Tcp) else { return };
    let world = plan(&server).set("public.limits.sign_ins_per_address", 1000).start();
    let clients: Vec<Client> =
        stream::iter(0..100).map(|_| world.sign_in(FREELANCER)).buffer_unordered(8).collect().await;
    let mut answers = stream::iter(0..2000)
        .map(|number| {
            let client = clients[number % clients.len()].clone();
            async move { client.get("/x").await }
        })
        .buffer_unordered(32);
    let (mut count, mut refused) = (0, 0);
    while let Some(answer) = within(answers.next()).await {
        match answer.status.as_u16() {
            200 => {}
            503 => refused += 1,
            other => panic!("{other}: {}", answer.text()),
        }
        count += 1;
        if count == 500 {
            server.kill();
            server.restart();
        }
    }
    drop(answers);
    assert!(refused < 500, "{refused} of {count} were refused");
    for client in &clients {
        assert_eq!(
            until("the store", async || Some(client.get("/x").await).filter(|a| a.status != 503)).await.status,
            200
        );
    }
}

#[tokio::test]
async fn a_user_has_a_bounded_number_of_sessions_and_the_one_longest_unused_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let mut plans =
        vec![World::new().set("store.kind", "embedded").set("store.path", folder.path().join("s").display())];
    let server = Server::start(Transport::Tcp);
    plans.extend(server.as_ref().map(plan));
    for plan in plans {
        let world = plan.set("session.max_per_user", 10).set("session.recheck", "10d").start();
        let other = world.sign_in(AGENCY).await;
        let (used, unused) = (world.sign_in(FREELANCER).await, world.sign_in(FREELANCER).await);
        world.turn(Duration::from_hours(25));
        assert_eq!(used.graphql(ME).await.status, 200);
        let sign_ins = stream::iter(0..8).map(|_| world.sign_in(FREELANCER)).buffered(4);
        let more: Vec<Client> = sign_ins.collect().await;
        assert_eq!(unused.get("/").await.status, 200);
        world.sign_in(FREELANCER).await;
        assert_eq!(unused.get("/").await.status, 401);
        for client in more.iter().chain([&used, &other]) {
            assert_eq!(client.get("/").await.status, 200);
        }
    }
}
