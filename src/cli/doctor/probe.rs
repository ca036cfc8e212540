//! Sends one request to the app or to Upwork, and returns the response or the chain of causes. Follows no redirects.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Response};
use url::Url;

use super::finding::Finding;
use crate::body::Body;
use crate::config::Config;
use crate::descriptors::Descriptors;
use crate::oauth::Outbound;
use crate::policy::AppRoute;
use crate::proxy::client::Timeouts;
use crate::proxy::{self, AppConfig, HostPolicy};
use crate::telemetry::causes;
use crate::telemetry::metrics::UpstreamMetrics;

/// A longer body reads as empty.
const MAX_BODY: usize = 256 << 10;

const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(5), first_byte: Duration::from_secs(15), idle: Duration::from_secs(5) };

/// The response; its body is empty if it could not be read completely.
pub(super) type Probe = Result<Response<Vec<u8>>, String>;

async fn read(response: Result<crate::response::Response, proxy::Error>) -> Probe {
    let response = response.map_err(|error| causes(&error))?;
    let (head, body) = http::Response::from(response).into_parts();
    let body = body.collect(MAX_BODY).await.map(|bytes| bytes.to_vec()).unwrap_or_default();
    Ok(Response::from_parts(head, body))
}

/// Calls one of Upwork's URLs the same way as the broker.
pub(super) async fn upwork(outbound: &Outbound, url: &Url, method: Method, json: &str) -> Probe {
    let endpoint = outbound.endpoint(url, TIMEOUTS, &Descriptors::new(None), &UpstreamMetrics::uncounted());
    let endpoint = endpoint.map_err(|error| causes(&error))?;
    let user_agent = outbound.user_agent.parse().map_err(|error| causes(&error))?;
    let mut fields = vec![(USER_AGENT, user_agent)];
    if !json.is_empty() {
        fields.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
    }
    read(endpoint.send(&method, &fields, json.to_owned()).await).await
}

/// Whether the app, or this part of it, answers, including under the host name that it will see.
pub(super) async fn app(config: &Config, app: &AppConfig) -> Finding {
    const WHAT: &str = "app";
    let own = |route: &&AppRoute| config.upstream(route) == app;
    let public = config.routes.iter().filter(own).find(|route| route.public);
    let path = public.or_else(|| config.routes.iter().find(own)).map_or("/", |route| route.path.as_str());
    let public_url = &config.gateway.public.url;
    let host = match &app.host {
        HostPolicy::App => app.upstream.authority(),
        HostPolicy::Fixed(host) => host.clone(),
        HostPolicy::Keep => public_url.split_once("://").map_or(public_url.as_str(), |(_, host)| host).to_owned(),
    };
    let status = match get(app, path, &host).await {
        Ok(response) => response.status(),
        Err(why) => {
            let remedy = "start the app, or correct its url; if it has its own certificate, set app.ca_file, and app.tls_name if that names another host";
            return Finding::fail(WHAT, format!("{} does not answer: {why}", app.upstream), remedy);
        }
    };
    let text = format!("{} answers GET {path} for the host {host} with {}", app.upstream, status.as_u16());
    if status.is_server_error() {
        return Finding::warn(WHAT, text, "check the app's own log");
    }
    let own = app.upstream.authority();
    if status.is_client_error() && host != own {
        let as_own = get(app, path, &own).await.map(|response| response.status());
        if let Ok(as_own) = as_own
            && as_own != status
        {
            let text = format!("{text}, and for {own} with {}: it refuses the host", as_own.as_u16());
            let remedy = format!("allow {host} in the app (docs/apps.md), or set app.host = \"app\"");
            return Finding::fail(WHAT, text, remedy);
        }
    }
    Finding::ok(WHAT, text)
}

async fn get(app: &AppConfig, path: &str, host: &str) -> Probe {
    let app = AppConfig { timeouts: TIMEOUTS, ..app.clone() };
    let client = app.client(Descriptors::new(None), UpstreamMetrics::uncounted()).map_err(|error| causes(&error))?;
    let request = Request::get(path).header(HOST, host).body(Body::empty()).map_err(|error| causes(&error))?;
    read(client.send_request(request).await).await
}
