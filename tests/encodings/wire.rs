//! Clients that do not speak as a library would: an old one, one in a hurry, a slow one, one that leaves, and odd wishes.
//!
//! Need: how an answer is packed and how it travels meet in the connection alone. Rule: what is read is read as raw bytes, and says
//! of itself where it ends.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::rig::{Coding, Rig, Row, alike, is};
use crate::support::gzip::one_member;
use crate::support::{DATA_END, DATA_START, Prometheus};

/// An answer as it lay on the wire.
struct Reply {
    head: String,
    body: Vec<u8>,
}

impl Reply {
    /// The first of `bytes`, if all of it is there; it is taken away. `is_over`: nothing more will come.
    fn take(bytes: &mut Vec<u8>, is_over: bool) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let mut reply = Self { head: String::from_utf8(bytes[..end].to_vec()).expect("ASCII"), body: Vec::new() };
        let mut at = end;
        if let Some(length) = reply.header("content-length") {
            let length: usize = length.parse().expect("a number");
            reply.body = bytes.get(end..end + length)?.to_vec();
            at += length;
        } else if reply.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = bytes[at..].windows(2).position(|two| two == b"\r\n")?;
                let digits = str::from_utf8(&bytes[at..at + line]).expect("ASCII");
                let length = usize::from_str_radix(digits, 16).expect("a length of a chunk");
                at += line + 2;
                reply.body.extend_from_slice(bytes.get(at..at + length)?);
                assert_eq!(bytes.get(at + length..at + length + 2)?, b"\r\n", "a chunk ends");
                at += length + 2;
                if length == 0 {
                    break;
                }
            }
        } else if is_over {
            reply.body = bytes.split_off(end);
        } else {
            return None;
        }
        bytes.drain(..at);
        Some(reply)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// It came about so, is packed so, and is what it has to be.
    fn is_right(&self, about: &str, status: &str, coding: Coding, want: &[u8]) {
        assert!(self.head.lines().next().is_some_and(|line| line.contains(" 200 ")), "{about}: {}", self.head);
        let result = self.header("x-promfront-result").unwrap_or_default();
        assert!(result.starts_with(&format!("status={status}")), "{about}: {result}");
        match coding {
            Coding::Identity => {
                assert_eq!(self.header("content-encoding"), None, "{about}");
                alike(about, &self.body, want);
            }
            Coding::Gzip => {
                assert_eq!(self.header("content-encoding"), Some("gzip"), "{about}");
                alike(about, &one_member(&self.body).unwrap_or_else(|problem| panic!("{about}: {problem}")), want);
            }
        }
    }
}

fn address(rig: &Rig) -> std::net::SocketAddr {
    rig.promfront.url.strip_prefix("http://").and_then(|address| address.parse().ok()).expect("an address")
}

async fn connected(rig: &Rig) -> TcpStream {
    TcpStream::connect(address(rig)).await.expect("it listens")
}

/// `GET`, with whatever headers.
fn request(params: &str, version: &str, headers: &str) -> String {
    format!("GET /api/v1/query_range?{params} HTTP/{version}\r\nHost: promfront\r\n{headers}\r\n")
}

fn wish(coding: Coding) -> String {
    format!("Accept-Encoding: {}\r\n", coding.as_str())
}

fn row(query: &str) -> Row {
    Row { query: query.to_owned(), start_ms: DATA_START * 1000 + 7, step_ms: 61_000 }
}

/// It knows no chunks: the end of the connection, or a length, ends the answer.
#[tokio::test]
async fn a_client_of_http_1_0_gets_one_whole_answer() {
    let prometheus = Prometheus::with_test_data().await;
    let rig = Rig::before(&prometheus.url);
    for (query, order) in [
        ("temperature_celsius", [Coding::Gzip, Coding::Identity, Coding::Gzip]),
        ("queue_depth", [Coding::Identity, Coding::Gzip, Coding::Identity]),
    ] {
        let params = row(query).params(0, 1500);
        let want = rig.direct(&params).await;
        for (number, coding) in order.into_iter().enumerate() {
            let mut stream = connected(&rig).await;
            stream.write_all(request(&params, "1.0", &wish(coding)).as_bytes()).await.expect("it is read");
            let mut received = Vec::new();
            stream.read_to_end(&mut received).await.expect("it ends in order");
            let reply = Reply::take(&mut received, true).expect("a head");
            assert_eq!(reply.header("transfer-encoding"), None, "{}", reply.head);
            reply.is_right(query, if number == 0 { "miss" } else { "hit" }, coding, &want.body);
            assert_eq!(received.len(), 0, "nothing follows");
        }
    }
}

/// All at once on one connection, with a method among them that has no answer of its own.
#[tokio::test]
async fn requests_in_one_go_are_answered_in_their_order() {
    let prometheus = Prometheus::with_test_data().await;
    let rig = Rig::before(&prometheus.url);
    let row = row("temperature_celsius");
    let (mut sent, mut wanted) = (String::new(), Vec::new());
    for (turn, (first, last, status)) in [
        (0, 999, "miss"),
        (0, 999, "hit"),
        (40, 1200, "phit"),
        (50, 1100, "hit"),
        (-90, 1300, "phit"),
        (-90, 1300, "hit"),
    ]
    .into_iter()
    .enumerate()
    {
        let params = row.params(first, last);
        let coding = Coding::of(turn / 2 + turn);
        sent += &request(&params, "1.1", &wish(coding));
        wanted.push((status, coding, rig.direct(&params).await.body));
    }
    let head = request(&row.params(0, 9), "1.1", &wish(Coding::Gzip)).replacen("GET", "HEAD", 1);
    sent += &(head + &request("query=up", "1.1", "Connection: close\r\n"));
    let mut stream = connected(&rig).await;
    stream.write_all(sent.as_bytes()).await.expect("it is read");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.expect("it ends in order");
    for (number, (status, coding, want)) in wanted.iter().enumerate() {
        let reply = Reply::take(&mut received, false).expect("a whole answer");
        reply.is_right(&format!("number {number}"), status, *coding, want);
    }
    // To HEAD there is a head only, so the last answer follows it at once.
    let text = String::from_utf8(received).expect("text");
    let (head, last) = text.split_once("\r\n\r\n").expect("the end of a head");
    assert!(head.starts_with("HTTP/1.1 405 ") && head.to_ascii_lowercase().contains("content-length: 19"), "{head}");
    assert!(last.starts_with("HTTP/1.1 400 ") && last.contains("invalid parameter"), "{last}");
}

/// Three megabytes in small pieces, while others add to the extents that the answer is made of.
#[tokio::test]
async fn who_reads_slowly_gets_what_was_there_when_he_asked() {
    let prometheus = Prometheus::with_test_data().await;
    let rig = Rig::before(&prometheus.url);
    let long = Row { query: "{job=\"api\"}".to_owned(), start_ms: (DATA_END - 600_000) * 1000, step_ms: 120_000 };
    let params = long.params(100, 4600);
    for coding in [Coding::Gzip, Coding::Identity] {
        let want = rig.direct(&params).await.body;
        rig.through(&params, coding).await;
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small one");
        let mut stream = socket.connect(address(&rig)).await.expect("it listens");
        let headers = format!("{}Connection: close\r\n", wish(coding));
        stream.write_all(request(&params, "1.1", &headers).as_bytes()).await.expect("it is read");
        let (mut received, mut piece, mut refreshes) = (Vec::new(), vec![0; 8192], 0);
        loop {
            let length = stream.read(&mut piece).await.expect("it ends in order");
            if length == 0 {
                break;
            }
            let before = received.len() / 400_000;
            received.extend_from_slice(&piece[..length]);
            if received.len() / 400_000 > before && refreshes < 6 {
                refreshes += 1;
                let more = long.params(100 - refreshes * 5, 4600 + refreshes * 5);
                assert!(rig.through(&more, coding.other()).await.status.is_success());
            }
        }
        assert!(refreshes > 1, "{coding:?}: {refreshes} others asked meanwhile");
        let reply = Reply::take(&mut received, true).expect("a whole answer");
        reply.is_right("slowly", "hit", coding, &want);
    }
}

/// After nothing, after the head, and after more and more of the body; hits and misses.
#[tokio::test]
async fn who_leaves_in_the_middle_harms_nobody() {
    let prometheus = Prometheus::with_test_data().await;
    let mut rig = Rig::before(&prometheus.url);
    let row = row("http_requests_total");
    let (whole, wider) = (row.params(0, 4000), row.params(0, 6000));
    for turn in 0..24 {
        let coding = Coding::of(turn);
        let mut stream = connected(&rig).await;
        let params = if turn < 12 { &whole } else { &wider };
        stream.write_all(request(params, "1.1", &wish(coding)).as_bytes()).await.expect("it is read");
        let mut some = vec![0; [0, 1, 300, 2_000, 60_000, 200_000][turn / 2 % 6]];
        stream.read_exact(&mut some).await.expect("there is more than that");
    }
    assert!(rig.promfront.process().is_running());
    for params in [&whole, &wider] {
        let want = rig.direct(params).await.body;
        for coding in [Coding::Gzip, Coding::Identity] {
            rig.judge(params, coding, &rig.through(params, coding).await, &want);
        }
        assert!(is(&rig.through(params, Coding::Gzip).await, "hit"));
    }
    rig.finish();
}

/// What may be said in `Accept-Encoding`, and whether gzip must be, may be, or must not be the answer to it.
const WISHES: &[(&str, &[bool])] = &[
    ("", &[false]),
    ("Accept-Encoding: gzip;q=0\r\n", &[false]),
    ("Accept-Encoding: gzip; q=0.0, identity\r\n", &[false]),
    ("Accept-Encoding: deflate, gzip;q=0, br\r\n", &[false]),
    ("Accept-Encoding: x-gzipped, gzipx\r\n", &[false]),
    ("Accept-Encoding: *;q=0, identity\r\n", &[false]),
    ("Accept-Encoding: *\r\n", &[false, true]),
    ("Accept-Encoding: GZIP\r\n", &[false, true]),
    ("Accept-Encoding: gzip;q=1.0\r\n", &[false, true]),
    ("Accept-Encoding: identity;q=0.5, gzip;q=0.9\r\n", &[false, true]),
    ("Accept-Encoding: gzip, gzip\r\n", &[true]),
    ("Accept-Encoding: br ,\tgzip , zstd\r\n", &[true]),
    ("Accept-Encoding: zstd\r\nAccept-Encoding: gzip\r\n", &[true]),
    ("Accept-Encoding: gzip\r\nTE: gzip\r\n", &[true]),
    ("Accept-Encoding: gzip\r\nRange: bytes=0-99\r\n", &[true]),
];

#[tokio::test]
async fn odd_wishes_are_met_with_what_can_be_read() {
    let prometheus = Prometheus::with_test_data().await;
    let rig = Rig::before(&prometheus.url);
    let params = row("temperature_celsius").params(0, 500);
    let want = rig.direct(&params).await.body;
    assert!(is(&rig.through(&params, Coding::Identity).await, "miss"));
    for (headers, may_be_packed) in WISHES {
        let mut stream = connected(&rig).await;
        let sent = request(&params, "1.1", &format!("{headers}Connection: close\r\n"));
        stream.write_all(sent.as_bytes()).await.expect("it is read");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.expect("it ends in order");
        let reply = Reply::take(&mut received, true).expect("a whole answer");
        let coding = if reply.header("content-encoding").is_some() { Coding::Gzip } else { Coding::Identity };
        assert!(may_be_packed.contains(&(coding == Coding::Gzip)), "{headers:?}: {}", reply.head);
        reply.is_right(headers, "hit", coding, &want);
    }
}
