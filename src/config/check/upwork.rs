//! The keys of `upwork`, `service` and `pace`: our client at Upwork, the service identity, the API and its rate limits.

use url::Url;

use super::app::Site;
use crate::broker::{self, Pace};
use crate::config::parse::{self, ValueError};
use crate::config::reader::Reader;
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
    let grant = reader.parsed("upwork.grant", grant);
    let client_secret = reader.secret("upwork.client_secret");
    if grant == Some(Grant::Code) && reader.given_secret("upwork.client_secret").is_none() {
        let remedy = "set upwork.client_secret_file to a file with the API key's secret";
        reader.missing("upwork.client_secret", remedy);
    }
    let implicit_identity = implicit_identity(reader, grant, access);
    let urls = Urls::read(reader);
    let issuer = reader.text("upwork.issuer");
    let outbound = outbound(reader, urls.as_ref(), env);

    let (site, urls) = (site?, urls?);
    Some(oauth::Config {
        client_id: client_id?,
        client_secret: client_secret.unwrap_or_else(|| Secret::new("")).into(),
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

fn client_id(text: &str) -> Result<String, ValueError> {
    let graphic = |byte: u8| byte.is_ascii_graphic();
    parse::only(text, graphic, "is not a client id", "write the API key's id as upwork.com/developer/keys shows it")
}

fn grant(text: &str) -> Result<Grant, ValueError> {
    parse::choice(text, &[("code", Grant::Code), ("implicit", Grant::Implicit)])
}

/// RFC 6749 section 10.16: a token in a fragment does not prove that it was issued to us.
fn implicit_identity(reader: &mut Reader, grant: Option<Grant>, access: Option<&Access>) -> Option<bool> {
    let accepted = reader.parsed("upwork.implicit_identity", |text| parse::choice(text, &[("accepted", true)]));
    if reader.given("upwork.implicit_identity") && accepted.is_none() {
        return None;
    }
    let accepted = accepted.unwrap_or(false);
    let rests_on_identity = access.is_some_and(|access| !access.users.is_empty() || !access.organizations.is_empty());
    if grant == Some(Grant::Implicit) && rests_on_identity && !accepted {
        let why = "access.users and access.organizations depend on whose token it is, which the implicit grant does not \
                   prove: any site that received a user's token could sign in here as that user";
        let remedy = "set upwork.grant = \"code\", which gives the token to upwarden only; or accept the risk with \
                      upwork.implicit_identity = \"accepted\"";
        reader.problem("upwork.implicit_identity", why, remedy);
        return None;
    }
    for key in ["app.headers", "app.assertion"] {
        if grant == Some(Grant::Implicit) && !accepted && reader.given(key) {
            let why = "the implicit grant does not prove who the user is, so the app never gets it";
            reader.warn(key, why, "remove it, or accept the risk with upwork.implicit_identity = \"accepted\"");
        }
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
            parse::web_url(text).and_then(parse::confidential).and_then(without_ours)
        });
        let mut url = |key| reader.parsed(key, |text| parse::web_url(text).and_then(parse::confidential));
        let token = url("upwork.token_url");
        let revoke = url("upwork.revoke_url");
        let graphql = url("upwork.graphql_url");
        Some(Self { authorize: authorize?, token: token?, revoke: revoke?, graphql: graphql? })
    }
}

/// A server refuses a repeated parameter (RFC 6749 section 3.1).
fn without_ours(url: Url) -> Result<Url, ValueError> {
    const OURS: [&str; 6] =
        ["response_type", "client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method"];
    match url.query_pairs().find(|(name, _)| OURS.contains(&name.as_ref())) {
        Some((name, _)) => Err(ValueError::new(
            format!("sets {name}, which upwarden sets itself"),
            format!("remove {name} from the query; other parameters are allowed"),
        )),
        None => Ok(url),
    }
}

fn outbound(reader: &mut Reader, urls: Option<&Urls>, env: &[(String, String)]) -> Option<Outbound> {
    let user_agent = reader.parsed("upwork.user_agent", parse::field_value);
    let ca_file = reader.ca_file("upwork.ca_file");
    let configured = reader.secret("upwork.proxy");
    let proxy = if let Some(key) = reader.given_secret("upwork.proxy") {
        configured.and_then(|text| proxy(text.expose()).map_err(|error| proxy_problem(reader, &key, error)).ok())
    } else if urls.is_some_and(|urls| [&urls.token, &urls.graphql].iter().any(|url| url.scheme() == "https")) {
        // Like curl, lower case first. NO_PROXY is ignored: all of this goes to Upwork.
        let named =
            |name: &str| env.iter().find(|(variable, _)| variable == name).filter(|(_, value)| !value.is_empty());
        named("https_proxy").or_else(|| named("HTTPS_PROXY")).and_then(|(name, value)| {
            let of_env = |error: ValueError| ValueError::new(format!("of {name} {}", error.why), error.remedy);
            proxy(value).map_err(|error| proxy_problem(reader, "upwork.proxy", of_env(error))).ok()
        })
    } else {
        None
    };
    Some(Outbound { proxy, ca_file, user_agent: user_agent? })
}

/// A proxy's URL may contain a password, so it is never shown.
fn proxy_problem(reader: &mut Reader, key: &str, error: ValueError) {
    reader.problem(key, format!("the value (not shown) {}", error.why), error.remedy);
}

fn proxy(text: &str) -> Result<Url, ValueError> {
    let text = text.trim();
    let error = || {
        ValueError::new(
            "is not an http URL of a proxy",
            "write http://proxy.example:3128; proxies that speak TLS themselves are not supported",
        )
    };
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&with_scheme).map_err(|_| error())?;
    if url.scheme() == "http" && url.host().is_some() && url.path() == "/" && url.query().is_none() {
        return Ok(url);
    }
    Err(error())
}

pub(super) fn broker(reader: &mut Reader, oauth: Option<&oauth::Config>) -> Option<broker::Config> {
    let api_url = reader.parsed("upwork.api_url", |text| parse::origin(text).and_then(parse::confidential));
    let organization = reader.parsed("upwork.organization", parse::field_value);
    // Kept in memory for each call in flight.
    let retry_body = reader.defaulted("upwork.retry_body", |text| parse::bytes(text, 0, 16 << 20));
    let pace = pace(reader);
    let oauth = oauth?;
    Some(broker::Config {
        api_url: api_url?,
        graphql_url: oauth.graphql_url.clone(),
        oauth_paths: [&oauth.authorize_url, &oauth.token_url, &oauth.revoke_url]
            .map(|url| url.path().to_owned())
            .to_vec(),
        organization,
        retry_body,
        outbound: oauth.outbound.clone(),
        pace,
    })
}

fn pace(reader: &mut Reader) -> Pace {
    let most = u64::from(u32::MAX);
    let pace = Pace {
        per_second: reader.count("pace.per_second", most),
        per_minute: reader.count("pace.per_minute", most),
        per_day: reader.count("pace.per_day", most),
        wait: reader.defaulted("pace.wait", parse::duration),
    };
    below(reader, ("pace.per_minute", pace.per_minute), ("pace.per_second", pace.per_second));
    below(reader, ("pace.per_day", pace.per_day), ("pace.per_minute", pace.per_minute));
    pace
}

/// Warns of a longer span that allows fewer calls than a shorter one: the shorter one's limit has no effect.
fn below(reader: &mut Reader, longer: (&str, u32), shorter: (&str, u32)) {
    let ((key, most), (other, allowed)) = (longer, shorter);
    if most < allowed {
        let why = format!("it allows fewer calls than {other} ({allowed}), which therefore has no effect");
        reader.warn(key, why, format!("write {allowed} or more, or lower {other}"));
    }
}

/// `None` if no service identity is configured, or if it is wrong.
pub(super) fn service(
    reader: &mut Reader,
    oauth: Option<&oauth::Config>,
    store: Option<&store::Config>,
) -> Option<ServiceConfig> {
    let file = reader.path("service.refresh_token_file");
    let refresh_token = ServiceGrant::RefreshToken { file: file.clone() };
    let grants = [("client_credentials", ServiceGrant::ClientCredentials), ("refresh_token", refresh_token)];
    let grant = reader.parsed("service.grant", |text| parse::choice(text, &grants));
    let client_id = reader.parsed("service.client_id", client_id);
    let client_secret = reader.secret("service.client_secret");
    let redirect_uri = reader.parsed("service.redirect_uri", |text| parse::web_url(text).and_then(parse::confidential));
    let others = ["client_id", "client_secret", "client_secret_file", "redirect_uri", "refresh_token_file"];
    let other = others.iter().map(|name| format!("service.{name}")).find(|key| reader.given(key));
    let Some(grant) = grant else {
        if let (Some(other), false) = (other, reader.given("service.grant")) {
            let remedy = format!("set service.grant = \"client_credentials\" or \"refresh_token\", or remove {other}");
            reader.missing("service.grant", remedy);
        }
        return None;
    };
    if grant != ServiceGrant::ClientCredentials && matches!(store, Some(store::Config::Cookie)) {
        let why = "each refresh returns a new refresh token, which must survive a restart, and store.kind = \"cookie\" \
                   stores nothing on the server";
        let remedy = "set store.kind = \"embedded\" or \"valkey\", or service.grant = \"client_credentials\"";
        reader.problem("service.grant", why, remedy);
    }
    if grant == ServiceGrant::ClientCredentials && file.is_some() {
        let remedy = "remove it, or set service.grant = \"refresh_token\"";
        reader.problem("service.refresh_token_file", "client_credentials does not use a refresh token", remedy);
    }
    let has_own = reader.given_secret("service.client_secret").is_some();
    let oauth = oauth?;
    let own_client = client_id.as_ref().is_some_and(|id| *id != oauth.client_id);
    if !has_own && (own_client || oauth.client_secret.load().is_empty()) {
        reader.missing("service.client_secret", "set service.client_secret_file to a file with this API key's secret");
    }
    Some(ServiceConfig {
        grant,
        client_id: client_id.unwrap_or_else(|| oauth.client_id.clone()),
        client_secret: client_secret.unwrap_or_else(|| oauth.client_secret.load()).into(),
        // As written: redirect URIs are compared as texts (RFC 9700 section 2.1).
        redirect_uri: redirect_uri.and_then(|_| reader.text("service.redirect_uri")),
    })
}
