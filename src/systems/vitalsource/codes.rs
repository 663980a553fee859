//! VitalSource codes: whose one is, whether it is cancelled, and revoking it.
//!
//! The rule it keeps: an answer that does not clearly say "cancelled" leaves the code active until
//! its own read says otherwise.

use secrecy::ExposeSecret;

use super::super::Facts;
use super::super::compare::{email_identity, same_email};
use super::super::http::{Effect, Reply, Request};
use super::xml::Element;
use super::{Account, Told, VitalSource, is_page, key_refused};
use crate::job::{Answer, CodeState, Failure, FailureKind, Identity, Reason};

impl VitalSource {
    /// `GET /v4/codes/{code}`: `<code>` with `redemption-details`, or with `deactivation-details`
    /// once cancelled; `id` is the code, `user-name` and `user-email` name the user. A code that
    /// was never redeemed names nobody.
    pub(super) async fn read_code(&self, code: &str, account: &Account<'_>, facts: &Facts) -> Result<Answer, Failure> {
        let request = Request::get(self.base.join("/v4/codes/{code}", &[code])?);
        let reply = self.http.send(self.with_key(request), Effect::Read).await?;
        let unreadable = || reply.unreadable(Effect::Read);
        match reply.status() {
            200 => {
                let root = Element::parse(reply.body()).ok_or_else(unreadable)?;
                if Told::read(&root).is_some_and(|told| told.code == Some(401)) {
                    return Err(key_refused());
                }
                let names_another = root.value("id").is_some_and(|id| !id.is_empty() && !id.eq_ignore_ascii_case(code));
                if root.name() != "code" || names_another {
                    return Err(unreadable());
                }
                if !root.is_empty() {
                    self.credential.prove();
                }
                Ok(Answer::Code { state: state(&root), owner: owner(&root, account, facts) })
            }
            404 if !is_page(&reply) => Ok(Answer::Code { state: CodeState::Unknown, owner: Identity::Unreadable }),
            404 => Err(unreadable()),
            403 => Err(no_permission()),
            _ => Err(reply.failure(Effect::Read)),
        }
    }

    /// `DELETE /v4/codes/{code}`: 200 with nothing; 469 (an older page: 422) already cancelled;
    /// 404; and 1005 to 1015 in the body, of which it is not settled whether the content went.
    pub(super) async fn revoke_code(&self, code: &str) -> Result<Answer, Failure> {
        let request = Request::delete(self.base.join("/v4/codes/{code}", &[code])?);
        let reply = self.http.exchange(self.with_key(request), Effect::Change).await?;
        let root = Element::parse(reply.body());
        let told = root.as_ref().and_then(Told::read);
        let cancelled = reply.status() == 469
            || told.as_ref().is_some_and(Told::says_cancelled)
            || (reply.status() == 422 && says_already_cancelled(&reply));
        match reply.status() {
            401 => Err(reply.failure(Effect::Change)),
            _ if told.as_ref().is_some_and(|told| told.code == Some(401)) => Err(key_refused()),
            403 => Err(no_permission()),
            200 | 400..500 if cancelled => Ok(Answer::AlreadyDone),
            408 => Err(reply.failure(Effect::Change)),
            _ if told.is_some() => Ok(Answer::Unclear(Reason::CodeNotRevoked)),
            200 if reply.is_blank() => Ok(Answer::Done),
            200 => match root {
                Some(root) if root.name() == "code" && state(&root) == CodeState::Cancelled => {
                    self.credential.prove();
                    Ok(Answer::Done)
                }
                Some(_) => Ok(Answer::Unclear(Reason::CodeNotRevoked)),
                None => Err(reply.unreadable(Effect::Change)),
            },
            400..500 => Ok(Answer::Unclear(Reason::CodeNotRevoked)),
            _ => Err(reply.failure(Effect::Change)),
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

fn state(code: &Element) -> CodeState {
    match code.child("deactivation-details") {
        Some(details) if !details.is_empty() => CodeState::Cancelled,
        _ => CodeState::Active,
    }
}

/// A GUID decides where one is shown, then the e-mail. A user name can be anything, so it can only
/// confirm: a different one says nothing.
fn owner(code: &Element, account: &Account<'_>, facts: &Facts) -> Identity {
    let shown = |name: &str| code.value_within(name).filter(|value| !value.is_empty());
    let guid = facts.guid.as_ref().or(account.guid).map(ExposeSecret::expose_secret);
    if let (Some(shown), Some(guid)) = (shown("user-guid").or_else(|| shown("guid")), guid) {
        return if shown.eq_ignore_ascii_case(guid) { Identity::Same } else { Identity::Other };
    }
    let email = facts.user_email.as_ref().map(ExposeSecret::expose_secret);
    if let (Some(shown), Some(email)) = (shown("user-email"), email) {
        return email_identity(shown, email);
    }
    let reference = account.reference.map(ExposeSecret::expose_secret);
    match shown("user-name") {
        Some(name) if [guid, email, reference].into_iter().flatten().any(|known| same_email(name, known)) => {
            Identity::Same
        }
        _ => Identity::Unreadable,
    }
}
