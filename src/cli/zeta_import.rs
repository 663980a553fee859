//! `zeta-import export`, `zeta-import settle`: the Loyalty platform's deletion file and its result.
//!
//! The rule it keeps: the file's content, which names people, is never printed.

use std::io::{self, Write};

use serde_json::Value;

use super::Exit;
use super::args::ZetaImportCommand;
use super::client::{connect, field, list, tell};
use crate::config::Surroundings;
use crate::ops::client::{Body, ClientError, OpsApi};

/// Carries out a `zeta-import` command.
///
/// # Errors
/// Where `out` or `err` can't be written.
pub async fn zeta_import(
    command: &ZetaImportCommand,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    match command {
        ZetaImportCommand::Export(args) => {
            let ask = async {
                let api = connect(&args.ops, surroundings)?;
                let system = system(&api, args.system.as_deref()).await?;
                api.post(&["v1", "zeta-import", &system, "export"], Body::Empty).await
            };
            tell(ask.await, args.output, out, err, |answer, out, _| {
                let of = |name| field(answer, name);
                writeln!(out, "{}", of("path"))?;
                writeln!(out, "file {}, {} member(s): upload it, then settle its result", of("batch"), of("rows"))
            })
        }
        ZetaImportCommand::Settle(args) => {
            let ask = async {
                let csv = std::fs::read(&args.result).map_err(|error| {
                    ClientError::Setting(format!("{}: cannot be read: {}", args.result.display(), error.kind()))
                })?;
                let api = connect(&args.ops, surroundings)?;
                let system = system(&api, args.system.as_deref()).await?;
                api.post(&["v1", "zeta-import", &system, "settle"], Body::Csv(csv)).await
            };
            tell(ask.await, args.output, out, err, |answer, out, _| {
                let of = |name| field(answer, name);
                writeln!(out, "file {}: {} deleted, {} skipped", of("batch"), of("deleted"), of("skipped"))?;
                writeln!(out, "{} missing ({} with an unknown status)", of("missing"), of("doubtful"))?;
                writeln!(out, "{} rows of the result are none of ours", of("unknown"))
            })
        }
    }
}

/// The system that is named, else the only one that works by import.
async fn system(api: &OpsApi, named: Option<&str>) -> Result<String, ClientError> {
    if let Some(name) = named {
        return Ok(name.to_owned());
    }
    let answer = api.get(&["v1", "systems"], &[]).await?;
    let by_import = |system: &&Value| system.get("import").and_then(Value::as_bool) == Some(true);
    let names: Vec<String> =
        list(&answer, "systems").iter().filter(by_import).map(|system| field(system, "name")).collect();
    match names.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(ClientError::Setting("the worker has no Loyalty system that works by import".to_owned())),
        several => {
            let names = several.join(", ");
            Err(ClientError::Setting(format!("several systems work by import; name one with --system: {names}")))
        }
    }
}
