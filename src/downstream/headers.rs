//! Which headers travel, and which stay on their hop.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::model::time::Timestamp;
use crate::wire::hop::HOP_BY_HOP;

/// Headers of the client's request that do not fit a part of it: they speak of its own body, its
/// own cached copy, or the page that it is from.
const NOT_FOR_PARTS: [HeaderName; 12] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::ACCEPT_ENCODING,
    header::EXPECT,
    header::ORIGIN,
    header::RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
];

/// What the server's clock said.
pub fn date(headers: &HeaderMap) -> Option<Timestamp> {
    Timestamp::parse_http_date(headers.get(header::DATE)?.to_str().ok()?)
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

/// What is passed on whichever headers are named: how the body is to be read, and what is understood as an answer.
const ALWAYS_FORWARDED: [HeaderName; 4] =
    [header::ACCEPT, header::ACCEPT_ENCODING, header::CONTENT_ENCODING, header::CONTENT_TYPE];

/// Which of a client's headers are passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Forwarding {
    /// All that travel from end to end.
    All,
    /// Of those, these.
    Named(Vec<HeaderName>),
}

impl Forwarding {
    /// Reads names of headers, of which `*` stands for all.
    pub(super) fn parse(names: &[String]) -> Result<Self, String> {
        let mut list = ALWAYS_FORWARDED.to_vec();
        for name in names.iter().filter(|name| *name != "*") {
            let wrong = |_| format!("{name:?} is no name of a header; write X-Grafana-User, for example, or * for all");
            list.push(name.parse().map_err(wrong)?);
        }
        Ok(if names.iter().any(|name| name == "*") { Self::All } else { Self::Named(list) })
    }

    /// The headers as they are passed on, without `Host`.
    pub(super) fn apply(&self, headers: &HeaderMap) -> HeaderMap {
        let is_passed = |name: &HeaderName| match self {
            Self::All => true,
            Self::Named(names) => names.contains(name),
        };
        let passed = end_to_end(headers).filter(|(name, _)| **name != header::HOST && is_passed(name));
        passed.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// A request's headers as they are passed on: `Host` becomes the downstream's own.
pub(super) fn forwarded(headers: &HeaderMap) -> HeaderMap {
    end_to_end(headers)
        .filter(|(name, _)| **name != header::HOST)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(names: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("accept", "a"),
            ("authorization", "b"),
            ("connection", "x-hop"),
            ("content-encoding", "c"),
            ("content-type", "d"),
            ("host", "e"),
            ("x-hop", "f"),
            ("x-user", "g"),
            ("x-user", "h"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let passed = Forwarding::parse(&names).expect("names of headers").apply(&headers);
        let mut passed: Vec<_> =
            passed.iter().map(|(name, value)| format!("{name}={}", value.to_str().expect("it is ASCII"))).collect();
        passed.sort();
        passed
    }

    #[test]
    fn only_what_is_named_is_passed_on() {
        let always = ["accept=a", "content-encoding=c", "content-type=d"];
        assert_eq!(passed(&[]), always);
        assert_eq!(passed(&["X-USER", "x-hop", "Host"]), [&always[..], &["x-user=g", "x-user=h"]].concat());
        let all = ["accept=a", "authorization=b", "content-encoding=c", "content-type=d", "x-user=g", "x-user=h"];
        assert_eq!(passed(&["*"]), all);
        assert_eq!(passed(&["accept", "*"]), all);
        let problem = Forwarding::parse(&["x user".to_owned()]).expect_err("no name");
        assert!(problem.contains("\"x user\" is no name of a header"), "{problem}");
    }
}
