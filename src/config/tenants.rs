//! The options about tenants: whether there are any, what a request of theirs may cost, and what is refused.

use std::time::Duration;

use super::bounds;
use super::options::options;
use super::units::{InFlightShare, MaxQueriers, TenantWeight};
use crate::model::time::Timestamp;
use crate::sched::shuffle::{ShardSize, Share};

options! {
    /// Whether requests belong to tenants.
    pub struct Multitenancy {
        /// Off: everything is of one tenant, and the header is passed on as it came. On: a request must say whose it is.
        enabled: bool;
        /// The header that says it.
        header: String = "X-Scope-OrgID".to_owned(), bounds::header;
        /// Whether a|b in the header asks for the data of several tenants together; otherwise it is refused.
        federation: bool = true;
    }
}

options! {
    /// What a request may cost.
    #[derive(Copy)]
    pub struct Limits {
        /// Points per series of a range query, judged on the request as the client made it. 0 leaves it to the server.
        max_points: u64 = 11_000;
        /// The longest time from start to end of a range query. 0s is no limit.
        max_query_length: Duration;
        /// How far back queries may reach; older instants are left out of the answer. 0s is no limit.
        max_query_lookback: Duration;
        /// The length of a query's text.
        max_query_bytes: u64 as Size = 1 << 20;
        /// How much of the queriers a tenant gets beside others: with 2 twice as much as with 1.
        weight: TenantWeight = TenantWeight(1_000);
        /// The share of the queriers' slots that one tenant may hold, so that others find one free. Without multitenancy, or when
        /// nobody else has asked for anything in the last minute, it is all of them.
        max_in_flight: InFlightShare
            = InFlightShare(Share::from_thousandths(750).expect("three quarters are a share"));
        /// How many queriers one tenant is confined to, so that it can hurt only those: 4, or 0.25 for a quarter; 0 is all of them.
        max_queriers: MaxQueriers = MaxQueriers(ShardSize::All);
        /// Parts of one query in flight at the same time.
        max_parallelism: usize = 14, bounds::count;
        /// The answer to one question, before and after unpacking; of a range query that is cut, the answers to its parts together. One that is
        /// handed on while it comes is broken off there (never below 64MiB: then it is judged first, and refused in words).
        max_response_bytes: u64 as Size = 1 << 30, bounds::response;
    }

    /// Limits of one tenant; those that are not there are the common ones.
    #[derive(Copy)]
    pub struct TenantLimits has each of them or none and {
        /// Requests of the tenant that may wait, instead of `sched.max_queued_per_tenant`.
        max_queued: Option<usize>, bounds::waiting;
    }
}

options! {
    /// What is otherwise for one tenant.
    #[derive(Copy)]
    pub struct Tenant {
        /// Its limits; those that are not here are the common ones.
        limits: TenantLimits;
    }
}

options! {
    /// Queries that are refused. All conditions that are there must hold; with none but tenants everything of theirs is refused.
    pub struct BlockRule {
        /// Whose queries; none named is everybody's.
        tenants: Vec<String>;
        /// The query, to the letter; empty for any.
        query: String;
        /// What the whole query matches (a regular expression, as in a matcher); empty for any.
        query_regex: String, bounds::regex;
        /// The dashboard that asks, by its uid; empty for any.
        dashboard: String;
        /// The panel that asks, by its number; empty for any.
        panel: String;
        /// What the whole User-Agent matches; empty for any.
        user_agent_regex: String, bounds::regex;
        /// Range queries from start to end longer than this; 0s for any.
        range_longer_than: Duration;
        /// Range queries with a step shorter than this; 0s for any.
        step_shorter_than: Duration;
        /// What people are told whose query is refused. Required.
        reason: String;
        /// Whom they can ask.
        owner: String;
        /// Until when the rule holds, such as 2026-01-31T00:00:00Z; null for ever.
        expires: Option<Timestamp>;
    }
}
