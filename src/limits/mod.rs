//! What a request may ask: limits of its tenant, and rules that block it.
//!
//! The need: one tenant's dashboard of a year must not be everybody's bad day, and the panel that melts the store must stop now.
//! The rule: a request is judged as the client made it, before anything is cut or looked up. What is too much is refused with
//! the limit, its value, the actual value, the tenant and the option; what lies too far back is left out, and nothing else is.
//! All of it is pure: `now` is an argument.

pub mod block;
pub mod lookback;
pub mod range;
pub mod tenants;

use crate::config::Config;
use crate::limits::block::Blocked;
use crate::limits::tenants::Tenants;

/// All that requests are judged by, read off a checked configuration once.
#[derive(Debug)]
pub struct Policy {
    /// The limits of each tenant.
    pub tenants: Tenants,
    /// What is not answered at all.
    pub blocked: Blocked,
    /// Whether alerts are answered from what is kept.
    pub caches_alerts: bool,
}

impl Policy {
    /// As configured.
    pub fn of(config: &Config) -> Result<Self, String> {
        Ok(Self { tenants: Tenants::of(config), blocked: Blocked::of(config)?, caches_alerts: config.cache.alerts })
    }
}
