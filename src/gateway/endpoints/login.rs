//! `auth/login`: begins a sign-in for any GET that is not clearly a subresource, because the link must also work for
//! navigations that were not recognized. A subresource gets the fault "sign-in required".

use crate::gateway::answer::Answer;
use crate::gateway::fault::{ClientFault, Fault};
use crate::gateway::request::{Message, RequestInfo, is_subresource};
use crate::gateway::state::Gateway;
use crate::router::ReturnTo;
use crate::router::public_url::without_marker;

pub(super) fn answer(gateway: &Gateway, request: &RequestInfo, message: &Message) -> Result<Answer, Fault> {
    if is_subresource(&message.headers) {
        return Err(ClientFault::SignInRequired { sent: false }.into());
    }
    let query = without_marker(request.query());
    let place = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "return_to");
    let place =
        place.and_then(|(_, place)| ReturnTo::parse(gateway.sign_in.public_url.relative(&place), gateway.prefix()));
    gateway.sign_in.begin(request, &place.unwrap_or_else(ReturnTo::home), 0)
}
