//! The rest of the query API: instant queries, labels, series, remote reads. Each waits in the queue like a part of a range
//! query, and is answered as it is.

use std::time::Instant;

use axum::extract::Request;
use axum::response::Response;

use super::{App, context, form, reply};
use crate::model::params::Params;
use crate::promql;
use crate::request::QueryApi;
use crate::sched::dispatch::Standing;
use crate::sched::dispatch::estimate::Estimate;

/// Answers one question that is not a range query.
pub(super) async fn answer(app: &App, question: QueryApi, request: Request, began: Instant) -> Response {
    let (head, body) = request.into_parts();
    let (form, body) = match form::read(&head, body).await {
        Ok(read) => read,
        Err(error) => return reply::error(&error),
    };
    let context = match context::read(app, &head, form.as_ref(), began) {
        Ok(context) => context,
        Err(error) => return reply::error(&error),
    };
    let estimate = estimate(question, form.as_ref());
    let standing = Standing::new(&context, estimate, context::fingerprint(&context, &head, &body));
    match app.downstream.forward_whole(&head, body, context.deadline, standing).await {
        Ok(response) => response,
        Err(error) => reply::error(&error),
    }
}

fn estimate(question: QueryApi, form: Option<&Params>) -> Estimate {
    let facts = || form.and_then(|form| promql::read(form.get("query")).ok());
    match question {
        QueryApi::Instant => Estimate::of_query(1, facts().map_or(0, |facts| facts.widest_range_ms())),
        QueryApi::Range | QueryApi::RemoteRead => Estimate::of_raw_samples(),
        QueryApi::Metadata => Estimate::of_metadata(),
    }
}
