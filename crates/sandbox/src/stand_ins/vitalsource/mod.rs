//! The stand-in of VitalSource: users, redemption codes, licences.
//!
//! The rule it keeps: a user's key is the GUID, even if the reference changes. A licence from a code ends with the code.

mod answers;
mod xml;

use std::collections::{BTreeMap, HashMap};

use axum::http::{Method, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Kind, Peopled, Seeds, seeds};
use crate::call::{Call, Misuse, Reply, Route, StandIn};
use crate::operation::{Operation, Row};
use crate::people::{self, Person};

/// The answer to a successful `PUT` (not documented).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateReply {
    /// The changed `<user>`.
    User,
    /// An empty body.
    Empty,
}

/// The answer to a read of an unknown user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownUser {
    /// HTTP 404.
    NotFound,
    /// `<error-response>` with HTTP 200.
    ErrorOnOk,
}

/// The limit per endpoint and key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Calls in one window.
    pub calls: u32,
    /// The window, and the block that follows, in milliseconds.
    pub window_ms: u64,
    /// The extension of the block by a call during the block, in milliseconds.
    pub penalty_ms: u64,
}

/// The settings of one instance.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VitalsourceSettings {
    /// The accepted API key.
    pub api_key: String,
    /// True if the key may revoke codes; otherwise 403.
    pub may_revoke: bool,
    /// The status for a code that was cancelled before: 469; 422 on an older page of the vendor.
    pub already_cancelled_status: u16,
    /// The HTTP status of the numbered refusals (1005 and so on).
    pub refusal_status: u16,
    pub update_reply: UpdateReply,
    pub unknown_user: UnknownUser,
    pub rate_limit: Option<RateLimit>,
}

impl Default for VitalsourceSettings {
    fn default() -> Self {
        VitalsourceSettings {
            api_key: "VITALSOURCEKEY".into(),
            may_revoke: true,
            already_cancelled_status: 469,
            refusal_status: 422,
            update_reply: UpdateReply::User,
            unknown_user: UnknownUser::NotFound,
            rate_limit: None,
        }
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The platform's own id.
    pub guid: String,
    /// The requester's id.
    #[serde(default)]
    pub reference: String,
    #[serde(default)]
    pub first_name: String,
    #[serde(default)]
    pub last_name: String,
    /// Empty for a reference user.
    #[serde(default)]
    pub email: String,
    #[serde(default)]
    pub affiliate: String,
}

/// A refusal to revoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WontRevoke {
    /// 1005, 1006, 1007, 1008, 1009, 1014, …
    pub code: u16,
    /// The content is removed although the revocation is refused.
    #[serde(default)]
    pub content_removed: bool,
    /// The number of refused calls; `None`: all.
    #[serde(default)]
    pub times: Option<u32>,
}

/// A redemption code.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Code {
    pub code: String,
    /// The user's GUID; a revocation of an unassigned code is refused with 1006.
    #[serde(default)]
    pub owner: Option<String>,
    /// The book.
    #[serde(default)]
    pub sku: String,
    /// The time of redemption, in the platform's form; `None` is shown as `Not Redeemed`.
    #[serde(default)]
    pub redeemed_at: Option<String>,
    /// Cancelled: the licence has ended too.
    #[serde(default)]
    pub cancelled: bool,
    /// The refusal of revocations, if any.
    #[serde(default)]
    pub wont_revoke: Option<WontRevoke>,
}

impl Code {
    /// The time this many days ago, in the platform's form.
    pub fn days_ago(days: u32) -> String {
        let then = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * i64::from(days));
        then.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
    }
}

/// A licence without a code.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// The GUID of the user.
    pub owner: String,
    /// The book.
    pub sku: String,
    /// `never`, or a date such as `Thu, 10 Mar 2016 22:14:54 GMT`.
    pub expiration: String,
}

#[derive(Clone, Default)]
struct Window {
    began_ms: u64,
    calls: u32,
    blocked_until_ms: u64,
}

/// One VitalSource company account.
#[derive(Clone, Default, Serialize)]
pub struct Vitalsource {
    pub settings: VitalsourceSettings,
    /// By GUID.
    users: BTreeMap<String, User>,
    codes: BTreeMap<String, Code>,
    licences: Vec<Licence>,
    #[serde(skip)]
    by_reference: HashMap<String, String>,
    #[serde(skip)]
    by_token: HashMap<String, String>,
    #[serde(skip)]
    codes_of: HashMap<String, Vec<String>>,
    #[serde(skip)]
    windows: HashMap<(Operation, String), Window>,
}

impl Vitalsource {
    /// Adds a user, or replaces the user with the same GUID.
    pub fn add_user(&mut self, user: User) {
        if !user.reference.is_empty() {
            self.by_reference.insert(user.reference.clone(), user.guid.clone());
        }
        self.by_token.insert(access_token(&user.guid), user.guid.clone());
        self.users.insert(user.guid.clone(), user);
    }

    /// Adds or replaces a code.
    pub fn add_code(&mut self, code: Code) {
        if let Some(owner) = &code.owner {
            self.codes_of.entry(owner.clone()).or_default().push(code.code.clone());
        }
        self.codes.insert(code.code.clone(), code);
    }

    pub fn add_licence(&mut self, licence: Licence) {
        self.licences.push(licence);
    }

    pub fn user(&self, guid: &str) -> Option<&User> {
        self.users.get(guid)
    }

    pub fn code(&self, code: &str) -> Option<&Code> {
        self.codes.get(code)
    }

    /// The GUID of a user, given by GUID or reference.
    fn guid_of(&self, name: &str) -> Option<String> {
        self.users.get(name).map(|user| user.guid.clone()).or_else(|| self.by_reference.get(name).cloned())
    }

    /// 429 while the endpoint is blocked for this key; counts the call otherwise.
    fn limited(&mut self, operation: Operation, key: &str, now_ms: u64) -> Option<Reply> {
        let limit = self.settings.rate_limit?;
        let window = self.windows.entry((operation, key.to_owned())).or_default();
        let blocked = now_ms < window.blocked_until_ms;
        if blocked {
            window.blocked_until_ms += limit.penalty_ms;
        } else {
            if now_ms >= window.began_ms + limit.window_ms || window.blocked_until_ms > window.began_ms {
                *window = Window { began_ms: now_ms, calls: 0, blocked_until_ms: 0 };
            }
            window.calls += 1;
            if window.calls <= limit.calls {
                return None;
            }
            window.blocked_until_ms = now_ms + limit.window_ms;
        }
        let seconds = (window.blocked_until_ms - now_ms).div_ceil(1000);
        let reply = Reply::xml(429, xml::error_response(429, "Too many requests"))
            .with_header(header::RETRY_AFTER, seconds.to_string());
        Some(if blocked { reply.misused(Misuse::CalledWhileBlocked) } else { reply })
    }
}

/// The access token of a user: lower-case letters and digits.
fn access_token(guid: &str) -> String {
    hex::encode(&Sha256::digest(guid.as_bytes())[..16])
}

/// The calls, and the reads that show their effect.
pub(super) const OPERATIONS: &[Row] = &[
    Row::settled(Operation::RevokeCode, "vitalsource.revoke_code", &[Operation::GetCode]),
    Row::read(Operation::GetCode, "vitalsource.get_code"),
    Row::read(Operation::GetUser, "vitalsource.get_user"),
    Row::settled(Operation::UpdateUser, "vitalsource.update_user", &[Operation::GetUser]),
    Row::read(Operation::Credentials, "vitalsource.credentials"),
    Row::read(Operation::Licenses, "vitalsource.licenses"),
];

/// The user of the example job.
const EXAMPLE_GUID: &str = "GUID0000000000ANN";
/// The same user's reference.
const EXAMPLE_REFERENCE: &str = "shop-ann";
/// The same user's redeemed code.
const EXAMPLE_CODE: &str = "ABC123";

impl Peopled for Vitalsource {
    const KIND: Kind = Kind {
        name: "vitalsource",
        paths: &["vitalsource"],
        table: |base, name| {
            let key = VitalsourceSettings::default().api_key;
            // The stand-in has no rate limit by default.
            format!(
                "kind = \"vitalsource\"\nbase_url = \"{base}/{name}\"\napi_key = \"{key}\"\n\
                 requests_per_minute = 100000\n"
            )
        },
        target: |person| {
            let codes: Vec<Value> =
                person.codes.iter().map(|code| json!({ "code": code, "percent_read": 5 })).collect();
            let (guid, reference) = (&person.guid, &person.reference);
            json!({ "system": "vitalsource", "guid": guid, "reference": reference, "codes": codes })
        },
        example: || {
            let (guid, reference, codes) = (EXAMPLE_GUID, EXAMPLE_REFERENCE, json!([{ "code": EXAMPLE_CODE }]));
            json!({ "system": "vitalsource", "guid": guid, "reference": reference, "codes": codes })
        },
    };
    type Settings = VitalsourceSettings;

    fn settings(&mut self) -> &mut VitalsourceSettings {
        &mut self.settings
    }

    fn seeds(collection: &str, body: Value) -> Option<Result<Seeds<Self>, serde_json::Error>> {
        match collection {
            "users" => Some(seeds(body, Vitalsource::add_user)),
            "codes" => Some(seeds(body, Vitalsource::add_code)),
            "licenses" => Some(seeds(body, Vitalsource::add_licence)),
            _ => None,
        }
    }

    fn add_person(&mut self, person: &Person) {
        self.add_user(User {
            guid: person.guid.clone(),
            reference: person.reference.clone(),
            first_name: person.first_name(),
            last_name: person.last_name(),
            email: person.email.clone(),
            affiliate: format!("Affiliate{}", person.number),
        });
        for (place, code) in person.codes.iter().enumerate() {
            self.add_code(Code {
                code: code.clone(),
                owner: Some(person.guid.clone()),
                sku: format!("BOOK-{place}"),
                redeemed_at: (place == 0).then(|| Code::days_ago(300)),
                ..Code::default()
            });
        }
    }

    fn remains(&self, person: &Person) -> Vec<&'static str> {
        let is_original = |user: &User| {
            user.email == person.email
                || user.first_name == person.first_name()
                || user.last_name == person.last_name()
                || user.affiliate == format!("Affiliate{}", person.number)
        };
        let has_code = person.codes.iter().any(|code| self.code(code).is_some_and(|code| !code.cancelled));
        let is_there = self.user(&person.guid).is_some_and(is_original);
        let each = [("vitalsource: code", has_code), ("vitalsource: user", is_there)];
        each.into_iter().filter(|(_, is_left)| *is_left).map(|(what, _)| what).collect()
    }

    fn add_example(&mut self) {
        self.add_user(User {
            guid: EXAMPLE_GUID.to_owned(),
            reference: EXAMPLE_REFERENCE.to_owned(),
            first_name: "Ann".to_owned(),
            last_name: "Example".to_owned(),
            email: people::EXAMPLE_EMAIL.to_owned(),
            affiliate: "Affiliate".to_owned(),
        });
        self.add_code(Code {
            code: EXAMPLE_CODE.to_owned(),
            owner: Some(EXAMPLE_GUID.to_owned()),
            sku: "BOOK-1".to_owned(),
            redeemed_at: Some(Code::days_ago(7)),
            ..Code::default()
        });
    }
}

impl StandIn for Vitalsource {
    fn route(&self, call: &Call) -> Route {
        let guid = |name: &str| self.guid_of(name).or_else(|| Some(name.to_owned()));
        match (&call.method, call.path().as_slice()) {
            (&Method::DELETE, ["v4", "codes", code]) => {
                Route::new(Operation::RevokeCode, "/v4/codes/{code}", Some((*code).to_owned()))
            }
            (&Method::GET, ["v4", "codes", code]) => {
                Route::new(Operation::GetCode, "/v4/codes/{code}", Some((*code).to_owned()))
            }
            (&Method::GET, ["v3", "users.xml", name]) => {
                Route::new(Operation::GetUser, "/v3/users.xml/{user}", guid(name))
            }
            (&Method::PUT, ["v3", "users.xml", name]) => {
                Route::new(Operation::UpdateUser, "/v3/users.xml/{user}", guid(name))
            }
            (&Method::POST, ["v3", "credentials.xml"]) => {
                let reference = xml::attribute_of(&call.body, "credential", "reference");
                let subject = reference.and_then(|reference| guid(&reference));
                Route::new(Operation::Credentials, "/v3/credentials.xml", subject)
            }
            (&Method::GET, ["v3", "licenses.xml"]) => {
                let token = call.header("x-vitalsource-access-token");
                let subject = token.and_then(|token| self.by_token.get(token).cloned());
                Route::new(Operation::Licenses, "/v3/licenses.xml", subject)
            }
            _ => Route::unknown(),
        }
    }

    fn answer(&mut self, route: &Route, call: &Call, now_ms: u64) -> Reply {
        if route.operation == Operation::Unknown {
            return Reply::xml(404, xml::error_response(404, "Not Found"));
        }
        let key = call.header("x-vitalsource-api-key").unwrap_or_default();
        if key != self.settings.api_key {
            return self.refuse(route.operation);
        }
        if let Some(limited) = self.limited(route.operation, key, now_ms) {
            return limited;
        }
        let subject = route.subject.clone().unwrap_or_default();
        match route.operation {
            Operation::RevokeCode => self.revoke_code(&subject),
            Operation::GetCode => self.get_code(&subject),
            Operation::GetUser => self.get_user(&subject),
            Operation::UpdateUser => self.update_user(call, &subject),
            Operation::Credentials => self.credentials(&subject),
            _ => self.licences(route.subject.as_deref()),
        }
    }

    fn pretend(&mut self, route: &Route, call: &Call, now_ms: u64) -> Reply {
        self.clone().answer(route, call, now_ms)
    }

    fn refuse(&self, _operation: Operation) -> Reply {
        Reply::xml(401, xml::error_response(401, "Unauthorized")).unauthorised()
    }
}
