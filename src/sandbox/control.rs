//! The control address: JSON in, JSON out. It is for the person or test that runs the sandbox, and issues no tokens.

use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::server::Sandbox;
use super::{answers, faults};
use crate::body::Body;

const MAX_BODY: usize = 64 * 1024;

pub(super) async fn answer(sandbox: &Sandbox, request: Request<Body>) -> Response<Body> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    // A page in a browser can reach loopback, too, and must not control the sandbox.
    if request.headers().contains_key(http::header::ORIGIN) {
        return error(StatusCode::FORBIDDEN, "the control address does not serve web pages");
    }
    let Ok(body) = request.into_body().collect(MAX_BODY).await else {
        return error(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long");
    };
    let ok = || Ok(json!({"ok": true}));
    let done = match (&method, path.as_str()) {
        (&Method::GET, "/") => Ok(help()),
        (&Method::GET, "/counters") => Ok(json!(sandbox.counters())),
        (&Method::GET, "/requests") => Ok(json!({"requests": sandbox.requests()})),
        (&Method::POST, "/faults") => {
            parse(&body).and_then(|order| sandbox.faults(&order).map_err(|error| error.to_string())).and_then(|()| ok())
        }
        (&Method::POST, "/scopes") => parse(&body).and_then(|body| scopes(sandbox, &body)).and_then(|()| ok()),
        (&Method::POST, "/expire") => {
            sandbox.expire_all();
            ok()
        }
        (&Method::POST, "/revoke") => {
            sandbox.revoke_all();
            ok()
        }
        (&Method::POST, "/release") => {
            sandbox.release();
            ok()
        }
        (&Method::POST, "/reset") => {
            sandbox.reset();
            ok()
        }
        _ => return error(StatusCode::NOT_FOUND, &format!("there is no {method} {path}; GET / lists what there is")),
    };
    match done {
        Ok(answer) => answers::json(StatusCode::OK, &answer),
        Err(why) => error(StatusCode::BAD_REQUEST, &why),
    }
}

fn error(status: StatusCode, why: &str) -> Response<Body> {
    answers::json(status, &json!({"error": why}))
}

fn parse(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}; {}", faults::KNOWN))
}

fn scopes(sandbox: &Sandbox, body: &Value) -> Result<(), String> {
    let form = "expected {\"missing\":[\"User.email\"]}, with Type.field for each field that the key has no scope for";
    let missing = body.get("missing").and_then(Value::as_array).ok_or(form)?;
    let missing: Option<Vec<String>> = missing.iter().map(|field| field.as_str().map(str::to_owned)).collect();
    sandbox.missing_scopes(missing.ok_or(form)?);
    Ok(())
}

fn help() -> Value {
    json!({
        "POST /faults": faults::KNOWN,
        "POST /scopes": "{\"missing\":[\"User.email\"]}: sets the fields that the key has no scope for",
        "POST /expire": "expires all access tokens",
        "POST /revoke": "revokes all grants and forgets all consents",
        "POST /release": "releases all answers held by a slow fault, and the second event of /api/sandbox/stream",
        "POST /reset": "starts over",
        "GET /counters": "counts of the requests received",
        "GET /requests": "the last API requests, without credentials",
    })
}
