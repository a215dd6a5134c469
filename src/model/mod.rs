//! The words that everything else is said in: time, the step grid, tenants, and the text of series.
//!
//! Nothing here knows of HTTP, caches or servers; all of it is pure.

pub mod grid;
pub mod packed;
pub mod params;
pub mod pattern;
pub mod response;
pub mod series;
pub mod tenant;
pub mod time;
pub mod whole;
