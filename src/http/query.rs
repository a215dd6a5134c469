//! The rest of the query API: instant queries, labels, series, remote reads. Each waits in the queue like a part of a range
//! query, and is answered as it is.

use std::time::Instant;

use axum::extract::Request;
use axum::response::Response;
use http::request::Parts;
use xxhash_rust::xxh3::xxh3_64;

use super::range::read_form;
use super::{App, caller, reply};
use crate::error::ApiError;
use crate::model::params::Params;
use crate::model::time::{Timestamp, parse_timeout};
use crate::promql;
use crate::request::{Context, QueryApi};
use crate::sched::dispatch::Standing;
use crate::sched::dispatch::estimate::Estimate;

/// Answers one question that is not a range query.
pub(super) async fn answer(app: &App, question: QueryApi, request: Request, began: Instant) -> Response {
    let (head, body) = request.into_parts();
    let (form, body) = match read_form(&head, body).await {
        Ok(read) => read,
        Err(error) => return reply::error(&error),
    };
    let context = match context(app, &head, form.as_ref(), began) {
        Ok(context) => context,
        Err(error) => return reply::error(&error),
    };
    let estimate = estimate(question, form.as_ref());
    let standing = Standing::new(&context, estimate, fingerprint(&context, &head, &body));
    match app.downstream.forward_whole(&head, body, context.deadline, standing).await {
        Ok(response) => response,
        Err(error) => reply::error(&error),
    }
}

/// The one reading of the clocks for this request.
pub(super) fn context(app: &App, head: &Parts, form: Option<&Params>, began: Instant) -> Result<Context, ApiError> {
    let timeout = form.map(|form| form.get("timeout")).filter(|text| !text.is_empty()).and_then(parse_timeout);
    let deadline = began + timeout.map_or(app.timeout, |timeout| timeout.min(app.timeout));
    let tenant = caller::tenant(&head.headers, app.tenant_header.as_ref())?;
    Ok(Context { tenant, now: Timestamp::now(), deadline, caller: caller::read(&head.headers) })
}

fn estimate(question: QueryApi, form: Option<&Params>) -> Estimate {
    let facts = || form.and_then(|form| promql::read(form.get("query")).ok());
    match question {
        QueryApi::Instant => Estimate::of_query(1, facts().map_or(0, |facts| facts.widest_range_ms())),
        QueryApi::Range | QueryApi::RemoteRead => Estimate::of_raw_samples(),
        QueryApi::Metadata => Estimate::of_metadata(),
    }
}

/// The same request is the same work. Times are part of it, so a query that moves with the clock is another each time.
pub(super) fn fingerprint(context: &Context, head: &Parts, body: &[u8]) -> u64 {
    let text = [context.tenant.as_str(), head.uri.path(), head.uri.query().unwrap_or_default()];
    let mut work = text.join("\n").into_bytes();
    work.extend_from_slice(body);
    xxh3_64(&work)
}
