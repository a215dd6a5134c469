//! The fair queue: what it promises, on random histories beside a naive model, in the terms of the theory, and in scenes of a
//! few lines. `PROPTEST_CASES=100000` plays more histories.

mod fairness;
mod model;
mod scenes;

use std::time::Duration;

use promfront::model::tenant::TenantId;
use promfront::sched::queue::words::QuerierId;
use promfront::sched::shuffle::Share;

const SECOND: Duration = Duration::from_secs(1);
/// Within which vanished queriers have to do with each other.
const WINDOW: Duration = Duration::from_mins(5);

fn tenant(i: usize) -> TenantId {
    TenantId::named(&format!("tenant-{i}"))
}

fn querier(i: usize) -> QuerierId {
    QuerierId::named(&format!("querier-{i}"))
}

fn thousandths(share: u16) -> Share {
    Share::from_thousandths(share).expect("a share")
}
