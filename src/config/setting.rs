//! Reads one value from TOML, and shows it.
//!
//! The rule it keeps: a message about a bad value names what was expected. It never repeats a given text, which may be
//! a secret under the wrong key.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Value;
use url::Url;

use super::units::{self, DURATION_FORM};

/// A given value.
pub(crate) struct Given<'a> {
    /// The value; always a text if `overridden`.
    pub value: &'a Value,
    /// True if an environment variable set it.
    pub overridden: bool,
    /// The configuration file's folder: its paths are relative to it.
    pub base: &'a Path,
}

/// A type of a key's value.
pub(crate) trait Setting: Sized {
    /// The value, or a message with the expected form.
    fn read(given: &Given<'_>) -> Result<Self, String>;
    /// The value's text for `config check`.
    fn show(&self) -> String;
}

/// A closed list of words.
pub trait Choice: Copy + PartialEq + 'static {
    /// Each value with its word.
    const WORDS: &'static [(&'static str, Self)];

    /// The word for this value in configuration and events.
    fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }
}

impl<T: Choice> Setting for T {
    fn read(given: &Given<'_>) -> Result<Self, String> {
        let word = given.value.as_str();
        T::WORDS.iter().find(|(candidate, _)| Some(*candidate) == word).map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<String> = T::WORDS.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            format!("expected one of {}", words.join(", "))
        })
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.as_str())
    }
}

impl Setting for String {
    fn read(given: &Given<'_>) -> Result<Self, String> {
        match given.value.as_str().map(str::trim) {
            Some("") => Err("expected a text that is not empty".to_owned()),
            Some(text) => Ok(text.to_owned()),
            None => Err(expected("a text in quotes", given.value)),
        }
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl Setting for bool {
    fn read(given: &Given<'_>) -> Result<Self, String> {
        let overridden = || given.value.as_str().filter(|_| given.overridden)?.parse().ok();
        given.value.as_bool().or_else(overridden).ok_or_else(|| expected("true or false", given.value))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for u32 {
    fn read(given: &Given<'_>) -> Result<Self, String> {
        let overridden = || given.value.as_str().filter(|_| given.overridden)?.parse().ok();
        let number = given.value.as_integer().or_else(overridden);
        number
            .ok_or_else(|| expected("a whole number", given.value))
            .and_then(|number| u32::try_from(number).map_err(|_| format!("{number} is out of range")))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for f64 {
    fn read(given: &Given<'_>) -> Result<Self, String> {
        let whole = || given.value.as_integer().and_then(|number| i32::try_from(number).ok()).map(f64::from);
        let overridden = || given.value.as_str().filter(|_| given.overridden)?.parse().ok();
        given.value.as_float().or_else(whole).or_else(overridden).ok_or_else(|| expected("a number", given.value))
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl Setting for Duration {
    fn read(given: &Given<'_>) -> Result<Self, String> {
        given.value.as_str().and_then(units::parse_duration).ok_or_else(|| format!("expected {DURATION_FORM}"))
    }

    fn show(&self) -> String {
        format!("\"{}\"", units::format_duration(*self))
    }
}

impl Setting for SocketAddr {
    fn read(given: &Given<'_>) -> Result<Self, String> {
        let address = given.value.as_str().and_then(|text| text.parse().ok());
        address.ok_or_else(|| "expected an IP address and a port, such as \"127.0.0.1:8460\"".to_owned())
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for PathBuf {
    fn read(given: &Given<'_>) -> Result<Self, String> {
        let path = PathBuf::from(String::read(given)?);
        // A variable is set by the person who starts the process, so its path is relative to the working directory.
        let base = if given.overridden { Path::new("") } else { given.base };
        Ok(base.join(path).components().collect())
    }

    fn show(&self) -> String {
        format!("{:?}", self.display().to_string())
    }
}

impl Setting for Vec<String> {
    fn read(given: &Given<'_>) -> Result<Self, String> {
        let problem = || "expected a list of texts, such as [\"offer_responses\"]".to_owned();
        let items: Vec<String> = match given.value {
            Value::Array(items) => {
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>().ok_or_else(problem)?
            }
            Value::String(text) if given.overridden && text.trim().is_empty() => Vec::new(),
            Value::String(text) if given.overridden => text.split(',').map(|item| item.trim().to_owned()).collect(),
            _ => return Err(problem()),
        };
        if items.iter().any(|item| item.trim().is_empty()) { Err(problem()) } else { Ok(items) }
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl Setting for Url {
    fn read(given: &Given<'_>) -> Result<Self, String> {
        let url = given.value.as_str().and_then(|text| Url::parse(text.trim()).ok());
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or("expected a URL that starts with https:// (or http://)")?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the URL contains a user name or password; use the keys for credentials".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("expected a URL without a query (?) and fragment (#)".to_owned());
        }
        Ok(url)
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

/// `expected X, found type Y`: shows the type only, not the value.
fn expected(what: &str, found: &Value) -> String {
    format!("expected {what}, found type {}", found.type_str())
}
