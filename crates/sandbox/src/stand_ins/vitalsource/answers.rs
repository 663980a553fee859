//! The answers of VitalSource's v3 and v4 interfaces.
//!
//! The rule it keeps: v3 reports errors with HTTP 200. Only a read of the code shows whether a refused revocation removed
//! the content.

use super::xml::{attribute, children, element, error_response};
use super::{Code, UnknownUser, UpdateReply, User, Vitalsource, WontRevoke, access_token};
use crate::call::{Call, Misuse, Reply};

impl Vitalsource {
    pub(super) fn revoke_code(&mut self, code: &str) -> Reply {
        if !self.settings.may_revoke {
            return Reply::xml(403, error_response(403, "Forbidden"));
        }
        let (cancelled_status, refusal_status) = (self.settings.already_cancelled_status, self.settings.refusal_status);
        let Some(code) = self.codes.get_mut(code) else {
            return Reply::xml(404, error_response(404, "Invalid Code"));
        };
        if code.cancelled {
            let text = if cancelled_status == 422 {
                "Code has already been canceled"
            } else {
                "The Redemption Code is already canceled and is not eligible for a return."
            };
            return Reply::xml(cancelled_status, error_response(cancelled_status, text));
        }
        if let Some(refusal) = refusal(code) {
            code.cancelled = refusal.content_removed;
            let reply = Reply::xml(refusal_status, error_response(refusal.code, refusal_text(refusal.code)));
            return if refusal.content_removed { reply.effected() } else { reply };
        }
        code.cancelled = true;
        Reply::xml(200, "").effected()
    }

    pub(super) fn get_code(&self, code: &str) -> Reply {
        let Some(code) = self.codes.get(code) else {
            return Reply::xml(404, error_response(404, "Invalid Code"));
        };
        let details = match &code.redeemed_at {
            _ if code.cancelled => element("deactivation-details", "Deactivated by the requester"),
            Some(at) => element("redemption-details", &format!("Redeemed on {at}")),
            None => element("redemption-details", "Not Redeemed"),
        };
        let owner = code.owner.as_deref().and_then(|guid| self.users.get(guid));
        let owner = owner.map(|user| {
            let name = format!("{} {}", user.first_name, user.last_name);
            element("user-name", &name) + &element("user-email", &user.email)
        });
        let (id, sku) = (element("id", &code.code), element("product-sku", &code.sku));
        Reply::xml(200, format!("<code>{id}{sku}{details}{}</code>", owner.unwrap_or_default()))
    }

    pub(super) fn get_user(&self, guid: &str) -> Reply {
        match (self.users.get(guid), self.settings.unknown_user) {
            (Some(user), _) => Reply::xml(200, described(user)),
            (None, UnknownUser::NotFound) => Reply::xml(404, error_response(404, "Not Found")),
            (None, UnknownUser::ErrorOnOk) => Reply::xml(200, error_response(604, "User not found")),
        }
    }

    pub(super) fn update_user(&mut self, call: &Call, guid: &str) -> Reply {
        let Some(fields) = children(&call.body, "user") else {
            return Reply::xml(400, error_response(400, "Bad Request")).misused(Misuse::WrongParameters);
        };
        let taken = fields.iter().any(|(name, value)| {
            name == "reference" && self.by_reference.get(value).is_some_and(|other| other != guid)
        });
        let Some(user) = self.users.get_mut(guid) else {
            return Reply::xml(200, error_response(603, "Invalid reference"));
        };
        if taken {
            return Reply::xml(200, error_response(904, "Reference already exists"));
        }
        let before = user.clone();
        for (name, value) in fields {
            match name.as_str() {
                "reference" => user.reference = value,
                "first-name" => user.first_name = value,
                "last-name" => user.last_name = value,
                "affiliate" => user.affiliate = value,
                "email" => user.email = value,
                _ => {}
            }
        }
        let body = match self.settings.update_reply {
            UpdateReply::User => described(user),
            UpdateReply::Empty => String::new(),
        };
        let changed = described(&before) != described(user);
        if before.reference != user.reference {
            self.by_reference.remove(&before.reference);
            self.by_reference.insert(user.reference.clone(), guid.to_owned());
        }
        let reply = Reply::xml(200, body);
        if changed { reply.effected() } else { reply }
    }

    pub(super) fn credentials(&self, guid: &str) -> Reply {
        let Some(user) = self.users.get(guid) else {
            return Reply::xml(200, error_response(603, "Invalid reference"));
        };
        let credential = [
            attribute("email", &user.email),
            attribute("access-token", &access_token(guid)),
            attribute("guid", guid),
            attribute("reference", &user.reference),
        ]
        .concat();
        Reply::xml(200, format!("<credentials><credential{credential}/></credentials>"))
    }

    pub(super) fn licences(&self, guid: Option<&str>) -> Reply {
        let Some(guid) = guid else {
            return Reply::xml(401, error_response(401, "Invalid access token")).unauthorised();
        };
        let granted = self.codes_of.get(guid).into_iter().flatten().filter_map(|code| self.codes.get(code));
        let granted = granted
            .filter(|code| !code.cancelled && code.redeemed_at.is_some())
            .map(|code| (code.sku.as_str(), "never"));
        let others = self.licences.iter().filter(|licence| licence.owner == guid);
        let others = others.map(|licence| (licence.sku.as_str(), licence.expiration.as_str()));
        let rows: String = granted
            .chain(others)
            .map(|(sku, expiration)| {
                let values =
                    attribute("sku", sku) + &attribute("type", "online") + &attribute("expiration", expiration);
                format!("<license{values}/>")
            })
            .collect();
        Reply::xml(200, if rows.is_empty() { "<licenses/>".to_owned() } else { format!("<licenses>{rows}</licenses>") })
    }
}

/// The refusal of this call, if any; counts it.
fn refusal(code: &mut Code) -> Option<WontRevoke> {
    if code.owner.is_none() {
        return Some(WontRevoke { code: 1006, content_removed: false, times: None });
    }
    let refusal = code.wont_revoke.as_mut()?;
    match &mut refusal.times {
        Some(0) => None,
        Some(times) => {
            *times -= 1;
            Some(*refusal)
        }
        None => Some(*refusal),
    }
}

fn refusal_text(code: u16) -> &'static str {
    match code {
        1005 => "The code to the online resource was opened and cannot be returned",
        1006 => "Unassigned code cannot be canceled",
        1007 => "Timeout at the provider, or the days for a refund are over",
        1008 => "Not eligible for refund, or an error at the provider",
        1009 => "A refund was processed before",
        1014 => "Too many pages were read",
        _ => "Not eligible for refund",
    }
}

fn described(user: &User) -> String {
    let fields = [
        ("guid", &user.guid),
        ("reference", &user.reference),
        ("first-name", &user.first_name),
        ("last-name", &user.last_name),
        ("email", &user.email),
        ("affiliate", &user.affiliate),
    ];
    let fields: String = fields.iter().map(|(name, value)| element(name, value)).collect();
    format!("<user>{fields}</user>")
}
