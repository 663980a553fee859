//! Counts the unexpired licences of a VitalSource user.
//!
//! The rule it keeps: a licence counts as expired only if its date was read and has passed.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use super::super::Facts;
use super::super::http::{Effect, Request};
use super::interface::{self, Parsed};
use super::users::{Lookup, User};
use super::xml::{Element, credentials_document};
use super::{Account, VitalSource, key_refused};
use crate::job::{Answer, Failure, FailureKind, Field, Reason};

impl VitalSource {
    /// `POST v3/credentials.xml` for an access token, then `GET v3/licenses.xml` with it. The interface gives a token
    /// by reference only. If the job names no reference, it is read from the user. A user without a reference cannot be
    /// checked.
    pub(super) async fn check_licenses(&self, account: &Account<'_>, facts: &Facts) -> Result<Answer, Failure> {
        let token = match account.reference {
            None => self.access_token(&self.reference_of(account, facts).await?, account, facts).await?,
            Some(reference) => match self.access_token(reference, account, facts).await? {
                Some(token) => Some(token),
                // If we have overwritten the reference, the new reference finds the user.
                None => match self.renamed(facts).await? {
                    Some(user) => self.access_token(&reference_in(&user)?, account, facts).await?,
                    None => None,
                },
            },
        };
        let unknown = || Failure::new(FailureKind::Unreadable, Reason::UnreadableReply).with_note("no such reference");
        let token = token.ok_or_else(unknown)?;
        let request = Request::get(self.base.join("/v3/licenses.xml", &[])?);
        let request = self.with_key(request).secret_header("X-VitalSource-Access-Token", &token).long_reply();
        let reply = self.http.send(request, Effect::Read).await?;
        let unreadable = || reply.unreadable(Effect::Read);
        match (interface::parse(&reply), reply.status()) {
            (Some(Parsed::Document(root)), _) => {
                let unexpired = count_unexpired(&root, crate::clock::now()).ok_or_else(unreadable)?;
                Ok(Answer::Licenses { unexpired })
            }
            (Some(Parsed::Empty), _) | (Some(Parsed::Error(_)), 200 | 404 | 422) => Err(unreadable()),
            (Some(Parsed::Error(_)), _) => Err(reply.failure(Effect::Read)),
            (None, _) => Err(reply.not_from_interface(Effect::Read)),
        }
    }

    async fn reference_of(&self, account: &Account<'_>, facts: &Facts) -> Result<SecretString, Failure> {
        let guid = facts.guid.as_ref().or(account.guid).ok_or_else(super::not_a_step)?;
        match self.user(guid).await? {
            Lookup::Found(user) => reference_in(&user),
            Lookup::Missing(_) => Err(uncheckable("the user is not found: its licences cannot be listed")),
        }
    }

    /// 200 with `<credentials><credential access-token guid reference/></credentials>`, or with `<error>` in its place;
    /// `None` if no user has the reference (603).
    async fn access_token(
        &self,
        reference: &SecretString,
        account: &Account<'_>,
        facts: &Facts,
    ) -> Result<Option<SecretString>, Failure> {
        let request = Request::post(self.base.join("/v3/credentials.xml", &[])?)
            .body("text/xml", credentials_document(reference.expose_secret()));
        let reply = self.http.send(self.with_key(request), Effect::Read).await?;
        let unreadable = || reply.unreadable(Effect::Read);
        let root = match (interface::parse(&reply), reply.status()) {
            (Some(Parsed::Document(root)), _) => root,
            (Some(Parsed::Error(error)), _) if error.refuses_key() => return Err(key_refused()),
            (Some(Parsed::Error(error)), 200 | 404 | 422) if error.code == Some(603) => return Ok(None),
            (Some(Parsed::Empty), _) | (Some(Parsed::Error(_)), 200 | 404 | 422) => return Err(unreadable()),
            (Some(Parsed::Error(_)), _) => return Err(reply.failure(Effect::Read)),
            (None, _) => return Err(reply.not_from_interface(Effect::Read)),
        };
        if root.name() != "credentials" || !root.holds_only(&["credential"]) {
            return Err(unreadable());
        }
        let credential = root.child("credential").ok_or_else(unreadable)?;
        let guid = facts.guid.as_ref().or(account.guid).map(ExposeSecret::expose_secret);
        let shown = |name: &str| credential.value(name).filter(|value| !value.is_empty());
        match (shown("guid"), guid) {
            (Some(shown), Some(guid)) if !shown.eq_ignore_ascii_case(guid) => {
                return Err(Failure::new(FailureKind::Refused, Reason::IdentityMismatch));
            }
            // A token without a GUID or reference may be another user's.
            (Some(_), Some(_)) => {}
            _ if shown("reference") == Some(reference.expose_secret().trim()) => {}
            _ => return Err(unreadable()),
        }
        let token = credential.value("access-token").filter(|token| !token.is_empty()).ok_or_else(unreadable)?;
        Ok(Some(token.to_owned().into()))
    }
}

fn uncheckable(note: &'static str) -> Failure {
    Failure::new(FailureKind::Refused, Reason::Unproven).with_note(note)
}

fn reference_in(user: &User) -> Result<SecretString, Failure> {
    let reference = user.field(Field::Reference).map(|reference| reference.to_owned().into());
    reference.ok_or_else(|| uncheckable("a user without a reference: its licences cannot be listed"))
}

/// The number of unexpired `<licenses>`; `None` if a part is not understood: a text, an unknown element, a page, an
/// expiration, or a total that is not the number of rows. A total of products may be lower, but not 0 if there are
/// rows.
fn count_unexpired(licenses: &Element, now: Timestamp) -> Option<u32> {
    if licenses.name() != "licenses" || !licenses.text().is_empty() {
        return None;
    }
    let rows = licenses.all("license").count();
    let agrees = |(name, value): (&str, &str)| match name {
        "total-products" => value.parse() == Ok(rows) || (1..rows).contains(&value.parse().unwrap_or(0)),
        "type" => value == "array",
        "nil" => false,
        _ => super::super::form::is_total(name) && value.parse() == Ok(rows),
    };
    let is_summary = |child: &Element| {
        child.name() == "summary" && child.is_leaf() && child.text().is_empty() && child.attributes().all(agrees)
    };
    let is_row = |child: &Element| {
        child.name() == "license" && child.text().is_empty() && child.children().iter().all(Element::is_leaf)
    };
    if !licenses.attributes().all(agrees) || !licenses.children().iter().all(|child| is_row(child) || is_summary(child))
    {
        return None;
    }
    let mut unexpired = 0;
    for license in licenses.all("license") {
        if !has_expired(license.value("expiration").unwrap_or_default(), now)? {
            unexpired += 1;
        }
    }
    Some(unexpired)
}

/// Reads `never`, an empty text, an RFC 2822 date (the vendor's form), RFC 3339, or a date with or without a time, in
/// UTC. A date without a time lasts to the end of that day.
fn has_expired(expiration: &str, now: Timestamp) -> Option<bool> {
    let text = expiration.trim();
    if text.is_empty() || ["never", "perpetual", "none", "unlimited"].iter().any(|word| text.eq_ignore_ascii_case(word))
    {
        return Some(false);
    }
    if let Ok(at) = jiff::fmt::rfc2822::parse(text) {
        return Some(at.timestamp() <= now);
    }
    let text = text.replace('/', "-").replace(" UTC", "Z").replace(" GMT", "Z").replace(" +", "+").replace(" -", "-");
    let at = match text.parse::<Timestamp>() {
        Ok(at) => at,
        // A civil time can be later than the latest timestamp: a licence until the end of 9999 is valid.
        Err(_) => {
            let civil = text.trim_end_matches('Z').parse::<DateTime>().ok()?;
            if civil.year() >= 9000 {
                return Some(false);
            }
            let end = if text.len() <= 10 { civil.checked_add(Span::new().days(1)).ok()? } else { civil };
            end.to_zoned(TimeZone::UTC).ok()?.timestamp()
        }
    };
    Some(at <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiration_counts_as_passed_only_if_it_was_read_and_has_passed() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().expect("now");
        let cases = [
            ("never", Some(false)),
            ("Never", Some(false)),
            ("", Some(false)),
            ("Thu, 10 Mar 2016 22:14:54 GMT", Some(true)),
            ("Wed, 10 Mar 2027 22:14:54 GMT", Some(false)),
            ("2026-11-22T09:59:59Z", Some(true)),
            ("2026-11-22T10:00:01+00:00", Some(false)),
            ("2026-11-22 09:00:00 UTC", Some(true)),
            ("2026-11-22 09:00:00 -0500", Some(false)),
            ("2026-11-22 09:00:00", Some(true)),
            ("2026/11/23", Some(false)),
            ("2026-11-22", Some(false)),
            ("2026-11-21", Some(true)),
            ("9999-12-31T23:59:59Z", Some(false)),
            ("9999-12-31", Some(false)),
            ("soon", None),
            ("20271231", Some(false)),
            ("31.12.2020", None),
            ("1479815694", None),
        ];
        for (text, expected) in cases {
            assert_eq!(has_expired(text, now), expected, "{text}");
        }
    }
}
