//! The servers that answer.

pub mod engine;
pub mod http;
