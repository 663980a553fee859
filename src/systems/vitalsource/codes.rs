//! VitalSource codes: whose one is, whether it is cancelled, and revoking it.
//!
//! The rule it keeps: an answer that does not clearly say "cancelled" leaves the code active until
//! its own read says otherwise.

use secrecy::ExposeSecret;

use super::super::Facts;
use super::super::compare::{email_identity, same_email};
use super::super::http::{Effect, Reply, Request};
use super::interface::{self, Says, Spoken};
use super::xml::Element;
use super::{Account, VitalSource, key_refused};
use crate::job::{Answer, CodeState, Failure, FailureKind, Field, Identity, Reason};

impl VitalSource {
    /// `GET /v4/codes/{code}`: `<code>` with `redemption-details`, or with `deactivation-details`
    /// once cancelled; `id` is the code, `user-name` and `user-email` name the user. A code that
    /// was never redeemed names nobody.
    pub(super) async fn read_code(&self, code: &str, account: &Account<'_>, facts: &Facts) -> Result<Answer, Failure> {
        let request = Request::get(self.base.join("/v4/codes/{code}", &[code])?);
        let reply = self.http.send(self.with_key(request), Effect::Read).await?;
        let unreadable = || reply.unreadable(Effect::Read);
        match interface::spoken(&reply) {
            Some(Spoken::Document(root)) => {
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
            Some(Spoken::Told(told)) => match (told.no_code(), reply.status()) {
                (Some(gone), _) => Ok(match self.credential.absence(gone) {
                    Answer::Missing(_) => Answer::Code { state: CodeState::Unknown, owner: Identity::Unreadable },
                    unproven => unproven,
                }),
                _ if told.code == Some(401) => Err(key_refused()),
                (None, 403) => Err(no_permission()),
                (None, 200 | 404 | 422) => Err(unreadable()),
                (None, _) => Err(reply.failure(Effect::Read)),
            },
            Some(Spoken::Nothing) => Err(unreadable()),
            None => Err(reply.foreign(Effect::Read)),
        }
    }

    /// `DELETE /v4/codes/{code}`: 200 with nothing; 469 (an older page: 422) already cancelled;
    /// 404; and 1005 to 1015 in the body, of which it is not settled whether the content went.
    pub(super) async fn revoke_code(&self, code: &str) -> Result<Answer, Failure> {
        let request = Request::delete(self.base.join("/v4/codes/{code}", &[code])?);
        let reply = self.http.exchange(self.with_key(request), Effect::Change).await?;
        let spoken = interface::spoken(&reply);
        // None of these is evidence: the code's own read is, and it follows in any case.
        match (&spoken, reply.status()) {
            (_, 469) => Ok(Answer::AlreadyDone),
            (Some(Spoken::Told(told)), 200 | 400..500) if told.says_cancelled() => Ok(Answer::AlreadyDone),
            (None, 422) if says_already_cancelled(&reply) => Ok(Answer::AlreadyDone),
            (Some(Spoken::Told(told)), _) if told.code == Some(401) => Err(key_refused()),
            (Some(Spoken::Told(_)), 401 | 408) => Err(reply.failure(Effect::Change)),
            (Some(Spoken::Told(_)), 403) => Err(no_permission()),
            (Some(Spoken::Told(_)), _) => Ok(Answer::Unclear(Reason::CodeNotRevoked)),
            (Some(Spoken::Nothing), _) => Ok(Answer::Done),
            (Some(Spoken::Document(root)), _) if root.name() == "code" && state(root) == Some(CodeState::Cancelled) => {
                Ok(Answer::Done)
            }
            (Some(Spoken::Document(_)), _) => Ok(Answer::Unclear(Reason::CodeNotRevoked)),
            (None, _) => Err(reply.foreign(Effect::Change)),
        }
    }

    /// A GUID decides where one is shown, then the e-mail: the one that was read, or one that we wrote for this
    /// user. A user name can be anything, so it can only confirm: a different one says nothing.
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

/// A key may lack the permission for one code that another key created, so this speaks of the
/// code. Holding the whole system would let one wrong code in one job stop all others; where the
/// key lacks it for every code, each job says so.
fn no_permission() -> Failure {
    Failure::new(FailureKind::Refused, Reason::CodeNotRevoked).with_note("HTTP 403: the key may not use this code")
}

fn says_already_cancelled(reply: &Reply) -> bool {
    let text = String::from_utf8_lossy(reply.body()).to_ascii_lowercase();
    text.contains("already been cancel") || text.contains("already cancel")
}

/// `None` where what it says of its deactivation is not understood.
fn state(code: &Element) -> Option<CodeState> {
    match code.child("deactivation-details").map(interface::deactivated) {
        Some(Says::Done) => Some(CodeState::Cancelled),
        Some(Says::NotDone) | None => Some(CodeState::Active),
        Some(Says::Unknown) => None,
    }
}
