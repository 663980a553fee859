//! The console's files: public, with their own policy, and without other sources.

use secrecy::SecretString;

use crate::bench::{Setup, bench_with};
use crate::http::{ask, get};

#[tokio::test]
async fn the_console_is_public_and_loads_only_its_own_files() {
    let bench = bench_with(Setup { token: Some(SecretString::from("right-token")), ..Setup::default() }).await;
    let page = get(bench.addr, "/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap().to_owned();
    for part in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert!(
        !page.text.contains("<style") && !page.text.contains(" style=") && !page.text.contains(" on"),
        "inline parts"
    );

    // Every file that the page or a script names exists, with the right type.
    let mut wanted: Vec<String> = named(&page.text, "\"/console/").into_iter().collect();
    let mut seen = 0;
    while let Some(name) = wanted.pop() {
        let file = get(bench.addr, &format!("/console/{name}")).await;
        assert_eq!((file.status, file.header("content-security-policy")), (200, Some(policy.as_str())), "{name}");
        let media = file.header("content-type").unwrap();
        let expected = match name.rsplit_once('.').unwrap().1 {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!(media, expected);
        assert!(!file.text.contains("innerHTML") && !file.text.contains("eval("), "{name}");
        let other = file.text.replace("http://www.w3.org/2000/svg", "");
        assert!(!other.contains("http://") && !other.contains("https://"), "{name} names another address");
        seen += 1;
        if name == "app.js" {
            wanted.extend(named(&file.text, "\"./"));
        }
    }
    assert!(seen >= 10, "{seen}");
    assert_eq!(ask(bench.addr, "POST", "/", &[], b"").await.problem(405), "method-not-allowed");
}

fn named(text: &str, before: &str) -> Vec<String> {
    text.split(before).skip(1).filter_map(|rest| rest.split_once('"').map(|(name, _)| name.to_owned())).collect()
}
