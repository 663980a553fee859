//! The stand-in of Zeta's Loyalty platform: members, their four kinds of id, and proofs of three kinds.
//!
//! The rule it keeps: a bare id is tried against every kind, in the platform's order, so it may find
//! somebody else.

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

/// What the platform asks of a member who deletes the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberProof {
    /// The current password.
    Password,
    /// A one-time password.
    Otp,
    /// Nothing beyond the access token.
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
    /// The bare word.
    Text,
}

/// The form in which a member is read (not documented).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberShape {
    /// The fields at the top.
    Flat,
    /// The fields under `data`.
    Data,
    /// No field that names the member.
    Opaque,
}

/// What this instance is set to.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoyaltySettings {
    /// The token that the Program API takes.
    pub program_token: String,
    /// What the Member API asks for.
    pub member_proof: MemberProof,
    /// The field that carries the one-time password.
    pub otp_field: String,
    /// How long a one-time password holds, in milliseconds.
    pub otp_validity_ms: u64,
    /// Whether the platform can send one-time passwords at all.
    pub mfa_key_set: bool,
    /// A deleted member is still found by this many read-backs.
    pub visible_reads: u32,
    /// A deleted member is still found for this long, in milliseconds.
    pub visible_ms: u64,
    /// The form of error bodies.
    pub error_body: ErrorBody,
    /// The form in which a member is read.
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

/// Who had a member deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeletedBy {
    /// The Program API.
    ProgramApi,
    /// The Member API.
    MemberApi,
    /// An import file.
    Import,
    /// A person, in the platform's screens.
    Manual,
}

/// A deletion that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// Who asked for it.
    pub by: DeletedBy,
    /// Read-backs that will still find the member.
    pub reads_left: u32,
    /// When the member stops being found, in milliseconds since 1970.
    pub until_ms: u64,
}

/// A member.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The platform's own id.
    pub database_id: String,
    /// The member number.
    #[serde(default)]
    pub member_id: Option<String>,
    /// The client's id.
    #[serde(default)]
    pub integration_id: Option<String>,
    /// The card's number.
    #[serde(default)]
    pub card_id: Option<String>,
    /// The address on record.
    #[serde(default)]
    pub email: Option<String>,
    /// The current password.
    #[serde(default)]
    pub password: String,
    /// Tokens with which the member may call.
    #[serde(default)]
    pub access_tokens: Vec<String>,
    /// The accepted deletion, if any.
    #[serde(default)]
    pub deleted: Option<Deletion>,
}

/// One way to name a member.
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
    /// The address on record, case-folded; in import files only.
    Email,
}

impl MemberKey {
    /// The four kinds that the Program API's path takes, in the order in which they are tried.
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
    /// What it is set to.
    pub settings: LoyaltySettings,
    /// By database id; deleted members stay, marked.
    members: BTreeMap<String, Member>,
    /// By database id.
    otps: BTreeMap<String, Otp>,
    #[serde(skip)]
    by_key: HashMap<(MemberKey, String), String>,
    #[serde(skip)]
    by_token: HashMap<String, String>,
}

impl Loyalty {
    /// Adds a member, or replaces the one with the same database id.
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

    /// The latest one-time password in the member's mailbox, and how many were sent.
    pub fn mailbox(&self, database_id: &str) -> Option<(&str, u64)> {
        self.otps.get(database_id).map(|otp| (otp.code.as_str(), otp.sent))
    }

    /// A person deletes the member in the platform's screens. False when there is nobody to delete.
    pub fn delete_by_hand(&mut self, key: MemberKey, value: &str, now_ms: u64) -> bool {
        self.by_key.get(&(key, value.to_owned())).cloned().is_some_and(|id| self.delete(&id, DeletedBy::Manual, now_ms))
    }

    /// The member that a bare id names.
    fn find(&self, id: &str) -> Option<&String> {
        MemberKey::IN_PATH.into_iter().find_map(|key| self.by_key.get(&(key, id.to_owned())))
    }

    /// Accepts a deletion; false when the member is deleted or unknown.
    fn delete(&mut self, database_id: &str, by: DeletedBy, now_ms: u64) -> bool {
        let (reads_left, until_ms) = (self.settings.visible_reads, now_ms + self.settings.visible_ms);
        let member = self.members.get_mut(database_id).filter(|member| member.deleted.is_none());
        member.is_some_and(|member| {
            member.deleted = Some(Deletion { by, reads_left, until_ms });
            true
        })
    }

    /// Whether a read finds the member. A deletion runs on behind the interface, so it may for a while.
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

/// The calls, and the reads that settle them.
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
    /// A person as a member.
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
