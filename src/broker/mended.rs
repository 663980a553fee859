//! What had to be changed in a message before any library could read it.
//!
//! The rule it keeps: it says what is wrong, never what stood there.

/// A message that is not given as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mended {
    /// What was wrong with its properties.
    pub fault: Option<Fault>,
    /// Where only the beginning of its body is given.
    pub cut: Option<Cut>,
}

/// What is wrong with the properties of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A short string is no UTF-8: a property, a header's name, the routing key.
    #[error("a property, a header's name or the routing key is not UTF-8; expected UTF-8")]
    NotUtf8,
    /// Tables or arrays in the headers lie too deep in each other.
    #[error("a header has more than {} tables or arrays in each other; expected fewer", super::MAX_NESTING)]
    TooDeep,
    /// The properties do not fit into one frame, with what a broker adds to them.
    #[error("the headers do not fit into one frame of the connection; expected fewer or shorter ones")]
    TooLarge,
    /// The properties follow no grammar.
    #[error("the properties cannot be read; expected AMQP 0-9-1 as RabbitMQ has it")]
    Malformed,
}

/// A body of which only the beginning is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// How long the whole body is.
    pub bytes: u64,
    /// SHA-256 of the whole body, in hex.
    pub sha256: String,
}
