//! Faults on demand: what goes wrong, where, and how often.
//!
//! The faults of each target wait in a queue; a request takes the first that applies to it.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

/// Where a fault is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::EnumString)]
#[strum(serialize_all = "lowercase")]
pub enum Target {
    /// The authorize page.
    Authorize,
    /// The token endpoint.
    Token,
    /// The revocation endpoint.
    Revoke,
    /// GraphQL and REST.
    Api,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The work is done; the answer is held until a release or for `millis`.
    Slow {
        /// Milliseconds of the machine's time; `None` is until a release.
        millis: Option<u64>,
    },
    /// 500 with an HTML page; nothing is done.
    InternalError,
    /// 502 with an HTML page; nothing is done.
    BadGateway,
    /// 503 with an HTML page; nothing is done.
    Unavailable,
    /// 403 with the CDN's bot check in HTML; nothing is done.
    Html,
    /// The work is done; the answer is a 200 whose JSON ends in the middle.
    Garbage,
    /// The work is done; the connection is cut after half of the answer's body.
    Cut,
    /// 429; nothing is done.
    TooMany {
        /// Seconds of `Retry-After`; `None` sends no such header.
        retry_after: Option<u64>,
    },
    /// Token endpoint, code and refresh grants: 400 `invalid_grant`; the code or token stays valid.
    InvalidGrant,
    /// Token endpoint, refresh grant: the refresh token is revoked, with its family.
    DeadRefreshToken,
    /// Token endpoint, code and refresh grants: the answer has no `refresh_token`.
    NoRefreshToken,
    /// Authorize page: redirects with `access_denied`, as if the user had declined.
    Decline,
}

/// How often a fault is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// For this many requests.
    Only(u64),
    /// Until the reset.
    Always,
}

pub(super) const KNOWN: &str = "known faults: slow (with \"millis\", else until POST /release), 500, 502, 503, html, \
    garbage, cut, 429 (with \"retry_after\" seconds, or as {\"429\": seconds}), none (clears) at authorize, token, \
    revoke and api; decline at authorize; invalid_grant, dead_refresh_token, no_refresh_token at token; \
    \"times\": how many requests (1; 0 or \"always\": until POST /reset)";

/// A fault order that was not understood; none of it took effect.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}; {KNOWN}")]
pub struct UnknownFault(String);

/// An order in the JSON form of the control address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FaultOrder {
    /// An empty list clears the target.
    faults: Vec<(Target, Vec<Fault>)>,
    times: Times,
}

impl FaultOrder {
    pub(super) fn parse(order: &Value) -> Result<Self, UnknownFault> {
        let Some(fields) = order.as_object() else {
            return Err(UnknownFault("expected a JSON object such as {\"token\":\"500\",\"times\":2}".to_owned()));
        };
        let times = match fields.get("times") {
            None => Times::Only(1),
            Some(Value::String(word)) if word == "always" => Times::Always,
            Some(number) => match number.as_u64() {
                Some(0) => Times::Always,
                Some(count) => Times::Only(count),
                None => return Err(UnknownFault(format!("\"times\" cannot be {number}"))),
            },
        };
        let options = Options { millis: whole(fields.get("millis"))?, retry_after: whole(fields.get("retry_after"))? };
        let mut faults = Vec::new();
        for (name, value) in fields {
            if matches!(name.as_str(), "times" | "millis" | "retry_after") {
                continue;
            }
            let target = name.parse().map_err(|_| UnknownFault(format!("there is no target {name:?}")))?;
            faults.push((target, options.faults(target, value)?));
        }
        if faults.is_empty() {
            return Err(UnknownFault("name a target: authorize, token, revoke or api".to_owned()));
        }
        Ok(Self { faults, times })
    }
}

struct Options {
    millis: Option<u64>,
    retry_after: Option<u64>,
}

impl Options {
    fn faults(&self, target: Target, value: &Value) -> Result<Vec<Fault>, UnknownFault> {
        let listed = match value {
            Value::Null => return Ok(Vec::new()),
            Value::String(word) if word == "none" => return Ok(Vec::new()),
            Value::Array(list) => list.as_slice(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => std::slice::from_ref(value),
        };
        listed.iter().map(|one| self.fault(target, one)).collect()
    }

    fn fault(&self, target: Target, value: &Value) -> Result<Fault, UnknownFault> {
        let unknown = || UnknownFault(format!("there is no fault {value}"));
        let (name, retry_after) = match value {
            Value::String(name) => (name.clone(), self.retry_after),
            Value::Number(number) => (number.to_string(), self.retry_after),
            Value::Object(one) if one.len() == 1 && one.contains_key("429") => {
                ("429".to_owned(), whole(one.get("429"))?)
            }
            Value::Object(_) | Value::Null | Value::Bool(_) | Value::Array(_) => return Err(unknown()),
        };
        let fault = match name.as_str() {
            "slow" => Fault::Slow { millis: self.millis },
            "500" => Fault::InternalError,
            "502" => Fault::BadGateway,
            "503" => Fault::Unavailable,
            "html" => Fault::Html,
            "garbage" => Fault::Garbage,
            "cut" => Fault::Cut,
            "429" => Fault::TooMany { retry_after },
            "invalid_grant" => Fault::InvalidGrant,
            "dead_refresh_token" => Fault::DeadRefreshToken,
            "no_refresh_token" => Fault::NoRefreshToken,
            "decline" => Fault::Decline,
            _ => return Err(unknown()),
        };
        match fault.only_at() {
            Some(place) if place != target => Err(UnknownFault(format!("{name:?} is not a fault of this target"))),
            Some(_) | None => Ok(fault),
        }
    }
}

impl Fault {
    /// The only target it applies to, if there is one.
    fn only_at(self) -> Option<Target> {
        match self {
            Self::InvalidGrant | Self::DeadRefreshToken | Self::NoRefreshToken => Some(Target::Token),
            Self::Decline => Some(Target::Authorize),
            Self::Slow { .. }
            | Self::InternalError
            | Self::BadGateway
            | Self::Unavailable
            | Self::Html
            | Self::Garbage
            | Self::Cut
            | Self::TooMany { .. } => None,
        }
    }
}

fn whole(value: Option<&Value>) -> Result<Option<u64>, UnknownFault> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| UnknownFault(format!("{value} is not a whole number"))),
    }
}

#[derive(Default)]
pub(super) struct Faults(HashMap<Target, VecDeque<(Fault, Times)>>);

impl Faults {
    pub(super) fn add(&mut self, target: Target, fault: Fault, times: Times) {
        self.0.entry(target).or_default().push_back((fault, times));
    }

    pub(super) fn queue(&mut self, order: FaultOrder) {
        for (target, faults) in order.faults {
            if faults.is_empty() {
                self.0.remove(&target);
            }
            for fault in faults {
                self.add(target, fault, order.times);
            }
        }
    }

    /// The first queued fault that `applies` to this request; counts it down.
    pub(super) fn take(&mut self, target: Target, applies: impl Fn(Fault) -> bool) -> Option<Fault> {
        let queue = self.0.get_mut(&target)?;
        let place = queue.iter().position(|(fault, _)| applies(*fault))?;
        let (fault, times) = queue.get_mut(place)?;
        let fault = *fault;
        match times {
            Times::Always => {}
            Times::Only(left) if *left > 1 => *left -= 1,
            Times::Only(_) => {
                queue.remove(place);
            }
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn waiting(wanted: &Value) -> Faults {
        let mut faults = Faults::default();
        faults.queue(FaultOrder::parse(wanted).unwrap());
        faults
    }

    #[test]
    fn a_fault_strikes_as_often_as_it_was_ordered() {
        let mut faults = waiting(&json!({"token": "500", "api": ["cut", {"429": 7}], "times": 2}));
        let mut take = |target| faults.take(target, |_| true);
        assert_eq!(take(Target::Token), Some(Fault::InternalError));
        assert_eq!(take(Target::Token), Some(Fault::InternalError));
        assert_eq!(take(Target::Token), None);
        assert_eq!(take(Target::Api), Some(Fault::Cut));
        assert_eq!(take(Target::Api), Some(Fault::Cut));
        assert_eq!(take(Target::Api), Some(Fault::TooMany { retry_after: Some(7) }));
        assert_eq!(take(Target::Authorize), None);
    }

    #[test]
    fn a_fault_without_end_stays_until_it_is_cleared() {
        let mut faults = waiting(&json!({"api": "slow", "millis": 5, "times": 0}));
        for _ in 0..5 {
            assert_eq!(faults.take(Target::Api, |_| true), Some(Fault::Slow { millis: Some(5) }));
        }
        faults.queue(FaultOrder::parse(&json!({"api": "none"})).unwrap());
        assert_eq!(faults.take(Target::Api, |_| true), None);
    }

    #[test]
    fn a_fault_waits_for_a_request_that_it_applies_to() {
        let mut faults = waiting(&json!({"token": "dead_refresh_token"}));
        assert_eq!(faults.take(Target::Token, |fault| fault != Fault::DeadRefreshToken), None);
        assert_eq!(faults.take(Target::Token, |_| true), Some(Fault::DeadRefreshToken));
    }
}
