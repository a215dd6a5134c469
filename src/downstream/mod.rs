//! The servers that answer.

pub mod http;
