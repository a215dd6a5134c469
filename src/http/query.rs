//! The rest of the API: instant queries, lists of series and labels, the state of the server, what streams, what is refused.

use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Uri};

use super::{context, form, reply};
use crate::api::{self, Endpoint};
use crate::downstream::headers::for_parts;
use crate::error::{ApiError, ErrorKind};
use crate::limits::{block, range};
use crate::metrics::{WholeLabels, Word};
use crate::model::params::Params;
use crate::request::{Context, Outgoing};
use crate::sched::dispatch::Standing;
use crate::sched::dispatch::estimate::Estimate;
use crate::service::Service;
use crate::verdict::{Status, Verdict};
use crate::whole::Question;

/// What is answered, and how it came about.
type Answered = Result<(Response, Verdict), ApiError>;

/// Answers a request for one endpoint of the API that is not a range query.
pub(super) async fn answer(
    service: &Service,
    endpoint: Endpoint,
    request: Request,
    began: Instant,
) -> (Response, Verdict) {
    let is_question = matches!(*request.method(), Method::GET | Method::POST);
    let is_read = is_question || *request.method() == Method::HEAD;
    let answered = match endpoint {
        Endpoint::Write | Endpoint::Admin if !allows_writes(service) => Err(refusal(request.method(), request.uri())),
        Endpoint::State if is_question => question(service, endpoint, request, began).await,
        endpoint if endpoint.waits_in_queue() => {
            if is_question {
                question(service, endpoint, request, began).await
            } else {
                Ok((reply::not_allowed("GET, OPTIONS, POST"), Verdict::new(Status::Error, "bad_data")))
            }
        }
        _ if !is_read && !allows_writes(service) => Err(refusal(request.method(), request.uri())),
        _ => stream(service, endpoint, request, began).await,
    };
    let (response, verdict) = answered.unwrap_or_else(|error| {
        let verdict = Verdict::new(Status::Error, error.kind.error_type());
        (reply::error(&error), verdict)
    });
    let (status, reason) = (Word(verdict.status.as_str()), Word(verdict.reason));
    service
        .metrics
        .whole
        .answers
        .get_or_create(&WholeLabels { endpoint: Word(endpoint.as_str()), status, reason })
        .inc();
    (response, verdict)
}

/// A question that can be read: kept, shared, or at least queued.
async fn question(service: &Service, endpoint: Endpoint, request: Request, began: Instant) -> Answered {
    let (mut head, body) = request.into_parts();
    let (params, mut body) = form::read(&head, body).await?;
    let context = context::read(service, &head, params.as_ref(), began)?;
    if let Some(refused) = refused(service, endpoint, &head, params.as_ref(), &context) {
        return Ok(refused);
    }
    let Some(mut params) = params else {
        if endpoint == Endpoint::State && head.method == Method::POST && !allows_writes(service) {
            return Err(refusal(&head.method, &head.uri));
        }
        if matches!(endpoint, Endpoint::Instant | Endpoint::Listing | Endpoint::Exemplars) {
            let bytes = head.uri.query().unwrap_or_default().len() + body.len();
            range::check_unread(&service.policy.tenants, &context.tenant, bytes)?;
        }
        return hand_on(service, endpoint, &head, body, &context, "not-understood").await;
    };
    if endpoint == Endpoint::RemoteRead {
        return hand_on(service, endpoint, &head, body, &context, "stream").await;
    }
    if head.method == Method::POST && api::is_get_only(head.uri.path()) {
        (body, params) = (Bytes::new(), params.into_url());
        turn_into_get(&mut head, &params)?;
    }
    // What is evaluated at the moment at which it is asked is nobody else's answer.
    if endpoint == Endpoint::Instant && params.get("time").is_empty() {
        return hand_on(service, endpoint, &head, body, &context, "no-time").await;
    }
    let mut headers = for_parts(&head.headers);
    if head.method == Method::POST {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    }
    let question = Question { endpoint, params, outgoing: Outgoing::of(&head, headers, body), context };
    let (answer, verdict) = service.wholes.answer(question).await;
    let response = match answer {
        Ok(answer) => reply::whole(&head.headers, &answer),
        Err(error) => reply::error(&error),
    };
    Ok((response, verdict))
}

/// What is blocked, or too long, is not looked at any further.
fn refused(
    service: &Service,
    endpoint: Endpoint,
    head: &Parts,
    params: Option<&Params>,
    context: &Context,
) -> Option<(Response, Verdict)> {
    let policy = &service.policy;
    let query = params.filter(|_| matches!(endpoint, Endpoint::Instant | Endpoint::Exemplars));
    let asked = query.map_or_else(
        || block::Subject::without_query(&context.tenant, &head.headers),
        |params| block::Subject::of_query(&context.tenant, &head.headers, params),
    );
    if let Some(error) = policy.blocked.refusal(&asked, context.now) {
        return Some((reply::error(&error), Verdict::new(Status::Error, "blocked")));
    }
    let error = range::check_text(&policy.tenants, &context.tenant, params?.get("query")).err()?;
    Some((reply::error(&error), Verdict::new(Status::Error, "limit")))
}

/// The server behind knows the question as `GET` only: all parameters move into the URL.
fn turn_into_get(head: &mut Parts, params: &Params) -> Result<(), ApiError> {
    let (path, query) = (head.uri.path(), params.encode(&[]).url_query);
    let uri = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    head.uri = Uri::try_from(uri).map_err(|error| {
        ApiError::new(ErrorKind::BadData, format!("the parameters do not fit into a URL, which this needs: {error}"))
    })?;
    head.method = Method::GET;
    head.headers.remove(header::CONTENT_TYPE);
    Ok(())
}

/// Handed on as it came, and its answer as it comes.
async fn hand_on(
    service: &Service,
    endpoint: Endpoint,
    head: &Parts,
    body: Bytes,
    context: &Context,
    reason: &'static str,
) -> Answered {
    let verdict = Verdict::new(Status::Bypass, reason);
    if !endpoint.waits_in_queue() {
        let request = Request::from_parts(head.clone(), Body::from(body));
        return Ok((service.downstream.forward(request).await?, verdict));
    }
    let estimate = match endpoint {
        Endpoint::Instant => Estimate::of_query(1, 0),
        Endpoint::Range | Endpoint::RemoteRead => Estimate::of_raw_samples(),
        _ => Estimate::of_metadata(),
    };
    let standing = Standing::new(context, estimate, context::fingerprint(context, head, &body));
    let response = service.downstream.forward_whole(head, body, context.deadline, standing).await?;
    Ok((response, verdict))
}

/// What has no end, or is not known, is not even read.
async fn stream(service: &Service, endpoint: Endpoint, request: Request, began: Instant) -> Answered {
    let (head, body) = request.into_parts();
    let context = context::read(service, &head, None, began)?;
    if let Some(refused) = refused(service, endpoint, &head, None, &context) {
        return Ok(refused);
    }
    let reason = if endpoint == Endpoint::Unknown { "unknown" } else { "stream" };
    let response = service.downstream.forward(Request::from_parts(head, body)).await?;
    Ok((response, Verdict::new(Status::Bypass, reason)))
}

fn allows_writes(service: &Service) -> bool {
    service.config.downstream.allow_writes
}

/// What is said to who would write.
pub(super) fn refusal(method: &Method, uri: &Uri) -> ApiError {
    let message = format!(
        "{method} {} is not passed on: promfront stands before the server for reading only; send it to the server itself, or \
         set downstream.allow_writes to have writes and administration passed on",
        uri.path()
    );
    ApiError::new(ErrorKind::NotFound, message)
}
