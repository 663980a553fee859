//! The refusals of the ops API: problem details (RFC 9457).
//!
//! The rule it keeps: one closed list has every kind of refusal, with its status and a type for programs.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::engine::decisions::DecisionError;
use crate::engine::journal::JournalError;
use crate::engine::operators::LetterError;
use crate::store::StoreError;

/// The kinds of refusal; [`Kind::parts`] has the title of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    BadRequest,
    Unauthorised,
    ForeignOrigin,
    NotFound,
    UnknownJob,
    UnknownSystem,
    UnknownScope,
    UnknownDeadLetter,
    UnknownApproval,
    WrongOperator,
    PreviewChanged,
    AlreadyDecided,
    UnknownCode,
    MethodNotAllowed,
    JobEnded,
    TooLate,
    NothingToExport,
    TooLarge,
    UnsupportedMediaType,
    Misdirected,
    FileRefused,
    Unavailable,
    TimedOut,
    Internal,
}

impl Kind {
    /// Every kind, in the order of the documentation.
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
            Kind::BadRequest => (StatusCode::BAD_REQUEST, "bad-request", "The request is not valid"),
            Kind::Unauthorised => (StatusCode::UNAUTHORIZED, "unauthorised", "The bearer token is missing or wrong"),
            Kind::ForeignOrigin => (StatusCode::FORBIDDEN, "foreign-origin", "The request comes from another web page"),
            Kind::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such route"),
            Kind::UnknownJob => (StatusCode::NOT_FOUND, "unknown-job", "The job is unknown to this worker"),
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
                (StatusCode::CONFLICT, "preview-changed", "The findings have changed: check the preview again")
            }
            Kind::AlreadyDecided => (StatusCode::CONFLICT, "already-decided", "The preview is already decided"),
            Kind::UnknownCode => (StatusCode::NOT_FOUND, "unknown-code", "There is no such code"),
            Kind::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The route does not accept this method")
            }
            Kind::JobEnded => (StatusCode::CONFLICT, "job-ended", "The job has ended"),
            Kind::TooLate => (StatusCode::CONFLICT, "too-late", "An irreversible step was begun"),
            Kind::NothingToExport => (StatusCode::CONFLICT, "nothing-to-export", "No member waits for a deletion file"),
            Kind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too long"),
            Kind::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body has the wrong type")
            }
            Kind::Misdirected => {
                (StatusCode::MISDIRECTED_REQUEST, "misdirected", "This worker does not serve this host name")
            }
            Kind::FileRefused => (StatusCode::UNPROCESSABLE_ENTITY, "file-refused", "The result file is refused"),
            Kind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The worker cannot do this now"),
            Kind::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "timed-out", "The time limit passed; begun work continues"),
            Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The worker has an internal fault"),
        }
    }
}

/// A refusal. Without personal data, as every answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    kind: Kind,
    detail: Option<String>,
}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        Problem { kind, detail: None }
    }
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        Problem { kind, detail: Some(detail.into()) }
    }
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Store(error) => error.into(),
            other => {
                tracing::error!(error = %other, "an operator's request failed: a record cannot be used");
                Problem::new(Kind::Internal, other.to_string())
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "an operator's request failed: the store has a fault");
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
