//! Redirects of an app that knows only its own address.

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use upwarden::testing::body::Body;

use crate::harness::{App, Plan, World, listener};

const PUBLIC: &str = "https://tools.example.com";

/// An app that redirects to its own address, and to the foreign one that its query names.
fn app() -> String {
    let socket = listener();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let own = url.clone();
    let app = App::new(move |request| {
        let location = request.uri().query().map_or_else(|| format!("{own}/next?a=%62"), str::to_owned);
        let named = own.replace("http", "HTTP");
        async move {
            let response = http::Response::builder().status(302).header("location", location);
            response.header("content-location", format!("{named}/here")).body(Body::empty()).unwrap()
        }
    });
    tokio::spawn(app.serve(TcpListener::from_std(socket).unwrap(), String::new()));
    url
}

fn plan(url: &str, host: &str) -> Plan {
    World::open(App::default()).set("app.url", url).set("public_url", PUBLIC).set("app.host", host)
}

#[tokio::test]
async fn redirects_to_the_apps_own_address_lead_to_the_public_one() {
    let url = app();
    let world = plan(&url, "app").set("public.h2c", true).start();
    let answer = world.client().get("/").await;
    assert_eq!(
        (answer.location(), answer.header("content-location")),
        (format!("{PUBLIC}/next?a=%62"), "https://tools.example.com/here")
    );
    for foreign in ["/relative", "https://evil.example/", "http://127.0.0.1/", "a"] {
        assert_eq!(world.client().get(&format!("/?{foreign}")).await.header("location"), foreign);
    }

    let socket = TcpStream::connect(world.public_address()).await.unwrap();
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("{PUBLIC}/")).body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(send.send_request(request).await.unwrap().headers()["location"], format!("{PUBLIC}/next?a=%62"));

    // A route's own address counts for it, and the app's does not.
    let other = app();
    let routes = serde_json::json!([{ "path": "/other", "url": other, "public": true }]);
    let world = plan(&url, "app").set("routes", routes).start();
    assert_eq!(world.client().get("/other").await.location(), format!("{PUBLIC}/next?a=%62"));
    let apps = format!("{url}/x");
    assert_eq!(world.client().get(&format!("/other?{apps}")).await.header("location"), apps);
}

#[tokio::test]
async fn redirects_stay_as_they_are_where_the_app_sees_another_host() {
    let url = app();
    for host in ["keep", "inner.example"] {
        let world = plan(&url, host).start();
        let answer = world.client().get("/").await;
        assert_eq!(answer.header("location"), format!("{url}/next?a=%62"), "{host}");
        assert_eq!(answer.header("content-location"), format!("{}/here", url.replace("http", "HTTP")));
    }
}
