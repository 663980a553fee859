//! Invented people by number, each known to all systems.
//!
//! The rule it keeps: everything about a person follows from the number, so that a test can say later what
//! the original values were.

use serde::Serialize;

/// The e-mail address of the person of the example job, in every system that has one.
pub(crate) const EXAMPLE_EMAIL: &str = "ann@example.com";

/// A person's identifiers and proofs.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Person {
    /// The number.
    pub number: u64,
    /// The address, in every system.
    pub email: String,
    /// Cleeng.
    pub customer_id: String,
    /// Loyalty.
    pub database_id: String,
    /// Loyalty.
    pub member_id: String,
    /// Loyalty.
    pub integration_id: String,
    /// Loyalty.
    pub card_id: String,
    /// Loyalty, Member API.
    pub access_token: String,
    /// Loyalty, Member API.
    pub current_password: String,
    /// The shop's password.
    pub customer_password: String,
    /// VitalSource.
    pub guid: String,
    /// VitalSource.
    pub reference: String,
    /// VitalSource: two, the first redeemed.
    pub codes: Vec<String>,
}

impl Person {
    /// The person with this number.
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
