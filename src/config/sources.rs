use std::io::IsTerminal;
use std::path::PathBuf;

use super::memory;

/// Where the configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file, the lowest layer.
    pub file: Option<PathBuf>,
    /// The environment: `UPWARDEN_A__B` is `a.b`; `HTTPS_PROXY` is used if `upwork.proxy` is not set.
    pub env: Vec<(String, String)>,
    /// `--set`: texts `a.b=value`, the highest layer.
    pub sets: Vec<String>,
    /// The log goes to a terminal, so its default format is text.
    pub terminal: bool,
    /// Bytes of memory that the process may use; `None` for no limit. The number of connections follows it.
    pub memory: Option<u64>,
}

impl Sources {
    /// Nothing at all is configured.
    pub(crate) fn is_empty(&self) -> bool {
        let ours = |(name, _): &(String, String)| name.starts_with("UPWARDEN_");
        self.file.is_none() && self.sets.is_empty() && !self.env.iter().any(ours)
    }

    /// The environment and stderr of this process. Variables that are not UTF-8 become problems in [`super::load`].
    pub fn of_process(file: Option<PathBuf>, sets: Vec<String>) -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let env = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        Self { file, env, sets, terminal: std::io::stderr().is_terminal(), memory: memory::limit() }
    }
}
