//! promfront: a PromQL query frontend and caching proxy.
//!
//! **The law.** A range query is a finite grid of instants: start, start + step, … ≤ end. Limits narrow the grid, splitting
//! cuts it, the cache subtracts what it holds, merging concatenates what came back. Every answer is the one that the
//! downstream would have given to the whole query: same series, same order, same timestamps, same digits.
//!
//! The modules stand in reading order, lower floors first; a file names only lower floors or its own folder
//! (`ARCHITECTURE.md`, held by `tests/house.rs`).

// Words.
pub mod deflate;

pub mod error;
pub mod jitter;
pub mod model;
// Facts.
pub mod config;
pub mod promql;
// The request.
pub mod api;
pub mod request;
pub mod verdict;
// Texts.
pub mod merge;
pub mod wire;
// Decisions, and what acts on them: each decides in `plan` and acts in `layer`.
pub mod answer;
pub mod cache;
pub mod limits;
pub mod sched;
pub mod split;
// Surroundings and adapters.
pub mod discovery;
pub mod downstream;
pub mod metrics;
pub mod tls;
// The shell.
pub mod cli;
pub mod http;
pub mod pipeline;
pub mod querier;
pub mod service;
pub mod whole;
