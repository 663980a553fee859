//! The stand-in of EasyCMS / ProLasku: accounts, and an envelope with HTTP 200 even for refusals.
//!
//! The rule it keeps: a wrong password and a deleted account get the same answer.

use std::collections::BTreeMap;

use axum::http::{Method, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Kind, Peopled, Seeds, seeds};
use crate::call::{Call, Misuse, Reply, Route, StandIn, first};
use crate::operation::{Operation, Row};
use crate::people::{self, Person};

/// The accepted form of a path; the answer to the other form is a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slash {
    Either,
    /// Without a final slash.
    Without,
    /// With a final slash.
    With,
}

/// The `OUTPUT` of the delete call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// `{"response_type":…,"message":…}`.
    Envelope,
    /// Only the message, as a string.
    BareString,
    /// Left out.
    Missing,
}

/// The `TOTAL_COUNT` of the exists call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TotalCount {
    /// A number.
    Integer,
    /// A number as text.
    String,
    /// Left out.
    Missing,
}

/// The settings of one instance.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EasycmsSettings {
    /// The header `Authorization1`.
    pub authorization: String,
    pub username: String,
    pub password: String,
    pub account: String,
    pub slash: Slash,
    pub output: Output,
    pub total_count: TotalCount,
    /// True if the customer's mail server answers the check before a deletion.
    pub mail_server_answers: bool,
}

impl Default for EasycmsSettings {
    fn default() -> Self {
        EasycmsSettings {
            authorization: "easycms-token".into(),
            username: "shop".into(),
            password: "easycms-password".into(),
            account: "1".into(),
            slash: Slash::Either,
            output: Output::Envelope,
            total_count: TotalCount::Integer,
            mail_server_answers: true,
        }
    }
}

/// A customer's account.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    pub email: String,
    pub customer_password: String,
    #[serde(default)]
    pub erased: bool,
}

/// One EasyCMS shop.
#[derive(Clone, Default, Serialize)]
pub struct Easycms {
    pub settings: EasycmsSettings,
    /// By case-folded e-mail.
    accounts: BTreeMap<String, Account>,
}

const HEADER_WRONG: &str = "UN-AUTHORIZED - header is set but the header value is not correct!";
const LOGIN_WRONG: &str = "UN-AUTHORIZED - _user_name_password_is_set_but_wrong_value!";
const SECRETS: [&str; 3] = ["username", "password", "customer_password"];

impl Easycms {
    /// Adds an account, or replaces the account with the same e-mail.
    pub fn add(&mut self, account: Account) {
        self.accounts.insert(account.email.to_lowercase(), account);
    }

    /// The account, erased or not.
    pub fn account(&self, email: &str) -> Option<&Account> {
        self.accounts.get(&email.to_lowercase())
    }

    fn envelope(&self, kind: &str, message: &str) -> Reply {
        let info = json!({ "version": "1.0" });
        let body = match self.settings.output {
            Output::Envelope => {
                json!({ "INFO": info, "OUTPUT": { "response_type": kind, "message": message } })
            }
            Output::BareString => json!({ "INFO": info, "OUTPUT": message }),
            Output::Missing => json!({ "INFO": info }),
        };
        Reply::json(200, &body)
    }

    fn error(&self, message: &str) -> Reply {
        self.envelope("error", message)
    }

    fn delete(&mut self, email: &str, password: &str) -> Reply {
        if !email.contains('@') || !self.settings.mail_server_answers {
            return self.error("email_is_not_valid");
        }
        let account = self.accounts.get_mut(&email.to_lowercase());
        let Some(account) = account.filter(|account| !account.erased && account.customer_password == password) else {
            return self.error("this_account_does_not_exist_or_your_credentials_do_not_match_this_account");
        };
        account.erased = true;
        self.envelope("success", "customer_acccount_deleted_successfully").effected()
    }

    fn exists(&self, email: &str) -> Reply {
        let count = u64::from(self.account(email).is_some_and(|account| !account.erased));
        let output = match self.settings.total_count {
            TotalCount::Integer => json!({ "TOTAL_COUNT": count }),
            TotalCount::String => json!({ "TOTAL_COUNT": count.to_string() }),
            TotalCount::Missing => json!({}),
        };
        Reply::json(200, &json!({ "INFO": { "version": "1.0" }, "OUTPUT": output }))
    }

    fn redirect(&self, call: &Call) -> Option<Reply> {
        let slashed = call.segments.last().is_some_and(String::is_empty);
        let right = match self.settings.slash {
            Slash::Either => return None,
            Slash::Without => !slashed,
            Slash::With => slashed,
        };
        let path = call.segments.join("/");
        let path = if slashed { path.trim_end_matches('/').to_owned() } else { format!("{path}/") };
        let location = format!("/{}/{path}", call.system);
        (!right).then(|| Reply::text(301, "Moved").with_header(header::LOCATION, location))
    }
}

/// The calls, and the reads that show their effect.
pub(super) const OPERATIONS: &[Row] = &[
    Row::settled(Operation::DeleteAccount, "easycms.delete_account", &[Operation::CustomerExists]),
    Row::read(Operation::CustomerExists, "easycms.customer_exists"),
];

/// The password of the customer of the example job.
const EXAMPLE_PASSWORD: &str = "shop-password-ann";

impl Peopled for Easycms {
    const KIND: Kind = Kind {
        name: "easycms",
        paths: &["easycms"],
        table: |base, name| {
            let EasycmsSettings { authorization, username, password, account, .. } = EasycmsSettings::default();
            format!(
                "kind = \"easycms\"\nbase_url = \"{base}/{name}\"\nauthorization = \"{authorization}\"\n\
                 username = \"{username}\"\npassword = \"{password}\"\naccount = \"{account}\"\n"
            )
        },
        target: |person| {
            let (email, password) = (&person.email, &person.customer_password);
            json!({ "system": "easycms", "email": email, "customer_password": password })
        },
        example: || {
            let (email, password) = (people::EXAMPLE_EMAIL, EXAMPLE_PASSWORD);
            json!({ "system": "easycms", "email": email, "customer_password": password })
        },
    };
    type Settings = EasycmsSettings;

    fn settings(&mut self) -> &mut EasycmsSettings {
        &mut self.settings
    }

    fn seeds(collection: &str, body: Value) -> Option<Result<Seeds<Self>, serde_json::Error>> {
        (collection == "accounts").then(|| seeds(body, Easycms::add))
    }

    fn add_person(&mut self, person: &Person) {
        let (email, customer_password) = (person.email.clone(), person.customer_password.clone());
        self.add(Account { email, customer_password, erased: false });
    }

    fn remains(&self, person: &Person) -> Vec<&'static str> {
        let is_left = self.account(&person.email).is_some_and(|account| !account.erased);
        Vec::from_iter(is_left.then_some("easycms: account"))
    }

    fn add_example(&mut self) {
        let (email, customer_password) = (people::EXAMPLE_EMAIL.to_owned(), EXAMPLE_PASSWORD.to_owned());
        self.add(Account { email, customer_password, erased: false });
    }
}

impl StandIn for Easycms {
    fn route(&self, call: &Call) -> Route {
        let path = call.path();
        let path = path.strip_suffix(&[""]).unwrap_or(&path);
        let fields = call.form().unwrap_or_default();
        let email = first(&fields, "email").or_else(|| call.query("email")).map(str::to_lowercase);
        match (&call.method, path) {
            (&Method::POST, ["public_api", "set_customer_delete_account"]) => {
                Route::new(Operation::DeleteAccount, "/public_api/set_customer_delete_account", email)
            }
            (&Method::POST, ["public_api", "get_customer_exists"]) => {
                Route::new(Operation::CustomerExists, "/public_api/get_customer_exists", email)
            }
            _ => Route::unknown(),
        }
    }

    fn answer(&mut self, route: &Route, call: &Call, _now_ms: u64) -> Reply {
        if route.operation == Operation::Unknown {
            return Reply::text(404, "Not found");
        }
        // Checked first: a secret in the query is in access logs even if the call is otherwise correct.
        if SECRETS.iter().any(|secret| call.query(secret).is_some()) {
            return self.error(LOGIN_WRONG).unauthorised().misused(Misuse::CredentialsInQuery);
        }
        if let Some(redirect) = self.redirect(call) {
            return redirect;
        }
        if call.header("authorization1") != Some(&self.settings.authorization) {
            return self.error(HEADER_WRONG).unauthorised();
        }
        let Some(fields) = call.form() else {
            return self.error(LOGIN_WRONG).unauthorised().misused(Misuse::NotForm);
        };
        let field = |name| first(&fields, name).unwrap_or_default();
        let own = [field("username"), field("password"), field("account")];
        if own != [&self.settings.username, &self.settings.password, &self.settings.account] {
            return self.error(LOGIN_WRONG).unauthorised();
        }
        if fields.iter().filter(|(name, _)| name == "email").count() != 1 {
            return self.error("Maximum query size is 1 rows per query").misused(Misuse::WrongParameters);
        }
        match route.operation {
            Operation::DeleteAccount => self.delete(field("email"), field("customer_password")),
            _ => self.exists(field("email")),
        }
    }

    fn pretend(&mut self, route: &Route, call: &Call, now_ms: u64) -> Reply {
        self.clone().answer(route, call, now_ms)
    }

    fn refuse(&self, _operation: Operation) -> Reply {
        self.error(HEADER_WRONG).unauthorised()
    }
}
