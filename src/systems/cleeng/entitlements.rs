//! Lists a Cleeng customer's entitlements, and ends them.
//!
//! The rule it keeps: only `status` decides about access. A row is left out only if its status clearly means that it
//! has ended. An unreadable row makes the whole list unreadable.

use std::collections::HashSet;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::super::compare::id_text;
use super::super::form::{self, List};
use super::super::http::{Effect, Request};
use super::interface::{self, Parsed, Rpc};
use super::{Cleeng, Customer, Termination};
use crate::job::{Answer, Entitlement, Failure, FailureKind, InputKind, Note, Reason};

/// Small enough that no server returns less than asked for: so a shorter page is the last page.
const PAGE: usize = 20;
/// 2,000 rows. A longer list is refused, not cut.
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
            let unreadable = || reply.unreadable(Effect::Read);
            let List { rows, total } = match (interface::core(&reply), reply.status()) {
                (Some(Parsed::Success(body)), _) => interface::rows(body).ok_or_else(unreadable)?,
                (Some(Parsed::Error(_)), 404 | 422) => return Err(unreadable()),
                (Some(Parsed::Error(_)), _) => return Err(reply.failure(Effect::Read)),
                (None, _) => return Err(reply.not_from_interface(Effect::Read)),
            };
            let new = list.add(&rows, who).ok_or_else(unreadable)?;
            // More rows than asked for, and all were in the page before: the server lists everything at once.
            if rows.len() < PAGE || (new == 0 && rows.len() > PAGE) {
                if total.is_some_and(|total| total != list.seen.len() && total != offset + rows.len()) {
                    return Err(unreadable());
                }
                // An empty list proves nothing: with another publisher's token every list is empty.
                if list.names_customer {
                    self.credential.prove();
                }
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
        let unreadable = || reply.unreadable(Effect::Read);
        match (interface::media_store(&reply), reply.status()) {
            (Some(Parsed::Success(data)), _) => {
                let List { rows, total } = form::list(data, "items", &[]).ok_or_else(unreadable)?;
                let mut list = Collected::default();
                list.add(&rows, who)
                    .filter(|_| total.is_none_or(|total| total == rows.len()))
                    .ok_or_else(unreadable)?;
                Ok(Answer::Entitlements(list.entitlements))
            }
            (Some(Parsed::Error(_)), status @ (401 | 403)) => {
                Err(Failure::new(FailureKind::UnauthorisedTheirs(InputKind::CustomerToken), Reason::InputRefused)
                    .with_note(Note::http(status)))
            }
            // Not in the interface's own form: it proves nothing about the customer's token or ours.
            (None, 200..300 | 400..500) => Err(unreadable()),
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
        match (interface::core(&reply), reply.status()) {
            (Some(Parsed::Success(resource)), _) => {
                let is_it = resource.get("id").and_then(id_text).is_some_and(|shown| shown == id)
                    && resource.get("offerId").is_none_or(|offer| id_text(offer) == Some(entitlement.offer_id.clone()));
                Ok(if is_it { ended(resource.get("status")) } else { Answer::Unclear(Reason::ActiveEntitlement) })
            }
            (Some(_), 404) => Ok(Answer::Unclear(Reason::ActiveEntitlement)),
            (Some(_), 400 | 409 | 422) if entitlement.externally_managed => Err(refused(Reason::ExternallyManaged)),
            (Some(_), 422) => Err(refused(Reason::ActiveEntitlement)),
            (Some(_), _) => Err(reply.failure(Effect::Change)),
            (None, _) => Err(reply.not_from_interface(Effect::Change)),
        }
    }

    /// `updateCustomerSubscription`. Its errors have HTTP 200, so the body is read first.
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
        match interface::rpc(&reply) {
            Some(Rpc::Result(result)) => match result.get("offerId").and_then(id_text) {
                Some(offer) if offer != entitlement.offer_id => Err(reply.unreadable(Effect::Change)),
                Some(_) => Ok(ended(result.get("status"))),
                None => Ok(Answer::Unclear(Reason::ActiveEntitlement)),
            },
            Some(Rpc::Error(code)) => Err(rpc_failure(code, entitlement)),
            None => Err(reply.not_from_interface(Effect::Change)),
        }
    }
}

/// Any status but `terminated`, or none, decides nothing: the next list does.
fn ended(status: Option<&Value>) -> Answer {
    match status.and_then(Value::as_str) {
        Some(status) if status.trim().eq_ignore_ascii_case("terminated") => Answer::Done,
        _ => Answer::Unclear(Reason::ActiveEntitlement),
    }
}

fn refused(reason: Reason) -> Failure {
    Failure::new(FailureKind::Refused, reason)
}

/// The documented codes: 3 bad publisher token, 4 bad offer, 8, 10 bad or unknown e-mail, 16 bad argument. 4 and 8 are
/// about the offer's state, which the next list shows. 16 and JSON-RPC's own codes for malformed calls are about the
/// request. Any other code may follow a change that was made.
fn rpc_failure(code: i64, entitlement: &Entitlement) -> Failure {
    let failure = match code {
        3 => Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable),
        10 => refused(Reason::IdentityMismatch),
        4 | 8 | 16 if entitlement.externally_managed => refused(Reason::ExternallyManaged),
        4 | 8 => refused(Reason::ActiveEntitlement),
        16 | -32_700 | -32_602..=-32_600 => Failure::new(FailureKind::Rejected, Reason::RequestRejected),
        _ if entitlement.externally_managed => refused(Reason::ExternallyManaged),
        _ => Failure::new(FailureKind::Ambiguous, Reason::UnreadableReply),
    };
    // Only known codes are shown: any other number may identify a person.
    failure.with_note(match code {
        3 | 4 | 8 | 10 | 16 | -32_700 | -32_602..=-32_600 => Note::from("JSON-RPC error ").number(code),
        _ => "a JSON-RPC error that is not documented".into(),
    })
}

#[derive(Default)]
struct Collected {
    seen: HashSet<String>,
    /// A row named the customer.
    names_customer: bool,
    entitlements: Vec<Entitlement>,
}

impl Collected {
    /// Adds a page and returns the number of new rows; `None` if a row cannot be read, or is another customer's.
    fn add(&mut self, rows: &[Value], who: &Customer<'_>) -> Option<usize> {
        let mut new = 0;
        for row in rows {
            if !self.seen.insert(row.to_string()) {
                continue;
            }
            new += 1;
            if let Some(customer) = row.get("customerId").filter(|id| !id.is_null()) {
                if id_text(customer)? != who.id.expose_secret() {
                    return None;
                }
                self.names_customer = true;
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

/// `Some(None)` for an entitlement that has clearly ended; `None` for an unreadable row.
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
    // A pass is never ended by a subscription's number: another customer's pass may have that number.
    let id = if is_pass { pass_id } else { text("subscriptionId") };
    // The status appears in events, so only the documented words are copied.
    let status = if matches!(status.as_str(), "active" | "cancelled") { status } else { "unknown".to_owned() };
    Some(Some(Entitlement { offer_id, status, gives_access: true, externally_managed, is_pass, id }))
}
