//! Reads requests: method, address, headers, body.
//!
//! The rule it keeps: a body is a structure, never a text; a read never changes anything unless it says so.

use serde_json::Value;
use toml::de::DeValue;

use super::cursor::{At, Keys, Reader, integer, kind, repeat};
use crate::model::{Body, Call, Json, Method, Part, Template};
use crate::words::Word as _;

/// How deep a JSON body may be nested.
const DEEPEST: usize = 16;
/// Headers that the HTTP client writes itself, or that would change whose answer it is.
const OWN_HEADERS: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "cookie",
    "proxy-authorization",
];

/// The use of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// A read, or the probe.
    Reading,
    /// An act.
    Changing,
}

impl Reader {
    /// The call among a table's keys. `None` if there is none, or after a fault.
    pub fn call(&mut self, keys: &mut Keys<'_>, of: Use, needed: bool) -> Option<Call> {
        let before = self.faults.len();
        let mut lines = Vec::new();
        for (word, method) in Method::WORDS {
            if let Some(at) = keys.take(self, word) {
                lines.push((*method, at));
            }
        }
        let reads_only = keys.take(self, "reads_only").is_some_and(|at| self.flag(&at));
        let query = keys.take(self, "query");
        let headers = keys.take(self, "headers");
        let json = keys.take(self, "json");
        let form = keys.take(self, "form");
        let endpoint = keys.take(self, "endpoint");
        let place = keys.place.clone();
        if lines.len() > 1 {
            self.fault(keys.line, &place, "has two methods", "write one of get, post, put, patch, delete");
        }
        let Some((method, address)) = lines.into_iter().next() else {
            if needed {
                self.fault(keys.line, &place, "calls nothing", "write get, post, put, patch or delete = \"/path\"");
            } else if query.or(headers).or(json).or(form).or(endpoint).is_some() || reads_only {
                self.fault(keys.line, &place, "has parts of a call without an address", "write get = \"/path\"");
            }
            return None;
        };
        self.method(&address, method, of, reads_only);
        let mut call = Call {
            method,
            path: Template::default(),
            query: Vec::new(),
            headers: std::collections::BTreeMap::new(),
            body: Body::None,
            endpoint: "default".to_owned(),
        };
        self.address(&address, &mut call);
        if let Some(query) = &query {
            let pairs = self.pairs(query);
            for (name, _) in &pairs {
                if call.query.iter().any(|(known, _)| known == name) {
                    self.fault_at(query, format!("{} is also in the address", repeat(name)), "write it in one place");
                }
            }
            call.query.extend(pairs);
        }
        if let Some(headers) = &headers {
            call.headers = self.headers(headers);
        }
        if let (Some(_), Some(form)) = (&json, &form) {
            self.fault_at(form, "is a second body", "write json or form, not both");
        }
        if let Some(json) = &json {
            if !matches!(json.value, DeValue::Table(_) | DeValue::Array(_)) {
                let is = kind(json.value);
                self.fault_at(json, format!("is {is}, not a structure"), "write a table or a list: json = { … }");
            }
            call.body = self.json(json, 0).map_or(Body::None, Body::Json);
        } else if let Some(form) = &form {
            call.body = Body::Form(self.pairs(form));
        }
        if method == Method::Get
            && let Some(body) = json.as_ref().or(form.as_ref())
        {
            self.fault_at(body, "is a body of a GET, which servers ignore", "write query = { … }, or post");
        }
        if let Some(endpoint) = &endpoint
            && let Some(name) = self.text(endpoint)
            && self.name(endpoint.line, &endpoint.place, &name)
        {
            call.endpoint = name;
        }
        (self.faults.len() == before).then_some(call)
    }

    fn method(&mut self, address: &At<'_>, method: Method, of: Use, reads_only: bool) {
        match (of, method) {
            (Use::Reading, Method::Get) if reads_only => {
                self.fault_at(address, "is a GET, which always only reads", "remove reads_only");
            }
            (Use::Reading, Method::Get) => {}
            (Use::Reading, Method::Post) if reads_only => {}
            (Use::Reading, Method::Post) => self.fault_at(
                address,
                "reads with a POST, which may change something",
                "write reads_only = true beside it, if the vendor documents that it changes nothing",
            ),
            (Use::Reading, _) => {
                self.fault_at(address, "changes something, in a read", "write get, or make it an [[act]]");
            }
            (Use::Changing, Method::Get) => {
                self.fault_at(address, "is a GET, which changes nothing", "write post, put, patch or delete");
            }
            (Use::Changing, _) if reads_only => {
                self.fault_at(address, "says reads_only, in an act", "make it a [read.NAME]");
            }
            (Use::Changing, _) => {}
        }
    }

    /// Path and query of an address.
    fn address(&mut self, at: &At<'_>, call: &mut Call) {
        let Some(whole) = self.template(at) else { return };
        let good = |text: &str| text.chars().all(|c| c.is_ascii_graphic() && !"#\\\"<>{}|^`".contains(c));
        let texts = || whole.0.iter().filter_map(|part| if let Part::Text(text) = part { Some(text) } else { None });
        let starts =
            matches!(whole.0.first(), Some(Part::Text(text)) if text.starts_with('/') && !text.starts_with("//"));
        if !starts || !texts().all(|text| good(text)) {
            self.fault_at(
                at,
                "is not a path below the base",
                "write a path that begins with one /, without host, blanks and #",
            );
            return;
        }
        // The query begins at the first ? of the text itself.
        let (mut path, mut query) = (Vec::new(), None::<Vec<Part>>);
        for part in whole.0 {
            match (part, &mut query) {
                (Part::Text(text), None) => match text.split_once('?') {
                    None => path.push(Part::Text(text)),
                    Some((before, after)) => {
                        path.push(Part::Text(before.to_owned()));
                        query = Some(vec![Part::Text(after.to_owned())]);
                    }
                },
                (part, None) => path.push(part),
                (part, Some(query)) => query.push(part),
            }
        }
        path.retain(|part| *part != Part::Text(String::new()));
        call.path = Template(path);
        if call.path.written().split('/').any(|segment| segment == "." || segment == "..") {
            self.fault_at(at, "has the segment . or .., which leads elsewhere", "write the path itself");
        }
        if let Some(query) = query {
            self.query(at, query, call);
        }
    }

    /// Splits `name=value&name=value`.
    fn query(&mut self, at: &At<'_>, parts: Vec<Part>, call: &mut Call) {
        let mut pairs: Vec<Vec<Part>> = vec![Vec::new()];
        for part in parts {
            let Part::Text(text) = part else {
                pairs.last_mut().into_iter().for_each(|pair| pair.push(part.clone()));
                continue;
            };
            for (index, piece) in text.split('&').enumerate() {
                if index > 0 {
                    pairs.push(Vec::new());
                }
                if !piece.is_empty() {
                    pairs.last_mut().into_iter().for_each(|pair| pair.push(Part::Text(piece.to_owned())));
                }
            }
        }
        for pair in pairs {
            let mut pair = pair.into_iter();
            let Some(Part::Text(first)) = pair.next() else {
                self.fault_at(at, "has a query without a name", "write ?name=value");
                continue;
            };
            let (name, value) = first.split_once('=').unwrap_or((&first, ""));
            let value = (!value.is_empty()).then(|| Part::Text(value.to_owned()));
            let value = Template(value.into_iter().chain(pair).collect());
            if name.is_empty() || call.query.iter().any(|(known, _)| known == name) {
                self.fault_at(at, "has a name of the query twice, or none", "write each name once: ?name=value");
            }
            if name.contains('%') || value.0.iter().any(|part| matches!(part, Part::Text(text) if text.contains('%'))) {
                self.fault_at(
                    at,
                    "has % in its query, which would be encoded again",
                    "write the character itself in query = { … }",
                );
            }
            call.query.push((name.to_owned(), value));
        }
    }

    /// Names and templates, in the file's order.
    pub fn pairs(&mut self, at: &At<'_>) -> Vec<(String, Template)> {
        let Some(mut keys) = self.keys(at, &[]) else { return Vec::new() };
        let mut pairs = Vec::new();
        for (name, value) in keys.all(self) {
            let template = match value.value {
                DeValue::String(text) if text.is_empty() => Some(Template::default()),
                DeValue::Integer(_) => {
                    self.integer(&value).map(|number| Template(vec![Part::Text(number.to_string())]))
                }
                DeValue::Boolean(flag) => Some(Template(vec![Part::Text(flag.to_string())])),
                _ => self.template(&value),
            };
            pairs.extend(template.map(|template| (name.to_owned(), template)));
        }
        pairs
    }

    /// Headers: names in small letters.
    pub fn headers(&mut self, at: &At<'_>) -> std::collections::BTreeMap<String, Template> {
        let mut headers = std::collections::BTreeMap::new();
        let Some(mut keys) = self.keys(at, &[]) else { return headers };
        for (name, value) in keys.all(self) {
            if !self.header_name(&value, name) {
                continue;
            }
            let Some(template) = self.template(&value) else { continue };
            if template.0.iter().any(|part| matches!(part, Part::Text(text) if text.chars().any(char::is_control))) {
                self.fault_at(&value, "has a line break or another control character", "write it on one line");
            }
            if headers.insert(name.to_ascii_lowercase(), template).is_some() {
                self.fault_at(&value, "is there twice", "write each header once; case is no difference");
            }
        }
        headers
    }

    /// True if a header may have this name.
    pub fn header_name(&mut self, at: &At<'_>, name: &str) -> bool {
        let token = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !token {
            self.fault_at(at, "is not a header's name", "write letters, digits and -");
        } else if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            self.fault_at(at, "is a header that the worker writes itself", "remove it");
        } else {
            return true;
        }
        false
    }

    fn json(&mut self, at: &At<'_>, depth: usize) -> Option<Json> {
        if depth > DEEPEST {
            self.fault_at(at, "is nested too deep", format!("write at most {DEEPEST} levels"));
            return None;
        }
        Some(match at.value {
            DeValue::String(text) if text.is_empty() => Json::Text(Template::default()),
            DeValue::String(_) => Json::Text(self.slots_of(at)?),
            DeValue::Boolean(value) => Json::Value(Value::from(*value)),
            DeValue::Integer(_) => Json::Value(Value::from(self.integer(at)?)),
            DeValue::Float(number) => {
                let number = number.as_str().replace('_', "").parse::<f64>().ok();
                let number = number.filter(|number| number.is_finite());
                if number.is_none() {
                    self.fault_at(at, "is not a number of JSON", "write a finite number");
                }
                Json::Value(Value::from(number?))
            }
            DeValue::Datetime(_) => {
                self.fault_at(at, "is a date, which JSON does not have", "write it as a text, \"…\"");
                return None;
            }
            DeValue::Array(_) => {
                let members = self.list(at);
                Json::List(members.iter().filter_map(|member| self.json(member, depth + 1)).collect())
            }
            DeValue::Table(_) => {
                let mut keys = self.keys(at, &[])?;
                let mut members = Vec::new();
                for (name, value) in keys.all(self) {
                    members.extend(self.json(&value, depth + 1).map(|value| (name.to_owned(), value)));
                }
                Json::Object(members)
            }
        })
    }

    fn integer(&mut self, at: &At<'_>) -> Option<i64> {
        let number = integer(at.value);
        if number.is_none() {
            self.fault_at(at, "is beyond 64 bits", "write it as a text, \"…\"");
        }
        number
    }

    fn slots_of(&mut self, at: &At<'_>) -> Option<Template> {
        let DeValue::String(text) = at.value else { return None };
        self.is_visible(at, text).then_some(())?;
        self.slots(at, text)
    }
}
