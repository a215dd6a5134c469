//! Which answers are worth another try elsewhere: those by which a server says that it cannot answer now, whatever it is asked.
//!
//! That is 502, 503 and 504, unless the body says that it was the query that took too long or too much: it would again, and the
//! try would cost as much. Prometheus says so with 503 and `"errorType":"timeout"`. And it is whatever says that the query was
//! canceled (Cortex: 499), for it was not we who did that: a server that stops does.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::GzDecoder;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use serde::Deserialize;

/// A body is read so far to be judged.
pub(super) const MOST_JUDGED: u64 = 64 << 10;
/// Words of messages that are about the query, in lower case.
const ABOUT_THE_QUERY: [&[u8]; 6] = [b"timeout", b"timed out", b"deadline", b"exhausted", b"limit", b"too many"];

/// Whether an answer with this code may be worth another try.
pub(super) fn may_be_declined(status: StatusCode) -> bool {
    matches!(status.as_u16(), 499 | 502..=504)
}

/// Whether the server did not answer the question, going by the body that such an answer has. One that cannot be read is taken for
/// an answer: to try again what took too long costs as much again.
pub(super) fn is_declined(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> bool {
    may_be_declined(status) && readable(headers, body).is_some_and(|text| is_about_the_server(&text))
}

/// A body as text, as far as it is judged.
fn readable<'b>(headers: &HeaderMap, body: &'b [u8]) -> Option<Cow<'b, [u8]>> {
    let mut text = Vec::new();
    match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"" | b"identity") => return Some(Cow::Borrowed(body)),
        Some(b"gzip") => GzDecoder::new(body).take(MOST_JUDGED).read_to_end(&mut text).ok()?,
        Some(b"zstd") => zstd::Decoder::new(body).ok()?.take(MOST_JUDGED).read_to_end(&mut text).ok()?,
        Some(_) => return None,
    };
    Some(Cow::Owned(text))
}

fn is_about_the_server(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Error<'b> {
        #[serde(rename = "errorType")]
        kind: &'b str,
    }
    match serde_json::from_slice::<Error<'_>>(body) {
        Ok(Error { kind: "timeout" | "execution" | "bad_data" | "too_many_requests" }) => return false,
        Ok(Error { kind: "unavailable" | "internal" | "canceled" }) => return true,
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
    use std::io::Write;

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
            (503, error("canceled", "query was canceled"), true),
            (499, error("canceled", "query was canceled in expression evaluation"), true),
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
            let text = body.as_bytes();
            assert_eq!(is_declined(status, &HeaderMap::new(), text), declined, "{code} {body}");
            for (encoding, packed) in [("gzip", gzip(text)), ("zstd", zstd::encode_all(text, 1).expect("in memory"))] {
                let headers = encoded(encoding);
                assert_eq!(is_declined(status, &headers, &packed), declined, "{code} {body} in {encoding}");
                let is_cut = is_declined(status, &headers, &packed[..packed.len() / 2]);
                assert!(!is_cut, "{code} {body} in {encoding}, cut: nothing is known of it");
            }
        }
        assert!(!is_declined(StatusCode::BAD_GATEWAY, &encoded("snappy"), b"whatever"));
    }

    fn encoded(encoding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(encoding))])
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).expect("in memory");
        encoder.finish().expect("in memory")
    }
}
