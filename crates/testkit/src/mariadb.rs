//! A private MariaDB: a free port on loopback, its own data.
//!
//! The rule it keeps: the server ends with the test process, as the private RabbitMQ does.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::Duration;

use crate::postgres::{disarm, unprivileged};
use crate::rabbit::{free_ports, guard};

/// A start takes some seconds, on a loaded machine many.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);

/// One server.
pub struct MariaDb {
    folder: tempfile::TempDir,
    port: u16,
    server: Mutex<Option<Child>>,
    guards: Mutex<Vec<(Child, ChildStdin)>>,
}

impl MariaDb {
    /// Starts a server and waits until it accepts connections.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("mariadb-").tempdir().unwrap();
        if let Some((user, group)) = unprivileged("mysql") {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let [port] = free_ports();
        let server = Self { folder, port, server: Mutex::new(None), guards: Mutex::default() };
        let made = server
            .command("mariadb-install-db")
            .args(["--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-flush-method=nosync"])
            .stderr(Stdio::null())
            .status()
            .expect("mariadb-install-db (Debian: mariadb-server)");
        assert!(made.success(), "mariadb-install-db");
        server.boot(&[]);
        server
    }

    /// The server that all tests of this binary share; each test has its own database.
    pub fn shared() -> &'static MariaDb {
        static SHARED: OnceLock<MariaDb> = OnceLock::new();
        SHARED.get_or_init(MariaDb::start)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts the server, also after [`MariaDb::crash`], with the same data and port, and with further arguments.
    pub fn boot(&self, further: &[String]) {
        let mut command = self.command("mariadbd");
        command
            .args(["--bind-address=127.0.0.1", "--skip-log-bin", "--max-connections=300"])
            // The end of a process loses nothing that was written to the kernel.
            .args(["--innodb-flush-method=nosync", "--innodb-buffer-pool-size=16M"])
            .arg(format!("--port={}", self.port))
            .arg(format!("--socket={}", self.folder.path().join("socket").display()))
            .arg(format!("--pid-file={}", self.folder.path().join("pid").display()))
            .args(further)
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("mariadbd (Debian: mariadb-server)");
        let output = child.stderr.take().unwrap();
        self.guards.lock().unwrap().push(guard(child.id(), self.folder.path()));
        *self.server.lock().unwrap() = Some(child);
        let (sender, ready) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.contains("ready for connections") {
                    let _ = sender.send(());
                }
            }
        });
        ready.recv_timeout(BOOT_TIMEOUT).expect("the server is ready");
    }

    /// Ends the server at once: open transactions and connections are lost.
    pub fn crash(&self) {
        let mut server = self.server.lock().unwrap().take().expect("a running server");
        server.kill().unwrap();
        server.wait().unwrap();
        self.guards.lock().unwrap().drain(..).for_each(disarm);
    }

    /// Starts the server again with TLS, for the name `localhost`. Returns the authority's file.
    pub fn encrypt(&self) -> PathBuf {
        let folder = self.folder.path().join("tls");
        std::fs::create_dir(&folder).unwrap();
        crate::certificates::make(&folder);
        let of = |name: &str, part: &str| format!("--ssl-{part}={}", folder.join(name).display());
        if let Some((user, group)) = unprivileged("mysql") {
            std::os::unix::fs::chown(folder.join("server.key"), Some(user), Some(group)).unwrap();
        }
        self.crash();
        self.boot(&[of("server.key", "key"), of("server.crt", "cert")]);
        folder.join("client.ca")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let data = self.folder.path().join("data");
        command
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .current_dir(self.folder.path())
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.folder.path())
            .env("TMPDIR", self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0);
        // The server refuses to run as root.
        if let Some((user, group)) = unprivileged("mysql") {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.guards.lock().unwrap().drain(..).for_each(disarm);
        if let Some(mut server) = self.server.lock().unwrap().take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}
