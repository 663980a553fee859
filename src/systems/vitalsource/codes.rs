//! VitalSource codes: reads a code's owner and state, and revokes it.
//!
//! The rule it keeps: without a clear "cancelled" the code counts as active, until a read of the code shows otherwise.

use secrecy::ExposeSecret;

use super::super::Facts;
use super::super::compare::{email_identity, same_email};
use super::super::http::{Effect, Reply, Request};
use super::interface::{self, Deactivation, Parsed};
use super::xml::Element;
use super::{Account, VitalSource, key_refused};
use crate::job::{Answer, CodeState, Failure, FailureKind, Field, Identity, Reason};

impl VitalSource {
    /// `GET /v4/codes/{code}`: `<code>` with `redemption-details`, or with `deactivation-details` after a
    /// cancellation. `id` is the code; `user-name` and `user-email` are the user's. A code that was never redeemed has
    /// no user.
    pub(super) async fn read_code(&self, code: &str, account: &Account<'_>, facts: &Facts) -> Result<Answer, Failure> {
        let request = Request::get(self.base.join("/v4/codes/{code}", &[code])?);
        let reply = self.http.send(self.with_key(request), Effect::Read).await?;
        let unreadable = || reply.unreadable(Effect::Read);
        match interface::parse(&reply) {
            Some(Parsed::Document(root)) => {
                let id = root.value("id").filter(|id| !id.is_empty());
                let names_another = id.is_some_and(|id| !id.eq_ignore_ascii_case(code));
                if root.name() != "code" || !root.text().is_empty() || names_another {
                    return Err(unreadable());
                }
                let state = state(&root).ok_or_else(unreadable)?;
                if id.is_some() {
                    self.credential.prove();
                }
                Ok(Answer::Code { state, owner: self.owner(&root, account, facts) })
            }
            Some(Parsed::Error(error)) => match (error.no_code(), reply.status()) {
                (Some(not_found), _) => Ok(match self.credential.absence(not_found) {
                    Answer::Missing(_) => Answer::Code { state: CodeState::Unknown, owner: Identity::Unreadable },
                    unproven => unproven,
                }),
                _ if error.code == Some(401) => Err(key_refused()),
                (None, 403) => Err(no_permission()),
                (None, 200 | 404 | 422) => Err(unreadable()),
                (None, _) => Err(reply.failure(Effect::Read)),
            },
            Some(Parsed::Empty) => Err(unreadable()),
            None => Err(reply.not_from_interface(Effect::Read)),
        }
    }

    /// `DELETE /v4/codes/{code}`: 200 with an empty body; 469 (on an older page: 422) already cancelled; 404; and 1005
    /// to 1015 in the body, for which it is not documented whether the content was revoked.
    pub(super) async fn revoke_code(&self, code: &str) -> Result<Answer, Failure> {
        let request = Request::delete(self.base.join("/v4/codes/{code}", &[code])?);
        let reply = self.http.exchange(self.with_key(request), Effect::Change).await?;
        let parsed = interface::parse(&reply);
        // None of these is evidence: only the read of the code is, and it always follows.
        match (&parsed, reply.status()) {
            (_, 469) => Ok(Answer::AlreadyDone),
            (Some(Parsed::Error(error)), 200 | 400..500) if error.says_cancelled() => Ok(Answer::AlreadyDone),
            (None, 422) if says_already_cancelled(&reply) => Ok(Answer::AlreadyDone),
            (Some(Parsed::Error(error)), _) if error.code == Some(401) => Err(key_refused()),
            (Some(Parsed::Error(_)), 401 | 408) => Err(reply.failure(Effect::Change)),
            (Some(Parsed::Error(_)), 403) => Err(no_permission()),
            (Some(Parsed::Error(_)), _) => Ok(Answer::Unclear(Reason::CodeNotRevoked)),
            (Some(Parsed::Empty), _) => Ok(Answer::Done),
            (Some(Parsed::Document(root)), _) if root.name() == "code" && state(root) == Some(CodeState::Cancelled) => {
                Ok(Answer::Done)
            }
            (Some(Parsed::Document(_)), _) => Ok(Answer::Unclear(Reason::CodeNotRevoked)),
            (None, _) => Err(reply.not_from_interface(Effect::Change)),
        }
    }

    /// Compares by GUID if the reply has one, else by e-mail (the user's, or a replacement value of ours). A user name
    /// can be any text: an equal name confirms, a different name decides nothing.
    fn owner(&self, code: &Element, account: &Account<'_>, facts: &Facts) -> Identity {
        let shown = |name: &str| code.value_within(name).filter(|value| !value.is_empty());
        let guid = facts.guid.as_ref().or(account.guid).map(ExposeSecret::expose_secret);
        if let (Some(shown), Some(guid)) = (shown("user-guid").or_else(|| shown("guid")), guid) {
            return if shown.eq_ignore_ascii_case(guid) { Identity::Same } else { Identity::Other };
        }
        let email = facts.user_email.as_ref().map(ExposeSecret::expose_secret);
        if let (Some(shown), Some(email)) = (shown("user-email"), email) {
            let is_ours = self.is_replacement(facts, Field::Email, shown);
            return if is_ours { Identity::Same } else { email_identity(shown, email) };
        }
        let reference = account.reference.map(ExposeSecret::expose_secret);
        match shown("user-name") {
            Some(name) if [guid, email, reference].into_iter().flatten().any(|known| same_email(name, known)) => {
                Identity::Same
            }
            _ => Identity::Unreadable,
        }
    }
}

/// The failure is the code's, not the system's: a key may lack the permission for one code that another key created.
/// Otherwise one wrong code in one job would hold the system for all jobs. A key without the permission for any code
/// fails each job.
fn no_permission() -> Failure {
    Failure::new(FailureKind::Refused, Reason::CodeNotRevoked).with_note("HTTP 403: the key may not use this code")
}

fn says_already_cancelled(reply: &Reply) -> bool {
    let text = String::from_utf8_lossy(reply.body()).to_ascii_lowercase();
    text.contains("already been cancel") || text.contains("already cancel")
}

/// `None` if the text of the code's deactivation is not understood.
fn state(code: &Element) -> Option<CodeState> {
    match code.child("deactivation-details").map(interface::deactivated) {
        Some(Deactivation::Done) => Some(CodeState::Cancelled),
        Some(Deactivation::NotDone) | None => Some(CodeState::Active),
        Some(Deactivation::Unknown) => None,
    }
}
