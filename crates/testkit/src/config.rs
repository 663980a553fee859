//! Parts of a worker's configuration.

use std::fmt::Display;

use crate::rig::Places;

const MASTER_KEY: &str = "5f1e0c7d9a3b48265f1e0c7d9a3b48265f1e0c7d9a3b48265f1e0c7d9a3b4826";

/// The sections of the worker, with additional lines, and of the broker.
pub fn head(places: &Places<'_>, more: &str) -> String {
    let Places { url, prefix, .. } = places;
    format!(
        "[worker]\nenvironment = \"sandbox\"\nid = \"worker-0\"\nstate_dir = \"state\"\nmaster_key = \"{MASTER_KEY}\"\n\
         {more}\n[amqp]\nurl = \"{url}\"\nprefix = \"{prefix}\"\n"
    )
}

/// The section of a system with its stand-in at `stand`, and additional lines. The path is the kind: `cleeng`,
/// `loyalty`, `easycms` or `vitalsource`, with `@` and a number for a further instance.
pub fn system(name: &str, path: &str, stand: impl Display, more: &str) -> String {
    let at = format!("http://{stand}/{path}");
    let interface = match path.split('@').next().unwrap() {
        "cleeng" => format!(
            "kind = \"cleeng\"\ncore_url = \"{at}/core\"\nrpc_url = \"{at}/rpc\"\nmediastore_url = \"{at}/mediastore\"\n\
             publisher_token = \"publisher-token\""
        ),
        "loyalty" => format!("kind = \"zeta_loyalty\"\nbase_url = \"{at}\"\nprogram_token = \"program-token\""),
        "easycms" => format!(
            "kind = \"easycms\"\nbase_url = \"{at}\"\nauthorization = \"easycms-token\"\nusername = \"shop\"\n\
             password = \"easycms-password\"\naccount = \"1\""
        ),
        "vitalsource" => format!("kind = \"vitalsource\"\nbase_url = \"{at}\"\napi_key = \"VITALSOURCEKEY\""),
        other => panic!("no system {other}"),
    };
    format!("[systems.{name}]\n{interface}\n{more}\n")
}

/// A section for each of the four systems, named as its kind.
pub fn systems(stand: impl Display, more: &str) -> String {
    ["cleeng", "loyalty", "easycms", "vitalsource"].map(|name| system(name, name, &stand, more)).concat()
}
