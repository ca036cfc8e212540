//! Upwork's own SDKs for Node and Python with our credentials, unchanged except for their base URLs.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{tickets, tokens};
use crate::harness::{AGENCY, Client, FREELANCER, World, has, program, within};

/// What an SDK presents.
#[derive(Clone, Copy)]
struct Shown<'a> {
    door: &'a str,
    token: &'a str,
    cookie: &'a str,
}

async fn answers(mut command: Command, shown: Shown<'_>) -> Value {
    command.args([shown.door, shown.token, shown.cookie]);
    let output = within(tokio::task::spawn_blocking(move || command.output())).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// All answers to the Node SDK; `None` if it is not installed.
async fn by_node(shown: Shown<'_>) -> Option<Value> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = here.join("target/sdk-node/node_modules");
    let (node, sdk) = (program("node"), modules.join("@upwork/node-upwork-oauth2"));
    if !has(node.is_some(), "node") || !has(sdk.is_dir(), "@upwork/node-upwork-oauth2 (tests/run installs it)") {
        return None;
    }
    let mut command = Command::new(node?);
    command.arg(here.join("tests/it/callers/sdk.cjs")).env("NODE_PATH", modules);
    let answers = answers(command, shown).await;
    assert_eq!((&answers["graphql"]["status"], &answers["rest"]["status"]), (&200.into(), &200.into()), "{answers}");
    let missing = &answers["missing"];
    assert_eq!((&missing["status"], &missing["body"]["error"]["code"]), (&404.into(), &404.into()), "{answers}");
    Some(answers)
}

/// The answer to the Python SDK; `None` if it is not installed.
async fn by_python(shown: Shown<'_>) -> Option<Value> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (python, packages) = (program("python3"), here.join("target/sdk-python"));
    let sdk = packages.join("upwork");
    if !has(python.is_some(), "python3") || !has(sdk.is_dir(), "python-upwork-oauth2 (tests/run installs it)") {
        return None;
    }
    let mut command = Command::new(python?);
    command.arg(here.join("tests/it/callers/sdk.py")).env("PYTHONPATH", packages);
    let said = answers(command, shown).await;
    assert!(said["rest"]["auth_user"]["first_name"].is_string(), "{said}");
    Some(said["graphql"].clone())
}

/// Each SDK that is installed acts as `user`.
async fn both_act_as(user: &str, shown: Shown<'_>) {
    let node = by_node(shown).await.map(|answers| answers["graphql"]["body"].clone());
    for said in [node, by_python(shown).await].into_iter().flatten() {
        assert_eq!(said["data"]["user"]["id"], user, "{said}");
    }
}

fn cookies(browser: &Client) -> String {
    let pairs = browser.cookies().into_iter().map(|name| format!("{name}={}", browser.cookie(&name)));
    pairs.collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn the_sdks_work_at_the_neighbour_door_with_a_placeholder() {
    let world = World::new().start();
    both_act_as("1484254172266924885", Shown { door: &world.neighbour_url(""), token: "placeholder", cookie: "" })
        .await;
}

#[tokio::test]
async fn the_node_sdks_requests_errors_and_organization_pass_through() {
    const ORGANIZATION: &str = "1484254172266924886";
    let world = World::new().start();
    let shown = Shown { door: &world.neighbour_url(""), token: "placeholder", cookie: "" };
    let Some(answers) = by_node(shown).await else { return };
    assert_eq!(answers["rest"]["body"]["auth_user"]["first_name"], "Corge", "{answers}");
    assert_eq!(answers["graphql"]["body"]["data"]["user"]["nid"], "corgeservice", "{answers}");
    for answer in [&answers["graphql"], &answers["organization"]] {
        assert_eq!(answer["body"]["data"]["organization"]["id"], ORGANIZATION, "{answers}");
    }

    let requests = world.upwork.sandbox.requests();
    let to = |target: &str| requests.iter().find(|seen| seen.target == target).cloned().expect("the request");
    assert_eq!(to("/api/auth/v1/info.json?a=b%20c").header("user-agent"), Some("Github Upwork API NodeJS Client"));
    assert_eq!(to("/api/nothing/v1/here.json").method, "POST", "the SDK sends PUT as POST");
    let tenants = requests.iter().filter_map(|seen| seen.header("x-upwork-api-tenantid"));
    assert_eq!(tenants.collect::<Vec<_>>(), [ORGANIZATION]);
    assert_eq!(world.counters().token.client_credentials, 1, "its placeholder is not forwarded");
}

#[tokio::test]
async fn the_sdks_work_at_the_neighbour_door_with_a_ticket() {
    let world = World::new().set("app.tickets", "true").start();
    let browser = world.sign_in(AGENCY).await;
    let ticket = tickets::ticket(&world, &browser).await;
    both_act_as(AGENCY, Shown { door: &world.neighbour_url(""), token: &ticket, cookie: "" }).await;
}

#[tokio::test]
async fn the_sdks_work_at_the_public_door_with_the_cookie_and_their_own_bearer_is_not_forwarded() {
    let world = World::new().start();
    let browser = world.sign_in(FREELANCER).await;
    let cookie = cookies(&browser);
    both_act_as(FREELANCER, Shown { door: &world.url(""), token: "placeholder", cookie: &cookie }).await;
    for request in world.upwork.sandbox.requests() {
        let fields = [request.header("authorization"), request.header("cookie")];
        assert!(fields.iter().flatten().all(|value| !value.contains("placeholder") && !value.contains("upwarden")));
    }
}

#[tokio::test]
async fn the_sdks_work_at_the_public_door_with_a_personal_access_token() {
    let folder = tokens::Folder::new();
    let world = folder.world().start();
    let browser = world.sign_in(FREELANCER).await;
    let token = tokens::token(&browser).await;
    both_act_as(FREELANCER, Shown { door: &world.url(""), token: &token, cookie: "" }).await;
}

/// The block of docs/callers.md about this SDK, with the address of this door.
fn documented(fence: &str, names: &str, door: &str) -> String {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/callers.md")).unwrap();
    let blocks = docs.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix(fence));
    let block = blocks.into_iter().find(|block| block.contains(names)).expect("it is documented");
    assert!(block.contains("http://127.0.0.1:4181"), "{block}");
    block.replace("http://127.0.0.1:4181", door)
}

#[tokio::test]
async fn the_sdks_work_exactly_as_documented() {
    let world = World::new().start();
    let (door, here) = (world.neighbour_url(""), Path::new(env!("CARGO_MANIFEST_DIR")));
    for (name, option, names, fence, variable, packages, sdk) in [
        ("node", "-e", "node-upwork-oauth2", "js\n", "NODE_PATH", "target/sdk-node/node_modules", "@upwork"),
        ("python3", "-c", "upwork.upwork", "python\n", "PYTHONPATH", "target/sdk-python", "upwork"),
    ] {
        let (found, packages) = (program(name), here.join(packages));
        if !has(found.is_some(), name) || !has(packages.join(sdk).is_dir(), "Upwork's SDK (tests/run installs it)") {
            continue;
        }
        let mut command = Command::new(found.unwrap());
        command.arg(option).arg(documented(fence, names, &door)).env(variable, packages);
        let output = within(tokio::task::spawn_blocking(move || command.output())).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        // The answers of GraphQL and of REST.
        assert!(said.contains("corgeservice") && said.contains("Corge"), "{name}: {output:?}");
    }
}
