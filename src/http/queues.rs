//! `GET /promfront/api/v1/queues`: what waits and what runs, whose it is, and who pulls.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::reply;
use crate::sched::queue::snapshot::{Counts, Snapshot};
use crate::sched::queue::words::{Lane, PerLane, QuerierId};

#[derive(Serialize)]
struct Page<'s> {
    status: &'static str,
    data: Data<'s>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'s> {
    /// Slots of the queriers that serve.
    slots: usize,
    lanes: Vec<Lanes>,
    tenants: Vec<Tenant<'s>>,
    queriers: Vec<Querier<'s>>,
    /// Queries that queriers vanished under of late.
    suspects: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Lanes {
    lane: &'static str,
    waiting: usize,
    running: usize,
    oldest_wait_seconds: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tenant<'s> {
    #[serde(rename = "tenant")]
    name: &'s str,
    waiting: usize,
    running: usize,
    oldest_wait_seconds: f64,
    /// Of those that wait: because one like them is being tried alone.
    held: usize,
    at_cap: bool,
    lanes: Vec<Lanes>,
    /// The queriers that it is confined to; absent if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    queriers: Option<Vec<&'s str>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Querier<'s> {
    #[serde(rename = "querier")]
    name: &'s str,
    standing: &'static str,
    slots: usize,
    parked: usize,
    running: usize,
}

/// The page.
pub(super) fn answer(snapshot: &Snapshot) -> Response {
    let tenants = snapshot.tenants.iter().map(|tenant| {
        let Counts { waiting, running, oldest_wait } = tenant.total();
        Tenant {
            name: tenant.tenant.as_str(),
            waiting,
            running,
            oldest_wait_seconds: oldest_wait.as_secs_f64(),
            held: tenant.held,
            at_cap: tenant.at_cap,
            lanes: lanes(&tenant.lanes),
            queriers: tenant.queriers.as_ref().map(|queriers| queriers.iter().map(QuerierId::as_str).collect()),
        }
    });
    let queriers = snapshot.queriers.iter().map(|querier| Querier {
        name: querier.querier.as_str(),
        standing: querier.standing.as_str(),
        slots: querier.slots,
        parked: querier.parked,
        running: querier.running.values().iter().sum(),
    });
    let data = Data {
        slots: snapshot.slots,
        lanes: lanes(&snapshot.lanes),
        tenants: tenants.collect(),
        queriers: queriers.collect(),
        suspects: snapshot.suspects,
    };
    let page = serde_json::to_string(&Page { status: "success", data }).expect("it has strings and numbers only");
    reply::json(StatusCode::OK, Body::from(page))
}

fn lanes(counts: &PerLane<Counts>) -> Vec<Lanes> {
    let lane = |lane: Lane| {
        let Counts { waiting, running, oldest_wait } = counts[lane];
        Lanes { lane: lane.as_str(), waiting, running, oldest_wait_seconds: oldest_wait.as_secs_f64() }
    };
    Lane::ALL.map(lane).into()
}
