//! What carries requests to a system: the network, or a stand-in within this process.
//!
//! The rule it keeps: a client cannot tell which one it is.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::{Body, Request, Response};

/// Carries requests without a network, so that time can be simulated.
#[async_trait]
pub trait Carry: Send + Sync + 'static {
    /// Why no connection comes about to this address at the moment, in fixed words; `None` where one does.
    fn unreachable(&self, _url: &url::Url) -> Option<&'static str> {
        None
    }

    /// Hands over one request; `None` where the connection was lost before an answer came.
    async fn carry(&self, request: http::Request<Body>) -> Option<http::Response<Bytes>>;
}

/// What carries a client's requests.
#[derive(Clone, Default)]
pub enum Wire {
    /// TCP, with TLS where the address says so.
    #[default]
    Network,
    /// Somebody in this process.
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
