//! `POST /promfront/api/v1/purge`: what was kept and should not have been is forgotten, here and on every replica.
//!
//! Off unless `--web.enable-admin-api`, as Prometheus's own. `tenant`, `query`, `start` and `end` say what; a purge of everything
//! has to be asked for by `all=true`. With `dry_run=true` nothing happens but counting.

use axum::extract::Request;
use axum::response::Response;
use http::{Method, StatusCode};
use serde::Serialize;

use super::{App, form, reply};
use crate::cache::purge::{EFFECTIVE_WITHIN, Rule};
use crate::error::{ApiError, ErrorKind};
use crate::model::params::Params;
use crate::model::tenant::TenantId;
use crate::model::time::Timestamp;

/// What a purge did.
#[derive(Debug, Serialize)]
struct Outcome {
    /// Extents of this replica's first tier.
    extents: usize,
    /// Answers that it keeps whole.
    answers: usize,
    /// The bytes of both.
    bytes: usize,
    dry_run: bool,
    /// `told`, `pending` (the shared tier does not answer; it is told as soon as it does), or `none` (there is no shared tier).
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<&'static str>,
    effective_within_seconds: u64,
}

/// Answers one purge.
pub(super) async fn answer(app: &App, request: Request) -> Response {
    if !app.door.has_admin_api {
        return reply::error(&ApiError::new(ErrorKind::Unavailable, "admin APIs disabled"));
    }
    if request.method() != Method::POST {
        return reply::not_allowed("POST");
    }
    match purge(app, request).await {
        Ok(outcome) => {
            let data = serde_json::to_string(&outcome).expect("plain values");
            reply::json(StatusCode::OK, format!(r#"{{"status":"success","data":{data}}}"#).into())
        }
        Err(error) => reply::error(&error),
    }
}

async fn purge(app: &App, request: Request) -> Result<Outcome, ApiError> {
    let (head, body) = request.into_parts();
    let (params, _) = form::read(&head, body).await?;
    let params = params.ok_or_else(|| bad("the parameters can't be read; send them as a form or in the URL"))?;
    let now = Timestamp::now();
    let (rule, is_dry_run) = read_rule(&params, now)?;
    let service = app.service();
    let purger = service.cache.purger();
    let (answers, answers_bytes) = service.answers.preview(&rule, now);
    let (found, replicas) = if is_dry_run {
        (purger.preview(&rule, now), None)
    } else {
        let found = purger.accept(&rule, now).map_err(|error| bad(&error.to_string()))?;
        let replicas = match service.cache.tell_purges(now).await {
            Some(true) => "told",
            Some(false) => "pending",
            None => "none",
        };
        let [tenant, query, start, end] = ["tenant", "query", "start", "end"].map(|name| params.get(name));
        tracing::info!(tenant, query, start, end, extents = found.extents, answers, replicas, "purged");
        (found, Some(replicas))
    };
    Ok(Outcome {
        extents: found.extents,
        answers,
        bytes: found.bytes + answers_bytes,
        dry_run: is_dry_run,
        replicas,
        effective_within_seconds: EFFECTIVE_WITHIN.as_secs(),
    })
}

fn read_rule(params: &Params, now: Timestamp) -> Result<(Rule, bool), ApiError> {
    const KNOWN: [&str; 6] = ["tenant", "query", "start", "end", "all", "dry_run"];
    if let Some(unknown) = params.pairs().iter().find(|pair| !KNOWN.contains(&pair.name.as_str())) {
        return Err(bad(&format!("there is no parameter {:?}; there are {}", unknown.name, KNOWN.join(", "))));
    }
    let text = |name| Some(params.get(name)).filter(|value| !value.is_empty()).map(str::to_owned);
    let time = |name| match text(name) {
        None => Ok(None),
        Some(value) => Timestamp::parse(&value).map(Some).ok_or_else(|| {
            bad(&format!("{name}: {value:?} is not a time; write seconds since the epoch or 2024-02-01T00:00:00Z"))
        }),
    };
    let flag = |name| match params.get(name) {
        "" | "false" => Ok(false),
        "true" => Ok(true),
        other => Err(bad(&format!("{name}: {other:?} is neither true nor false"))),
    };
    let tenant = text("tenant").map(|name| TenantId::parse_federated(&name)).transpose();
    let tenant = tenant.map_err(|problem| bad(&format!("tenant: {problem}")))?.map(|tenant| tenant.as_str().to_owned());
    let (query, range, is_all) = (text("query"), (time("start")?, time("end")?), flag("all")?);
    let says_what = tenant.is_some() || query.is_some() || range != (None, None);
    if says_what == is_all {
        let message = "say what to purge by tenant, query, start or end; or, for everything, by all=true alone";
        return Err(bad(message));
    }
    let rule = Rule::new(tenant, query, range, now).map_err(|error| bad(&error.to_string()))?;
    Ok((rule, flag("dry_run")?))
}

fn bad(message: &str) -> ApiError {
    ApiError::new(ErrorKind::BadData, message)
}
