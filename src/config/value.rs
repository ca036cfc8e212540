//! Values as they are written: every scalar is kept as its text, so that a long id or a secret of digits never becomes a
//! number.

use std::collections::BTreeMap;

use super::parse::ValueError;
use super::problem::Source;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Value {
    Text(String),
    List(Vec<Value>),
    Table(BTreeMap<String, Value>),
}

pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) source: Source,
}

impl Value {
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::List(_) | Self::Table(_) => None,
        }
    }

    /// A list of texts: an array, or a single text with JSON (`["a","b"]`) or commas (`a,b`).
    pub(super) fn to_list(&self) -> Result<Vec<String>, ValueError> {
        let error =
            || ValueError::new("is not a list of texts", "write [\"a\", \"b\"], or in the environment also a,b");
        match self {
            Self::List(items) => items.iter().map(|item| item.as_text().map(str::to_owned).ok_or_else(error)).collect(),
            Self::Text(text) if text.trim_start().starts_with('[') => match Self::from_json(text)? {
                list @ Self::List(_) => list.to_list(),
                Self::Text(_) | Self::Table(_) => Err(error()),
            },
            Self::Text(text) => {
                Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
            }
            Self::Table(_) => Err(error()),
        }
    }

    pub(super) fn into_table(self) -> Option<BTreeMap<String, Value>> {
        if let Self::Table(entries) = self { Some(entries) } else { None }
    }

    pub(super) fn into_map(self) -> Option<BTreeMap<String, String>> {
        let entries = self.into_table()?.into_iter().map(|(name, value)| Some((name, value.as_text()?.to_owned())));
        entries.collect()
    }

    pub(super) fn from_json(text: &str) -> Result<Self, ValueError> {
        let error = |why: String| ValueError::new(why, "write JSON, with texts and long numbers in \"quotes\"");
        let json = serde_json::from_str(text)
            .map_err(|cause| error(format!("is not JSON (line {}, column {})", cause.line(), cause.column())))?;
        Self::of_json(json)
            .ok_or_else(|| error("contains null, or a number that JSON does not keep exactly".to_owned()))
    }

    fn of_json(value: serde_json::Value) -> Option<Self> {
        Some(match value {
            serde_json::Value::Null => return None,
            serde_json::Value::Number(number) if number.is_f64() => return None,
            serde_json::Value::Number(number) => Self::Text(number.to_string()),
            serde_json::Value::Bool(switch) => Self::Text(switch.to_string()),
            serde_json::Value::String(text) => Self::Text(text),
            serde_json::Value::Array(items) => Self::List(items.into_iter().map(Self::of_json).collect::<Option<_>>()?),
            serde_json::Value::Object(entries) => {
                let entries = entries.into_iter().map(|(name, value)| Some((name, Self::of_json(value)?)));
                Self::Table(entries.collect::<Option<_>>()?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_an_array_json_or_separated_by_commas() {
        let long = "1181921839933591552";
        for text in [format!("[{long}, \"b\"]"), format!(" {long} , b,"), format!("[\"{long}\",\"b\"]")] {
            assert_eq!(Value::Text(text).to_list(), Ok(vec![long.to_owned(), "b".to_owned()]));
        }
        for text in ["[1,", "[99999999999999999999999]", "[null]", "[[1]]", "[] x"] {
            assert!(Value::Text(text.to_owned()).to_list().is_err(), "{text}");
        }
    }
}
