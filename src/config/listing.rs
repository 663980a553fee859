//! The resolved configuration for `config check`: every key, its value, and its origin.
//!
//! The rule it keeps: of a secret only "set" and its source are shown.

/// The origin of a key's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The default: the key was not given.
    Default,
    /// The configuration file.
    File,
    /// An override by this environment variable.
    Variable(String),
}

/// One resolved key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The full key.
    pub key: String,
    /// The value in TOML; for a secret `set (…)` with its source.
    pub value: String,
    /// Its origin.
    pub origin: Origin,
}

impl Entry {
    /// The origin as a short text.
    pub(crate) fn origin_text(&self) -> &str {
        match &self.origin {
            Origin::Default => "default",
            Origin::File => "file",
            Origin::Variable(name) => name,
        }
    }
}

/// One line for each key, with a note if the value is not the file's.
pub(super) fn render(entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in entries {
        text.push_str(&format!("{} = {}", entry.key, entry.value));
        match &entry.origin {
            Origin::File => {}
            Origin::Default => text.push_str("    # default"),
            Origin::Variable(name) => text.push_str(&format!("    # by {name}")),
        }
        text.push('\n');
    }
    text
}
