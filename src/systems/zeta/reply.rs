//! Whose record a reply of the Loyalty platform shows.
//!
//! The rule it keeps: the shape of records is not documented, so an id is looked for in several places, but
//! only under a name of the kind that was asked for.

use secrecy::ExposeSecret;
use serde_json::Value;

use super::interface::{DEPTH, WRAPPERS};
use crate::job::{Identity, Member, MemberKey};
use crate::systems::form::plain;

/// True for a record that carries an id of any kind: somebody is shown.
pub(super) fn shows_somebody(record: &Value) -> bool {
    let database = find(record, &["id"], DEPTH).is_some();
    database || MemberKey::ALL.into_iter().any(|key| find(record, names(key), DEPTH).is_some())
}

/// True where the record was plainly found by another kind of id: it shows the value under that kind, and
/// another one under the kind that was named. Only that shows that the one named is not there.
pub(super) fn is_namesake(record: &Value, member: &Member) -> bool {
    let wanted = member.value.expose_secret().trim();
    let shows = |key: MemberKey| find(record, names(key), DEPTH).unwrap_or_default();
    let others = || MemberKey::ALL.into_iter().filter(|key| *key != member.key && *key != MemberKey::Email);
    let own = shows(member.key);
    !own.is_empty()
        && own.iter().all(|value| value != wanted)
        && others().any(|key| shows(key).iter().any(|value| value == wanted))
}

/// The names under which a kind of id is shown.
const fn names(key: MemberKey) -> &'static [&'static str] {
    match key {
        MemberKey::MemberId => &["memberid"],
        MemberKey::IntegrationId => &["integrationid"],
        MemberKey::CardId => &["cardid", "cardnumber", "cardno"],
        // `id` only where the record does not say it more plainly.
        MemberKey::DatabaseId => &["databaseid"],
        MemberKey::Email => &["email", "emailaddress"],
    }
}

/// Compares the named kind of id. The innermost object that carries the kind decides: an outer `id`
/// may be the envelope's. A record that shows the value under another kind alone was found by that
/// one: it is somebody else's, also where it says nothing of the kind that was named.
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

/// The values under one of the names; `None` where there is none that can be compared.
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
