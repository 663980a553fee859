//! The kinds of system, for the pure core. They are listed only here. A kind's file holds its row, its flow, its part
//! of a target, and everything else of its own.
//!
//! The rule it keeps: no other part of the core depends on the kind if a row can describe the difference.

mod cleeng;
mod connector;
mod easycms;
mod vitalsource;
mod zeta;

use std::collections::{BTreeMap, BTreeSet};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use super::cursor::{Invalid, Object};
use super::flow::{Confirm, Flow, Go, Rules};
use super::identifier::email_flaw;
use super::model::{put, put_secret};
use super::outcome::TargetEnd;
use super::step::Field;
pub use vitalsource::{Code, MAX_CODES};
pub use zeta::{Member, MemberKey};

/// The kinds of system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Cleeng.
    Cleeng,
    /// Zeta Loyalty.
    ZetaLoyalty,
    /// EasyCMS / ProLasku.
    EasyCms,
    /// VitalSource.
    VitalSource,
    /// Any other system with an HTTP interface, by a connector file.
    Connector,
    /// A database, by a connector file.
    Sql,
    /// An operator's own receiver of signed requests.
    Webhook,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 7] =
        [Kind::Cleeng, Kind::ZetaLoyalty, Kind::EasyCms, Kind::VitalSource, Kind::Connector, Kind::Sql, Kind::Webhook];

    /// The kind's row.
    pub(crate) const fn about(self) -> &'static About {
        match self {
            Kind::Cleeng => &cleeng::KIND,
            Kind::ZetaLoyalty => &zeta::KIND,
            Kind::EasyCms => &easycms::KIND,
            Kind::VitalSource => &vitalsource::KIND,
            Kind::Connector => &connector::KIND,
            Kind::Sql => &connector::SQL,
            Kind::Webhook => &connector::WEBHOOK,
        }
    }

    /// The kind with this word in events.
    pub fn of(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The word used in configuration and events.
    pub const fn as_str(self) -> &'static str {
        self.about().name
    }

    /// How a line of a list of people becomes a target of this kind.
    pub const fn lines(self) -> &'static Lines {
        &self.about().lines
    }
}

/// A kind's row.
pub(crate) struct About {
    /// See [`Kind::as_str`].
    pub name: &'static str,
    /// When a confirmation is required, unless the configuration says otherwise.
    pub confirm: Confirm,
    /// Reads the kind's part of a target.
    pub spec: fn(&mut Object<'_>, &Rules) -> Result<Spec, Invalid>,
    /// The flow.
    pub next: fn(&Flow<'_>) -> Go<TargetEnd>,
    /// The form of identifiers other than e-mail addresses, if there is one.
    pub id_form: Option<fn(&str) -> bool>,
    /// See [`Kind::lines`].
    pub lines: Lines,
}

/// How a line of a list of people becomes a target. Words are the names of a job's fields.
pub struct Lines {
    /// One of these names the person.
    pub keys: &'static [&'static str],
    /// The words by which a person's jobs can be found.
    pub found_by: &'static [&'static str],
    /// True if one of these alone can name the person in a job.
    pub is_enough: bool,
    /// Other words of a column.
    pub fields: &'static [&'static str],
    /// A required field, and the error if it is missing.
    pub needs: Option<(&'static str, &'static str)>,
    /// The methods of erasure, if there is a choice.
    pub methods: &'static [&'static str],
    /// The target without its system's name, from a key, its value and the method.
    pub target: fn(&str, &str, &str) -> Map<String, Value>,
}

/// A JSON object's fields.
fn fields<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A word for a column of a list, or for an argument at the command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Word {
    /// The name of the field in a job.
    pub name: &'static str,
    /// The kind of system and the field.
    pub about: &'static str,
    /// The kind of content.
    pub holds: Holds,
}

/// The content of a column or argument with a [`Word`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// An identifier of the person.
    Identifier,
    /// A proof that the erasure is allowed.
    Proof,
    /// Several codes.
    Codes,
}

const fn word(name: &'static str, about: &'static str) -> Word {
    Word { name, about, holds: Holds::Identifier }
}

/// Identifiers of people, over all kinds.
pub static KEYS: [Word; 8] = [
    word("member_id", "Loyalty: member id"),
    word("integration_id", "Loyalty: integration id"),
    word("card_id", "Loyalty: card id"),
    word("database_id", "Loyalty: database id"),
    word("email", "EasyCMS, or Loyalty by import: e-mail address"),
    word("guid", "VitalSource: GUID"),
    word("reference", "VitalSource: reference"),
    word("customer_id", "Cleeng: customer id"),
];

/// Other words of a list about a person, over all kinds.
pub static FIELDS: [Word; 5] = [
    word("customer_email", "Cleeng: e-mail address"),
    Word { holds: Holds::Proof, ..word("customer_password", "EasyCMS: the customer's password") },
    word("guid", "VitalSource: GUID"),
    word("reference", "VitalSource: reference"),
    Word {
        holds: Holds::Codes,
        ..word("codes", "VitalSource: codes, with blanks, commas, semicolons or bars between them")
    },
];

/// The system-specific part of a target.
#[derive(Debug, Clone)]
pub enum Spec {
    /// Cleeng with the publisher token only.
    CleengBackend {
        /// 1 to 20 digits.
        customer_id: SecretString,
        /// The customer's e-mail.
        customer_email: SecretString,
    },
    /// Cleeng with the customer's own token for the reads.
    CleengMediastore {
        /// The customer's JWT.
        customer_token: SecretString,
        /// Its `customerId` claim.
        customer_id: SecretString,
        /// The customer's e-mail.
        customer_email: SecretString,
    },
    /// Zeta Loyalty by Program API.
    LoyaltyProgram {
        /// The member.
        member: Member,
    },
    /// Zeta Loyalty by Member API. At least one of `access_token` and `member` is there.
    LoyaltyMember {
        /// The member's token.
        access_token: Option<SecretString>,
        /// The member, if the publisher knows the id.
        member: Option<Member>,
        /// The proof, if the platform requires the password.
        current_password: Option<SecretString>,
        /// The proof, if the platform requires a one-time password.
        code: Option<SecretString>,
    },
    /// Zeta Loyalty by a deletion file.
    LoyaltyImport {
        /// The member.
        member: Member,
    },
    /// Zeta Loyalty by a person on the platform's own screens.
    LoyaltyManual {
        /// The member.
        member: Member,
    },
    /// EasyCMS.
    EasyCms {
        /// The account's e-mail.
        email: SecretString,
        /// The customer's password.
        customer_password: Option<SecretString>,
    },
    /// VitalSource. At least one of `guid` and `reference` is there.
    VitalSource {
        /// The user's GUID.
        guid: Option<SecretString>,
        /// The requester's reference.
        reference: Option<SecretString>,
        /// 0 to 10,000 codes.
        codes: Vec<Code>,
        /// Fields to overwrite besides those that are not empty.
        overwrite: BTreeSet<Field>,
    },
    /// A system with a connector.
    Connector {
        /// The person, by the names of the plan. At least one is there.
        identifiers: BTreeMap<String, SecretString>,
        /// The proofs, by their names.
        proofs: BTreeMap<String, SecretString>,
    },
}

impl Spec {
    /// Each identifier of the person; true for an e-mail address.
    pub(crate) fn identifiers(&self) -> impl Iterator<Item = (&str, bool)> {
        let (each, named) = match self {
            Spec::Connector { identifiers, .. } => ([None, None], Some(identifiers)),
            other => (other.usual_identifiers(), None),
        };
        let usual = each.into_iter().flatten().map(|(value, is_email)| (value.expose_secret(), is_email));
        let named = named.into_iter().flatten().map(|(_, value)| {
            let text = value.expose_secret();
            (text, email_flaw(text).is_none())
        });
        usual.chain(named)
    }

    fn usual_identifiers(&self) -> [Option<(&SecretString, bool)>; 2] {
        match self {
            Spec::CleengBackend { customer_id, customer_email }
            | Spec::CleengMediastore { customer_id, customer_email, .. } => {
                [Some((customer_id, false)), Some((customer_email, true))]
            }
            Spec::LoyaltyProgram { member } | Spec::LoyaltyImport { member } | Spec::LoyaltyManual { member } => {
                [Some((&member.value, member.key == MemberKey::Email)), None]
            }
            Spec::LoyaltyMember { member, .. } => [member.as_ref().map(|member| (&member.value, false)), None],
            Spec::EasyCms { email, .. } => [Some((email, true)), None],
            Spec::VitalSource { guid, reference, .. } => {
                [guid.as_ref().map(|guid| (guid, false)), reference.as_ref().map(|reference| (reference, false))]
            }
            Spec::Connector { .. } => [None, None],
        }
    }

    /// Adds the identity part, in the bytes from which keys and digests are derived.
    pub(crate) fn put_identity(&self, out: &mut Vec<u8>) {
        match self {
            Spec::CleengBackend { customer_id, customer_email } => {
                put(out, "flow", "backend");
                put_secret(out, "customer_id", customer_id);
                put_secret(out, "customer_email", customer_email);
            }
            Spec::CleengMediastore { customer_id, customer_email, .. } => {
                put(out, "flow", "mediastore");
                put_secret(out, "customerId", customer_id);
                put_secret(out, "customer_email", customer_email);
            }
            Spec::LoyaltyProgram { member } => put_member(out, "program_api", member),
            Spec::LoyaltyMember { access_token, member, .. } => match (member, access_token) {
                (Some(member), _) => put_member(out, "member_api", member),
                (None, token) => {
                    put(out, "method", "member_api");
                    if let Some(token) = token {
                        put_secret(out, "access_token", token);
                    }
                }
            },
            Spec::LoyaltyImport { member } => put_member(out, "import", member),
            Spec::LoyaltyManual { member } => put_member(out, "manual", member),
            Spec::EasyCms { email, .. } => put_secret(out, "email", email),
            Spec::VitalSource { guid, reference, codes, overwrite } => {
                if let Some(guid) = guid {
                    put_secret(out, "guid", guid);
                }
                if let Some(reference) = reference {
                    put_secret(out, "reference", reference);
                }
                for code in codes {
                    put_secret(out, "code", &code.code);
                }
                for field in overwrite {
                    put(out, "overwrite", field.as_str());
                }
            }
            Spec::Connector { identifiers, .. } => {
                for (name, value) in identifiers {
                    put_secret(out, &format!("subject.{name}"), value);
                }
            }
        }
    }
}

fn put_member(out: &mut Vec<u8>, method: &str, member: &Member) {
    put(out, "method", method);
    put_secret(out, member.key.as_str(), &member.value);
}
