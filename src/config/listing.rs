//! The resolved configuration as `config check` shows it: every key, its value, where it came from.
//!
//! The rule it keeps: a secret is shown as set, with its source, and in no other way.

/// Where a key's value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Not given.
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
    /// The value as TOML writes it; for a secret `set (…)` with its source.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

impl Entry {
    /// The origin in a word or two.
    pub fn origin_text(&self) -> &str {
        match &self.origin {
            Origin::Default => "default",
            Origin::File => "file",
            Origin::Variable(name) => name,
        }
    }
}

/// One line a key, with a note where the value isn't simply the file's.
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
