//! The documentation's examples, run unchanged: the worker accepts their signatures and sealed proofs.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::bench::{Bench, id, sent, shop_job};
use crate::signing::SECRET;

const PAGE: &str = include_str!("../../docs/tenants.md");

/// Writes the page's example of this name into the folder.
fn example(folder: &Path, name: &str) {
    let from = PAGE.split("\n```").find_map(|block| {
        let (first, rest) = block.split_once('\n')?;
        first.ends_with(&format!(" {name}")).then_some(rest)
    });
    std::fs::write(folder.join(name), from.unwrap_or_else(|| panic!("no example {name}"))).unwrap();
}

/// Runs a program in the folder. Returns its output without the line's end.
fn run(folder: &Path, program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), "openssl", &["genpkey", "-algorithm", "ed25519", "-out", "acme.key"], &[]);
    run(folder.path(), "openssl", &["pkey", "-in", "acme.key", "-pubout", "-out", "acme.pem"], &[]);
    for name in ["sign.sh", "sign.py", "sign.js", "seal.py", "seal.js"] {
        example(folder.path(), name);
    }
    folder
}

/// A worker with this machine's clock: the examples sign with the current time.
async fn bench(folder: &Path) -> Bench {
    let public = folder.join("acme.pem");
    let bench = Bench::with(&format!(
        r#"
[tenants.acme]
require_signature = true
plain_proofs = false
[tenants.acme.signature_keys.k1]
kind = "ed25519"
public_file = "{}"
[tenants.acme.signature_keys.k2]
kind = "hmac-sha256"
secret = "{SECRET}"
"#,
        public.display(),
    ))
    .await;
    bench.set_to_now();
    std::fs::write(folder.join("jwks.json"), bench.keyring.all_public_keys().to_string()).unwrap();
    bench
}

/// A job with a password sealed by one example and a signature by another. Both must be valid.
async fn erased(bench: &Bench, folder: &Path, number: u64, seal: (&str, &str), sign: (&str, &[&str], &[(&str, &str)])) {
    let person = bench.person(number);
    let mut job = shop_job("acme", &person);
    let variables = [("JOB_ID", id(&job)), ("PROOF", person.customer_password.as_str())];
    let sealed = run(folder, seal.0, &[seal.1], &variables);
    job["targets"][0]["customer_password"] = sealed.into();
    std::fs::write(folder.join("job.json"), job.to_string()).unwrap();
    let (program, arguments, variables) = sign;
    let signature = run(folder, program, arguments, variables);
    bench.post.deliver(sent(Some(&signature), None), job.to_string(), false);
    bench.post.event(id(&job), "completed").await;
    assert!(!bench.is_in_shop(&person));
    // The signature covers the bytes: one changed byte of the body makes it invalid.
    let changed = job.to_string().replacen("2026-11-20", "2026-11-21", 1);
    bench.post.deliver(sent(Some(&signature), None), changed, false);
    bench.post.event(id(&job), "rejected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_and_sealed_proofs_of_the_examples_are_accepted() {
    let folder = folder();
    let folder = folder.path();
    let bench = bench(folder).await;
    let key = [("KEY", "acme.key"), ("KID", "k1"), ("SECRET", "")];
    let secret = [("SECRET", SECRET), ("KID", "k2")];
    let python3 = testkit::python::python().to_str().unwrap();
    let (python, node) = ((python3, "seal.py"), ("node", "seal.js"));
    erased(&bench, folder, 1, python, ("sh", &["sign.sh"], &secret)).await;
    erased(&bench, folder, 2, python, ("sh", &["sign.sh"], &key)).await;
    erased(&bench, folder, 3, node, (python3, &["sign.py"], &key)).await;
    erased(&bench, folder, 4, node, ("node", &["sign.js"], &key)).await;
    bench.end().await;
}

#[test]
fn the_pages_configuration_loads() {
    let folder = folder();
    let start = PAGE.find("```toml\n").unwrap() + "```toml\n".len();
    let section = &PAGE[start..start + PAGE[start..].find("```").unwrap()];
    let text = format!(
        "[worker]\nenvironment = \"sandbox\"\nid = \"w\"\nmaster_key = \"{}\"\nstate_dir = \"/nowhere\"\n\
         [systems.cleeng]\nkind = \"cleeng\"\ncore_url = \"http://127.0.0.1:1\"\nrpc_url = \"http://127.0.0.1:1\"\n\
         mediastore_url = \"http://127.0.0.1:1\"\npublisher_token = \"t\"\n{}",
        crate::bench::KEY,
        section.replace(
            "[systems.shop]",
            "[systems.shop]\nkind = \"easycms\"\nbase_url = \"http://127.0.0.1:1\"\nauthorization = \"a\"\n\
             username = \"u\"\npassword = \"p\"\naccount = \"1\""
        ),
    );
    std::fs::create_dir(folder.path().join("keys")).unwrap();
    std::fs::copy(folder.path().join("acme.pem"), folder.path().join("keys/acme.pem")).unwrap();
    let variables = [("ACME_SIGNATURE_SECRET".to_owned(), SECRET.to_owned())].into();
    let surroundings = erasure_worker::config::Surroundings { variables, ..Default::default() };
    let config = erasure_worker::config::Config::parse(&text, folder.path(), &surroundings).unwrap();
    assert_eq!(config.tenants["acme"].signature_keys.len(), 2);
    assert_eq!(config.systems["shop"].common.guard.max_jobs_per_hour, Some(200));
}

/// The page lists exactly the causes of the metric.
#[test]
fn every_counted_cause_is_on_the_page() {
    for word in erasure_worker::engine::admission::CAUSES {
        assert!(PAGE.contains(&format!("`{word}`")), "{word}");
    }
}
