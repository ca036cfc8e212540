//! Receives the redirect with the code: from the browser, on a loopback socket, or as an address that the user pastes.
//!
//! If the redirect URI is on another machine, or its port is taken, the address has to be pasted.

use std::io::BufRead;
use std::net::SocketAddr;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY};
use http::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::{Host, Url};

use crate::body::{self, Body, WithField};
use crate::cli::output::print_error;
use crate::listener::plain;
use crate::pages::{self, Branding, Frame, NoticeView, Page};

/// How long sending the last response may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Redirect {
    query: String,
    /// For the browser's page; `None` if the address was pasted.
    page: Option<oneshot::Sender<Response<Body>>>,
}

impl Redirect {
    pub(super) fn query(&self) -> &str {
        &self.query
    }

    /// Answers the browser; a user who pasted reads the terminal.
    pub(super) fn respond(self, status: StatusCode, title: &str, text: &str) {
        if let Some(sender) = self.page {
            // The browser may be gone.
            let _ = sender.send(page(status, title, text));
        }
    }
}

pub(super) struct Redirects {
    received: mpsc::Receiver<Redirect>,
    server: Option<(JoinHandle<()>, CancellationToken)>,
}

impl Redirects {
    /// Listens at the redirect URI, if that is on this machine, and for pasted addresses.
    pub(super) async fn listen(redirect_uri: &str) -> Result<Self, String> {
        let url = Url::parse(redirect_uri).map_err(|_| "service.redirect_uri is not a URL")?;
        let (sender, received) = mpsc::channel(4);
        read_pasted(sender.clone());
        let server = match loopback(&url) {
            None => None,
            Some(address) => match TcpListener::bind(address).await {
                Ok(listener) => Some(serve(listener, url.path().to_owned(), sender)),
                Err(error) => {
                    print_error(&format!("cannot listen on {address} ({error}), so you have to paste the address"));
                    None
                }
            },
        };
        Ok(Self { received, server })
    }

    pub(super) fn listens(&self) -> bool {
        self.server.is_some()
    }

    pub(super) async fn next(&mut self) -> Result<Redirect, &'static str> {
        self.received.recv().await.ok_or("stdin is closed, and nothing listens at service.redirect_uri")
    }

    /// Waits until the last response is sent.
    pub(super) async fn close(&mut self) {
        if let Some((task, shutdown)) = self.server.take() {
            shutdown.cancel();
            // Do not wait longer for a browser that keeps its connection open.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, task).await;
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

fn serve(listener: TcpListener, path: String, sender: mpsc::Sender<Redirect>) -> (JoinHandle<()>, CancellationToken) {
    let shutdown = CancellationToken::new();
    let handler = move |request: Request<Body>, _| {
        let (sender, path) = (sender.clone(), path.clone());
        async move {
            let query = request.uri().query().unwrap_or_default().to_owned();
            // HEAD redeems nothing, and browsers request icons.
            if request.method() != Method::GET || request.uri().path() != path || query.is_empty() {
                return page(
                    StatusCode::NOT_FOUND,
                    "There is nothing here",
                    "upwarden login is waiting at a different address.",
                );
            }
            let (page_sender, answer) = oneshot::channel();
            let redirect = Redirect { query, page: Some(page_sender) };
            let answer = if sender.send(redirect).await.is_ok() { answer.await.ok() } else { None };
            let ended = "Start it again in the terminal, and open the new address.";
            answer.unwrap_or_else(|| page(StatusCode::SERVICE_UNAVAILABLE, "upwarden login has ended", ended))
        }
    };
    (tokio::spawn(plain::serve(listener, handler, shutdown.clone())), shutdown)
}

/// A page whose script removes the code from the address bar.
fn page(status: StatusCode, title: &str, text: &str) -> Response<Body> {
    let frame = Frame { prefix: "", request_id: None, branding: &Branding::default() };
    let Page { html, csp } = pages::notice(&NoticeView { frame, title, text });
    // The address contains a code (RFC 9700 section 4.2.4).
    let response = body::response(status, "text/html; charset=utf-8", html).with(REFERRER_POLICY, "no-referrer");
    let mut response = response.with(CACHE_CONTROL, "no-store");
    response.headers_mut().extend(HeaderValue::from_str(&csp).map(|csp| (CONTENT_SECURITY_POLICY, csp)));
    response
}

/// On its own thread, because a read of the terminal cannot be cancelled. The thread ends with the process.
fn read_pasted(sender: mpsc::Sender<Redirect>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let line = line.trim();
            let query = line.split_once('?').map_or(line, |(_, query)| query);
            let query = query.split('#').next().unwrap_or_default().to_owned();
            if !query.is_empty() && sender.blocking_send(Redirect { query, page: None }).is_err() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_only_for_plain_http_on_loopback() {
        let at = |text: &str| loopback(&Url::parse(text).unwrap());
        assert_eq!(at("http://127.0.0.1:4189/callback"), Some("127.0.0.1:4189".parse().unwrap()));
        assert_eq!(at("http://localhost:4189/callback"), Some("127.0.0.1:4189".parse().unwrap()));
        assert_eq!(at("http://[::1]:4189/"), Some("[::1]:4189".parse().unwrap()));
        for elsewhere in ["https://127.0.0.1:4189/", "http://192.0.2.1:4189/", "https://tools.example.com/"] {
            assert_eq!(at(elsewhere), None, "{elsewhere}");
        }
    }
}
