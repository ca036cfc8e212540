//! Circles between the files of one top-level module.
//!
//! The nodes are the files. There is an edge from one file to another if non-test code of the first names an item that
//! the second defines. Re-exports are followed to the file that defines the item, but do not count as uses: a `mod.rs`
//! that only declares and re-exports has no edges. Naming a module does not count either; naming an item through it
//! does. Uses without a name, such as method calls, are not found.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Import, Module, Scope, Source};

/// File → files whose items it names → those items.
pub(super) type Graph<'a> = BTreeMap<&'a str, BTreeMap<&'a str, BTreeSet<String>>>;

/// All modules by their paths, to find where a name is defined.
pub(super) struct Modules<'a> {
    scopes: BTreeMap<&'a Module, (&'a str, &'a Scope)>,
    tests: BTreeSet<&'a Module>,
}

impl<'a> Modules<'a> {
    pub(super) fn new(sources: &'a [Source]) -> Self {
        let all = sources.iter().flat_map(|source| source.scopes.iter().map(|scope| (source.file.as_str(), scope)));
        Self {
            scopes: all.map(|(file, (module, scope))| (module, (file, scope))).collect(),
            tests: sources.iter().flat_map(|source| &source.test_modules).collect(),
        }
    }

    fn is_test(&self, module: &[String]) -> bool {
        self.tests.iter().any(|test| module.starts_with(test))
    }

    /// The path from the crate's root; `None` where it leads to another crate or begins at a local name.
    pub(super) fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let scope = || self.scopes.get(&module.to_vec()).map(|(_, scope)| *scope);
        Some(match first.as_str() {
            "crate" => rest.to_vec(),
            "self" => [module, rest].concat(),
            "super" => {
                let parent = module.split_last()?.1;
                // The root is not among the modules, and nothing is above it.
                if rest.first().is_some_and(|next| next == "super") {
                    return self.absolute(parent, rest);
                }
                [parent, rest].concat()
            }
            name if scope()?.children.contains(name) => [module, path].concat(),
            name => {
                let import = scope()?.imports.iter().find(|import| import.name == name && import.path != path)?;
                [self.absolute(module, &import.path)?, rest.to_vec()].concat()
            }
        })
    }

    /// Follows a path from the crate's root to the item that it names and the file that defines it; `None` where it names
    /// a module.
    fn resolve(&self, path: &[String]) -> Option<(&'a str, String)> {
        let depth = (1..=path.len()).take_while(|len| self.scopes.contains_key(&path[..*len].to_vec())).last()?;
        let (module, rest) = path.split_at(depth);
        let (file, scope) = self.scopes.get(&module.to_vec())?;
        let (name, rest) = rest.split_first()?;
        if let Some(import) = scope.imports.iter().find(|import| import.name == *name) {
            return self.resolve(&[self.absolute(module, &import.path)?, rest.to_vec()].concat());
        }
        Some((file, name.clone()))
    }

    pub(super) fn graph(&self) -> Graph<'a> {
        let mut graph = Graph::new();
        for (module, (file, scope)) in self.scopes.iter().filter(|(module, _)| !self.is_test(module)) {
            let edges = graph.entry(file).or_default();
            let imports = scope.imports.iter().filter(|import| !import.public).map(|import: &Import| &import.path);
            for path in scope.paths.iter().chain(imports) {
                let target = self.absolute(module, path).and_then(|path| self.resolve(&path));
                if let Some((other, name)) = target
                    && other != *file
                    && top(other) == top(file)
                {
                    edges.entry(other).or_default().insert(name);
                }
            }
        }
        graph
    }
}

/// The top-level module of a file.
pub(super) fn top(file: &str) -> &str {
    file.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default()
}

/// The largest sets of files that all reach each other.
pub(super) fn circles<'a>(graph: &Graph<'a>) -> BTreeSet<BTreeSet<&'a str>> {
    let ahead_of = |from: &'a str| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(file) = open.pop() {
            open.extend(graph.get(file).into_iter().flat_map(BTreeMap::keys).filter(|next| seen.insert(**next)));
        }
        seen
    };
    let reaches: BTreeMap<&str, BTreeSet<&str>> = graph.keys().map(|file| (*file, ahead_of(file))).collect();
    let circle = |file: &&'a str| -> BTreeSet<&'a str> {
        let ahead = &reaches[*file];
        graph.keys().copied().filter(|other| ahead.contains(other) && reaches[other].contains(*file)).collect()
    };
    graph.keys().map(circle).filter(|circle| !circle.is_empty()).collect()
}

/// The edges between the files of a circle, with the names that make them.
pub(super) fn explain(graph: &Graph<'_>, circle: &BTreeSet<&str>) -> String {
    let mut lines = Vec::new();
    for file in circle {
        for (other, names) in graph[file].iter().filter(|(other, _)| circle.contains(*other)) {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            lines.push(format!("{file} → {other}: {}", names.join(", ")));
        }
    }
    lines.join("\n")
}
