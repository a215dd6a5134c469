//! A server, promfront before it, and what is asked of both: unpacked, packed, and packed once more.

use axum::body::Body;
use http::Request;

use crate::shelf::Shelf;
use crate::support::gzip::one_member;
use crate::support::{Answer, Http, Promfront, range_params};

/// Answers from this length on are packed for who asks for it.
pub const PACKED_FROM: usize = 1024;

/// How an answer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// Packed.
    Gzip,
}

impl Coding {
    /// One and the other, in turn.
    pub fn of(number: usize) -> Self {
        [Self::Gzip, Self::Identity][number % 2]
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Identity => Self::Gzip,
            Self::Gzip => Self::Identity,
        }
    }

    /// As it stands in the request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
        }
    }
}

/// A query on a row of instants, of which each window takes some.
#[derive(Clone, Debug)]
pub struct Row {
    /// The query.
    pub query: String,
    /// Where number 0 lies.
    pub start_ms: i64,
    /// From one to the next.
    pub step_ms: i64,
}

impl Row {
    /// From one number to another, both included.
    pub fn params(&self, first: i64, last: i64) -> String {
        let at = |number: i64| seconds(self.start_ms + number * self.step_ms);
        range_params(&self.query, &at(first), &at(last), &seconds(self.step_ms))
    }
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// Both sides.
#[derive(Debug)]
pub struct Rig {
    http: Http,
    server: String,
    /// The one that is judged.
    pub promfront: Promfront,
    /// What it packed so far.
    pub shelf: Shelf,
}

impl Rig {
    /// Before a server, with the defaults.
    pub fn before(server: &str) -> Self {
        Self::of(server, Promfront::before(server))
    }

    /// With a promfront that is there.
    pub fn of(server: &str, promfront: Promfront) -> Self {
        Self { http: Http::new(), server: server.to_owned(), promfront, shelf: Shelf::new() }
    }

    /// The server's own answer.
    pub async fn direct(&self, params: &str) -> Answer {
        let answer = self.http.get(&format!("{}/api/v1/query_range?{params}", self.server)).await;
        assert_eq!(answer.status, 200, "{params}: {}", answer.text());
        answer
    }

    /// promfront's.
    pub async fn through(&self, params: &str, coding: Coding) -> Answer {
        let request = Request::get(self.url(params)).header("accept-encoding", coding.as_str());
        self.http.send(request.body(Body::empty()).expect("a sound request")).await
    }

    /// Where promfront is asked for it.
    pub fn url(&self, params: &str) -> String {
        format!("{}/api/v1/query_range?{params}", self.promfront.url)
    }

    /// Asks for it as nobody did before, which has to come about as `status` says, then in the other way, then packed, which has to
    /// come out of the cache. All are what the server says.
    pub async fn same(&self, params: &str, status: &str, first: Coding) -> usize {
        let want = self.direct(params).await;
        for (coding, status) in [(first, status), (first.other(), "hit"), (Coding::Gzip, "hit")] {
            let got = self.through(params, coding).await;
            assert!(is(&got, status), "{params} {coding:?}: not a {status}: {}", got.result());
            self.judge(params, coding, &got, &want.body);
        }
        want.body.len()
    }

    /// One answer beside what it has to be.
    pub fn judge(&self, params: &str, coding: Coding, got: &Answer, want: &[u8]) {
        let about = || format!("{params} {coding:?} ({})", got.result());
        assert_eq!(got.status, 200, "{}: {}", about(), got.text());
        assert_eq!(got.header("content-type"), "application/json", "{}", about());
        let packing = if coding == Coding::Gzip && want.len() >= PACKED_FROM { "gzip" } else { "" };
        assert_eq!(got.header("content-encoding"), packing, "{}: {} bytes", about(), want.len());
        let varies = got.header("vary").eq_ignore_ascii_case("accept-encoding");
        assert_eq!(varies, want.len() >= PACKED_FROM, "{}: Vary is {:?}", about(), got.header("vary"));
        if packing.is_empty() {
            alike(&about(), &got.body, want);
        } else {
            let plain = one_member(&got.body).unwrap_or_else(|problem| panic!("{}: {problem}", about()));
            alike(&about(), &plain, want);
            self.shelf.put(&got.body, want);
        }
    }

    /// Has the other decoders read all that was packed, and looks for troubles that promfront told only its log.
    pub fn finish(&self) {
        self.shelf.is_read_by_all();
        let said = self.promfront.log().into_iter().find(|line| line.contains("level=ERROR"));
        assert_eq!(said, None, "promfront logs an error");
    }
}

/// Whether promfront says that it came about so.
pub fn is(answer: &Answer, status: &str) -> bool {
    answer.result().split(';').next() == Some(&format!("status={status}"))
}

/// Both are the same, or it is shown where they begin to differ.
pub fn alike(about: &str, got: &[u8], want: &[u8]) {
    if got == want {
        return;
    }
    let at = got.iter().zip(want).position(|(a, b)| a != b).unwrap_or(got.len().min(want.len()));
    let [got_there, want_there] = [got, want]
        .map(|all| String::from_utf8_lossy(&all[at.saturating_sub(80)..all.len().min(at + 80)]).into_owned());
    panic!("{about}: {} bytes instead of {}, from {at} on:\n{got_there}\n{want_there}", got.len(), want.len());
}
