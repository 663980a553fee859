//! Compares a person's row with the job.
//!
//! The rule it keeps: one other value is another person; an empty value shows nothing.

use std::collections::BTreeMap;

use erasure_connector::model::IdentifierForm;
use erasure_connector::sql::SqlFile;
use secrecy::{ExposeSecret as _, SecretString};

use super::super::compare::same_email;
use crate::job::Identity;

/// The verdict on the row's columns, in the order of the file's select.
pub(super) fn compare(
    file: &SqlFile,
    row: &[Option<SecretString>],
    named: &BTreeMap<String, SecretString>,
) -> Identity {
    let mut verdict = Identity::Same;
    for ((_, name), shown) in file.person.columns.iter().zip(row) {
        // An identifier that the job may leave out.
        let Some(named) = named.get(&name.0) else { continue };
        let form = file.identifiers.get(&name.0).map_or(IdentifierForm::Text, |identifier| identifier.form);
        let shown = shown.as_ref().map_or("", |shown| shown.expose_secret());
        if shown.trim().is_empty() {
            verdict = Identity::Unreadable;
        } else if !is_same(form, shown, named.expose_secret()) {
            return Identity::Other;
        }
    }
    verdict
}

/// True if a statement finds rows by an identifier of which the row shows nothing.
pub(super) fn acts_on_empty(file: &SqlFile, row: &[Option<SecretString>]) -> bool {
    let changes = file.acts.iter().flat_map(|act| &act.changes);
    let used: Vec<&str> = changes.flat_map(|change| change.statement.condition().names()).collect();
    file.person.columns.iter().zip(row).any(|((_, name), shown)| {
        let shown = shown.as_ref().map_or("", |shown| shown.expose_secret());
        shown.trim().is_empty() && used.contains(&&*name.0)
    })
}

fn is_same(form: IdentifierForm, shown: &str, named: &str) -> bool {
    match form {
        IdentifierForm::Email => same_email(shown, named),
        IdentifierForm::Uuid => shown.trim().eq_ignore_ascii_case(named.trim()),
        IdentifierForm::Digits => shown.trim().trim_start_matches('0') == named.trim().trim_start_matches('0'),
        IdentifierForm::Text => shown == named,
    }
}
