//! A worker's whole output, place by place.

use std::collections::BTreeMap;
use std::path::Path;

use testkit::rig::Rig;

use crate::search::Search;

/// Output bytes by place.
#[derive(Default)]
pub struct Kept {
    places: BTreeMap<String, Vec<Vec<u8>>>,
}

impl Kept {
    /// Adds bytes of a place.
    pub fn add(&mut self, place: &str, bytes: impl Into<Vec<u8>>) {
        self.places.entry(place.to_owned()).or_default().push(bytes.into());
    }

    /// Adds every file below a folder, with its name.
    pub fn add_folder(&mut self, place: &str, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            if path.is_dir() {
                self.add_folder(place, &path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                self.add(place, [path.to_string_lossy().into_owned().into_bytes(), bytes].concat());
            }
        }
    }

    /// Takes all messages out of a queue: bodies, headers and properties.
    pub async fn add_queue(&mut self, place: &str, rig: &Rig, queue: &str) -> usize {
        let taken = if queue == "jobs" { rig.take_jobs().await } else { rig.take_all(queue).await };
        let count = taken.len();
        for delivery in taken {
            self.add(place, format!("{:?} {}", delivery.properties, delivery.routing_key).into_bytes());
            self.add(place, delivery.data);
        }
        count
    }

    /// The number of bytes of a place.
    pub fn size(&self, place: &str) -> usize {
        self.places.get(place).into_iter().flatten().map(Vec::len).sum()
    }

    /// Searches all places; prints their sizes, and returns the hits.
    pub fn search(&self, search: &Search) -> Vec<String> {
        let mut found = Vec::new();
        eprintln!("{:<34} {:>8} {:>12} {:>6}", "place", "items", "bytes", "hits");
        for (place, items) in &self.places {
            let mut hits = 0;
            for item in items {
                for (what, times) in search.find(item) {
                    hits += times;
                    found.push(format!("{place}: {what} ({times})"));
                }
            }
            eprintln!("{place:<34} {:>8} {:>12} {hits:>6}", items.len(), self.size(place));
        }
        found.sort();
        found.dedup();
        found
    }
}
