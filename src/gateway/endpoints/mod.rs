//! Our own endpoints under `{prefix}/auth/`, one file each. Each turns a request and its message into an answer or a
//! fault. Changes are made only by a POST or DELETE, which no page of another site can send.

mod account;
mod callback;
mod login;
mod own_session;
mod session;
mod sign_out;
mod tokens;
mod verify;

use super::answer::Answer;
use super::callers::Callers;
use super::fault::{ClientFault, Fault};
use super::request::{Message, RequestInfo};
use super::response;
use super::state::Gateway;
use crate::oauth::Grant;
use crate::router::AuthPath;

pub(super) async fn answer(
    gateway: &Gateway,
    request: &RequestInfo,
    message: Message,
    endpoint: AuthPath,
) -> Result<Answer, Fault> {
    let implicit = gateway.sign_in.upwork.config().grant == Grant::Implicit;
    let methods = match endpoint {
        AuthPath::Home
        | AuthPath::Account
        | AuthPath::Login
        | AuthPath::Session
        | AuthPath::Stylesheet
        | AuthPath::Jwks
        | AuthPath::Logo => Some("GET, HEAD"),
        AuthPath::Callback if implicit => Some("GET, POST"),
        AuthPath::Callback => Some("GET"),
        AuthPath::Logout | AuthPath::Tokens => Some("GET, HEAD, POST"),
        AuthPath::Token => Some("DELETE"),
        // A front asks with the method of the request that is waiting.
        AuthPath::Verify | AuthPath::VerifyTarget => None,
    };
    if let Some(methods) = methods.filter(|methods| methods.split(", ").all(|method| method != request.method)) {
        return Err(ClientFault::MethodNotAllowed(methods).into());
    }
    let shown = Callers::not_accepted(&message.headers);
    let answer = match endpoint {
        AuthPath::Home => Ok(response::see_other(&format!("{}/auth/", gateway.prefix())).into()),
        AuthPath::Account => account::answer(gateway, request, message).await,
        AuthPath::Session => session::answer(gateway, request, message).await,
        AuthPath::Login => login::answer(gateway, request, &message),
        AuthPath::Callback => callback::answer(gateway, request, message).await,
        AuthPath::Logout => sign_out::answer(gateway, request, message).await,
        AuthPath::Tokens => tokens::answer(gateway, request, message).await,
        AuthPath::Token => tokens::revoke(gateway, request, endpoint).await,
        AuthPath::Verify | AuthPath::VerifyTarget => verify::answer(gateway, request, message, endpoint).await,
        AuthPath::Jwks => {
            let keys = gateway.upstreams.app.identity().public_keys();
            keys.map(|keys| response::public_keys(&keys).into()).ok_or_else(|| ClientFault::NotFound.into())
        }
        AuthPath::Stylesheet => Ok(response::stylesheet(&gateway.config.pages.branding).into()),
        AuthPath::Logo => {
            let logo = gateway.config.pages.branding.logo.as_ref();
            logo.map(|logo| response::logo(logo).into()).ok_or(ClientFault::NotFound.into())
        }
    };
    // A script with a token learns what the token opens.
    answer.map_err(|fault| match (fault, shown) {
        (Fault::Client(ClientFault::SignInRequired { .. }), Some(shown)) => shown,
        (fault, _) => fault,
    })
}
