//! A receiver of one's own, to which signed requests are sent: see `docs/connectors.md`.
//!
//! The rule it keeps: a repeat of a call has the id of the call. A reply that is not in the documented form decides
//! nothing.

mod client;
mod message;
mod plan;
mod settings;

pub use self::client::Webhook;
pub use self::settings::WebhookSettings;
