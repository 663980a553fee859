//! The files in `deploy/`: they parse, fit the worker, and the alerts fire at the right time.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use erasure_worker::broker::topology::Topology;
use erasure_worker::config::units::parse_duration;
use erasure_worker::config::{Config, Surroundings, example};
use serde_json::Value;

use crate::{files, page, read, root};

/// The documents of a YAML file.
fn yaml(path: &Path) -> Vec<Value> {
    let documents = serde_saphyr::from_multiple(&read(path));
    documents.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All deployed YAML and JSON files.
fn manifests() -> Vec<std::path::PathBuf> {
    let deploy = root().join("deploy");
    let found = ["yml", "yaml", "json"].into_iter().flat_map(|extension| files(&deploy, extension));
    found.chain([root().join("docker-compose.yml")]).collect()
}

fn kubernetes(kind: &str) -> Value {
    let all = yaml(&root().join("deploy/kubernetes/erasure-worker.yaml"));
    all.into_iter().find(|one| one["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

fn compose() -> Value {
    yaml(&root().join("docker-compose.yml")).remove(0)
}

#[test]
fn every_manifest_parses() {
    let all = manifests();
    for path in &all {
        let documents = match path.extension().is_some_and(|extension| extension == "json") {
            true => {
                vec![serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))]
            }
            false => yaml(path),
        };
        assert!(documents.iter().all(Value::is_object), "{}", path.display());
    }
    assert!(all.len() >= 7, "{all:?}");
}

/// The default drain timeout.
fn drain_by_default() -> Duration {
    let text = example::render("127.0.0.1:8470".parse().unwrap());
    let line = text.lines().find_map(|line| line.strip_prefix("drain_timeout = \"")).unwrap();
    parse_duration(line.split('"').next().unwrap()).unwrap()
}

/// The most time of the process beyond its drain.
const ENDING: Duration = Duration::from_secs(5);

#[test]
fn every_deployments_stop_timeout_is_longer_than_the_drain() {
    let drain = drain_by_default() + ENDING;
    let unit = page("deploy/systemd/erasure-worker.service");
    let stop = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
    assert!(Duration::from_secs(stop.parse().unwrap()) > drain, "systemd");

    let grace = compose()["services"]["worker"]["stop_grace_period"].as_str().unwrap().to_owned();
    assert!(parse_duration(&grace).unwrap() > drain, "compose");

    let config: toml::Table = kubernetes("ConfigMap")["data"]["config.toml"].as_str().unwrap().parse().unwrap();
    let drain = parse_duration(config["worker"]["drain_timeout"].as_str().unwrap()).unwrap() + ENDING;
    let grace = kubernetes("StatefulSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64();
    assert!(Duration::from_secs(grace.unwrap()) > drain, "Kubernetes");
}

/// No shipped file starts a second worker, or a worker without its store.
#[test]
fn every_deployment_starts_one_worker_on_a_lasting_store() {
    let all = yaml(&root().join("deploy/kubernetes/erasure-worker.yaml"));
    let kinds: Vec<_> = all.iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "StatefulSet").count(), 1, "{kinds:?}");
    let others = ["Deployment", "ReplicaSet", "DaemonSet", "Job", "CronJob", "Pod", "HorizontalPodAutoscaler"];
    assert!(!kinds.iter().any(|kind| others.contains(kind)), "{kinds:?}: another kind starts a worker");

    let set = kubernetes("StatefulSet")["spec"].clone();
    assert_eq!(set["replicas"], 1);
    // The old pod ends before the new one starts.
    assert_eq!(
        (&set["podManagementPolicy"], &set["updateStrategy"]["type"]),
        (&"OrderedReady".into(), &"RollingUpdate".into())
    );
    assert_eq!(set["persistentVolumeClaimRetentionPolicy"]["whenScaled"], "Retain");
    assert_eq!(set["persistentVolumeClaimRetentionPolicy"]["whenDeleted"], "Retain");
    let claim = &set["volumeClaimTemplates"][0];
    assert_eq!(claim["spec"]["accessModes"], serde_json::json!(["ReadWriteOncePod"]), "two pods could have the volume");
    let pod = &set["template"]["spec"];
    let mount = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let mount = mount.iter().find(|mount| mount["name"] == claim["metadata"]["name"]).expect("the store's volume");
    let config: toml::Table = kubernetes("ConfigMap")["data"]["config.toml"].as_str().unwrap().parse().unwrap();
    let state = config["worker"]["state_dir"].as_str().unwrap();
    assert!(state.starts_with(mount["mountPath"].as_str().unwrap()), "{state} is not on the volume");
    assert_eq!(
        pod["containers"][0]["readinessProbe"]["httpGet"]["path"], "/readyz",
        "an update does not wait for readiness"
    );
    assert_eq!(kubernetes("PodDisruptionBudget")["spec"]["maxUnavailable"], 1, "a node cannot be drained");

    let compose = compose();
    let workers: Vec<_> = compose["services"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, service)| service["command"][0] == "run")
        .map(|(name, service)| (name.as_str(), service))
        .collect();
    let [(name, worker)] = workers[..] else { panic!("{} workers", workers.len()) };
    assert!(worker["deploy"]["replicas"].is_null() && worker["scale"].is_null(), "{name}");
    let config: toml::Table = page("deploy/compose/erasure-worker.toml").parse().unwrap();
    let state = config["worker"]["state_dir"].as_str().unwrap();
    let volumes = worker["volumes"].as_array().unwrap().iter().map(|volume| volume.as_str().unwrap());
    let named = volumes.filter_map(|volume| volume.split_once(':')).find(|(_, path)| state.starts_with(path));
    let (volume, _) = named.expect("the store's volume");
    assert!(compose["volumes"].as_object().unwrap().contains_key(volume), "{volume} is deleted with the container");

    let unit = page("deploy/systemd/erasure-worker.service");
    assert!(unit.contains("\nStateDirectory=erasure-worker\n"), "the state folder does not survive a restart");
    assert!(!unit.contains("DynamicUser=yes") && !unit.contains("@.service"), "more than one instance or folder");
}

#[test]
fn the_configuration_of_the_pods_is_valid_with_their_secrets() {
    let text = kubernetes("ConfigMap")["data"]["config.toml"].as_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("master.key", "0123456789abcdef".repeat(4)),
        ("amqp-url", "amqps://erasure-worker:secret@rabbitmq.example.com:5671/%2f".to_owned()),
        ("ops-token", "token".to_owned()),
        ("vitalsource-api-key", "key".to_owned()),
    ] {
        assert!(text.contains(&format!("/run/secrets/erasure-worker/{name}\"")), "{name} is not used");
        let path = folder.path().join(name);
        std::fs::write(&path, value).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    let text = text.replace("/run/secrets/erasure-worker", folder.path().to_str().unwrap());
    let surroundings = Surroundings {
        variables: [("ERASURE__WORKER__ID".to_owned(), "erasure-worker-0".to_owned())].into(),
        ..Surroundings::default()
    };
    let config = Config::parse(&text, folder.path(), &surroundings).unwrap();
    assert!(!config.ops.listen.ip().is_loopback(), "the probes from outside the pod are refused");
    assert_eq!(config.ops.listen.port(), 8460);
}

#[test]
fn containers_run_unprivileged_and_write_only_to_their_volumes() {
    let pod = kubernetes("StatefulSet")["spec"]["template"]["spec"].clone();
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL");
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().unwrap();
        assert!(["/livez", "/readyz"].contains(&path), "{probe}");
    }
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez", "a broker outage would restart the worker");
    let compose = compose();
    for (name, service) in compose["services"].as_object().unwrap() {
        assert!(service["healthcheck"]["test"].is_array(), "{name} has no health check");
        let ports = service["ports"].as_array().unwrap();
        assert!(ports.iter().all(|port| port.as_str().unwrap().starts_with("127.0.0.1:")), "{name}: beyond loopback");
    }
    assert_eq!(compose["services"]["worker"]["read_only"], true);
    assert!(page("deploy/Dockerfile").contains("\nUSER 10001:10001\n"));
    assert_eq!(pod["securityContext"]["runAsUser"], 10001);
}

#[test]
fn the_brokers_definitions_have_our_names_and_least_privilege_users() {
    let definitions: Value = serde_json::from_str(&page("deploy/rabbitmq/definitions.json")).unwrap();
    let ours = Topology::new("erasure").definitions("/");
    for (part, expected) in ours.as_object().unwrap() {
        assert_eq!(definitions[part], *expected, "{part}: differs from `erasure-worker topology export`");
    }
    let users: BTreeSet<_> =
        definitions["users"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap()).collect();
    assert_eq!(users, BTreeSet::from(["erasure-worker", "erasure-publisher", "erasure-subscriber"]));
    for user in definitions["users"].as_array().unwrap() {
        assert_eq!((&user["password_hash"], user["tags"].as_array().unwrap().len()), (&"".into(), 0));
    }
    let guide = page("deploy/rabbitmq/README.md");
    for one in definitions["permissions"].as_array().unwrap() {
        let writes = one["write"].as_str().unwrap();
        assert!(guide.contains(writes) || one["user"] == "erasure-subscriber", "{writes}");
        assert!(!one["configure"].as_str().unwrap().contains("erasure\\."), "a user may declare our names");
    }
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c)).filter(|word| word.starts_with("erasure_"));
    words.map(str::to_owned).collect()
}

#[test]
fn dashboard_and_alerts_name_existing_metrics_and_runbook_sections() {
    let metrics = page("docs/metrics.md");
    let known: BTreeSet<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name).collect();
    let dashboard: Value = serde_json::from_str(&page("deploy/grafana/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let asked = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()).map(|target| &target["expr"]);
    let mut used: BTreeSet<String> = asked.flat_map(|expr| names(expr.as_str().unwrap())).collect();
    assert!(used.len() > 15, "{used:?}");

    let alerts = yaml(&root().join("deploy/prometheus/alerts.yml")).remove(0);
    let tested = page("deploy/prometheus/alerts.test.yml");
    let headings: BTreeSet<String> = page("docs/runbook.md")
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect())
        .map(|heading: String| heading.replace(' ', "-"))
        .collect();
    for rule in alerts["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        let name = rule["alert"].as_str().unwrap();
        used.extend(names(rule["expr"].as_str().unwrap()));
        let section = rule["annotations"]["runbook"].as_str().and_then(|link| link.strip_prefix("docs/runbook.md#"));
        assert!(section.is_some_and(|section| headings.contains(section)), "{name} leads to no section of the runbook");
        assert!(tested.contains(&format!("alertname: {name}\n")), "{name} is not tested");
    }
    let unknown: Vec<_> = used.iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "not in docs/metrics.md: {unknown:?}");
}

/// Each `degraded` state of `/readyz` is a label of a metric, is documented, and has an alert.
#[test]
fn every_degraded_state_is_documented_and_has_an_alert() {
    let source = page("src/ops/health.rs");
    let list = source.split("const WHATS").nth(1).and_then(|rest| rest.split("];").next()).unwrap();
    let whats: BTreeSet<&str> = list.split('"').skip(1).step_by(2).collect();
    assert!(whats.len() >= 12, "{whats:?}");
    // The places where the program names them.
    let amqp = ["mod", "losses", "names", "size"].map(|name| page(&format!("src/broker/amqp/{name}.rs"))).concat();
    let store = page("crates/store/src/postgres/mod.rs");
    let found = [page("src/ops/health.rs"), amqp, page("src/engine/trouble.rs"), store].concat();
    let said: BTreeSet<&str> = [
        "\"what\": \"",
        "what: \"",
        "AWAY: &str = \"",
        "MAY_FORGET: &str = \"",
        "ImpairmentKind::Held => \"",
        "ImpairmentKind::Failing => \"",
        "ImpairmentKind::Paused => \"",
        "ImpairmentKind::StepFailing => \"",
    ]
    .iter()
    .flat_map(|before| found.split(before).skip(1))
    .filter_map(|rest| rest.split('"').next())
    .collect();
    assert_eq!(said, whats, "the states of /readyz against those of the metric");
    let (metrics, api, alerts) =
        (page("docs/metrics.md"), page("docs/ops-api.md"), page("deploy/prometheus/alerts.yml"));
    let row = metrics.lines().find(|line| line.starts_with("| `erasure_degraded`")).unwrap();
    let line = api.lines().find(|line| line.contains("`degraded` lists")).unwrap();
    for what in &whats {
        assert!(row.contains(&format!("`{what}`")) && line.contains(&format!("`{what}`")), "{what}");
    }
    assert!(alerts.contains("expr: erasure_degraded > 0\n"), "no alert for the other states");
}

fn succeeds(command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(done.status.success(), "{said}");
}

#[test]
fn the_alerts_fire_at_their_documented_times() {
    let folder = root().join("deploy/prometheus");
    succeeds(Command::new("promtool").args(["test", "rules", "alerts.test.yml"]).current_dir(&folder));
    succeeds(
        Command::new("promtool").args(["check", "config", "--syntax-only", "prometheus.yml"]).current_dir(&folder),
    );
}

#[test]
fn systemd_accepts_the_unit() {
    let unit = page("deploy/systemd/erasure-worker.service");
    assert!(unit.contains("\nType=notify\n") && unit.contains("\nWatchdogSec="));
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        return;
    }
    // The program and its user are not installed here.
    let unit = unit.replace("/usr/local/bin/erasure-worker", "/bin/true").replace("User=erasure-worker", "User=root");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("erasure-worker.service");
    std::fs::write(&path, unit).unwrap();
    let analyze = |arguments: &[&str]| succeeds(Command::new("systemd-analyze").args(arguments).arg(&path));
    analyze(&["verify", "--man=no"]);
    // From 0 (no permission) to 100 (every permission).
    analyze(&["security", "--offline=true", "--threshold=25", "--no-pager"]);
}
