//! The changes that made an unreadable message readable for a library.
//!
//! The rule it keeps: it describes the fault, never the content.

/// A message that was changed on its way in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mended {
    /// The fault of its properties.
    pub fault: Option<Fault>,
    /// Set if only the beginning of the body is here.
    pub cut: Option<Cut>,
}

/// A fault in the properties of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A short string is not UTF-8: a property, a header's name, the routing key.
    #[error("a property, a header's name or the routing key is not UTF-8; expected UTF-8")]
    NotUtf8,
    /// Tables or arrays in the headers are nested too deep.
    #[error("a header has more than {} tables or arrays in each other; expected fewer", super::MAX_NESTING)]
    TooDeep,
    /// The properties do not fit into one frame together with the broker's additions.
    #[error("the headers do not fit into one frame of the connection; expected fewer or shorter ones")]
    TooLarge,
    /// The properties do not follow AMQP's grammar.
    #[error("the properties cannot be read; expected AMQP 0-9-1 as RabbitMQ has it")]
    Malformed,
}

/// A body of which only the beginning is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The whole body's length.
    pub bytes: u64,
    /// SHA-256 of the whole body, in hex.
    pub sha256: String,
}
