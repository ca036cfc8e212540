//! `auth/`: the account page, with the session and its personal access tokens.

use http::{Method, StatusCode};

use super::own_session;
use crate::gateway::answer::Answer;
use crate::gateway::fault::Fault;
use crate::gateway::request::{Message, RequestInfo};
use crate::gateway::response;
use crate::gateway::state::Gateway;
use crate::pages::curl::Neighbour;
use crate::pages::{self, AccountView, LastRefresh, NewToken, RefreshOutcome, TokenRow, TokensView};
use crate::policy::Decision;
use crate::session::Session;
use crate::session::personal::PersonalToken;
use crate::store::{StoredSession, TokenRecord};

pub(super) async fn answer(gateway: &Gateway, request: &RequestInfo, message: Message) -> Result<Answer, Fault> {
    match own_session::open(gateway, request).await? {
        (Decision::Allow, Some(stored)) => {
            // A HEAD shows no page, so the token waits for the GET.
            let shown = request.method == Method::GET;
            let (token, cookies) =
                if shown { gateway.callers.new_token.take(&request.cookies) } else { (None, Vec::new()) };
            let answer = page(gateway, request, &stored, token.as_ref()).await?.cookies(cookies);
            Ok(own_session::finish(gateway, request, &message, stored, answer))
        }
        (decision, stored) => gateway.refuse(request, decision, stored.as_ref().map(|stored| &*stored.session)),
    }
}

/// The page, with the token that this user has just created, if any.
async fn page(
    gateway: &Gateway,
    request: &RequestInfo,
    stored: &StoredSession,
    new_token: Option<&PersonalToken>,
) -> Result<Answer, Fault> {
    let (session, sessions) = (&stored.session, &gateway.sessions);
    let keeps_records = sessions.store.keeps_records();
    let tokens = sessions.tokens_of(&session.user.id).await?;
    let rows: Vec<TokenRow<'_>> = tokens.iter().map(token_row).collect();
    let (quota, now, id) = (gateway.upstreams.api.quota(), gateway.context().now(), request.id.to_string());
    let neighbour = &gateway.callers.neighbour;
    let listener = neighbour
        .address
        .as_deref()
        .map(|address| address.strip_prefix("unix:").map_or(Neighbour::Tcp(address), Neighbour::Unix));
    let organization = session.organization.as_ref();
    let view = AccountView {
        frame: gateway.frame(&id),
        public_url: &gateway.config.url,
        now,
        user: pages::User { name: session.user.name.as_deref(), id: &session.user.id, nid: &session.user.nid },
        organization: organization.map(|o| pages::Organization { name: o.name.as_deref(), id: &o.id }),
        grant: session.grant.into(),
        signed_in_until: sessions.expires_at(session),
        token_expires_at: session.tokens.expires_at,
        last_refresh: last_refresh(gateway, session),
        everywhere: keeps_records,
        quota: Some(pages::Quota { left: quota.remaining, of: quota.limit, resets_at: now.plus(quota.resets_in) }),
        neighbour: listener.map(|listener| (listener, neighbour.secret.is_some())),
        service: gateway.callers.has_service(),
        tokens: keeps_records.then_some(TokensView { rows: &rows, app: gateway.config.app.tokens }),
        new_token: new_token.and_then(|token| {
            let record = tokens.iter().find(|record| record.id == token.id())?;
            Some(NewToken { name: &record.name, token: token.secret() })
        }),
    };
    Ok(response::page(StatusCode::OK, pages::account(&view)).into())
}

/// The last failed refresh if none succeeded after it, otherwise the last successful one.
fn last_refresh(gateway: &Gateway, session: &Session) -> Option<LastRefresh> {
    let failed = gateway.sessions.refresh_failure(session).map(|failed| LastRefresh {
        at: failed.at,
        outcome: if failed.misconfigured { RefreshOutcome::Misconfigured } else { RefreshOutcome::Unavailable },
    });
    failed.or(session.refreshed.map(|at| LastRefresh { at, outcome: RefreshOutcome::Renewed }))
}

fn token_row(record: &TokenRecord) -> TokenRow<'_> {
    TokenRow {
        id: &record.id,
        name: &record.name,
        starts_with: &record.starts_with,
        created_at: record.created_at,
        expires_at: record.expires_at,
        last_used_at: record.last_used_at,
        read_only: record.read_only,
        opens_api: record.scope.has_api(),
        opens_app: record.scope.has_app(),
    }
}
