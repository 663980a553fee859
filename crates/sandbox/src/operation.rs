//! The names of the calls that the stand-ins know, in the ledger and in fault rules alike.
//!
//! The rule it keeps: one row says how a call is named, whether it destroys, and which read settles it. The rows
//! lie with the stand-ins; a call without one does not compile.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::stand_ins::OPERATIONS;

/// One kind of call. Its JSON form is the stable name, for example `cleeng.delete_customer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// `GET {core}/entitlements`.
    ListEntitlements,
    /// JSON-RPC `updateCustomerSubscription`.
    UpdateSubscription,
    /// `POST {core}/subscriptions/{id}/terminate`.
    TerminateSubscription,
    /// `POST {core}/passes/{id}/terminate`.
    TerminatePass,
    /// `DELETE {core}/customers/{id}`.
    DeleteCustomer,
    /// `GET {core}/customers/{id}`.
    GetCustomer,
    /// `GET {core}/customers?email=`.
    ListCustomers,
    /// `GET {mediastore}/customers/{id}/offers`.
    CustomerOffers,
    /// `DELETE {base}/api/profile`.
    DeleteProfile,
    /// `POST {base}/api/profile/otp`.
    RequestOtp,
    /// `GET {base}/api/profile`.
    GetProfile,
    /// `DELETE {base}/program/api/members/{id}`.
    DeleteMember,
    /// `GET {base}/program/api/members/{id}`.
    GetMember,
    /// `POST {base}/public_api/set_customer_delete_account`.
    DeleteAccount,
    /// `POST {base}/public_api/get_customer_exists`.
    CustomerExists,
    /// `DELETE /v4/codes/{code}`.
    RevokeCode,
    /// `GET /v4/codes/{code}`.
    GetCode,
    /// `GET /v3/users.xml/{guid|reference}`.
    GetUser,
    /// `PUT /v3/users.xml/{guid|reference}`.
    UpdateUser,
    /// `POST /v3/credentials.xml`.
    Credentials,
    /// `GET /v3/licenses.xml`.
    Licenses,
    /// `POST /requester/abandon`, the requester's own endpoint.
    Abandon,
    /// Any path or method that the system does not have.
    Unknown,
}

impl Operation {
    /// Every kind.
    pub const ALL: [Operation; 23] = [
        Operation::ListEntitlements,
        Operation::UpdateSubscription,
        Operation::TerminateSubscription,
        Operation::TerminatePass,
        Operation::DeleteCustomer,
        Operation::GetCustomer,
        Operation::ListCustomers,
        Operation::CustomerOffers,
        Operation::DeleteProfile,
        Operation::RequestOtp,
        Operation::GetProfile,
        Operation::DeleteMember,
        Operation::GetMember,
        Operation::DeleteAccount,
        Operation::CustomerExists,
        Operation::RevokeCode,
        Operation::GetCode,
        Operation::GetUser,
        Operation::UpdateUser,
        Operation::Credentials,
        Operation::Licenses,
        Operation::Abandon,
        Operation::Unknown,
    ];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        ROWS[self as usize].name
    }

    /// The reads that tell, for the same subject, whether a lost call of this kind took effect.
    /// Empty for calls that destroy nothing.
    pub fn settled_by(self) -> &'static [Operation] {
        ROWS[self as usize].settled_by
    }

    /// Whether the call erases, ends or overwrites something.
    pub fn destructive(self) -> bool {
        !self.settled_by().is_empty()
    }
}

impl Serialize for Operation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Operation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = Operation::ALL.into_iter().find(|operation| operation.as_str() == name);
        known.ok_or_else(|| D::Error::unknown_variant(&name, &NAMES))
    }
}

/// What is to be known of a call.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    operation: Operation,
    name: &'static str,
    settled_by: &'static [Operation],
}

impl Row {
    /// A call that destroys nothing.
    pub(crate) const fn read(operation: Operation, name: &'static str) -> Row {
        Row { operation, name, settled_by: &[] }
    }

    /// A call that destroys, and the reads of [`Operation::settled_by`].
    pub(crate) const fn settled(operation: Operation, name: &'static str, settled_by: &'static [Operation]) -> Row {
        Row { operation, name, settled_by }
    }
}

/// Of paths and methods that no system has.
pub(crate) const UNKNOWN: Row = Row::read(Operation::Unknown, "unknown");

const COUNT: usize = Operation::ALL.len();

/// The row of each call, in the order of [`Operation::ALL`].
const ROWS: [Row; COUNT] = {
    let mut rows = [UNKNOWN; COUNT];
    let mut table = 0;
    while table < OPERATIONS.len() {
        let mut row = 0;
        while row < OPERATIONS[table].len() {
            rows[OPERATIONS[table][row].operation as usize] = OPERATIONS[table][row];
            row += 1;
        }
        table += 1;
    }
    let mut place = 0;
    while place < COUNT {
        assert!(rows[place].operation as usize == place, "a call has no row");
        assert!(Operation::ALL[place] as usize == place, "a call is not in its place");
        place += 1;
    }
    rows
};

const NAMES: [&str; COUNT] = {
    let mut names = [""; COUNT];
    let mut place = 0;
    while place < COUNT {
        names[place] = ROWS[place].name;
        place += 1;
    }
    names
};
