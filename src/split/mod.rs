//! Cuts what is missing into the parts that are asked for.

pub mod layer;
pub mod part;
pub mod passing;
pub mod plan;
