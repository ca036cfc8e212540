//! What can be configured: the keys, how they are spelled, and which one a misspelled name may mean.

mod key;
mod keys;
#[cfg(test)]
mod tests;

pub(super) use key::{Key, Kind, Unset};
pub(super) use keys::KEYS;

pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// True if keys exist below this name: `app`, `public.tls`.
pub(super) fn is_table(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// The known key most similar to `name`; `None` if no key is similar.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let split = |name: &str| {
        name.rsplit_once('.').map_or((None, name.to_owned()), |(table, last)| (Some(table.to_owned()), last.to_owned()))
    };
    let (table, last) = split(name);
    most_similar(name, KEYS.iter().map(|key| key.name), |known| {
        let (known_table, known_last) = split(known);
        if known_table == table && known_last.contains(&last) {
            // `upwork.secret` is `upwork.client_secret`.
            0.75
        } else if known_last == last {
            // `client_id` at the top level is `upwork.client_id` in the wrong place.
            0.7
        } else {
            0.0
        }
    })
}

/// The known table most similar to `name`; `None` if no table is similar.
pub(super) fn nearest_table(name: &str) -> Option<&'static str> {
    let tables = KEYS.iter().flat_map(|key| key.name.match_indices('.').filter_map(|(dot, _)| key.name.get(..dot)));
    most_similar(name, tables, |_| 0.0)
}

/// `least`: the similarity that a candidate has whatever its spelling.
pub(super) fn most_similar(
    name: &str,
    candidates: impl Iterator<Item = &'static str>,
    least: impl Fn(&str) -> f64,
) -> Option<&'static str> {
    let similarity = |known| {
        let spelling = strsim::normalized_damerau_levenshtein(known, name);
        // Among equals the spelling decides.
        (spelling.max(least(known)) + spelling / 100.0, known)
    };
    let best = candidates.map(similarity).max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= 0.6).then_some(best.1)
}

/// The environment variable of a key: `UPWARDEN_UPWORK__CLIENT_ID`.
pub(super) fn variable(name: &str) -> String {
    format!("UPWARDEN_{}", name.replace('.', "__").to_ascii_uppercase())
}
