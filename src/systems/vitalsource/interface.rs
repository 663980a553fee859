//! Whether it is VitalSource itself that speaks: v3 and v4, in XML.
//!
//! The rule it keeps: an error is told in the interface's own form, on any status; an element's presence is no
//! evidence, its text is; and what is in no known form was said by something else.

use super::super::evidence::Gone;
use super::super::http::Reply;
use super::xml::Element;

/// What the interface says.
pub(super) enum Spoken {
    /// HTTP 200 with a document that is no error.
    Document(Element),
    /// HTTP 200 with nothing, as documented of a revoke. Anything that stands before the system can say that as
    /// well: it is never evidence.
    Nothing,
    /// An error.
    Told(Told),
}

/// The one place that knows whether it is the interface that speaks.
pub(super) fn spoken(reply: &Reply) -> Option<Spoken> {
    let root = Element::parse(reply.body());
    match (reply.status(), root) {
        (200, None) if reply.is_blank() => Some(Spoken::Nothing),
        (200 | 400.., Some(root)) if is_error(&root) => Told::read(&root, reply.status()).map(Spoken::Told),
        (200, Some(root)) => Some(Spoken::Document(root)),
        _ => None,
    }
}

fn is_error(root: &Element) -> bool {
    matches!(root.name(), "error-response" | "errors" | "error" | "error-code" | "error-text")
        || root.child("error-response").is_some()
        || root.child("error").is_some()
}

/// `<error-response><error-code>…</error-code><error-text>…</error-text></error-response>`, or
/// `<credentials><error code="…" message="…"/></credentials>`, or on older pages `<error-text>` alone.
pub(super) struct Told {
    pub(super) code: Option<u32>,
    text: String,
    /// The documented form on a documented status, and nothing in it that is not understood.
    is_whole: bool,
}

impl Told {
    /// `None` where neither code nor text says anything.
    fn read(root: &Element, status: u16) -> Option<Told> {
        let error = root.child("error-response").or_else(|| root.child("error")).unwrap_or(root);
        let own = |name: &str| (error.name() == name).then(|| error.text());
        let code =
            own("error-code").or_else(|| error.value_within("error-code")).or_else(|| error.value_within("code"));
        let text =
            own("error-text").or_else(|| error.value_within("error-text")).or_else(|| error.value_within("message"));
        let told = Told {
            code: code.and_then(|code| code.parse().ok()),
            text: text.unwrap_or_default().trim_end_matches('.').to_ascii_lowercase(),
            is_whole: matches!(status, 200 | 404)
                && root.name() == "error-response"
                && root.holds_only(&["error-code", "error-text"])
                && root.children().iter().all(|child| child.attributes().next().is_none()),
        };
        (told.code.is_some() || !told.text.is_empty()).then_some(told)
    }

    /// The interface's word that there is no such user.
    pub(super) fn no_user(&self) -> Option<Gone> {
        let says =
            matches!(self.text.as_str(), "not found" | "user not found" | "user does not exist" | "unknown user");
        (self.is_whole && matches!(self.code, Some(404 | 604)) && says).then_some(Gone::told())
    }

    /// The interface's word that there is no such code.
    pub(super) fn no_code(&self) -> Option<Gone> {
        (self.is_whole && self.code.is_some() && self.text == "invalid code").then_some(Gone::told())
    }

    /// Our key is refused, told on any status.
    pub(super) fn refuses_key(&self) -> bool {
        matches!(self.code, Some(401 | 403)) || self.text.contains("api key")
    }

    /// The code was cancelled before.
    pub(super) fn says_cancelled(&self) -> bool {
        self.code == Some(469) || self.text.contains("already been cancel") || self.text.contains("already cancel")
    }
}

/// What a text says of a thing having been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// It was done: a word for it, or a date.
    Done,
    /// It was not: there is no text, or one that denies it.
    NotDone,
    /// Neither.
    Unknown,
}

/// What `deactivation-details` says: all the text within it. The vendor writes "Not Redeemed" into the element
/// beside it, so a text may as well deny.
pub(super) fn deactivated(details: &Element) -> Says {
    const DENIES: [&str; 12] =
        ["not", "no", "non", "none", "never", "false", "pending", "scheduled", "requested", "failed", "active", "n"];
    const SAYS: [&str; 10] = [
        "deactivated",
        "cancelled",
        "canceled",
        "revoked",
        "returned",
        "refunded",
        "deactivation",
        "cancellation",
        "return",
        "refund",
    ];
    let text = details.texts_within().join(" ").to_lowercase();
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    if words.is_empty() || words.iter().any(|word| DENIES.contains(word)) {
        return Says::NotDone;
    }
    let has_date = text
        .split_whitespace()
        .any(|part| part.get(..10).is_some_and(|date| date.replace('/', "-").parse::<jiff::civil::Date>().is_ok()));
    if has_date || words.iter().any(|word| SAYS.contains(word)) { Says::Done } else { Says::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_text_that_says_so_and_denies_nothing_says_that_a_code_is_cancelled() {
        for (text, expected) in [
            ("Deactivated by the requester", Says::Done),
            ("<date>2026-11-15T10:00:00Z</date>", Says::Done),
            ("Canceled on 2026/11/15", Says::Done),
            ("<reason>refund</reason>", Says::Done),
            ("", Says::NotDone),
            ("Not Deactivated", Says::NotDone),
            ("not yet cancelled", Says::NotDone),
            ("No cancellation", Says::NotDone),
            ("Deactivation pending", Says::NotDone),
            ("<deactivated>false</deactivated>", Says::NotDone),
            ("N/A", Says::NotDone),
            ("x", Says::Unknown),
            ("Service is busy, try again later", Says::Unknown),
        ] {
            let document = format!("<deactivation-details>{text}</deactivation-details>");
            let details = Element::parse(document.as_bytes()).expect("document");
            assert_eq!(deactivated(&details), expected, "{text}");
        }
    }
}
