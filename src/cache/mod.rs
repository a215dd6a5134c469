//! Extents of answers that were given before: what they are, where they lie, and which of them still hold.

pub mod extent;
pub mod key;
pub mod plan;

pub mod coalesce;
pub mod layer;
pub mod store;
