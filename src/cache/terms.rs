//! How long an answer may be kept whole, and why another may not be kept at all.
//!
//! It is the rule of the range queries, for answers that cannot be cut: what reads nothing younger than the freshness window is final,
//! as far as anything is; what reads up to now is not kept, for the next answer may be another. Which instants `series` and
//! `labels` look at depends on the server's blocks, so their range is taken as it was asked, to the millisecond: there is no
//! wider range that is known to have the same answer.

use std::time::Duration;

use crate::api::Endpoint;
use crate::config;
use crate::model::params::Params;
use crate::model::time::{Timestamp, millis};
use crate::promql::{self, Facts, WholeRange};

/// The options of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What reads data younger than this is not kept.
    pub freshness: Duration,
    /// How long the answers to instant queries hold.
    pub instant_ttl: Duration,
    /// How long lists of series and labels hold.
    pub labels_ttl: Duration,
    /// How long after the end of its range a list may still change, besides.
    pub labels_freshness: Duration,
    /// What reads data younger than this …
    pub out_of_order_window: Duration,
    /// … holds no longer than this.
    pub out_of_order_ttl: Duration,
}

/// For how long an answer holds, and which time it speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Counted from its fetch.
    pub ttl: Duration,
    /// The first instant that it speaks of.
    pub from: Timestamp,
    /// The last one.
    pub to: Timestamp,
    /// The last one that it reads.
    latest: Timestamp,
}

impl Terms {
    /// The options, as configured.
    pub fn new(cache: &config::Cache) -> Self {
        Self {
            freshness: cache.freshness,
            instant_ttl: cache.whole.instant_ttl.min(cache.ttl),
            labels_ttl: cache.whole.labels_ttl.min(cache.ttl),
            labels_freshness: cache.whole.labels_freshness,
            out_of_order_window: cache.out_of_order_window,
            out_of_order_ttl: cache.out_of_order_ttl,
        }
    }

    /// How long the answer to a question holds that is asked at `now`. `facts` are those of its text, if it has one. The reason
    /// says why there is nothing to keep, in a word for headers and metrics.
    pub fn term(
        &self,
        endpoint: Endpoint,
        params: &Params,
        facts: Option<&Result<Facts, promql::Opaque>>,
        now: Timestamp,
    ) -> Result<Term, &'static str> {
        if OF_THE_MOMENT.iter().any(|name| !params.get(name).is_empty()) {
            return Err("stats");
        }
        let term = match endpoint {
            Endpoint::Instant => self.of_instant(params, facts)?,
            Endpoint::Listing => self.of_listing(params)?,
            _ => return Err("not-kept"),
        };
        if term.ttl.is_zero() { Err("off") } else { self.hold(term, now) }
    }

    /// How long an answer of this term holds that was fetched at `now`.
    pub fn hold(&self, term: Term, now: Timestamp) -> Result<Term, &'static str> {
        if term.latest >= now.before(self.freshness) {
            return Err("fresh");
        }
        let is_open = term.latest >= now.before(self.out_of_order_window);
        let ttl = if is_open { term.ttl.min(self.out_of_order_ttl) } else { term.ttl };
        Ok(Term { ttl, ..term })
    }

    fn of_instant(&self, params: &Params, facts: Option<&Result<Facts, promql::Opaque>>) -> Result<Term, &'static str> {
        if params.get("time").is_empty() {
            return Err("no-time");
        }
        let time = time(params.get("time"))?;
        let facts = match facts {
            Some(Ok(facts)) => facts,
            Some(Err(opaque)) => return Err(opaque.as_str()),
            None => return Err("not-understood"),
        };
        // Those whose reach is not known. The others speak of ranges, and this is one instant.
        match facts.whole_range(1, 0) {
            Some(why) if why <= WholeRange::OffsetExpression => return Err(why.as_str()),
            _ => {}
        }
        let latest = Timestamp::from_ms(facts.latest_read_ms(time.ms(), time.ms(), time.ms()));
        Ok(Term { ttl: self.instant_ttl, from: time, to: time, latest })
    }

    fn of_listing(&self, params: &Params) -> Result<Term, &'static str> {
        if params.get("start").is_empty() || params.get("end").is_empty() {
            return Err("no-range");
        }
        let (from, to) = (time(params.get("start"))?, time(params.get("end"))?);
        // A server lists all that its open block has, whenever in that block it was seen.
        let latest = Timestamp::from_ms(to.ms().saturating_add(millis(self.labels_freshness)));
        Ok(Term { ttl: self.labels_ttl, from, to, latest })
    }
}

/// Parameters that ask for an answer of this moment: what the evaluation costs, or one that nobody kept.
const OF_THE_MOMENT: [&str; 5] = ["stats", "trace", "analyze", "explain", "nocache"];

/// An instant, if every server reads it as we do: four digits are a year to VictoriaMetrics.
fn time(text: &str) -> Result<Timestamp, &'static str> {
    let is_year = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    Timestamp::parse(text).filter(|_| !is_year).ok_or("not-understood")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 100_000_000;

    fn terms() -> Terms {
        let text = "cache: {freshness: 10m, out_of_order_window: 2h, out_of_order_ttl: 1m, whole: {labels_ttl: 5m, labels_freshness: 1h}}";
        Terms::new(&config::Config::parse(text).expect("sound").cache)
    }

    fn term(endpoint: Endpoint, params: &str) -> Result<u64, &'static str> {
        let params = Params::read(Some(params), None).expect("readable");
        let facts = promql::read(params.get("query"));
        let term = terms().term(endpoint, &params, Some(&facts), Timestamp::from_ms(NOW_MS));
        term.map(|term| term.ttl.as_secs())
    }

    #[test]
    fn an_instant_is_kept_when_all_that_it_reads_is_past() {
        for (params, want) in [
            ("query=up&time=50000", Ok(600)),
            ("query=up&time=1970-01-01T13:53:20Z", Ok(600)),
            ("query=up&time=99000", Ok(60)),
            ("query=up&time=99400", Err("fresh")),
            ("query=up&time=99399.999", Ok(60)),
            ("query=up%20offset%20-1h&time=98000", Err("fresh")),
            ("query=up%20%40%2099999&time=5", Err("fresh")),
            ("query=up", Err("no-time")),
            ("query=up&time=-1h", Err("not-understood")),
            ("query=up&time=5&stats=all", Err("stats")),
            ("query=up&time=5&nocache=1", Err("stats")),
            ("query=up&time=2030", Err("not-understood")),
            ("query=up(&time=5", Err("unparsable")),
            ("query=limitk(1,up)&time=5", Err("limitk")),
            ("query=up%20smoothed&time=5", Err("smoothed")),
            ("query=rate(up[5m])%20or%20up&time=5&limit=3", Ok(600)),
        ] {
            assert_eq!(term(Endpoint::Instant, params), want, "{params}");
        }
    }

    #[test]
    fn a_list_is_kept_when_its_range_is_past() {
        for (params, want) in [
            ("start=1&end=2", Ok(300)),
            ("start=1&end=95000", Ok(60)),
            ("start=1&end=95800", Err("fresh")),
            ("start=1&end=2030", Err("not-understood")),
            ("end=2", Err("no-range")),
            ("start=1", Err("no-range")),
            ("start=1&end=-5m", Err("not-understood")),
        ] {
            assert_eq!(term(Endpoint::Listing, params), want, "{params}");
        }
        assert_eq!(term(Endpoint::Fact, "metric=up"), Err("not-kept"));
    }

    #[test]
    fn nothing_is_kept_for_no_time() {
        let config = config::Config::parse("cache: {whole: {labels_ttl: 0s}}").expect("sound");
        let params = Params::read(Some("start=1&end=2"), None).expect("readable");
        let term = Terms::new(&config.cache).term(Endpoint::Listing, &params, None, Timestamp::from_ms(NOW_MS));
        assert_eq!(term, Err("off"));
    }
}
