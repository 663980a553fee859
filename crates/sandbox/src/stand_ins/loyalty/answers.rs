//! The answers of the Member API and the Program API.
//!
//! The rule it keeps: the token names the member in the Member API, the path names the member in the Program API. No
//! answer shows whether the other kind of credential would have been accepted.

use serde_json::json;

use super::{DeletedBy, ErrorBody, Loyalty, Member, MemberProof, MemberShape, Otp};
use crate::call::{Call, Misuse, Reply, StandIn as _, first};
use crate::operation::Operation;

impl Loyalty {
    pub(super) fn error(&self, status: u16, word: &str) -> Reply {
        match self.settings.error_body {
            ErrorBody::Error => Reply::json(status, &json!({ "error": word })),
            ErrorBody::Name => Reply::json(status, &json!({ "name": word })),
            ErrorBody::Text => Reply::text(status, word),
        }
    }

    fn described(&self, database_id: &str) -> Reply {
        let none = Member::default();
        let member = self.member(database_id).unwrap_or(&none);
        let fields = json!({
            "database_id": member.database_id,
            "member_id": member.member_id,
            "integration_id": member.integration_id,
            "card_id": member.card_id,
            "email": member.email,
        });
        match self.settings.member_shape {
            MemberShape::Flat => Reply::json(200, &fields),
            MemberShape::Data => Reply::json(200, &json!({ "data": fields })),
            MemberShape::Opaque => Reply::json(200, &json!({ "status": "ok" })),
        }
    }

    fn done() -> Reply {
        Reply::json(200, &json!({ "success": true })).effected()
    }

    pub(super) fn delete_member(&mut self, call: &Call, database_id: &str, now_ms: u64) -> Reply {
        let Some(fields) = call.multipart() else {
            return self.error(400, "invalid_request").misused(Misuse::NotMultipart);
        };
        if first(&fields, "access_token") != Some(&self.settings.program_token) {
            return self.refuse(Operation::DeleteMember);
        }
        let reply = if self.delete(database_id, DeletedBy::ProgramApi, now_ms) {
            Self::done()
        } else {
            self.error(404, "not_found")
        };
        if call.header("authorization").is_some() { reply.misused(Misuse::NeedlessAuthorization) } else { reply }
    }

    pub(super) fn get_member(&mut self, call: &Call, database_id: &str, now_ms: u64) -> Reply {
        if call.query("access_token") != Some(&self.settings.program_token) {
            return self.refuse(Operation::GetMember);
        }
        if !self.visible(database_id, now_ms) {
            return self.error(404, "not_found");
        }
        self.described(database_id)
    }

    /// The member of the bearer token, unless the member is deleted.
    fn caller(&self, call: &Call) -> Option<String> {
        let id = self.by_token.get(call.bearer()?)?;
        self.member(id).filter(|member| member.deleted.is_none()).map(|member| member.database_id.clone())
    }

    pub(super) fn get_profile(&mut self, call: &Call, now_ms: u64) -> Reply {
        let id = call.bearer().and_then(|token| self.by_token.get(token)).cloned();
        match id {
            Some(id) if self.visible(&id, now_ms) => self.described(&id),
            _ => self.refuse(Operation::GetProfile),
        }
    }

    pub(super) fn request_otp(&mut self, call: &Call, now_ms: u64) -> Reply {
        let Some(id) = self.caller(call) else {
            return self.refuse(Operation::RequestOtp);
        };
        if self.settings.member_proof != MemberProof::Otp {
            return self.error(400, "invalid_request");
        }
        if !self.settings.mfa_key_set {
            return Reply::text(500, "Internal Server Error");
        }
        let sent = self.otps.get(&id).map_or(0, |otp| otp.sent) + 1;
        let code = format!("{:06}", rand::random_range(0..1_000_000));
        let valid_until_ms = now_ms + self.settings.otp_validity_ms;
        self.otps.insert(id, Otp { code, valid_until_ms, sent });
        Self::done()
    }

    pub(super) fn delete_profile(&mut self, call: &Call, now_ms: u64) -> Reply {
        let Some(id) = self.caller(call) else {
            return self.refuse(Operation::DeleteProfile);
        };
        let fields = call.multipart();
        let field = |name| fields.as_ref().and_then(|fields| first(fields, name));
        if fields.is_none() && self.settings.member_proof != MemberProof::Token {
            return self.error(400, "invalid_request").misused(Misuse::NotMultipart);
        }
        let proven = match self.settings.member_proof {
            MemberProof::Token => true,
            MemberProof::Password => {
                let password = self.member(&id).map(|member| member.password.as_str());
                field("current_password").is_some() && field("current_password") == password
            }
            MemberProof::Otp => {
                let sent = self.otps.get(&id).filter(|otp| now_ms < otp.valid_until_ms).map(|otp| otp.code.as_str());
                sent.is_some() && field(&self.settings.otp_field) == sent
            }
        };
        if !proven {
            return self.error(self.settings.proof_refused_status, "invalid_request");
        }
        self.otps.remove(&id);
        self.delete(&id, DeletedBy::MemberApi, now_ms);
        Self::done()
    }
}
