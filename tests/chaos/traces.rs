//! The traces that a collector receives.

use erasure_worker::sandbox::{Action, FaultRule, Operation};
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use testkit::collector::{Collector, attribute};
use testkit::forms::{Case, Form, ids};
use testkit::rabbit::Rabbit;
use testkit::rig::Rig;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Publishes a job with a `traceparent`.
async fn publish_traced(rig: &Rig, case: &Case) {
    let connection = rig.connect().await;
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut headers = FieldTable::default();
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    headers.insert(ShortString::from("traceparent"), AMQPValue::LongString(traceparent.into()));
    let properties =
        BasicProperties::default().with_message_id(ShortString::from(case.id.as_str())).with_headers(headers);
    let (exchange, key) = (ShortString::from(format!("{}.requests", rig.prefix)), ShortString::from("job"));
    let body = case.body.to_string();
    let sent = channel.basic_publish(exchange, key, BasicPublishOptions::default(), body.as_bytes(), properties);
    sent.await.unwrap().await.unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of(span: &Span, key: &str) -> String {
    attribute(&span.attributes, key)
}

/// The spans of a job's copies, in order.
fn copies(spans: &[Span], case: &Case) -> Vec<Span> {
    let is_its = |span: &&Span| of(span, "messaging.message.conversation_id") == case.id;
    let mut copies: Vec<Span> = spans.iter().filter(is_its).cloned().collect();
    copies.sort_by_key(|span| span.start_time_unix_nano);
    copies
}

fn below(spans: &[Span], parent: &Span) -> Vec<Span> {
    let mut below: Vec<Span> = spans.iter().filter(|span| span.parent_span_id == parent.span_id).cloned().collect();
    below.sort_by_key(|span| span.start_time_unix_nano);
    below
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_copy_of_a_job_is_a_conventional_trace_with_a_link_to_the_publishers_trace() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let plain = Case::new(rig.sandbox(), Form::VitalSource, 1);
    let waits = Case::new(rig.sandbox(), Form::Unconfirmed, 2);
    // One attempt fails.
    let gone = Action::Status { status: 503, body: String::new(), after_work: false };
    rig.sandbox().add_fault(FaultRule::on(Operation::RevokeCode, gone).times(1));
    let worker = rig.worker("state", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    publish_traced(&rig, &plain).await;
    publish_traced(&rig, &waits).await;
    rig.events.until("the question", |heard| !heard.of(&waits.id).is_empty()).await;
    worker.says("job parked").await;
    rig.publish(&[waits.answered(None)]).await;
    rig.events.all_end(ids(&[plain.clone(), waits.clone()])).await;
    rig.is_empty().await;
    let log = worker.log();
    // The stop sends the last spans.
    worker.stop().await;

    let spans = collector.spans();
    assert_eq!(attribute(&collector.resource(), "service.name"), "erasure-worker");
    let [copy] = &copies(&spans, &plain)[..] else { panic!("{:?}", copies(&spans, &plain)) };
    let queue = format!("{}.jobs", rig.prefix);
    assert_eq!((copy.name.as_str(), copy.kind), (&*format!("process {queue}"), SpanKind::Consumer as i32));
    assert_eq!(of(copy, "messaging.system"), "rabbitmq");
    assert_eq!(of(copy, "messaging.destination.name"), queue);
    assert_eq!(of(copy, "messaging.operation.type"), "process");
    assert_eq!((of(copy, "erasure.tenant"), of(copy, "erasure.run")), ("acme".to_owned(), "1".to_owned()));

    let attempts: Vec<Span> =
        below(&spans, copy).into_iter().filter(|span| !of(span, "erasure.step").is_empty()).collect();
    let steps: Vec<String> = attempts.iter().map(|span| of(span, "erasure.step")).collect();
    assert!(steps.starts_with(&["resolve".to_owned()]) && steps.contains(&"overwrite_user".to_owned()), "{steps:?}");
    let failed: Vec<&Span> = attempts.iter().filter(|span| !of(span, "error.type").is_empty()).collect();
    assert_eq!(failed.len(), 1, "{steps:?}");
    let requests = below(&spans, failed[0]);
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].name.as_str(), requests[0].kind), ("DELETE /v4/codes/{code}", SpanKind::Client as i32));
    assert_eq!(of(&requests[0], "http.request.method"), "DELETE");
    assert_eq!(of(&requests[0], "url.template"), "/v4/codes/{code}");
    assert_eq!(of(&requests[0], "http.response.status_code"), "503");
    assert_eq!(of(&requests[0], "error.type"), "503");
    assert_eq!(of(&requests[0], "server.address"), "127.0.0.1");
    let sends: Vec<Span> = spans.iter().filter(|span| span.kind == SpanKind::Producer as i32).cloned().collect();
    let event = sends.iter().find(|span| span.parent_span_id == copy.span_id).unwrap();
    assert_eq!(of(event, "messaging.destination.name"), format!("{}.events", rig.prefix));
    assert!(of(event, "messaging.rabbitmq.destination.routing_key").starts_with("job.completed."));

    // Each copy of the job is a trace of its own.
    let copies = copies(&spans, &waits);
    assert!(copies.len() >= 2, "{copies:?}");
    for copy in copies.iter().chain([copy]) {
        assert!(copy.parent_span_id.is_empty() && hex(&copy.trace_id) != TRACE, "a copy continues another trace");
    }
    let linked = copies.iter().filter(|copy| copy.links.iter().any(|link| hex(&link.trace_id) == TRACE)).count();
    // The continuation has no `traceparent`.
    assert_eq!(linked, copies.len() - 1, "{copies:?}");
    assert_eq!(hex(&copy.links[0].trace_id), TRACE);

    assert!(spans.iter().all(|span| of(span, "url.full").is_empty() && of(span, "url.path").is_empty()));
    assert!(!log.contains("url.template") && !log.contains("messaging."), "a log line contains a span");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absent_collector_stops_no_job_and_an_invalid_endpoint_is_refused_at_the_start() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let case = Case::new(rig.sandbox(), Form::EasyCms, 1);
    // No process listens at port 1.
    let worker = rig.worker("state", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")]);
    rig.publish(std::slice::from_ref(&case.body)).await;
    let heard = rig.events.all_end([case.id.as_str()]).await;
    assert_eq!(heard.finals(&case.id).values().collect::<Vec<_>>(), ["completed"]);
    worker.stop().await;

    let mut worker = rig.worker("other", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector with blanks")]);
    assert_eq!(worker.ended().await.code(), Some(2), "{}", worker.log());
    assert!(worker.log().contains("OTEL_EXPORTER_OTLP_") && !worker.log().contains("blanks"), "{}", worker.log());
}
