//! The console at `/`: static files, a client of the ops API.
//!
//! The rule it keeps: the files contain nothing secret, load nothing from other servers, and run only their own
//! scripts.

use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::problem::{Kind, Problem};

/// The page may only load these files and call this server. Trusted Types: text never becomes markup, not even by a
/// mistake in a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    require-trusted-types-for 'script'; trusted-types 'none'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, media type, content.
const FILES: [(&str, &str, &str); 13] = [
    ("style.css", "text/css; charset=utf-8", include_str!("style.css")),
    ("icon.svg", "image/svg+xml", include_str!("icon.svg")),
    ("app.js", SCRIPT, include_str!("app.js")),
    ("api.js", SCRIPT, include_str!("api.js")),
    ("dom.js", SCRIPT, include_str!("dom.js")),
    ("dialogs.js", SCRIPT, include_str!("dialogs.js")),
    ("overview.js", SCRIPT, include_str!("overview.js")),
    ("jobs.js", SCRIPT, include_str!("jobs.js")),
    ("job.js", SCRIPT, include_str!("job.js")),
    ("letters.js", SCRIPT, include_str!("letters.js")),
    ("approvals.js", SCRIPT, include_str!("approvals.js")),
    ("ceilings.js", SCRIPT, include_str!("ceilings.js")),
    ("systems.js", SCRIPT, include_str!("systems.js")),
];

fn answer(media: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    ];
    (headers, text).into_response()
}

pub(super) async fn page() -> Response {
    answer("text/html; charset=utf-8", include_str!("index.html"))
}

pub(super) async fn file(Path(name): Path<String>) -> Result<Response, Problem> {
    let found = FILES.into_iter().find(|(known, ..)| *known == name);
    found.map(|(_, media, text)| answer(media, text)).ok_or_else(|| Kind::NotFound.into())
}

pub(super) fn is_console(path: &str) -> bool {
    path == "/" || path.strip_prefix("/console/").is_some_and(|name| FILES.iter().any(|(known, ..)| *known == name))
}
