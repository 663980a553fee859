//! Systems without a client of their own: `shop` is EasyCMS by the shipped connector file, in front of the stand-in of
//! EasyCMS; `club` has a list with an act for each member, and a stand-in made from its file; `crm` receives webhooks.
//!
//! The rule it keeps: the shipped file is used as it is, but for its rate limit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use erasure_worker::kit::{Served, served};
use erasure_worker::sandbox::{Described as _, Entry, Operation, Sandbox};
use serde_json::{Value, json};

use crate::receiver::{self, Receiver};

/// The first path segment of the shop's stand-in.
pub const SHOP: &str = "easycms@shop";
/// The first path segment of the club's stand-in.
pub const CLUB: &str = "club";
/// The first path segment of the receiver of webhooks.
pub const CRM: &str = "crm";

const SHOP_FILE: &str = include_str!("../../../connectors/easycms.toml");
const CLUB_FILE: &str = include_str!("club.toml");

/// A section for each of the three systems. The files are written into `folder`.
pub fn systems(stand: impl Display, folder: &Path, more: &str) -> String {
    let (slow, fast) = ("\ndefault = 60\n", "\ndefault = 600000\n");
    assert!(SHOP_FILE.contains(slow), "another rate limit in the shop's file");
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (shop, club) = (write("shop.toml", &SHOP_FILE.replace(slow, fast)), write("club.toml", CLUB_FILE));
    format!(
        "{}[systems.club]\n{}{more}\n\
         [systems.crm]\nkind = \"webhook\"\nurl = \"http://{stand}/{CRM}/erasure\"\n\
         read_url = \"http://{stand}/{CRM}/read\"\n\
         identifiers = {{ user_id = {{ type = \"digits\", required = true }}, email = {{ type = \"email\" }} }}\n{more}\n",
        self::shop(&format!("http://{stand}/{SHOP}"), &shop, more),
        stand_in().table(&format!("http://{stand}/{CLUB}"), &club),
    )
}

/// The section of the shop by this file, with the stand-in of EasyCMS at this address.
pub fn shop(at: &str, file: &str, more: &str) -> String {
    format!(
        "[systems.shop]\nkind = \"connector\"\nfile = {}\nbase_url = \"{at}\"\n\
         settings = {{ host = \"easycms.fi\", username = \"shop\", account = \"1\", \
         authorization = \"easycms-token\", password = \"easycms-password\" }}\n{more}\n",
        json!(file)
    )
}

/// Adds the stand-ins of club and receiver. Only later people are known to them.
pub fn add(sandbox: &Sandbox) {
    sandbox.world(|world| {
        world.describe(CLUB, Box::new(stand_in()));
        world.describe(CRM, Box::new(Receiver::default()));
    });
}

/// The club as a target, for the person with this number.
pub fn club(number: u64) -> Value {
    let mut stand_in = stand_in();
    stand_in.add_person(number);
    stand_in.target("club", number).unwrap()
}

/// The acts that were made twice, which must not be, in words: an act of the club whose repeat must be decided by a read
/// and that worked before (its stand-in shows each effect at once); a request to the receiver under another id, or with
/// other bytes. For workers that lost no store and had their jobs alone.
pub fn repeated(entries: &[Entry]) -> Vec<String> {
    let (mut acts, mut requests, mut repeated) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
    for call in entries {
        let is_first = match (call.system.as_str(), call.operation) {
            (CLUB, Operation::ConnectorAct) if call.worked && call.credentials_ok => {
                acts.insert((&call.subject, &call.object))
            }
            (CRM, Operation::ConnectorRepeatableAct) => {
                *requests.entry(&call.subject).or_insert(&call.object) == &call.object
            }
            _ => true,
        };
        if !is_first {
            repeated.push(format!("{call:?}"));
        }
    }
    repeated
}

/// The receiver as a target, for the person with this number.
pub fn crm(number: u64) -> Value {
    json!({ "system": "crm", "subject": receiver::subject(number) })
}

fn stand_in() -> Served {
    static EMPTY: OnceLock<Served> = OnceLock::new();
    let empty = || {
        let file = erasure_connector::load(CLUB_FILE.as_bytes()).map_err(|faults| faults.to_string());
        served(&Arc::new(file.unwrap()))
    };
    EMPTY.get_or_init(empty).clone()
}
