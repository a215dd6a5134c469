//! Where entries lie.

pub mod memory;
