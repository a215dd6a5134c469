//! The shared tier under every fault of caches and networks: it may be useless, it may never hurt.
//!
//! Need: a cache outside the process can be down, slow, wrong, full, foreign or somebody else's. Rule: whatever it does, each
//! answer is that of the server itself, byte for byte, no request fails or waits for long, and when the fault is over
//! the tier is of use again within fifteen seconds. Real Prometheus, real promfront processes, real Redis and memcached, and a
//! proxy between them. `README.md` has the table of the faults.

mod support;

#[path = "remote/cell.rs"]
mod cell;
#[path = "remote/clocks.rs"]
mod clocks;
#[path = "remote/entries.rs"]
mod entries;
#[path = "remote/fleet.rs"]
mod fleet;
#[path = "remote/purges.rs"]
mod purges;
#[path = "remote/servers.rs"]
mod servers;
#[path = "remote/truth.rs"]
mod truth;
#[path = "remote/wire.rs"]
mod wire;
