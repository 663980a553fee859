//! A headless chromium, driven by WebDriver.
//!
//! The rule it keeps: it starts without stored data, connects to the worker alone, and ends with the test.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use thirtyfour::LoggingPrefsLogLevel;
use thirtyfour::{By, ChromiumLikeCapabilities as _, DesiredCapabilities, Key, WebDriver, WebElement};

/// Longer than any step takes on a busy machine.
const HANGS: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub struct Browser {
    pub page: WebDriver,
    _driver: Driver,
    _home: tempfile::TempDir,
}

/// `chromedriver` and its child processes.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_raw(self.0.id().cast_signed()).unwrap(), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// Starts the driver. Starts it again if another program took its port first.
fn start_driver(home: &std::path::Path) -> (Driver, u16) {
    loop {
        match try_driver(home) {
            Ok(started) => return started,
            Err(said) if said.contains("port not available") || said.contains("bind()") => {}
            Err(said) => panic!("chromedriver does not start (Debian: chromium, chromium-driver): {said}"),
        }
    }
}

/// The driver's process and port, or its error output.
fn try_driver(home: &std::path::Path) -> Result<(Driver, u16), String> {
    use std::io::{BufRead as _, Read as _};
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "chromedriver", "--port=0", "--log-level=SEVERE"])
        .env("HOME", home)
        .env_remove("http_proxy")
        .env_remove("https_proxy")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("setpriv");
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let mut errors = child.stderr.take().unwrap();
    let driver = Driver(child);
    let mut said = String::new();
    for line in lines.map_while(Result::ok) {
        if let Some((_, port)) = line.split_once("successfully on port ") {
            let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
            // Drains the output, so that the driver does not block.
            std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
            return Ok((driver, digits.parse().unwrap()));
        }
        said.push_str(&line);
    }
    let _ = errors.read_to_string(&mut said);
    Err(said)
}

impl Browser {
    /// Opens a page.
    pub async fn open(url: &str) -> Browser {
        erasure_worker::app::install_tls();
        let home = tempfile::Builder::new().prefix("browser-").tempdir().unwrap();
        let (driver, port) = start_driver(home.path());
        let mut capabilities = DesiredCapabilities::chrome();
        for argument in [
            "--headless=new",
            // The tests may run as root, where chromium's sandbox does not work.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-proxy-server",
            "--no-first-run",
            "--window-size=1180,820",
            "--force-prefers-reduced-motion",
            // Ends the browser with its driver.
            "--remote-debugging-pipe",
        ] {
            capabilities.add_arg(argument).unwrap();
        }
        capabilities.add_arg(&format!("--user-data-dir={}", home.path().join("profile").display())).unwrap();
        capabilities.set_browser_log_level(LoggingPrefsLogLevel::All).unwrap();
        let page = WebDriver::new(format!("http://127.0.0.1:{port}"), capabilities).await.unwrap();
        page.goto(url).await.unwrap();
        Browser { page, _driver: driver, _home: home }
    }

    /// Repeats the query until it has a result.
    pub async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let looking = async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                // A browser sends no notifications here.
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        match tokio::time::timeout(HANGS, looking).await {
            Ok(found) => found,
            Err(_) => panic!("never: {what}. The page shows:\n{}", self.text().await),
        }
    }

    /// The page's visible text.
    pub async fn text(&self) -> String {
        self.page.find(By::Tag("body")).await.unwrap().text().await.unwrap()
    }

    /// Waits until the page shows all of these.
    pub async fn sees(&self, texts: &[&str]) {
        self.until(&format!("{texts:?}"), async || {
            let all = self.text().await;
            texts.iter().all(|text| all.contains(text)).then_some(())
        })
        .await;
    }

    /// Waits until the page shows none of these.
    pub async fn sees_no(&self, texts: &[&str]) {
        self.until(&format!("without {texts:?}"), async || {
            let all = self.text().await;
            texts.iter().all(|text| !all.contains(text)).then_some(())
        })
        .await;
    }

    pub async fn by_id(&self, id: &str) -> WebElement {
        self.until(&format!("#{id}"), async || self.page.find(By::Id(id)).await.ok()).await
    }

    /// Presses a button or follows a link. Repeats it if the page was redrawn at that moment.
    pub async fn press(&self, id: &str) {
        self.until(&format!("#{id} is pressed"), async || self.page.find(By::Id(id)).await.ok()?.click().await.ok())
            .await;
    }

    /// Follows a link of the navigation.
    pub async fn press_link(&self, text: &str) {
        self.page.find(By::LinkText(text)).await.unwrap().click().await.unwrap();
    }

    /// Chooses from a list.
    pub async fn choose(&self, id: &str, value: &str) {
        let select = self.by_id(id).await;
        let option = select.find(By::Css(format!("option[value='{value}']"))).await.unwrap();
        option.click().await.unwrap();
    }

    /// Types into a field of the dialog or of a form.
    pub async fn fill(&self, id: &str, text: &str) {
        let field = self.by_id(id).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Presses a key at the current focus.
    pub async fn key(&self, key: impl Into<char>) {
        self.page.action_chain().send_keys(key.into()).perform().await.unwrap();
    }

    /// Presses Tab until the element with this id has the focus.
    pub async fn tab_to(&self, id: &str) {
        for _ in 0..100 {
            if self.focused().await == id {
                return;
            }
            self.key(Key::Tab).await;
        }
        panic!("the keyboard does not reach #{id}");
    }

    pub async fn focused(&self) -> String {
        self.script("return document.activeElement.id").await.as_str().unwrap_or_default().to_owned()
    }

    pub async fn script(&self, script: &str) -> serde_json::Value {
        self.page.execute(script, Vec::new()).await.unwrap().json().clone()
    }

    /// The browser's errors: of scripts, of the policy, of missing files. A refusal by the worker, with its own status,
    /// is not one.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.page.browser_log().await.unwrap();
        let refusals = ["the server responded with a status of 401", "the server responded with a status of 40"];
        let texts = log.into_iter().map(|entry| entry.message);
        texts.filter(|text| !refusals.iter().any(|refusal| text.contains(refusal))).collect()
    }

    /// Takes a picture for the documentation, if requested.
    pub async fn picture(&self, name: &str) {
        if let Some(folder) = std::env::var_os("ERASURE_SCREENSHOTS") {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            self.page.screenshot(&folder.join(format!("{name}.png"))).await.unwrap();
        }
    }

    /// Ends the browser. It must have no errors.
    pub async fn end(self) {
        assert_eq!(self.complaints().await, Vec::<String>::new());
        self.page.clone().quit().await.unwrap();
    }
}
