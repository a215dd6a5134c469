//! A range query as promfront understands it, the context in which it is answered, and a request as it is sent downstream.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method};

use crate::model::grid::StepGrid;
use crate::model::params::Params;
use crate::model::tenant::TenantId;
use crate::model::time::Timestamp;
use crate::promql::Facts;

/// How a client takes an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// As gzip.
    Packed,
    /// As text, and while it comes.
    WhileItComes,
    /// As text, when all of it is there: in HTTP/1.0 a body that breaks off looks whole.
    Whole,
}

/// The parameters of `query_range` that promfront itself reads; all others only travel.
#[derive(Clone, Debug)]
pub struct RangeQuery {
    /// Everything the client sent.
    pub params: Params,
    /// The instants that are asked for: the client's, less those that lie too far back for him.
    pub grid: StepGrid,
    /// The start as the client gave it, which `@ start()` stands for; the first instant may lie after it.
    pub start: Timestamp,
    /// The end as the client gave it, which `@ end()` stands for; the last instant may lie before it.
    pub end: Timestamp,
    /// At most this many series in the answer.
    pub limit: Option<u64>,
    /// Whether it asks for statistics.
    pub wants_stats: bool,
    /// How long it is willing to wait in all.
    pub timeout: Option<Duration>,
}

impl RangeQuery {
    /// Whether it asks for one instant, which servers evaluate by rules of its own: in another order, with other
    /// annotations.
    pub fn is_one_instant(&self) -> bool {
        self.grid.start() == self.end
    }

    /// The `end` of a part. One of a single instant ends a millisecond later, before the next, so that the server takes it for
    /// a part of a range.
    pub fn end_of_part(&self, part: &StepGrid) -> Timestamp {
        if part.len() == 1 && !self.is_one_instant() { Timestamp::from_ms(part.start().ms() + 1) } else { part.last() }
    }

    /// The PromQL text, as the client wrote it.
    pub fn text(&self) -> &str {
        self.params.get("query")
    }
}

/// A range query whose text was read and that may be cut: what the stages below the door work on.
#[derive(Debug)]
pub struct PlannedQuery {
    /// What was asked.
    pub query: RangeQuery,
    /// What its text says about itself.
    pub facts: std::sync::Arc<Facts>,
    /// The text that goes downstream: the client's, with `@ start()` and `@ end()` pinned to the client's range.
    pub pinned: String,
}

/// In which circumstances a request is answered.
#[derive(Clone, Debug)]
pub struct Context {
    /// Whose request it is.
    pub tenant: TenantId,
    /// The one reading of the wall clock by which it is judged (invariant *one now*).
    pub now: Timestamp,
    /// When its answer stops being of use.
    pub deadline: Instant,
    /// Who asks.
    pub caller: Caller,
}

/// Who asks, as far as it decides in which turn he is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// A dashboard, a rule or a user: a hash of what he says about himself, so that those of one tenant take turns.
    pub source: u64,
    /// Whether somebody is woken by what comes of it.
    pub is_alert: bool,
}

/// A request as it is sent downstream: all of it, so that it can be sent again.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its method.
    pub method: Method,
    /// The client's path, as it was written; the server's own prefix comes before it.
    pub path: String,
    /// What follows the question mark; empty if there is none.
    pub query: String,
    /// The headers that travel from end to end, without `Host` and `Content-Length`.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Outgoing {
    /// The client's request, with these headers and this body.
    pub fn of(head: &Parts, headers: HeaderMap, body: Bytes) -> Self {
        let query = head.uri.query().unwrap_or_default().to_owned();
        Self { method: head.method.clone(), path: head.uri.path().to_owned(), query, headers, body }
    }
}
