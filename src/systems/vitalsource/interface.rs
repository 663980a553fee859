//! Recognises VitalSource's own replies: v3 and v4, in XML.
//!
//! The rule it keeps: an error has the interface's own form, on any status. An element's text is evidence, its
//! presence is not. A reply of an unknown form is not VitalSource's.

use super::super::evidence::NotFound;
use super::super::http::Reply;
use super::xml::Element;

/// A reply of the interface.
pub(super) enum Parsed {
    /// HTTP 200 with a document that is not an error.
    Document(Element),
    /// HTTP 200 with an empty body, as documented for a revoke. It is never evidence: a gateway can send it as well.
    Empty,
    /// An error.
    Error(ApiError),
}

/// The only place that recognises the interface's own replies.
pub(super) fn parse(reply: &Reply) -> Option<Parsed> {
    let root = Element::parse(reply.body());
    match (reply.status(), root) {
        (200, None) if reply.is_blank() => Some(Parsed::Empty),
        (200 | 400.., Some(root)) if is_error(&root) => ApiError::read(&root, reply.status()).map(Parsed::Error),
        (200, Some(root)) => Some(Parsed::Document(root)),
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
pub(super) struct ApiError {
    pub(super) code: Option<u32>,
    text: String,
    /// The documented form on a documented status, without unknown parts.
    is_whole: bool,
}

impl ApiError {
    /// `None` if there is neither a code nor a text.
    fn read(root: &Element, status: u16) -> Option<ApiError> {
        let error = root.child("error-response").or_else(|| root.child("error")).unwrap_or(root);
        let own = |name: &str| (error.name() == name).then(|| error.text());
        let code =
            own("error-code").or_else(|| error.value_within("error-code")).or_else(|| error.value_within("code"));
        let text =
            own("error-text").or_else(|| error.value_within("error-text")).or_else(|| error.value_within("message"));
        let read = ApiError {
            code: code.and_then(|code| code.parse().ok()),
            text: text.unwrap_or_default().trim_end_matches('.').to_ascii_lowercase(),
            is_whole: matches!(status, 200 | 404)
                && root.name() == "error-response"
                && root.holds_only(&["error-code", "error-text"])
                && root.children().iter().all(|child| child.attributes().next().is_none()),
        };
        (read.code.is_some() || !read.text.is_empty()).then_some(read)
    }

    /// The interface's report that there is no such user.
    pub(super) fn no_user(&self) -> Option<NotFound> {
        let says =
            matches!(self.text.as_str(), "not found" | "user not found" | "user does not exist" | "unknown user");
        (self.is_whole && matches!(self.code, Some(404 | 604)) && says).then_some(NotFound::reported())
    }

    /// The interface's report that there is no such code.
    pub(super) fn no_code(&self) -> Option<NotFound> {
        (self.is_whole && self.code.is_some() && self.text == "invalid code").then_some(NotFound::reported())
    }

    /// True if our key is refused, on any status.
    pub(super) fn refuses_key(&self) -> bool {
        matches!(self.code, Some(401 | 403)) || self.text.contains("api key")
    }

    /// True if the code was cancelled before.
    pub(super) fn says_cancelled(&self) -> bool {
        self.code == Some(469) || self.text.contains("already been cancel") || self.text.contains("already cancel")
    }
}

/// The meaning of `deactivation-details`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deactivation {
    /// Deactivated: the text has a word for it, or a date.
    Done,
    /// Not deactivated: there is no text, or the text denies it.
    NotDone,
    /// Neither.
    Unknown,
}

/// Reads all texts of `deactivation-details`. A text may also deny: the vendor writes "Not Redeemed" into
/// `redemption-details`.
pub(super) fn deactivated(details: &Element) -> Deactivation {
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
        return Deactivation::NotDone;
    }
    let has_date = text
        .split_whitespace()
        .any(|part| part.get(..10).is_some_and(|date| date.replace('/', "-").parse::<jiff::civil::Date>().is_ok()));
    if has_date || words.iter().any(|word| SAYS.contains(word)) { Deactivation::Done } else { Deactivation::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_cancelled_only_by_a_text_with_a_word_for_it_and_no_denial() {
        for (text, expected) in [
            ("Deactivated by the requester", Deactivation::Done),
            ("<date>2026-11-15T10:00:00Z</date>", Deactivation::Done),
            ("Canceled on 2026/11/15", Deactivation::Done),
            ("<reason>refund</reason>", Deactivation::Done),
            ("", Deactivation::NotDone),
            ("Not Deactivated", Deactivation::NotDone),
            ("not yet cancelled", Deactivation::NotDone),
            ("No cancellation", Deactivation::NotDone),
            ("Deactivation pending", Deactivation::NotDone),
            ("<deactivated>false</deactivated>", Deactivation::NotDone),
            ("N/A", Deactivation::NotDone),
            ("x", Deactivation::Unknown),
            ("Service is busy, try again later", Deactivation::Unknown),
        ] {
            let document = format!("<deactivation-details>{text}</deactivation-details>");
            let details = Element::parse(document.as_bytes()).expect("document");
            assert_eq!(deactivated(&details), expected, "{text}");
        }
    }
}
