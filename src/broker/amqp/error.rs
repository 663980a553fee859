//! Why the broker cannot be used, and whether trying again could help.
//!
//! The rule it keeps: no text here carries the URL or the password.

use std::path::PathBuf;

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

/// What went wrong between this worker and the broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmqpError {
    /// The URL cannot be read.
    #[error(
        "amqp.url is not an AMQP URL: expected amqp[s]://USER:PASSWORD@HOST:PORT/VHOST with the vhost percent-encoded"
    )]
    Url,
    /// A certificate or key file cannot be used.
    #[error("{key}: {path} cannot be used: {why}", path = .path.display())]
    File {
        /// The configuration key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An exchange or queue exists with other settings.
    #[error(transparent)]
    Unequal(Box<Unequal>),
    /// A limit of the broker or of its virtual host keeps something from being declared.
    #[error(
        "the broker does not declare {what}, because a limit is reached: {text}. Raise the limit, or delete what \
         nobody needs; the worker needs nine queues"
    )]
    Limit {
        /// What was to be declared.
        what: String,
        /// The broker's words.
        text: String,
    },
    /// The user may not declare or use something.
    #[error(
        "the broker refuses access to {what}: {text}. Give the user the permission, or set \
         amqp.declare_topology = false and let the broker's operator import `erasure-worker topology export`"
    )]
    Forbidden {
        /// What was asked for.
        what: String,
        /// The broker's words.
        text: String,
    },
    /// With `declare_topology = false`: not everything is there.
    #[error(
        "missing on the broker: {}. Run `erasure-worker topology apply`, import `erasure-worker topology export`, \
         or set amqp.declare_topology = true", .0.join(", ")
    )]
    Missing(Vec<String>),
    /// The connection or a channel failed; trying again is right.
    #[error("{0}")]
    Link(String),
}

/// An exchange or queue of ours that exists with other settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {kind} {name} exists with other settings: {argument} is {theirs} there and {ours} here. \
     Drain and delete it so that it is declared anew, or choose another amqp.prefix, or have the broker's \
     operator import `erasure-worker topology export` (the broker says: {text})"
)]
pub struct Unequal {
    /// `queue` or `exchange`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The argument that differs.
    pub argument: String,
    /// What this worker declares.
    pub ours: String,
    /// What the broker has.
    pub theirs: String,
    /// The broker's words.
    pub text: String,
}

impl AmqpError {
    /// True where only a person can help; the worker should not start with it.
    pub fn is_permanent(&self) -> bool {
        !matches!(self, AmqpError::Link(_))
    }

    /// What the broker said to the declaration of an exchange or queue.
    pub(super) fn of_declaration(kind: &'static str, name: &str, error: &lapin::Error) -> Self {
        let text = text(error);
        match soft(error) {
            Some(_) if is_limit(&text) => AmqpError::Limit { what: format!("the {kind} {name}"), text },
            Some(AMQPSoftError::PRECONDITIONFAILED) => AmqpError::Unequal(Box::new(unequal(kind, name, text))),
            Some(AMQPSoftError::ACCESSREFUSED) => AmqpError::Forbidden { what: format!("the {kind} {name}"), text },
            _ => AmqpError::Link(text),
        }
    }
}

impl From<lapin::Error> for AmqpError {
    fn from(error: lapin::Error) -> Self {
        AmqpError::Link(text(&error))
    }
}

/// RabbitMQ refuses what is above a limit with the code that it has for other settings as well.
fn is_limit(text: &str) -> bool {
    text.contains("limit") && !text.contains("inequivalent arg")
}

/// The channel-level error that the broker answered with.
pub(super) fn soft(error: &lapin::Error) -> Option<AMQPSoftError> {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft.clone()),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}

/// The error in words that may be logged.
pub(super) fn text(error: &lapin::Error) -> String {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(inner) => match inner.kind() {
            AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED) => {
                format!("the broker closed the connection: {}", inner.get_message())
            }
            _ => inner.get_message().to_string(),
        },
        _ => error.to_string(),
    }
}

/// Takes the broker's sentence apart: `inequivalent arg 'A' for queue 'Q' in vhost 'V': received
/// 'OURS' but current is 'THEIRS'`, where values other than text come with their type.
fn unequal(kind: &'static str, name: &str, text: String) -> Unequal {
    let after = |marker: &str, ends: &[char]| -> Option<String> {
        let rest = &text[text.find(marker)? + marker.len()..];
        Some(rest[..rest.find(ends).unwrap_or(rest.len())].trim_matches('\'').to_owned())
    };
    let value = |marker: &str, end: &str| -> Option<String> {
        let rest = &text[text.find(marker)? + marker.len()..];
        let rest = rest.split(end).next().unwrap_or(rest).trim();
        let rest = rest.strip_prefix("the value ").unwrap_or(rest);
        Some(rest.split(" of type ").next().unwrap_or(rest).trim_matches('\'').to_owned())
    };
    let unknown = || "something else".to_owned();
    Unequal {
        kind,
        name: name.to_owned(),
        argument: after("inequivalent arg '", &['\'']).unwrap_or_else(|| "a setting".to_owned()),
        ours: value("received ", " but current is ").unwrap_or_else(unknown),
        theirs: value("but current is ", "\n").unwrap_or_else(unknown),
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_differing_argument_and_both_values_are_named() {
        let told = "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'p.wait.5s' in vhost '/': \
                    received the value '5000' of type 'long' but current is the value '7000' of type 'long'";
        let Unequal { argument, ours, theirs, .. } = unequal("queue", "p.wait.5s", told.to_owned());
        assert_eq!((argument.as_str(), ours.as_str(), theirs.as_str()), ("x-message-ttl", "5000", "7000"));
    }

    #[test]
    fn a_limit_is_told_from_other_settings() {
        let limits = [
            "PRECONDITION_FAILED - cannot declare queue 'p.jobs': queue limit in vhost '/' (9) is reached",
            "PRECONDITION_FAILED - cannot declare queue 'p.jobs': queue limit in cluster (9) is reached",
            "PRECONDITION_FAILED - cannot declare exchange 'p.events' because of exchange limit 3",
        ];
        assert!(limits.iter().all(|text| is_limit(text)));
        let other = "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'p.jobs' in vhost '/': \
                     received the value '7' of type 'long' but current is none";
        assert!(!is_limit(other));
    }

    #[test]
    fn an_unknown_sentence_is_still_an_error_that_quotes_it() {
        assert!(unequal("queue", "q", "PRECONDITION_FAILED - odd".to_owned()).to_string().contains("odd"));
    }
}
