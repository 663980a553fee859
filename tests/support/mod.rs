//! What the tests share: a private RabbitMQ, certificates, a Python with libraries, times.
//!
//! The rule it keeps: whatever it starts ends with the test process, however that ends.

// Every test binary includes this and uses its own part of it.
#![allow(dead_code)]

pub mod amqp1;
pub mod certificates;
pub mod mutate;
pub mod nobody;
pub mod python;
pub mod rabbit;
pub mod raw;
pub mod relay;
pub mod times;
