//! Bounds: steps, limits, sources.

use std::collections::BTreeSet;

use super::Trial;

/// The most calls of a file: its reads and its acts.
const MOST_STEPS: usize = 16;

impl Trial<'_> {
    /// At most sixteen steps; each endpoint has a limit, each limit an endpoint; the vendor's pages are named.
    pub(super) fn bounds(&mut self) {
        let file = self.file;
        let reads = file.reads.iter().filter(|read| read.call.is_some()).count();
        if reads + file.acts.len() > MOST_STEPS {
            self.refuse(
                "act",
                format!("has {} steps with the reads, more than {MOST_STEPS}", reads + file.acts.len()),
                "write two files for two systems, or one act with each = \"fact.NAME\"",
            );
        }
        let calls = file.reads.iter().filter_map(|read| Some((format!("read.{}", read.name), read.call.as_ref()?)));
        let acts = file.acts.iter().map(|act| (format!("act.{}", act.name), &act.call));
        let all: Vec<_> = calls.chain(acts).chain([("probe".to_owned(), &file.probe.call)]).collect();
        let mut used = BTreeSet::from(["default"]);
        for (place, call) in all {
            used.insert(&call.endpoint);
            if call.endpoint != "default" && !file.limits.contains_key(&call.endpoint) {
                self.refuse(
                    &format!("{place}.endpoint"),
                    format!("names {}, which has no limit", call.endpoint),
                    format!("write {} in `limits`, or remove endpoint", call.endpoint),
                );
            }
        }
        for name in file.limits.keys().filter(|name| !used.contains(name.as_str())) {
            self.refuse(
                &format!("limits.{name}"),
                "limits no call: no endpoint has this name",
                format!(
                    "write endpoint = \"{name}\" in the calls that count against it, or the limit's name as default"
                ),
            );
        }
        if file.sources.is_empty() {
            self.refuse(
                "sources",
                "names no page of the vendor: nobody can check what the file says",
                "write sources = [\"https://…\"] with the pages that document calls and replies",
            );
        }
        for (index, source) in file.sources.iter().enumerate() {
            if !source.starts_with("https://") {
                self.refuse(&format!("sources[{index}]"), "is not a page", "write an address with https://");
            }
        }
    }
}
