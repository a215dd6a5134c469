//! Remote queriers pull over gRPC: the v1 protocol of Cortex, which Mimir spoke up to 2.17.
//!
//! A querier opens streams, as many as it wants to run queries at the same time; each is a slot. Over a stream goes one
//! request at a time, and one answer comes back. There are no request numbers: the order says what answers what.
//!
//! A real querier trusts its frontend so far that a malformed request ends its process. So what is sent is made in one place
//! each: `headers`, `paths`, `messages`. What comes back is believed in nothing: whatever a querier does, the request that it
//! held gets an outcome.

pub mod client;
pub mod headers;
pub mod messages;
pub mod options;
pub mod paths;
pub mod server;
mod session;
mod stats;

/// The stream of requests and answers.
const PROCESS: &str = "/frontend.Frontend/Process";
/// A querier announces that it leaves.
const NOTIFY_CLIENT_SHUTDOWN: &str = "/frontend.Frontend/NotifyClientShutdown";
/// Queriers of our own say their version in it. Their streams may be ended at any time, for they come back at once, and what
/// they were sent after they ended their half was never begun.
const OURS: &str = "x-promfront-querier";
/// In an answer of a querier of ours: its server went away with the query. So a query of death is known by what it does to the
/// servers, although the querier beside them lives on.
pub const VANISHED: &str = "X-Promfront-Vanished";
