//! The parameters of a request, from its URL and its body.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::request::Parts;
use http::{Method, header};

use crate::error::{ApiError, ErrorKind};
use crate::model::params::Params;

/// Go reads at most this much of a form.
const MAX_FORM_BYTES: usize = 10 << 20;
/// A form that takes longer to arrive is not waited for.
const FORM_TIMEOUT: Duration = Duration::from_mins(1);

/// The parameters, if they can be read, and the body as it came.
pub(super) async fn read(head: &Parts, body: Body) -> Result<(Option<Params>, Bytes), ApiError> {
    let read = tokio::time::timeout(FORM_TIMEOUT, to_bytes(body, MAX_FORM_BYTES));
    let too_slow =
        |_| ApiError::new(ErrorKind::BadData, format!("the request's body did not arrive in {FORM_TIMEOUT:?}"));
    let body = read.await.map_err(too_slow)?.map_err(|error| {
        ApiError::new(
            ErrorKind::BadData,
            format!("the request's body can't be read, or is larger than {MAX_FORM_BYTES} bytes: {error}"),
        )
    })?;
    let is_form = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value
            .split(';')
            .next()
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
    });
    let params = match (head.method == Method::POST, is_form, body.is_empty()) {
        (true, true, _) => Params::read(head.uri.query(), Some(&body)),
        (_, _, true) => Params::read(head.uri.query(), None),
        // A body that is no form: what it means is not for us to say.
        _ => None,
    };
    Ok((params, body))
}
