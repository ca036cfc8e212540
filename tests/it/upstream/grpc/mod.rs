//! A gRPC app behind upwarden, with gRPC's own library for Python on both sides. `tests/run` installs it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::harness::{App, FREELANCER, World, has, program, within};

fn python(script: &str) -> Option<Command> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = here.join("target/grpc-python");
    let program = program("python3").filter(|_| packages.join("grpc").is_dir());
    if !has(program.is_some(), "python3 with grpcio (tests/run installs it)") {
        return None;
    }
    let mut command = Command::new(program?);
    command.arg(here.join("tests/it/upstream/grpc").join(script)).env("PYTHONPATH", packages);
    command.env("NO_PROXY", "127.0.0.1").stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command)
}

/// The app's process, which ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn app(mut command: Command) -> (Running, String) {
    let mut app = Running(command.spawn().unwrap());
    let mut output = BufReader::new(app.0.stdout.take().unwrap());
    let port = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        output.read_line(&mut line).map(|_| line)
    });
    let port = within(port).await.unwrap().unwrap();
    (app, format!("http://127.0.0.1:{}", port.trim_end()))
}

#[tokio::test]
async fn calls_and_streams_pass_with_their_status_and_deadline() {
    let (Some(server), Some(mut client)) = (python("app.py"), python("client.py")) else { return };
    let (_app, url) = app(server).await;
    let world = World::new().app(App::default()).set("app.url", url).set("app.http2", true).set("public.h2c", true);
    let world = world.start();
    let browser = world.sign_in(FREELANCER).await;
    let cookie = browser.jar().field().unwrap();
    client.arg(world.public_address().to_string()).arg(cookie).arg(FREELANCER);
    let output = within(tokio::task::spawn_blocking(move || client.output())).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().last(), Some("done"), "{output:?}");
}
