//! `query_range`: from the request to the pipeline, and from its reply to the response.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;

use super::{context, form, reply};
use crate::downstream::headers::for_parts;
use crate::metrics::{ResultLabels, Word};
use crate::model::params::Params;
use crate::pipeline::{Incoming, Reply};
use crate::request::Context;
use crate::sched::dispatch::Standing;
use crate::sched::dispatch::estimate::Estimate;
use crate::service::Service;
use crate::verdict::{Status, Verdict};
use crate::wire::request::read_range_query;

/// What a query that is passed on whole is believed to read for each instant.
const USUAL_RANGE_MS: i64 = 5 * 60_000;

/// Answers one range query.
pub(super) async fn answer(service: &Service, request: Request, began: Instant) -> (Response, Verdict) {
    let (head, body) = request.into_parts();
    let (response, verdict) = match form::read(&head, body).await {
        Ok((form, body)) => judge(service, &head, form, body, began).await,
        Err(error) => (reply::error(&error), Verdict::new(Status::Error, "bad_data")),
    };
    let labels = ResultLabels { status: Word(verdict.status.as_str()), reason: Word(verdict.reason) };
    service.metrics.range_queries.get_or_create(&labels).inc();
    tracing::debug!(
        status = verdict.status.as_str(),
        reason = verdict.reason,
        code = response.status().as_u16(),
        parts = verdict.pieces,
        hit = verdict.held,
        seconds = began.elapsed().as_secs_f64(),
        "range query"
    );
    (response, verdict)
}

async fn judge(
    service: &Service,
    head: &Parts,
    form: Option<Params>,
    body: Bytes,
    began: Instant,
) -> (Response, Verdict) {
    let context = match context::read(service, head, form.as_ref(), began) {
        Ok(context) => context,
        Err(error) => return (reply::error(&error), Verdict::new(Status::Error, error.kind.error_type())),
    };
    let whole = async |estimate, verdict| pass_whole(service, head, body.clone(), &context, estimate, verdict).await;
    let unknown = Estimate::of_raw_samples();
    let Some(query) = form.and_then(read_range_query) else {
        return whole(unknown, Verdict::new(Status::Bypass, "not-understood")).await;
    };
    let estimate = Estimate::of_query(query.grid.len(), USUAL_RANGE_MS);
    let incoming = Incoming {
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        headers: Arc::new(for_parts(&head.headers)),
        context: context.clone(),
        query,
    };
    match service.pipeline.answer(incoming).await {
        (Reply::Answer { chunks, is_no_store }, verdict) => {
            (reply::answer(&head.headers, chunks, is_no_store), verdict)
        }
        (Reply::Theirs(answer), verdict) => (reply::theirs(&answer), verdict),
        (Reply::Ours(error), verdict) => (reply::error(&error), verdict),
        (Reply::PassWhole, verdict) => whole(estimate, verdict).await,
    }
}

/// The request as it came, to the downstream, and its answer as it comes.
async fn pass_whole(
    service: &Service,
    head: &Parts,
    body: Bytes,
    context: &Context,
    estimate: Estimate,
    verdict: Verdict,
) -> (Response, Verdict) {
    let standing = Standing::new(context, estimate, context::fingerprint(context, head, &body));
    match service.downstream.forward_whole(head, body, context.deadline, standing).await {
        Ok(response) => (response, verdict),
        Err(error) => {
            let verdict = Verdict { status: Status::Error, reason: error.kind.error_type(), ..verdict };
            (reply::error(&error), verdict)
        }
    }
}
