//! The stand-in of Cleeng: customers, their entitlements, and the routes of the three interfaces.
//!
//! The rule it keeps: a customer's key is the id. A search by e-mail finds only customers that are not erased.

mod answers;
mod jwt;

use std::collections::{BTreeMap, HashMap};

use axum::http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::jwt::mint_jwt;
use super::{Kind, Peopled, Seeds, seeds};
use crate::call::{Call, Reply, Route, StandIn};
use crate::operation::{Operation, Row};
use crate::people::{self, Person};

/// The answer to a read of an anonymised customer (not documented; both are plausible).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anonymised {
    /// 404 `Customer not found`.
    NotFound,
    /// 200 with another name and e-mail.
    Scrubbed,
}

/// The body of the entitlement list (not documented; both are plausible).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListShape {
    /// `{"items":[…]}`.
    Items,
    /// `{"success":true,"data":[…]}`.
    Data,
}

/// The `error` member of a JSON-RPC success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RpcError {
    /// Left out.
    Absent,
    /// `null`.
    Null,
    /// `false`.
    False,
}

/// The settings of one instance.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CleengSettings {
    /// The accepted publisher token.
    pub publisher_token: String,
    pub anonymised: Anonymised,
    pub list_shape: ListShape,
    /// Rows have `subscriptionId` or `passId`.
    pub list_ids: bool,
    /// Every listing begins at another row, so that two pages may overlap and omit a row.
    pub unstable_order: bool,
    pub rpc_error: RpcError,
}

impl Default for CleengSettings {
    fn default() -> Self {
        CleengSettings {
            publisher_token: "publisher-token".into(),
            anonymised: Anonymised::NotFound,
            list_shape: ListShape::Items,
            list_ids: true,
            unstable_order: false,
            rpc_error: RpcError::False,
        }
    }
}

/// The state of an entitlement. It decides about access; the expiry time does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntitlementStatus {
    /// Gives access.
    #[default]
    Active,
    /// Not renewed; gives access until it expires.
    Cancelled,
    Expired,
    Terminated,
}

impl EntitlementStatus {
    pub fn gives_access(self) -> bool {
        matches!(self, EntitlementStatus::Active | EntitlementStatus::Cancelled)
    }
}

/// The kind of an entitlement, with its letter in `offerType`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntitlementKind {
    /// `S`.
    #[default]
    Subscription,
    /// `P`.
    Pass,
    /// `R`; listed only if `offerType` has it.
    Rental,
}

impl EntitlementKind {
    fn letter(self) -> &'static str {
        match self {
            EntitlementKind::Subscription => "S",
            EntitlementKind::Pass => "P",
            EntitlementKind::Rental => "R",
        }
    }
}

/// A customer's right to use an offer.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entitlement {
    pub offer_id: String,
    #[serde(default)]
    pub status: EntitlementStatus,
    #[serde(default)]
    pub kind: EntitlementKind,
    /// The subscription's or pass's id, unique in the instance.
    #[serde(default)]
    pub id: Option<u64>,
    /// Managed by an app store: a termination is refused.
    #[serde(default)]
    pub externally_managed: bool,
    /// Unix seconds.
    #[serde(default)]
    pub expires_at: i64,
    /// A termination is refused.
    #[serde(default)]
    pub wont_terminate: bool,
}

impl Entitlement {
    /// An active subscription to `offer_id`.
    pub fn active(offer_id: impl Into<String>) -> Entitlement {
        Entitlement {
            offer_id: offer_id.into(),
            status: EntitlementStatus::Active,
            kind: EntitlementKind::Subscription,
            id: None,
            externally_managed: false,
            expires_at: 4_102_444_800,
            wont_terminate: false,
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Customer {
    /// Digits.
    pub id: String,
    /// The key of JSON-RPC calls.
    pub email: String,
    #[serde(default)]
    pub first_name: String,
    #[serde(default)]
    pub last_name: String,
    /// Another broadcaster has the customer too: the answer to a deletion is the ambiguous 404.
    #[serde(default)]
    pub shared: bool,
    #[serde(default)]
    pub entitlements: Vec<Entitlement>,
    /// Anonymised: name and e-mail are replaced.
    #[serde(default)]
    pub erased: bool,
}

/// One Cleeng publisher.
#[derive(Clone, Default, Serialize)]
pub struct Cleeng {
    pub settings: CleengSettings,
    customers: BTreeMap<String, Customer>,
    /// Case-folded e-mail to customer id. Kept after the erasure, only for the ledger's subject.
    #[serde(skip)]
    by_email: HashMap<String, String>,
    #[serde(skip)]
    by_entitlement: HashMap<u64, String>,
    #[serde(skip)]
    listings: usize,
}

impl Cleeng {
    /// Adds a customer, or replaces the customer with the same id.
    pub fn add(&mut self, customer: Customer) {
        self.by_email.insert(customer.email.to_lowercase(), customer.id.clone());
        for id in customer.entitlements.iter().filter_map(|entitlement| entitlement.id) {
            self.by_entitlement.insert(id, customer.id.clone());
        }
        self.customers.insert(customer.id.clone(), customer);
    }

    /// The customer, erased or not.
    pub fn customer(&self, id: &str) -> Option<&Customer> {
        self.customers.get(id)
    }

    /// The customer, unless erased.
    fn active(&self, id: &str) -> Option<&Customer> {
        self.customers.get(id).filter(|customer| !customer.erased)
    }

    fn owner_of(&self, entitlement: &str) -> Option<String> {
        self.by_entitlement.get(&entitlement.parse().ok()?).cloned()
    }
}

/// The string or the number under `name`, as text.
fn text_of(value: &Value, name: &str) -> Option<String> {
    match value.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The calls, and the reads that show their effect.
pub(super) const OPERATIONS: &[Row] = &[
    Row::read(Operation::ListEntitlements, "cleeng.list_entitlements"),
    Row::settled(
        Operation::UpdateSubscription,
        "cleeng.update_subscription",
        &[Operation::ListEntitlements, Operation::CustomerOffers],
    ),
    Row::settled(
        Operation::TerminateSubscription,
        "cleeng.terminate_subscription",
        &[Operation::ListEntitlements, Operation::CustomerOffers],
    ),
    Row::settled(
        Operation::TerminatePass,
        "cleeng.terminate_pass",
        &[Operation::ListEntitlements, Operation::CustomerOffers],
    ),
    Row::settled(Operation::DeleteCustomer, "cleeng.delete_customer", &[Operation::GetCustomer]),
    Row::read(Operation::GetCustomer, "cleeng.get_customer"),
    Row::read(Operation::ListCustomers, "cleeng.list_customers"),
    Row::read(Operation::CustomerOffers, "cleeng.customer_offers"),
];

/// The customer of the example job.
const EXAMPLE_ID: &str = "123456789";

impl Peopled for Cleeng {
    const KIND: Kind = Kind {
        name: "cleeng",
        paths: &["cleeng/core", "cleeng/rpc", "cleeng/mediastore"],
        table: |base, name| {
            let token = CleengSettings::default().publisher_token;
            format!(
                "kind = \"cleeng\"\ncore_url = \"{base}/{name}/core\"\nrpc_url = \"{base}/{name}/rpc\"\n\
                 mediastore_url = \"{base}/{name}/mediastore\"\npublisher_token = \"{token}\"\n"
            )
        },
        target: |person| {
            let (id, email) = (&person.customer_id, &person.email);
            json!({ "system": "cleeng", "flow": "backend", "customer_id": id, "customer_email": email })
        },
        example: || {
            let (id, email) = (EXAMPLE_ID, people::EXAMPLE_EMAIL);
            json!({ "system": "cleeng", "flow": "backend", "customer_id": id, "customer_email": email })
        },
    };
    type Settings = CleengSettings;

    fn settings(&mut self) -> &mut CleengSettings {
        &mut self.settings
    }

    fn seeds(collection: &str, body: Value) -> Option<Result<Seeds<Self>, serde_json::Error>> {
        (collection == "customers").then(|| seeds(body, Cleeng::add))
    }

    fn add_person(&mut self, person: &Person) {
        let id = |place: u64| Some(1_000_000 + person.number * 2 + place);
        self.add(Customer {
            id: person.customer_id.clone(),
            email: person.email.clone(),
            first_name: person.first_name(),
            last_name: person.last_name(),
            shared: false,
            entitlements: vec![
                Entitlement { id: id(0), ..Entitlement::active("S100_EX") },
                Entitlement {
                    id: id(1),
                    kind: EntitlementKind::Pass,
                    status: EntitlementStatus::Cancelled,
                    ..Entitlement::active("P200_EX")
                },
            ],
            erased: false,
        });
    }

    fn remains(&self, person: &Person) -> Vec<&'static str> {
        let Some(customer) = self.customer(&person.customer_id) else { return Vec::new() };
        let has_access = customer.entitlements.iter().any(|row| row.status.gives_access());
        let each = [("cleeng: customer", !customer.erased), ("cleeng: entitlement", has_access)];
        each.into_iter().filter(|(_, is_left)| *is_left).map(|(what, _)| what).collect()
    }

    fn add_example(&mut self) {
        self.add(Customer {
            id: EXAMPLE_ID.to_owned(),
            email: people::EXAMPLE_EMAIL.to_owned(),
            first_name: "Ann".to_owned(),
            last_name: "Example".to_owned(),
            shared: false,
            entitlements: vec![Entitlement::active("S100_EX")],
            erased: false,
        });
    }
}

impl StandIn for Cleeng {
    fn route(&self, call: &Call) -> Route {
        use Operation::{
            CustomerOffers, DeleteCustomer, GetCustomer, ListCustomers, ListEntitlements, TerminatePass,
            TerminateSubscription, UpdateSubscription,
        };
        let known = |id: &str| Some(id.to_owned());
        match (&call.method, call.path().as_slice()) {
            (&Method::GET, ["core", "entitlements"]) => {
                Route::new(ListEntitlements, "/core/entitlements", call.query("customerId").and_then(known))
            }
            (&Method::GET, ["core", "customers"]) => {
                let email = call.query("email");
                let subject = email.map(|email| self.by_email.get(&email.to_lowercase()).map_or(email, String::as_str));
                Route::new(ListCustomers, "/core/customers", subject.map(str::to_owned))
            }
            (&Method::GET, ["core", "customers", id]) => Route::new(GetCustomer, "/core/customers/{id}", known(id)),
            (&Method::DELETE, ["core", "customers", id]) => {
                Route::new(DeleteCustomer, "/core/customers/{id}", known(id))
            }
            (&Method::POST, ["core", "subscriptions", id, "terminate"]) => Route {
                object: known(id),
                ..Route::new(TerminateSubscription, "/core/subscriptions/{id}/terminate", self.owner_of(id))
            },
            (&Method::POST, ["core", "passes", id, "terminate"]) => Route {
                object: known(id),
                ..Route::new(TerminatePass, "/core/passes/{id}/terminate", self.owner_of(id))
            },
            (&Method::POST, ["rpc"]) => {
                let body = call.json();
                let params = &body["params"];
                let email = text_of(params, "customerEmail");
                let subject = email.map(|email| self.by_email.get(&email.to_lowercase()).cloned().unwrap_or(email));
                Route { object: text_of(params, "offerId"), ..Route::new(UpdateSubscription, "/rpc", subject) }
            }
            (&Method::GET, ["mediastore", "customers", id, "offers"]) => {
                Route::new(CustomerOffers, "/mediastore/customers/{id}/offers", known(id))
            }
            _ => Route::unknown(),
        }
    }

    fn answer(&mut self, route: &Route, call: &Call, now_ms: u64) -> Reply {
        let subject = route.subject.clone().unwrap_or_default();
        match route.operation {
            Operation::UpdateSubscription => self.update_subscription(call),
            Operation::CustomerOffers => self.customer_offers(call, &subject, now_ms),
            _ if call.header("x-publisher-token") != Some(&self.settings.publisher_token) => {
                self.refuse(route.operation)
            }
            Operation::ListEntitlements => self.list_entitlements(call),
            Operation::GetCustomer => self.get_customer(&subject),
            Operation::ListCustomers => self.list_customers(call),
            Operation::DeleteCustomer => self.delete_customer(&subject),
            Operation::TerminateSubscription => self.terminate(route, call, EntitlementKind::Subscription),
            Operation::TerminatePass => self.terminate(route, call, EntitlementKind::Pass),
            _ => answers::message(404, "Not found"),
        }
    }

    fn pretend(&mut self, route: &Route, call: &Call, now_ms: u64) -> Reply {
        self.clone().answer(route, call, now_ms)
    }

    fn refuse(&self, operation: Operation) -> Reply {
        match operation {
            Operation::UpdateSubscription => answers::rpc_error(3, "Invalid publisher token"),
            Operation::CustomerOffers => answers::media_store_error(401, "Invalid JWT"),
            _ => answers::message(401, "Invalid publisher token"),
        }
        .unauthorised()
    }
}
