#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Kind {
    Text,
    Number,
    Switch,
    Duration,
    Size,
    Secret,
    List,
    Secrets,
    Map,
    Tables,
}

impl Kind {
    pub(in crate::config) const fn is_secret(self) -> bool {
        matches!(self, Self::Secret | Self::Secrets)
    }
}

/// What applies if a key is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Unset {
    /// This default, as a user would write it.
    Default(&'static str),
    /// The key is required; a sample value.
    Required(&'static str),
    /// No value, or one that depends on others; a sample value.
    Optional(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Key {
    pub(in crate::config) name: &'static str,
    pub(in crate::config) kind: Kind,
    pub(in crate::config) unset: Unset,
    pub(in crate::config) about: &'static str,
}

pub(super) const fn defaults(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { name, kind, unset: Unset::Default(default), about }
}

pub(super) const fn required(name: &'static str, kind: Kind, sample: &'static str, about: &'static str) -> Key {
    Key { name, kind, unset: Unset::Required(sample), about }
}

pub(super) const fn optional(name: &'static str, kind: Kind, sample: &'static str, about: &'static str) -> Key {
    Key { name, kind, unset: Unset::Optional(sample), about }
}

impl Key {
    pub(in crate::config) const fn default(&self) -> Option<&'static str> {
        match self.unset {
            Unset::Default(default) => Some(default),
            Unset::Required(_) | Unset::Optional(_) => None,
        }
    }

    /// The default, or else the sample, as TOML.
    pub(in crate::config) fn toml(&self) -> String {
        let (Unset::Default(text) | Unset::Required(text) | Unset::Optional(text)) = self.unset;
        match self.kind {
            Kind::Text | Kind::Duration | Kind::Size | Kind::Secret => format!("\"{text}\""),
            Kind::Number | Kind::Switch | Kind::List | Kind::Secrets | Kind::Map | Kind::Tables => text.to_owned(),
        }
    }
}
