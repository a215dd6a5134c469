//! In which circumstances a request is answered, and as which work it is known again.

use std::time::Instant;

use http::request::Parts;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::ApiError;
use crate::model::params::Params;
use crate::model::time::{Timestamp, parse_timeout};
use crate::request::Context;
use crate::service::Service;
use crate::wire::caller;

/// The one reading of the clocks for this request.
pub(super) fn read(
    service: &Service,
    head: &Parts,
    form: Option<&Params>,
    began: Instant,
) -> Result<Context, ApiError> {
    let timeout = form.map(|form| form.get("timeout")).filter(|text| !text.is_empty()).and_then(parse_timeout);
    let deadline = began + timeout.map_or(service.timeout(), |timeout| timeout.min(service.timeout()));
    let tenant = caller::tenant(&head.headers, service.tenancy.as_ref())?;
    Ok(Context { tenant, now: Timestamp::now(), deadline, caller: caller::read(&head.headers) })
}

/// The same request is the same work. Times are part of it, so a query that moves with the clock is another each time.
pub(super) fn fingerprint(context: &Context, head: &Parts, body: &[u8]) -> u64 {
    let text = [context.tenant.as_str(), head.uri.path(), head.uri.query().unwrap_or_default()];
    let mut work = text.join("\n").into_bytes();
    work.extend_from_slice(body);
    xxh3_64(&work)
}
