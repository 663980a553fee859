//! Invented people by number, each known to all four systems.
//!
//! The rule it keeps: everything about a person follows from the number, so that a test can say later what
//! the original values were.

use serde::Serialize;

use super::cleeng::{Customer, Entitlement, EntitlementKind, EntitlementStatus};
use super::easycms::Account;
use super::loyalty::Member;
use super::vitalsource::{Code, User};
use super::world::World;

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
    /// EasyCMS.
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

    /// Makes the person known to the systems `cleeng`, `loyalty`, `easycms` and `vitalsource`.
    pub(super) fn add_to(&self, world: &mut World) {
        let (first_name, last_name) = (format!("First{}", self.number), format!("Last{}", self.number));
        let id = |place: u64| Some(1_000_000 + self.number * 2 + place);
        world.cleeng("cleeng").add(Customer {
            id: self.customer_id.clone(),
            email: self.email.clone(),
            first_name: first_name.clone(),
            last_name: last_name.clone(),
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
        world.loyalty("loyalty").add(Member {
            database_id: self.database_id.clone(),
            member_id: Some(self.member_id.clone()),
            integration_id: Some(self.integration_id.clone()),
            card_id: Some(self.card_id.clone()),
            email: Some(self.email.clone()),
            password: self.current_password.clone(),
            access_tokens: vec![self.access_token.clone()],
            deleted: None,
        });
        world.easycms("easycms").add(Account {
            email: self.email.clone(),
            customer_password: self.customer_password.clone(),
            erased: false,
        });
        let vitalsource = world.vitalsource("vitalsource");
        vitalsource.add_user(User {
            guid: self.guid.clone(),
            reference: self.reference.clone(),
            first_name,
            last_name,
            email: self.email.clone(),
            affiliate: format!("Affiliate{}", self.number),
        });
        for (place, code) in self.codes.iter().enumerate() {
            vitalsource.add_code(Code {
                code: code.clone(),
                owner: Some(self.guid.clone()),
                sku: format!("BOOK-{place}"),
                redeemed_at: (place == 0).then(|| Code::days_ago(300)),
                ..Code::default()
            });
        }
    }

    pub(super) fn remains_in(&self, world: &mut World) -> Vec<&'static str> {
        let mut remains = Vec::new();
        if let Some(customer) = world.cleeng("cleeng").customer(&self.customer_id) {
            if !customer.erased {
                remains.push("cleeng: customer");
            }
            if customer.entitlements.iter().any(|row| row.status.gives_access()) {
                remains.push("cleeng: entitlement");
            }
        }
        if world.loyalty("loyalty").member(&self.database_id).is_some_and(|member| member.deleted.is_none()) {
            remains.push("loyalty: member");
        }
        if world.easycms("easycms").account(&self.email).is_some_and(|account| !account.erased) {
            remains.push("easycms: account");
        }
        let vitalsource = world.vitalsource("vitalsource");
        if self.codes.iter().any(|code| vitalsource.code(code).is_some_and(|code| !code.cancelled)) {
            remains.push("vitalsource: code");
        }
        let original = |user: &User| {
            user.email == self.email
                || user.first_name == format!("First{}", self.number)
                || user.last_name == format!("Last{}", self.number)
                || user.affiliate == format!("Affiliate{}", self.number)
        };
        if vitalsource.user(&self.guid).is_some_and(original) {
            remains.push("vitalsource: user");
        }
        remains
    }
}
