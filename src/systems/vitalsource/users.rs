//! A VitalSource user: reads and compares it, overwrites its identifiers, and reads them back.
//!
//! The rule it keeps: a user is addressed by its GUID, which is never overwritten. It counts as overwritten only if
//! every new value reads back.

use secrecy::{ExposeSecret, SecretString};

use super::super::Facts;
use super::super::compare::same_email;
use super::super::evidence::NotFound;
use super::super::http::{Effect, Request};
use super::interface::{self, Parsed};
use super::xml::{Element, user_document};
use super::{Account, VitalSource, key_refused, not_a_step};
use crate::job::{Answer, Failure, FailureKind, Field, Identity, Note, Reason};

/// The new value of a field, made from bytes that depend on key, user and field only:
///
/// | field | form |
/// |---|---|
/// | names, affiliate | 16 letters |
/// | e-mail | 16 letters `@` the domain, as the vendor asks (`ABCD@EFGH.COM`) |
/// | reference | 24 letters and digits |
pub fn replacement_value(field: Field, bytes: &[u8; 32], domain: &str) -> String {
    let pick = |alphabet: &[u8], length: usize| -> String {
        bytes.iter().take(length).map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect()
    };
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const ALPHANUMERICS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    match field {
        Field::FirstName | Field::LastName | Field::Affiliate => pick(LETTERS, 16),
        Field::Email => format!("{}@{domain}", pick(LETTERS, 16)),
        Field::Reference => pick(ALPHANUMERICS, 24),
    }
}

const fn element_name(field: Field) -> &'static str {
    match field {
        Field::FirstName => "first-name",
        Field::LastName => "last-name",
        Field::Affiliate => "affiliate",
        Field::Email => "email",
        Field::Reference => "reference",
    }
}

/// A `<user>` with at least one identifier, each a plain text.
pub(super) struct User(Element);

impl User {
    fn read(root: Element) -> Option<User> {
        let user = User(root);
        let named = user.guid().is_some() || Field::ALL.iter().any(|field| user.field(*field).is_some());
        let is_plain = |name: &str| user.0.all(name).count() <= 1 && user.0.child(name).is_none_or(Element::is_leaf);
        let plain = is_plain("guid") && Field::ALL.iter().all(|field| is_plain(element_name(*field)));
        (user.0.name() == "user" && user.0.text().is_empty() && named && plain).then_some(user)
    }

    /// True if the reply shows that nothing is stored: the element is present and empty. An absent element shows
    /// nothing, so its field is overwritten as well.
    fn is_empty(&self, field: Field) -> bool {
        self.0.value(element_name(field)).is_some_and(str::is_empty)
    }

    pub(super) fn guid(&self) -> Option<&str> {
        self.0.value("guid").filter(|guid| !guid.is_empty())
    }

    pub(super) fn field(&self, field: Field) -> Option<&str> {
        self.0.value(element_name(field)).filter(|value| !value.is_empty())
    }
}

pub(super) enum Lookup {
    Found(User),
    Missing(NotFound),
}

impl VitalSource {
    /// `GET v3/users.xml/{guid|reference}`: 200 with `<user>`, 404, or an error on HTTP 200.
    pub(super) async fn user(&self, key: &SecretString) -> Result<Lookup, Failure> {
        let request = Request::get(self.base.join("/v3/users.xml/{id}", &[key.expose_secret()])?);
        let reply = self.http.send(self.with_key(request), Effect::Read).await?;
        let unreadable = || reply.unreadable(Effect::Read);
        match interface::parse(&reply) {
            Some(Parsed::Document(root)) => {
                let user = User::read(root).ok_or_else(unreadable)?;
                if user.guid().is_some() {
                    self.credential.prove();
                }
                Ok(Lookup::Found(user))
            }
            Some(Parsed::Error(error)) => match (error.no_user(), reply.status()) {
                (Some(not_found), _) => Ok(Lookup::Missing(not_found)),
                _ if error.refuses_key() => Err(key_refused()),
                (None, 200 | 404 | 422) => Err(unreadable()),
                (None, _) => Err(reply.failure(Effect::Read)),
            },
            Some(Parsed::Empty) => Err(unreadable()),
            None => Err(reply.not_from_interface(Effect::Read)),
        }
    }

    pub(super) async fn resolve(&self, account: &Account<'_>, facts: &Facts) -> Result<Answer, Failure> {
        let (user, identity) = match (account.guid, account.reference) {
            (Some(guid), None) => match self.user(guid).await? {
                Lookup::Missing(not_found) => return Ok(self.credential.absence(not_found)),
                Lookup::Found(user) => {
                    let identity = same_guid(&user, guid);
                    (user, identity)
                }
            },
            (None, Some(reference)) => match self.user(reference).await? {
                Lookup::Missing(not_found) => match self.renamed(facts).await? {
                    Some(user) => (user, Identity::Same),
                    None => return Ok(self.credential.absence(not_found)),
                },
                Lookup::Found(user) => {
                    let identity = same_reference(&user, reference);
                    (user, identity)
                }
            },
            (Some(guid), Some(reference)) => match (self.user(guid).await?, self.user(reference).await?) {
                (Lookup::Missing(not_found), Lookup::Missing(_)) => return Ok(self.credential.absence(not_found)),
                (Lookup::Missing(_), Lookup::Found(user)) => (user, Identity::Other),
                (Lookup::Found(user), Lookup::Missing(_)) => {
                    let identity = match (same_guid(&user, guid), user.field(Field::Reference)) {
                        (Identity::Other, _) => Identity::Other,
                        (_, None) => Identity::Unreadable,
                        // We overwrote it, so the old reference no longer finds the user.
                        (same, Some(shown)) if self.is_replacement(facts, Field::Reference, shown) => same,
                        (_, Some(_)) => Identity::Other,
                    };
                    (user, identity)
                }
                (Lookup::Found(user), Lookup::Found(other)) => {
                    let one_user = match (user.guid(), other.guid()) {
                        (Some(left), Some(right)) if left.eq_ignore_ascii_case(right) => Identity::Same,
                        (Some(_), Some(_)) => Identity::Other,
                        _ => Identity::Unreadable,
                    };
                    let by_reference = match same_reference(&other, reference) {
                        Identity::Other => Identity::Other,
                        _ => one_user,
                    };
                    let identity = worse_of(worse_of(same_guid(&user, guid), one_user), by_reference);
                    (user, identity)
                }
            },
            (None, None) => return Err(not_a_step()),
        };
        let guid = match (user.guid(), account.guid) {
            (Some(guid), _) => guid.to_owned(),
            (None, Some(guid)) => guid.expose_secret().to_owned(),
            (None, None) => {
                return Err(
                    Failure::new(FailureKind::Unreadable, Reason::UnreadableReply).with_note("a user without a GUID")
                );
            }
        };
        Ok(Answer::User {
            identity,
            guid,
            email: user.field(Field::Email).map(str::to_owned),
            fields: Field::ALL.into_iter().filter(|field| !user.is_empty(*field)).collect(),
        })
    }

    /// The user that this target found before, if we have overwritten the reference that found it.
    pub(super) async fn renamed(&self, facts: &Facts) -> Result<Option<User>, Failure> {
        let Some(guid) = &facts.guid else { return Ok(None) };
        let Lookup::Found(user) = self.user(guid).await? else { return Ok(None) };
        let is_ours = |reference| self.is_replacement(facts, Field::Reference, reference);
        let is_same_user =
            same_guid(&user, guid) == Identity::Same && user.field(Field::Reference).is_some_and(is_ours);
        Ok(is_same_user.then_some(user))
    }

    /// `PUT v3/users.xml/{guid}` with the elements to change: 200 with `<user>` or an empty body; 603 and 904 if the
    /// new reference is not accepted.
    pub(super) async fn overwrite(&self, account: &Account<'_>, facts: &Facts) -> Result<Answer, Failure> {
        let guid = address(account, facts)?;
        if facts.replacements.is_empty() {
            return Err(not_a_step());
        }
        let fields: Vec<(&str, String)> = facts
            .replacements
            .iter()
            .map(|(field, bytes)| (element_name(*field), replacement_value(*field, bytes, &self.email_domain)))
            .collect();
        let request = Request::put(self.base.join("/v3/users.xml/{id}", &[guid.expose_secret()])?)
            .body("text/xml", user_document(&fields));
        let reply = self.http.exchange(self.with_key(request), Effect::Change).await?;
        match interface::parse(&reply) {
            // Accepted. Only the read-back shows whether the new values are stored.
            Some(Parsed::Empty) => Ok(Answer::Done),
            Some(Parsed::Document(root)) if root.name() == "user" => Ok(Answer::Done),
            Some(Parsed::Document(_)) => Err(reply.unreadable(Effect::Change)),
            Some(Parsed::Error(error)) => match (error.code, reply.status()) {
                (_, 401 | 403) => Err(reply.failure(Effect::Change)),
                _ if error.refuses_key() => Err(key_refused()),
                (Some(code @ (603 | 904)), _) => Err(Failure::new(FailureKind::Rejected, Reason::RequestRejected)
                    .with_note(Note::from("error ").number(i64::from(code)))),
                _ if error.no_user().is_some() => Ok(Answer::Unclear(Reason::Unproven)),
                _ => Err(reply.unreadable(Effect::Change)),
            },
            None => Err(reply.not_from_interface(Effect::Change)),
        }
    }

    /// Whether the replacement values are stored, and no other identifier (except a reference that was not to be
    /// overwritten): a field may have been filled since the user was read.
    pub(super) async fn read_back(&self, account: &Account<'_>, facts: &Facts) -> Result<Answer, Failure> {
        let guid = address(account, facts)?;
        let user = match self.user(guid).await? {
            Lookup::Missing(not_found) => return Ok(self.credential.absence(not_found)),
            Lookup::Found(user) => user,
        };
        if same_guid(&user, guid) == Identity::Other {
            return Err(Failure::new(FailureKind::Unreadable, Reason::UnreadableReply).with_note("another user"));
        }
        let is_written = |field: &Field| facts.replacements.iter().any(|(written, _)| written == field);
        let identifiers = [Field::FirstName, Field::LastName, Field::Affiliate, Field::Email].into_iter();
        let is_personal =
            |field: Field| user.field(field).is_some_and(|shown| !self.is_replacement(facts, field, shown));
        let left: Vec<Field> = identifiers.filter(|field| !is_written(field) && is_personal(*field)).collect();
        if !left.is_empty() {
            return Ok(Answer::Left { fields: left });
        }
        let stand = facts.replacements.iter().all(|(field, _)| match user.field(*field) {
            Some(shown) => self.is_replacement(facts, *field, shown),
            // The vendor's page does not list the affiliate among the elements of a user that is read.
            None => *field == Field::Affiliate && !user.is_empty(*field),
        });
        Ok(Answer::Values { stand })
    }

    /// Whether a field's value is a replacement value of any job. Case is ignored: the values are random, and a system
    /// may change the case of names.
    pub(super) fn is_replacement(&self, facts: &Facts, field: Field, shown: &str) -> bool {
        let known = facts.own.iter().filter(|(of, _)| *of == field);
        known.map(|(_, bytes)| replacement_value(field, bytes, &self.email_domain)).any(|ours| same_email(shown, &ours))
    }
}

/// The GUID that the resolve found, else the target's.
fn address<'a>(account: &Account<'a>, facts: &'a Facts) -> Result<&'a SecretString, Failure> {
    facts.guid.as_ref().or(account.guid).ok_or_else(not_a_step)
}

pub(super) fn same_guid(user: &User, guid: &SecretString) -> Identity {
    match user.guid() {
        None => Identity::Unreadable,
        Some(shown) if shown.eq_ignore_ascii_case(guid.expose_secret().trim()) => Identity::Same,
        Some(_) => Identity::Other,
    }
}

fn same_reference(user: &User, reference: &SecretString) -> Identity {
    match user.field(Field::Reference) {
        None => Identity::Unreadable,
        Some(shown) if shown == reference.expose_secret().trim() => Identity::Same,
        Some(_) => Identity::Other,
    }
}

/// The worse verdict: another person is worse than an unreadable reply, and that is worse than a match.
fn worse_of(left: Identity, right: Identity) -> Identity {
    let weight = |identity: Identity| match identity {
        Identity::Same => 0,
        Identity::Blank => 1,
        Identity::Unreadable => 2,
        Identity::Other => 3,
    };
    if weight(left) >= weight(right) { left } else { right }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacement_values_have_the_form_of_their_field_and_depend_on_the_bytes_only() {
        let bytes: [u8; 32] = std::array::from_fn(|index| (index * 7) as u8);
        let value = |field| replacement_value(field, &bytes, "example.com");
        assert_eq!(value(Field::FirstName), "AHOVCJQXELSZGNUB");
        assert_eq!(value(Field::Email), "AHOVCJQXELSZGNUB@example.com");
        assert_eq!(value(Field::Reference).len(), 24);
        assert!(value(Field::Reference).bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()));
        assert_eq!(value(Field::Reference), value(Field::Reference));
        assert_ne!(value(Field::Reference), replacement_value(Field::Reference, &[1; 32], "example.com"));
    }
}
