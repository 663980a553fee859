//! The listener and the routes.
//!
//! The rule it keeps: without a token the server listens on loopback only. At the stop it waits a few seconds at most
//! for answers that it has begun.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::access::{self, Access};
use super::connections::LimitedListener;
use super::problem::{Kind, Problem};
use super::shared::Shared;
use super::{
    Ops, approvals, ceilings, codes, console, dead_letters, health, imports, jobs, metrics, overview, pauses, receipts,
    systems,
};

/// The longest body, except for result files.
const LONGEST_BODY: usize = 64 * 1024;
/// The longest result file of an import.
const LONGEST_FILE: usize = 64 * 1024 * 1024;
/// The time for begun answers after the stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves the ops API until `shutdown` is cancelled. Returns the bound address and the server's task, which ends soon
/// after the stop.
///
/// # Errors
/// The address cannot be bound, or it is not a loopback address and there is no token.
pub async fn serve(ops: Ops, shutdown: CancellationToken) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let has_tokens = ops.settings.token.is_some() || !ops.settings.operators.is_empty();
    if !has_tokens && !ops.settings.listen.ip().is_loopback() {
        let why = "the ops API needs ops.token on an address that other machines can reach";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let listener = TcpListener::bind(ops.settings.listen).await?;
    let addr = listener.local_addr()?;
    let access = Arc::new(Access::new(addr, ops.settings.token.as_ref(), &ops.settings.operators));
    let shared = Arc::new(Shared {
        ops,
        letters: tokio::sync::Mutex::default(),
        survey: Default::default(),
        began_at: Timestamp::now(),
        rates: Default::default(),
    });
    let app = router(Arc::clone(&shared)).layer(middleware::from_fn_with_state(access, access::check));
    let server =
        axum::serve(LimitedListener::new(listener), app).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let task = tokio::spawn(async move {
        let timeout = async {
            shutdown.cancelled().await;
            tokio::time::sleep(STOP_TIMEOUT).await;
        };
        tokio::select! {
            // Axum handles the listener's errors: the server ends only by the token.
            _ = server => {}
            () = timeout => {}
            () = health::watch_store(&shared.ops.engine) => {}
            () = shared.rates.watch(&shared.ops.engine) => {}
        }
    });
    Ok((addr, task))
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(console::page))
        .route("/console/{file}", get(console::file))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/.well-known/jwks.json", get(receipts::keys))
        .route("/v1/receipts", get(receipts::pack))
        .route("/v1/codes/{code}", get(codes::show))
        .route("/v1/overview", get(overview::overview))
        .route("/v1/forecast", get(overview::forecast))
        .route("/v1/jobs", get(jobs::list))
        .route("/v1/jobs/{tenant}/states", post(jobs::states))
        .route("/v1/jobs/{tenant}/{job_id}", get(jobs::show))
        .route("/v1/jobs/{tenant}/{job_id}/cancel", post(jobs::cancel))
        .route("/v1/systems", get(systems::list))
        .route("/v1/systems/{name}/release", post(systems::release))
        .route("/v1/systems/{name}/pause", post(pauses::pause_system))
        .route("/v1/systems/{name}/resume", post(pauses::resume_system))
        .route("/v1/paused", get(pauses::list))
        .route("/v1/tenants/{tenant}/pause", post(pauses::pause_tenant))
        .route("/v1/tenants/{tenant}/resume", post(pauses::resume_tenant))
        .route("/v1/guard", get(ceilings::list))
        .route("/v1/guard/{scope}/{name}/release", post(ceilings::release))
        .route("/v1/guard/{scope}/{name}/discard", post(ceilings::discard))
        .route("/v1/approvals", get(approvals::list))
        .route("/v1/approvals/report", get(approvals::report))
        .route("/v1/approvals/approve", post(approvals::decide_many::<true>))
        .route("/v1/approvals/reject", post(approvals::decide_many::<false>))
        .route("/v1/approvals/{tenant}/{job_id}", get(approvals::show))
        .route("/v1/approvals/{tenant}/{job_id}/approve", post(approvals::decide::<true>))
        .route("/v1/approvals/{tenant}/{job_id}/reject", post(approvals::decide::<false>))
        .route("/v1/dead-letters", get(dead_letters::list))
        .route("/v1/dead-letters/replay", post(dead_letters::replay))
        .route("/v1/dead-letters/discard", post(dead_letters::discard))
        .route("/v1/dead-letters/{tenant}/{job_id}", get(dead_letters::show))
        .route("/v1/zeta-import/{system}/export", post(imports::export))
        .route("/v1/zeta-import/{system}/settle", post(imports::settle).layer(DefaultBodyLimit::max(LONGEST_FILE)))
        .fallback(async || Problem::from(Kind::NotFound))
        .method_not_allowed_fallback(async || Problem::from(Kind::MethodNotAllowed))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(shared)
}
