//! Counts the named fields of structs.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// Every struct in a file that has named fields, with how many.
pub(super) fn fields(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    read(text.parse().expect("Rust"), &mut found);
    found
}

fn read(stream: TokenStream, found: &mut Vec<(String, usize)>) {
    let mut tokens = stream.into_iter();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(word) if word == "struct" => {
                let name = tokens.next().expect("a name").to_string();
                let body = tokens.find_map(|token| match token {
                    TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => Some(Some(body.stream())),
                    TokenTree::Punct(sign) if sign.as_char() == ';' => Some(None),
                    TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Ident(_) | TokenTree::Literal(_) => None,
                });
                found.extend(body.flatten().map(|body| (name, colons(body))));
            }
            TokenTree::Group(group) => read(group.stream(), found),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Single colons: one follows the name of each field, and the types have none outside brackets.
fn colons(body: TokenStream) -> usize {
    let mut in_path = false;
    let mut count = 0;
    for token in body {
        let colon = matches!(&token, TokenTree::Punct(sign) if sign.as_char() == ':');
        let joint = matches!(&token, TokenTree::Punct(sign) if sign.spacing() == Spacing::Joint);
        count += usize::from(colon && !joint && !in_path);
        in_path = colon && joint;
    }
    count
}

#[test]
fn fields_are_counted_whatever_their_types() {
    let text = "
        struct Unit; struct Pair(u8, u8); struct Empty {}
        mod inner { pub(crate) struct Map<K: Ord, V = ()> where V: Clone { /* a: u8 */ #[serde(rename = \"x: y\")]
            pub map: std::collections::BTreeMap<K, Box<dyn Fn(&str) -> V>>, r#type: &'static ::http::Method } }
        fn f() { struct Local { a: [u8; 2], b: fn(x: u8) } }
    ";
    let found = [("Empty", 0), ("Map", 2), ("Local", 2)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(fields(text), found);
}
