//! The stand-in behind the worker's own client, in this process: it answers, misbehaves, and keeps every call.
//!
//! The rule it keeps: a call is kept before it is answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use erasure_connector::stand_in::{Asked, Part, StandIn};
use erasure_connector::vary::Given;
use erasure_connector::vary::replies::Changed;
use percent_encoding::percent_decode_str;

use crate::job::At;
use crate::sandbox::Page;
use crate::systems::http::{Carried, Carry, body_of};

/// How a call goes wrong: the sandbox's nine faults, some of them before and after the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Behaviour {
    /// 503, without the work.
    Unavailable,
    /// 502 after the work.
    UnavailableAfter,
    /// The answer comes after a while.
    Late,
    /// The connection is closed before the work.
    DropBefore,
    /// The connection is closed after the work.
    DropAfter,
    /// The work is done; the answer has unreadable bytes.
    Garbage,
    /// The answer to a success, without the work.
    NotTaken,
    /// A login page with 200, without the work.
    Login,
    /// A proxy's 404, without the work.
    NotFound,
    /// A gateway's error page after the work.
    PageAfter,
    /// A redirect after the work.
    Redirected,
    /// 429 with `Retry-After`.
    RateLimited,
    /// The answer to a wrong credential.
    Refused,
}

impl Behaviour {
    pub(super) const ALL: [Behaviour; 13] = [
        Self::Unavailable,
        Self::UnavailableAfter,
        Self::Late,
        Self::DropBefore,
        Self::DropAfter,
        Self::Garbage,
        Self::NotTaken,
        Self::Login,
        Self::NotFound,
        Self::PageAfter,
        Self::Redirected,
        Self::RateLimited,
        Self::Refused,
    ];

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Unavailable => "503 before the work",
            Self::UnavailableAfter => "502 after the work",
            Self::Late => "a late answer",
            Self::DropBefore => "cut before the work",
            Self::DropAfter => "cut after the work",
            Self::Garbage => "unreadable bytes after the work",
            Self::NotTaken => "success without the work",
            Self::Login => "a login page with 200",
            Self::NotFound => "a proxy's 404",
            Self::PageAfter => "a gateway's page after the work",
            Self::Redirected => "303 after the work",
            Self::RateLimited => "429",
            Self::Refused => "401",
        }
    }
}

/// A reply that is replaced.
#[derive(Debug, Clone)]
pub(super) struct Replaced {
    /// The replies to this part; `None`: all.
    pub(super) part: Option<Part>,
    /// From this one of them on.
    pub(super) from: usize,
    /// By this.
    pub(super) by: Arc<Changed>,
}

/// A call as the vendor saw it.
#[derive(Debug, Clone)]
pub(super) struct Made {
    /// The parts of the file; none for a call that the file does not describe.
    pub(super) parts: Vec<Part>,
    /// Their names.
    pub(super) names: String,
    pub(super) person: Option<usize>,
    pub(super) member: u32,
    pub(super) is_authorised: bool,
    /// Method, path and query, as they were sent.
    pub(super) address: String,
    /// The status; `None` for a cut.
    pub(super) status: Option<u16>,
    pub(super) behaviour: Option<Behaviour>,
    pub(super) is_replaced: bool,
    pub(super) effect: bool,
    /// The reply that the stand-in gave or would have given.
    pub(super) given: Option<Given>,
}

/// The vendor of one run.
pub(super) struct Inner {
    pub(super) stand_in: StandIn,
    pub(super) now: At,
    pub(super) made: Vec<Made>,
    pub(super) faults: BTreeMap<usize, Behaviour>,
    pub(super) replaced: Option<Replaced>,
}

/// The vendor, for a client.
pub(super) struct Vendor(Mutex<Inner>);

impl Vendor {
    pub(super) fn new(stand_in: StandIn) -> Vendor {
        let (made, faults) = (Vec::new(), BTreeMap::new());
        Vendor(Mutex::new(Inner { stand_in, now: At(0), made, faults, replaced: None }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Carry for Vendor {
    async fn carry(&self, request: Carried) -> Option<http::Response<Bytes>> {
        self.lock().take(&request)
    }
}

/// The time of a late answer.
const LATE_MS: i64 = 20_000;

impl Inner {
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.now.0).unwrap_or(0)
    }

    fn take(&mut self, request: &Carried) -> Option<http::Response<Bytes>> {
        let uri = request.uri();
        let segments: Vec<String> = uri
            .path()
            .trim_start_matches('/')
            .split('/')
            .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
            .collect();
        let pairs = |bytes: &[u8]| -> Vec<(String, String)> {
            url::form_urlencoded::parse(bytes).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
        };
        let query = pairs(uri.query().unwrap_or_default().as_bytes());
        let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers: Vec<(String, String)> =
            request.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        let body = body_of(request);
        let is_form = headers
            .iter()
            .any(|(name, value)| name == "content-type" && value.starts_with("application/x-www-form-urlencoded"));
        let form = is_form.then(|| pairs(body));
        let asked = Asked {
            method: request.method().as_str(),
            segments: &segments,
            query: &query,
            headers: &headers,
            body,
            form: form.as_deref(),
        };
        self.answer(&asked, format!("{} {uri}", request.method()))
    }

    fn answer(&mut self, asked: &Asked<'_>, address: String) -> Option<http::Response<Bytes>> {
        let place = self.made.len();
        let behaviour = self.faults.get(&place).copied();
        let route = self.stand_in.route(asked);
        let mut made = Made {
            parts: route.as_ref().map(|route| route.parts.clone()).unwrap_or_default(),
            names: route
                .as_ref()
                .map_or_else(|| "a call that the file does not describe".to_owned(), |route| route.names.clone()),
            person: route.as_ref().and_then(|route| route.person),
            member: route.as_ref().map_or(0, |route| route.member),
            is_authorised: route.as_ref().is_some_and(|route| route.is_authorised),
            address,
            status: None,
            behaviour,
            is_replaced: false,
            effect: false,
            given: None,
        };
        let works = !matches!(
            behaviour,
            Some(
                Behaviour::Unavailable
                    | Behaviour::DropBefore
                    | Behaviour::NotTaken
                    | Behaviour::Login
                    | Behaviour::NotFound
                    | Behaviour::RateLimited
                    | Behaviour::Refused
            )
        );
        let now_ms = self.now_ms();
        if let Some(route) = &route {
            let answered = match works {
                true => self.stand_in.answer(route, asked, now_ms),
                false => self.stand_in.clone().answer(route, asked, now_ms),
            };
            made.effect = answered.effect && works;
            made.given = Some(answered.given);
        }
        let response = self.respond(&made);
        made.is_replaced = behaviour.is_none() && self.replaces(&made);
        made.status = response.as_ref().map(|response| response.status().as_u16());
        if behaviour == Some(Behaviour::Late) {
            self.now = At(self.now.0 + LATE_MS);
        }
        self.made.push(made);
        response
    }

    fn replaces(&self, made: &Made) -> bool {
        let Some(replaced) = &self.replaced else { return false };
        let is_it = |parts: &[Part]| replaced.part.is_none_or(|part| parts.contains(&part));
        let before = self.made.iter().filter(|made| is_it(&made.parts)).count();
        is_it(&made.parts) && before >= replaced.from
    }

    fn respond(&self, made: &Made) -> Option<http::Response<Bytes>> {
        let page = |page: Page, status: u16| {
            let (content_type, body) = page.content(status);
            response(status, content_type, &[], Bytes::from(body))
        };
        match made.behaviour {
            Some(Behaviour::Unavailable) => response(503, "text/plain", &[], Bytes::from_static(b"try again")),
            Some(Behaviour::UnavailableAfter) => response(502, "text/plain", &[], Bytes::from_static(b"bad gateway")),
            Some(Behaviour::DropBefore | Behaviour::DropAfter) => None,
            Some(Behaviour::Garbage) => response(
                200,
                "application/octet-stream",
                &[],
                Bytes::from_static(&[0xff, 0xfe, 0x00, 0x7b, 0x3c, 0xc3, 0x28]),
            ),
            Some(Behaviour::Login) => page(Page::Login, 200),
            Some(Behaviour::NotFound) => page(Page::Proxy, 404),
            Some(Behaviour::PageAfter) => page(Page::Proxy, 504),
            Some(Behaviour::Redirected) => {
                let place = [("location".to_owned(), "/done".to_owned())];
                response(303, "text/plain", &place, Bytes::from_static(b"See Other"))
            }
            Some(Behaviour::RateLimited) => {
                let wait = [("retry-after".to_owned(), "1".to_owned())];
                response(429, "text/plain", &wait, Bytes::from_static(b"Too Many Requests"))
            }
            Some(Behaviour::Refused) => given(&StandIn::refusal()),
            None if self.replaces(made) => {
                let by = &self.replaced.as_ref()?.by;
                response(by.status, by.content_type, &[], Bytes::from(by.body.clone()))
            }
            None | Some(Behaviour::Late | Behaviour::NotTaken) => match &made.given {
                Some(reply) => given(reply),
                None => response(404, "text/plain", &[], Bytes::from_static(b"Not found")),
            },
        }
    }
}

fn given(reply: &Given) -> Option<http::Response<Bytes>> {
    let headers: Vec<_> = reply.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    response(reply.status, reply.content_type(), &headers, Bytes::from(reply.bytes()))
}

fn response(
    status: u16,
    content_type: &str,
    headers: &[(String, String)],
    body: Bytes,
) -> Option<http::Response<Bytes>> {
    let mut response = http::Response::builder().status(status).header("content-type", content_type);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(body).ok()
}
