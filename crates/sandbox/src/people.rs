//! Invented people by number, each known to all systems.
//!
//! The rule it keeps: all values of a person follow from the number, so that a test can name the original values after
//! the erasure.

use serde::Serialize;

/// The e-mail address of the person of the example job, in every system.
pub(crate) const EXAMPLE_EMAIL: &str = "ann@example.com";

/// A person's identifiers and proofs.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Person {
    pub number: u64,
    /// The address, in every system.
    pub email: String,
    /// Cleeng.
    pub customer_id: String,
    /// Loyalty, as the next three.
    pub database_id: String,
    pub member_id: String,
    pub integration_id: String,
    pub card_id: String,
    /// Loyalty, Member API; the next too.
    pub access_token: String,
    pub current_password: String,
    /// EasyCMS.
    pub customer_password: String,
    /// VitalSource, as the next.
    pub guid: String,
    pub reference: String,
    /// VitalSource: two codes, the first redeemed.
    pub codes: Vec<String>,
}

impl Person {
    pub fn numbered(number: u64) -> Person {
        Person {
            number,
            email: format!("person{number}@example.com"),
            customer_id: (100_000_000 + number).to_string(),
            database_id: format!("db-{number}"),
            member_id: format!("M{number}"),
            integration_id: format!("INT-{number}"),
            card_id: format!("CARD-{number}"),
            access_token: format!("member-token-{number}"),
            current_password: format!("member-password-{number}"),
            customer_password: format!("shop-password-{number}"),
            guid: format!("GUID{number:012}"),
            reference: format!("shop-{number}"),
            codes: vec![format!("CODE{number}A"), format!("CODE{number}B")],
        }
    }

    pub(crate) fn first_name(&self) -> String {
        format!("First{}", self.number)
    }

    pub(crate) fn last_name(&self) -> String {
        format!("Last{}", self.number)
    }
}
