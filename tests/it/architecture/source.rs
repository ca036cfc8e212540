//! Reads source files: which modules there are, what they import, and which names their code mentions.
//!
//! Comments and strings are not code: a link in a comment uses nothing. What a macro is called with is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use proc_macro2::{TokenStream, TokenTree};

/// The path of a module, from the crate's root: `["oauth", "login"]`.
pub(super) type Module = Vec<String>;

/// A source file: its module, and the modules that are written inside it.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) file: String,
    pub(super) module: Module,
    pub(super) scopes: BTreeMap<Module, Scope>,
    /// What stands under `#[cfg(test)]`: the modules declared so, and the first word of anything else.
    pub(super) test_modules: BTreeSet<Module>,
    pub(super) test_items: Vec<String>,
    /// The modules that hold tests.
    pub(super) tested_in: BTreeSet<Module>,
    /// Whether a module's file is named by `#[path]`.
    pub(super) moved: bool,
}

/// What stands in one module.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) children: BTreeSet<String>,
    pub(super) imports: Vec<Import>,
    /// Paths outside `use`; a single name is a path of one segment.
    pub(super) paths: BTreeSet<Vec<String>>,
}

/// One name that a `use` brings in; the name `*` stands for everything in a module.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) name: String,
    pub(super) path: Vec<String>,
    /// A re-export, however far it reaches: `pub use`, `pub(crate) use`, `pub(super) use`.
    pub(super) public: bool,
}

/// Every source file below `src`, except the roots `lib.rs` and `main.rs`.
pub(super) fn sources() -> &'static [Source] {
    static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
        let files = files(Path::new("src")).into_iter().filter(|file| file != "src/lib.rs" && file != "src/main.rs");
        files.map(|file| Source::parse(&file, &read(&file))).collect()
    });
    &SOURCES
}

/// Every Rust file below a folder.
pub(super) fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("a folder can be listed").path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path.display().to_string());
        }
    }
    found.sort();
    found
}

/// Cargo runs tests in the package's folder.
pub(super) fn read(path: &str) -> String {
    fs::read_to_string(path).expect(path)
}

impl Source {
    pub(super) fn parse(file: &str, text: &str) -> Self {
        let place = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        let module: Module = place.split('/').map(str::to_owned).collect();
        let mut source = Self { file: file.to_owned(), module: module.clone(), ..Self::default() };
        let tokens = text.parse().unwrap_or_else(|error| panic!("{file}: {error}"));
        source.scope(&module);
        source.read(tokens, &module);
        source
    }

    fn read(&mut self, stream: TokenStream, module: &[String]) {
        let tokens = Tokens(stream.into_iter().collect());
        // Whether the next item stands under `#[cfg(test)]`.
        let mut for_tests = false;
        let mut place = 0;
        while let Some(token) = tokens.at(place) {
            if let Some((text, next)) = tokens.attribute(place) {
                for_tests |= text == "cfg(test)";
                self.moved |= text.starts_with("path=");
                if text == "test" || text.ends_with("::test") {
                    self.tested_in.insert(module.to_vec());
                }
                place = next;
                continue;
            }
            if for_tests
                && let TokenTree::Ident(word) = token
                && word != "mod"
                && word != "pub"
            {
                self.test_items.push(word.to_string());
            }
            place = match token {
                TokenTree::Ident(word) if word == "mod" => self.module(&tokens, place + 1, module, for_tests),
                TokenTree::Ident(word) if word == "use" => {
                    let end = tokens.find(place, ';');
                    imports(
                        &tokens.slice(place + 1, end),
                        &[],
                        tokens.is_public(place),
                        &mut self.scope(module).imports,
                    );
                    end
                }
                TokenTree::Ident(word) if word == "pub" => {
                    // `pub(in …)` names a module around this one, which is no use of it.
                    let reach = matches!(tokens.at(place + 1), Some(TokenTree::Group(_)));
                    place += 1 + usize::from(reach);
                    continue;
                }
                TokenTree::Ident(_) => {
                    let (path, next) = tokens.path(place);
                    if !tokens.goes_on(place) {
                        self.scope(module).paths.insert(path);
                    }
                    next
                }
                TokenTree::Group(group) => {
                    self.read(group.stream(), module);
                    place + 1
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => place + 1,
            };
            for_tests = false;
        }
    }

    fn scope(&mut self, module: &[String]) -> &mut Scope {
        self.scopes.entry(module.to_vec()).or_default()
    }

    /// Reads a module whose name stands at `place`; where the reading goes on.
    fn module(&mut self, tokens: &Tokens, place: usize, parent: &[String], for_tests: bool) -> usize {
        let Some(TokenTree::Ident(name)) = tokens.at(place) else { return place };
        let module = [parent, &[name.to_string()]].concat();
        self.scope(parent).children.insert(name.to_string());
        if for_tests {
            self.test_modules.insert(module.clone());
        }
        if let Some(TokenTree::Group(body)) = tokens.at(place + 1) {
            self.scope(&module);
            self.read(body.stream(), &module);
            return place + 2;
        }
        place + 1
    }
}

/// The names that a `use` brings in, of which `tokens` is what stands between `use` and `;`, or between braces.
fn imports(tokens: &Tokens, prefix: &[String], public: bool, found: &mut Vec<Import>) {
    for tree in tokens.0.split(|token| is_sign(token, ',')) {
        let (mut path, mut name) = (prefix.to_vec(), None);
        let mut words = tree.iter();
        while let Some(token) = words.next() {
            match token {
                TokenTree::Ident(word) if word == "as" => name = words.next().map(ToString::to_string),
                // `a::{self}` is `a`.
                TokenTree::Ident(word) if word == "self" && !path.is_empty() => {}
                TokenTree::Ident(word) => path.push(word.to_string()),
                TokenTree::Punct(sign) if sign.as_char() == '*' => name = Some("*".to_owned()),
                TokenTree::Group(group) => {
                    imports(&Tokens(group.stream().into_iter().collect()), &path, public, found);
                    path.clear();
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
        if let Some(name) = name.or_else(|| path.last().cloned()).filter(|_| !path.is_empty()) {
            found.push(Import { name, path, public });
        }
    }
}

/// The tokens between two brackets.
struct Tokens(Vec<TokenTree>);

fn is_sign(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(found) if found.as_char() == sign)
}

impl Tokens {
    fn at(&self, place: usize) -> Option<&TokenTree> {
        self.0.get(place)
    }

    fn slice(&self, from: usize, to: usize) -> Self {
        Self(self.0.get(from..to).unwrap_or_default().to_vec())
    }

    fn sign(&self, place: usize, sign: char) -> bool {
        self.at(place).is_some_and(|token| is_sign(token, sign))
    }

    /// Where `sign` comes next.
    fn find(&self, from: usize, sign: char) -> usize {
        (from..self.0.len()).find(|place| self.sign(*place, sign)).unwrap_or(self.0.len())
    }

    /// The text of an attribute that begins here, without spaces, and where it ends.
    fn attribute(&self, place: usize) -> Option<(String, usize)> {
        let inner = usize::from(self.sign(place + 1, '!'));
        let TokenTree::Group(group) = self.at(place + 1 + inner).filter(|_| self.sign(place, '#'))? else {
            return None;
        };
        Some((group.stream().to_string().replace(' ', ""), place + 2 + inner))
    }

    /// The path that begins here, up to a turbofish or its end; where it ends.
    fn path(&self, place: usize) -> (Vec<String>, usize) {
        let (mut path, mut place) = (Vec::new(), place);
        while let Some(TokenTree::Ident(word)) = self.at(place) {
            path.push(word.to_string());
            place += 1;
            if !(self.sign(place, ':')
                && self.sign(place + 1, ':')
                && matches!(self.at(place + 2), Some(TokenTree::Ident(_))))
            {
                break;
            }
            place += 2;
        }
        (path, place)
    }

    /// Whether the name at `place` goes on with what is before it: a field, a method, a part of a longer path.
    fn goes_on(&self, place: usize) -> bool {
        let before = |back: usize, sign: char| place.checked_sub(back).is_some_and(|place| self.sign(place, sign));
        let field = before(1, '.') && !before(2, '.');
        // `::http::Method` begins a path.
        let named = place.checked_sub(3).and_then(|place| self.at(place));
        let after = matches!(named, Some(TokenTree::Ident(_) | TokenTree::Punct(_)));
        field || (before(1, ':') && before(2, ':') && after)
    }

    /// Whether the item whose keyword stands at `place` is `pub`, `pub(crate)` or the like.
    fn is_public(&self, place: usize) -> bool {
        let is_pub = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Ident(word)) if word == "pub");
        let before = |back: usize| place.checked_sub(back).and_then(|place| self.at(place));
        is_pub(before(1)) || (matches!(before(1), Some(TokenTree::Group(_))) && is_pub(before(2)))
    }
}
