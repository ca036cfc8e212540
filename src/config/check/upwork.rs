//! Upwork: our client there, the service identity, the API and its pace.

use url::Url;

use super::app::Site;
use super::doors::bytes;
use crate::broker::{self, Pace};
use crate::config::reader::Reader;
use crate::config::values::{self, Bad};
use crate::oauth::{self, Grant, Outbound, ServiceConfig, ServiceGrant};
use crate::policy::Access;
use crate::secret::Secret;
use crate::store;

pub(super) fn oauth(
    reader: &mut Reader,
    site: Option<&Site>,
    access: Option<&Access>,
    env: &[(String, String)],
) -> Option<oauth::Config> {
    let client_id = reader.parsed("upwork.client_id", client_id);
    if !reader.given("upwork.client_id") {
        reader.missing("upwork.client_id", "write the key's id, from upwork.com/developer/keys");
    }
    let grant = reader.parsed("upwork.grant", grant);
    let client_secret = reader.secret("upwork.client_secret");
    let has_secret = reader.given("upwork.client_secret") || reader.given("upwork.client_secret_file");
    if grant == Some(Grant::Code) && !has_secret {
        let remedy = "write the path of a file that holds the key's secret into upwork.client_secret_file";
        reader.missing("upwork.client_secret", remedy);
    }
    let implicit_identity = implicit_identity(reader, grant, access);
    let urls = Urls::read(reader);
    let issuer = reader.text("upwork.issuer");
    let outbound = outbound(reader, urls.as_ref(), env);

    let (site, urls) = (site?, urls?);
    Some(oauth::Config {
        client_id: client_id?,
        client_secret: client_secret.unwrap_or_else(|| Secret::new("")),
        grant: grant?,
        authorize_url: urls.authorize,
        token_url: urls.token,
        revoke_url: urls.revoke,
        graphql_url: urls.graphql,
        issuer,
        redirect_uri: format!("{}{}/auth/callback", site.public_url, site.prefix),
        implicit_identity: implicit_identity?,
        outbound: outbound?,
    })
}

fn client_id(text: &str) -> Result<String, Bad> {
    let graphic = |byte: u8| byte.is_ascii_graphic();
    super::only(text, graphic, "is not a client id", "write the key's id as upwork.com/developer/keys shows it")
}

fn grant(text: &str) -> Result<Grant, Bad> {
    values::choice(text, &[("code", Grant::Code), ("implicit", Grant::Implicit)])
}

/// RFC 6749 section 10.16: a token in a fragment proves that somebody holds it, not that it was issued to us.
fn implicit_identity(reader: &mut Reader, grant: Option<Grant>, access: Option<&Access>) -> Option<bool> {
    let accepted = reader.parsed("upwork.implicit_identity", |text| values::choice(text, &[("accepted", true)]));
    if reader.given("upwork.implicit_identity") && accepted.is_none() {
        return None;
    }
    let accepted = accepted.unwrap_or(false);
    let rests_on_identity = access.is_some_and(|access| !access.users.is_empty() || !access.organizations.is_empty());
    if grant == Some(Grant::Implicit) && rests_on_identity && !accepted {
        let why = "access.users and access.organizations rest on who the token belongs to, and the implicit grant \
                   does not prove it: any site that was given a user's token could sign in here as that user";
        let remedy = "write upwork.grant = \"code\", which hands the token to us alone; or, knowing this, \
                      upwork.implicit_identity = \"accepted\"";
        reader.problem("upwork.implicit_identity", why, remedy);
        return None;
    }
    Some(accepted)
}

struct Urls {
    authorize: Url,
    token: Url,
    revoke: Url,
    graphql: Url,
}

impl Urls {
    fn read(reader: &mut Reader) -> Option<Self> {
        let authorize = reader.parsed("upwork.authorize_url", |text| {
            values::web_url(text).and_then(values::confidential).and_then(without_ours)
        });
        let mut url = |key| reader.parsed(key, |text| values::web_url(text).and_then(values::confidential));
        let token = url("upwork.token_url");
        let revoke = url("upwork.revoke_url");
        let graphql = url("upwork.graphql_url");
        Some(Self { authorize: authorize?, token: token?, revoke: revoke?, graphql: graphql? })
    }
}

/// A server refuses a parameter that is there twice (RFC 6749 section 3.1).
fn without_ours(url: Url) -> Result<Url, Bad> {
    const OURS: [&str; 6] =
        ["response_type", "client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method"];
    match url.query_pairs().find(|(name, _)| OURS.contains(&name.as_ref())) {
        Some((name, _)) => Err(Bad::new(
            format!("sets {name}, which upwarden sets itself"),
            format!("leave {name} out of its query; what Upwork wants besides may stay"),
        )),
        None => Ok(url),
    }
}

fn outbound(reader: &mut Reader, urls: Option<&Urls>, env: &[(String, String)]) -> Option<Outbound> {
    let user_agent = reader.parsed("upwork.user_agent", values::field_value);
    let ca_file = reader.ca_file("upwork.ca_file");
    let given = reader.given("upwork.proxy") || reader.given("upwork.proxy_file");
    let configured = reader.secret("upwork.proxy");
    let proxy = if given {
        let key = if reader.given("upwork.proxy") { "upwork.proxy" } else { "upwork.proxy_file" };
        configured.and_then(|text| proxy(text.expose()).map_err(|bad| proxy_problem(reader, key, bad)).ok())
    } else if urls.is_some_and(|urls| [&urls.token, &urls.graphql].iter().any(|url| url.scheme() == "https")) {
        // As curl reads them: the small letters first; NO_PROXY is not looked at, all of this goes to Upwork.
        let named =
            |name: &str| env.iter().find(|(variable, _)| variable == name).filter(|(_, value)| !value.is_empty());
        named("https_proxy").or_else(|| named("HTTPS_PROXY")).and_then(|(name, value)| {
            let why = |bad: Bad| Bad::new(format!("({name}) {}", bad.why), bad.remedy);
            proxy(value).map_err(|bad| proxy_problem(reader, "upwork.proxy", why(bad))).ok()
        })
    } else {
        None
    };
    Some(Outbound { proxy, ca_file, user_agent: user_agent? })
}

/// A proxy's URL may hold a password, so that it is never shown.
fn proxy_problem(reader: &mut Reader, key: &str, bad: Bad) {
    reader.problem(key, format!("the value (not shown) {}", bad.why), bad.remedy);
}

fn proxy(text: &str) -> Result<Url, Bad> {
    let text = text.trim();
    let bad = || Bad::new("is not an http or https URL of a proxy", "write http://proxy.example:3128");
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&with_scheme).map_err(|_| bad())?;
    if matches!(url.scheme(), "http" | "https") && url.host().is_some() && url.path() == "/" && url.query().is_none() {
        return Ok(url);
    }
    Err(bad())
}

pub(super) fn broker(reader: &mut Reader, oauth: Option<&oauth::Config>) -> Option<broker::Config> {
    let api_url = reader.parsed("upwork.api_url", |text| values::origin(text).and_then(values::confidential));
    let organization = reader.parsed("upwork.organization", values::field_value);
    // Kept in memory for each call under way.
    let retry_body = reader.parsed("upwork.retry_body", |text| bytes(text, 0, 16 << 20));
    let pace = pace(reader);
    let oauth = oauth?;
    Some(broker::Config {
        api_url: api_url?,
        graphql_url: oauth.graphql_url.clone(),
        organization,
        retry_body: retry_body?,
        outbound: oauth.outbound.clone(),
        pace: pace?,
    })
}

fn pace(reader: &mut Reader) -> Option<Pace> {
    let most = u64::from(u32::MAX);
    let per_second = reader.count("pace.per_second", most);
    let per_minute = reader.count("pace.per_minute", most);
    let per_day = reader.count("pace.per_day", most);
    let wait = reader.parsed("pace.wait", values::duration);
    Some(Pace { per_second: per_second?, per_minute: per_minute?, per_day: per_day?, wait: wait? })
}

/// `None` where no service identity is configured, or something is wrong with it.
pub(super) fn service(
    reader: &mut Reader,
    oauth: Option<&oauth::Config>,
    store: Option<&store::Config>,
) -> Option<ServiceConfig> {
    #[derive(Clone, Copy, PartialEq)]
    enum Word {
        Credentials,
        Refresh,
    }
    let words = [("client_credentials", Word::Credentials), ("refresh_token", Word::Refresh)];
    let grant = reader.parsed("service.grant", |text| values::choice(text, &words));
    let client_id = reader.parsed("service.client_id", client_id);
    let client_secret = reader.secret("service.client_secret");
    let redirect_uri =
        reader.parsed("service.redirect_uri", |text| values::web_url(text).and_then(values::confidential));
    let file = reader.path("service.refresh_token_file");
    let others = ["client_id", "client_secret", "client_secret_file", "redirect_uri", "refresh_token_file"];
    let other = others.iter().map(|name| format!("service.{name}")).find(|key| reader.given(key));
    let Some(grant) = grant else {
        if let (Some(other), false) = (other, reader.given("service.grant")) {
            let remedy =
                format!("write service.grant = \"client_credentials\" or \"refresh_token\", or remove {other}");
            reader.missing("service.grant", remedy);
        }
        return None;
    };
    if grant == Word::Refresh && matches!(store, Some(store::Config::Cookie)) {
        let why = "each refresh gives a new refresh token, which must outlive a restart, and store.kind = \"cookie\" \
                   keeps nothing on this side";
        reader.problem(
            "service.grant",
            why,
            "write store.kind = \"embedded\" or \"valkey\", or grant = \"client_credentials\"",
        );
    }
    if grant == Word::Credentials && file.is_some() {
        let remedy = "remove it, or write service.grant = \"refresh_token\"";
        reader.problem("service.refresh_token_file", "client_credentials needs no refresh token", remedy);
    }
    let has_own = reader.given("service.client_secret") || reader.given("service.client_secret_file");
    let oauth = oauth?;
    let own_client = client_id.as_ref().is_some_and(|id| *id != oauth.client_id);
    if !has_own && (own_client || oauth.client_secret.is_empty()) {
        reader.missing("service.client_secret", "name the file with this key's secret in service.client_secret_file");
    }
    Some(ServiceConfig {
        grant: match grant {
            Word::Credentials => ServiceGrant::ClientCredentials,
            Word::Refresh => ServiceGrant::RefreshToken { file },
        },
        client_id: client_id.unwrap_or_else(|| oauth.client_id.clone()),
        client_secret: client_secret.unwrap_or_else(|| oauth.client_secret.clone()),
        // As it was written: redirect URIs are compared as texts (RFC 9700 section 2.1).
        redirect_uri: redirect_uri.and_then(|_| reader.text("service.redirect_uri")),
    })
}
