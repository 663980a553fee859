//! Access to the ops API, and the headers of its answers.

use erasure_worker::ops::{CONNECTIONS, Ops, OpsSettings, serve};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, Setup, bench, bench_with};
use crate::http::{ask, get};

const ROUTES: [(&str, &str); 32] = [
    ("GET", "/console/no-such-file"),
    ("GET", "/console/../v1/jobs"),
    ("GET", "/v1/overview"),
    ("GET", "/v1/codes/ERS-0001"),
    ("GET", "/v1/paused"),
    ("GET", "/metrics"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/acme/00000000-0000-0000-0000-000000000001"),
    ("POST", "/v1/jobs/acme/00000000-0000-0000-0000-000000000001/cancel"),
    ("POST", "/v1/jobs/acme/states"),
    ("GET", "/v1/systems"),
    ("POST", "/v1/systems/shop/release"),
    ("POST", "/v1/systems/shop/pause"),
    ("POST", "/v1/systems/shop/resume"),
    ("POST", "/v1/tenants/acme/pause"),
    ("GET", "/v1/guard"),
    ("POST", "/v1/guard/tenant/acme/release"),
    ("POST", "/v1/guard/system/shop/discard"),
    ("GET", "/v1/approvals"),
    ("GET", "/v1/approvals/report"),
    ("POST", "/v1/approvals/approve"),
    ("POST", "/v1/approvals/reject"),
    ("GET", "/v1/approvals/acme/00000000-0000-0000-0000-000000000001"),
    ("POST", "/v1/approvals/acme/00000000-0000-0000-0000-000000000001/approve"),
    ("POST", "/v1/approvals/acme/00000000-0000-0000-0000-000000000001/reject"),
    ("GET", "/v1/dead-letters"),
    ("GET", "/v1/dead-letters/acme/00000000-0000-0000-0000-000000000001"),
    ("POST", "/v1/dead-letters/replay"),
    ("POST", "/v1/dead-letters/discard"),
    ("POST", "/v1/zeta-import/shop/export"),
    ("POST", "/v1/zeta-import/shop/settle"),
    ("GET", "/no/such/route"),
];

async fn guarded() -> Bench {
    bench_with(Setup { token: Some(SecretString::from("right-token")), ..Setup::default() }).await
}

#[tokio::test]
async fn every_route_except_the_probes_and_the_public_keys_needs_the_token() {
    let bench = guarded().await;
    for (method, path) in ROUTES {
        for given in
            [None, Some("Bearer wrong-token"), Some("Bearer right-token2"), Some("Basic right-token"), Some("Bearer ")]
        {
            let headers: Vec<_> = given.map(|given| ("Authorization", given)).into_iter().collect();
            let answer = ask(bench.addr, method, path, &headers, b"").await;
            assert_eq!(answer.problem(401), "unauthorised", "{path} {given:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
        let answer = ask(bench.addr, method, path, &[("Authorization", "bearer right-token")], b"").await;
        assert_ne!(answer.status, 401, "{path}");
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(bench.addr, path).await.status, 200, "{path}");
    }
    assert_eq!(get(bench.addr, "/.well-known/jwks.json").await.status, 200);
}

#[tokio::test]
async fn without_a_token_only_a_loopback_address_is_served() {
    let bench = bench().await;
    let ops = Ops {
        engine: std::sync::Arc::clone(&bench.engine),
        settings: OpsSettings::new("0.0.0.0:0".parse().unwrap(), None),
        imports: Default::default(),
    };
    let error = serve(ops, CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("ops.token"), "{error}");
}

#[tokio::test]
async fn on_loopback_a_foreign_host_name_is_refused_everywhere() {
    let bench = bench().await;
    for host in
        ["evil.example.com", "evil.example.com:80", "localhost.evil.example.com", "127.0.0.1.evil.example.com", ""]
    {
        for path in ["/v1/jobs", "/livez", "/metrics"] {
            let answer = ask(bench.addr, "GET", path, &[("Host", host)], b"").await;
            assert_eq!(answer.problem(421), "misdirected", "{host} {path}");
        }
    }
    for host in ["localhost", "LOCALHOST:8460", "127.0.0.1:1", "[::1]", "[::1]:8460"] {
        assert_eq!(ask(bench.addr, "GET", "/v1/jobs", &[("Host", host)], b"").await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn another_web_page_cannot_change_anything_through_a_browser() {
    let bench = bench().await;
    let own = format!("http://{}", bench.addr);
    let release = "/v1/systems/shop/release";
    for foreign in [
        ("Origin", "https://evil.example.com"),
        ("Origin", "null"),
        ("Origin", "http://127.0.0.1:1"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        let answer = ask(bench.addr, "POST", release, &[foreign], b"").await;
        assert_eq!(answer.problem(403), "foreign-origin", "{foreign:?}");
    }
    for own in [("Origin", own.as_str()), ("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "none")] {
        assert_eq!(ask(bench.addr, "POST", release, &[own], b"").await.status, 200, "{own:?}");
    }
    // A plain form needs no permission from the server, so it may not change anything.
    let form = [("Content-Type", "text/plain")];
    let answer = ask(bench.addr, "POST", "/v1/dead-letters/replay", &form, b"{\"all\":true}").await;
    assert_eq!(answer.problem(415), "unsupported-media-type");
}

#[tokio::test]
async fn every_answer_forbids_scripts_sniffing_and_storing_and_allows_no_other_origin() {
    let bench = guarded().await;
    for path in ["/livez", "/v1/jobs", "/nowhere"] {
        let answer = ask(bench.addr, "GET", path, &[("Origin", "https://evil.example.com")], b"").await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[tokio::test]
async fn silent_connections_take_a_limited_share_and_the_next_one_waits_for_a_place() {
    let bench = bench().await;
    let request = format!("GET /livez HTTP/1.1\r\nHost: {}\r\n\r\n", bench.addr);
    let open = async || {
        let mut stream = TcpStream::connect(bench.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    let answered = async |stream: &mut TcpStream| {
        let mut seen = Vec::new();
        while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "closed without an answer");
        }
    };
    let mut inside = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = open().await;
        answered(&mut stream).await;
        inside.push(stream);
    }
    let mut outside = open().await;
    // An open connection is answered; a further one is not.
    inside[0].write_all(request.as_bytes()).await.unwrap();
    answered(&mut inside[0]).await;
    assert_eq!(outside.try_read(&mut [0; 16]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(inside.pop());
    answered(&mut outside).await;
}

#[tokio::test]
async fn refusals_of_form_are_problem_details() {
    let bench = bench().await;
    assert_eq!(get(bench.addr, "/nowhere").await.problem(404), "not-found");
    assert_eq!(get(bench.addr, "/console/mod.rs").await.problem(404), "not-found");
    assert_eq!(ask(bench.addr, "DELETE", "/v1/jobs", &[], b"").await.problem(405), "method-not-allowed");
    assert_eq!(get(bench.addr, "/v1/systems/shop/release").await.problem(405), "method-not-allowed");
    let json = [("Content-Type", "application/json")];
    let long = vec![b' '; 65 * 1024];
    assert_eq!(ask(bench.addr, "POST", "/v1/dead-letters/replay", &json, &long).await.problem(413), "too-large");
    for body in ["", "[]", "{", "{\"everything\":true}", "{\"all\":1}"] {
        let answer = ask(bench.addr, "POST", "/v1/dead-letters/replay", &json, body.as_bytes()).await;
        assert_eq!(answer.problem(400), "bad-request", "{body}");
    }
    for path in [
        "/v1/jobs?limit=0",
        "/v1/jobs?limit=501",
        "/v1/jobs?limit=many",
        "/v1/jobs?state=done",
        "/v1/jobs?tenant=Acme",
        "/v1/jobs?after=x",
        "/v1/jobs?page=2",
        "/v1/jobs/Acme/00000000-0000-0000-0000-000000000001",
        "/v1/jobs/acme/7",
        "/v1/dead-letters?limit=0",
        "/v1/dead-letters?job_id=7",
        "/v1/dead-letters?from=yesterday",
        "/v1/dead-letters/acme/7",
    ] {
        assert_eq!(get(bench.addr, path).await.problem(400), "bad-request", "{path}");
    }
}
