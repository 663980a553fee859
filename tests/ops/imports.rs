//! The deletion files of a Loyalty system.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use erasure_worker::ops::{DeskError, ExportedFile, ImportDesk, Settled};
use serde_json::json;

use crate::bench::{Bench, Setup, bench_with};
use crate::http::{ask, get};

#[derive(Default)]
pub struct Desk {
    pub is_empty: Mutex<bool>,
}

#[async_trait]
impl ImportDesk for Desk {
    async fn export(&self) -> Result<Option<ExportedFile>, DeskError> {
        let file = ExportedFile { batch: "000001".to_owned(), path: "/imports/batch-000001.csv".into(), rows: 2 };
        Ok((!*self.is_empty.lock().unwrap()).then_some(file))
    }

    async fn settle(&self, csv: Bytes) -> Result<Settled, DeskError> {
        match &csv[..] {
            b"no headers" => Err(DeskError::Refused("missing headers in file".to_owned())),
            b"no disk" => Err(DeskError::Unavailable("the folder cannot be used".to_owned())),
            _ => Ok(Settled {
                batch: "000001".to_owned(),
                deleted: csv.len(),
                skipped: 1,
                missing: 0,
                doubtful: 0,
                unknown: 3,
            }),
        }
    }
}

pub async fn bench_with_desk(desk: &Arc<Desk>) -> Bench {
    let imports = BTreeMap::from([("shop".to_owned(), Arc::clone(desk) as Arc<dyn ImportDesk>)]);
    bench_with(Setup { imports, ..Setup::default() }).await
}

#[tokio::test]
async fn an_export_returns_the_files_path_or_reports_that_there_is_none() {
    let desk = Arc::new(Desk::default());
    let bench = bench_with_desk(&desk).await;
    let answer = ask(bench.addr, "POST", "/v1/zeta-import/shop/export", &[], b"").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), json!({ "batch": "000001", "path": "/imports/batch-000001.csv", "rows": 2 }));
    *desk.is_empty.lock().unwrap() = true;
    let answer = ask(bench.addr, "POST", "/v1/zeta-import/shop/export", &[], b"").await;
    assert_eq!(answer.problem(409), "nothing-to-export");
    let systems = get(bench.addr, "/v1/systems").await.json();
    assert_eq!((&systems["systems"][0]["import"], &systems["systems"][1]["import"]), (&json!(false), &json!(true)));
}

#[tokio::test]
async fn a_result_file_of_megabytes_is_accepted_and_an_invalid_one_is_refused_with_its_reason() {
    let bench = bench_with_desk(&Arc::default()).await;
    let csv = [("Content-Type", "text/csv")];
    let large = vec![b'x'; 5 * 1024 * 1024];
    let answer = ask(bench.addr, "POST", "/v1/zeta-import/shop/settle", &csv, &large).await;
    assert_eq!((answer.status, answer.json()["deleted"].as_u64()), (200, Some(5 * 1024 * 1024)));
    let answer = ask(bench.addr, "POST", "/v1/zeta-import/shop/settle", &csv, b"no headers").await;
    assert_eq!(answer.problem(422), "file-refused");
    assert_eq!(answer.json()["detail"], "missing headers in file");
    let answer = ask(bench.addr, "POST", "/v1/zeta-import/shop/settle", &csv, b"no disk").await;
    assert_eq!(answer.problem(503), "unavailable");
    for path in ["/v1/zeta-import/library/export", "/v1/zeta-import/library/settle"] {
        assert_eq!(ask(bench.addr, "POST", path, &csv, b"").await.problem(404), "unknown-system", "{path}");
    }
}
