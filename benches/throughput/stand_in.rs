//! The systems, as fast as possible: one thread, plain sockets, fixed answers.
//!
//! The rule it keeps: both loops get the same answers. A person's data is kept only for the next answers, until the
//! read-back that ends the job.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The state for later answers, by GUID, customer id or e-mail address.
#[derive(Default)]
struct Memory {
    /// The fields of the last `PUT`.
    users: HashMap<String, String>,
    /// The revoked codes.
    revoked: HashSet<String>,
    /// The number of ended entitlements.
    ended: HashMap<String, u8>,
    deleted: HashMap<String, ()>,
    /// The deleted accounts of the shop.
    shoppers: HashSet<String>,
}

/// Serves on a free port until standard input is closed; prints the address.
pub fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        let memory = Arc::new(Mutex::new(Memory::default()));
        let mut input = tokio::io::stdin();
        let mut nothing = [0; 1];
        loop {
            tokio::select! {
                taken = listener.accept() => {
                    let (stream, _) = taken.unwrap();
                    tokio::spawn(connection(stream, Arc::clone(&memory)));
                }
                _ = input.read(&mut nothing) => return,
            }
        }
    });
}

async fn connection(mut stream: TcpStream, memory: Arc<Mutex<Memory>>) {
    stream.set_nodelay(true).unwrap();
    let mut taken = Vec::with_capacity(4096);
    let mut reply = Vec::with_capacity(1024);
    loop {
        let head = loop {
            if let Some(end) = taken.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut taken).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let length = content_length(&taken[..head]);
        while taken.len() < head + length {
            if stream.read_buf(&mut taken).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let line = taken.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line).into_owned();
        let (status, body) = answer(&line, &String::from_utf8_lossy(&taken[head..head + length]), &memory);
        taken.drain(..head + length);
        reply.clear();
        let head = format!("HTTP/1.1 {status} -\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n", body.len());
        reply.extend_from_slice(head.as_bytes());
        reply.extend_from_slice(body.as_bytes());
        if stream.write_all(&reply).await.is_err() {
            return;
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    let lines = head.split(|byte| *byte == b'\n');
    let mut named = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        line[..colon].eq_ignore_ascii_case(b"content-length").then(|| &line[colon + 1..])
    });
    named.next_back().and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok()).unwrap_or(0)
}

/// The status and body of the answer; `line` is `METHOD TARGET HTTP/1.1`.
fn answer(line: &str, body: &str, memory: &Mutex<Memory>) -> (u16, String) {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let last = path.rsplit('/').next().unwrap_or_default();
    let mut memory = memory.lock().unwrap();
    match (method, path) {
        ("GET", _) if path.starts_with("/vs/v3/users.xml/") => {
            let shown = memory.users.remove(last).unwrap_or_else(|| {
                format!("<first-name>Ann</first-name><last-name>Lee</last-name><email>{last}@example.com</email>")
            });
            (200, format!("<?xml version=\"1.0\"?><user><guid>{last}</guid>{shown}</user>"))
        }
        ("PUT", _) if path.starts_with("/vs/v3/users.xml/") => {
            let fields = body.split_once("<user>").and_then(|(_, rest)| rest.split_once("</user>"));
            memory.users.insert(last.to_owned(), fields.map(|(fields, _)| fields.to_owned()).unwrap_or_default());
            (200, String::new())
        }
        ("GET", _) if path.starts_with("/vs/v4/codes/") => {
            let details = if memory.revoked.remove(last) {
                "<deactivation-details>Deactivated by the requester</deactivation-details>"
            } else {
                "<redemption-details>Redeemed</redemption-details>"
            };
            let owner = last.rsplit_once('X').map_or(last, |(guid, _)| guid);
            let owner = format!("<user-email>{owner}X@example.com</user-email>");
            (200, format!("<code><id>{last}</id><product-sku>SKU</product-sku>{details}{owner}</code>"))
        }
        ("DELETE", _) if path.starts_with("/vs/v4/codes/") => {
            memory.revoked.insert(last.to_owned());
            (200, String::new())
        }
        ("GET", "/core/entitlements") => {
            let customer = query.split('&').find_map(|pair| pair.strip_prefix("customerId=")).unwrap_or_default();
            let ended = memory.ended.get(&email(customer)).copied().unwrap_or(0);
            let rows: Vec<String> = ["S1_XX", "S2_XX"][usize::from(ended).min(2)..]
                .iter()
                .map(|offer| {
                    format!(r#"{{"offerId":"{offer}","status":"active","customerId":"{customer}","offerType":"S"}}"#)
                })
                .collect();
            (200, format!(r#"{{"items":[{}],"totalItemCount":{}}}"#, rows.join(","), rows.len()))
        }
        ("POST", "/rpc") => {
            let read = |key: &str| body.split_once(&format!("\"{key}\":\"")).and_then(|(_, rest)| rest.split_once('"'));
            let offer = read("offerId").map_or("", |(offer, _)| offer);
            let who = read("customerEmail").map_or("", |(who, _)| who).to_owned();
            *memory.ended.entry(who).or_default() += 1;
            let result = format!(r#"{{"offerId":"{offer}","status":"terminated"}}"#);
            (200, format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result},"error":null}}"#))
        }
        ("DELETE", _) if path.starts_with("/core/customers/") => {
            memory.deleted.insert(last.to_owned(), ());
            (200, r#"{"success":true,"data":null}"#.to_owned())
        }
        ("GET", _) if path.starts_with("/core/customers/") => {
            let gone = memory.deleted.remove(last).is_some();
            if gone {
                memory.ended.remove(&email(last));
            }
            let shown = if gone { "null".to_owned() } else { format!("\"{}\"", email(last)) };
            (200, format!(r#"{{"success":true,"data":{{"id":"{last}","email":{shown},"country":"DE"}}}}"#))
        }
        ("POST", "/public_api/get_customer_exists") => {
            let count = u8::from(!memory.shoppers.remove(shopper(body)));
            (200, format!(r#"{{"INFO":{{}},"OUTPUT":{{"TOTAL_COUNT":{count}}}}}"#))
        }
        ("POST", "/public_api/set_customer_delete_account") => {
            memory.shoppers.insert(shopper(body).to_owned());
            (200, r#"{"INFO":{},"OUTPUT":{"response_type":"success","message":"deleted"}}"#.to_owned())
        }
        _ => (404, "no such page".to_owned()),
    }
}

/// The encoded e-mail address in a form.
fn shopper(form: &str) -> &str {
    form.split('&').find_map(|pair| pair.strip_prefix("email=")).unwrap_or_default()
}

/// The jobs' e-mail address for a customer id.
pub fn email(customer: &str) -> String {
    format!("c{customer}@example.com")
}
