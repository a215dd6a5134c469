//! The servers that answer.

mod body;
pub mod engine;
pub mod headers;
pub mod http;
