//! Asks for the parts of one query: concurrently, under a bound, and with the outcome that the whole query would have had.
//!
//! The outcomes are taken in the order of time. So the error that is reported is that of the earliest part that fails,
//! whichever answered first, and when it is known everything later is dropped, which cancels it.

use std::future::Future;

use futures::{StreamExt, TryStreamExt};

use crate::model::grid::StepGrid;

/// Runs `fetch` for each part, at most `max_parallelism` of them at the same time.
pub async fn fetch_parts<T, E, F>(
    parts: Vec<StepGrid>,
    max_parallelism: usize,
    fetch: impl Fn(StepGrid) -> F,
) -> Result<Vec<T>, E>
where
    F: Future<Output = Result<T, E>>,
{
    futures::stream::iter(parts).map(fetch).buffered(max_parallelism.max(1)).try_collect().await
}
