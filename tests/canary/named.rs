//! A relay to the stand-ins that adds personal data to every reply: in the reason phrase, in each header, in a
//! redirect's target.
//!
//! The rule it keeps: status and body stay unchanged, except for two statuses that stand for a broken reply.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The stand-in's status for a reply whose first line cannot be read.
pub const BROKEN: u16 = 598;
/// The stand-in's status for a reply that ends in the middle of its body.
pub const CUT: u16 = 599;

/// Targets of a redirect, with a place for the planted text.
const PLACES: [&str; 9] = [
    "/customers/{}/profile",
    "/login?email={}",
    "{}",
    "/login#{}",
    "https://{}/",
    "https://user:{}@example.com/",
    "https://canary-host-730201.example.com/customers/{}",
    "//canary-host-730201.example.com/{}",
    "http://[{}",
];
/// Headers that a reply may have.
const HEADERS: [&str; 17] = [
    "Content-Type",
    "Server",
    "Via",
    "Set-Cookie",
    "WWW-Authenticate",
    "Warning",
    "ETag",
    "Link",
    "Refresh",
    "Content-Language",
    "Content-Location",
    "Content-Disposition",
    "X-Request-Id",
    "X-Correlation-Id",
    "X-Error-Code",
    "X-RateLimit-Reset",
    "X-Powered-By",
];
/// Invalid values of `Retry-After`.
const WAITS: [&str; 4] = ["{}", "5; {}", "Sun, 22 Nov 2026 10:01:30 {}", "99999999999999999999 {}"];

/// The places of a reply that are not among these headers.
const PARTS: [&str; 12] = [
    "phrase",
    "first line",
    "date",
    "wait",
    "place",
    "code",
    "message",
    "name",
    "value",
    "offer",
    "status",
    "subscription",
];

/// The planted texts: one a place, so that a hit shows its place.
#[derive(Clone)]
pub struct Texts(Vec<(String, String)>);

impl Texts {
    pub fn planted() -> Texts {
        let places = HEADERS.iter().chain(&PARTS).map(|place| (*place).to_owned());
        let address = |place: &str| {
            let plain: String = place.chars().filter(char::is_ascii_alphanumeric).collect();
            format!("canary.{plain}.730201@example.com")
        };
        let mut texts: Vec<(String, String)> = places.map(|place| (place.clone(), address(&place))).collect();
        texts.push(("host".to_owned(), "canary-host-730201.example.com".to_owned()));
        texts.push(("header's name".to_owned(), "Canary-Header-730201".to_owned()));
        texts.push(("error number".to_owned(), "730201730201".to_owned()));
        Texts(texts)
    }

    /// The text of this place.
    pub fn of(&self, place: &str) -> &str {
        &self.0.iter().find(|(kind, _)| kind == place).unwrap().1
    }

    /// All texts, each with its place.
    pub fn all(&self) -> &[(String, String)] {
        &self.0
    }
}

/// Bodies with planted texts, in the forms of the four interfaces and in other forms. The first three are JSON, XML and
/// a line of text.
pub fn bodies(texts: &Texts) -> Vec<String> {
    let [code, message, name, value] = ["code", "message", "name", "value"].map(|place| texts.of(place));
    let number = texts.of("error number");
    [
        "{\"message\":\"MESSAGE\",\"success\":false}",
        "<error-response><error-code>CODE</error-code><error-text>MESSAGE</error-text></error-response>",
        "MESSAGE",
        "{\"NAME\":\"VALUE\",\"error\":{\"code\":\"CODE\",\"message\":\"MESSAGE\"},\"id\":1}",
        "{\"error\":{\"code\":NUMBER,\"message\":\"MESSAGE\",\"data\":\"VALUE\"},\"id\":1,\"jsonrpc\":\"2.0\"}",
        "{\"responseData\":{},\"errors\":[\"MESSAGE\"]}",
        "{\"success\":false,\"errorCode\":\"CODE\",\"message\":\"MESSAGE\",\"name\":\"NAME\"}",
        "{\"INFO\":{\"VALUE\":1},\"OUTPUT\":{\"response_type\":\"error\",\"message\":\"MESSAGE\"}}",
        "{\"INFO\":{},\"OUTPUT\":\"UN-AUTHORIZED - MESSAGE\"}",
        "<credentials><error code=\"CODE\" message=\"MESSAGE\"/></credentials>",
        "<error-response><error-code>NUMBER</error-code><error-text>MESSAGE</error-text></error-response>",
        "<NAMED who=\"NAME\">VALUE</NAMED>",
        "{\"message\":\"MESSAGE\", VALUE",
        "[\"VALUE\",",
        "<error-response><error-text>MESSAGE</error-code>",
        "<!DOCTYPE a [<!ENTITY b \"VALUE\">]><error-response><error-text>&b; MESSAGE</error-text></error-response>",
        "<html><head><title>MESSAGE</title></head><body>VALUE</body></html>",
    ]
    .map(|body| {
        body.replace("CODE", code)
            .replace("MESSAGE", message)
            .replace("NAMED", "named")
            .replace("NAME", name)
            .replace("VALUE", value)
            .replace("NUMBER", number)
    })
    .into()
}

/// The relay.
pub struct Named {
    address: SocketAddr,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Named {
    /// Listens until the test's runtime ends.
    pub async fn start(stand: SocketAddr, texts: Texts) -> Named {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&sent);
        tokio::spawn(async move {
            let mut count = 0;
            while let Ok((client, _)) = listener.accept().await {
                count += 1;
                let (texts, kept) = (texts.clone(), Arc::clone(&kept));
                tokio::spawn(async move { exchange(client, stand, &texts, count, &kept).await });
            }
        });
        Named { address, sent }
    }

    /// The address to call instead of the stand-ins' own.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All replies so far.
    pub fn sent(&self) -> Vec<u8> {
        self.sent.lock().unwrap().clone()
    }
}

/// One request a connection. A broken connection is ignored.
async fn exchange(
    client: TcpStream,
    stand: SocketAddr,
    texts: &Texts,
    count: usize,
    kept: &Mutex<Vec<u8>>,
) -> Option<()> {
    let mut client = client;
    let mut stand = TcpStream::connect(stand).await.ok()?;
    let (head, body) = message(&mut client).await?;
    stand.write_all(&[head.into_bytes(), body].concat()).await.ok()?;
    let (head, body) = message(&mut stand).await?;
    let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
    let reply = reply(status, &body, texts, count);
    kept.lock().unwrap().extend_from_slice(&reply);
    client.write_all(&reply).await.ok()?;
    client.shutdown().await.ok()
}

fn reply(status: u16, body: &[u8], texts: &Texts, count: usize) -> Vec<u8> {
    if status == BROKEN {
        return format!("HTTP/1.1 {} 200\r\n\r\n", texts.of("first line")).into_bytes();
    }
    let (status, length) = if status == CUT { (200, body.len() + 100) } else { (status, body.len()) };
    let fill = |forms: &[&str], place: &str| forms[count % forms.len()].replace("{}", texts.of(place));
    let mut head = format!("HTTP/1.1 {status} {}\r\n", texts.of("phrase"));
    head += &format!("Content-Length: {length}\r\nConnection: close\r\n");
    head += &format!("Date: {}\r\n{}: 1\r\n", texts.of("date"), texts.of("header's name"));
    head += &format!("Location: {}\r\nRetry-After: {}\r\n", fill(&PLACES, "place"), fill(&WAITS, "wait"));
    for name in HEADERS {
        head += &format!("{name}: {}\r\n", texts.of(name));
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// A whole request or reply, by its `Content-Length`.
async fn message(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8(bytes).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    while body.len() < length.unwrap_or(0) {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, body))
}
