//! An OpenTelemetry collector that stores the received spans.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

type Bodies = Arc<Mutex<Vec<Bytes>>>;

pub struct Collector {
    pub address: SocketAddr,
    bodies: Bodies,
}

impl Collector {
    /// Accepts spans by HTTP until the test's runtime ends.
    pub async fn start() -> Collector {
        let bodies = Bodies::default();
        let keep = |State(bodies): State<Bodies>, body: Bytes| async move { bodies.lock().unwrap().push(body) };
        let routes = Router::new().route("/v1/traces", post(keep)).with_state(Arc::clone(&bodies));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Collector { address, bodies }
    }

    /// The endpoint for a worker's environment.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All received bytes.
    pub fn bodies(&self) -> Vec<Bytes> {
        self.bodies.lock().unwrap().clone()
    }

    /// All received spans.
    pub fn spans(&self) -> Vec<Span> {
        let requests = self.bodies().into_iter().map(|body| ExportTraceServiceRequest::decode(body).unwrap());
        let scopes = requests.flat_map(|request| request.resource_spans).flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// The resource attributes of the sending process.
    pub fn resource(&self) -> Vec<KeyValue> {
        let body = self.bodies().into_iter().next().unwrap();
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        request.resource_spans.into_iter().next().unwrap().resource.unwrap().attributes
    }
}

/// An attribute as text; empty if there is none.
pub fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == key).and_then(|attribute| attribute.value.clone());
    match value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => text,
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => number.to_string(),
        None => String::new(),
        Some(other) => panic!("{key}: {other:?}"),
    }
}
