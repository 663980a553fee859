//! The answers of Cleeng's three interfaces.
//!
//! The rule it keeps: statuses and texts are those of the vendor's pages. If a page gives none, a setting chooses.

use serde_json::{Value, json};

use super::{Anonymised, Cleeng, Customer, Entitlement, EntitlementKind, EntitlementStatus, ListShape, RpcError, jwt};
use crate::call::{Call, Misuse, Reply, Route};

/// Core's error body.
pub(super) fn message(status: u16, text: &str) -> Reply {
    Reply::json(status, &json!({ "success": false, "message": text }))
}

/// A JSON-RPC error: its HTTP status is 200.
pub(super) fn rpc_error(code: i64, text: &str) -> Reply {
    Reply::json(200, &json!({ "jsonrpc": "2.0", "id": "1", "error": { "code": code, "message": text } }))
}

/// The media store's error body.
pub(super) fn media_store_error(status: u16, text: &str) -> Reply {
    Reply::json(status, &json!({ "errors": [text] }))
}

impl Cleeng {
    pub(super) fn list_entitlements(&mut self, call: &Call) -> Reply {
        let number = |name| call.query(name).and_then(|text| text.parse::<usize>().ok());
        let (Some(offset), Some(limit), Some(id)) = (number("offset"), number("limit"), call.query("customerId"))
        else {
            return message(400, "customerId, offset and limit are required").misused(Misuse::WrongParameters);
        };
        let status = call.query("status").unwrap_or("active");
        let kinds = call.query("offerType").unwrap_or("SP");
        self.listings += 1;
        let mut rows: Vec<Value> = self
            .active(id)
            .map(|customer| customer.entitlements.as_slice())
            .unwrap_or_default()
            .iter()
            .filter(|row| status == "all" || json!(row.status) == status)
            .filter(|row| kinds.contains(row.kind.letter()))
            .map(|row| self.row(id, row))
            .collect();
        if self.settings.unstable_order && !rows.is_empty() {
            let by = self.listings % rows.len();
            rows.rotate_left(by);
        }
        let page: Vec<Value> = rows.into_iter().skip(offset).take(limit).collect();
        match self.settings.list_shape {
            ListShape::Items => Reply::json(200, &json!({ "items": page })),
            ListShape::Data => Reply::json(200, &json!({ "success": true, "data": page })),
        }
    }

    fn row(&self, customer: &str, entitlement: &Entitlement) -> Value {
        let mut row = json!({
            "customerId": customer,
            "offerId": entitlement.offer_id,
            "status": entitlement.status,
            "expiresAt": entitlement.expires_at,
        });
        if let (true, Some(id)) = (self.settings.list_ids, entitlement.id) {
            let name = if entitlement.kind == EntitlementKind::Pass { "passId" } else { "subscriptionId" };
            row[name] = Value::from(id);
        }
        row
    }

    pub(super) fn customer_offers(&self, call: &Call, id: &str, now_ms: u64) -> Reply {
        let customer = call.bearer().and_then(|token| jwt::customer_of(token, now_ms));
        if customer.as_deref() != Some(id) {
            let text = if call.bearer().is_none() { "Missing JWT" } else { "Invalid JWT" };
            return media_store_error(401, text).unauthorised();
        }
        let offers = self.active(id).map(|customer| customer.entitlements.as_slice()).unwrap_or_default();
        let items: Vec<Value> = offers
            .iter()
            .map(|offer| {
                json!({
                    "offerId": offer.offer_id,
                    "status": offer.status,
                    "offerType": offer.kind.letter(),
                    "subscriptionId": offer.id,
                    "isExternallyManaged": offer.externally_managed,
                    "expiresAt": offer.expires_at,
                })
            })
            .collect();
        Reply::json(200, &json!({ "responseData": { "items": items }, "errors": [] }))
    }

    pub(super) fn update_subscription(&mut self, call: &Call) -> Reply {
        let body = call.json();
        let params = &body["params"];
        if body["method"] != "updateCustomerSubscription" {
            return rpc_error(-32601, "Method not found");
        }
        if params["publisherToken"] != *self.settings.publisher_token {
            return rpc_error(3, "Invalid publisher token").unauthorised();
        }
        let email = params["customerEmail"].as_str().unwrap_or_default().to_lowercase();
        let customer = self.by_email.get(&email).and_then(|id| self.customers.get_mut(id));
        let Some(customer) = customer.filter(|customer| !customer.erased) else {
            return rpc_error(10, "Invalid customer e-mail");
        };
        let Ok(status) = serde_json::from_value::<EntitlementStatus>(params["subscriptionData"]["status"].clone())
        else {
            return rpc_error(16, "Invalid argument: status");
        };
        let offer = customer.entitlements.iter_mut().find(|row| params["offerId"] == *row.offer_id);
        let Some(offer) = offer else {
            return rpc_error(4, "Invalid offer");
        };
        if offer.wont_terminate || offer.externally_managed {
            return rpc_error(8, "The subscription cannot be changed");
        }
        let changed = offer.status != status;
        offer.status = status;
        let result = json!({ "offerId": offer.offer_id, "status": offer.status, "expiresAt": offer.expires_at });
        let mut reply = json!({ "jsonrpc": "2.0", "id": "1", "result": result });
        match self.settings.rpc_error {
            RpcError::Absent => {}
            RpcError::Null => reply["error"] = Value::Null,
            RpcError::False => reply["error"] = Value::Bool(false),
        }
        // The answer has the number of the request's `id` as text.
        if let Some(id) = super::text_of(&body, "id") {
            reply["id"] = Value::String(id);
        }
        let reply = Reply::json(200, &reply);
        if changed { reply.effected() } else { reply }
    }

    pub(super) fn terminate(&mut self, route: &Route, call: &Call, kind: EntitlementKind) -> Reply {
        let id = route.object.as_deref().and_then(|id| id.parse::<u64>().ok());
        let customer = route.subject.as_ref().and_then(|owner| self.customers.get_mut(owner));
        let row = customer
            .filter(|customer| !customer.erased)
            .and_then(|customer| customer.entitlements.iter_mut().find(|row| row.kind == kind && row.id == id));
        let Some(row) = row else {
            return message(
                404,
                if kind == EntitlementKind::Pass { "Pass not found" } else { "Subscription not found" },
            );
        };
        // For a pass the reason may be missing, and the customer's own cancellation is not among its values.
        let body = call.json();
        let reason = body.get("terminationType");
        let known = match kind {
            EntitlementKind::Pass => reason.is_none_or(|reason| {
                ["publisherCancel", "policyViolation", "expiration"].iter().any(|known| reason == *known)
            }),
            EntitlementKind::Subscription | EntitlementKind::Rental => reason.is_some_and(Value::is_string),
        };
        if !known {
            return message(422, "terminationType is not valid").misused(Misuse::WrongParameters);
        }
        if row.wont_terminate || row.externally_managed || !row.status.gives_access() {
            return message(422, "It cannot be terminated");
        }
        row.status = EntitlementStatus::Terminated;
        let resource = json!({ "id": id, "offerId": row.offer_id, "status": row.status, "expiresAt": row.expires_at });
        Reply::json(200, &resource).effected()
    }

    pub(super) fn get_customer(&self, id: &str) -> Reply {
        let found =
            self.customer(id).filter(|customer| !customer.erased || self.settings.anonymised == Anonymised::Scrubbed);
        let Some(customer) = found else {
            return message(404, "Customer not found");
        };
        let data = record(customer);
        Reply::json(200, &json!({ "success": true, "message": "Customer found", "data": data }))
    }

    /// One of `email` and `externalId` is required. No customer here has an `externalId`.
    pub(super) fn list_customers(&self, call: &Call) -> Reply {
        let email = call.query("email").map(str::to_lowercase);
        if email.is_none() && call.query("externalId").is_none() {
            return message(400, "email or externalId is required").misused(Misuse::WrongParameters);
        }
        let limit = call.query("limit").and_then(|text| text.parse::<usize>().ok()).unwrap_or(100);
        let is_named =
            |customer: &&Customer| email.as_ref().is_some_and(|email| customer.email.to_lowercase() == *email);
        let named = self.customers.values().filter(|customer| !customer.erased).filter(is_named);
        let rows: Vec<Value> = named.take(limit).map(record).collect();
        match self.settings.list_shape {
            ListShape::Items => Reply::json(200, &json!({ "items": rows })),
            ListShape::Data => Reply::json(200, &json!({ "success": true, "data": rows })),
        }
    }

    pub(super) fn delete_customer(&mut self, id: &str) -> Reply {
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
            return message(400, "Invalid customerId format");
        }
        let customer = self.customers.get_mut(id).filter(|customer| !customer.erased && !customer.shared);
        let Some(customer) = customer else {
            return message(404, "User does not exist or is also associated with other broadcasters");
        };
        let active =
            |row: &Entitlement| row.kind == EntitlementKind::Subscription && row.status == EntitlementStatus::Active;
        // Only an active subscription prevents the deletion; a cancelled one, a pass or a rental does not.
        if customer.entitlements.iter().any(active) {
            return message(422, "User has an active subscription");
        }
        scrub(customer);
        let done = json!({ "data": [], "success": true, "message": "User deleted successfully" });
        Reply::json(200, &done).effected()
    }
}

fn record(customer: &Customer) -> Value {
    json!({
        "id": customer.id,
        "email": customer.email,
        "firstName": customer.first_name,
        "lastName": customer.last_name,
        "externalId": null,
    })
}

fn scrub(customer: &mut Customer) {
    customer.erased = true;
    customer.email = format!("anonymised-{}@example.com", customer.id);
    customer.first_name = "Anonymised".into();
    customer.last_name = "Customer".into();
}
