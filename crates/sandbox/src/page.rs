//! The answers of proxies, gateways and login pages in place of a system.
//!
//! The rule it keeps: no answer has the form of one of the four systems' answers.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::call::Reply;

/// The form of a gateway's answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Page {
    /// The page of a reverse proxy, with the status in its heading.
    #[default]
    Proxy,
    /// A cluster's `default backend - 404`, as plain text.
    DefaultBackend,
    /// A page with a login form.
    Login,
    /// A page "Service is busy".
    Maintenance,
    /// An API gateway's JSON for an unknown route.
    Route,
    /// An empty body.
    Empty,
}

impl Page {
    /// Every kind.
    pub const ALL: [Page; 6] =
        [Page::Proxy, Page::DefaultBackend, Page::Login, Page::Maintenance, Page::Route, Page::Empty];

    /// The content type and the body for a status.
    pub fn content(self, status: u16) -> (&'static str, String) {
        const HTML: &str = "text/html; charset=utf-8";
        let phrase = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error");
        let page = |title: &str, body: &str| {
            format!("<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n{body}\r\n</body>\r\n</html>\r\n")
        };
        match self {
            Page::Proxy => {
                let title = format!("{status} {phrase}");
                (HTML, page(&title, &format!("<center><h1>{title}</h1></center>\r\n<hr><center>nginx</center>")))
            }
            Page::DefaultBackend => ("text/plain; charset=utf-8", format!("default backend - {status}")),
            Page::Login => {
                let form = "<form method=\"post\"><input name=\"user\"><input name=\"password\"></form>";
                (HTML, format!("<!DOCTYPE html>{}", page("Sign in", form)))
            }
            Page::Maintenance => {
                (HTML, format!("<!DOCTYPE html>{}", page("Maintenance", "Service is busy, try again later")))
            }
            Page::Route => ("application/json", "{\"message\":\"no Route matched with those values\"}".to_owned()),
            Page::Empty => (HTML, String::new()),
        }
    }

    pub(super) fn reply(self, status: u16) -> Reply {
        let (content_type, body) = self.content(status);
        Reply::typed(status, content_type, body)
    }
}
