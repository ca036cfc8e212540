//! Moments and numbers as a person reads them.
//!
//! In: a [`Timestamp`] and now. Out: the three spellings a page needs. It never asks a clock itself.

use std::time::Duration;

use minijinja::{Value, context};
use time::OffsetDateTime;

use crate::clock::Timestamp;

/// One moment, spelt for machines, for people, and from now.
#[derive(Debug)]
pub(super) struct Moment {
    /// RFC 3339, for `<time datetime>`.
    iso: String,
    /// `24 November 2026, 02:04 UTC`.
    text: String,
    /// `in 13 days`, `2 hours ago`.
    relative: String,
}

impl Moment {
    pub(super) fn new(at: Timestamp, now: Timestamp) -> Self {
        let iso = at.rfc3339();
        let text = OffsetDateTime::from_unix_timestamp(at.seconds()).map_or_else(
            |_| iso.clone(),
            |d| format!("{} {} {}, {:02}:{:02} UTC", d.day(), d.month(), d.year(), d.hour(), d.minute()),
        );
        Self { iso, text, relative: relative(at, now) }
    }

    /// For a template: `iso`, `text`, `relative`.
    pub(super) fn value(self) -> Value {
        context! { iso => self.iso, text => self.text, relative => self.relative }
    }
}

fn relative(at: Timestamp, now: Timestamp) -> String {
    if at > now {
        span(at.since(now)).map_or_else(|| "in less than a minute".to_owned(), |span| format!("in {span}"))
    } else {
        span(now.since(at)).map_or_else(|| "just now".to_owned(), |span| format!("{span} ago"))
    }
}

/// The two-digit truth: minutes under an hour, hours under two days, else days. `None` under a minute.
fn span(length: Duration) -> Option<String> {
    let minutes = length.as_secs() / 60;
    let (count, unit) = match minutes {
        0 => return None,
        1..60 => (minutes, "minute"),
        60..2880 => (minutes / 60, "hour"),
        _ => (minutes / 1440, "day"),
    };
    Some(if count == 1 { format!("1 {unit}") } else { format!("{} {unit}s", thousands(count)) })
}

/// `40000` as `40,000`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_spelt_for_people() {
        let now = Timestamp::parse_rfc3339("2026-11-24T02:04:50Z").unwrap();
        let moment = Moment::new(Timestamp::parse_rfc3339("2026-12-08T02:04:50Z").unwrap(), now);
        assert_eq!((moment.text.as_str(), moment.relative.as_str()), ("8 December 2026, 02:04 UTC", "in 14 days"));
        assert_eq!(moment.iso, "2026-12-08T02:04:50Z");
    }

    #[test]
    fn the_distance_from_now_is_told_in_its_largest_unit() {
        let now = Timestamp::from_seconds(1_000_000);
        for (seconds, text) in [
            (30, "in less than a minute"),
            (-30, "just now"),
            (60, "in 1 minute"),
            (-3600, "1 hour ago"),
            (86_400, "in 24 hours"),
            (-200_000, "2 days ago"),
        ] {
            assert_eq!(relative(Timestamp::from_seconds(1_000_000 + seconds), now), text);
        }
    }

    #[test]
    fn numbers_have_their_thousands_apart() {
        assert_eq!([0, 999, 40_000, 1_234_567].map(thousands), ["0", "999", "40,000", "1,234,567"]);
    }
}
