//! Which pages of other origins a browser lets read our answers: Prometheus's own headers, by Prometheus's own flag.
//!
//! What the server behind says about it is not handed on: the page talks to promfront, so it is promfront's operator who decides.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use regex::Regex;

use super::reply::names_header;
use crate::model::pattern;

/// What a server may have said.
const SPOKEN: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

/// Everybody.
const ANY: &str = ".*";

/// The origins that may read.
#[derive(Clone, Debug)]
pub struct Cors {
    origins: Regex,
    is_any: bool,
}

impl Cors {
    /// Reads the flag: a regular expression for whole origins.
    pub fn parse(origins: &str) -> Result<Self, String> {
        let regex = pattern::whole(origins).map_err(|problem| format!("--web.cors.origin: {problem}"))?;
        Ok(Self { origins: regex, is_any: origins == ANY })
    }

    /// Puts our own words in the place of the server's. `origin`: where the page is from, if the request says it.
    pub(super) fn apply(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        for name in SPOKEN {
            headers.remove(&name);
        }
        let Some(origin) = origin.filter(|origin| !origin.is_empty()) else { return };
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin"),
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let varies_already = headers.get_all(header::VARY).iter().any(|value| names_header(value, "origin"));
        if !varies_already {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        if self.is_any {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else if origin.to_str().is_ok_and(|origin| self.origins.is_match(origin)) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
    }
}

impl Default for Cors {
    fn default() -> Self {
        Self::parse(ANY).expect("it is a regular expression")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origins: &str, origin: &'static str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("http://theirs"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        let cors = Cors::parse(origins).expect("a regular expression");
        cors.apply(Some(&HeaderValue::from_static(origin)), &mut headers);
        assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS), "the server's word is not ours");
        let allowed = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN)?;
        assert_eq!(headers[header::VARY], "Origin");
        Some(allowed.to_str().expect("it is ASCII").to_owned())
    }

    #[test]
    fn origins_are_allowed_as_prometheus_allows_them() {
        assert_eq!(allowed(".*", "http://a").as_deref(), Some("*"));
        assert_eq!(allowed("https?://a|https://b", "http://a").as_deref(), Some("http://a"));
        assert_eq!(allowed("https?://a|https://b", "http://a.evil"), None);
        assert_eq!(allowed("https?://a", ""), None, "no origin, nothing to say");
        assert!(Cors::parse("(").expect_err("no expression").contains("--web.cors.origin"));
    }
}
