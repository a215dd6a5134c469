//! What is made from files, and made again when they change.
//!
//! Need: a rotated secret or a renewed certificate needs no restart. Rule: files are looked at in the background, by what they
//! hold and not by their dates, since secrets that are mounted change by a link. What cannot be read or understood leaves the
//! last good one in place: told when it begins, changes or ends, and never with what the file holds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::task::AbortHandle;

/// How often files are looked at.
const LOOKED_AT: Duration = Duration::from_secs(2);

/// Files, and what is made of them.
pub(super) trait Source: Send + Sync + 'static {
    /// What they hold.
    type Held: PartialEq + Send + Sync;
    /// What that means.
    type Made: Clone + Send + Sync + 'static;

    /// The option that names them.
    fn option(&self) -> &'static str;
    /// Reads them.
    fn read(&self) -> Result<Self::Held, String>;
    /// Understands them.
    fn make(&self, held: &Self::Held) -> Result<Self::Made, String>;
}

/// The last good state of what is made from files. Followed until it is dropped.
pub(super) struct Watched<T> {
    current: Arc<RwLock<T>>,
    task: AbortHandle,
}

/// What a look at the files showed.
enum Look<S: Source> {
    Same,
    Changed { held: S::Held, made: S::Made },
    Trouble(String),
}

impl<T: Clone + Send + Sync + 'static> Watched<T> {
    /// Reads for the first time, which must succeed. Inside of a tokio runtime.
    pub(super) fn open(source: impl Source<Made = T>) -> Result<Self, String> {
        let told = |problem| format!("{}: {problem}", source.option());
        let held = source.read().map_err(told)?;
        let current = Arc::new(RwLock::new(source.make(&held).map_err(told)?));
        let task = tokio::spawn(follow(source, held, Arc::clone(&current)));
        Ok(Self { current, task: task.abort_handle() })
    }

    /// The last good one.
    pub(super) fn get(&self) -> T {
        self.current.read().clone()
    }
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// It may be a secret.
impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

fn look<S: Source>(source: &S, held: &S::Held) -> Look<S> {
    let made = |now| Ok(Look::Changed { made: source.make(&now)?, held: now });
    let look = source.read().and_then(|now| if now == *held { Ok(Look::Same) } else { made(now) });
    look.unwrap_or_else(Look::Trouble)
}

async fn follow<S: Source>(source: S, held: S::Held, current: Arc<RwLock<S::Made>>) {
    let option = source.option();
    let (source, mut held, mut told) = (Arc::new(source), Arc::new(held), None);
    loop {
        tokio::time::sleep(LOOKED_AT).await;
        let (files, before) = (Arc::clone(&source), Arc::clone(&held));
        // Files may lie on a disk that is slow.
        let looked = tokio::task::spawn_blocking(move || look(&*files, &before)).await;
        match looked.unwrap_or_else(|error| Look::Trouble(error.to_string())) {
            Look::Trouble(why) => {
                if told.as_ref() != Some(&why) {
                    tracing::warn!(option, %why, "a file can't be used: what it held before stays");
                }
                told = Some(why);
                continue;
            }
            Look::Changed { held: now, made } => {
                held = Arc::new(now);
                *current.write() = made;
                tracing::info!(option, "a file has changed and is used as it is now");
            }
            Look::Same if told.is_some() => tracing::info!(option, "the file can be used again"),
            Look::Same => {}
        }
        told = None;
    }
}
