//! The names of the calls, in the ledger and in fault rules.
//!
//! The rule it keeps: each call has one row: its name, and the reads that show its effect. The rows are in the files of
//! the stand-ins; a call without a row does not compile.

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
    /// The harmless call of a connector file.
    ConnectorProbe,
    /// A read of a connector file.
    ConnectorRead,
    /// An act of a connector file: a repeat must be decided by a read.
    ConnectorAct,
    /// An act of a connector file whose repeat is recognised or does no harm.
    ConnectorRepeatableAct,
    /// Any path or method that the system does not have.
    Unknown,
}

impl Operation {
    /// Every kind.
    pub const ALL: [Operation; 27] = [
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
        Operation::ConnectorProbe,
        Operation::ConnectorRead,
        Operation::ConnectorAct,
        Operation::ConnectorRepeatableAct,
        Operation::Unknown,
    ];
}

/// A call's name, and the reads of [`Operation::settled_by`].
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) operation: Operation,
    pub(crate) name: &'static str,
    pub(crate) settled_by: &'static [Operation],
}

impl Row {
    /// A call that is not destructive.
    pub(crate) const fn read(operation: Operation, name: &'static str) -> Row {
        Row { operation, name, settled_by: &[] }
    }

    /// A destructive call.
    pub(crate) const fn settled(operation: Operation, name: &'static str, settled_by: &'static [Operation]) -> Row {
        Row { operation, name, settled_by }
    }
}

/// For paths and methods that no system has.
pub(crate) const UNKNOWN: Row = Row::read(Operation::Unknown, "unknown");
