//! promfront: a PromQL query frontend and caching proxy.
//!
//! **The law.** A range query is a finite grid of instants: start, start + step, … ≤ end. Limits narrow the grid, splitting
//! cuts it, the cache subtracts what it holds, merging concatenates what came back. Every answer is the one that the
//! downstream would have given to the whole query: same series, same order, same timestamps, same digits.
//!
//! The modules stand in reading order, lower floors first; a file names only lower floors or its own folder
//! (`ARCHITECTURE.md`, held by `tests/house.rs`).

// Floor 0, words.
pub mod error;
pub mod model;
// Floor 1, facts.
pub mod config;
pub mod promql;
// Floor 2, the request.
pub mod request;
pub mod verdict;
// Floor 3, decisions: pure.
pub mod merge;
pub mod wire;
// Floors 3 and 4: each decides in `plan` and acts in `layer`.
pub mod cache;
pub mod split;
// Floor 4, adapters.
pub mod downstream;
pub mod metrics;
// Floor 5, the shell.
pub mod cli;
pub mod http;
pub mod pipeline;
