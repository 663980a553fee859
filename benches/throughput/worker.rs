//! The worker, built from a configuration as `erasure-worker run` does.
//!
//! The rule it keeps: nothing is switched off: disk syncs, seals, confirms and logs are as shipped.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use erasure_worker::app::{self, Worker};
use erasure_worker::broker::Broker;
use erasure_worker::config::{Config, Surroundings};
use tokio_util::sync::CancellationToken;

use crate::Task;
use crate::load::Work;
use crate::meter::Meter;

/// A configuration for the stand-in: rate limits only for [`Work::Limited`], everything else at its default.
pub fn config(url: &str, prefix: &str, prefetch: u16, systems: &str, dir: &Path, work: Work) -> Config {
    let more: Vec<(String, u32)> = match work {
        Work::Mixed | Work::Codes(_) => Vec::new(),
        Work::Systems(count) => (0..count).map(|number| (format!("s{number}"), 600_000)).collect(),
        Work::Limited => vec![("limited".to_owned(), 50)],
        Work::Shop | Work::ShopByFile => Vec::new(),
    };
    let more: Vec<String> = more.iter().map(|(name, limit)| users(name, *limit, prefetch, systems)).collect();
    let text = format!(
        r#"
[worker]
environment = "sandbox"
id = "bench"
concurrency = {prefetch}
state_dir = "state"
master_key = "{}"
[amqp]
url = "{url}"
prefix = "{prefix}"
[ops]
listen = "127.0.0.1:0"
{}
[systems.cleeng]
kind = "cleeng"
core_url = "http://{systems}/core"
rpc_url = "http://{systems}/rpc"
mediastore_url = "http://{systems}/mediastore"
publisher_token = "TOKEN"
max_in_flight = {prefetch}
{}
"#,
        "0123456789abcdef".repeat(4),
        users("vitalsource", 600_000, prefetch, systems),
        more.concat() + &shop(prefetch, systems, dir, work),
    );
    Config::parse(&text, dir, &Surroundings::default()).unwrap()
}

/// The shop, by the built-in client or by the connector file without its limit.
fn shop(prefetch: u16, systems: &str, dir: &Path, work: Work) -> String {
    let common = format!("base_url = \"http://{systems}\"\nmax_in_flight = {prefetch}\n");
    let given = "authorization = \"a\"\nusername = \"u\"\npassword = \"p\"\naccount = \"1\"\n";
    match work {
        Work::Shop => format!("[systems.shop]\nkind = \"easycms\"\n{common}{given}"),
        Work::ShopByFile => {
            let file = include_str!("../../connectors/easycms.toml").replace("default = 60", "default = 600000");
            std::fs::write(dir.join("easycms.toml"), file).unwrap();
            format!(
                "[systems.shop]\nkind = \"connector\"\nfile = \"easycms.toml\"\n{common}[systems.shop.settings]\n\
                 host = \"easycms.fi\"\n{given}"
            )
        }
        _ => String::new(),
    }
}

fn users(name: &str, limit: u32, prefetch: u16, systems: &str) -> String {
    format!(
        r#"
[systems.{name}]
kind = "vitalsource"
base_url = "http://{systems}/vs"
api_key = "KEY"
requests_per_minute = {limit}
max_in_flight = {prefetch}
check_licenses = false
replacement_email_domain = "example.com"
"#
    )
}

/// Runs the jobs and returns their costs.
pub async fn run(task: &Task, dir: &Path, work: Work) -> Meter {
    let config = config(&task.url, &task.prefix, task.prefetch, &task.systems, dir, work);
    let store = app::store(&config).await.unwrap();
    let broker = app::broker(&config, true).await.unwrap();
    let worker = Worker::with_store(&config, Arc::clone(&broker) as Arc<dyn Broker>, store).unwrap();
    let engine = Arc::clone(&worker.engine);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let working = tokio::spawn(async move { worker.run_with_ops(&config, stopped).await });
    let ended = || engine.figures().events.load(Ordering::Relaxed);
    let meter = Meter::watch(task.jobs, task.others, ended, || engine.store().stats()).await;
    // A copy of the open files is equal to the files after a kill.
    crate::copy(&dir.join("state/store"), &dir.join("killed/store"));
    stop.cancel();
    working.await.unwrap().unwrap();
    broker.close().await;
    meter
}
