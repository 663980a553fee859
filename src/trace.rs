//! Spans for OpenTelemetry, with the names and labels of its conventions for messaging and HTTP.
//!
//! The rule it keeps: no span names a person. An address is shown as its template, never whole, and a message by its
//! job's id. Without a collector ([`crate::telemetry`]) a span costs almost nothing and appears in no log line.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use tracing::field::Empty;
use tracing::{Span, debug_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The target of these spans, and of nothing else.
pub const TARGET: &str = "erasure_worker::trace";

/// A job's copy in hand, from its parsing to its ack or requeue. It begins a trace of its own, linked to the
/// publisher's: otherwise a job that waits for days would be one trace of days.
pub fn process(queue: &str, tenant: &str, job_id: uuid::Uuid, traceparent: Option<&str>) -> Span {
    let span = debug_span!(
        target: TARGET,
        parent: None,
        "process",
        otel.name = format_args!("process {queue}"),
        otel.kind = "consumer",
        messaging.system = "rabbitmq",
        messaging.operation.name = "process",
        "messaging.operation.type" = "process",
        messaging.destination.name = queue,
        messaging.message.conversation_id = %job_id,
        erasure.tenant = tenant,
        erasure.run = Empty,
        "error.type" = Empty,
    );
    if !span.is_disabled()
        && let Some(publisher) = traceparent.and_then(context_of)
    {
        span.add_link(publisher);
    }
    span
}

/// One attempt of a step, with its calls to a system.
pub fn attempt(system: &str, step: &'static str, item: u32, attempt: u32) -> Span {
    debug_span!(
        target: TARGET,
        "attempt",
        otel.name = format_args!("{step} {system}"),
        erasure.system = system,
        erasure.step = step,
        erasure.item = item,
        erasure.attempt = attempt,
        "error.type" = Empty,
    )
}

/// One request to a system. `template` is the path below the configured address, with `{…}` for every identifier.
pub fn request(method: &str, template: Option<&str>, url: &url::Url) -> Span {
    let span = debug_span!(
        target: TARGET,
        "request",
        otel.name = Empty,
        otel.kind = "client",
        http.request.method = method,
        url.scheme = url.scheme(),
        server.address = url.host_str().unwrap_or_default(),
        server.port = url.port_or_known_default().unwrap_or_default(),
        url.template = template,
        http.response.status_code = Empty,
        "error.type" = Empty,
    );
    match template {
        Some(template) => span.record("otel.name", format_args!("{method} {template}")),
        None => span.record("otel.name", method),
    };
    span
}

/// A message being published, until the broker has confirmed it.
pub fn send(exchange: &str, routing_key: &str) -> Span {
    // The default exchange has no name; its key is the queue's.
    let destination = if exchange.is_empty() { routing_key } else { exchange };
    debug_span!(
        target: TARGET,
        "send",
        otel.name = format_args!("send {destination}"),
        otel.kind = "producer",
        messaging.system = "rabbitmq",
        messaging.operation.name = "send",
        "messaging.operation.type" = "send",
        messaging.destination.name = destination,
        messaging.rabbitmq.destination.routing_key = routing_key,
        "error.type" = Empty,
    )
}

/// Marks a span as failed, with one of our own fixed words.
pub fn failed(span: &Span, kind: &str) {
    span.record("error.type", kind);
    if !span.is_disabled() {
        span.set_status(opentelemetry::trace::Status::error(""));
    }
}

/// The content of a well-formed `traceparent` (W3C Trace Context, version 00).
fn context_of(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    let flags = TraceFlags::new(u8::from_str_radix(parts.next()?, 16).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::NONE);
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publishers_context_is_read_and_nonsense_is_none() {
        let context = context_of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id().to_string(), "00f067aa0ba902b7");
        assert!(context.is_sampled() && context.is_remote());
        for nonsense in ["", "00", "00-0-0-0", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
            assert!(context_of(nonsense).is_none(), "{nonsense}");
        }
    }
}
