//! curl commands to paste into a POSIX shell, for the account page and the output of `upwarden demo`.
//!
//! Every value is quoted. Only [`with_token`] puts a token into a command, for the one page that shows it once.

use crate::secret::Secret;

/// Asks who the caller is, without the fields that need a scope.
const QUERY: &str = r#"{"query":"{ user { id nid } organization { id } }"}"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour<'a> {
    Tcp(&'a str),
    Unix(&'a str),
}

/// A GraphQL and a REST call at the neighbour door; with `secret`, they send it from `$UPWARDEN_SECRET`.
pub(crate) fn at_neighbour(door: Neighbour<'_>, prefix: &str, secret: bool) -> [String; 2] {
    let (socket, origin) = match door {
        Neighbour::Tcp(address) => (String::new(), format!("http://{address}")),
        Neighbour::Unix(path) => (format!(" --unix-socket {}", quoted(path)), "http://localhost".to_owned()),
    };
    let header = if secret { " -H \"X-Upwarden-Secret: $UPWARDEN_SECRET\"" } else { "" };
    let graphql = quoted(&format!("{origin}{prefix}/graphql"));
    let rest = quoted(&format!("{origin}{prefix}/api/auth/v1/info.json"));
    [
        format!("curl{socket}{header} {graphql} \\\n  -H 'Content-Type: application/json' \\\n  -d {}", quoted(QUERY)),
        format!("curl{socket}{header} {rest}"),
    ]
}

/// A call at the public door with a personal access token; `None` leaves a shell variable in its place.
pub(crate) fn with_token(public_url: &str, prefix: &str, token: Option<&Secret>) -> String {
    let bearer = match token {
        Some(token) => quoted(&format!("Authorization: Bearer {}", token.expose())),
        None => "\"Authorization: Bearer $UPWARDEN_TOKEN\"".to_owned(),
    };
    let address = quoted(&format!("{}{prefix}/graphql", public_url.trim_end_matches('/')));
    format!("curl {address} \\\n  -H {bearer} \\\n  -H 'Content-Type: application/json' \\\n  -d {}", quoted(QUERY))
}

/// In single quotes for a POSIX shell, if it needs them.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_door_has_its_lines() {
        let [graphql, rest] = at_neighbour(Neighbour::Tcp("127.0.0.1:4181"), "/upwork", false);
        assert!(graphql.starts_with("curl http://127.0.0.1:4181/upwork/graphql \\\n"), "{graphql}");
        assert_eq!(rest, "curl http://127.0.0.1:4181/upwork/api/auth/v1/info.json");
        let [_, rest] = at_neighbour(Neighbour::Unix("/run/up warden.sock"), "/upwork", true);
        assert_eq!(
            rest,
            "curl --unix-socket '/run/up warden.sock' -H \"X-Upwarden-Secret: $UPWARDEN_SECRET\" \
             http://localhost/upwork/api/auth/v1/info.json"
        );
    }

    #[test]
    fn nothing_escapes_its_quotes() {
        assert_eq!(quoted("a'; rm -rf ~; '"), r"'a'\''; rm -rf ~; '\'''");
        assert_eq!(quoted("$(id)"), "'$(id)'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_token_is_in_the_line_only_if_given() {
        let token = Secret::new("upwd_abc");
        assert!(
            with_token("https://tools.example.com/", "/upwork", Some(&token))
                .contains("'Authorization: Bearer upwd_abc'")
        );
        assert!(with_token("https://tools.example.com", "/upwork", None).contains("$UPWARDEN_TOKEN"));
    }
}
