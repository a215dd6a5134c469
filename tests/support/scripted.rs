//! A downstream that answers exactly the bytes that a test wants it to, for what no real server can be made to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// One request as it came in.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET /path?query HTTP/1.1` and the headers.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Asked {
    /// The value of a parameter, from the body or the URL, decoded.
    pub fn param(&self, name: &str) -> Option<String> {
        let target = self.head.split(' ').nth(1).unwrap_or_default();
        let query = target.split_once('?').map_or("", |(_, query)| query);
        self.body.split('&').chain(query.split('&')).find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (key == name).then(|| {
                percent_encoding::percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned()
            })
        })
    }
}

/// What it does with a request: raw bytes, after which the connection is closed; `None` never answers.
pub type Script = dyn Fn(&Asked) -> Option<Vec<u8>> + Send + Sync;

/// A server of raw bytes.
#[derive(Debug)]
pub struct Scripted {
    /// `http://127.0.0.1:port`
    pub url: String,
    asked: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    gate: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Scripted {
    /// Answers each request with what `script` says.
    pub async fn start(script: impl Fn(&Asked) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let server = Self::gated(script).await;
        server.open_gate();
        server
    }

    /// As `start`, but no answer is sent before the gate is opened.
    pub async fn gated(script: impl Fn(&Asked) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let (gate, entry) = watch::channel(0);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (asked, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, opened, script): (_, _, Arc<Script>) = (Arc::clone(&asked), Arc::clone(&open), Arc::new(script));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, counted, opened, entry) =
                    (Arc::clone(&script), Arc::clone(&counted), Arc::clone(&opened), entry.clone());
                tokio::spawn(async move {
                    opened.fetch_add(1, Ordering::SeqCst);
                    serve(stream, &*script, &counted, entry).await;
                    opened.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { url, asked, open, gate, task }
    }

    /// Lets the answers go.
    pub fn open_gate(&self) {
        self.open_gate_for(usize::MAX);
    }

    /// Lets the answers to the first so many requests go.
    pub fn open_gate_for(&self, requests: usize) {
        self.gate.send_replace(requests);
    }

    /// Resolves when so many requests have come in.
    pub async fn until_asked(&self, count: usize) {
        until(|| self.asked() >= count, "requests arrive").await;
    }

    /// Resolves when no connection is open any more.
    pub async fn until_left(&self) {
        until(|| self.open() == 0, "connections close").await;
    }

    /// How many requests came in.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for something that is about to happen; a test that waits in vain fails.
async fn until(happened: impl Fn() -> bool, what: &str) {
    let looked = async {
        while !happened() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), looked)
        .await
        .unwrap_or_else(|_| panic!("in vain: {what}"));
}

async fn serve(mut stream: TcpStream, script: &Script, counted: &AtomicUsize, mut entry: watch::Receiver<usize>) {
    let mut received = Vec::new();
    let Some(asked) = read_request(&mut stream, &mut received).await else { return };
    let number = counted.fetch_add(1, Ordering::SeqCst);
    match script(&asked) {
        Some(answer) => {
            let mut more = [0];
            tokio::select! {
                opened = entry.wait_for(|allowed| number < *allowed) => drop(opened),
                // The other side gave up.
                _ = stream.read(&mut more) => return,
            }
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
        // Until the other side gives up.
        None => while matches!(stream.read_buf(&mut received).await, Ok(1..)) {},
    }
}

async fn read_request(stream: &mut TcpStream, received: &mut Vec<u8>) -> Option<Asked> {
    loop {
        if let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&received[..end]).into_owned();
            let length = head
                .to_ascii_lowercase()
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
                .unwrap_or(0);
            if received.len() >= end + 4 + length {
                let body = String::from_utf8_lossy(&received[end + 4..end + 4 + length]).into_owned();
                return Some(Asked { head, body });
            }
        }
        if stream.read_buf(received).await.ok()? == 0 {
            return None;
        }
    }
}

/// A whole answer with a sound head.
pub fn ok(body: &[u8]) -> Vec<u8> {
    with_head(
        &format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len()),
        body,
    )
}

/// A head and what follows it.
pub fn with_head(head: &str, body: &[u8]) -> Vec<u8> {
    [head.as_bytes(), body].concat()
}
