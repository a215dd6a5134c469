//! An answer that is handed on while it comes.
//!
//! The need: who asks for what nobody holds, and what is not cut, should not wait longer than for the server itself. The rule: the bytes of
//! such an answer are the server's own, so they may go on as they come; its end is told only when all of it has come, was read and is
//! kept, and never if it broke off. A little is held back, so that short answers, and what is no answer, are judged first and refused
//! in words.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use tokio::sync::{mpsc, oneshot};

use crate::downstream::fetch::Arriving;
use crate::wire::response::begins_like_an_answer;

/// So much has to have come before anything goes on.
const HELD_BACK: usize = 64 << 10;
/// Who may have less than this has answers judged first. One that is too large is known when it has come, and is then refused in words.
const LEAST_LIMIT: u64 = 64 << 20;
/// So many chunks, of half a megabyte at most, wait for a client. One that takes them more slowly gets the rest when all of it is there.
const MOST_WAITING: usize = 16;
/// The rest goes on in pieces, after each of which other connections have their turn.
const PIECE: usize = 512 << 10;

/// Where an answer is put while it comes.
#[derive(Debug)]
pub enum Feed {
    /// Nothing goes on yet.
    Waiting {
        /// Where it is told that something goes on.
        tell: oneshot::Sender<Passing>,
        /// What has come.
        held_back: VecDeque<Bytes>,
    },
    /// What comes goes on.
    Begun {
        /// None if the client does not keep up.
        chunks: Option<mpsc::Sender<Bytes>>,
        /// For the whole of it.
        end: oneshot::Sender<Bytes>,
    },
}

impl Feed {
    /// A feed, and where it is told when something goes on.
    pub fn new() -> (Self, oneshot::Receiver<Passing>) {
        let (tell, begun) = oneshot::channel();
        (Self::Waiting { tell, held_back: VecDeque::new() }, begun)
    }

    /// Hands on what came `next` of an answer. None if it cannot go on, or nobody waits for it.
    #[must_use]
    pub fn give(self, next: &Bytes, of: &Arriving, is_no_store: bool) -> Option<Self> {
        match self {
            Self::Waiting { tell, mut held_back } => {
                held_back.push_back(next.clone());
                let is_judged_first = !of.is_plain() || of.limit() < LEAST_LIMIT || of.is_all_here();
                if is_judged_first || !begins_like_an_answer(of.so_far()) {
                    return None;
                }
                if of.so_far().len() < HELD_BACK {
                    return Some(Self::Waiting { tell, held_back });
                }
                let (chunks, waiting) = mpsc::channel(MOST_WAITING);
                let (end, whole) = oneshot::channel();
                tell.send(Passing { is_no_store, given: 0, held_back, waiting, whole, rest: None }).ok()?;
                Some(Self::Begun { chunks: Some(chunks), end })
            }
            Self::Begun { mut chunks, end } => {
                chunks.take_if(|chunks| chunks.try_send(next.clone()).is_err());
                Some(Self::Begun { chunks, end })
            }
        }
    }

    /// All of it has come, was read and is kept.
    pub fn end(self, body: Bytes) {
        if let Self::Begun { chunks, end } = self {
            drop(chunks);
            let _ = end.send(body); // who left does not want to know
        }
    }
}

/// An answer that goes on while it comes.
#[derive(Debug)]
pub struct Passing {
    is_no_store: bool,
    /// So many bytes went on.
    given: usize,
    /// What goes on first, …
    held_back: VecDeque<Bytes>,
    /// … what comes after it, …
    waiting: mpsc::Receiver<Bytes>,
    whole: oneshot::Receiver<Bytes>,
    /// … and what is left at the end.
    rest: Option<Bytes>,
}

impl Passing {
    /// The body, as its client takes it. Whoever takes it is aboard the `flight` that brings it.
    pub fn body<F: Send + 'static>(self, flight: F) -> PassingBody {
        let is_no_store = self.is_no_store;
        let chunks = stream::try_unfold((self, flight), |(mut passing, flight)| async {
            let next = passing.next().await?;
            Ok(next.map(|next| (next, (passing, flight))))
        });
        PassingBody { is_no_store, chunks: chunks.boxed() }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BrokeOff> {
        if self.rest.is_none() {
            let next = match self.held_back.pop_front() {
                Some(first) => Some(first),
                None => self.waiting.recv().await,
            };
            if let Some(next) = next {
                self.given += next.len();
                return Ok(Some(next));
            }
        }
        let rest = match &mut self.rest {
            Some(rest) => {
                tokio::task::yield_now().await;
                rest
            }
            none => {
                let whole = (&mut self.whole).await.map_err(|_| BrokeOff)?;
                none.insert(whole.slice(self.given..))
            }
        };
        let piece = rest.split_to(rest.len().min(PIECE));
        Ok((!piece.is_empty()).then_some(piece))
    }
}

/// What its client takes.
pub struct PassingBody {
    /// Whether the server forbids to keep it.
    pub is_no_store: bool,
    /// The body.
    pub chunks: BoxStream<'static, Result<Bytes, BrokeOff>>,
}

impl fmt::Debug for PassingBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassingBody").field("is_no_store", &self.is_no_store).finish_non_exhaustive()
    }
}

/// The answer broke off.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the answer of the downstream broke off")]
pub struct BrokeOff;
