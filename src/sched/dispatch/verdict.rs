//! Which answers are worth another try elsewhere: those by which a server says that it cannot answer now, whatever it is asked.
//!
//! That is 502, 503 and 504, unless the body says that it was the query that took too long or too much: it would again, and the
//! try would cost as much. Prometheus says so with 503 and `"errorType":"timeout"`.

use http::StatusCode;
use serde::Deserialize;

/// Words of messages that are about the query, in lower case.
const ABOUT_THE_QUERY: [&[u8]; 6] = [b"timeout", b"timed out", b"deadline", b"exhausted", b"limit", b"too many"];

/// Whether an answer with this code may be worth another try.
pub(super) fn may_be_declined(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// Whether the server did not answer the question, going by the body that such an answer has.
pub(super) fn is_declined(status: StatusCode, body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Error<'b> {
        #[serde(rename = "errorType")]
        kind: &'b str,
    }
    if !may_be_declined(status) {
        return false;
    }
    match serde_json::from_slice::<Error<'_>>(body) {
        Ok(Error { kind: "timeout" | "canceled" | "execution" | "bad_data" | "too_many_requests" }) => return false,
        Ok(Error { kind: "unavailable" | "internal" }) => return true,
        Ok(_) | Err(_) => {}
    }
    let text = body.to_ascii_lowercase();
    // A load balancer's own page says that it waited in vain: for a server that may hang, not for a query.
    let is_page = text.trim_ascii_start().starts_with(b"<");
    is_page || !ABOUT_THE_QUERY.iter().any(|word| memchr::memmem::find(&text, word).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_about_the_query_is_tried_again() {
        let error = |kind: &str, text: &str| format!(r#"{{"status":"error","errorType":"{kind}","error":"{text}"}}"#);
        for (code, body, declined) in [
            (200, String::new(), false),
            (400, error("bad_data", "parse error"), false),
            (422, error("execution", "query processing would load too many samples"), false),
            (429, "too many outstanding requests".to_owned(), false),
            (500, error("internal", "broken"), false),
            (502, "<html><h1>502 Bad Gateway</h1>nginx</html>".to_owned(), true),
            (503, error("timeout", "query timed out in expression evaluation"), false),
            (503, error("canceled", "query was canceled"), false),
            (503, error("unavailable", "TSDB not ready"), true),
            (502, error("internal", "no connection within 5s (downstream.connect_timeout)"), true),
            (503, "Service Unavailable".to_owned(), true),
            (503, String::new(), true),
            (503, "upstream request timeout".to_owned(), false),
            (504, "<html>504 Gateway Time-out</html>".to_owned(), true),
            (504, error("timeout", "context deadline exceeded"), false),
            (503, error("server_error", "pool exhausted"), false),
        ] {
            let status = StatusCode::from_u16(code).expect("a code");
            assert_eq!(is_declined(status, body.as_bytes()), declined, "{code} {body}");
        }
    }
}
