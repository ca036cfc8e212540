//! The server: one-time codes, exact redirects, PKCE, credentials in the body, and rotation that ends the family on a replay.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Request, Response};
use serde_json::{Value, json};
use upwarden::testing::body::Body;

use super::{CLIENT_ID, ISSUER, SECRET};
use crate::harness::{App, listener};

type Fields = HashMap<String, String>;

struct Code {
    challenge: String,
    redirect: String,
    used: bool,
}

/// Its state and its behaviour.
pub(super) struct State {
    /// The one registered redirect URI.
    pub(super) redirect: String,
    /// The callback's parameters instead of the usual ones; `{code}`, `{state}` and `{token}` are filled in.
    pub(super) back: Option<String>,
    /// The next responses of the token endpoint, before it works again.
    pub(super) tokens: Vec<(u16, String)>,
    /// Fields of a successful token response that differ from the usual ones; null leaves one out.
    pub(super) granted: Value,
    /// The response to a revocation.
    pub(super) revoked: (u16, String),
    /// The token endpoint accepts requests and never answers.
    pub(super) silent: bool,
    /// The GraphQL response instead of the usual one.
    pub(super) who: Option<(u16, String)>,
    /// The requested grant types, in order.
    pub(super) asked: Vec<String>,
    /// Every value of every form it received.
    pub(super) received: Vec<String>,
    /// What the client did and must not do.
    pub(super) wrong: Vec<String>,
    codes: HashMap<String, Code>,
    access: Vec<String>,
    /// The valid refresh token.
    pub(super) refresh: Option<String>,
    spent: Vec<String>,
    count: u64,
}

/// A running server. Clones are the same.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(super) fn start() -> Self {
        let listener = listener();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            redirect: String::new(),
            back: None,
            tokens: Vec::new(),
            granted: json!({}),
            revoked: (200, String::new()),
            silent: false,
            who: None,
            asked: Vec::new(),
            received: Vec::new(),
            wrong: Vec::new(),
            codes: HashMap::new(),
            access: Vec::new(),
            refresh: None,
            spent: Vec::new(),
            count: 0,
        }));
        let server = Self { address, state };
        let at_work = server.clone();
        let app = App::new(move |request| at_work.clone().answer(request));
        tokio::spawn(app.serve(tokio::net::TcpListener::from_std(listener).unwrap(), String::new()));
        server
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Refuses all access tokens issued so far.
    pub(super) fn refuse_all(&self) {
        self.lock().access.clear();
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect(1 << 20).await.unwrap_or_default();
        let bearer = head.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if head.uri.path() == "/token" && self.lock().silent {
            self.lock().asked.push("unanswered".to_owned());
            std::future::pending::<()>().await;
        }
        let mut state = self.lock();
        match head.uri.path() {
            "/authorize" => state.authorize(head.uri.query().unwrap_or_default()),
            "/token" => {
                if head.headers.contains_key("authorization") {
                    state.wrong.push("credentials in two places (RFC 6749 2.3.1)".to_owned());
                }
                let (status, text) = state.token(&body);
                json_answer(status, text)
            }
            "/revoke" => {
                let _ = state.form(&body);
                let (status, text) = state.revoked.clone();
                json_answer(status, text)
            }
            _ if !state.access.iter().any(|token| bearer == format!("Bearer {token}")) => {
                json_answer(401, json!({ "message": "Authentication failed" }).to_string())
            }
            "/graphql" => {
                let me = json!({ "data": { "user": { "id": "111", "nid": "foo" }, "organization": { "id": "222" } } });
                let (status, text) = state.who.clone().unwrap_or((200, me.to_string()));
                json_answer(status, text.replace("{token}", bearer.trim_start_matches("Bearer ")))
            }
            _ => json_answer(200, json!({ "path": head.uri.path() }).to_string()),
        }
    }
}

fn json_answer(status: u16, text: String) -> Response<Body> {
    let answer = Response::builder().status(status).header("content-type", "application/json;charset=UTF-8");
    answer.header("cache-control", "no-store").body(Body::full(text)).unwrap()
}

fn refused(error: &str) -> (u16, String) {
    (400, json!({ "error": error }).to_string())
}

impl State {
    /// Reads a form or a query, with each name at most once (RFC 6749 sections 3.1 and 3.2).
    fn form(&mut self, text: &[u8]) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in url::form_urlencoded::parse(text) {
            self.received.push(value.clone().into_owned());
            if fields.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                self.wrong.push(format!("{name} twice (RFC 6749 3.1)"));
            }
        }
        fields
    }

    fn fresh(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}.{}/+~", self.count)
    }

    fn authorize(&mut self, query: &str) -> Response<Body> {
        let fields = self.form(query.as_bytes());
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        if field("client_id") != CLIENT_ID || field("redirect_uri") != self.redirect {
            self.wrong.push(format!("client or redirect (RFC 9700 2.1): {query}"));
            return json_answer(400, "no such client".to_owned());
        }
        let implicit = field("response_type") == "token";
        if !implicit && (field("code_challenge_method") != "S256" || field("code_challenge").len() != 43) {
            self.wrong.push(format!("PKCE (RFC 7636 4.3): {query}"));
        }
        let (code, token) = (self.fresh("code"), self.fresh("at"));
        self.access.push(token.clone());
        let made = Code { challenge: field("code_challenge"), redirect: field("redirect_uri"), used: false };
        self.codes.insert(code.clone(), made);
        let usual = if implicit {
            format!("access_token={{token}}&token_type=bearer&expires_in=3600&state={{state}}&iss={ISSUER}")
        } else {
            format!("code={{code}}&state={{state}}&iss={ISSUER}&session_state=a.b&scope=x+y")
        };
        let escape = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let back = self.back.clone().unwrap_or(usual).replace("{state}", &escape(&field("state")));
        let back = back.replace("{code}", &escape(&code)).replace("{token}", &escape(&token));
        let mark = if implicit { '#' } else { '?' };
        let location = format!("{}{mark}{back}", self.redirect);
        Response::builder().status(302).header("location", location).body(Body::empty()).unwrap()
    }

    fn token(&mut self, body: &[u8]) -> (u16, String) {
        let fields = self.form(body);
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        self.asked.push(field("grant_type"));
        if !self.tokens.is_empty() {
            let (status, text) = self.tokens.remove(0);
            let text = ["client_secret", "code", "code_verifier", "refresh_token"]
                .iter()
                .fold(text, |text, name| text.replace(&format!("{{{name}}}"), &field(name).replace('"', "\\\"")));
            return (status, text);
        }
        if field("client_id") != CLIENT_ID || field("client_secret") != SECRET {
            self.wrong.push("credentials (RFC 6749 2.3.1)".to_owned());
            return (401, json!({ "error": "invalid_client" }).to_string());
        }
        match field("grant_type").as_str() {
            "authorization_code" => self.redeem(&field("code"), &field("redirect_uri"), &field("code_verifier")),
            "refresh_token" => {
                let shown = field("refresh_token");
                if self.spent.contains(&shown) {
                    self.wrong.push("a refresh token twice (RFC 9700 4.14.2)".to_owned());
                    (self.refresh, self.access) = (None, Vec::new());
                }
                if self.refresh.as_ref() == Some(&shown) { self.grant() } else { refused("invalid_grant") }
            }
            _ => refused("unsupported_grant_type"),
        }
    }

    fn redeem(&mut self, code: &str, redirect: &str, verifier: &str) -> (u16, String) {
        let Some(known) = self.codes.get_mut(code) else { return refused("invalid_grant") };
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
        let wrong = if std::mem::replace(&mut known.used, true) {
            "a code twice (RFC 6749 4.1.2)"
        } else if known.redirect != redirect {
            "another redirect_uri (RFC 6749 4.1.3)"
        } else if known.challenge != challenge || !(43..=128).contains(&verifier.len()) {
            "another verifier (RFC 7636 4.6)"
        } else {
            return self.grant();
        };
        self.wrong.push(wrong.to_owned());
        refused("invalid_grant")
    }

    fn grant(&mut self) -> (u16, String) {
        let (access, refresh) = (self.fresh("at"), self.fresh("rt"));
        self.access = vec![access.clone()];
        let mut answer = json!({
            "access_token": access, "token_type": "bearer", "expires_in": 3600, "refresh_token": refresh, "scope": "a b",
        });
        for (name, value) in self.granted.as_object().cloned().unwrap_or_default() {
            answer[name] = value;
        }
        let fields = answer.as_object_mut().unwrap();
        fields.retain(|_, value| !value.is_null());
        self.spent.extend(self.refresh.take());
        self.refresh = fields.get("refresh_token").and_then(Value::as_str).map(str::to_owned);
        (200, answer.to_string())
    }
}
