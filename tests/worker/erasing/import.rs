//! Deletion by a file that a person uploads to the Loyalty platform.
//!
//! The rule it keeps: the job waits for the platform's result. Only the file contains personal data.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use erasure_worker::app;
use testkit::people::{self, unconfirmed};

use super::target;
use crate::trial::Trial;

#[tokio::test(flavor = "multi_thread")]
async fn a_member_stays_in_the_deletion_file_until_the_platforms_result_names_it() {
    let mut trial = Trial::without_worker(&[]).await;
    let dir = trial.rig.path("loyalty-import");
    trial.rig.set("systems.loyalty.import.dir", dir.to_str().unwrap());
    trial.rig.set("systems.loyalty.import.key", "integration_id");
    trial.start_worker();
    let person = trial.person();
    let job = unconfirmed(&[people::import(&person)]);
    trial.submit(&job).await;
    let asked = trial.event(&job, "needs_input").await;
    assert_eq!(asked.data("inputs")[0]["kind"], "import_result");
    trial.stop_worker().await;

    // Another process uses the worker's folder while the worker is stopped.
    let config = trial.rig.config("state");
    {
        let keyring = Arc::new(app::keyring(&config).unwrap());
        let systems = tokio::task::block_in_place(|| app::systems(&config, &keyring)).unwrap();
        let ledger = &systems.imports["loyalty"];
        let exported = ledger.export(None, jiff::Timestamp::now()).unwrap().unwrap();
        assert_eq!(exported.rows, 1);
        let mode = std::fs::metadata(&exported.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let file = String::from_utf8(exported.csv.to_vec()).unwrap();
        let result = trial.sandbox().world(|world| world.loyalty("loyalty").import(&file, 0, 0)).unwrap();
        let settled = ledger.settle(result.as_bytes(), jiff::Timestamp::now()).unwrap();
        assert_eq!((settled.deleted, settled.skipped, settled.missing), (1, 0, 0));
        assert!(!exported.path.exists());
    }

    trial.start_worker();
    let event = trial.ended(&job, "completed", 1).await;
    assert_eq!(target(&event, 0)["outcome"], "erased");
    trial.remains(&person, "loyalty", &[]);
    trial.end().await;
}
