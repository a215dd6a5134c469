//! Writing to the shared tier, behind the backs of those who wait for answers.
//!
//! What is due goes into a queue that is bounded in bytes; what does not fit is dropped and counted, and is due again when
//! the slot is next looked at. A few writers empty it.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::extent::Slot;
use super::key::Identity;
use super::page::{Page, Pages};
use super::remote::{PageWritten, Remote};
use super::store::memory::MemoryStore;
use crate::metrics::Metrics;
use crate::model::time::Timestamp;

/// So many pages are written at the same time.
const WRITERS: usize = 4;
/// Room is counted in these.
const UNIT: usize = 1024;
/// What a job takes besides its extents.
const OVERHEAD: usize = 1024;

/// Pages of one slot that are due.
#[derive(Debug)]
pub struct Job {
    /// Of which query.
    pub identity: Identity,
    /// How its pages lie.
    pub pages: Pages,
    /// Which of them are to be written.
    pub due: Vec<Page>,
    /// What they are cut from.
    pub slot: Slot,
    /// The clock of who fetched it.
    pub now: Timestamp,
}

/// The queue.
#[derive(Debug)]
pub struct WriteBehind {
    jobs: UnboundedSender<(Job, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    units: u32,
    memory: Arc<MemoryStore>,
    metrics: Arc<Metrics>,
}

impl WriteBehind {
    /// A queue for `max_bytes`. Its writers end when it is dropped and empty.
    pub fn new(remote: Arc<Remote>, memory: Arc<MemoryStore>, max_bytes: u64, metrics: Arc<Metrics>) -> Self {
        let units = u32::try_from(max_bytes / UNIT as u64).unwrap_or(u32::MAX).min(1 << 28);
        let (jobs, queue) = unbounded_channel();
        tokio::spawn(write(queue, remote, Arc::clone(&memory)));
        Self { jobs, room: Arc::new(Semaphore::new(units as usize)), units, memory, metrics }
    }

    /// Puts a job into the queue, if there is room.
    pub fn put(&self, job: Job) {
        let units = (job.slot.weight() + OVERHEAD).div_ceil(UNIT);
        let room =
            u32::try_from(units).ok().and_then(|units| Arc::clone(&self.room).try_acquire_many_owned(units).ok());
        if let Some(room) = room {
            // The writers are there for as long as the queue is.
            let _ = self.jobs.send((job, room));
        } else {
            self.metrics.remote_written("queue-full");
            job.due.iter().for_each(|page| give_back(&self.memory, &job, *page));
        }
    }

    /// Waits until everything that is in the queue now is written, or given up.
    pub async fn emptied(&self) {
        // All of the room is free only when nothing is in it.
        let _ = self.room.acquire_many(self.units).await;
    }
}

async fn write(queue: UnboundedReceiver<(Job, OwnedSemaphorePermit)>, remote: Arc<Remote>, memory: Arc<MemoryStore>) {
    let jobs = stream::unfold(queue, |mut queue| async { Some((queue.recv().await?, queue)) });
    jobs.for_each_concurrent(WRITERS, |(job, room)| {
        let (remote, memory) = (Arc::clone(&remote), Arc::clone(&memory));
        async move {
            for &page in &job.due {
                let Some(grid) = job.pages.grid(page) else { continue };
                let written = remote.write(&job.identity, (page, grid), &job.slot, job.now).await;
                if written == PageWritten::Later {
                    give_back(&memory, &job, page);
                }
            }
            drop(room);
        }
    })
    .await;
}

/// The page is due again.
fn give_back(memory: &MemoryStore, job: &Job, page: Page) {
    memory.update(&job.identity, page.slot, |held| held.dues.failed(page, job.now));
}
