//! Extents of answers that were given before: what they are, where they lie, and which of them still hold.

pub mod codec;
pub mod directive;
pub mod extent;
pub mod key;
pub mod page;
pub mod plan;
pub mod purge;
pub mod terms;

pub mod behind;
pub mod coalesce;
pub mod finished;
pub mod layer;
pub mod packer;
pub mod purger;
pub mod remote;
pub mod shared;
pub mod store;
pub mod texts;
pub mod whole;
