//! The JSON Schema of a connector file, for editors.

/// The schema.
pub const TEXT: &str = include_str!("connector.v1.json");
