//! The endpoints of the Prometheus HTTP API, and what promfront does with each: the one table.
//!
//! Three questions have their answer here: what is kept of an endpoint's answers, who answers it (queriers that pull from the queue,
//! or a server of ours past it), and with which methods the server behind knows it. Prometheus takes `POST` for the long questions
//! only; clients that always post (Grafana's suggestions) are helped over that. What is not in the table passes as it is.

use http::Method;
use percent_encoding::percent_decode_str;

/// An endpoint, by what is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `query_range`: cut, kept in extents, merged.
    Range,
    /// `query`: kept whole where nothing that it reads can change any more.
    Instant,
    /// `query_exemplars`: asked once, however many wait.
    Exemplars,
    /// `series`, `labels`, `label/<name>/values`: kept whole where the range of time is over.
    Listing,
    /// `metadata`, `format_query`, `parse_query`, `status/buildinfo`: asked once, however many wait.
    Fact,
    /// Rules, alerts, targets, the server's own state: asked once, past the queue.
    State,
    /// `read`: handed on as it comes.
    RemoteRead,
    /// Answers without an end, or in lines: handed on as they come, past the queue.
    Stream,
    /// What changes the data: refused unless it is allowed.
    Write,
    /// What administers the server: refused unless it is allowed.
    Admin,
    /// Something that promfront has not heard of: handed on as it comes, past the queue.
    Unknown,
}

impl Endpoint {
    /// The endpoint of a path, whatever prefix that has; `None` if the path is none of the API.
    pub fn of(path: &str) -> Option<Self> {
        let cleaned = cleaned(path);
        let is_datadog = cleaned.contains("/datadog/api/v1/");
        let as_cleaned = name(&cleaned).map(|name| if is_datadog { Self::Write } else { Self::of_name(name) });
        let as_written = name(path).map(Self::of_name);
        match (as_written, as_cleaned) {
            (_, Some(refused @ (Self::Write | Self::Admin))) => Some(refused),
            (None | Some(Self::Unknown), as_cleaned) => as_cleaned.or(as_written),
            (as_written, _) => as_written,
        }
    }

    fn of_name(name: &str) -> Self {
        match name {
            "query_range" => Self::Range,
            "query" => Self::Instant,
            "query_exemplars" => Self::Exemplars,
            "series" | "labels" => Self::Listing,
            "metadata" | "format_query" | "parse_query" | "status/buildinfo" => Self::Fact,
            "rules" | "alerts" | "alertmanagers" | "features" | "notifications" => Self::State,
            "targets" | "targets/metadata" | "targets/relabel_steps" | "scrape_pools" | "scrape_pools/config" => {
                Self::State
            }
            "read" => Self::RemoteRead,
            "notifications/live" => Self::Stream,
            "write" | "push" | "import" | "receive" => Self::Write,
            other => Self::of_many(other),
        }
    }

    /// The endpoints with a name in their path.
    fn of_many(name: &str) -> Self {
        let (first, rest) = name.split_once('/').unwrap_or((name, ""));
        match first {
            "label" if is_label_values(rest) => Self::Listing,
            "status" => Self::State,
            "search" => Self::Stream,
            "otlp" | "import" => Self::Write,
            "admin" => Self::Admin,
            _ => Self::Unknown,
        }
    }

    /// What of the query API a request asks that can be given to queriers: its path is written plainly.
    pub fn queued(method: &Method, path: &str) -> Option<Self> {
        let is_read = matches!(*method, Method::GET | Method::POST);
        name(path).map(Self::of_name).filter(|endpoint| is_read && endpoint.waits_in_queue())
    }

    /// Whether queriers answer it.
    pub fn waits_in_queue(self) -> bool {
        match self {
            Self::Range | Self::Instant | Self::Exemplars | Self::Listing | Self::Fact | Self::RemoteRead => true,
            Self::State | Self::Stream | Self::Write | Self::Admin | Self::Unknown => false,
        }
    }

    /// As it stands in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Range => "query_range",
            Self::Instant => "query",
            Self::Exemplars => "query_exemplars",
            Self::Listing => "listing",
            Self::Fact => "fact",
            Self::State => "state",
            Self::RemoteRead => "read",
            Self::Stream => "stream",
            Self::Write => "write",
            Self::Admin => "admin",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether the server behind answers `GET` only, so that a `POST` has to become one.
pub fn is_get_only(path: &str) -> bool {
    match Endpoint::of(path) {
        Some(Endpoint::State) => true,
        Some(Endpoint::Listing) => name(path).is_some_and(|name| name.starts_with("label/")),
        Some(Endpoint::Fact) => name(path).is_some_and(|name| matches!(name, "metadata" | "status/buildinfo")),
        _ => false,
    }
}

/// What of a path is the server's own: from its last `/api/v1/` on.
pub fn own_path(path: &str) -> Option<&str> {
    path.rfind("/api/v1/").map(|at| &path[at..])
}

fn name(path: &str) -> Option<&str> {
    own_path(path)?.strip_prefix("/api/v1/")
}

/// Whether a path is one of those that end a server or have it read its configuration, whatever stands before.
pub fn is_lifecycle(path: &str) -> bool {
    let path = cleaned(path);
    path.ends_with("/-/quit") || path.ends_with("/-/reload")
}

/// A path as a server may read it that decodes and tidies paths: what is asked or refused is so however it is written.
fn cleaned(path: &str) -> String {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let mut steps: Vec<&str> = Vec::new();
    for step in decoded.split('/') {
        match step {
            "" | "." => {}
            ".." => drop(steps.pop()),
            step => steps.push(step),
        }
    }
    format!("/{}", steps.join("/"))
}

/// `<name>/values`, of what follows `label/`.
fn is_label_values(rest: &str) -> bool {
    rest.strip_suffix("/values").is_some_and(|label| !label.is_empty() && !label.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_decided() {
        for (path, endpoint, get_only) in [
            ("/api/v1/query_range", Some(Endpoint::Range), false),
            ("/prometheus/api/v1/query", Some(Endpoint::Instant), false),
            ("/api/v1/query_exemplars", Some(Endpoint::Exemplars), false),
            ("/api/v1/series", Some(Endpoint::Listing), false),
            ("/api/v1/labels", Some(Endpoint::Listing), false),
            ("/api/v1/label/job/values", Some(Endpoint::Listing), true),
            ("/api/v1/label/U__a_2e_b/values", Some(Endpoint::Listing), true),
            ("/api/v1/label//values", Some(Endpoint::Unknown), false),
            ("/api/v1/label/a/b/values", Some(Endpoint::Unknown), false),
            ("/api/v1/metadata", Some(Endpoint::Fact), true),
            ("/api/v1/format_query", Some(Endpoint::Fact), false),
            ("/api/v1/parse_query", Some(Endpoint::Fact), false),
            ("/api/v1/status/buildinfo", Some(Endpoint::Fact), true),
            ("/api/v1/status/tsdb/blocks", Some(Endpoint::State), true),
            ("/api/v1/features", Some(Endpoint::State), true),
            ("/api/v1/rules", Some(Endpoint::State), true),
            ("/api/v1/targets/metadata", Some(Endpoint::State), true),
            ("/api/v1/notifications", Some(Endpoint::State), true),
            ("/api/v1/notifications/live", Some(Endpoint::Stream), false),
            ("/api/v1/search/metric_names", Some(Endpoint::Stream), false),
            ("/api/v1/read", Some(Endpoint::RemoteRead), false),
            ("/api/v1/write", Some(Endpoint::Write), false),
            ("/api/v1/otlp/v1/metrics", Some(Endpoint::Write), false),
            ("/api/v1/admin/tsdb/snapshot", Some(Endpoint::Admin), false),
            ("/api/v1/%61dmin/tsdb/snapshot", Some(Endpoint::Admin), false),
            ("/api/v1//admin/tsdb/snapshot", Some(Endpoint::Admin), false),
            ("/api/v1/status/../admin/tsdb/snapshot", Some(Endpoint::Admin), false),
            ("/api/v1/./write", Some(Endpoint::Write), false),
            ("/api%2Fv1/write", Some(Endpoint::Write), false),
            ("/api/v1/query%5Frange", Some(Endpoint::Range), false),
            ("/api%2Fv1//query", Some(Endpoint::Instant), false),
            ("/datadog/api/v1/series", Some(Endpoint::Write), false),
            ("/api/v1/receive", Some(Endpoint::Write), false),
            ("/a/..//api/v1/admin%2Ftsdb/clean_tombstones", Some(Endpoint::Admin), false),
            ("/api/v1/newer", Some(Endpoint::Unknown), false),
            ("/graph", None, false),
            ("/federate", None, false),
        ] {
            assert_eq!(Endpoint::of(path), endpoint, "{path}");
            assert_eq!(is_get_only(path), get_only, "{path}");
        }
        assert!(is_lifecycle("/-/quit") && is_lifecycle("/a/%2D//reload") && !is_lifecycle("/-/healthy"));
        assert_eq!(Endpoint::queued(&Method::GET, "/api/v1/labels"), Some(Endpoint::Listing));
        assert_eq!(Endpoint::queued(&Method::PUT, "/api/v1/labels"), None);
        assert_eq!(Endpoint::queued(&Method::GET, "/api/v1/rules"), None);
    }
}
