//! A private PostgreSQL: a free port on loopback, its own data.
//!
//! The rule it keeps: the server ends with the test process, as the private RabbitMQ does.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::rabbit::{free_ports, guard};

/// The folder of Debian's releases.
const RELEASES: &str = "/usr/lib/postgresql";
/// A start takes a second, on a loaded machine many.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);

/// One server.
pub struct Postgres {
    folder: tempfile::TempDir,
    port: u16,
    server: Mutex<Option<Child>>,
    guards: Mutex<Vec<(Child, ChildStdin)>>,
}

impl Postgres {
    /// Starts a server and waits until it accepts connections.
    pub fn start() -> Self {
        Postgres::with(&[])
    }

    /// As [`Postgres::start`], with settings.
    pub fn with(settings: &[&str]) -> Self {
        let postgres = Postgres::without_data();
        let made = postgres
            .command("initdb")
            .args(["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"])
            .arg("--pgdata")
            .arg(postgres.data())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "initdb");
        postgres.boot(settings);
        postgres
    }

    fn without_data() -> Self {
        let folder = tempfile::Builder::new().prefix("postgres-").tempdir().unwrap();
        if let Some((user, group)) = unprivileged("postgres") {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let [port] = free_ports();
        Self { folder, port, server: Mutex::new(None), guards: Mutex::default() }
    }

    /// As [`Postgres::shared`]; this one loses nothing when the machine ends.
    pub fn durable() -> &'static Postgres {
        static DURABLE: OnceLock<Postgres> = OnceLock::new();
        DURABLE.get_or_init(|| Postgres::with(&["fsync=on"]))
    }

    /// A standby that streams from this server, under this name.
    pub fn standby(&self, name: &str) -> Postgres {
        let standby = Postgres::without_data();
        let source = format!("host=127.0.0.1 port={} user=postgres application_name={name}", self.port);
        let copied = self
            .command("pg_basebackup")
            .args([
                "--write-recovery-conf",
                "--checkpoint=fast",
                "--no-sync",
                "--wal-method=stream",
                "--dbname",
                &source,
            ])
            .arg("--pgdata")
            .arg(standby.data())
            .status()
            .unwrap();
        assert!(copied.success(), "pg_basebackup");
        standby.boot(&["fsync=on", "hot_standby=on"]);
        standby
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        let promoted =
            self.command("pg_ctl").args(["promote", "--wait", "--pgdata"]).arg(self.data()).status().unwrap();
        assert!(promoted.success(), "pg_ctl promote");
    }

    /// Freezes the server (true), or lets it go on: nothing answers, and no connection ends.
    pub fn freeze(&self, freezes: bool) {
        let signal = if freezes { Signal::STOP } else { Signal::CONT };
        let server = self.server.lock().unwrap().as_ref().expect("a running server").id();
        // Each child has a process group of its own. The server itself goes first, so that no child is added.
        let children = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let parent: u32 = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            (parent == server).then(|| entry.file_name().to_str()?.parse::<u32>().ok())?
        });
        let stop = |id: u32| kill_process(Pid::from_raw(id.cast_signed()).unwrap(), signal).unwrap_or_default();
        stop(server);
        children.for_each(stop);
    }

    /// The server that all tests of this binary share; each test has its own database.
    pub fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Postgres::start)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database for a role. Nobody needs a password.
    pub fn url(&self, role: &str, database: &str) -> String {
        format!("postgresql://{role}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Starts the server, also after [`Postgres::crash`], with the same data and port, and these settings.
    pub fn boot(&self, settings: &[&str]) {
        let mut command = self.command("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string()])
            // The end of a process loses nothing that was written to the kernel.
            .args(["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", "max_connections=300", "-c", "shared_buffers=16MB", "-c", "logging_collector=off"])
            .args(settings.iter().flat_map(|setting| ["-c", *setting]))
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("postgres (Debian: postgresql)");
        let output = child.stderr.take().unwrap();
        self.guards.lock().unwrap().push(guard(child.id(), self.folder.path()));
        *self.server.lock().unwrap() = Some(child);
        let (sender, ready) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.contains("ready to accept") {
                    let _ = sender.send(());
                }
            }
        });
        ready.recv_timeout(BOOT_TIMEOUT).expect("the server is ready");
    }

    /// Ends the server at once: open transactions and connections are lost.
    pub fn crash(&self) {
        let mut server = self.server.lock().unwrap().take().expect("a running server");
        kill_process(Pid::from_raw(server.id().cast_signed()).unwrap(), Signal::QUIT).unwrap();
        server.wait().unwrap();
        self.guards.lock().unwrap().drain(..).for_each(disarm);
    }

    /// Starts the server again with TLS, for the name `localhost`. Returns the authority's file.
    pub fn encrypt(&self) -> PathBuf {
        let folder = self.folder.path().join("tls");
        std::fs::create_dir(&folder).unwrap();
        crate::certificates::make(&folder);
        let key = folder.join("server.key");
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        if let Some((user, group)) = unprivileged("postgres") {
            std::os::unix::fs::chown(&key, Some(user), Some(group)).unwrap();
        }
        let certificate = folder.join("server.crt");
        self.crash();
        self.boot(&[
            "ssl=on",
            &format!("ssl_key_file={}", key.display()),
            &format!("ssl_cert_file={}", certificate.display()),
        ]);
        folder.join("client.ca")
    }

    /// The server's files.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(newest().join("bin").join(program));
        command
            .current_dir(self.folder.path())
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0);
        // The server refuses to run as root.
        if let Some((user, group)) = unprivileged("postgres") {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.guards.lock().unwrap().drain(..).for_each(disarm);
        if let Some(mut server) = self.server.lock().unwrap().take() {
            let _ = kill_process(Pid::from_raw(server.id().cast_signed()).unwrap(), Signal::QUIT);
            let _ = server.wait();
        }
    }
}

/// Ends a guard before its group's number may belong to another process.
pub(crate) fn disarm((mut guard, pipe): (Child, ChildStdin)) {
    let _ = guard.kill();
    let _ = guard.wait();
    drop(pipe);
}

/// The newest release that is installed.
fn newest() -> PathBuf {
    let releases = std::fs::read_dir(RELEASES).expect("PostgreSQL (Debian: postgresql)").flatten();
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let releases = releases.map(|entry| entry.path()).filter(|path| path.join("bin/initdb").exists());
    releases.max_by_key(number).expect("PostgreSQL (Debian: postgresql)")
}

/// User and group of the package, if this process is root's.
pub(crate) fn unprivileged(name: &str) -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.split(':').next() == Some(name)).expect("the package's user");
    let mut numbers = line.split(':').skip(2).map(|number| number.parse().unwrap());
    Some((numbers.next().unwrap(), numbers.next().unwrap()))
}
