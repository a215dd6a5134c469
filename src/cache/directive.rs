//! What a client says about the cache, and who goes past it unasked.
//!
//! Past the cache means: neither looked up nor kept. `no-store`, and a comment that somebody wrote into the query, also mean an
//! answer of one's own, that nobody else's question in flight is. `no-cache` is said by every browser that reloads a page: it
//! means nothing here, and never that others lose what is kept.

use http::header::{self, HeaderMap, HeaderName};

use crate::promql;
use crate::request::Caller;

/// Grafana says `X-Cache-Skip: true` when it is told not to use caches.
const CACHE_SKIP: HeaderName = HeaderName::from_static("x-cache-skip");

/// What a comment in a query says.
const COMMENT: &str = "promfront:no-cache";

/// Why a question goes past the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastCache {
    /// The client says `Cache-Control: no-store`.
    NoStore,
    /// A comment in the query says `promfront:no-cache`.
    Comment,
    /// Somebody is woken by what comes of it, and old data may let him sleep.
    Alert,
    /// The client says `X-Cache-Skip: true`.
    CacheSkip,
}

impl PastCache {
    /// The word for headers, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoStore => "no-store",
            Self::Comment => "comment",
            Self::Alert => "alert",
            Self::CacheSkip => "cache-skip",
        }
    }

    /// Whether it may be answered by what somebody else asks at this moment.
    pub const fn joins_others(self) -> bool {
        matches!(self, Self::Alert | Self::CacheSkip)
    }

    /// Why a query with these headers and this text goes past the cache, if it does; the reason that excludes most.
    pub fn of(headers: &HeaderMap, query: &str, caller: Caller, caches_alerts: bool) -> Option<Self> {
        let says_skip = || headers.get(&CACHE_SKIP).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
        if has_no_store(headers) {
            Some(Self::NoStore)
        } else if promql::comments_say(query, COMMENT) {
            Some(Self::Comment)
        } else if caller.is_alert && !caches_alerts {
            Some(Self::Alert)
        } else {
            says_skip().then_some(Self::CacheSkip)
        }
    }
}

/// Whether `Cache-Control` has the directive `no-store`: a client's, or a server's.
pub fn has_no_store(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|directive| directive.trim().eq_ignore_ascii_case("no-store"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn past(pairs: &[(&'static str, &'static str)], query: &str, is_alert: bool) -> &'static str {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let caller = Caller { is_alert, ..Caller::default() };
        PastCache::of(&headers, query, caller, false).map_or("", PastCache::as_str)
    }

    #[test]
    fn each_directive_has_its_reason() {
        for (pairs, want) in [
            (&[][..], ""),
            (&[("cache-control", "no-store")], "no-store"),
            (&[("cache-control", "max-age=0, No-Store")], "no-store"),
            (&[("cache-control", "private"), ("cache-control", "no-store")], "no-store"),
            (&[("cache-control", "no-cache")], ""),
            (&[("cache-control", "x-no-store")], ""),
            (&[("pragma", "no-cache")], ""),
            (&[("x-cache-skip", "true")], "cache-skip"),
            (&[("x-cache-skip", "TRUE")], "cache-skip"),
            (&[("x-cache-skip", "false")], ""),
            (&[("x-cache-skip", "true"), ("cache-control", "no-store")], "no-store"),
        ] {
            assert_eq!(past(pairs, "up", false), want, "{pairs:?}");
        }
        assert_eq!(past(&[("x-cache-skip", "true")], "up", true), "alert");
        let alert = Caller { is_alert: true, ..Caller::default() };
        assert_eq!(PastCache::of(&HeaderMap::new(), "up", alert, true), None);
        let joins = [PastCache::NoStore, PastCache::Comment, PastCache::Alert, PastCache::CacheSkip];
        assert_eq!(joins.map(PastCache::joins_others), [false, false, true, true]);
    }

    #[test]
    fn a_comment_counts_and_a_string_does_not() {
        for (query, want) in [
            ("up # promfront:no-cache", "comment"),
            ("# promfront:no-cache\nup", "comment"),
            ("#promfront:no-cache, please\nup", ""),
            ("## debugging: promfront:no-cache\nup", "comment"),
            ("up{a=\"# promfront:no-cache\"}", ""),
            ("up{a=`\n# promfront:no-cache\n`}", ""),
            ("up{a='#'} # x promfront:no-cache", "comment"),
            ("promfront:no-cache", ""),
            ("up # promfront:no-cache-at-all", ""),
            ("up{a=\"# promfront:no-cache", ""),
        ] {
            assert_eq!(past(&[], query, false), want, "{query}");
        }
    }
}
