//! `src/store/valkey/rate_limit.lua` in Rust, line by line, so that a model can run it without a server.

use serde_json::{Value, json};

const DAY: i64 = 86_400_000;
const REPLICA_TIMEOUT: i64 = 10_000;

/// What the script's keys hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    /// When each call counts, and its replica and id.
    calls: Vec<(i64, String)>,
    day: i64,
    used: u64,
    released: i64,
    replicas: Vec<(i64, String)>,
}

/// Adds a member, or moves it; whether it is new.
fn put(set: &mut Vec<(i64, String)>, at: i64, member: String) -> bool {
    let before = set.len();
    set.retain(|(_, other)| *other != member);
    let new = set.len() == before;
    set.push((at, member));
    set.sort();
    new
}

struct Limits {
    per_second: i64,
    per_minute: i64,
    second: i64,
    minute: i64,
}

impl Server {
    pub(super) fn run(&mut self, ask: &Value, now: i64) -> Value {
        let number = |name: &str| ask[name].as_i64().unwrap();
        let replica = ask["replica"].as_str().unwrap();
        let prefix = format!("{replica}-");
        let limits = Limits {
            per_second: number("per_second"),
            per_minute: number("per_minute"),
            second: number("second"),
            minute: number("minute"),
        };
        let (slack, horizon) = (number("slack"), now + limits.minute);
        let day = now.div_euclid(DAY);
        if day > self.day || day < self.day - 1 {
            (self.day, self.used) = (day, 0);
        }
        self.released = self.released.min(horizon);
        for call in ask["counted"].as_array().unwrap() {
            put(&mut self.calls, now - call[1].as_i64().unwrap(), format!("{prefix}{}", call[0]));
        }
        self.calls.retain(|(at, _)| *at > now - limits.minute && *at < horizon + slack);
        let same_day = now - 2 * limits.minute >= self.day * DAY;
        self.forget(ask, &prefix, same_day);
        let mut reply = json!({});
        if let Some(call) = ask["call"].as_u64() {
            let (mut at, midnight) = (self.next_free(&limits, now), (self.day + 1) * DAY);
            if self.used >= ask["per_day"].as_u64().unwrap() {
                at = at.max(midnight);
            }
            let reserved = at < midnight && at <= horizon && at - now <= number("patience");
            if reserved {
                let new = put(&mut self.calls, at + slack, format!("{prefix}{call}"));
                self.used += u64::from(new || !same_day);
                self.released = at;
            }
            reply["wait"] = json!(at - now);
            reply["reserved"] = json!(reserved);
        }
        put(&mut self.replicas, now, replica.to_owned());
        self.replicas.retain(|(seen, _)| *seen > now - REPLICA_TIMEOUT);
        reply["day"] = json!(self.day);
        reply["used"] = json!(self.used);
        reply["replicas"] = json!(self.replicas.len());
        if ask["view"].as_bool().unwrap() {
            reply["calls"] = self.view(&prefix, now);
        }
        reply
    }

    fn forget(&mut self, ask: &Value, prefix: &str, same_day: bool) {
        for id in ask["cancelled"].as_array().unwrap() {
            let before = self.calls.len();
            self.calls.retain(|(_, other)| *other != format!("{prefix}{id}"));
            if same_day && self.calls.len() < before {
                self.used = self.used.saturating_sub(1);
            }
        }
        if let Some(unreported) = ask["unreported"].as_array()
            && unreported[0].as_i64().unwrap() >= self.day
        {
            self.used += unreported[1].as_u64().unwrap();
        }
    }

    fn behind_last(&self, place: i64) -> Option<i64> {
        let place = self.calls.len().checked_sub(usize::try_from(place).unwrap())?;
        self.calls.get(place).map(|(at, _)| *at)
    }

    fn next_free(&self, limits: &Limits, now: i64) -> i64 {
        let second = self.behind_last(limits.per_second).map(|at| at + limits.second);
        let minute = self.behind_last(limits.per_minute).map(|at| at + limits.minute);
        let at = now.max(second.unwrap_or(now)).max(minute.unwrap_or(now));
        let counted = self.calls.iter().filter(|(mark, _)| *mark > at - limits.minute).count();
        let counted = i64::try_from(counted).unwrap();
        if counted < limits.per_minute - limits.per_minute / 3 {
            return at;
        }
        let left = (limits.per_minute - counted).max(0);
        let span = (self.behind_last(counted).unwrap() + limits.minute - self.released).max(0);
        at.max(self.released + span / (left + 1))
    }

    fn view(&self, prefix: &str, now: i64) -> Value {
        let own = |member: &str| member.strip_prefix(prefix).map_or(0, |id| id.parse::<u64>().unwrap());
        self.calls.iter().map(|(at, member)| json!([now - at, own(member)])).collect()
    }
}
