//! `receipt verify` and `receipt export`.
//!
//! The rule it keeps: `verify` asks nobody: it reads the files it is given and the public keys, and
//! says 0 only where nothing is wrong.

use std::io::{self, Read as _, Write};
use std::path::Path;

use serde_json::Value;

use super::Exit;
use super::client::{connect, sorry};
use super::ops_args::{ReceiptExport, ReceiptVerify};
use crate::config::Surroundings;
use crate::receipt::opening::Offered;
use crate::receipt::pack::{self, Pack};
use crate::receipt::{Checker, PublicKeys, Report, input};

/// Checks receipts. `ours` gives the public keys of the configuration, where no file was named.
///
/// # Errors
/// Where `out` or `err` can't be written.
pub fn verify(
    args: &ReceiptVerify,
    ours: impl FnOnce() -> anyhow::Result<Value>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let report = match check(args, ours) {
        Ok(report) => report,
        Err(why) => {
            writeln!(err, "{why}")?;
            return Ok(Exit::Usage);
        }
    };
    if args.output.json {
        writeln!(out, "{:#}", serde_json::to_value(&report)?)?;
    } else {
        print(&report, out)?;
    }
    Ok(if report.valid { Exit::Done } else { Exit::Failed })
}

fn check(args: &ReceiptVerify, ours: impl FnOnce() -> anyhow::Result<Value>) -> Result<Report, String> {
    let set = match &args.keys {
        Some(path) => serde_json::from_str(&text(path)?).map_err(|_| format!("{}: is not JSON", path.display()))?,
        None => ours().map_err(|why| format!("without --keys those of the configuration are taken, but {why:#}"))?,
    };
    let keys = PublicKeys::read(&set).map_err(|why| format!("--keys: {why}"))?;
    let mut checker = Checker::new(&keys, args.partial);
    for path in &args.jobs {
        for (number, line) in text(path)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let place = format!("{}:{}", path.display(), number + 1);
            let job = Offered::new(place.clone(), line.as_bytes());
            checker.offer(job.ok_or_else(|| format!("{place}: expected a job, one JSON object a line"))?);
        }
    }
    let mut packs = 0;
    for path in &args.files {
        let place = path.display().to_string();
        if path.is_dir() {
            folder(path)?.check(&place, &mut checker);
            packs += 1;
            continue;
        }
        let text = text(path)?;
        packs += usize::from(text.contains(pack::FORMAT));
        input::read(&place, &text, &mut checker);
    }
    let report = checker.finish();
    if report.receipts == 0 && report.valid && packs == 0 {
        return Err("there is no receipt in the input".to_owned());
    }
    Ok(report)
}

fn text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = match path == Path::new("-") {
        true => io::stdin().read_to_string(&mut text),
        false => std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
    };
    read.map(|_| text).map_err(|error| format!("{}: cannot be read: {error}", path.display()))
}

/// Asks a running worker for the audit pack of a time span.
///
/// # Errors
/// Where `out`, `err` or the folder can't be written. A folder that exists is [`Exit::Usage`].
pub async fn export(
    args: &ReceiptExport,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let ask = async {
        let time = |time: &Option<jiff::Timestamp>| time.map(|time| time.to_string());
        let span = [("from", time(&args.from)), ("to", time(&args.to))];
        connect(&args.ops, surroundings)?.get(&["v1", "receipts"], &span).await
    };
    let answer = match ask.await {
        Ok(answer) => answer,
        Err(error) => return sorry(&error, err),
    };
    let Some(dir) = &args.out else {
        writeln!(out, "{answer}")?;
        return Ok(Exit::Done);
    };
    let Some(pack) = Pack::from_json(&answer) else {
        writeln!(err, "the worker's answer is no audit pack that this release knows")?;
        return Ok(Exit::Failed);
    };
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            writeln!(err, "{} exists and is not overwritten; name a new folder", dir.display())?;
            return Ok(Exit::Usage);
        }
        made => made?,
    }
    // Only the files that a pack has: a name is never a path of the worker's choosing.
    for name in pack::FILES {
        std::fs::write(dir.join(name), pack.0.get(name).map_or("", String::as_str))?;
    }
    writeln!(out, "{}", dir.display())?;
    Ok(Exit::Done)
}

/// A pack that lies in a folder.
fn folder(path: &Path) -> Result<Pack, String> {
    pack::FILES
        .into_iter()
        .map(|name| Ok((name.to_owned(), text(&path.join(name))?)))
        .collect::<Result<_, _>>()
        .map(Pack)
}

fn print(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for chain in &report.chains {
        write!(
            out,
            "chain {} of worker {}: {} receipts, {} to {}",
            chain.chain, chain.worker, chain.receipts, chain.first, chain.last
        )?;
        if let Some(through) = chain.removed_through {
            write!(out, "; links up to {through} were removed by retention")?;
        }
        if let Some(started) = &chain.started {
            write!(out, "; began with a {}", started.replace('_', " "))?;
        }
        writeln!(out)?;
    }
    for fault in &report.faults {
        let place = fault.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        writeln!(out, "{}: {place}{}", fault.kind.as_str().replace('_', " "), fault.detail)?;
    }
    if report.opened > 0 {
        writeln!(out, "{} commitments opened", report.opened)?;
    }
    if !report.valid && report.faults.iter().all(|fault| fault.kind == crate::receipt::FaultKind::Missing) {
        writeln!(out, "all that was given holds; with --partial absent receipts are no fault")?;
    }
    let verdict = if report.valid { "valid" } else { "NOT valid" };
    writeln!(out, "{verdict}: {} receipts, {} faults", report.receipts, report.faults.len())
}
