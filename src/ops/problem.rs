//! How the ops API says no: problem details (RFC 9457).
//!
//! The rule it keeps: every kind of refusal stands in one closed list, with its status and a type
//! that programs can tell apart.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::engine::decisions::DecisionError;
use crate::engine::journal::JournalError;
use crate::engine::operators::LetterError;
use crate::store::StoreError;

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A parameter or a body that cannot be understood.
    BadRequest,
    /// No token, or another one.
    Unauthorised,
    /// Asked by another web page.
    ForeignOrigin,
    /// No such route.
    NotFound,
    /// Nothing is known of the job.
    UnknownJob,
    /// No such system.
    UnknownSystem,
    /// No such tenant or system with a ceiling.
    UnknownScope,
    /// No dead letter of that job.
    UnknownDeadLetter,
    /// The job waits for no approval.
    UnknownApproval,
    /// Another operator must do this.
    WrongOperator,
    /// Something else is shown by now.
    PreviewChanged,
    /// It was decided before.
    AlreadyDecided,
    /// No such code.
    UnknownCode,
    /// The route does not take this method.
    MethodNotAllowed,
    /// The job has ended.
    JobEnded,
    /// Something that cannot be taken back was begun.
    TooLate,
    /// There is nothing to export.
    NothingToExport,
    /// The body is too long.
    TooLarge,
    /// The body is of another type.
    UnsupportedMediaType,
    /// Asked under a name that is not ours.
    Misdirected,
    /// The result file is not taken.
    FileRefused,
    /// The worker could not do it now.
    Unavailable,
    /// It took too long; what was begun goes on.
    TimedOut,
    /// A fault of the worker's own.
    Internal,
}

impl Kind {
    /// Every kind, as the documentation lists them.
    pub const ALL: [Kind; 24] = [
        Kind::BadRequest,
        Kind::Unauthorised,
        Kind::ForeignOrigin,
        Kind::NotFound,
        Kind::UnknownJob,
        Kind::UnknownSystem,
        Kind::UnknownScope,
        Kind::UnknownDeadLetter,
        Kind::UnknownApproval,
        Kind::WrongOperator,
        Kind::PreviewChanged,
        Kind::AlreadyDecided,
        Kind::UnknownCode,
        Kind::MethodNotAllowed,
        Kind::JobEnded,
        Kind::TooLate,
        Kind::NothingToExport,
        Kind::TooLarge,
        Kind::UnsupportedMediaType,
        Kind::Misdirected,
        Kind::FileRefused,
        Kind::Unavailable,
        Kind::TimedOut,
        Kind::Internal,
    ];

    /// Status, last part of the type, title.
    pub const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Kind::BadRequest => (StatusCode::BAD_REQUEST, "bad-request", "The request cannot be understood"),
            Kind::Unauthorised => (StatusCode::UNAUTHORIZED, "unauthorised", "The bearer token is missing or wrong"),
            Kind::ForeignOrigin => (StatusCode::FORBIDDEN, "foreign-origin", "The request comes from another web page"),
            Kind::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such route"),
            Kind::UnknownJob => (StatusCode::NOT_FOUND, "unknown-job", "This worker knows nothing of the job"),
            Kind::UnknownSystem => (StatusCode::NOT_FOUND, "unknown-system", "No such system is configured"),
            Kind::UnknownScope => {
                (StatusCode::NOT_FOUND, "unknown-scope", "No tenant or system of that name has a ceiling")
            }
            Kind::UnknownDeadLetter => {
                (StatusCode::NOT_FOUND, "unknown-dead-letter", "There is no dead letter of that job")
            }
            Kind::UnknownApproval => (StatusCode::NOT_FOUND, "unknown-approval", "The job waits for no approval"),
            Kind::WrongOperator => (StatusCode::FORBIDDEN, "wrong-operator", "Another operator must do this"),
            Kind::PreviewChanged => {
                (StatusCode::CONFLICT, "preview-changed", "Something else was found since: look at it again")
            }
            Kind::AlreadyDecided => (StatusCode::CONFLICT, "already-decided", "It was decided before"),
            Kind::UnknownCode => (StatusCode::NOT_FOUND, "unknown-code", "There is no such code"),
            Kind::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The route does not take this method")
            }
            Kind::JobEnded => (StatusCode::CONFLICT, "job-ended", "The job has ended"),
            Kind::TooLate => (StatusCode::CONFLICT, "too-late", "Something that cannot be taken back was begun"),
            Kind::NothingToExport => (StatusCode::CONFLICT, "nothing-to-export", "No member waits for a deletion file"),
            Kind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too long"),
            Kind::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body is of another type")
            }
            Kind::Misdirected => {
                (StatusCode::MISDIRECTED_REQUEST, "misdirected", "The worker is not asked under this host name")
            }
            Kind::FileRefused => (StatusCode::UNPROCESSABLE_ENTITY, "file-refused", "The result file is not taken"),
            Kind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The worker cannot do this now"),
            Kind::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "timed-out", "It took too long; what was begun goes on"),
            Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "A fault of the worker's own"),
        }
    }
}

/// A refusal. Without personal data, as every answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its kind.
    pub kind: Kind,
    /// What is wrong in this case.
    pub detail: Option<String>,
}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        Problem { kind, detail: None }
    }
}

impl Problem {
    /// A refusal with what is wrong in this case.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        Problem { kind, detail: Some(detail.into()) }
    }
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Store(error) => error.into(),
            other => {
                tracing::error!(error = %other, "an operator's request met a record that cannot be used");
                Problem::new(Kind::Internal, other.to_string())
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "an operator's request met a fault of the store");
        Problem::new(Kind::Unavailable, error.to_string())
    }
}

impl From<LetterError> for Problem {
    fn from(error: LetterError) -> Self {
        match error {
            LetterError::Journal(error) => error.into(),
            broker @ LetterError::Broker { .. } => Problem::new(Kind::Unavailable, broker.to_string()),
        }
    }
}

impl From<DecisionError> for Problem {
    fn from(error: DecisionError) -> Self {
        match error {
            DecisionError::Journal(error) => error.into(),
            unpublished @ DecisionError::Unpublished(_) => Problem::new(Kind::Unavailable, unpublished.to_string()),
            unread @ DecisionError::Unread => Problem::new(Kind::TimedOut, unread.to_string()),
        }
    }
}

impl From<tokio::task::JoinError> for Problem {
    fn from(_: tokio::task::JoinError) -> Self {
        Kind::Internal.into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, word, title) = self.kind.parts();
        let mut body = json!({
            "type": format!("urn:erasure-worker:problem:{word}"), "title": title, "status": status.as_u16(),
        });
        if let (Some(detail), Some(object)) = (self.detail, body.as_object_mut()) {
            object.insert("detail".into(), detail.into());
        }
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.kind == Kind::Unauthorised {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
