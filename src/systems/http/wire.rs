//! The carrier of requests to a system: the network, or a stand-in in this process.
//!
//! The rule it keeps: a client behaves the same with both.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::{Body, Request, Response};

/// Carries requests without a network, so that time can be simulated.
#[async_trait]
pub trait Carry: Send + Sync + 'static {
    /// The cause why this address cannot be connected to now, in fixed words; `None` if it can.
    fn unreachable(&self, _url: &url::Url) -> Option<&'static str> {
        None
    }

    /// Sends one request; `None` if the connection was lost before the answer arrived.
    async fn carry(&self, request: Carried) -> Option<http::Response<Bytes>>;
}

/// A request as a carrier gets it.
pub type Carried = http::Request<Body>;

/// The bytes of a request's body.
pub fn body_of(request: &Carried) -> &[u8] {
    request.body().as_bytes().unwrap_or_default()
}

/// The carrier of a client's requests.
#[derive(Clone, Default)]
pub enum Wire {
    /// TCP; with TLS for an `https` address.
    #[default]
    Network,
    /// A stand-in in this process.
    InProcess(Arc<dyn Carry>),
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Wire::Network => "Network",
            Wire::InProcess(_) => "InProcess",
        })
    }
}

impl PartialEq for Wire {
    fn eq(&self, other: &Wire) -> bool {
        match (self, other) {
            (Wire::Network, Wire::Network) => true,
            (Wire::InProcess(one), Wire::InProcess(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for Wire {}

pub(super) async fn carried(carrier: &dyn Carry, request: Request) -> Option<Response> {
    let request = http::Request::try_from(request).ok()?;
    carrier.carry(request).await.map(Response::from)
}
