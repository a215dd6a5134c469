//! Which headers travel, and which stay on their hop.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Headers that speak of one connection only.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers of the client's request that do not fit a part of it: they speak of its own body or its own cached copy.
const NOT_FOR_PARTS: [HeaderName; 11] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::ACCEPT_ENCODING,
    header::EXPECT,
    header::RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
];

/// Whether a `Cache-Control` value has the directive `no-store` among its directives.
pub fn names_no_store(value: &str) -> bool {
    value.split(',').any(|directive| directive.trim().eq_ignore_ascii_case("no-store"))
}

/// Those of a client's headers that a part is sent with, and that may stand in a key: what `Connection` names is neither.
pub fn for_parts(headers: &HeaderMap) -> HeaderMap {
    let kept = end_to_end(headers).filter(|(name, _)| !NOT_FOR_PARTS.contains(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The headers that travel from end to end: not those of one connection, nor those that `Connection` names.
pub(super) fn end_to_end(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    headers.iter().filter(move |(name, _)| !HOP_BY_HOP.contains(name) && !named.iter().any(|n| n == name.as_str()))
}

/// A request's headers as they are passed on: `Host` becomes the downstream's own.
pub(super) fn forwarded(headers: &HeaderMap) -> HeaderMap {
    end_to_end(headers)
        .filter(|(name, _)| **name != header::HOST)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
