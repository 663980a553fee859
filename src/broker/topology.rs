//! The worker's AMQP names, in one table for declaration, check and export.
//!
//! The rule it keeps: none of our queues drops a message by itself. Limits are explicit, a full queue refuses
//! publishes, and dead-lettering is at least once.

use serde_json::{Value, json};

use super::{Destination, Tier};

/// The prefix of every name, unless configured otherwise.
pub const DEFAULT_PREFIX: &str = "erasure";

/// The broker's limit of redeliveries from a quorum queue. It must mean "never", since the store counts crashes:
/// RabbitMQ 4.x uses 20 if it is unset, and 3.10 drops a message at the first requeue if it is -1.
pub const DELIVERY_LIMIT: i64 = 1_000_000_000;

/// The age limit of the control stream, in RabbitMQ's notation.
pub const CONTROL_MAX_AGE: &str = "90D";

/// The routing key of a job.
pub const KEY_JOB: &str = "job";
/// The routing key of a cancellation.
pub const KEY_CANCEL: &str = "cancel";

/// The kind of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    /// By exact routing key.
    Direct,
    /// To every binding.
    Fanout,
    /// By pattern.
    Topic,
}

impl ExchangeKind {
    /// The name that the broker uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            ExchangeKind::Direct => "direct",
            ExchangeKind::Fanout => "fanout",
            ExchangeKind::Topic => "topic",
        }
    }
}

/// The value of a declaration's argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Yes or no.
    Bool(bool),
}

impl Argument {
    fn json(&self) -> Value {
        match self {
            Argument::Text(text) => json!(text),
            Argument::Int(number) => json!(number),
            Argument::Bool(flag) => json!(flag),
        }
    }
}

impl From<&str> for Argument {
    fn from(text: &str) -> Self {
        Argument::Text(text.to_owned())
    }
}

impl From<String> for Argument {
    fn from(text: String) -> Self {
        Argument::Text(text)
    }
}

impl From<i64> for Argument {
    fn from(number: i64) -> Self {
        Argument::Int(number)
    }
}

impl From<bool> for Argument {
    fn from(flag: bool) -> Self {
        Argument::Bool(flag)
    }
}

/// Arguments in the order of their declaration.
pub type Arguments = Vec<(&'static str, Argument)>;

/// A durable exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Its name, with the prefix.
    pub name: String,
    /// Its kind.
    pub kind: ExchangeKind,
    /// Its arguments.
    pub arguments: Arguments,
}

/// A durable queue or stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name, with the prefix.
    pub name: String,
    /// Its arguments, the type among them.
    pub arguments: Arguments,
}

/// The kind of a binding's destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// A queue.
    Queue,
    /// Another exchange.
    Exchange,
}

/// A binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The source exchange.
    pub source: String,
    /// The destination.
    pub destination: String,
    /// The destination's kind.
    pub bound: Bound,
    /// The routing key.
    pub key: &'static str,
}

/// The whole table for one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    prefix: String,
    /// Every exchange.
    pub exchanges: Vec<Exchange>,
    /// Every queue and stream.
    pub queues: Vec<Queue>,
    /// Every binding.
    pub bindings: Vec<Binding>,
}

impl Topology {
    /// The table with this prefix.
    pub fn new(prefix: &str) -> Self {
        let name = |suffix: &str| format!("{prefix}.{suffix}");
        let exchange = |suffix: &str, kind, arguments| Exchange { name: name(suffix), kind, arguments };
        let queue = |suffix: &str, arguments| Queue { name: name(suffix), arguments };
        let bind = |source: &str, bound, destination: &str, key| Binding {
            source: name(source),
            destination: name(destination),
            bound,
            key,
        };

        let unrouted = vec![("alternate-exchange", name("events.unrouted").into())];
        let exchanges = vec![
            exchange("requests", ExchangeKind::Direct, vec![]),
            exchange("resume", ExchangeKind::Direct, vec![]),
            exchange("control", ExchangeKind::Fanout, vec![]),
            exchange("events", ExchangeKind::Topic, unrouted),
            exchange("events.unrouted", ExchangeKind::Fanout, vec![]),
            exchange("dead-letter", ExchangeKind::Fanout, vec![]),
        ];

        let mut jobs = quorum();
        jobs.push(("x-single-active-consumer", true.into()));
        // After a limit or policy of the broker's operator the job must become a dead letter, not be dropped.
        jobs.extend(dead_lettering(name("dead-letter")));
        let mut queues = vec![
            queue("jobs", jobs),
            queue("dead-letters", quorum()),
            queue("events.unrouted", quorum()),
            queue("control.log", vec![("x-queue-type", "stream".into()), ("x-max-age", CONTROL_MAX_AGE.into())]),
        ];
        for tier in Tier::ALL {
            let mut arguments = quorum();
            // One time to live for the whole queue: in a queue of different times the first message blocks the
            // others.
            arguments.push(("x-message-ttl", i64::try_from(tier.wait().as_millis()).unwrap_or(i64::MAX).into()));
            arguments.extend(dead_lettering(name("resume")));
            arguments.push(("x-dead-letter-routing-key", KEY_JOB.into()));
            queues.push(queue(&format!("wait.{}", tier.label()), arguments));
        }

        let bindings = vec![
            bind("requests", Bound::Queue, "jobs", KEY_JOB),
            bind("resume", Bound::Queue, "jobs", KEY_JOB),
            bind("requests", Bound::Exchange, "control", KEY_CANCEL),
            bind("control", Bound::Queue, "control.log", ""),
            bind("events.unrouted", Bound::Queue, "events.unrouted", ""),
            bind("dead-letter", Bound::Queue, "dead-letters", ""),
        ];
        Self { prefix: prefix.to_owned(), exchanges, queues, bindings }
    }

    /// A name of this table: the prefix, a dot, and `suffix`.
    pub fn name(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.prefix)
    }

    /// The exchange and the routing key of a destination.
    pub fn address(&self, to: &Destination) -> (String, String) {
        match to {
            Destination::Requests => (self.name("requests"), KEY_JOB.to_owned()),
            Destination::Cancel => (self.name("requests"), KEY_CANCEL.to_owned()),
            Destination::Control => (self.name("control"), String::new()),
            Destination::Resume => (self.name("resume"), KEY_JOB.to_owned()),
            // The default exchange reaches every queue by its name: no binding can be missing.
            Destination::Wait(tier) => (String::new(), self.name(&format!("wait.{}", tier.label()))),
            Destination::Event { routing_key } => (self.name("events"), routing_key.clone()),
            Destination::DeadLetter => (self.name("dead-letter"), String::new()),
        }
    }

    /// The table as RabbitMQ's `definitions.json` (exchanges, queues, bindings) for one virtual
    /// host, to be imported by the broker's operator.
    pub fn definitions(&self, vhost: &str) -> Value {
        let arguments = |list: &Arguments| -> Value {
            Value::Object(list.iter().map(|(key, value)| ((*key).to_owned(), value.json())).collect())
        };
        let exchanges: Vec<Value> = self
            .exchanges
            .iter()
            .map(|exchange| {
                json!({
                    "name": exchange.name, "vhost": vhost, "type": exchange.kind.as_str(), "durable": true,
                    "auto_delete": false, "internal": false, "arguments": arguments(&exchange.arguments),
                })
            })
            .collect();
        let queues: Vec<Value> = self
            .queues
            .iter()
            .map(|queue| {
                json!({
                    "name": queue.name, "vhost": vhost, "durable": true, "auto_delete": false,
                    "arguments": arguments(&queue.arguments),
                })
            })
            .collect();
        let bindings: Vec<Value> = self
            .bindings
            .iter()
            .map(|binding| {
                json!({
                    "source": binding.source, "vhost": vhost, "destination": binding.destination,
                    "destination_type": match binding.bound { Bound::Queue => "queue", Bound::Exchange => "exchange" },
                    "routing_key": binding.key, "arguments": {},
                })
            })
            .collect();
        json!({ "exchanges": exchanges, "queues": queues, "bindings": bindings })
    }
}

/// The arguments of every quorum queue.
fn quorum() -> Arguments {
    vec![
        ("x-queue-type", "quorum".into()),
        ("x-delivery-limit", DELIVERY_LIMIT.into()),
        // Also a condition of at-least-once dead-lettering.
        ("x-overflow", "reject-publish".into()),
    ]
}

/// Dead-lettering that keeps the message until the next queue has confirmed it.
fn dead_lettering(exchange: String) -> Arguments {
    vec![("x-dead-letter-exchange", exchange.into()), ("x-dead-letter-strategy", "at-least-once".into())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quorum_queue_limits_deliveries_explicitly_and_refuses_on_overflow() {
        for queue in Topology::new("p").queues.iter().filter(|queue| queue.name != "p.control.log") {
            assert!(queue.arguments.contains(&("x-delivery-limit", Argument::Int(DELIVERY_LIMIT))), "{}", queue.name);
            assert!(queue.arguments.contains(&("x-overflow", "reject-publish".into())), "{}", queue.name);
        }
    }

    #[test]
    fn every_name_that_is_referred_to_is_declared() {
        let topology = Topology::new("p");
        let exchange = |name: &str| topology.exchanges.iter().any(|exchange| exchange.name == name);
        let queue = |name: &str| topology.queues.iter().any(|queue| queue.name == name);
        for binding in &topology.bindings {
            assert!(exchange(&binding.source));
            match binding.bound {
                Bound::Queue => assert!(queue(&binding.destination)),
                Bound::Exchange => assert!(exchange(&binding.destination)),
            }
        }
        let references = topology.queues.iter().flat_map(|queue| &queue.arguments);
        for (key, value) in references.chain(topology.exchanges.iter().flat_map(|exchange| &exchange.arguments)) {
            if let ("x-dead-letter-exchange" | "alternate-exchange", Argument::Text(name)) = (*key, value) {
                assert!(exchange(name), "{name}");
            }
        }
    }
}
