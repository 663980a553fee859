//! What gives a Cleeng customer access, and ending it.
//!
//! The rule it keeps: access follows `status` alone; a row is left out only where its status
//! clearly says that it ended, and a row that cannot be read makes the whole list unreadable.

use std::collections::HashSet;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::super::compare::id_text;
use super::super::http::{Effect, Reply, Request};
use super::{Cleeng, Customer, Termination};
use crate::job::{Answer, Entitlement, Failure, FailureKind, InputKind, Reason};

/// Small enough that no server caps it, so that a shorter page is the last one.
const PAGE: usize = 20;
/// 2,000 rows; a list that goes on after that is refused, not cut.
const MAX_PAGES: usize = 100;

impl Cleeng {
    /// One page of `GET {core}/entitlements`. `SPAR` asks for offers of all kinds; both `offset`
    /// and `limit` are required.
    pub(super) fn entitlements_page(&self, customer_id: &str, offset: usize) -> Result<Request, Failure> {
        let request = Request::get(self.core.join("/entitlements", &[])?).query(&[
            ("customerId", customer_id),
            ("offset", &offset.to_string()),
            ("limit", &PAGE.to_string()),
            ("status", "all"),
            ("offerType", "SPAR"),
        ]);
        Ok(self.as_publisher(request).long_reply())
    }

    /// The whole list from Core.
    pub(super) async fn entitlements(&self, who: &Customer<'_>) -> Result<Answer, Failure> {
        let mut list = Collected::default();
        let mut offset = 0;
        for _ in 0..MAX_PAGES {
            let page = self.entitlements_page(who.id.expose_secret(), offset)?;
            let reply = self.http.send(page, Effect::Read).await?;
            let rows = match reply.status() {
                200 => rows(&reply).ok_or_else(|| reply.unreadable(Effect::Read))?,
                404 => return Err(reply.unreadable(Effect::Read)),
                _ => return Err(reply.failure(Effect::Read)),
            };
            let new = list.add(&rows, who).ok_or_else(|| reply.unreadable(Effect::Read))?;
            // More rows than asked for, and the same again: the server lists everything at once.
            if rows.len() < PAGE || (new == 0 && rows.len() > PAGE) {
                self.credential.prove();
                return Ok(Answer::Entitlements(list.entitlements));
            }
            if new == 0 {
                break;
            }
            offset += rows.len();
        }
        Err(Failure::new(FailureKind::Unreadable, Reason::UnreadableReply).with_note("a list without an end"))
    }

    /// `GET {mediastore}/customers/{id}/offers` with the customer's own token.
    pub(super) async fn offers(&self, who: &Customer<'_>, token: &SecretString) -> Result<Answer, Failure> {
        let url = self.mediastore.join("/customers/{id}/offers", &[who.id.expose_secret()])?;
        let request = Request::get(url).accept("application/json").bearer(token).long_reply();
        let reply = self.http.send(request, Effect::Read).await?;
        match reply.status() {
            200 => {
                let unreadable = || reply.unreadable(Effect::Read);
                let body: Value = reply.json().ok_or_else(unreadable)?;
                let no_errors = match body.get("errors") {
                    None | Some(Value::Null) => true,
                    Some(Value::Array(errors)) => errors.is_empty(),
                    Some(_) => false,
                };
                let rows = body.pointer("/responseData/items").and_then(Value::as_array).filter(|_| no_errors);
                let mut list = Collected::default();
                list.add(rows.ok_or_else(unreadable)?, who).ok_or_else(unreadable)?;
                Ok(Answer::Entitlements(list.entitlements))
            }
            status @ (401 | 403) => {
                Err(Failure::new(FailureKind::UnauthorisedTheirs(InputKind::CustomerToken), Reason::InputRefused)
                    .with_note(format!("HTTP {status}")))
            }
            _ => Err(reply.failure(Effect::Read)),
        }
    }

    /// Ends one entitlement.
    pub(super) async fn terminate(&self, who: &Customer<'_>, entitlement: &Entitlement) -> Result<Answer, Failure> {
        match (&entitlement.id, self.termination) {
            (Some(id), Termination::Core) => self.terminate_by_id(id, entitlement).await,
            _ => self.terminate_by_offer(who, entitlement).await,
        }
    }

    /// `POST {core}/subscriptions/{id}/terminate` or `…/passes/{id}/terminate`: 200 with the bare
    /// resource, 404, 422.
    async fn terminate_by_id(&self, id: &str, entitlement: &Entitlement) -> Result<Answer, Failure> {
        let request = if entitlement.is_pass {
            Request::post(self.core.join("/passes/{id}/terminate", &[id])?)
        } else {
            Request::post(self.core.join("/subscriptions/{id}/terminate", &[id])?)
                .json(&json!({ "terminationType": "userCancel" }))
        };
        let reply = self.http.send(self.as_publisher(request), Effect::Change).await?;
        match reply.status() {
            200 => {
                let body: Value = reply.json().ok_or_else(|| reply.unreadable(Effect::Change))?;
                let resource = body.as_object().ok_or_else(|| reply.unreadable(Effect::Change))?;
                self.credential.prove();
                Ok(ended(resource.get("status")))
            }
            404 => Ok(Answer::Unclear(Reason::ActiveEntitlement)),
            400 | 409 | 422 if entitlement.externally_managed => Err(refused(Reason::ExternallyManaged)),
            422 => Err(refused(Reason::ActiveEntitlement)),
            _ => Err(reply.failure(Effect::Change)),
        }
    }

    /// `updateCustomerSubscription`. Its errors ride on HTTP 200, so the body is read first.
    async fn terminate_by_offer(&self, who: &Customer<'_>, entitlement: &Entitlement) -> Result<Answer, Failure> {
        let request = Request::post(self.rpc.itself()).accept("application/json").json(&json!({
            "method": "updateCustomerSubscription",
            "params": {
                "publisherToken": self.token.expose_secret(),
                "customerEmail": who.email.expose_secret(),
                "offerId": entitlement.offer_id,
                "subscriptionData": {
                    "status": "terminated",
                    "cancellationType": "userCancel",
                    "cancellationReason": "Erasure requested by the customer",
                },
            },
            "jsonrpc": "2.0",
            "id": 1,
        }));
        let reply = self.http.exchange(request, Effect::Change).await?;
        let body = reply.json::<Value>();
        let Some(body) = body.as_ref().and_then(Value::as_object) else {
            return Err(reply.failure(Effect::Change));
        };
        match body.get("error") {
            None | Some(Value::Null | Value::Bool(false)) => {}
            Some(error) => return Err(rpc_failure(error, entitlement, &reply)),
        }
        let ours = matches!(body.get("id").and_then(id_text).as_deref(), Some("1"));
        let result = body.get("result").and_then(Value::as_object);
        let (Some(result), true, 200) = (result, ours, reply.status()) else {
            return Err(reply.failure(Effect::Change));
        };
        match result.get("offerId").and_then(id_text) {
            Some(offer) if offer != entitlement.offer_id => Err(reply.unreadable(Effect::Change)),
            _ => Ok(ended(result.get("status"))),
        }
    }
}

/// A status that says anything but `terminated`, or none, settles nothing: the list decides.
fn ended(status: Option<&Value>) -> Answer {
    match status.and_then(Value::as_str) {
        Some(status) if status.trim().eq_ignore_ascii_case("terminated") => Answer::Done,
        _ => Answer::Unclear(Reason::ActiveEntitlement),
    }
}

fn refused(reason: Reason) -> Failure {
    Failure::new(FailureKind::Refused, reason)
}

/// The documented codes: 3 bad publisher token, 4 bad offer, 8, 10 bad or unknown e-mail, 16 bad
/// argument. 4 and 8 speak of the offer's state, which the next list shows; 16 and JSON-RPC's own
/// codes for malformed calls speak of the request. Any other may come after the work was done.
fn rpc_failure(error: &Value, entitlement: &Entitlement, reply: &Reply) -> Failure {
    let code = error.get("code").and_then(id_text).and_then(|code| code.parse::<i64>().ok());
    let failure = match code {
        Some(3) => Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable),
        Some(10) => refused(Reason::IdentityMismatch),
        Some(4 | 8 | 16) if entitlement.externally_managed => refused(Reason::ExternallyManaged),
        Some(4 | 8) => refused(Reason::ActiveEntitlement),
        Some(16 | -32_700 | -32_602..=-32_600) => Failure::new(FailureKind::Rejected, Reason::RequestRejected),
        Some(_) | None if entitlement.externally_managed && reply.status() < 500 => refused(Reason::ExternallyManaged),
        Some(_) => Failure::new(FailureKind::Ambiguous, Reason::UnreadableReply),
        None => return reply.failure(Effect::Change),
    };
    match code {
        Some(code) => failure.with_note(format!("JSON-RPC error {code}")),
        None => failure,
    }
}

/// The rows of a Core list in either of the shapes known, `{"items"}` or `{"success": true, "data"}`;
/// `None` for anything else.
pub(super) fn rows(reply: &Reply) -> Option<Vec<Value>> {
    let mut body: Value = reply.json()?;
    let success = body.get("success").map(|success| success == &Value::Bool(true));
    match (body.get("items").is_some(), body.get("data").is_some(), success) {
        (true, false, None | Some(true)) => take_array(body.get_mut("items")),
        (false, true, Some(true)) => take_array(body.get_mut("data")),
        _ => None,
    }
}

fn take_array(value: Option<&mut Value>) -> Option<Vec<Value>> {
    match value.map(Value::take) {
        Some(Value::Array(rows)) => Some(rows),
        _ => None,
    }
}

#[derive(Default)]
struct Collected {
    seen: HashSet<String>,
    entitlements: Vec<Entitlement>,
}

impl Collected {
    /// Adds a page and says how many rows were new; `None` where a row cannot be read, or belongs
    /// to another customer.
    fn add(&mut self, rows: &[Value], who: &Customer<'_>) -> Option<usize> {
        let mut new = 0;
        for row in rows {
            if !self.seen.insert(row.to_string()) {
                continue;
            }
            new += 1;
            if let Some(customer) = row.get("customerId").filter(|id| !id.is_null())
                && id_text(customer)? != who.id.expose_secret()
            {
                return None;
            }
            if let Some(entitlement) = read_row(row)?
                && !self
                    .entitlements
                    .iter()
                    .any(|known| known.offer_id == entitlement.offer_id && known.id == entitlement.id)
            {
                self.entitlements.push(entitlement);
            }
        }
        Some(new)
    }
}

/// `Some(None)` for a row that clearly ended; `None` for one that cannot be read.
#[allow(clippy::option_option, reason = "three outcomes, used in one place")]
fn read_row(row: &Value) -> Option<Option<Entitlement>> {
    let row = row.as_object()?;
    let text = |key: &str| row.get(key).and_then(id_text).filter(|text| !text.is_empty());
    let status = text("status").unwrap_or_default().to_ascii_lowercase();
    if matches!(status.as_str(), "expired" | "terminated" | "ended") {
        return Some(None);
    }
    let offer_id = text("offerId").filter(|offer| offer.len() <= 200)?;
    let externally_managed = match row.get("isExternallyManaged") {
        Some(Value::Bool(managed)) => *managed,
        Some(other) => id_text(other).is_some_and(|text| text == "1" || text.eq_ignore_ascii_case("true")),
        None => false,
    };
    let kind = text("offerType").unwrap_or_default().to_ascii_lowercase();
    let pass_id = text("passId");
    let is_pass = match kind.as_str() {
        "" => pass_id.is_some() || offer_id.starts_with('P'),
        kind => matches!(kind, "p" | "pass"),
    };
    // A pass is never ended by a number that names a subscription: it could be somebody's pass.
    let id = if is_pass { pass_id } else { text("subscriptionId") };
    let told =
        status.len() <= 32 && status.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_' || byte == b'-');
    let status = if told && !status.is_empty() { status } else { "unknown".to_owned() };
    Some(Some(Entitlement { offer_id, status, gives_access: true, externally_managed, is_pass, id }))
}
