//! Reloading: a running promfront is given another configuration, and nobody who asks notices more than that it holds.
//!
//! Need: limits, servers and caches change while people look at dashboards. Rule: what was asked for is in force when the reload is
//! said to be done, all of it or nothing; no request fails, what was kept and what waits stays, nothing is left behind. All from
//! outside, on real processes.

mod support;

#[path = "reload/caches.rs"]
mod caches;
#[path = "reload/doors.rs"]
mod doors;
#[path = "reload/files.rs"]
mod files;
#[path = "reload/flights.rs"]
mod flights;
#[path = "reload/leaks.rs"]
mod leaks;
#[path = "reload/options.rs"]
mod options;
#[path = "reload/rig.rs"]
mod rig;
#[path = "reload/storm.rs"]
mod storm;

/// Whether `PROMFRONT_SHARE=1` asks for all of it.
fn is_full() -> bool {
    std::env::var("PROMFRONT_SHARE").is_ok_and(|share| share == "1")
}
