//! A slot of a querier: asks for work, waits parked while there is none, and keeps away while its querier rests.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Notify, oneshot};

use super::Dispatcher;
use super::job::Job;
use crate::jitter::jittered;
use crate::sched::health::{Health, Leave};
use crate::sched::queue::words::{Lost, QuerierId, QuerierKey, Turn};

/// A querier that is there: what its slots share.
#[derive(Debug)]
pub(super) struct Member {
    pub querier: QuerierId,
    pub slots: usize,
    /// Those that wait for work, the last one first.
    pub parked: Vec<(u64, oneshot::Sender<Wake>)>,
    next_number: u64,
    pub health: Health,
    /// How often it said that it leaves: what it had before that comes back without anybody's fault, although it, or another one
    /// of its name, is there again.
    pub farewells: u64,
    /// Told when a rest or a probe ends sooner than was said.
    pub wake: Arc<Notify>,
}

impl Member {
    pub(super) fn new(querier: &QuerierId) -> Self {
        Self {
            querier: querier.clone(),
            slots: 0,
            parked: Vec::new(),
            next_number: 0,
            health: Health::default(),
            farewells: 0,
            wake: Arc::default(),
        }
    }
}

/// What a parked slot is told.
#[derive(Debug)]
pub(super) enum Wake {
    /// It runs this.
    Run(Job),
    /// Its querier rests.
    Rest,
}

/// One place where a querier runs something. It is detached when it is dropped.
#[derive(Debug)]
pub struct Slot {
    dispatcher: Arc<Dispatcher>,
    querier: QuerierId,
    key: QuerierKey,
    wake: Arc<Notify>,
}

impl Slot {
    pub(super) fn new(dispatcher: Arc<Dispatcher>, querier: QuerierId, key: QuerierKey, wake: Arc<Notify>) -> Self {
        Self { dispatcher, querier, key, wake }
    }

    /// Whose it is.
    pub fn querier(&self) -> &QuerierId {
        &self.querier
    }

    /// The next thing to run. It is waited for as long as it takes; whoever stops waiting loses nothing.
    pub async fn next(&mut self) -> Job {
        loop {
            let mut told = std::pin::pin!(self.wake.notified());
            // From here on nothing that is told is missed.
            told.as_mut().enable();
            match self.dispatcher.pull(self.key) {
                Pulled::Run(job) => return job,
                Pulled::Parked(mut parked) => {
                    if let Some(job) = parked.wait().await {
                        return job;
                    }
                }
                Pulled::Rest(until) => {
                    let _ = tokio::time::timeout_at(until.into(), told).await;
                }
                Pulled::AfterProbe => told.await,
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let now = super::now();
        self.dispatcher.change(now, |state| {
            state.queue.detach(self.key, now);
            if let Some(member) = state.members.get_mut(&self.key) {
                member.slots -= 1;
                if member.slots == 0 {
                    state.members.remove(&self.key);
                    state.wake_resting();
                }
            }
        });
    }
}

/// What a slot that asks is told.
enum Pulled {
    Run(Job),
    Parked(Parked),
    Rest(Instant),
    AfterProbe,
}

impl Dispatcher {
    fn pull(self: &Arc<Self>, key: QuerierKey) -> Pulled {
        let now = super::now();
        self.change(now, |state| {
            let others = state.others_are_fit(key);
            let member = state.members.get_mut(&key).expect("a querier with a slot is a member");
            let is_probe = match member.health.ask(others, now) {
                Leave::From(until) => return Pulled::Rest(until),
                Leave::AfterProbe => return Pulled::AfterProbe,
                Leave::Granted => false,
                Leave::Probe => true,
            };
            match state.queue.next(key, now) {
                Turn::Run(job) => {
                    let mut job = Job::new(Arc::clone(self), key, member.farewells, job, now);
                    job.is_probe = is_probe;
                    Pulled::Run(job)
                }
                Turn::Wait => {
                    let (sender, wake) = oneshot::channel();
                    let number = member.next_number;
                    member.next_number += 1;
                    member.parked.push((number, sender));
                    Pulled::Parked(Parked { dispatcher: Arc::clone(self), key, number, is_probe, wake: Some(wake) })
                }
            }
        })
    }
}

impl super::State {
    /// Whether another querier than this one is fit.
    pub(super) fn others_are_fit(&self, key: QuerierKey) -> bool {
        self.members.iter().any(|(other, member)| *other != key && member.health.is_fit() && self.queue.serves(*other))
    }

    /// A querier failed at something that began then: it rests, and its parked slots with it.
    pub(super) fn failed(&mut self, key: QuerierKey, began: Instant, now: Instant) {
        let others = self.others_are_fit(key);
        let Some(member) = self.members.get_mut(&key) else { return };
        member.health.failed(others, began, now, jittered);
        if !member.parked.is_empty() {
            // Of one that is not fit, who is parked is its probe.
            member.health.probe_ended();
        }
        for (_, parked) in std::mem::take(&mut member.parked) {
            self.queue.withdraw_slot(key);
            // It asks again, and is told for how long.
            let _ = parked.send(Wake::Rest);
        }
        self.wake_resting();
    }

    /// There is one less that is fit: those that rest may be needed now.
    pub(super) fn wake_resting(&self) {
        for member in self.members.values().filter(|member| !member.health.is_fit()) {
            member.wake.notify_waiters();
        }
    }

    /// How a job of a querier was lost, that had heard so many farewells of it when it began.
    pub(super) fn lost(&self, key: QuerierKey, farewells: u64, lost: Lost) -> Lost {
        let has_left = self.members.get(&key).is_some_and(|member| member.farewells > farewells);
        if has_left { Lost::Unsent } else { lost }
    }

    /// A querier answered.
    pub(super) fn answered(&mut self, key: QuerierKey) {
        if let Some(member) = self.members.get_mut(&key)
            && member.health.answered()
        {
            member.wake.notify_waiters();
        }
    }

    /// Nothing is known of how a querier fares; if this was a probe, another one may follow.
    pub(super) fn learnt_nothing(&mut self, key: QuerierKey, is_probe: bool) {
        if is_probe && let Some(member) = self.members.get_mut(&key) {
            member.health.probe_ended();
            member.wake.notify_waiters();
        }
    }
}

/// A slot that waits for work.
struct Parked {
    dispatcher: Arc<Dispatcher>,
    key: QuerierKey,
    number: u64,
    is_probe: bool,
    /// None once it was told something.
    wake: Option<oneshot::Receiver<Wake>>,
}

impl Parked {
    async fn wait(&mut self) -> Option<Job> {
        let wake = self.wake.as_mut()?;
        let told = wake.await;
        self.wake = None;
        match told {
            Ok(Wake::Run(mut job)) => {
                job.is_probe = self.is_probe;
                Some(job)
            }
            Ok(Wake::Rest) | Err(_) => None,
        }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        let Some(mut wake) = self.wake.take() else { return };
        self.dispatcher.change(super::now(), |state| {
            let Some(member) = state.members.get_mut(&self.key) else { return };
            if let Some(place) = member.parked.iter().position(|(number, _)| *number == self.number) {
                member.parked.remove(place);
                state.queue.withdraw_slot(self.key);
            }
            state.learnt_nothing(self.key, self.is_probe);
        });
        // It was given something while it stopped listening.
        if let Ok(Wake::Run(job)) = wake.try_recv() {
            job.unsent();
        }
    }
}
