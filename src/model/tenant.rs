//! Whose request it is. Nothing is cached, queued or sent without a tenant (invariant *tenancy*).
//!
//! While multi-tenancy is off everything belongs to the one tenant `anonymous`, and tenant headers of the servers behind
//! are only passed on (they are part of the cache key like every header that can change an answer).

use std::fmt;
use std::sync::Arc;

/// The longest name.
const MAX_NAME_BYTES: usize = 150;

/// A tenant's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The one tenant there is while multi-tenancy is off.
    pub fn anonymous() -> Self {
        Self(Arc::from("anonymous"))
    }

    /// Reads a name that a client gives, by Cortex's rules: at most 150 letters, digits and `!-_.*'()`, and neither `.` nor `..`.
    pub fn parse(name: &str) -> Result<Self, String> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!-_.*'()".contains(&byte);
        if name.is_empty() {
            return Err("no tenant is named".to_owned());
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(format!(
                "a tenant's name has at most {MAX_NAME_BYTES} characters, and this one has {}",
                name.len()
            ));
        }
        if matches!(name, "." | "..") || !name.bytes().all(is_allowed) {
            return Err(format!(
                "{name:?} is not a tenant's name: letters, digits and !-_.*'() are allowed, but neither . nor .."
            ));
        }
        Ok(Self::named(name))
    }

    /// The tenant of that name, which is known to be one.
    pub fn named(name: &str) -> Self {
        Self(Arc::from(name))
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
