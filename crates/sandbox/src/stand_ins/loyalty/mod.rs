//! The stand-in of Zeta's Loyalty platform: members, their four kinds of id, and three kinds of proof.
//!
//! The rule it keeps: an id in a path is compared with every kind of id, in the platform's order, so it may find another
//! person.

mod answers;
mod import;

use std::collections::{BTreeMap, HashMap};

use axum::http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::import::ImportError;
use super::{Kind, Peopled, Seeds, seeds};
use crate::call::{Call, Misuse, Reply, Route, StandIn};
use crate::operation::{Operation, Row};
use crate::people::{self, Person};

/// The media type that every call must accept.
const ACCEPT: &str = "application/vnd.stellar-v1+json";

/// The proof that the platform requires of a member who deletes the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberProof {
    /// The current password.
    Password,
    /// A one-time password.
    Otp,
    /// Only the access token.
    Token,
}

/// The form of an error body (all three were observed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorBody {
    /// `{"error":"…"}`.
    Error,
    /// `{"name":"…"}`.
    Name,
    /// The word alone.
    Text,
}

/// The form of a member in an answer (not documented).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberShape {
    /// The fields at the top.
    Flat,
    /// The fields under `data`.
    Data,
    /// Without the member's identifiers.
    Opaque,
}

/// The settings of one instance.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoyaltySettings {
    /// The accepted token of the Program API.
    pub program_token: String,
    pub member_proof: MemberProof,
    /// The name of the one-time password's field.
    pub otp_field: String,
    pub otp_validity_ms: u64,
    /// True if the platform can send one-time passwords.
    pub mfa_key_set: bool,
    /// The number of read-backs that still find a deleted member.
    pub visible_reads: u32,
    /// The time during which a deleted member is still found, in milliseconds.
    pub visible_ms: u64,
    pub error_body: ErrorBody,
    pub member_shape: MemberShape,
    /// The HTTP status for a wrong password or one-time password.
    pub proof_refused_status: u16,
}

impl Default for LoyaltySettings {
    fn default() -> Self {
        LoyaltySettings {
            program_token: "program-token".into(),
            member_proof: MemberProof::Password,
            otp_field: "code".into(),
            otp_validity_ms: 300_000,
            mfa_key_set: true,
            visible_reads: 0,
            visible_ms: 0,
            error_body: ErrorBody::Error,
            member_shape: MemberShape::Flat,
            proof_refused_status: 422,
        }
    }
}

/// The origin of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeletedBy {
    ProgramApi,
    MemberApi,
    /// An import file.
    Import,
    /// An operator, in the platform's user interface.
    Manual,
}

/// An accepted deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    pub by: DeletedBy,
    /// The number of further read-backs that still find the member.
    pub reads_left: u32,
    /// The end of the time during which reads find the member, in milliseconds since 1970.
    pub until_ms: u64,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    pub database_id: String,
    #[serde(default)]
    pub member_id: Option<String>,
    #[serde(default)]
    pub integration_id: Option<String>,
    #[serde(default)]
    pub card_id: Option<String>,
    #[serde(default)]
    pub email: Option<String>,
    #[serde(default)]
    pub password: String,
    /// The bearer tokens of the Member API.
    #[serde(default)]
    pub access_tokens: Vec<String>,
    #[serde(default)]
    pub deleted: Option<Deletion>,
}

/// A kind of identifier of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberKey {
    /// The platform's own id.
    DatabaseId,
    /// The member number.
    MemberId,
    /// The client's id.
    IntegrationId,
    /// The card's number.
    CardId,
    /// The address, case-folded; in import files only.
    Email,
}

impl MemberKey {
    /// The kinds of id in the Program API's path, in the order of the search.
    const IN_PATH: [MemberKey; 4] =
        [MemberKey::DatabaseId, MemberKey::MemberId, MemberKey::IntegrationId, MemberKey::CardId];

    fn of(self, member: &Member) -> Option<String> {
        match self {
            MemberKey::DatabaseId => Some(member.database_id.clone()),
            MemberKey::MemberId => member.member_id.clone(),
            MemberKey::IntegrationId => member.integration_id.clone(),
            MemberKey::CardId => member.card_id.clone(),
            MemberKey::Email => member.email.as_ref().map(|email| email.to_lowercase()),
        }
    }
}

/// A one-time password that was sent.
#[derive(Clone, Serialize)]
struct Otp {
    code: String,
    valid_until_ms: u64,
    sent: u64,
}

/// One Loyalty program.
#[derive(Clone, Default, Serialize)]
pub struct Loyalty {
    pub settings: LoyaltySettings,
    /// By database id, deleted members included.
    members: BTreeMap<String, Member>,
    /// By database id.
    otps: BTreeMap<String, Otp>,
    #[serde(skip)]
    by_key: HashMap<(MemberKey, String), String>,
    #[serde(skip)]
    by_token: HashMap<String, String>,
}

impl Loyalty {
    /// Adds a member, or replaces the member with the same database id.
    pub fn add(&mut self, member: Member) {
        for key in MemberKey::IN_PATH.into_iter().chain([MemberKey::Email]) {
            if let Some(value) = key.of(&member) {
                self.by_key.insert((key, value), member.database_id.clone());
            }
        }
        for token in &member.access_tokens {
            self.by_token.insert(token.clone(), member.database_id.clone());
        }
        self.members.insert(member.database_id.clone(), member);
    }

    /// The member by database id, deleted or not.
    pub fn member(&self, database_id: &str) -> Option<&Member> {
        self.members.get(database_id)
    }

    /// The latest one-time password in the member's mailbox, and the number of passwords sent.
    pub fn mailbox(&self, database_id: &str) -> Option<(&str, u64)> {
        self.otps.get(database_id).map(|otp| (otp.code.as_str(), otp.sent))
    }

    /// An operator deletes the member in the platform's user interface. False if there is no such member.
    pub fn delete_by_hand(&mut self, key: MemberKey, value: &str, now_ms: u64) -> bool {
        self.by_key.get(&(key, value.to_owned())).cloned().is_some_and(|id| self.delete(&id, DeletedBy::Manual, now_ms))
    }

    /// The member with this id, of any kind.
    fn find(&self, id: &str) -> Option<&String> {
        MemberKey::IN_PATH.into_iter().find_map(|key| self.by_key.get(&(key, id.to_owned())))
    }

    /// Accepts a deletion; false if the member is deleted or unknown.
    fn delete(&mut self, database_id: &str, by: DeletedBy, now_ms: u64) -> bool {
        let (reads_left, until_ms) = (self.settings.visible_reads, now_ms + self.settings.visible_ms);
        let member = self.members.get_mut(database_id).filter(|member| member.deleted.is_none());
        member.is_some_and(|member| {
            member.deleted = Some(Deletion { by, reads_left, until_ms });
            true
        })
    }

    /// True if a read finds the member. The platform deletes in the background, so a deleted member may still be found.
    fn visible(&mut self, database_id: &str, now_ms: u64) -> bool {
        match self.members.get_mut(database_id) {
            None => false,
            Some(Member { deleted: None, .. }) => true,
            Some(Member { deleted: Some(deletion), .. }) => {
                let visible = deletion.reads_left > 0 || now_ms < deletion.until_ms;
                deletion.reads_left = deletion.reads_left.saturating_sub(1);
                visible
            }
        }
    }
}

/// The calls, and the reads that show their effect.
pub(super) const OPERATIONS: &[Row] = &[
    Row::settled(Operation::DeleteProfile, "loyalty.delete_profile", &[Operation::GetMember, Operation::GetProfile]),
    Row::read(Operation::RequestOtp, "loyalty.request_otp"),
    Row::read(Operation::GetProfile, "loyalty.get_profile"),
    Row::settled(Operation::DeleteMember, "loyalty.delete_member", &[Operation::GetMember, Operation::GetProfile]),
    Row::read(Operation::GetMember, "loyalty.get_member"),
];

/// The member of the example job.
const EXAMPLE_ID: &str = "INT-42";

impl Peopled for Loyalty {
    const KIND: Kind = Kind {
        name: "loyalty",
        paths: &["loyalty"],
        table: |base, name| {
            let token = LoyaltySettings::default().program_token;
            format!("kind = \"zeta_loyalty\"\nbase_url = \"{base}/{name}\"\nprogram_token = \"{token}\"\n")
        },
        target: |person| {
            let member = json!({ "integration_id": person.integration_id });
            json!({ "system": "loyalty", "method": "program_api", "member": member })
        },
        example: || {
            let member = json!({ "integration_id": EXAMPLE_ID });
            json!({ "system": "loyalty", "method": "program_api", "member": member })
        },
    };
    type Settings = LoyaltySettings;

    fn settings(&mut self) -> &mut LoyaltySettings {
        &mut self.settings
    }

    fn seeds(collection: &str, body: Value) -> Option<Result<Seeds<Self>, serde_json::Error>> {
        (collection == "members").then(|| seeds(body, Loyalty::add))
    }

    fn add_person(&mut self, person: &Person) {
        self.add(Member::of(person));
    }

    fn remains(&self, person: &Person) -> Vec<&'static str> {
        let is_left = self.member(&person.database_id).is_some_and(|member| member.deleted.is_none());
        Vec::from_iter(is_left.then_some("loyalty: member"))
    }

    fn add_example(&mut self) {
        self.add(Member {
            database_id: "db-ann".to_owned(),
            member_id: Some("77".to_owned()),
            integration_id: Some(EXAMPLE_ID.to_owned()),
            card_id: None,
            email: Some(people::EXAMPLE_EMAIL.to_owned()),
            password: "member-password-ann".to_owned(),
            access_tokens: vec!["member-token-ann".to_owned()],
            deleted: None,
        });
    }
}

impl Member {
    pub fn of(person: &Person) -> Member {
        Member {
            database_id: person.database_id.clone(),
            member_id: Some(person.member_id.clone()),
            integration_id: Some(person.integration_id.clone()),
            card_id: Some(person.card_id.clone()),
            email: Some(person.email.clone()),
            password: person.current_password.clone(),
            access_tokens: vec![person.access_token.clone()],
            deleted: None,
        }
    }
}

impl StandIn for Loyalty {
    fn route(&self, call: &Call) -> Route {
        let by_token = || call.bearer().and_then(|token| self.by_token.get(token).cloned());
        let by_id = |id: &str| self.find(id).cloned().or_else(|| Some(id.to_owned()));
        match (&call.method, call.path().as_slice()) {
            (&Method::DELETE, ["api", "profile"]) => Route::new(Operation::DeleteProfile, "/api/profile", by_token()),
            (&Method::GET, ["api", "profile"]) => Route::new(Operation::GetProfile, "/api/profile", by_token()),
            (&Method::POST, ["api", "profile", "otp"]) => {
                Route::new(Operation::RequestOtp, "/api/profile/otp", by_token())
            }
            (&Method::DELETE, ["program", "api", "members", id]) => {
                Route::new(Operation::DeleteMember, "/program/api/members/{id}", by_id(id))
            }
            (&Method::GET, ["program", "api", "members", id]) => {
                Route::new(Operation::GetMember, "/program/api/members/{id}", by_id(id))
            }
            _ => Route::unknown(),
        }
    }

    fn answer(&mut self, route: &Route, call: &Call, now_ms: u64) -> Reply {
        if route.operation == Operation::Unknown {
            return self.error(404, "not_found");
        }
        if !call.header("accept").is_some_and(|accept| accept.contains(ACCEPT)) {
            return self.error(406, "not_acceptable").misused(Misuse::WrongAccept);
        }
        let subject = route.subject.clone().unwrap_or_default();
        match route.operation {
            Operation::DeleteMember => self.delete_member(call, &subject, now_ms),
            Operation::GetMember => self.get_member(call, &subject, now_ms),
            Operation::RequestOtp => self.request_otp(call, now_ms),
            Operation::DeleteProfile => self.delete_profile(call, now_ms),
            _ => self.get_profile(call, now_ms),
        }
    }

    fn pretend(&mut self, route: &Route, call: &Call, now_ms: u64) -> Reply {
        self.clone().answer(route, call, now_ms)
    }

    fn refuse(&self, _operation: Operation) -> Reply {
        self.error(401, "expired_token").unauthorised()
    }
}
