//! The words of the queue: what is put in, what comes out, and why not.

use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::slab::Place;
use crate::model::tenant::TenantId;

/// Which kind of traffic a request belongs to. The caller judges, by what it knows before the request runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Alerts and recording rules: first, within a share of the slots.
    Alert,
    /// What is estimated to be small: some slots are closed to everything that is not.
    Small,
    /// Everything else.
    Normal,
}

impl Lane {
    /// All of them, in the order in which equals are served.
    pub const ALL: [Self; 3] = [Self::Alert, Self::Small, Self::Normal];

    /// As it stands in metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Small => "small",
            Self::Normal => "normal",
        }
    }
}

/// One of something for each lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerLane<V>(pub(super) [V; 3]);

impl<V> PerLane<V> {
    /// All three, in the order of [`Lane::ALL`].
    pub fn values(&self) -> &[V; 3] {
        &self.0
    }
}

impl<V> Index<Lane> for PerLane<V> {
    type Output = V;
    fn index(&self, lane: Lane) -> &V {
        &self.0[lane as usize]
    }
}

impl<V> IndexMut<Lane> for PerLane<V> {
    fn index_mut(&mut self, lane: Lane) -> &mut V {
        &mut self.0[lane as usize]
    }
}

/// Where inside a tenant a request comes from (a dashboard, a user, a rule group): a hash of the caller's making.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(pub u64);

/// What a request is, so that it is known when it is sent again: a hash of the caller's making.
///
/// Two requests with one fingerprint are the same work: where one of them kills queriers, the other does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

/// The name that a querier gives itself. All its connections have it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuerierId(Arc<str>);

impl QuerierId {
    /// The querier of that name.
    pub fn named(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A querier while it has slots. It is given out by `attach` and is of no use after the last `detach`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuerierKey(pub(super) Place);

/// A request's place in the queue, from its push until it is out of the queue's hands. One that is no more is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    pub(super) place: Place,
    /// Never used twice, so that a ticket of the past names nothing.
    pub(super) serial: u64,
}

/// A request that is to wait.
#[derive(Clone, Debug)]
pub struct NewRequest<T> {
    /// What the querier is to be given.
    pub item: T,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where inside the tenant it comes from.
    pub source: Source,
    /// Which kind of traffic it is.
    pub lane: Lane,
    /// What it is estimated to cost, in whatever unit the measured cost will have.
    pub cost: u64,
    /// When it is of no more use to anybody.
    pub expires: Instant,
    /// By what it is known again; without, it is never quarantined.
    pub fingerprint: Option<Fingerprint>,
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its tenant has too many requests waiting.
    TenantFull {
        /// So many may wait.
        limit: usize,
        /// So many do.
        waiting: usize,
    },
    /// Too many requests are waiting in all.
    QueueFull {
        /// So many may wait.
        limit: usize,
        /// So many do.
        waiting: usize,
    },
    /// Its time was over when it came.
    Expired,
    /// Queriers vanished when they ran it.
    Quarantined {
        /// It may be tried again then.
        until: Instant,
    },
}

/// Why a request that was let in will not be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// It was cancelled while a querier ran it, and came back.
    Cancelled,
    /// Its time is over.
    Expired,
    /// Queriers vanished when they ran it, or one like it.
    Quarantined {
        /// It may be tried again then.
        until: Instant,
    },
    /// It was given out as often as a request may be.
    AttemptsSpent {
        /// So often.
        attempts: u32,
    },
}

impl Refused {
    /// As it stands in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TenantFull { .. } => "tenant_full",
            Self::QueueFull { .. } => "queue_full",
            Self::Expired => "expired",
            Self::Quarantined { .. } => "quarantined",
        }
    }
}

impl DropReason {
    /// As it stands in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Quarantined { .. } => "quarantined",
            Self::AttemptsSpent { .. } => "attempts_spent",
        }
    }
}

/// A request that was given to a querier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job<T> {
    /// To say what became of it.
    pub ticket: Ticket,
    /// What was pushed.
    pub item: T,
    /// How long it waited since it was pushed or came back.
    pub waited: Duration,
    /// 1 the first time.
    pub attempt: u32,
}

/// What a free slot of a querier is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn<T> {
    /// Run this.
    Run(Job<T>),
    /// There is nothing for it now. The slot is parked: an [`Effect::Give`] will name its querier.
    Wait,
}

/// What the caller is to do after a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<T> {
    /// One parked slot of this querier is to run this.
    Give {
        /// Whose slot. It is not parked any more.
        querier: QuerierKey,
        /// What to run.
        job: Job<T>,
    },
    /// This will not be run; its client is to be told.
    Drop {
        /// Which one; the ticket is of no more use.
        ticket: Ticket,
        /// What was pushed.
        item: T,
        /// Why.
        reason: DropReason,
    },
}

/// What a cancelled request was doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancelled<T> {
    /// It waited, and does not any more.
    Waiting(T),
    /// This querier runs it and is to be told; its slot is busy until `finished` or `returned`. It will not be given out again.
    Running(QuerierKey),
    /// It was out of the queue's hands already.
    Gone,
}

/// How a request was lost that a querier had been given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The querier vanished with it.
    InFlight,
    /// The querier is there, or was never reached, and cannot answer now. Another one may.
    Declined,
    /// It never reached the querier. That is no attempt, and nobody's fault.
    Unsent,
}

/// What trying a lost request again would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextTry {
    /// Still the same attempt: nobody ran it, or who ran it had said that he leaves.
    SameAttempt,
    /// One more.
    Retry,
    /// One more than a request may have.
    None,
}
