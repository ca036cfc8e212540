//! Problems of a configuration, each with its key, source, cause and remedy, for people to read.
//!
//! A problem never contains the value of a secret.

use std::fmt;
use std::path::PathBuf;

use super::schema;

/// Where a value comes from, or was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The configuration file.
    File {
        /// The path as given.
        path: PathBuf,
        /// The line of the key, from 1; `None` for the file as a whole.
        line: Option<usize>,
    },
    /// An environment variable.
    Variable(String),
    /// `--set KEY=…` on the command line.
    Set(String),
    /// The default.
    Default,
    /// The key is not set anywhere.
    Missing {
        /// The configuration file, if there is one.
        file: Option<PathBuf>,
        /// The key.
        key: String,
    },
}

impl Source {
    /// The layer; a higher one wins.
    pub(super) const fn layer(&self) -> u8 {
        match self {
            Self::Missing { .. } | Self::Default => 0,
            Self::File { .. } => 1,
            Self::Variable(_) => 2,
            Self::Set(_) => 3,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Set(key) => write!(f, "--set {key}"),
            Self::Default => f.write_str("the default"),
            Self::Missing { file, key } => {
                f.write_str("not set; looked in ")?;
                match file {
                    Some(path) => write!(f, "{}", path.display())?,
                    None => f.write_str("no file (--config names one)")?,
                }
                write!(f, ", {}, --set {key}", schema::variable(key))
            }
        }
    }
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key as written in the file: `upwork.client_id`.
    pub key: String,
    /// Where its value comes from.
    pub source: Source,
    /// What is wrong.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    pub(super) fn new(
        key: impl Into<String>,
        source: Source,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { key: key.into(), source, why: why.into(), remedy: remedy.into() }
    }

    /// A key that does not exist; `spell` says how a known key is written in this layer.
    pub(super) fn unknown_key(key: &str, source: Source, spell: impl Fn(&str) -> String) -> Self {
        if schema::is_table(key) {
            let below =
                schema::KEYS.iter().map(|known| known.name).filter(|known| known.starts_with(&format!("{key}.")));
            let below: Vec<_> = below.map(&spell).collect();
            return Self::new(
                key,
                source,
                "this is a table of keys and has no value of its own",
                format!("set one of {}", below.join(", ")),
            );
        }
        if schema::find(key).is_some() {
            let remedy = format!("write {} without quotes around the dots", spell(key));
            return Self::new(key, source, "the whole name is in quotes", remedy);
        }
        if key == "app.public_paths" {
            let remedy = "write routes = [{ path = \"/health\", public = true }], one for each path";
            return Self::new(key, source, "public paths are routes", remedy);
        }
        let remedy = match schema::nearest(key) {
            Some(known) => format!("did you mean {}? If not, remove it", spell(known)),
            None => "remove it; config.example.toml lists every key".to_owned(),
        };
        Self::new(key, source, "there is no such key", remedy)
    }

    /// A key of the top level that follows the header of a table, which TOML reads as a key of that table.
    pub(super) fn misplaced(key: &str, last: &str, table: &str, source: Source) -> Self {
        let why = format!("this key is now part of [{table}], because it follows that header");
        Self::new(key, source, why, format!("move `{last}` above the first [table]"))
    }

    /// A table that does not exist, and the existing one with a similar name.
    pub(super) fn unknown_table(key: &str, source: Source, nearest: &str) -> Self {
        let why = "there is no such table, so its keys have no effect";
        Self::new(key, source, why, format!("did you mean [{nearest}]? If not, remove it"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.key)?;
        for (label, text) in
            [("source", self.source.to_string()), ("why", self.why.clone()), ("remedy", self.remedy.clone())]
        {
            writeln!(f, "  {label:<8}{}", text.replace('\n', "\n          "))?;
        }
        Ok(())
    }
}

/// Every problem of a configuration, in the order of discovery; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// A refusal without a reason would be a bug of the check; it is reported as such.
    pub(super) fn never_empty(mut problems: Vec<Problem>) -> Self {
        if problems.is_empty() {
            problems.push(Problem::new(
                "(the check itself)",
                Source::Default,
                "the configuration was refused without a reason",
                "this is a bug in upwarden; please report it with your configuration, without its secrets",
            ));
        }
        Self(problems)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        match self.0.len() {
            1 => f.write_str("1 problem in the configuration"),
            count => write!(f, "{count} problems in the configuration"),
        }
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_four_aligned_lines_and_problems_are_counted() {
        let source = Source::File { path: "upwarden.toml".into(), line: Some(3) };
        let problem = |key: &str| Problem::new(key, source.clone(), "it is red", "paint it");
        let one = "a.b\n  source  upwarden.toml:3\n  why     it is red\n  remedy  paint it\n";
        assert_eq!(Problems(vec![problem("a.b")]).to_string(), format!("{one}\n1 problem in the configuration"));
        assert!(Problems(vec![problem("a"), problem("b")]).to_string().ends_with("\n2 problems in the configuration"));
    }

    #[test]
    fn the_source_of_a_missing_key_is_where_it_was_looked_for() {
        let source = Source::Missing { file: Some("x.toml".into()), key: "app.url".to_owned() };
        assert_eq!(source.to_string(), "not set; looked in x.toml, UPWARDEN_APP__URL, --set app.url");
    }
}
