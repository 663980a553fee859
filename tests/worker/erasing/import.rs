//! Deletion by a file that a person hands to the Loyalty platform.
//!
//! The rule it keeps: the job waits for the platform's own result, and only the file holds the person.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use erasure_worker::app;
use erasure_worker::config::{Config, Surroundings};
use serde_json::json;

use super::target;
use crate::people::{self, unconfirmed};
use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn a_member_waits_in_the_deletion_file_until_the_platforms_result_names_it() {
    let mut rig = Rig::without_worker(&[]).await;
    let dir = rig.folder.path().join("loyalty-import");
    rig.set("systems.loyalty.import.dir", dir.to_str().unwrap());
    rig.set("systems.loyalty.import.key", "integration_id");
    rig.start_worker();
    let person = rig.person();
    let job = unconfirmed(&[json!({
        "system": "loyalty", "method": "import", "member": people::member(&person, "integration_id"),
    })]);
    rig.submit(&job).await;
    let asked = rig.event(&job, "needs_input").await;
    assert_eq!(asked.data("inputs")[0]["kind"], "import_result");
    rig.stop_worker().await;

    // The worker's folder, in the hands of another process while the worker stands still.
    let surroundings = Surroundings { variables: rig.variables(), ..Surroundings::of_process() };
    let config = Config::load(Some(&rig.folder.path().join("worker.toml")), &surroundings).unwrap();
    {
        let keyring = Arc::new(app::keyring(&config).unwrap());
        let systems = tokio::task::block_in_place(|| app::systems(&config, &keyring)).unwrap();
        let ledger = &systems.imports["loyalty"];
        let exported = ledger.export(None, jiff::Timestamp::now()).unwrap().unwrap();
        assert_eq!(exported.rows, 1);
        let mode = std::fs::metadata(&exported.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let file = String::from_utf8(exported.csv.to_vec()).unwrap();
        let result = rig.sandbox.sandbox().world(|world| world.loyalty("loyalty").import(&file, 0, 0)).unwrap();
        let settled = ledger.settle(result.as_bytes(), jiff::Timestamp::now()).unwrap();
        assert_eq!((settled.deleted, settled.skipped, settled.missing), (1, 0, 0));
        assert!(!exported.path.exists());
    }

    rig.start_worker();
    let event = rig.ended(&job, "completed", 1).await;
    assert_eq!(target(&event, 0)["outcome"], "erased");
    rig.remains(&person, "loyalty", &[]);
    rig.end().await;
}
