//! Power cuts: unsynced writes are lost, kept, or kept in part and out of order.
//!
//! A run is recorded call by call (strace). After each of its writes, the state directory is rebuilt as a disk may have
//! it at that moment: the writes before a completed `fdatasync`, and random sectors of the later writes. Without the
//! sync this test fails.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use erasure_worker::store::{Options, SledStore, Store, Table};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::{job, put};

const CHILD: &str = "STORE_TEST_POWER_DIR";
const NAME: &str = "power::after_a_power_cut_at_any_write_the_store_opens_with_every_acknowledged_batch";
const WRITERS: u64 = 4;
const BATCHES: u64 = 20;
const ARCHIVE_AFTER: usize = 4;
const SECTOR: usize = 512;

/// Writes from several tasks, and prints each acknowledged number.
async fn write(dir: &Path) {
    let options = Options { archive_after: ARCHIVE_AFTER, ..Options::default() };
    let store = Arc::new(SledStore::open(dir, options).unwrap().store);
    print_line("ready");
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for n in 1..=BATCHES {
                let mut batch = put(&writer.to_be_bytes(), &n.to_be_bytes());
                let length = if n % 8 == 0 { 20_000 } else { 200 };
                batch.put(Table::Journal, entry(writer, n), vec![n as u8; length]);
                // These rows are archived, again and again.
                batch.put(Table::Ended, writer.to_be_bytes(), n.to_be_bytes());
                batch.put(Table::Receipt, entry(n, writer), vec![n as u8; length]);
                store.submit(batch).await.unwrap();
                print_line(&format!("acknowledged {writer} {n}"));
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    print_line("over");
}

fn print_line(what: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{what}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn entry(writer: u64, n: u64) -> Vec<u8> {
    [writer.to_be_bytes(), n.to_be_bytes()].concat()
}

/// A system call with an effect on the files, or a printed line.
enum Event {
    Write {
        path: PathBuf,
        at: usize,
        bytes: Vec<u8>,
    },
    /// A write at the end.
    Append {
        path: PathBuf,
        bytes: Vec<u8>,
    },
    Length {
        path: PathBuf,
        length: usize,
    },
    Renamed {
        from: PathBuf,
        to: PathBuf,
    },
    Removed {
        path: PathBuf,
    },
    /// A sync began. Earlier writes are durable when it ends.
    SyncBegan {
        path: PathBuf,
        call: u64,
    },
    SyncDone {
        call: u64,
    },
    Printed(String),
}

/// The events of a trace. A call that another thread's output splits in two lines is joined.
fn events(trace: &str) -> Vec<Event> {
    let mut open_calls: BTreeMap<String, (String, u64)> = BTreeMap::new();
    let mut events = Vec::new();
    let mut calls = 0;
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            calls += 1;
            began(begun, calls, &mut events);
            open_calls.insert(thread.to_owned(), (begun.to_owned(), calls));
        } else if rest.starts_with("<... ") {
            let Some((begun, call)) = open_calls.remove(thread) else { continue };
            let result = rest.rsplit_once(" = ").map_or("", |(_, result)| result);
            ended(&begun, result, call, &mut events);
        } else if let Some((call, result)) = rest.rsplit_once(" = ") {
            calls += 1;
            began(call, calls, &mut events);
            ended(call, result, calls, &mut events);
        }
    }
    events
}

/// The events of calls that may have an effect from their begin.
fn began(call: &str, number: u64, events: &mut Vec<Event>) {
    let Some((name, arguments)) = call.split_once('(') else { return };
    match name {
        "pwrite64" => {
            let numbers: Vec<usize> = after_text(arguments).split(',').filter_map(number_of).collect();
            if let [_, at, ..] = numbers[..] {
                events.push(Event::Write { path: path_of(arguments), at, bytes: text_of(arguments) });
            }
        }
        "write" if arguments.starts_with("1<") => {
            let text = String::from_utf8(text_of(arguments)).unwrap();
            events.extend(text.lines().filter(|line| !line.is_empty()).map(|line| Event::Printed(line.to_owned())));
        }
        "write" => events.push(Event::Append { path: path_of(arguments), bytes: text_of(arguments) }),
        "ftruncate" => {
            let length = arguments.rsplit(',').next().and_then(number_of).unwrap();
            events.push(Event::Length { path: path_of(arguments), length });
        }
        "fdatasync" | "fsync" => events.push(Event::SyncBegan { path: path_of(arguments), call: number }),
        _ => {}
    }
}

/// The events of calls that have an effect after their success.
fn ended(call: &str, result: &str, number: u64, events: &mut Vec<Event>) {
    let Some((name, arguments)) = call.split_once('(') else { return };
    if result.starts_with('-') {
        return;
    }
    let paths = || quoted(arguments).into_iter().map(|bytes| PathBuf::from(String::from_utf8(bytes).unwrap()));
    match name {
        "fdatasync" | "fsync" => events.push(Event::SyncDone { call: number }),
        "rename" => {
            let paths: Vec<_> = paths().collect();
            events.push(Event::Renamed { from: paths[0].clone(), to: paths[1].clone() });
        }
        "unlink" => events.push(Event::Removed { path: paths().next().unwrap() }),
        "openat" if arguments.contains("O_CREAT") => {
            events.push(Event::Append { path: paths().next().unwrap(), bytes: Vec::new() });
        }
        _ => {}
    }
}

fn number_of(text: &str) -> Option<usize> {
    text.trim().trim_end_matches(')').parse().ok()
}

/// The path that strace shows beside a descriptor.
fn path_of(arguments: &str) -> PathBuf {
    let path = arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(path, _)| path);
    PathBuf::from(String::from_utf8(bytes_of(path)).unwrap())
}

fn after_text(arguments: &str) -> &str {
    arguments.rsplit_once('"').map_or("", |(_, rest)| rest)
}

fn text_of(arguments: &str) -> Vec<u8> {
    quoted(arguments).into_iter().next().unwrap_or_default()
}

/// The strings of a call.
fn quoted(arguments: &str) -> Vec<Vec<u8>> {
    arguments.split('"').skip(1).step_by(2).map(bytes_of).collect()
}

/// The bytes that strace prints in hexadecimal.
fn bytes_of(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn place(files: &mut Files, path: &Path, at: usize, bytes: &[u8]) {
    let file = files.entry(path.to_owned()).or_default();
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The disk: durable content, and later writes.
#[derive(Default)]
struct Disk {
    durable: Files,
    pending: BTreeMap<PathBuf, Vec<(usize, Vec<u8>)>>,
    /// The running syncs: the file, and the number of pending writes that the sync covers.
    syncing: BTreeMap<u64, (PathBuf, usize)>,
}

impl Disk {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Write { path, at, bytes } => {
                self.pending.entry(path.clone()).or_default().push((*at, bytes.clone()));
            }
            // Small files that are written once, before there is a store.
            Event::Append { path, bytes } => {
                let end = self.durable.get(path).map_or(0, Vec::len);
                place(&mut self.durable, path, end, bytes);
            }
            Event::Length { path, length } => {
                self.durable.entry(path.clone()).or_default().resize(*length, 0);
            }
            Event::Renamed { from, to } => {
                let file = self.durable.remove(from).unwrap_or_default();
                self.durable.insert(to.clone(), file);
            }
            Event::Removed { path } => {
                self.durable.remove(path);
            }
            Event::SyncBegan { path, call } => {
                let covers = self.pending.get(path).map_or(0, Vec::len);
                self.syncing.insert(*call, (path.clone(), covers));
            }
            Event::SyncDone { call } => {
                let Some((path, covered)) = self.syncing.remove(call) else { return };
                let pending = self.pending.entry(path.clone()).or_default();
                for (at, bytes) in pending.drain(..covered.min(pending.len())) {
                    place(&mut self.durable, &path, at, &bytes);
                }
                for (_, others) in self.syncing.values_mut().filter(|(other, _)| *other == path) {
                    *others = others.saturating_sub(covered);
                }
            }
            Event::Printed(_) => {}
        }
    }

    /// The files after a power cut: with none, all or a part of the pending writes.
    fn found(&self, pattern: usize, random: &mut StdRng) -> Files {
        let mut files = self.durable.clone();
        for (path, pending) in &self.pending {
            for (at, bytes) in pending {
                for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                    let kept = match pattern {
                        0 => false,
                        1 => true,
                        _ => random.random_bool(0.5),
                    };
                    if kept {
                        place(&mut files, path, at + number * SECTOR, sector);
                    }
                }
            }
        }
        files
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_power_cut_at_any_write_the_store_opens_with_every_acknowledged_batch() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return write(Path::new(&dir)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let (state, trace) = (folder.path().join("state"), folder.path().join("trace"));
    let recorded = Command::new("strace")
        .args(["-f", "-y", "-xx", "-s", "4194304", "-o"])
        .arg(&trace)
        .args(["-e", "trace=openat,write,pwrite64,ftruncate,rename,unlink,fsync,fdatasync"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(CHILD, &state)
        .stdout(Stdio::null())
        .status()
        .expect("strace");
    assert!(recorded.success());
    let text = std::fs::read_to_string(&trace).unwrap();

    let mut disk = Disk::default();
    let mut acknowledged = BTreeMap::new();
    let mut random = StdRng::seed_from_u64(7);
    let (mut running, mut cases, mut syncs, mut moved_aside) = (false, 0, 0, 0);
    for event in events(&text) {
        disk.apply(&event);
        match &event {
            Event::Printed(what) if what == "ready" => running = true,
            Event::Printed(what) if what == "over" => running = false,
            Event::Printed(what) => {
                if let ["acknowledged", writer, n] = what.split(' ').collect::<Vec<_>>()[..] {
                    acknowledged.insert(writer.parse::<u64>().unwrap(), n.parse::<u64>().unwrap());
                }
            }
            Event::SyncDone { .. } => syncs += u32::from(running),
            Event::Write { .. } => {}
            _ => continue,
        }
        if !running {
            continue;
        }
        for pattern in 0..3 {
            let found = disk.found(pattern, &mut random);
            moved_aside += u32::from(!is_whole(&found, &state, &acknowledged));
            cases += 1;
        }
    }
    println!("{cases} power cuts, {syncs} syncs, {moved_aside} stores that could not be opened");
    assert!(
        disk.durable.get(&state.join("store/archive")).is_some_and(|file| file.len() > 20_000),
        "nothing was archived"
    );
    assert_eq!(acknowledged, (0..WRITERS).map(|writer| (writer, BATCHES)).collect());
    assert!(cases > 300, "{cases}");
    assert_eq!(moved_aside, 0);
}

/// Opens the files: every acknowledged batch is there, and every batch is whole or absent. `false` if the store was
/// moved aside.
fn is_whole(found: &Files, state: &Path, acknowledged: &BTreeMap<u64, u64>) -> bool {
    // In memory if possible: opening need not wait for a disk.
    let memory = Path::new("/dev/shm");
    let copy = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    for (path, bytes) in found {
        let Ok(place) = path.strip_prefix(state) else { continue };
        let place = copy.path().join("state").join(place);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(place, bytes).unwrap();
    }
    let opened = SledStore::open(&copy.path().join("state"), Options::default()).unwrap();
    if opened.moved_aside.is_some() {
        return false;
    }
    for writer in 0..WRITERS {
        let last = job(&opened.store, &writer.to_be_bytes());
        let last = last.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
        let promised = acknowledged.get(&writer).copied().unwrap_or(0);
        assert!(last >= promised, "writer {writer}: {promised} was acknowledged, but the last is {last}");
        let entries = opened.store.scan(Table::Journal, &writer.to_be_bytes(), None, 1000).unwrap();
        let numbers: Vec<_> = entries.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(numbers, (1..=last).map(|n| entry(writer, n)).collect::<Vec<_>>());
        for (key, value) in entries {
            let n = u64::from_be_bytes(key[8..].try_into().unwrap());
            assert!(value.iter().all(|byte| *byte == n as u8));
            assert_eq!(value.len(), if n % 8 == 0 { 20_000 } else { 200 });
        }
        let ended = opened.store.get(Table::Ended, &writer.to_be_bytes()).unwrap();
        assert_eq!(ended.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap())), last);
        let receipts = opened.store.scan(Table::Receipt, b"", None, 1000).unwrap();
        let own = receipts.iter().filter(|(key, _)| key.ends_with(&writer.to_be_bytes()));
        assert!(own.map(|(key, _)| key.clone()).eq((1..=last).map(|n| entry(n, writer))));
    }
    true
}
