//! The control door: JSON in, JSON out. For whoever runs the sandbox; it hands out no token.

use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::{Sandbox, answers, faults};
use crate::body::Body;

/// The longest order that is read.
const LONGEST: usize = 64 * 1024;

pub(super) async fn answer(sandbox: &Sandbox, request: Request<Body>) -> Response<Body> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    // A page in a browser can reach loopback, too; it has no business here.
    if request.headers().contains_key(http::header::ORIGIN) {
        return wrong(StatusCode::FORBIDDEN, "the control door is not for web pages");
    }
    let Ok(posted) = request.into_body().collect(LONGEST).await else {
        return wrong(StatusCode::PAYLOAD_TOO_LARGE, "the order is too long");
    };
    let done = match (&method, path.as_str()) {
        (&Method::GET, "/") => return answers::json(StatusCode::OK, &help()),
        (&Method::GET, "/counters") => return answers::json(StatusCode::OK, &json!(sandbox.counters())),
        (&Method::GET, "/requests") => {
            return answers::json(StatusCode::OK, &json!({"requests": sandbox.requests()}));
        }
        (&Method::POST, "/faults") => {
            parsed(&posted).and_then(|wanted| sandbox.faults(&wanted).map_err(|e| e.to_string()))
        }
        (&Method::POST, "/scopes") => parsed(&posted).and_then(|wanted| scopes(sandbox, &wanted)),
        (&Method::POST, "/expire") => {
            sandbox.expire_all();
            Ok(())
        }
        (&Method::POST, "/revoke") => {
            sandbox.revoke_all();
            Ok(())
        }
        (&Method::POST, "/release") => {
            sandbox.release();
            Ok(())
        }
        (&Method::POST, "/reset") => {
            sandbox.reset();
            Ok(())
        }
        _ => return wrong(StatusCode::NOT_FOUND, &format!("there is no {method} {path}; GET / tells what there is")),
    };
    match done {
        Ok(()) => answers::json(StatusCode::OK, &json!({"ok": true})),
        Err(why) => wrong(StatusCode::BAD_REQUEST, &why),
    }
}

fn wrong(status: StatusCode, why: &str) -> Response<Body> {
    answers::json(status, &json!({"error": why}))
}

fn parsed(posted: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(posted).map_err(|error| format!("the body is not JSON: {error}; {}", faults::KNOWN))
}

fn scopes(sandbox: &Sandbox, wanted: &Value) -> Result<(), String> {
    let form = "needed: {\"missing\":[\"User.email\"]}, with Type.field for each field the key has no scope for";
    let missing = wanted.get("missing").and_then(Value::as_array).ok_or(form)?;
    let missing: Option<Vec<String>> = missing.iter().map(|field| field.as_str().map(str::to_owned)).collect();
    sandbox.missing_scopes(missing.ok_or(form)?);
    Ok(())
}

fn help() -> Value {
    json!({
        "POST /faults": faults::KNOWN,
        "POST /scopes": "{\"missing\":[\"User.email\"]}: fields the key has no scope for; replaces the list",
        "POST /expire": "ends all access tokens now",
        "POST /revoke": "ends all grants now, remembered consents included",
        "POST /release": "lets go all answers that a slow fault holds, and the second event of /api/sandbox/stream",
        "POST /reset": "back to the beginning",
        "GET /counters": "what was received",
        "GET /requests": "the last API requests, without credentials",
    })
}
