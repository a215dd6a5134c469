//! Packs what was kept, behind the answer's back.
//!
//! An answer that was fetched is kept as the text that it came as, so that whoever waits for it does not wait for packing too. One
//! thread then packs it and puts it in the place of the text, if that is still held. What waits for it is bounded; beyond that the
//! text is packed at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use super::key::Identity;
use super::store::memory::MemoryStore;
use crate::model::response::RangeAnswer;

/// So many extents wait at most …
const MOST_WAITING: usize = 256;
/// … and so many bytes of them.
const MOST_WAITING_BYTES: usize = 64 << 20;

/// An extent's answer that is to be packed.
#[derive(Debug)]
struct Task {
    identity: Identity,
    index: i64,
    answer: Arc<RangeAnswer>,
    /// Given back when it is done.
    _weight: Weight,
}

/// A share of the bytes that wait.
#[derive(Debug)]
struct Weight {
    bytes: usize,
    of: Arc<AtomicUsize>,
}

impl Weight {
    /// Whether there is room is told with it.
    fn add(bytes: usize, of: &Arc<AtomicUsize>) -> (Self, bool) {
        let is_room = of.fetch_add(bytes, Ordering::Relaxed) + bytes <= MOST_WAITING_BYTES;
        (Self { bytes, of: Arc::clone(of) }, is_room)
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Packs extents of the first tier.
#[derive(Debug)]
pub struct ExtentPacker {
    tasks: SyncSender<Task>,
    waiting_bytes: Arc<AtomicUsize>,
    memory: Arc<MemoryStore>,
}

impl ExtentPacker {
    /// Starts the thread, which ends with the packer.
    pub fn start(memory: &Arc<MemoryStore>) -> Self {
        let (tasks, waiting) = sync_channel(MOST_WAITING);
        let own = Arc::clone(memory);
        let started = std::thread::Builder::new().name("pack".to_owned()).spawn(move || work(&waiting, &own));
        if let Err(error) = started {
            tracing::warn!(%error, "extents are packed while their clients wait: no thread could be started for it");
        }
        Self { tasks, waiting_bytes: Arc::default(), memory: Arc::clone(memory) }
    }

    /// Packs an answer that is held in the slot `index` of a query.
    pub fn pack(&self, identity: &Identity, index: i64, answer: Arc<RangeAnswer>) {
        let (weight, is_room) = Weight::add(answer.weight(), &self.waiting_bytes);
        let task = Task { identity: identity.clone(), index, answer, _weight: weight };
        if !is_room {
            return task.run(&self.memory);
        }
        if let Err(TrySendError::Full(task) | TrySendError::Disconnected(task)) = self.tasks.try_send(task) {
            task.run(&self.memory);
        }
    }
}

fn work(waiting: &Receiver<Task>, memory: &MemoryStore) {
    while let Ok(task) = waiting.recv() {
        task.run(memory);
    }
}

impl Task {
    fn run(self, memory: &MemoryStore) {
        let is_held = |answer: &Arc<RangeAnswer>| Arc::ptr_eq(answer, &self.answer);
        let entry = memory.get(&self.identity, self.index);
        if entry.is_none_or(|entry| !entry.held().slot.extents().iter().any(|extent| is_held(&extent.answer))) {
            return;
        }
        let packed = Arc::new(self.answer.packed_part(&self.answer.grid));
        memory.amend(&self.identity, self.index, |slot| slot.with_answer_replaced(&self.answer, &packed));
    }
}
