//! How the code comes back: by the browser, to a socket on loopback, or by somebody who pastes the final address.
//!
//! In: the redirect URI. Out: queries, one after the other, each with somebody to answer. A redirect URI of another machine,
//! or one whose port is taken, leaves the pasting.

use std::io::BufRead;
use std::net::SocketAddr;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, REFERRER_POLICY};
use http::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::{Host, Url};

use super::{Failure, GOODBYE};
use crate::body::Body;
use crate::cli::complain;
use crate::listener::plain;

/// Somebody came back.
pub(super) struct Arrival {
    query: String,
    page: Option<oneshot::Sender<(u16, String)>>,
}

impl Arrival {
    pub(super) fn query(&self) -> &str {
        &self.query
    }

    /// What the browser is told; whoever pasted reads the terminal.
    pub(super) fn say(self, status: u16, text: &str) {
        if let Some(page) = self.page {
            // A browser that is gone reads nothing.
            let _ = page.send((status, text.to_owned()));
        }
    }
}

pub(super) struct WayBack {
    arrivals: mpsc::Receiver<Arrival>,
    door: Option<(JoinHandle<()>, CancellationToken)>,
}

impl WayBack {
    /// Listens where the redirect URI says, if that is here.
    pub(super) async fn open(redirect_uri: &str) -> Result<Self, Failure> {
        let url = Url::parse(redirect_uri)
            .map_err(|_| Failure::Other("upwarden login: service.redirect_uri is no address".to_owned()))?;
        let (told, arrivals) = mpsc::channel(4);
        read_pasted(told.clone());
        let door = match loopback(&url) {
            None => None,
            Some(address) => match TcpListener::bind(address).await {
                Ok(listener) => Some(serve(listener, url.path().to_owned(), told)),
                Err(error) => {
                    complain(&format!("{address} cannot be listened on ({error}), so the address has to be pasted"));
                    None
                }
            },
        };
        Ok(Self { arrivals, door })
    }

    pub(super) fn listens(&self) -> bool {
        self.door.is_some()
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Result<Arrival, Failure> {
        let nobody = "upwarden login: there is nobody to paste the address, and nothing listens for it";
        self.arrivals.recv().await.ok_or_else(|| Failure::Other(nobody.to_owned()))
    }

    /// Lets the last answer leave.
    pub(super) async fn close(&mut self) {
        if let Some((task, shutdown)) = self.door.take() {
            shutdown.cancel();
            // A browser that keeps its connection does not keep us.
            let _ = tokio::time::timeout(GOODBYE, task).await;
        }
    }
}

/// The address to listen on: plain HTTP on loopback only (RFC 8252 section 7.3).
fn loopback(url: &Url) -> Option<SocketAddr> {
    let ip = match url.host()? {
        Host::Ipv4(ip) => ip.into(),
        Host::Ipv6(ip) => ip.into(),
        Host::Domain("localhost") => std::net::Ipv4Addr::LOCALHOST.into(),
        Host::Domain(_) => return None,
    };
    let address = SocketAddr::new(ip, url.port_or_known_default()?);
    (url.scheme() == "http" && address.ip().is_loopback()).then_some(address)
}

fn serve(listener: TcpListener, path: String, told: mpsc::Sender<Arrival>) -> (JoinHandle<()>, CancellationToken) {
    let shutdown = CancellationToken::new();
    let handler = move |request: Request<Body>, _| {
        let (told, path) = (told.clone(), path.clone());
        async move {
            let query = request.uri().query().unwrap_or_default().to_owned();
            // HEAD redeems nothing, and browsers ask for icons.
            if request.method() != Method::GET || request.uri().path() != path || query.is_empty() {
                return page(404, "There is nothing here.");
            }
            let (answer, answered) = oneshot::channel();
            if told.send(Arrival { query, page: Some(answer) }).await.is_err() {
                return page(503, "upwarden login has ended.");
            }
            match answered.await {
                Ok((status, text)) => page(status, &text),
                Err(_) => page(503, "upwarden login has ended."),
            }
        }
    };
    (tokio::spawn(plain::serve(listener, handler, shutdown.clone())), shutdown)
}

fn page(status: u16, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::full(format!("{text}\n")));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The address holds a code (RFC 9700 section 4.2.4).
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// A thread of its own, since a read of the terminal cannot be given up; it ends with the process.
fn read_pasted(told: mpsc::Sender<Arrival>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let line = line.trim();
            let query = line.split_once('?').map_or(line, |(_, query)| query);
            let query = query.split('#').next().unwrap_or_default().to_owned();
            if !query.is_empty() && told.blocking_send(Arrival { query, page: None }).is_err() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_on_loopback_is_listened_on() {
        let at = |text: &str| loopback(&Url::parse(text).unwrap());
        assert_eq!(at("http://127.0.0.1:4189/callback"), Some("127.0.0.1:4189".parse().unwrap()));
        assert_eq!(at("http://localhost:4189/callback"), Some("127.0.0.1:4189".parse().unwrap()));
        assert_eq!(at("http://[::1]:4189/"), Some("[::1]:4189".parse().unwrap()));
        for elsewhere in ["https://127.0.0.1:4189/", "http://192.0.2.1:4189/", "https://tools.example.com/"] {
            assert_eq!(at(elsewhere), None, "{elsewhere}");
        }
    }
}
