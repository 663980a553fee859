//! Opening a store: its owner, newer and damaged stores.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use erasure_worker::store::{
    Batch, KEEP_MOVED_ASIDE, Opened, Options, SledStore, Store, StoreError, Table, VERSION, VERSION_KEY,
    delete_moved_aside,
};

use crate::{job, open, put};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_missing_state_directory_is_created_for_its_user_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("a/b");
    let _store = open(&state);
    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(&state.join("store")), 0o700);
    assert_eq!(mode(&dir.path().join("a")), 0o700);
}

#[test]
fn a_state_directory_open_to_other_users_gets_mode_700() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    let _store = open(&state);
    assert_eq!(mode(&state), 0o700);
}

#[test]
fn only_one_store_at_a_time_owns_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let second = SledStore::open(dir.path(), Options::default());
    assert!(matches!(&second, Err(StoreError::Held { path }) if Path::new(path) == dir.path()));
    drop(store);
    open(dir.path());
}

#[tokio::test]
async fn a_second_owner_is_refused_before_it_touches_a_damaged_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fs::write(dir.path().join("store/conf"), b"no configuration at all").unwrap();
    assert!(matches!(SledStore::open(dir.path(), Options::default()), Err(StoreError::Held { .. })));
    assert_eq!(aside(dir.path()), [""; 0]);
    store.submit(put(b"k", b"v")).await.unwrap();
}

#[test]
fn a_path_that_is_not_a_folder_is_an_error_with_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = SledStore::open(&file, Options::default()).unwrap_err();
    assert!(matches!(&error, StoreError::Broken(why) if why.contains(&*file.to_string_lossy())), "{error}");
}

#[tokio::test]
async fn a_store_of_a_newer_release_is_refused_and_left_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut batch = put(b"k", b"v");
    batch.put(Table::Meta, VERSION_KEY, (VERSION + 1).to_be_bytes());
    store.submit(batch).await.unwrap();
    drop(store);
    for _ in 0..2 {
        let error = SledStore::open(dir.path(), Options::default()).unwrap_err();
        let StoreError::Newer { found, known, .. } = error else { panic!("{error}") };
        assert_eq!((found, known), (VERSION + 1, VERSION));
    }
    assert_eq!(aside(dir.path()), [""; 0]);
}

#[tokio::test]
async fn a_new_store_has_its_version_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let version = open(dir.path()).get(Table::Meta, VERSION_KEY).unwrap();
    assert_eq!(version, Some(VERSION.to_be_bytes().to_vec()));
}

#[tokio::test]
async fn records_without_a_version_are_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut batch = put(b"k", b"v");
    batch.remove(Table::Meta, VERSION_KEY);
    store.submit(batch).await.unwrap();
    drop(store);
    assert_replaced(dir.path()).await;
}

/// Makes and closes a store with some thousand records. Returns the length of its log file.
async fn filled(dir: &Path) -> u64 {
    let store = open(dir);
    let mut last = store.check();
    for n in 0..3000_u32 {
        let mut batch = Batch::new();
        batch.put(Table::Journal, n.to_be_bytes(), vec![n as u8; 300]);
        last = store.submit(batch);
        if n % 300 == 0 {
            store.check().await.unwrap();
        }
    }
    last.await.unwrap();
    drop(store);
    fs::metadata(dir.join("store/db")).unwrap().len()
}

fn aside(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("store.corrupt-")).collect()
}

/// Opening moves the store aside and gives an empty one, which works and can be opened again.
async fn assert_replaced(dir: &Path) {
    let Opened { store, moved_aside, .. } = SledStore::open(dir, Options::default()).unwrap();
    let moved = moved_aside.expect("the damage was not seen");
    assert!(moved.join("db").exists());
    assert_eq!(aside(dir), [moved.file_name().unwrap().to_str().unwrap()]);
    assert_eq!(store.scan(Table::Journal, b"", None, 9).unwrap(), vec![]);
    store.submit(put(b"k", b"v")).await.unwrap();
    drop(store);
    assert_eq!(job(&open(dir), b"k"), Some(b"v".to_vec()));
}

#[tokio::test]
async fn a_store_whose_log_is_overwritten_from_the_middle_on_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let length = filled(dir.path()).await;
    let log = OpenOptions::new().write(true).open(dir.path().join("store/db")).unwrap();
    log.write_all_at(&vec![0xa5; (length / 2) as usize], length / 2).unwrap();
    assert_replaced(dir.path()).await;
}

#[tokio::test]
async fn a_store_whose_log_has_changed_bytes_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let length = filled(dir.path()).await;
    let log = OpenOptions::new().write(true).open(dir.path().join("store/db")).unwrap();
    for part in 1..8 {
        log.write_all_at(&[0x5a; 64], length * part / 8).unwrap();
    }
    assert_replaced(dir.path()).await;
}

#[tokio::test]
async fn a_store_with_a_truncated_log_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let length = filled(dir.path()).await;
    let log = OpenOptions::new().write(true).open(dir.path().join("store/db")).unwrap();
    log.set_len(length / 2).unwrap();
    assert_replaced(dir.path()).await;
}

#[tokio::test]
async fn a_store_with_an_empty_log_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    fs::write(dir.path().join("store/db"), b"").unwrap();
    assert_replaced(dir.path()).await;
}

#[tokio::test]
async fn a_store_with_an_unreadable_sled_configuration_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    fs::write(dir.path().join("store/conf"), b"no configuration at all").unwrap();
    assert_replaced(dir.path()).await;
}

#[test]
fn only_stores_moved_aside_a_week_ago_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    let week = 7 * 24 * 3600;
    let (due, young) = (2_000_000_000 - week, 2_000_000_000 - week + 1);
    let kept = [format!("store.corrupt-{young}"), "store.corrupt-x".into(), "store".into(), "store.corrupt-".into()];
    for name in kept.iter().chain([&format!("store.corrupt-{due}")]) {
        fs::create_dir_all(dir.path().join(name).join("blobs")).unwrap();
    }
    fs::write(dir.path().join("store.corrupt-5"), b"a file").unwrap();
    let deleted = delete_moved_aside(dir.path(), now, KEEP_MOVED_ASIDE).unwrap();
    assert_eq!(deleted, [dir.path().join(format!("store.corrupt-{due}"))]);
    assert!(kept.iter().all(|name| dir.path().join(name).join("blobs").exists()));
    assert!(dir.path().join("store.corrupt-5").exists());
}

#[test]
fn opening_waits_for_a_lock_that_a_closed_store_holds_for_a_moment() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    // As by a forked child that has not started its own program yet.
    let kept = ["lock", "store/archive"].map(|name| {
        let file = fs::File::options().write(true).open(dir.path().join(name)).unwrap();
        file.lock().unwrap();
        file
    });
    let path = dir.path().to_owned();
    let opening = std::thread::spawn(move || SledStore::open(&path, Options::default()).map(drop));
    for file in kept {
        // Long enough for a refusal if it did not wait.
        std::thread::sleep(Duration::from_millis(100));
        assert!(!opening.is_finished());
        file.unlock().unwrap();
    }
    opening.join().unwrap().unwrap();
}
