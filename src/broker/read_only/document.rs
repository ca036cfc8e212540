//! Checks that a GraphQL document only reads.
//!
//! Every operation counts, not only the one that the request names. The parser never gets a text that is nested deeply
//! enough to exhaust the stack.

use async_graphql_parser::parse_query;
use async_graphql_parser::types::OperationType;

use super::refusal::Refusal;

/// Nested brackets of all kinds.
const MAX_DEPTH: usize = 64;

/// Checks a document for obvious faults, in one pass.
pub(super) fn scan(document: &str) -> Result<(), Refusal> {
    if document.chars().any(is_odd) {
        return Err(Refusal::Unclear("its document contains control characters"));
    }
    let depth = depth(document).ok_or(Refusal::Unclear("a string in its document has no end"))?;
    if depth > MAX_DEPTH {
        return Err(Refusal::Unclear("its document is nested too deeply"));
    }
    Ok(())
}

/// Checks that a scanned document only reads. Parsing the longest takes some tenths of a second.
pub(super) fn parse(document: &str) -> Result<(), Refusal> {
    let document = parse_query(document).map_err(|_| Refusal::Unclear("its document is not valid GraphQL"))?;
    for (_, operation) in document.operations.iter() {
        match operation.node.ty {
            OperationType::Query => {}
            OperationType::Mutation => return Err(Refusal::Operation("mutation")),
            OperationType::Subscription => return Err(Refusal::Operation("subscription")),
        }
    }
    Ok(())
}

/// Characters that only some parsers treat as the end of a line (and so of a comment), that some parsers ignore, or
/// that replace invalid UTF-8.
fn is_odd(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => false,
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffd}' => true,
        character => character.is_control(),
    }
}

/// How deeply brackets are nested outside of strings and comments; `None` if a string has no end.
fn depth(document: &str) -> Option<usize> {
    let (mut open, mut deepest) = (0_usize, 0);
    let mut rest = document;
    while let Some(first) = rest.chars().next() {
        let after = rest.get(first.len_utf8()..)?;
        rest = match first {
            '#' => after.find(['\n', '\r']).and_then(|end| after.get(end..)).unwrap_or_default(),
            '"' => after_string(rest)?,
            _ => after,
        };
        match first {
            '{' | '[' | '(' => open += 1,
            '}' | ']' | ')' => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    Some(deepest)
}

/// What follows the string at the beginning of `text` (GraphQL section 2.9.4).
fn after_string(text: &str) -> Option<&str> {
    if let Some(mut block) = text.strip_prefix("\"\"\"") {
        loop {
            let end = block.find("\"\"\"")?;
            let after = block.get(end + 3..)?;
            if !block.get(..end)?.ends_with('\\') {
                return Some(after);
            }
            block = after;
        }
    }
    let mut characters = text.get(1..)?.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return text.get(place + 2..),
            '\n' | '\r' => return None,
            '\\' => {
                characters.next();
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_and_comments_do_not_count() {
        for (document, expected) in [
            ("{a}", Some(1)),
            ("{a(b:[{c:1}]){d}}", Some(4)),
            ("{a(b:\"{[(\\\"{\") # {{{{\n{c}}", Some(2)),
            ("{a(b:\"\"\"{\\\"\"\"{\"\"\"){c}}", Some(2)),
            ("{a(b:\"\"){c}}", Some(2)),
            ("}}}{{", Some(2)),
            ("{a(b:\"", None),
            ("{a(b:\"\n\")}", None),
            ("{a(b:[\"\"\" \" [[[[", None),
            ("# {\r{a}", Some(1)),
        ] {
            assert_eq!(depth(document), expected, "{document}");
        }
    }
}
