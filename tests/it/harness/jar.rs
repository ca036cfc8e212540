//! Cookies as a browser keeps them, as far as the tests need it.

use cookie::Cookie;

/// One browser's cookies of one host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jar {
    cookies: Vec<(String, String)>,
}

impl Jar {
    /// Takes a `Set-Cookie` line. A cookie of more than 4,096 bytes is silently dropped (RFC 6265bis section 5.7).
    pub(crate) fn take(&mut self, line: &str) {
        let Ok(cookie) = Cookie::parse(line.to_owned()) else { return };
        let (name, value) = (cookie.name().to_owned(), cookie.value().to_owned());
        if name.len() + value.len() > 4096 {
            return;
        }
        self.cookies.retain(|(known, _)| *known != name);
        let over = cookie.max_age().is_some_and(|age| !age.is_positive());
        if !over {
            self.cookies.push((name, value));
        }
    }

    /// The `Cookie` field; `None` without cookies.
    pub(crate) fn field(&self) -> Option<String> {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// A cookie's value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.cookies.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The names, in the order they were set.
    pub(crate) fn names(&self) -> Vec<String> {
        self.cookies.iter().map(|(name, _)| name.clone()).collect()
    }
}
