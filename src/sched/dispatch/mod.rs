//! The queue at work: requests are put in at one end, slots of queriers pull at the other.
//!
//! `ask` waits for a request's answer; whoever drops it takes the request out of the queue, or has it cancelled where it runs.
//! A [`Slot`] is one place where a querier runs something: it pulls a [`Job`] and says what became of it. A slot with nothing
//! to do is parked, and woken alone when there is something: nobody else wakes for it. What failed for a reason that lies with
//! the querier goes back into the queue while the retry budget lasts, and the querier rests, so that another one takes it.
//!
//! All of that is decided under one lock that is never held across an await.

pub mod estimate;
mod job;
mod rules;
mod slot;
mod verdict;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use axum::body::Body;
use http::Response;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, oneshot};

use self::estimate::Estimate;
pub use self::job::Job;
pub use self::slot::Slot;
use self::slot::{Member, Wake};
use super::budget::Budget;
use super::queue::Queue;
use super::queue::snapshot::Snapshot;
use super::queue::words::{
    Cancelled, DropReason, Effect, Fingerprint, Lane, NewRequest, QuerierId, QuerierKey, Refused, Source, Ticket,
};
use crate::config::{Config, FullStatus, Sched};
use crate::error::{ApiError, ErrorKind};
use crate::metrics::Metrics;
use crate::model::tenant::TenantId;
use crate::request::{Context, Outgoing};

/// How often the clock task looks whether it is still needed.
const LOOKS_EVERY: Duration = Duration::from_secs(10);

/// A request that is to be answered by somebody downstream.
#[derive(Clone, Debug)]
pub struct Submission {
    /// What is sent.
    pub outgoing: Outgoing,
    /// When its answer stops being of use.
    pub deadline: Instant,
    /// Where it stands in the queue.
    pub standing: Standing,
}

/// Where a request stands in the queue, and beside whom.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Whose it is.
    pub tenant: TenantId,
    /// Where inside the tenant it comes from.
    pub source: Source,
    /// Which kind of traffic it is.
    pub lane: Lane,
    /// What it is expected to cost, in microseconds of a slot.
    pub cost: u64,
    /// By what it is known again if queriers vanish under it.
    pub fingerprint: Fingerprint,
}

impl Standing {
    /// Where a request stands that costs about this much. `fingerprint`: a hash of the work that it is.
    pub fn new(context: &Context, estimate: Estimate, fingerprint: u64) -> Self {
        Self {
            tenant: context.tenant.clone(),
            source: Source(context.caller.source),
            lane: if context.caller.is_alert { Lane::Alert } else { estimate.lane },
            cost: estimate.cost,
            fingerprint: Fingerprint(fingerprint),
        }
    }
}

/// The answer to a request, its body whole or still on its way.
type Reply = Result<Response<Body>, ApiError>;

/// A request while it is in the queue or runs.
#[derive(Debug)]
struct Item {
    outgoing: Arc<Outgoing>,
    tenant: TenantId,
    lane: Lane,
    deadline: Instant,
    reply: oneshot::Sender<Reply>,
    /// What the last try ended with.
    last: Option<Reply>,
}

/// Whatever goes downstream goes through here.
#[derive(Debug)]
pub struct Dispatcher {
    state: Mutex<State>,
    /// Something is due earlier than it was.
    earlier: Arc<Notify>,
    manner: RwLock<Manner>,
    metrics: Arc<Metrics>,
}

/// What it is told by the configuration, besides the rules of the queue.
#[derive(Clone, Copy, Debug)]
struct Manner {
    max_wait_for_querier: Duration,
    full_status: FullStatus,
}

impl Manner {
    fn of(options: &Sched) -> Self {
        Self { max_wait_for_querier: options.max_wait_for_querier, full_status: options.full_status }
    }
}

#[derive(Debug)]
struct State {
    queue: Queue<Box<Item>>,
    members: HashMap<QuerierKey, Member>,
    budget: Budget,
    /// When the clock task wakes.
    wakes_at: Option<Instant>,
}

impl Dispatcher {
    /// An empty queue. It has to be made inside of a tokio runtime.
    pub fn new(config: &Config, metrics: Arc<Metrics>) -> Arc<Self> {
        let (now, rules) = (self::now(), rules::of(config));
        let state =
            State { queue: Queue::new(rules, now), members: HashMap::new(), budget: Budget::default(), wakes_at: None };
        let dispatcher = Arc::new(Self {
            state: Mutex::new(state),
            earlier: Arc::new(Notify::new()),
            manner: RwLock::new(Manner::of(&config.sched)),
            metrics,
        });
        tokio::spawn(keep_time(Arc::downgrade(&dispatcher), Arc::clone(&dispatcher.earlier)));
        dispatcher
    }

    /// From now on by other rules. What waits keeps its place, and what runs goes on.
    pub fn reconfigure(self: &Arc<Self>, config: &Config) {
        *self.manner.write() = Manner::of(&config.sched);
        let (now, rules) = (self::now(), rules::of(config));
        self.change(now, |state| state.queue.reload(rules, now));
    }

    fn manner(&self) -> Manner {
        *self.manner.read()
    }

    /// Waits for the answer of whoever pulls it. Dropping the future cancels the request.
    pub async fn ask(self: &Arc<Self>, submission: Submission) -> Reply {
        let deadline = submission.deadline;
        let mut waiting = self.push(submission)?;
        let mut patience = now() + self.manner().max_wait_for_querier;
        loop {
            let until = deadline.min(patience);
            match tokio::time::timeout_at(until.into(), &mut waiting.reply).await {
                Ok(Ok(reply)) => {
                    waiting.is_answered = true;
                    return reply;
                }
                Ok(Err(_)) => {
                    let message = "a request was lost on its way, which is a fault of promfront's own";
                    return Err(ApiError::new(ErrorKind::Internal, message));
                }
                Err(_) if until == deadline => return waiting.too_late(),
                Err(_) => match waiting.patience_ends() {
                    Some(error) => return Err(error),
                    None => patience = now() + self.manner().max_wait_for_querier,
                },
            }
        }
    }

    fn push(self: &Arc<Self>, submission: Submission) -> Result<Waiting, ApiError> {
        let now = self::now();
        let Submission { outgoing, deadline, standing } = submission;
        let Standing { tenant, source, lane, cost, fingerprint } = standing;
        let (sender, reply) = oneshot::channel();
        let item =
            Item { outgoing: Arc::new(outgoing), tenant: tenant.clone(), lane, deadline, reply: sender, last: None };
        let request = NewRequest {
            item: Box::new(item),
            tenant: tenant.clone(),
            source,
            lane,
            cost,
            expires: deadline,
            fingerprint: Some(fingerprint),
        };
        let pushed = self.change(now, |state| {
            let pushed = state.queue.push(request, now).map_err(|(refused, _)| refused);
            if pushed.is_ok() {
                state.budget.earn();
            }
            pushed
        });
        match pushed {
            Ok(ticket) => Ok(Waiting { dispatcher: Arc::clone(self), ticket, reply, since: now, is_answered: false }),
            Err(refused) => {
                Metrics::count(&self.metrics.queue.refused, refused.as_str());
                Err(self.refuse(refused, &tenant, now))
            }
        }
    }

    /// What is in the queue at present.
    pub fn snapshot(&self) -> Snapshot {
        self.state.lock().queue.snapshot(now())
    }

    /// Shows what is in the queue in the metrics.
    pub fn report(&self) {
        self.metrics.queue.show(&self.snapshot());
    }

    /// One slot more of a querier: it is free, and detached when it is dropped.
    pub fn attach(self: &Arc<Self>, querier: &QuerierId) -> Slot {
        let now = self::now();
        let (key, wake) = self.change(now, |state| {
            let key = state.queue.attach(querier, now);
            let member = state.members.entry(key).or_insert_with(|| Member::new(querier));
            member.slots += 1;
            (key, Arc::clone(&member.wake))
        });
        Slot::new(Arc::clone(self), querier.clone(), key, wake)
    }

    /// A querier announced that it leaves: it is given nothing more, and what it has may come back without anybody's fault.
    pub fn leaving(self: &Arc<Self>, querier: &QuerierId) {
        let now = self::now();
        self.change(now, |state| {
            state.queue.leaving(querier, now);
            for member in state.members.values_mut().filter(|member| member.querier == *querier) {
                member.farewells += 1;
            }
            state.wake_resting();
        });
    }

    /// Changes the queue, and does what follows from it.
    fn change<R>(self: &Arc<Self>, now: Instant, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        // Nothing is given out whose time is over, though the clock task has not noticed yet.
        state.queue.tick(now);
        let result = work(&mut state);
        let mut ended = Vec::new();
        while let Some(effect) = state.queue.effect(now) {
            match effect {
                Effect::Give { querier, job } => {
                    let member = state.members.get_mut(&querier).expect("a querier with a slot is a member");
                    let job = Job::new(Arc::clone(self), querier, member.farewells, job, now);
                    let parked = member.parked.pop();
                    let (_, wake) = parked.expect("the queue gives to parked slots only, and those are in the list");
                    wake.send(Wake::Run(job)).expect("a slot leaves the list before it stops listening");
                }
                Effect::Drop { item, reason, .. } => ended.push((item, reason)),
            }
        }
        let due = state.queue.due();
        if due.is_some_and(|due| state.wakes_at.is_none_or(|wakes_at| due < wakes_at)) {
            state.wakes_at = due;
            self.earlier.notify_one();
        }
        drop(state);
        for (item, reason) in ended {
            Metrics::count(&self.metrics.queue.dropped, reason.as_str());
            conclude(*item, reason, now);
        }
        result
    }

    fn refuse(&self, refused: Refused, tenant: &TenantId, now: Instant) -> ApiError {
        let kind = match self.manner().full_status {
            FullStatus::Unavailable => ErrorKind::Overloaded,
            FullStatus::TooManyRequests => ErrorKind::TooManyRequests,
        };
        match refused {
            Refused::TenantFull { limit, waiting } => ApiError::new(
                kind,
                format!(
                    "too many outstanding requests: {waiting} of tenant {tenant} wait already and the limit is {limit} \
                     (sched.max_queued_per_tenant, or limits.max_queued of the tenant); try again later"
                ),
            ),
            Refused::QueueFull { limit, waiting } => ApiError::new(
                kind,
                format!(
                    "too many outstanding requests: {waiting} of all tenants wait already and the limit is {limit} \
                     (sched.max_queued); try again later"
                ),
            ),
            Refused::Expired => ApiError::too_late(),
            Refused::Quarantined { until } => quarantined(tenant, until, now, None),
        }
    }
}

/// Tells a client that its request will not be run any more, and why.
fn conclude(mut item: Item, reason: DropReason, now: Instant) {
    let reply = match (reason, item.last.take()) {
        (DropReason::Quarantined { until }, last) => {
            let last = last.and_then(Result::err);
            Err(quarantined(&item.tenant, until, now, last.as_ref()))
        }
        (_, Some(last)) => last,
        (DropReason::Expired, None) => Err(waited_too_long()),
        (DropReason::Cancelled | DropReason::AttemptsSpent { .. }, None) => Err(ApiError::too_late()),
    };
    // Who does not listen any more does not want to know.
    let _ = item.reply.send(reply);
}

fn quarantined(tenant: &TenantId, until: Instant, now: Instant, last: Option<&ApiError>) -> ApiError {
    let seconds = until.saturating_duration_since(now).as_secs().max(1);
    let last = last.map(|error| format!(" ({error})")).unwrap_or_default();
    let message = format!(
        "this query of tenant {tenant} is quarantined for {seconds}s more: it was running on two queriers when they went \
         away{last}; ask for less (a shorter range, fewer series)"
    );
    ApiError::new(ErrorKind::Execution, message)
}

/// The one clock of the queue, which is also the one that tasks sleep by.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn waited_too_long() -> ApiError {
    let message = "the request waited in the queue until its time was over (its timeout, or downstream.timeout): everything that \
                   could answer it was busy";
    ApiError::new(ErrorKind::Timeout, message)
}

/// Somebody who waits for an answer. Whoever leaves takes his request with him.
struct Waiting {
    dispatcher: Arc<Dispatcher>,
    ticket: Ticket,
    reply: oneshot::Receiver<Reply>,
    since: Instant,
    is_answered: bool,
}

impl Waiting {
    /// The request's time is over, wherever it is.
    fn too_late(&mut self) -> Reply {
        // Whoever notices first that it waited in vain, it is told and counted in one way: every change begins with a look at the
        // clock.
        self.dispatcher.change(now(), |_| ());
        if let Ok(reply) = self.reply.try_recv() {
            self.is_answered = true;
            return reply;
        }
        let _ = self.take_back();
        Err(ApiError::too_late())
    }

    /// It has waited long enough for somebody to pull it, unless somebody is there, or runs it already.
    fn patience_ends(&mut self) -> Option<ApiError> {
        let item = self
            .dispatcher
            .change(now(), |state| if state.queue.slots() > 0 { None } else { state.queue.take_waiting(self.ticket) });
        if let Some(Err(error)) = item?.last.take() {
            return Some(error);
        }
        Metrics::count(&self.dispatcher.metrics.queue.dropped, "no_querier");
        Some(ApiError::new(
            ErrorKind::Unavailable,
            format!(
                "no querier is connected; the request waited {:?} for one (sched.max_wait_for_querier)",
                self.dispatcher.manner().max_wait_for_querier
            ),
        ))
    }

    fn take_back(&self) -> Cancelled<Box<Item>> {
        self.dispatcher.change(now(), |state| state.queue.cancel(self.ticket))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.reply.close();
        if self.is_answered {
            return;
        }
        if let Cancelled::Waiting(_) = self.take_back() {
            tracing::debug!(waited = ?now().saturating_duration_since(self.since), "a request left the queue with its client");
        }
    }
}

/// Wakes the queue when something is due in it.
async fn keep_time(dispatcher: Weak<Dispatcher>, earlier: Arc<Notify>) {
    loop {
        let Some(this) = dispatcher.upgrade() else { return };
        let now = self::now();
        this.change(now, |state| {
            // It is awake: nothing that is due has to wake it.
            state.wakes_at = Some(now);
        });
        let due = {
            let mut state = this.state.lock();
            state.wakes_at = state.queue.due();
            state.wakes_at
        };
        drop(this);
        // With nothing due it looks now and then whether the dispatcher is still there.
        let until = due.unwrap_or(now + LOOKS_EVERY);
        let _ = tokio::time::timeout_at(until.into(), earlier.notified()).await;
    }
}
