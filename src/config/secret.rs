//! Secrets by reference: from a variable, from a file, or, for trials, in the configuration itself.
//!
//! The rule it keeps: a message about a secret names its key and its source. It never shows the value, or a text that
//! may be the value in the wrong place.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use zeroize::Zeroizing;

use super::setting::{Given, Setting};
use super::surroundings::Surroundings;

/// The largest secret file that is read.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// The form of a secret in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `KEY_env`: the name of a variable.
    Variable,
    /// `KEY_file`: a path.
    File,
    /// `KEY`: the secret itself.
    Plain,
}

impl Form {
    /// Every form.
    pub const ALL: [Form; 3] = [Form::Variable, Form::File, Form::Plain];

    /// The key that gives `key` in this form.
    pub fn key(self, key: &str) -> String {
        match self {
            Form::Variable => format!("{key}_env"),
            Form::File => format!("{key}_file"),
            Form::Plain => key.to_owned(),
        }
    }
}

/// The secret, and its source in words.
pub(super) fn resolve(
    form: Form,
    given: &Given<'_>,
    surroundings: &Surroundings,
) -> Result<(SecretString, String), String> {
    match form {
        Form::Variable => from_variable(&String::read(given)?, surroundings),
        Form::File => {
            let path = PathBuf::read(given)?;
            Ok((from_file(&path)?, format!("from file {}", path.display())))
        }
        Form::Plain => {
            let secret = SecretString::from(String::read(given)?);
            Ok((secret, if given.overridden { "from the override" } else { "plainly in the file" }.to_owned()))
        }
    }
}

fn from_variable(name: &str, surroundings: &Surroundings) -> Result<(SecretString, String), String> {
    let letters = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    // Any other text may be the secret itself under the wrong key, so it is not repeated.
    if !name.chars().all(letters) || name.len() > 100 || name.starts_with(|c: char| c.is_ascii_digit()) {
        let problem = "expected the name of an environment variable, in capitals (its value is the secret)";
        return Err(problem.to_owned());
    }
    match surroundings.variables.get(name).map(|value| value.trim()) {
        None => Err(format!("the environment variable {name} is not set")),
        Some("") => Err(format!("the environment variable {name} is empty")),
        Some(value) => Ok((SecretString::from(value), format!("from env {name}"))),
    }
}

/// Reads a secret file, without white space at both ends.
///
/// # Errors
/// The problem, without the path: it may be the secret under the wrong key.
pub(crate) fn from_file(path: &std::path::Path) -> Result<SecretString, String> {
    let hint = "paths are relative to the configuration file's folder";
    let unreadable = |error: std::io::Error| format!("the file cannot be read: {} ({hint})", error.kind());
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > MAX_SECRET_BYTES {
        return Err(format!("the file has {length} bytes; no secret is longer than {MAX_SECRET_BYTES}"));
    }
    let bytes = Zeroizing::new(std::fs::read(path).map_err(unreadable)?);
    match std::str::from_utf8(&bytes).map(str::trim) {
        Err(_) => Err("the file is not text (UTF-8)".to_owned()),
        Ok("") => Err("the file is empty".to_owned()),
        Ok(text) => Ok(SecretString::from(text)),
    }
}

/// The key from which all other keys are derived: 32 bytes. `Debug` does not show it.
#[derive(Debug)]
pub struct MasterKey(SecretBox<[u8; 32]>);

impl MasterKey {
    /// Reads 64 hexadecimal digits, or base64 (either alphabet, padded or not) of 32 bytes.
    pub fn parse(text: &SecretString) -> Option<MasterKey> {
        let text = text.expose_secret();
        let mut key = Box::new([0; 32]);
        if text.len() == 64 {
            hex::decode_to_slice(text, key.as_mut_slice()).ok()?;
            return Some(MasterKey(SecretBox::new(key)));
        }
        let unpadded = text.trim_end_matches('=');
        let padded = Zeroizing::new(format!("{unpadded}{}", "=".repeat((4 - unpadded.len() % 4) % 4)));
        let decoded = STANDARD.decode(padded.as_str()).or_else(|_| URL_SAFE.decode(padded.as_str())).ok()?;
        let decoded = Zeroizing::new(decoded);
        key.copy_from_slice(decoded.get(..32).filter(|_| decoded.len() == 32)?);
        Some(MasterKey(SecretBox::new(key)))
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose_secret()
    }
}
