//! A private RabbitMQ, one node or a cluster: free ports on loopback, its own data, cookie and port mapper.
//!
//! The rule it keeps: the broker ends with the test process. A shell waits at a pipe that the kernel closes when this
//! process ends, and then ends the broker's process group.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use rand::RngExt as _;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The folder of the scripts that need no user `rabbitmq`.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// A start takes some seconds, on a loaded machine many.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);

/// The shared parts of a broker's nodes.
struct Home {
    folder: tempfile::TempDir,
    epmd_port: u16,
    epmd: Child,
    guard: Child,
    _pipe: ChildStdin,
}

impl Home {
    fn start(plugins: &str) -> Arc<Home> {
        let folder = tempfile::Builder::new().prefix("rabbit-").tempdir().unwrap();
        let [epmd_port] = free_ports();
        write_private(&folder.path().join(".erlang.cookie"), "COOKIEOFATESTBROKER");
        std::fs::write(folder.path().join("enabled_plugins"), format!("[{plugins}].\n")).unwrap();
        // The leader of the process group that all other processes join; never restarted.
        let epmd = Command::new("epmd")
            .args(["-port", &epmd_port.to_string()])
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("epmd (Debian: erlang-base, rabbitmq-server)");
        let (guard, pipe) = guard(epmd.id(), folder.path());
        Arc::new(Home { folder, epmd_port, epmd, guard, _pipe: pipe })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // The guard ends first: after the group's end its number may belong to another process.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = kill_process_group(pid(self.epmd.id()), Signal::KILL);
        let _ = self.epmd.wait();
    }
}

/// One broker, or one node of it.
pub struct Rabbit {
    home: Arc<Home>,
    name: String,
    port: u16,
    tls_port: u16,
    dist_port: u16,
    erl_args: String,
    server: Mutex<Option<Child>>,
    /// The release in its banner.
    release: Mutex<String>,
}

impl Rabbit {
    /// Starts a broker and waits until it accepts connections.
    pub fn start() -> Self {
        Self::start_with("", "")
    }

    /// The same, with more lines in `rabbitmq.conf` and more arguments for Erlang.
    pub fn start_with(conf: &str, erl_args: &str) -> Self {
        let rabbit = Self::new(Home::start(""), "rabbit", conf, erl_args);
        rabbit.boot();
        rabbit
    }

    /// A broker with its HTTP interface, and that interface's port.
    pub fn start_managed() -> (Self, u16) {
        let [port] = free_ports();
        let conf = format!("management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}");
        let rabbit = Self::new(Home::start("rabbitmq_management"), "rabbit", &conf, "");
        rabbit.boot();
        (rabbit, port)
    }

    /// Starts a cluster. It needs a majority of its nodes.
    pub fn cluster(nodes: usize, erl_args: &str) -> Vec<Self> {
        let names: Vec<_> = (1..=nodes).map(|number| format!("rabbit{number}")).collect();
        let mut conf = "cluster_formation.peer_discovery_backend = classic_config".to_owned();
        for (number, name) in names.iter().enumerate() {
            conf += &format!("\ncluster_formation.classic_config.nodes.{} = {name}@localhost", number + 1);
        }
        let home = Home::start("");
        let nodes: Vec<_> = names.iter().map(|name| Self::new(Arc::clone(&home), name, &conf, erl_args)).collect();
        std::thread::scope(|scope| nodes.iter().for_each(|node| drop(scope.spawn(|| node.boot()))));
        nodes
    }

    fn new(home: Arc<Home>, name: &str, conf: &str, erl_args: &str) -> Self {
        let [port, tls_port, dist_port] = free_ports();
        let folder = home.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(
            folder.join("rabbitmq.conf"),
            format!("listeners.tcp.local = 127.0.0.1:{port}\nlog.console = false\n")
                + conf.replace("TLS_PORT", &tls_port.to_string()).as_str()
                + "\n",
        )
        .unwrap();
        let (name, erl_args) = (name.to_owned(), erl_args.to_owned());
        Self { home, name, port, tls_port, dist_port, erl_args, server: Mutex::new(None), release: Mutex::default() }
    }

    /// The broker that all tests of this binary share; each test has its own prefix.
    pub fn shared() -> &'static Rabbit {
        static SHARED: OnceLock<Rabbit> = OnceLock::new();
        SHARED.get_or_init(Rabbit::start)
    }

    /// The node's name in its cluster.
    pub fn name(&self) -> String {
        format!("{}@localhost", self.name)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port for TLS, if its configuration has `TLS_PORT`.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// The URL of the default virtual host.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// Starts the broker again after [`Rabbit::stop`] or [`Rabbit::kill`], with the same data and ports.
    pub fn boot(&self) {
        let mut server = self.command("rabbitmq-server");
        server.stdout(Stdio::piped());
        let mut child = server.spawn().expect("rabbitmq-server (Debian package of that name)");
        let output = child.stdout.take().unwrap();
        *self.server.lock().unwrap() = Some(child);
        let (sender, ready) = mpsc::channel();
        std::thread::spawn(move || {
            let mut release = String::new();
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((_, after)) = line.split_once("  RabbitMQ ") {
                    release = after.trim().to_owned();
                }
                // The last line of the banner, written when the listeners are open.
                if line.contains("completed with") {
                    let _ = sender.send(release.clone());
                }
            }
        });
        match ready.recv_timeout(BOOT_TIMEOUT) {
            Ok(release) => *self.release.lock().unwrap() = release,
            Err(_) => panic!("the broker did not start:\n{}", self.log()),
        }
    }

    /// An orderly stop.
    pub fn stop(&self) {
        self.end(Signal::TERM);
    }

    /// Ends the broker at once, like a power cut.
    pub fn kill(&self) {
        self.end(Signal::KILL);
    }

    /// Copies the stopped broker's files.
    pub fn keep_copy(&self) {
        let folder = self.folder();
        copy(&folder.join("data"), &folder.join("kept"));
    }

    /// Restores the stopped broker's files from [`Rabbit::keep_copy`].
    pub fn restore_copy(&self) {
        let folder = self.folder();
        std::fs::remove_dir_all(folder.join("data")).unwrap();
        copy(&folder.join("kept"), &folder.join("data"));
    }

    /// Stops all its processes: its sockets stay open, but it does not answer.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Continues a frozen broker.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Runs `rabbitmqctl`; slow, so only if AMQP cannot do it.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.command("rabbitmqctl").args(arguments).stdout(Stdio::piped()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "rabbitmqctl {arguments:?}: {text}");
        text
    }

    /// True for a release with built-in AMQP 1.0: RabbitMQ 4 and later.
    pub fn speaks_amqp1(&self) -> bool {
        let release = self.release.lock().unwrap();
        release.split('.').next().and_then(|major| major.parse::<u32>().ok()).expect("a release") >= 4
    }

    /// The broker's process id.
    pub fn process(&self) -> u32 {
        self.server.lock().unwrap().as_ref().expect("a running broker").id()
    }

    fn signal(&self, signal: Signal) {
        kill_process(pid(self.process()), signal).unwrap();
    }

    fn end(&self, signal: Signal) {
        self.signal(signal);
        let mut server = self.server.lock().unwrap().take().unwrap();
        server.wait().unwrap();
    }

    fn command(&self, script: &str) -> Command {
        let home = self.home.folder.path();
        let folder = self.folder();
        let mut command = Command::new(Path::new(SCRIPTS).join(script));
        command
            .current_dir(&folder)
            .env("HOME", home)
            .env("LANG", "C.UTF-8")
            // The script becomes the server instead of supervising it.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.home.epmd_port.to_string())
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_NODENAME", self.name())
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("enabled_plugins"))
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                format!("-kernel inet_dist_use_interface {{127,0,0,1}} {}", self.erl_args),
            )
            .process_group(self.home.epmd.id().cast_signed())
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn folder(&self) -> PathBuf {
        self.home.folder.path().join(&self.name)
    }

    fn log(&self) -> String {
        let files = std::fs::read_dir(self.folder().join("log")).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect()
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.lock().unwrap().take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// A shell that ends the group and removes the folder when its input is closed.
pub(crate) fn guard(group: u32, folder: &Path) -> (Child, ChildStdin) {
    let mut guard = Command::new("sh")
        .args(["-c", r#"read -r _; kill -s KILL -- "-$1"; sleep 1; rm -rf -- "$2""#, "guard"])
        .arg(group.to_string())
        .arg(folder)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pipe = guard.stdin.take().unwrap();
    (guard, pipe)
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "--"]).arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "cp");
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(id.cast_signed()).unwrap()
}

/// Ports that are free now. They are not ephemeral: no connection of another program takes one before it is bound, or
/// while its owner is stopped.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let free = || loop {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", rand::rng().random_range(20_000..32_000))) {
            return listener;
        }
    };
    let held: [TcpListener; N] = std::array::from_fn(|_| free());
    held.map(|listener| listener.local_addr().unwrap().port())
}

fn write_private(path: &PathBuf, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
