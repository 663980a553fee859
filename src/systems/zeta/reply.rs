//! Finds the person of a record that the Loyalty platform returns.
//!
//! The rule it keeps: the form of records is not documented, so an id is searched for in several places, but only under
//! a name of the requested kind of id.

use secrecy::ExposeSecret;
use serde_json::Value;

use super::interface::{DEPTH, WRAPPERS};
use crate::job::{Identity, Member, MemberKey};
use crate::systems::form::plain;

/// True for a record with an id of any kind: it is a person's.
pub(super) fn shows_somebody(record: &Value) -> bool {
    let database = find(record, &["id"], DEPTH).is_some();
    database || MemberKey::ALL.into_iter().any(|key| find(record, names(key), DEPTH).is_some())
}

/// True if the record was clearly found by another kind of id: it has the value under that kind, and another value
/// under the requested kind. Only such a record shows that the named member does not exist.
pub(super) fn is_namesake(record: &Value, member: &Member) -> bool {
    let wanted = member.value.expose_secret().trim();
    let shows = |key: MemberKey| find(record, names(key), DEPTH).unwrap_or_default();
    let others = || MemberKey::ALL.into_iter().filter(|key| *key != member.key && *key != MemberKey::Email);
    let own = shows(member.key);
    !own.is_empty()
        && own.iter().all(|value| value != wanted)
        && others().any(|key| shows(key).iter().any(|value| value == wanted))
}

/// The names of a kind of id in a record.
const fn names(key: MemberKey) -> &'static [&'static str] {
    match key {
        MemberKey::MemberId => &["memberid"],
        MemberKey::IntegrationId => &["integrationid"],
        MemberKey::CardId => &["cardid", "cardnumber", "cardno"],
        // `id` is used only if the record has no clearer name.
        MemberKey::DatabaseId => &["databaseid"],
        MemberKey::Email => &["email", "emailaddress"],
    }
}

/// Compares the named kind of id. The innermost object with the kind decides: an outer `id` may be the envelope's. A
/// record with the value only under another kind was found by that kind: it is another person's, even without the
/// named kind.
pub(super) fn identity(record: &Value, member: &Member) -> Identity {
    let values = find(record, names(member.key), DEPTH).or_else(|| {
        let database = member.key == MemberKey::DatabaseId;
        database.then(|| find(record, &["id"], DEPTH)).flatten()
    });
    let wanted = member.value.expose_secret().trim();
    let same = |value: &String| match member.key {
        MemberKey::Email => value.to_lowercase() == wanted.to_lowercase(),
        _ => value == wanted,
    };
    let others = || MemberKey::ALL.into_iter().filter(|key| *key != member.key);
    let shown_as = |key: MemberKey| find(record, names(key), DEPTH).is_some_and(|values| values.iter().any(same));
    match values {
        Some(values) if values.iter().any(same) => Identity::Same,
        Some(_) => Identity::Other,
        None if others().any(shown_as) => Identity::Other,
        None => Identity::Unreadable,
    }
}

/// The values under the names; `None` if none can be compared.
fn find(value: &Value, names: &[&str], depth: usize) -> Option<Vec<String>> {
    if depth == 0 {
        return None;
    }
    match value {
        Value::Array(items) if items.len() == 1 => find(&items[0], names, depth),
        Value::Object(fields) => {
            let within = |(name, value): (&String, &Value)| {
                WRAPPERS.contains(&plain(name).as_str()).then(|| find(value, names, depth - 1)).flatten()
            };
            fields.iter().find_map(within).or_else(|| {
                let here = fields.iter().filter(|(name, _)| names.contains(&plain(name).as_str()));
                let values: Vec<String> = here.flat_map(|(_, value)| scalars(value)).collect();
                (!values.is_empty()).then_some(values)
            })
        }
        _ => None,
    }
}

fn scalars(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(as_id).collect(),
        value => as_id(value).into_iter().collect(),
    }
}

fn as_id(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}
