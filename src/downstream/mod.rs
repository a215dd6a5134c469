//! The servers that answer, and how they are asked.

mod body;
mod connect;
mod credentials;
pub mod endpoint;
pub mod endpoints;
pub mod engine;
pub mod fetch;
pub mod headers;
pub mod pool;
pub mod url;
mod watched;
pub mod whole;
mod workers;
