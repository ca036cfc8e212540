//! What is wrong with a configuration: all of it, each with its key, source, cause and remedy.
//!
//! In: what the layers and the check found. Out: blocks of text for a person. It never holds the value of a secret.

use std::fmt;
use std::path::PathBuf;

use super::raw;

/// Where a value came from, or was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The configuration file.
    File {
        /// Its path as it was given.
        path: PathBuf,
        /// The line of the key, from 1; `None` where the file as a whole is meant.
        line: Option<usize>,
    },
    /// An environment variable.
    Variable(String),
    /// `--set KEY=…` on the command line.
    Set(String),
    /// Nobody gave it: the default.
    Default,
    /// It is missing; these places were searched.
    Nowhere {
        /// The configuration file, where there is one.
        file: Option<PathBuf>,
        /// The key.
        key: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Set(key) => write!(f, "--set {key}"),
            Self::Default => f.write_str("the default"),
            Self::Nowhere { file, key } => {
                f.write_str("not set; looked in ")?;
                match file {
                    Some(path) => write!(f, "{}", path.display())?,
                    None => f.write_str("no file (--config names one)")?,
                }
                write!(f, ", {}, --set {key}", raw::variable(key))
            }
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key as written in the file: `upwork.client_id`.
    pub key: String,
    /// Where its value came from.
    pub source: Source,
    /// What is wrong.
    pub why: String,
    /// What to do.
    pub remedy: String,
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

/// Everything that is wrong with a configuration, in the order in which it was found; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Refusing without a reason would be a fault of the check itself; then at least that is told.
    pub(super) fn never_empty(mut problems: Vec<Problem>) -> Self {
        if problems.is_empty() {
            problems.push(Problem {
                key: "(the check itself)".to_owned(),
                source: Source::Default,
                why: "the configuration was refused without a reason".to_owned(),
                remedy: "this is a bug of upwarden; please report it with your configuration, secrets removed"
                    .to_owned(),
            });
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
    fn a_problem_is_told_in_four_aligned_lines_and_counted() {
        let source = Source::File { path: "upwarden.toml".into(), line: Some(3) };
        let problem = |key: &str| Problem {
            key: key.to_owned(),
            source: source.clone(),
            why: "it is red".to_owned(),
            remedy: "paint it".to_owned(),
        };
        let one = "a.b\n  source  upwarden.toml:3\n  why     it is red\n  remedy  paint it\n";
        assert_eq!(Problems(vec![problem("a.b")]).to_string(), format!("{one}\n1 problem in the configuration"));
        assert!(Problems(vec![problem("a"), problem("b")]).to_string().ends_with("\n2 problems in the configuration"));
    }

    #[test]
    fn a_missing_key_tells_where_it_was_looked_for() {
        let source = Source::Nowhere { file: Some("x.toml".into()), key: "app.url".to_owned() };
        assert_eq!(source.to_string(), "not set; looked in x.toml, UPWARDEN_APP__URL, --set app.url");
    }
}
