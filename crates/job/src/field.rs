//! The leaves of a message: identifiers, addresses, proofs, times, names and ids.
//!
//! The rule it keeps: each has one form and one limit. An error names these instead of the value.

use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::cursor::{Forms, Invalid, Object};
use super::identifier::{self, Flaw};

/// The longest token or password in bytes.
pub(super) const MAX_PROOF: usize = 8 * 1024;

/// Takes a required field.
pub(super) fn need<T>(value: Option<T>, object: &Object<'_>, name: &str) -> Result<T, Invalid> {
    value.ok_or_else(|| object.missing(name))
}

/// An identifier that a person can have.
pub(super) fn identifier(object: &mut Object<'_>, name: &'static str) -> Result<Option<SecretString>, Invalid> {
    whose(object, name, identifier::flaw)
}

/// One e-mail address that a person can have.
pub(super) fn email(object: &mut Object<'_>, name: &'static str) -> Result<Option<SecretString>, Invalid> {
    whose(object, name, identifier::email_flaw)
}

/// A customer's number: 1 to 20 digits, not all of them 0.
pub(super) fn customer_id(object: &mut Object<'_>, name: &'static str) -> Result<Option<SecretString>, Invalid> {
    let Some(number) = whose(object, name, identifier::flaw)? else { return Ok(None) };
    if object.forms() == Forms::Todays && !is_customer_id(number.expose_secret()) {
        return Err(Invalid::at(object.path_of(name), "expected a string of 1 to 20 digits, not all of them 0"));
    }
    Ok(Some(number))
}

/// True for a customer's number: 0 means that there is none.
pub(super) fn is_customer_id(digits: &str) -> bool {
    let is_number = digits.len() <= 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number && digits.bytes().any(|byte| byte != b'0')
}

/// Checks an identifier at a path. Its form may be that of any release.
pub(super) fn checked(text: &str, path: &str, forms: Forms, flaw: fn(&str) -> Option<Flaw>) -> Result<(), Invalid> {
    match flaw(text) {
        Some(flaw) if forms == Forms::Todays || flaw == Flaw::Length => Err(Invalid::at(path, flaw.as_str())),
        _ => Ok(()),
    }
}

fn whose(
    object: &mut Object<'_>,
    name: &'static str,
    flaw: fn(&str) -> Option<Flaw>,
) -> Result<Option<SecretString>, Invalid> {
    let Some(text) = object.text(name)? else { return Ok(None) };
    checked(text, &object.path_of(name), object.forms(), flaw)?;
    Ok(Some(text.into()))
}

/// A proof or salt: 1 to `max` bytes.
pub(super) fn secret(object: &mut Object<'_>, name: &'static str, max: usize) -> Result<Option<SecretString>, Invalid> {
    let Some(text) = object.text(name)? else { return Ok(None) };
    if text.is_empty() || text.len() > max {
        return Err(Invalid::at(object.path_of(name), format!("expected 1 to {max} bytes of text")));
    }
    Ok(Some(text.into()))
}

/// A token that goes into a header: visible ASCII only.
pub(super) fn token(object: &mut Object<'_>, name: &'static str) -> Result<Option<SecretString>, Invalid> {
    let Some(text) = object.text(name)? else { return Ok(None) };
    if text.is_empty() || text.len() > MAX_PROOF || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let expected = format!("expected 1 to {MAX_PROOF} visible ASCII characters");
        return Err(Invalid::at(object.path_of(name), expected));
    }
    Ok(Some(text.into()))
}

/// A moment.
pub(super) fn time(object: &mut Object<'_>, name: &'static str) -> Result<Option<Timestamp>, Invalid> {
    Ok(time_and_offset(object, name)?.map(|(time, _)| time))
}

/// A moment, and the offset that it is written with.
pub(super) fn time_and_offset(
    object: &mut Object<'_>,
    name: &'static str,
) -> Result<Option<(Timestamp, Offset)>, Invalid> {
    let Some(text) = object.text(name)? else { return Ok(None) };
    let loosely = || text.parse::<Timestamp>().ok().zip(Pieces::parse(text).ok()?.to_numeric_offset());
    let time = rfc3339(text).or_else(|| if object.forms() == Forms::AnyReleases { loosely() } else { None });
    time.map(Some).ok_or_else(|| {
        Invalid::at(object.path_of(name), "expected an RFC 3339 time with an offset, such as 2026-11-22T10:00:00Z")
    })
}

/// Digits of a fraction that are kept: a nanosecond's.
const FRACTION: usize = 9;

/// A time by RFC 3339, and its offset. The library also reads forms, offsets and seconds that RFC 3339 does not
/// know, and that other readers may read otherwise or not at all.
fn rfc3339(text: &str) -> Option<(Timestamp, Offset)> {
    // `t` and `z` may be small; nothing else in a time is a letter.
    let text = text.to_ascii_uppercase();
    let of_form = |text: &str, form: &str| {
        let fits = |(byte, form): (u8, u8)| if form == b'0' { byte.is_ascii_digit() } else { byte == form };
        text.len() == form.len() && text.bytes().zip(form.bytes()).all(fits)
    };
    let (head, rest) = text.split_at_checked(19)?;
    let digits = rest.strip_prefix('.').map_or(0, |rest| 1 + rest.bytes().take_while(u8::is_ascii_digit).count());
    let (fraction, offset) = rest.split_at(digits);
    let has_hours_and_minutes = of_form(offset, "+00:00") || of_form(offset, "-00:00");
    let offset_fits = offset == "Z" || (has_hours_and_minutes && &offset[1..3] <= "23" && &offset[4..] <= "59");
    if !of_form(head, "0000-00-00T00:00:00") || fraction == "." || !offset_fits {
        return None;
    }
    let fraction = fraction.get(..=FRACTION).unwrap_or(fraction);
    let is_leap_second = head.ends_with(":60");
    let text = match head.strip_suffix("60") {
        Some(head) if is_leap_second => format!("{head}59.999999999{offset}"),
        _ => format!("{head}{fraction}{offset}"),
    };
    let time: Timestamp = text.parse().ok()?;
    if is_leap_second && !ends_a_half_year(time) {
        return None;
    }
    Some((time, Pieces::parse(&text).ok()?.to_numeric_offset()?))
}

/// True within the last second of June or of December, in UTC: where a leap second may follow.
fn ends_a_half_year(time: Timestamp) -> bool {
    let next = time.checked_add(jiff::SignedDuration::from_secs(1)).map(|next| Offset::UTC.to_datetime(next));
    next.is_ok_and(|next| {
        matches!(next.month(), 1 | 7) && next.day() == 1 && next.hour() == 0 && next.minute() == 0 && next.second() == 0
    })
}

/// A tenant's or regulation's name.
pub(super) fn name<'a>(object: &mut Object<'a>, name: &'static str) -> Result<Option<&'a str>, Invalid> {
    match object.text(name)? {
        Some(text) if !is_name(text) => {
            Err(Invalid::at(object.path_of(name), "expected a name of the form [a-z0-9][a-z0-9_-]{0,62}"))
        }
        other => Ok(other),
    }
}

/// True for `[a-z0-9][a-z0-9_-]{0,62}`.
pub fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 63
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|byte| plain(byte) || byte == b'_' || byte == b'-')
}

/// A UUID that an AMQP property carries: RabbitMQ writes a `message-id` of AMQP 1.0's own type as a URN.
pub(super) fn uuid_of_property(text: &str) -> Option<Uuid> {
    uuid(text.strip_prefix("urn:uuid:").unwrap_or(text), "message_id").ok()
}

/// A UUID in its hyphenated form, in either case.
pub(super) fn uuid(text: &str, path: &str) -> Result<Uuid, Invalid> {
    let hyphenated = text.len() == 36;
    Uuid::try_parse(text)
        .ok()
        .filter(|_| hyphenated)
        .ok_or_else(|| Invalid::at(path, "expected a UUID of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"))
}
