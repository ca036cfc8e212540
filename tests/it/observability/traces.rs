//! Traces, as a small collector of our own receives them by OTLP/HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::{Response, StatusCode};
use serde::Deserialize;
use upwarden::testing::body::Body;

use crate::harness::{App, FREELANCER, Plan, TOKEN, World, access_line, listener, logs, until};

/// What OTLP's JSON encoding allows of a span (opentelemetry-proto, `trace.proto`): anything else does not decode.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Span {
    trace_id: String,
    #[serde(rename = "spanId")]
    id: String,
    parent_span_id: Option<String>,
    trace_state: Option<String>,
    name: String,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute>,
    status: Status,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attribute {
    key: String,
    value: AnyValue,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum AnyValue {
    StringValue(String),
    IntValue(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Status {
    code: Option<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResourceSpans {
    resource: Resource,
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScopeSpans {
    scope: InstrumentationScope,
    spans: Vec<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InstrumentationScope {
    name: String,
    version: String,
}

impl Span {
    fn attribute(&self, name: &str) -> Option<String> {
        let found = self.attributes.iter().find(|attribute| attribute.key == name)?;
        let (AnyValue::StringValue(text) | AnyValue::IntValue(text)) = &found.value;
        Some(text.clone())
    }
}

/// A collector that answers 503 this many times first.
#[derive(Clone)]
struct Collector {
    app: App,
    bodies: Arc<Mutex<Vec<String>>>,
    at: SocketAddr,
}

impl Collector {
    fn start(mut failures: usize) -> Self {
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = bodies.clone();
        let failures = Arc::new(Mutex::new(std::mem::take(&mut failures)));
        let app = App::new(move |request| {
            let (kept, failures) = (kept.clone(), failures.clone());
            async move {
                let body = request.into_body().collect(16 << 20).await.unwrap();
                let status = {
                    let mut left = failures.lock().unwrap();
                    let fails = *left > 0;
                    *left = left.saturating_sub(1);
                    if fails { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
                };
                if status == StatusCode::OK {
                    kept.lock().unwrap().push(String::from_utf8(body.to_vec()).unwrap());
                }
                let mut response = Response::new(Body::full("{}"));
                *response.status_mut() = status;
                response
            }
        });
        let socket = tokio::net::TcpListener::from_std(listener()).unwrap();
        let at = socket.local_addr().unwrap();
        tokio::spawn(app.clone().serve(socket, String::new()));
        Self { app, bodies, at }
    }

    fn spans(&self) -> Vec<Span> {
        let bodies = self.bodies.lock().unwrap().clone();
        let requests = bodies.iter().map(|body| serde_json::from_str::<Request>(body).expect(body));
        let resources = requests.flat_map(|request| request.resource_spans).inspect(|spans| {
            let named = |of: &Attribute| {
                of.key == "service.name" && matches!(&of.value, AnyValue::StringValue(name) if name == "upwarden")
            };
            assert!(spans.resource.attributes.iter().any(named));
        });
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        let scopes = scopes.inspect(|scope| assert!(scope.scope.name == "upwarden" && !scope.scope.version.is_empty()));
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// The trace's spans, once that of the request has come.
    async fn trace(&self, path: &str) -> (Span, Vec<Span>) {
        until(path, async || {
            let all = self.spans();
            let request = all.iter().find(|span| span.attribute("url.path").as_deref() == Some(path))?.clone();
            let ours = |span: &Span| span.parent_span_id.as_ref() == Some(&request.id);
            let children = all.into_iter().filter(ours).collect();
            Some((request, children))
        })
        .await
    }
}

fn traced(collector: &Collector) -> Plan {
    World::new().set("telemetry.otlp_url", format!("http://{}", collector.at))
}

/// How often each child is there, by name.
fn names(children: &[Span]) -> BTreeMap<&str, usize> {
    let mut names = BTreeMap::new();
    for child in children {
        *names.entry(child.name.as_str()).or_default() += 1;
    }
    names
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn a_request_is_a_span_with_children_for_store_token_endpoint_and_upstream() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(1);
    let world = traced(&collector)
        .set("public.trusted_proxies", "127.0.0.1/32")
        .set("store.kind", "embedded")
        .set("store.path", folder.path().join("sessions.redb").display())
        .start();
    let client = world.sign_in(FREELANCER).await;
    let context = [("traceparent", PARENT), ("tracestate", "vendor=opaque")];
    let answer = client.get("/traced?q=hidden").headers(&context).await;
    assert_eq!(answer.status, 200);
    client.graphql("{ __typename }").await;

    let (request, children) = collector.trace("/traced").await;
    assert_eq!(collector.app.last().target, "/v1/traces");
    assert_eq!((request.trace_id.as_str(), request.parent_span_id.as_deref()), (&PARENT[3..35], Some(&PARENT[36..52])));
    assert_eq!((request.name.as_str(), request.kind, request.status.code), ("GET app", 2, None));
    assert_eq!(request.trace_state.as_deref(), Some("vendor=opaque"));
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.route", "app"),
        ("http.response.status_code", "200"),
        ("upwarden.door", "public"),
        ("upwarden.request_id", answer.header("x-request-id")),
    ] {
        assert_eq!(request.attribute(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(names(&children), BTreeMap::from([("app", 1), ("store read", 1)]), "{children:#?}");
    let app = children.iter().find(|child| child.name == "app").unwrap();
    assert_eq!((app.kind, app.attribute("http.response.status_code").as_deref()), (3, Some("200")));
    let nanos = |text: &str| text.parse::<u64>().unwrap();
    assert!(nanos(&request.start_time_unix_nano) <= nanos(&app.start_time_unix_nano));
    assert!(nanos(&app.start_time_unix_nano) <= nanos(&app.end_time_unix_nano));
    assert!(nanos(&app.end_time_unix_nano) <= nanos(&request.end_time_unix_nano));
    // The app goes on from there.
    let seen = world.app.last();
    assert_eq!(seen.header("traceparent"), format!("00-{}-{}-01", app.trace_id, app.id));
    assert_eq!(seen.header("tracestate"), "vendor=opaque");

    let (callback, children) = collector.trace("/upwork/auth/callback").await;
    let found = names(&children);
    assert!(found["token"] == 1 && found["who am I"] == 1 && found["store write"] >= 1, "{found:?}");
    let (_, children) = collector.trace("/upwork/graphql").await;
    assert_eq!(names(&children)["upwork api"], 1);
    assert_eq!(callback.parent_span_id, None, "it has no parent");

    let exported = collector.bodies.lock().unwrap().concat();
    for secret in [TOKEN, "hidden", "code=", "state=", "foofreelancer", &client.cookie("upwarden")] {
        assert!(!exported.contains(secret), "{secret}");
    }
    let spans = collector.spans().len() as u64;
    assert!(world.metric("upwarden_spans_exported_total").await >= spans, "a collector that was away is tried again");
    assert_eq!(world.metric("upwarden_spans_dropped_total{reason=\"undelivered\"}").await, 0);
}

#[tokio::test]
async fn a_trace_id_is_in_the_log_line_and_in_the_problem_and_a_clients_own_is_not_believed() {
    let collector = Collector::start(0);
    let world = traced(&collector).public("/").start();
    let refused = world.client().get("/upwork/nothing").header("traceparent", PARENT).await;
    let problem = refused.json();
    let trace = problem["trace_id"].as_str().unwrap();
    assert!(trace.len() == 32 && trace != &PARENT[3..35], "{problem}");
    let line = access_line(&format!("x-request-id: {}", refused.header("x-request-id")));
    assert!(line.contains(&format!("\"trace_id\":\"{trace}\"")), "{line}");
    let (span, _) = collector.trace("/upwork/nothing").await;
    assert_eq!((span.trace_id.as_str(), &span.parent_span_id), (trace, &None));
    assert_eq!(span.attribute("error.type").as_deref(), Some("not-found"));
    let answer = world.client().get("/x").headers(&[("traceparent", PARENT), ("tracestate", "a=b")]).await;
    assert_eq!(answer.status, 200);
    let seen = world.app.last();
    assert!(seen.header("traceparent").len() == 55 && !seen.header("traceparent").contains(&PARENT[3..35]));
    assert_eq!(seen.header("tracestate"), "");
}

#[tokio::test]
async fn a_parent_that_is_not_sampled_stays_so() {
    let collector = Collector::start(0);
    let world = traced(&collector).set("public.trusted_proxies", "127.0.0.1/32").public("/").start();
    let quiet = PARENT.replace("-01", "-00");
    world.client().get("/quiet").header("traceparent", &quiet).await;
    assert_eq!(world.app.last().header("traceparent"), quiet);
    world.client().get("/loud").await;
    collector.trace("/loud").await;
    assert!(collector.spans().iter().all(|span| span.attribute("url.path").as_deref() != Some("/quiet")));
}

#[tokio::test]
async fn without_a_collector_the_context_passes_and_nothing_is_added() {
    let world = World::open(App::default()).start();
    let answer = world.client().get("/untraced").header("traceparent", PARENT).await;
    assert_eq!(world.app.last().header("traceparent"), PARENT);
    let line = access_line(&format!("x-request-id: {}", answer.header("x-request-id")));
    assert!(!line.contains("trace_id"), "{line}");
    assert!(!world.admin().get("/metrics").await.text().contains("upwarden_spans"));
    assert!(world.client().get("/upwork/nothing").await.json().get("trace_id").is_none());
    assert!(!logs().is_empty());
}
