//! Where calls go, and what their addresses and the file itself carry.

use super::edits::{case, each_is_the_only_fault, edited, faults};

const BASE_URL: &str = r#"base = "https://${setting.tenant}.helpdesk.example.com/api""#;

#[test]
fn calls_reach_only_the_vendor() {
    let host = |new: &'static str, says: [&'static str; 2]| case(BASE_URL, new, "http = ", "http.base", says);
    let setting = |new: &'static str| {
        case(
            "settings = { tenant = \"[a-z0-9][a-z0-9-]{0,62}\" }",
            new,
            "settings = ",
            "settings.tenant",
            ["so that it could name any host", "write a list of the hosts"],
        )
    };
    let list = |new: &'static str| {
        case(
            "settings = { tenant = \"[a-z0-9][a-z0-9-]{0,62}\" }",
            new,
            "http = ",
            "http.base",
            ["which is no full host name", "write a name such as api.example.com"],
        )
    };
    each_is_the_only_fault(&[
        host("base = \"http://${setting.tenant}.helpdesk.example.com\"", ["is not https://", "write https://"]),
        host("base = \"https://${setting.tenant}.com\"", ["could name any host", "two labels"]),
        host("base = \"https://${setting.tenant}.co.uk\"", ["could name any host", "two labels"]),
        host("base = \"https://${setting.tenant}\"", ["could name any host", "two labels"]),
        host("base = \"https://a@${setting.tenant}.helpdesk.example.com\"", ["a port, a user", "write https://"]),
        host("base = \"https://${setting.tenant}.helpdesk.example.com:8443\"", ["a port", "write https://"]),
        host("base = \"https://${setting.tenant}.helpdesk.example.com/a?b=\"", ["has a query", "write https://"]),
        setting("settings = { tenant = \".+\" }"),
        setting("settings = { tenant = \"[^/]+\" }"),
        setting("settings = { tenant = \"[a-z.]+\" }"),
        setting("settings = { tenant = \"[!-z]+\" }"),
        setting("settings = { tenant = \"a|\\\\S+\" }"),
        setting("settings = { tenant = \"(?:[a-z]+@)?x\" }"),
        list("settings = { tenant = [\"eu\", \"evil.example.net/\"] }"),
        list("settings = { tenant = [\"eu\", \"-\"] }"),
    ]);
}

#[test]
fn no_credential_stands_in_the_file() {
    let says = ["holds what looks like a credential", "write ${secret.NAME}"];
    let key = "AbCdEfGhIjKlMnOpQrStUv0123456789";
    let files = [
        ("bearer = \"${secret.token}\"".to_owned(), format!("bearer = \"${{secret.token}}{key}\""), "http.bearer"),
        (
            "bearer = \"${secret.token}\"".to_owned(),
            "bearer = \"${secret.token}\", headers = { X-Api-Key = \"abc\" }".to_owned(),
            "http.headers",
        ),
        ("get = \"/me\"".to_owned(), "get = \"/me?access_token=abc\"".to_owned(), "probe.get"),
        ("get = \"/me\"".to_owned(), format!("get = \"/me\"\nheaders = {{ x-tag = \"{key}\" }}"), "probe.headers"),
        (
            "json = { password = \"${proof.password}\" }".to_owned(),
            "json = { password = \"${proof.password}\", client = { secret = \"abc\" } }".to_owned(),
            "act.erase.json",
        ),
    ];
    for (old, new, place) in files {
        let found = faults(&edited(&old, &new));
        let text: String = found.iter().map(ToString::to_string).collect();
        assert!(matches!(&found[..], [one] if one.place == place), "{new}: {text}");
        assert!(says.iter().all(|part| text.contains(part)), "{text}");
        assert!(!text.contains(key), "the refusal repeats the credential: {text}");
    }
}

#[test]
fn addresses_carry_nothing_that_logs_would_keep() {
    each_is_the_only_fault(&[
        case(
            "get = \"/users/${id.user_id}\"",
            "get = \"/users?id=${id.user_id}\"",
            "get = \"/users?",
            "read.person.get",
            ["has an identifier of the person in its query", "identifiers_in_address"],
        ),
        case(
            "get = \"/me\"",
            "get = \"/me?k=${secret.token}\"",
            "get = \"/me",
            "probe.get",
            ["has a secret in its address", "secrets_in_address"],
        ),
        case(
            "post = \"/users/${id.user_id}/erase\"",
            "post = \"/users/${id.user_id}/erase/${proof.password}\"",
            "post = ",
            "act.erase.post",
            ["has a person's proof in its address", "send it in a header or in the body"],
        ),
    ]);
}
