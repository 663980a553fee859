//! The calls reach the vendor and nobody else, and their addresses carry nothing that logs would keep.

use super::Trial;
use super::slots::call_templates;
use crate::model::{Call, Part, SettingForm, Source, Template};
use crate::pattern;

/// What a part of a host must not contain, because it would end the host or begin another one.
const ENDS_A_HOST: &str = "./@:?#\\%[] \t\r\n";
/// Second levels under which anybody can register a name.
const SHARED: [&str; 10] = ["ac", "co", "com", "edu", "go", "gov", "ne", "net", "or", "org"];
/// The values that a list of hosts may be combined from.
const MOST_HOSTS: usize = 4096;

impl Trial<'_> {
    /// `https://`, and a host that settings cannot lead elsewhere.
    pub(super) fn hosts(&mut self) {
        let parts = &self.file.http.base.0;
        let Some(Part::Text(first)) = parts.first() else {
            return self.base("begins with a slot: a setting could name any host");
        };
        let Some(rest) = first.strip_prefix("https://") else {
            return self.base("is not https://, so that everybody on the way could read and change it");
        };
        // The host's parts, and the rest of the address.
        let mut host = Vec::new();
        let mut path: Option<String> = None;
        for part in std::iter::once(&Part::Text(rest.to_owned())).chain(&parts[1..]) {
            match (part, &mut path) {
                (Part::Text(text), None) => match text.split_once('/') {
                    None => host.push(part.clone()),
                    Some((end, after)) => {
                        host.push(Part::Text(end.to_owned()));
                        path = Some(after.to_owned());
                    }
                },
                (Part::Slot(_), None) => host.push(part.clone()),
                (Part::Text(text), Some(path)) => path.push_str(text),
                (Part::Slot(_), Some(path)) => path.push('x'),
            }
        }
        host.retain(|part| *part != Part::Text(String::new()));
        if path.is_some_and(|path| path.contains(['?', '#', ' ', '\\']) || path.split('/').any(|part| part == "..")) {
            self.base("has a query, a fragment or .. after its host");
        }
        let fixed = |part: &Part| matches!(part, Part::Text(text) if !text.chars().all(is_host_char));
        if host.iter().any(fixed) {
            return self.base("has a host with a port, a user or characters that no name has");
        }
        self.host(&host);
    }

    fn base(&mut self, problem: &str) {
        self.refuse(
            "http.base",
            problem,
            "write https:// and a host name: \"https://${setting.name}.example.com/api\"",
        );
    }

    fn host(&mut self, host: &[Part]) {
        let file = self.file;
        let mut hosts = vec![String::new()];
        for (index, part) in host.iter().enumerate() {
            let values: Vec<String> = match part {
                Part::Text(text) => vec![text.clone()],
                // Another source is refused as a slot that is not there.
                Part::Slot(slot) if slot.source != Source::Setting => return,
                Part::Slot(slot) => match file.settings.get(&slot.name) {
                    None => return,
                    Some(SettingForm::OneOf(values)) => values.clone(),
                    Some(SettingForm::Pattern(pattern)) => {
                        if !self.may_stand_in_host(&slot.name, pattern, &host[index + 1..]) {
                            return;
                        }
                        vec!["x".to_owned()]
                    }
                },
            };
            if hosts.len() * values.len() > MOST_HOSTS {
                return self.base("has more hosts than can be checked");
            }
            hosts = hosts.iter().flat_map(|host| values.iter().map(move |value| format!("{host}{value}"))).collect();
        }
        if let Some(bad) = hosts.iter().find(|host| !is_host(host)) {
            let bad: String = bad.chars().take(80).collect();
            self.refuse(
                "http.base",
                format!("gives the host {bad:?}, which is no full host name of the vendor"),
                "write a name such as api.example.com; addresses of numbers and local names are refused",
            );
        }
    }

    /// A pattern can stand in a host only as a part of one label, before a fixed end of two labels.
    fn may_stand_in_host(&mut self, name: &str, pattern: &str, after: &[Part]) -> bool {
        let place = format!("settings.{name}");
        if !pattern::never_contains(pattern, ENDS_A_HOST) {
            self.refuse(
                &place,
                "stands in the host, and its pattern may contain one of . / @ : ? #, so that it could name any host",
                "write a list of the hosts, or a pattern of letters, digits and -: \"[a-z0-9][a-z0-9-]{0,62}\"",
            );
            return false;
        }
        let end = match after.last() {
            Some(Part::Text(end)) => end.as_str(),
            _ => "",
        };
        let labels: Vec<&str> = end.split('.').skip(1).collect();
        let shared = labels.len() == 2
            && labels.first().is_some_and(|label| SHARED.contains(label))
            && labels.last().is_some_and(|label| label.len() == 2);
        if labels.len() < 2 || shared || labels.iter().any(|label| label.is_empty()) {
            self.refuse(
                "http.base",
                format!("ends without a fixed name after ${{setting.{name}}}, so that a setting could name any host"),
                "write the vendor's own name after it, of two labels at least: .example.com",
            );
            return false;
        }
        true
    }

    /// Secrets and identifiers in addresses need a reason: proxies and vendors log addresses. Proofs never stand there.
    pub(super) fn addresses(&mut self) {
        let file = self.file;
        self.address_of("probe", &file.probe.call);
        for read in &file.reads {
            if let Some(call) = &read.call {
                self.address_of(&format!("read.{}", read.name), call);
            }
        }
        for act in &file.acts {
            self.address_of(&format!("act.{}", act.name), &act.call);
        }
    }

    fn address_of(&mut self, place: &str, call: &Call) {
        let http = &self.file.http;
        let place = format!("{place}.{}", call.method.word());
        let has = |template: &Template, source: Source| template.slots().any(|slot| slot.source == source);
        let in_query = |source| call.query.iter().any(|(_, value)| has(value, source));
        if (in_query(Source::Secret) || has(&call.path, Source::Secret)) && http.secrets_in_address.is_none() {
            self.refuse(
                &place,
                "has a secret in its address, which proxies and the vendor write to their logs",
                "send it in a header, or write secrets_in_address = \"why the vendor leaves no choice\" in http",
            );
        }
        if in_query(Source::Id) && http.identifiers_in_address.is_none() {
            self.refuse(
                &place,
                "has an identifier of the person in its query, which proxies and the vendor write to their logs",
                "send it in the body, or write identifiers_in_address = \"why the vendor leaves no choice\" in http",
            );
        }
        let key = call.method.word();
        if call_templates(call).iter().any(|(at, template)| *at == key && has(template, Source::Proof)) {
            self.refuse(&place, "has a person's proof in its address", "send it in a header or in the body");
        }
    }
}

fn is_host_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.'
}

/// A name of at least two labels, the last of letters.
fn is_host(host: &str) -> bool {
    let labels: Vec<&str> = host.split('.').collect();
    host.len() <= 253
        && host.chars().all(is_host_char)
        && labels.len() >= 2
        && labels
            .iter()
            .all(|label| !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-'))
        && labels.last().is_some_and(|top| top.chars().all(|c| c.is_ascii_lowercase()) && top.len() >= 2)
        && !["localhost", "local", "internal", "localdomain"].contains(labels.last().unwrap_or(&""))
}
