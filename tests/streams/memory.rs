//! Two million series through promfront, kept and given again, in a bounded space.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;

use axum::body::Body;
use flate2::write::GzDecoder;
use http::Request;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use xxhash_rust::xxh3::Xxh3;

use crate::support::Promfront;

/// What the peak may rise by, in KiB.
const MOST_KIB: usize = 200 << 10;

/// In KiB.
fn status(process: u32, name: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("Linux says");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
}

/// The `number`-th series, about a hundred bytes.
fn series(number: usize) -> String {
    let (pod, node) = (number / 40, number % 40);
    format!(
        r#"{{"__name__":"container_cpu_seconds_total","container":"api","node":"node-{node:03}","pod":"api-{pod:09x}"}}"#
    )
}

/// A server whose every answer is so many series.
async fn server(count: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, count));
        }
    });
    url
}

async fn answer(mut stream: TcpStream, count: usize) {
    let mut received = Vec::new();
    while !received.windows(4).any(|four| four == b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut received).await, Ok(1..)) {
            return;
        }
    }
    let mut text = String::from(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    let mut piece = String::from(r#"{"status":"success","data":["#);
    for number in 0..count {
        if number > 0 {
            piece.push(',');
        }
        piece.push_str(&series(number));
        if piece.len() > 60_000 || number + 1 == count {
            if number + 1 == count {
                piece.push_str("]}");
            }
            let _ = write!(text, "{:x}\r\n{piece}\r\n", piece.len());
            piece.clear();
            if stream.write_all(text.as_bytes()).await.is_err() {
                return;
            }
            text.clear();
        }
    }
    let _ = stream.write_all(b"0\r\n\r\n").await;
    let _ = stream.shutdown().await;
}

/// Counts and hashes what is written to it.
#[derive(Default)]
struct Digest {
    hash: Xxh3,
    length: usize,
}

impl std::io::Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.hash.update(bytes);
        self.length += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Length and hash of the decoded body, what promfront says about it, and how it was packed.
async fn ask(url: &str, accept: &str) -> ((usize, u64), String, String) {
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(url).header("accept-encoding", accept).body(Body::empty()).expect("a sound request");
    let (head, mut body) = client.request(request).await.expect("an answer").into_parts();
    assert_eq!(head.status, 200);
    let header =
        |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (result, packed) = (header("x-promfront-result"), header("content-encoding"));
    let mut unpacked = GzDecoder::new(Digest::default());
    while let Some(frame) = body.frame().await {
        let data = frame.expect("a sound frame").into_data().unwrap_or_default();
        match packed.as_str() {
            "gzip" => unpacked.write_all(&data).expect("sound gzip"),
            _ => unpacked.get_mut().write_all(&data).expect("it takes all"),
        }
    }
    let digest =
        if packed == "gzip" { unpacked.finish().expect("sound gzip") } else { std::mem::take(unpacked.get_mut()) };
    ((digest.length, digest.hash.digest()), result, packed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_million_series_cost_less_than_they_are_long() {
    let downstream = server(2_000_000).await;
    let promfront = Promfront::before(&downstream);
    let process = promfront.id();
    let path = "/api/v1/series?match[]=%7B__name__!%3D%22%22%7D&start=1707264000&end=1707350400";
    let (want, _, _) = ask(&format!("{downstream}{path}"), "identity").await;
    assert!(want.0 > 180 << 20, "{} bytes", want.0);
    let before = status(process, "VmRSS:");
    for turn in ["miss", "hit"] {
        // Five sets the peak back to what is resident now.
        fs::write(format!("/proc/{process}/clear_refs"), "5").expect("it is our own child");
        let (got, result, packed) = ask(&format!("{}{path}", promfront.url), "identity").await;
        let grown = status(process, "VmHWM:").saturating_sub(before);
        println!("{turn}: {grown} KiB for {} KiB, {result}", want.0 >> 10);
        assert_eq!((got, packed.as_str()), (want, ""), "{turn}");
        assert!(grown < MOST_KIB, "{turn}: {grown} KiB more for an answer of {} KiB ({result})", want.0 >> 10);
        assert_eq!(result.starts_with("status=hit"), turn == "hit", "{result}");
    }
}

/// The same, packed for who asks for it, in a size that a build without optimisation can pack.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_answer_is_packed_on_its_way() {
    let downstream = server(60_000).await;
    let promfront = Promfront::before(&downstream);
    let path = "/api/v1/series?match[]=up&start=1707264000&end=1707350400";
    let (want, _, _) = ask(&format!("{downstream}{path}"), "identity").await;
    for turn in 0..2 {
        for accept in ["gzip", "identity", "zstd, gzip"] {
            let (got, result, packed) = ask(&format!("{}{path}", promfront.url), accept).await;
            assert_eq!(got, want, "{accept}: {result}");
            assert_eq!(packed, if accept.contains("gzip") { "gzip" } else { "" }, "{accept}: {result}");
            assert_eq!(result.starts_with("status=hit"), turn > 0 || accept != "gzip", "{accept}: {result}");
        }
    }
}
