//! What goes downstream waits here, fairly, until somebody pulls it.
//!
//! `queue` decides whose turn it is, `health` who may pull, `budget` what is tried again; all of that
//! is pure. `dispatch` acts on it: requests are put in at one end, and slots of queriers pull at the other, be they
//! workers of our own (`downstream`) or streams of remote queriers (`grpc`).

pub mod budget;
pub mod dispatch;
pub mod grpc;
pub mod health;
pub mod queue;
pub mod shuffle;
