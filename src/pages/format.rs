//! Formats times and numbers for people. Never reads a clock.

use std::time::Duration;

use minijinja::{Value, context};
use time::OffsetDateTime;

use crate::clock::Timestamp;

/// For a template: `iso` (RFC 3339, for `<time datetime>`), `text` (`24 November 2026, 02:04 UTC`) and `relative` to now
/// (`in 13 days`, `2 hours ago`).
pub(super) fn time(at: Timestamp, now: Timestamp) -> Value {
    let iso = at.rfc3339();
    let text = OffsetDateTime::from_unix_timestamp(at.seconds()).map_or_else(
        |_| iso.clone(),
        |d| format!("{} {} {}, {:02}:{:02} UTC", d.day(), d.month(), d.year(), d.hour(), d.minute()),
    );
    context! { iso, text, relative => relative(at, now) }
}

fn relative(at: Timestamp, now: Timestamp) -> String {
    if at > now {
        span(at.since(now)).map_or_else(|| "in less than a minute".to_owned(), |span| format!("in {span}"))
    } else {
        span(now.since(at)).map_or_else(|| "just now".to_owned(), |span| format!("{span} ago"))
    }
}

/// Minutes under an hour, hours under two days, else days. `None` under a minute.
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
    fn a_time_is_written_for_people_and_for_machines() {
        let now = Timestamp::parse_rfc3339("2026-11-24T02:04:50Z").unwrap();
        let time = time(Timestamp::parse_rfc3339("2026-12-08T02:04:50Z").unwrap(), now);
        let part = |name| time.get_attr(name).unwrap().to_string();
        assert_eq!(
            [part("text"), part("relative"), part("iso")],
            ["8 December 2026, 02:04 UTC", "in 14 days", "2026-12-08T02:04:50Z"]
        );
    }

    #[test]
    fn the_distance_from_now_is_in_its_largest_unit() {
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
    fn thousands_are_separated() {
        assert_eq!([0, 999, 40_000, 1_234_567].map(thousands), ["0", "999", "40,000", "1,234,567"]);
    }
}
