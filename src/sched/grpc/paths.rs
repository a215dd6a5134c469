//! Which paths a querier is asked for.
//!
//! A stream reaches all of a querier's HTTP server, its administration too, and carries no credential. So only the query API
//! passes, and nothing that a server could read as another path. The client's prefix ends at `/api/v1/`; the querier's own
//! stands before it instead. What follows is kept as it was written.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::api::{self, Endpoint};

/// The body of the answer to all other paths.
pub const NOT_OF_QUERY_API: &str =
    r#"{"status":"error","errorType":"not_found","error":"queriers answer the query API alone"}"#;

/// The path from `/api/v1/` on, if a querier may be asked for it.
pub fn of_query_api<'p>(method: &Method, path: &'p str) -> Option<&'p str> {
    Endpoint::queued(method, path)?;
    api::own_path(path).filter(|path| path.split('/').all(is_plain))
}

/// The URL on a querier's side.
pub fn url(prefix: &str, method: &Method, path: &str, query: &str) -> Option<String> {
    let path = of_query_api(method, path)?;
    let prefix = prefix.trim_end_matches('/');
    Some(if query.is_empty() { format!("{prefix}{path}") } else { format!("{prefix}{path}?{query}") })
}

/// Whether a step of a path is one step, however it is read.
fn is_plain(step: &str) -> bool {
    let decoded: Vec<u8> = percent_decode_str(step).collect();
    let is_one_step =
        !matches!(decoded.as_slice(), b"." | b"..") && !decoded.contains(&b'/') && !decoded.contains(&b'\\');
    is_one_step && step.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_api_passes_behind_the_queriers_prefix() {
        for (path, query, want) in [
            ("/api/v1/query", "", "/prometheus/api/v1/query"),
            ("/any/prefix/api/v1/query_range", "query=a%2Bb+c", "/prometheus/api/v1/query_range?query=a%2Bb+c"),
            ("/api/v1/api/v1/labels", "", "/prometheus/api/v1/labels"),
            ("/api/v1/label/job/values", "match[]=up", "/prometheus/api/v1/label/job/values?match[]=up"),
            ("/api/v1/label/U__a_2e_b%C3%BC/values", "", "/prometheus/api/v1/label/U__a_2e_b%C3%BC/values"),
            ("/api/v1/status/buildinfo", "", "/prometheus/api/v1/status/buildinfo"),
        ] {
            assert_eq!(url("/prometheus", &Method::GET, path, query).as_deref(), Some(want));
        }
        assert_eq!(url("", &Method::POST, "/x/api/v1/series", "").as_deref(), Some("/api/v1/series"));
        assert_eq!(url("/p/", &Method::POST, "/x/api/v1/read", "").as_deref(), Some("/p/api/v1/read"));
    }

    #[test]
    fn nothing_else_does() {
        for path in [
            "",
            "/",
            "/ready",
            "/api/v1/",
            "/api/v1/query/",
            "/api/v1/queryx",
            "/api/v1/query/../../../debug/pprof",
            "/api/v1/../../shutdown",
            "/api/v1/admin/tsdb/delete_series",
            "/api/v1/status/config",
            "/api/v1/label//values",
            "/api/v1/label/../values",
            "/api/v1/label/%2e%2E/values",
            "/api/v1/label/a/b/values",
            "/api/v1/label/a%2fb/values",
            "/api/v1/label/a%5Cb/values",
            "/api/v1/label/a?b/values",
            "/api/v1/label/a#b/values",
            "/api/v1/label/a\r\nb/values",
            "/api/v1/label/values",
            "/API/V1/query",
            "/api/v1/query%2f..%2fx",
        ] {
            assert_eq!(of_query_api(&Method::GET, path), None, "{path}");
        }
        assert_eq!(of_query_api(&Method::DELETE, "/api/v1/series"), None);
    }
}
