//! Every flag of Thanos's query-frontend (0.41), and what it is to promfront.

use super::backend::{self, Backend};
use super::{Draft, go};
use crate::cli::log::{Format, Level};

/// A flag.
#[derive(Debug)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) takes: Takes,
    pub(super) means: Means,
}

/// What comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// A value.
    Value,
    /// A value, and it may be given several times.
    Values,
    /// The path of a file, whose content is the value.
    File,
    /// Nothing; `no-` before it turns it off.
    Switch,
}

type Map = fn(&mut Draft, &str) -> Result<(), String>;

/// What it is to promfront. If it is off (empty, zero, false), only what is mapped counts.
#[derive(Debug)]
pub(super) enum Means {
    /// The same as an option, which is named.
    Mapped(&'static str, Map),
    /// Nothing, and nobody misses it.
    Nothing(&'static str),
    /// Nothing, and somebody may miss it.
    Noted(&'static str),
    /// Something that promfront does not do.
    Refused(&'static str),
}

const fn value(name: &'static str, means: Means) -> Flag {
    Flag { name, takes: Takes::Value, means }
}

const fn values(name: &'static str, means: Means) -> Flag {
    Flag { name, takes: Takes::Values, means }
}

const fn file(name: &'static str, means: Means) -> Flag {
    Flag { name, takes: Takes::File, means }
}

const fn switch(name: &'static str, means: Means) -> Flag {
    Flag { name, takes: Takes::Switch, means }
}

const RETRIES: &str = "what fails for a reason that lies with a server is tried once more, under a budget";
const TRACES: &str = "no traces are sent";
const MEMORY: &str = "there is no garbage to collect";
const CUT: &str = "--query-range.split-interval alone says where ranges are cut; leave it out";
const HEADERS: &str = "all headers are forwarded; this one becomes part of the key of what is kept (cache.key_headers)";
const PARTIAL: &str = "the question is never changed, so the server's own default holds; off, it is refused";
const LABELS: &str = "series and labels are asked for as they come";

/// In the order of their names.
pub(super) const FLAGS: &[Flag] = &[
    value("alert.query-url", Means::Nothing("promfront links to no pages")),
    value("auto-gomemlimit.ratio", Means::Nothing(MEMORY)),
    value("cache-compression-type", Means::Nothing("what is shared is always compressed")),
    switch("enable-auto-gomemlimit", Means::Nothing(MEMORY)),
    values("enable-feature", Means::Noted("what the grammar does not know passes whole, to the server that knows it")),
    value(
        "http-address",
        Means::Mapped("--web.listen-address", |draft, text| {
            text.clone_into(&mut draft.serve.listen_address);
            Ok(())
        }),
    ),
    value(
        "http-grace-period",
        Means::Mapped("--web.shutdown-timeout", |draft, text| {
            draft.serve.shutdown_timeout = go::duration(text)?;
            Ok(())
        }),
    ),
    value(
        "http.config",
        Means::Refused(
            "promfront serves clear text to everybody; put what asks for certificates or passwords before it",
        ),
    ),
    value(
        "labels.default-time-range",
        Means::Noted("the question is never changed; who gives no range gets what the server gives"),
    ),
    value("labels.max-query-parallelism", Means::Nothing(LABELS)),
    value("labels.max-retries-per-request", Means::Nothing(RETRIES)),
    switch("labels.partial-response", Means::Mapped(PARTIAL, partial_response)),
    value("labels.response-cache-config", Means::Mapped("cache.whole", labels_cache)),
    file("labels.response-cache-config-file", Means::Mapped("cache.whole", labels_cache)),
    value(
        "labels.response-cache-max-freshness",
        Means::Mapped("cache.freshness, if it is longer", |draft, text| {
            draft.labels_freshness = Some(go::duration(text)?);
            Ok(())
        }),
    ),
    value("labels.split-interval", Means::Nothing(LABELS)),
    value(
        "log.format",
        Means::Mapped("the same", |draft, text| {
            draft.log_format = match text {
                "logfmt" => Format::Logfmt,
                "json" => Format::Json,
                other => return Err(format!("{other:?} is neither logfmt nor json")),
            };
            Ok(())
        }),
    ),
    value(
        "log.level",
        Means::Mapped("the same", |draft, text| {
            draft.log_level = match text {
                "debug" => Level::Debug,
                "info" => Level::Info,
                "warn" => Level::Warn,
                "error" => Level::Error,
                other => return Err(format!("{other:?} is none of debug, info, warn, error")),
            };
            Ok(())
        }),
    ),
    value("log.request.decision", Means::Nothing("requests are not logged")),
    switch("query-frontend.compress-responses", Means::Nothing("answers are compressed for those who accept it")),
    value(
        "query-frontend.default-tenant",
        Means::Mapped("default-tenant, which is the server's default; others are refused", |_, text| {
            let sentence = "promfront adds no header; give the server --query.default-tenant-id";
            if matches!(text, "" | "default-tenant") { Ok(()) } else { Err(sentence.to_owned()) }
        }),
    ),
    value(
        "query-frontend.downstream-tripper-config",
        Means::Mapped("downstream.max_concurrent and downstream.tls", backend::tripper),
    ),
    file(
        "query-frontend.downstream-tripper-config-file",
        Means::Mapped("downstream.max_concurrent and downstream.tls", backend::tripper),
    ),
    value(
        "query-frontend.downstream-url",
        Means::Mapped("--downstream.url", |draft, text| {
            draft.config.downstream.urls = vec![text.to_owned()];
            Ok(())
        }),
    ),
    switch(
        "query-frontend.enable-x-functions",
        Means::Noted("what the grammar does not know passes whole, to the server that knows it"),
    ),
    switch(
        "query-frontend.force-query-stats",
        Means::Noted("the question is never changed; clients get the statistics that they ask for"),
    ),
    values("query-frontend.forward-header", Means::Mapped(HEADERS, key_header)),
    switch("query-frontend.log-failed-queries", Means::Nothing("see X-Promfront-Result and /metrics")),
    value(
        "query-frontend.log-queries-longer-than",
        Means::Noted("slow queries are not logged; see Server-Timing and /metrics"),
    ),
    values("query-frontend.org-id-header", Means::Mapped(HEADERS, key_header)),
    value(
        "query-frontend.slow-query-logs-user-header",
        Means::Noted("slow queries are not logged; see Server-Timing and /metrics"),
    ),
    value(
        "query-frontend.tenant-certificate-field",
        Means::Refused("promfront sees no certificates of clients; let what terminates TLS set the tenant's header"),
    ),
    value("query-frontend.tenant-header", Means::Mapped(HEADERS, key_header)),
    value("query-frontend.vertical-shards", Means::Noted("queries are not cut by series, only by time")),
    switch(
        "query-range.align-range-with-step",
        Means::Refused(
            "promfront never moves a range, and keeps unaligned ones as well; write --no-query-range.align-range-with-step",
        ),
    ),
    value("query-range.horizontal-shards", Means::Refused(CUT)),
    value(
        "query-range.max-query-length",
        Means::Mapped("limits.max_query_length", |draft, text| {
            draft.config.limits.max_query_length = go::duration(text)?;
            Ok(())
        }),
    ),
    value(
        "query-range.max-query-parallelism",
        Means::Mapped("limits.max_parallelism", |draft, text| {
            let number = text.parse().map_err(|_| format!("{text:?} is not a whole number, such as 14"))?;
            draft.config.limits.max_parallelism = number;
            Ok(())
        }),
    ),
    value("query-range.max-retries-per-request", Means::Nothing(RETRIES)),
    value("query-range.max-split-interval", Means::Refused(CUT)),
    value("query-range.min-split-interval", Means::Refused(CUT)),
    switch("query-range.partial-response", Means::Mapped(PARTIAL, partial_response)),
    switch(
        "query-range.request-downsampled",
        Means::Noted("the question is never changed; clients get the resolution that they ask for"),
    ),
    value("query-range.response-cache-config", Means::Mapped("cache.memory, cache.remote, cache.ttl", range_cache)),
    file("query-range.response-cache-config-file", Means::Mapped("cache.memory, cache.remote, cache.ttl", range_cache)),
    value(
        "query-range.response-cache-max-freshness",
        Means::Mapped("cache.freshness", |draft, text| {
            draft.config.cache.freshness = go::duration(text)?;
            Ok(())
        }),
    ),
    value(
        "query-range.split-interval",
        Means::Mapped("split.interval; 0 is split.max_parts: 1", |draft, text| {
            let interval = go::duration(text)?;
            if interval.is_zero() {
                draft.config.split.max_parts = 1;
            } else {
                draft.config.split.interval = interval;
            }
            Ok(())
        }),
    ),
    value("request.logging-config", Means::Noted("requests are not logged")),
    value("request.logging-config-file", Means::Noted("requests are not logged")),
    value("tracing.config", Means::Noted(TRACES)),
    value("tracing.config-file", Means::Noted(TRACES)),
    switch(
        "web.disable-cors",
        Means::Mapped("--web.cors.origin: no page of another origin may read", |draft, is_on| {
            if is_on == "true" {
                draft.serve.cors_origin = String::new();
            }
            Ok(())
        }),
    ),
];

fn partial_response(draft: &mut Draft, is_on: &str) -> Result<(), String> {
    if is_on == "true" {
        draft.note("partial responses: the question is never changed, so the server's own default holds (--query.partial-response)");
        return Ok(());
    }
    Err("promfront never changes a question; give the server --no-query.partial-response".to_owned())
}

fn key_header(draft: &mut Draft, name: &str) -> Result<(), String> {
    let headers = &mut draft.config.cache.key_headers;
    if name.is_empty() {
        return Err("it names no header".to_owned());
    }
    if !headers.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        headers.push(name.to_owned());
    }
    Ok(())
}

fn range_cache(draft: &mut Draft, text: &str) -> Result<(), String> {
    once(draft.range_cache.as_ref())?;
    draft.range_cache = backend::read(text)?;
    Ok(())
}

fn labels_cache(draft: &mut Draft, text: &str) -> Result<(), String> {
    once(draft.labels_cache.as_ref())?;
    draft.labels_cache = backend::read(text)?;
    Ok(())
}

fn once(known: Option<&Backend>) -> Result<(), String> {
    if known.is_some() { Err("it is given inline and as a file; give one of them".to_owned()) } else { Ok(()) }
}
