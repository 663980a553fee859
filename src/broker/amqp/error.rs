//! The reasons why the broker cannot be used, and whether another attempt can help.
//!
//! The rule it keeps: no text here contains the URL or the password.

use std::path::PathBuf;

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

/// A fault between this worker and the broker.
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
        /// The configuration key of the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The fault.
        why: String,
    },
    /// An exchange or queue exists with other settings.
    #[error(transparent)]
    Unequal(Box<Unequal>),
    /// A limit of the broker or of its virtual host prevents a declaration.
    #[error(
        "the broker does not declare {what}, because a limit is reached: {text}. Raise the limit, or delete what \
         nobody needs; the worker needs nine queues"
    )]
    Limit {
        /// The name to declare.
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
        /// The requested access.
        what: String,
        /// The broker's words.
        text: String,
    },
    /// With `declare_topology = false`: some names are missing.
    #[error(
        "missing on the broker: {}. Run `erasure-worker topology apply`, import `erasure-worker topology export`, \
         or set amqp.declare_topology = true", .0.join(", ")
    )]
    Missing(Vec<String>),
    /// The connection or a channel failed; another attempt is right.
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
    /// This worker's value.
    pub ours: String,
    /// The broker's value.
    pub theirs: String,
    /// The broker's words.
    pub text: String,
}

impl AmqpError {
    /// True if only a person can help; the worker should not start.
    pub fn is_permanent(&self) -> bool {
        !matches!(self, AmqpError::Link(_))
    }

    /// The error from the broker's answer to a declaration of an exchange or queue.
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
        AmqpError::Link(advised(text(&error)))
    }
}

/// Texts of the broker, the network or TLS without a link, with the action to take. The first match counts.
const ADVICE: [(&str, &str); 17] = [
    ("connection limit", "raise the limit of the virtual host or user, or close connections that nobody needs"),
    ("maximum allowed limit", "raise the broker's limit of channels or connections"),
    ("limit", "raise the limit of the broker, its virtual host or its user"),
    ("Login was refused", "look at user and password in amqp.url, and whether the user may log in from this host"),
    ("is down", "look at the broker's log: the virtual host could not be started"),
    ("refused for user", "give the user of amqp.url access to the virtual host (rabbitmqctl set_permissions)"),
    ("not found", "look at the virtual host in amqp.url, percent-encoded: %2f is the one named /"),
    ("onnection refused", "look at host and port of amqp.url, and whether the broker runs"),
    ("lookup address", "the name of the host in amqp.url cannot be resolved: look at it and at the name service"),
    ("xpired", "renew the broker's certificate, and look at this machine's clock"),
    ("NotValidYet", "look at this machine's clock and at the broker's certificate"),
    ("UnknownIssuer", "set amqp.ca_file to the authority of the broker's certificate"),
    ("not valid for name", "the broker's certificate is for another name: look at the host in amqp.url"),
    ("NotValidForName", "the broker's certificate is for another name: look at the host in amqp.url"),
    ("CertificateRequired", "set amqp.client_cert_file and amqp.client_key_file: the broker asks for a certificate"),
    ("InvalidContentType", "the port of amqp.url is one without TLS: amqp:// in place of amqps://, or another port"),
    ("unreachable", "look at the network between this machine and the broker"),
];

/// Adds the action, if it is known.
fn advised(text: String) -> String {
    match ADVICE.iter().find(|(says, _)| text.contains(says)) {
        Some((_, advice)) => format!("{text} ({advice})"),
        None => text,
    }
}

/// RabbitMQ refuses a name above a limit with the same code as a name with other settings.
fn is_limit(text: &str) -> bool {
    text.contains("limit") && !text.contains("inequivalent arg")
}

/// The channel error in the broker's answer.
pub(super) fn soft(error: &lapin::Error) -> Option<AMQPSoftError> {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft.clone()),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}

/// The error in words for the log.
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

/// Parses the broker's sentence: `inequivalent arg 'A' for queue 'Q' in vhost 'V': received 'OURS' but current is
/// 'THEIRS'`, where values other than text have their type.
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
        let text = "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'p.wait.5s' in vhost '/': \
                    received the value '5000' of type 'long' but current is the value '7000' of type 'long'";
        let Unequal { argument, ours, theirs, .. } = unequal("queue", "p.wait.5s", text.to_owned());
        assert_eq!((argument.as_str(), ours.as_str(), theirs.as_str()), ("x-message-ttl", "5000", "7000"));
    }

    #[test]
    fn each_way_to_have_no_link_is_reported_with_what_to_do() {
        let cases = [
            (
                "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
                "password",
            ),
            ("NOT_ALLOWED - vhost gone not found", "percent-encoded"),
            ("NOT_ALLOWED - access to vhost '/' refused for user 'ann'", "set_permissions"),
            (
                "NOT_ALLOWED - access to vhost '/' refused for user 'ann': connection limit (1) is reached",
                "raise the limit",
            ),
            (
                "NOT_ALLOWED - connection refused for user 'ann': user connection limit (1) is reached",
                "raise the limit",
            ),
            ("NOT_ALLOWED - access to vhost '/' refused for user 'ann': vhost '/' is down", "broker's log"),
            (
                "NOT_ALLOWED - number of channels opened on node 'a@b' has reached the maximum allowed limit of (9)",
                "limit of channels",
            ),
            ("IO error: Connection refused (os error 111)", "whether the broker runs"),
            ("IO error: failed to lookup address information: Name or service not known", "name service"),
            ("IO error: invalid peer certificate: Expired", "renew"),
            ("IO error: invalid peer certificate: certificate expired: verification time 2 (UNIX)", "renew"),
            ("IO error: invalid peer certificate: UnknownIssuer", "amqp.ca_file"),
            (
                "IO error: invalid peer certificate: certificate not valid for name \"b\"; certificate is only valid for \"a\"",
                "another name",
            ),
            ("IO error: received fatal alert: CertificateRequired", "client_cert_file"),
            ("IO error: received corrupt message of type InvalidContentType", "without TLS"),
            ("IO error: Network is unreachable (os error 101)", "network"),
        ];
        for (text, advice) in cases {
            let said = advised(text.to_owned());
            assert!(said.starts_with(text) && said[text.len()..].contains(advice), "{said}");
        }
        assert_eq!(advised("the connection is closed".to_owned()), "the connection is closed");
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
