//! The names of the calls that the stand-ins know, in the ledger and in fault rules alike.
//!
//! The rule it keeps: one table says which calls destroy and which read settles each of them.

use serde::{Deserialize, Serialize};

/// One kind of call. Its JSON form is the stable name, for example `cleeng.delete_customer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Operation {
    /// `GET {core}/entitlements`.
    #[serde(rename = "cleeng.list_entitlements")]
    ListEntitlements,
    /// JSON-RPC `updateCustomerSubscription`.
    #[serde(rename = "cleeng.update_subscription")]
    UpdateSubscription,
    /// `POST {core}/subscriptions/{id}/terminate`.
    #[serde(rename = "cleeng.terminate_subscription")]
    TerminateSubscription,
    /// `POST {core}/passes/{id}/terminate`.
    #[serde(rename = "cleeng.terminate_pass")]
    TerminatePass,
    /// `DELETE {core}/customers/{id}`.
    #[serde(rename = "cleeng.delete_customer")]
    DeleteCustomer,
    /// `GET {core}/customers/{id}`.
    #[serde(rename = "cleeng.get_customer")]
    GetCustomer,
    /// `GET {core}/customers?email=`.
    #[serde(rename = "cleeng.list_customers")]
    ListCustomers,
    /// `GET {mediastore}/customers/{id}/offers`.
    #[serde(rename = "cleeng.customer_offers")]
    CustomerOffers,
    /// `DELETE {base}/api/profile`.
    #[serde(rename = "loyalty.delete_profile")]
    DeleteProfile,
    /// `POST {base}/api/profile/otp`.
    #[serde(rename = "loyalty.request_otp")]
    RequestOtp,
    /// `GET {base}/api/profile`.
    #[serde(rename = "loyalty.get_profile")]
    GetProfile,
    /// `DELETE {base}/program/api/members/{id}`.
    #[serde(rename = "loyalty.delete_member")]
    DeleteMember,
    /// `GET {base}/program/api/members/{id}`.
    #[serde(rename = "loyalty.get_member")]
    GetMember,
    /// `POST {base}/public_api/set_customer_delete_account`.
    #[serde(rename = "easycms.delete_account")]
    DeleteAccount,
    /// `POST {base}/public_api/get_customer_exists`.
    #[serde(rename = "easycms.customer_exists")]
    CustomerExists,
    /// `DELETE /v4/codes/{code}`.
    #[serde(rename = "vitalsource.revoke_code")]
    RevokeCode,
    /// `GET /v4/codes/{code}`.
    #[serde(rename = "vitalsource.get_code")]
    GetCode,
    /// `GET /v3/users.xml/{guid|reference}`.
    #[serde(rename = "vitalsource.get_user")]
    GetUser,
    /// `PUT /v3/users.xml/{guid|reference}`.
    #[serde(rename = "vitalsource.update_user")]
    UpdateUser,
    /// `POST /v3/credentials.xml`.
    #[serde(rename = "vitalsource.credentials")]
    Credentials,
    /// `GET /v3/licenses.xml`.
    #[serde(rename = "vitalsource.licenses")]
    Licenses,
    /// `POST /requester/abandon`, the requester's own endpoint.
    #[serde(rename = "requester.abandon")]
    Abandon,
    /// Any path or method that the system does not have.
    #[serde(rename = "unknown")]
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

    /// The reads that tell, for the same subject, whether a lost call of this kind took effect.
    /// Empty for calls that destroy nothing.
    pub fn settled_by(self) -> &'static [Operation] {
        match self {
            Operation::DeleteCustomer => &[Operation::GetCustomer],
            Operation::UpdateSubscription | Operation::TerminateSubscription | Operation::TerminatePass => {
                &[Operation::ListEntitlements, Operation::CustomerOffers]
            }
            Operation::DeleteProfile | Operation::DeleteMember => &[Operation::GetMember, Operation::GetProfile],
            Operation::DeleteAccount => &[Operation::CustomerExists],
            Operation::RevokeCode => &[Operation::GetCode],
            Operation::UpdateUser => &[Operation::GetUser],
            Operation::ListEntitlements
            | Operation::GetCustomer
            | Operation::ListCustomers
            | Operation::CustomerOffers
            | Operation::RequestOtp
            | Operation::GetProfile
            | Operation::GetMember
            | Operation::CustomerExists
            | Operation::GetCode
            | Operation::GetUser
            | Operation::Credentials
            | Operation::Licenses
            | Operation::Abandon
            | Operation::Unknown => &[],
        }
    }

    /// Whether the call erases, ends or overwrites something.
    pub fn destructive(self) -> bool {
        !self.settled_by().is_empty()
    }
}
