//! The state directory in use, of a newer release, damaged, and full.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use erasure_worker::sandbox::{Action, Entry, FaultRule, Operation};
use erasure_worker::store::{Batch, Options, SledStore, Store, Table, VERSION, VERSION_KEY};
use testkit::forms::{Case, Form, bodies, ids};
use testkit::rabbit::Rabbit;
use testkit::rig::Rig;
use testkit::soon;

use crate::broker_trouble::slow;
use crate::persons::known;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_worker_on_the_same_state_directory_reports_it_and_ends() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let first = rig.worker("state", &[]);
    first.says("working").await;
    let mut second = rig.worker("state", &[]);
    let status = second.ended().await;
    assert_eq!(status.code(), Some(1));
    assert!(second.log().contains("is held by another process"), "{}", second.log());
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_a_newer_release_is_left_alone() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let state = rig.state_dir("state");
    let open = || tokio::task::block_in_place(|| SledStore::open(&state, Options::default())).unwrap().store;
    let store = open();
    let mut batch = Batch::new();
    batch.put(Table::Meta, VERSION_KEY, (VERSION + 1).to_be_bytes());
    batch.put(Table::Job, b"theirs", b"of another form");
    store.submit(batch).await.unwrap();
    drop(store);
    let mut worker = rig.worker("state", &[]);
    let status = worker.ended().await;
    assert_eq!(status.code(), Some(1));
    assert!(worker.log().contains("run the newer release"), "{}", worker.log());
    let held: Vec<_> = std::fs::read_dir(&state).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(held.iter().all(|name| name == "lock" || name == "store"), "the store was moved: {held:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_store_is_moved_aside_and_the_jobs_end_by_read_backs() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let sandbox = rig.sandbox();
    let waiting = Case::new(sandbox, Form::Unconfirmed, 1);
    let half = Case::mixed(sandbox, &Form::PLAIN, 2..37);
    rig.publish(std::slice::from_ref(&waiting.body)).await;
    let worker = rig.worker("state", &[]);
    rig.events.until("the question", |heard| !heard.of(&waiting.id).is_empty()).await;
    worker.says("job parked").await;
    rig.publish(&bodies(&half)).await;
    let destroyed = |calls: &[Entry]| calls.iter().filter(|call| call.effect).count();
    soon("some erasures", sandbox.wait_for(|calls| destroyed(calls) >= 25)).await;
    worker.kill().await;
    assert!(rig.events.heard().ended().len() < 36, "no job was left half done");

    damage(&rig.state_dir("state").join("store/db"));
    // An absence is believed only after a read that shows an existing person.
    let known_person = Case::new(sandbox, Form::Unconfirmed, 38).person;
    let worker = rig.worker("state", &known(&known_person));
    worker.says("the store was damaged and is moved aside").await;
    // At the loyalty platform a new member's job does that.
    let present = Case::new(sandbox, Form::LoyaltyProgram, 37);
    rig.publish(std::slice::from_ref(&present.body)).await;
    rig.events.all_end(ids(&half)).await;
    // The parked copy was redelivered to a worker with an empty store, and waits again.
    rig.publish(&[waiting.answered(None)]).await;
    let heard = rig.events.all_end([present.id.as_str(), waiting.id.as_str()]).await;
    rig.is_empty().await;
    worker.stop().await;

    for case in half.iter().chain([&present, &waiting]) {
        let finals = heard.finals(&case.id);
        assert!(finals.values().all(|outcome| outcome == "completed"), "{:?}: {:#?}", case.form, heard.of(&case.id));
        assert_eq!(case.remains(sandbox), [""; 0], "{:?}", case.form);
    }
    rig.nothing_repeated();
    assert!(rig.dead_letters().await.is_empty());
    let aside = std::fs::read_dir(rig.state_dir("state")).unwrap().flatten();
    assert_eq!(aside.filter(|entry| entry.file_name().to_string_lossy().starts_with("store.corrupt-")).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_intake_and_loses_neither_a_job_nor_a_cancellation() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let sandbox = rig.sandbox();
    // 16 MiB must stay free, so the store has 8 MiB.
    let disk = Disk::mount(&rig.state_dir("disk"));
    let state = disk.0.join("state");
    let settings = [("ERASURE__WORKER__STATE_DIR", state.to_str().unwrap())];
    let cases = Case::mixed(sandbox, &Form::PLAIN, 1..201);
    let cancelled = Case::new(sandbox, Form::LoyaltyProgram, 999);
    // Slow enough that jobs are left when the disk is full.
    slow(&rig, 200);
    let worker = rig.worker("worker", &settings);
    rig.publish(&bodies(&cases)).await;
    soon("work in hand", sandbox.wait_for(|calls| calls.len() >= 40)).await;
    disk.fill();
    worker.says("intake stops until the store can be written").await;
    sandbox.clear_faults();
    // Wait until no further call is made.
    soon("the end of all calls", async {
        let mut before = usize::MAX;
        while before != sandbox.entries(0).len() {
            before = sandbox.entries(0).len();
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    })
    .await;
    let ended = rig.events.heard().ended().len();
    assert!(ended < cases.len(), "the disk was filled too late");
    let waiting = rig.depth("jobs").await as usize;
    assert!(ended + waiting >= cases.len(), "{ended} ended, {waiting} on the broker");
    // A cancellation while the store cannot be written, for a job that is published later.
    rig.cancel(&cancelled.id).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;

    disk.free();
    worker.says("the store can be written again").await;
    rig.events.all_end(ids(&cases)).await;
    rig.publish(std::slice::from_ref(&cancelled.body)).await;
    let heard = rig.events.all_end([cancelled.id.as_str()]).await;
    worker.stop().await;
    for case in &cases {
        let finals = heard.finals(&case.id);
        assert_eq!(finals.values().collect::<Vec<_>>(), ["completed"], "{:?}", heard.of(&case.id));
        assert_eq!(case.remains(sandbox), [""; 0], "{:?}", case.form);
    }
    assert_eq!(heard.finals(&cancelled.id).values().collect::<Vec<_>>(), ["cancelled"]);
    rig.nothing_repeated();
    rig.is_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_record_is_forgotten_and_its_job_ends_by_read_backs() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let sandbox = rig.sandbox();
    let case = Case::new(sandbox, Form::EasyCms, 1);
    let state = rig.state_dir("state");
    let store = tokio::task::block_in_place(|| SledStore::open(&state, Options::default())).unwrap().store;
    let key = erasure_worker::job::JobKey { tenant: "acme".to_owned(), job_id: case.id.parse().unwrap() };
    let mut batch = Batch::new();
    batch.put(Table::Job, key.to_bytes(), b"\xffof an unknown form".to_vec());
    store.submit(batch).await.unwrap();
    drop(store);
    rig.publish(std::slice::from_ref(&case.body)).await;
    let worker = rig.worker("state", &[]);
    worker.says("records cannot be decoded").await;
    let heard = rig.events.all_end([case.id.as_str()]).await;
    worker.stop().await;
    assert_eq!(heard.finals(&case.id).values().collect::<Vec<_>>(), ["completed"]);
    assert_eq!(case.remains(sandbox), [""; 0]);
    rig.is_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_worker_takes_over_during_a_full_disk_and_the_first_resumes_once_there_is_room() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let sandbox = rig.sandbox();
    let disk = Disk::mount(&rig.state_dir("disk"));
    let state = disk.0.join("state");
    // Two jobs at a time may use the system: a slot that stays taken would be noticed at once.
    let four = ("ERASURE__WORKER__CONCURRENCY", "4");
    let slow = Action::Delay { ms: 50, after_work: false };
    sandbox.add_fault(FaultRule::on(Operation::GetMember, slow));
    let cases = Case::mixed(sandbox, &[Form::LoyaltyProgram], 1..61);
    rig.publish(&bodies(&cases)).await;
    let first = rig.worker("first", &[("ERASURE__WORKER__STATE_DIR", state.to_str().unwrap()), four]);
    soon("work in hand", sandbox.wait_for(|calls| calls.len() >= 20)).await;
    disk.fill();
    first.says("intake stops until the store can be written").await;
    let elsewhere = rig.folder.path().join("import-of-second");
    let second = rig.worker("second", &[("ERASURE__SYSTEMS__LOYALTY__IMPORT__DIR", elsewhere.to_str().unwrap()), four]);
    second.says("working").await;
    rig.events.all_end(ids(&cases)).await;
    disk.free();
    first.says("the store can be written again").await;
    second.stop().await;

    let more = Case::mixed(sandbox, &[Form::LoyaltyProgram], 61..81);
    rig.publish(&bodies(&more)).await;
    let heard = rig.events.all_end(ids(&more)).await;
    first.stop().await;
    for case in cases.iter().chain(&more) {
        assert_eq!(heard.finals(&case.id).values().collect::<Vec<_>>(), ["completed"], "{:?}", heard.of(&case.id));
        assert_eq!(case.remains(sandbox), [""; 0]);
    }
    rig.nothing_repeated();
    rig.is_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_starts_and_stops_in_good_order_on_a_full_disk() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let sandbox = rig.sandbox();
    let disk = Disk::mount(&rig.state_dir("disk"));
    let state = disk.0.join("state");
    let settings = [("ERASURE__WORKER__STATE_DIR", state.to_str().unwrap())];
    let (before, after) = (Case::new(sandbox, Form::LoyaltyProgram, 1), Case::new(sandbox, Form::LoyaltyProgram, 2));
    rig.publish(std::slice::from_ref(&before.body)).await;
    let first = rig.worker("worker", &settings);
    rig.events.all_end([before.id.as_str()]).await;
    disk.fill();
    first.stop().await;

    let second = rig.worker("worker", &settings);
    second.says("intake stops until the store can be written").await;
    assert!((second.metric("erasure_intake_stalled").await - 1.0).abs() < f64::EPSILON);
    second.stop().await;

    let third = rig.worker("worker", &settings);
    third.says("intake stops until the store can be written").await;
    rig.publish(std::slice::from_ref(&after.body)).await;
    disk.free();
    let heard = rig.events.all_end([after.id.as_str()]).await;
    assert_eq!(heard.finals(&after.id).values().collect::<Vec<_>>(), ["completed"], "{:?}", heard.of(&after.id));
    third.stop().await;
    rig.nothing_repeated();
    rig.is_empty().await;
}

/// A separate file system that can be filled.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Disk {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "none"]).arg(at).status().unwrap();
        assert!(mounted.success(), "this test mounts a small tmpfs, which needs root");
        Disk(at.to_owned())
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("ballast")).unwrap();
        file.write_all(&vec![1; 9 << 20]).unwrap();
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the worker of a failed test may use it for a moment longer.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Inverts bytes in every part of a file.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes.iter_mut().skip(64).step_by(61).for_each(|byte| *byte = !*byte);
    std::fs::write(file, bytes).unwrap();
}
