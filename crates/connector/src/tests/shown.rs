//! What `show` says of the three files.

use super::files::{ALL, BRAZE, MIXPANEL, ZENDESK};
use crate::load;
use crate::show::show;

fn shown(text: &str) -> String {
    show(&load(text.as_bytes()).unwrap())
}

#[test]
fn the_same_file_gives_the_same_text() {
    for (_, text) in ALL {
        assert_eq!(shown(text), shown(text));
    }
}

#[test]
fn everything_that_is_sent_destroyed_or_taken_as_proof_is_named() {
    let text = shown(ZENDESK);
    for part in [
        "Calls go to: https://${setting.subdomain}.zendesk.com",
        "email (an e-mail address; every job must give it): never sent",
        "user_id (digits; every job must give it): sent in read person (address)",
        "/user/email must be the job's email, else nothing is changed",
        "1. soft_delete\n     DELETE /api/v2/users/${id.user_id}\n",
        "If the status is 200 to 299 and /user/active is false: the change has taken effect",
        "If the status is 403 or 422: the vendor refuses (something else must happen first)",
        "2. purge\n",
        "COUNTS AS PROOF: all of this, read from the vendor: bin shows \"it is gone\", and inactive shows \"the change has \
         taken effect\"",
        "first read 1 minute after the call",
        "calls of purge: 70 a minute at most",
        "secret token: sent in the headers of every call",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let text = shown(MIXPANEL);
    for part in [
        "NOBODY IS COMPARED: this interface reads nobody by distinct_id",
        "NOT compared",
        "it is repeated. A repeat does no harm: the task's id is lost",
        "/results/task_id is kept as task",
        "for 40 days at most",
        "secret project: sent in the probe (address), in read task (address), in act request (address)",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let text = shown(BRAZE);
    assert!(text.contains("/users/0/email must be the job's email (if the job gives it), else"), "{text}");
    assert!(text.contains("with the body {\"external_ids\": [\"${id.external_id}\"]"), "{text}");
    assert!(text.contains("it is not repeated blindly. First is read: person shows \"it is gone\""), "{text}");
}

/// Every call, every condition's place, every identifier, every secret and every reason of a file is in the text.
#[test]
fn no_part_of_a_file_is_left_out() {
    for (name, text) in ALL {
        let file = load(text.as_bytes()).unwrap();
        let shown = show(&file);
        let calls =
            file.reads.iter().filter_map(|read| read.call.as_ref()).chain(file.acts.iter().map(|act| &act.call));
        let paths = calls.chain([&file.probe.call]).map(|call| call.path.written());
        let names = file.identifiers.keys().chain(&file.secrets).chain(file.settings.keys()).cloned();
        let parts = file.reads.iter().map(|read| read.name.clone()).chain(file.acts.iter().map(|act| act.name.clone()));
        for part in paths.chain(names).chain(parts).chain(file.sources.clone()) {
            assert!(shown.contains(&part), "{name}: {part} is not shown");
        }
    }
}
