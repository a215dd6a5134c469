//! `query_range`: from the request to the pipeline, and from its reply to the response.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::Version;
use http::request::Parts;

use super::{answer, context, form, reply};
use crate::downstream::headers::for_parts;
use crate::error::{ApiError, ErrorKind};
use crate::limits::block::Subject;
use crate::limits::range;
use crate::metrics::{ResultLabels, Word};
use crate::model::params::{Encoded, Params};
use crate::pipeline::{Incoming, Reply};
use crate::request::{Context, Delivery};
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
    // What is blocked is not looked at any further.
    let unread = if form.is_some() { 0 } else { head.uri.query().unwrap_or_default().len() + body.len() };
    let params = form.unwrap_or_default();
    let question = Subject::of_query(&context.tenant, &head.headers, &params);
    if let Some(error) = service.policy.blocked.refusal(&question, context.now) {
        return (reply::error(&error), Verdict::new(Status::Error, "blocked"));
    }
    let whole = async |narrowed, estimate, verdict| {
        pass_whole(service, (head, body.clone(), narrowed), &context, estimate, verdict).await
    };
    let over_limit = |error: ApiError| (reply::error(&error), Verdict::new(Status::Error, "limit"));
    if let Err(error) = range::check_text(&service.policy.tenants, &context.tenant, params.get("query")) {
        return over_limit(error);
    }
    let Some(query) = read_range_query(params) else {
        if let Err(error) = range::check_unread(&service.policy.tenants, &context.tenant, unread) {
            return over_limit(error);
        }
        return whole(None, Estimate::of_raw_samples(), Verdict::new(Status::Bypass, "not-understood")).await;
    };
    let estimate = Estimate::of_query(query.grid.len(), USUAL_RANGE_MS);
    let incoming = Incoming {
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        headers: Arc::new(for_parts(&head.headers)),
        context: context.clone(),
        query,
        delivery: match head.version {
            _ if reply::accepts_gzip(&head.headers) => Delivery::Packed,
            Version::HTTP_10 => Delivery::Whole,
            _ => Delivery::WhileItComes,
        },
    };
    match service.pipeline.answer(incoming).await {
        (Reply::Answer { body, is_held, is_no_store }, verdict) => {
            let finished = is_held.then(|| service.cache.finished());
            (answer::answer(&head.headers, body, finished, is_no_store), verdict)
        }
        (Reply::Passing(passing), verdict) => (answer::passing(passing), verdict),
        (Reply::Theirs(answer), verdict) => (reply::theirs(&answer), verdict),
        (Reply::Ours(error), verdict) => (reply::error(&error), verdict),
        (Reply::PassWhole(narrowed), verdict) => whole(narrowed, estimate, verdict).await,
    }
}

/// The request as it came, or with the parameters that it may have, to the downstream, and its answer as it comes.
async fn pass_whole(
    service: &Service,
    (head, body, narrowed): (&Parts, Bytes, Option<Encoded>),
    context: &Context,
    estimate: Estimate,
    verdict: Verdict,
) -> (Response, Verdict) {
    let standing = Standing::new(context, estimate, context::fingerprint(context, head, &body));
    let (head, body) = match narrowed {
        None => (Cow::Borrowed(head), body),
        Some(narrowed) => match with_params(head, narrowed) {
            Ok((head, body)) => (Cow::Owned(head), body),
            Err(error) => return (reply::error(&error), Verdict { status: Status::Error, ..verdict }),
        },
    };
    match service.downstream.forward_whole(&head, body, context.deadline, standing).await {
        Ok(response) => (response, verdict),
        Err(error) => {
            let verdict = Verdict { status: Status::Error, reason: error.kind.error_type(), ..verdict };
            (reply::error(&error), verdict)
        }
    }
}

/// The same request with other parameters.
fn with_params(head: &Parts, params: Encoded) -> Result<(Parts, Bytes), ApiError> {
    let mut head = head.clone();
    let path = head.uri.path();
    let target = if params.url_query.is_empty() { path.to_owned() } else { format!("{path}?{}", params.url_query) };
    head.uri = target.parse().map_err(|error| {
        ApiError::new(ErrorKind::BadData, format!("the request can't be sent with a later start: {error}"))
    })?;
    Ok((head, params.body.map(Bytes::from).unwrap_or_default()))
}
