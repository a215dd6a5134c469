//! A downstream that writes the first part of an answer and holds the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Held,
    Written,
    Missing,
}

/// The server.
#[derive(Debug)]
pub struct Held {
    /// `http://127.0.0.1:port`
    pub url: String,
    open: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    rest: watch::Sender<Rest>,
    task: JoinHandle<()>,
}

impl Held {
    /// Answers everything in two chunks of `kind`, the second of which is held.
    pub async fn start(kind: &str, first: &str, last: &str) -> Self {
        let (rest, told) = watch::channel(Rest::Held);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n{}", chunk(first));
        let (head, last) = (Arc::<str>::from(head), Arc::<str>::from(format!("{}0\r\n\r\n", chunk(last))));
        let open = Arc::new(AtomicUsize::new(0));
        let asked = Arc::new(AtomicUsize::new(0));
        let (counted, all) = (Arc::clone(&open), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (head, last, told, counted) = (head.clone(), last.clone(), told.clone(), Arc::clone(&counted));
                all.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    counted.fetch_add(1, Ordering::SeqCst);
                    serve(stream, &head, &last, told).await;
                    counted.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { url, open, asked, rest, task }
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// How many connections there were.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Writes the rest.
    pub fn let_go(&self) {
        self.rest.send_replace(Rest::Written);
    }

    /// Closes the connections without the rest.
    pub fn break_off(&self) {
        self.rest.send_replace(Rest::Missing);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn chunk(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{:x}\r\n{text}\r\n", text.len()) }
}

async fn serve(mut stream: TcpStream, head: &str, last: &str, mut told: watch::Receiver<Rest>) {
    let mut received = Vec::new();
    while !received.windows(4).any(|four| four == b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut received).await, Ok(1..)) {
            return;
        }
    }
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    // Whatever else comes in is the body of the request; nothing at all is the end.
    let left = async |stream: &mut TcpStream, received: &mut Vec<u8>| {
        while matches!(stream.read_buf(received).await, Ok(1..)) {}
    };
    let rest = tokio::select! {
        rest = told.wait_for(|rest| *rest != Rest::Held) => rest.map_or(Rest::Missing, |rest| *rest),
        () = left(&mut stream, &mut received) => return,
    };
    if rest == Rest::Written {
        let _ = stream.write_all(last.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}
