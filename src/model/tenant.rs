//! Whose request it is. Nothing is cached, queued or sent without a tenant (invariant *tenancy*).
//!
//! While multi-tenancy is off everything belongs to the one tenant `anonymous`, and tenant headers of the servers behind
//! are only passed on (they are part of the cache key like every header that can change an answer).

use std::fmt;
use std::sync::Arc;

/// A tenant's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The one tenant there is while multi-tenancy is off.
    pub fn anonymous() -> Self {
        Self(Arc::from("anonymous"))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
