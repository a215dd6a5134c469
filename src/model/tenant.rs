//! Whose request it is. Nothing is cached, queued or sent without a tenant (invariant *tenancy*).
//!
//! While multi-tenancy is off everything belongs to the one tenant `anonymous`, and tenant headers of the servers behind
//! are only passed on (they are part of the cache key like every header that can change an answer).

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// The longest name.
const MAX_NAME_BYTES: usize = 150;

/// A request is of at most so many tenants.
const MOST_PARTS: usize = 32;

/// A tenant's name. One that is federated, `a|b`, stands for several tenants: each once, and in order.
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
        if name.contains('%') {
            return Err(format!("{name:?} is not a tenant's name: it is percent-encoded; write the name itself"));
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

    /// Reads the names of one or more tenants, `b|a|a`: in any order, and as often as the client likes.
    pub fn parse_federated(names: &str) -> Result<Self, String> {
        let count = names.split('|').count();
        if count > MOST_PARTS {
            return Err(format!("a request is of at most {MOST_PARTS} tenants, and {count} are named"));
        }
        let parts: Result<BTreeSet<&str>, String> =
            names.split('|').map(|name| Self::parse(name).map(|_| name)).collect();
        Ok(Self::named(&parts?.into_iter().collect::<Vec<_>>().join("|")))
    }

    /// The names of those that it stands for.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('|')
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

/// A name is looked up without a copy of it.
impl Borrow<str> for TenantId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn several_tenants_are_one_whatever_their_order() {
        let read = |names: &str| TenantId::parse_federated(names).map(|tenant| tenant.as_str().to_owned());
        let many = |count: usize| (0..count).map(|i| format!("t{i}")).collect::<Vec<_>>().join("|");
        assert_eq!(read("b|a|a"), Ok("a|b".to_owned()));
        assert_eq!(read("team-a"), Ok("team-a".to_owned()));
        assert_eq!(TenantId::parse_federated(&many(32)).expect("so many are allowed").parts().count(), 32);
        for (names, says) in [
            ("", "no tenant is named"),
            ("a|", "no tenant is named"),
            ("|", "no tenant is named"),
            ("a||b", "no tenant is named"),
            ("a|..", "\"..\" is not a tenant's name"),
            ("a%7Cb", "percent-encoded"),
            ("a| b", "\" b\" is not a tenant's name"),
            (&many(33), "at most 32 tenants, and 33 are named"),
            (&format!("a|{}", "b".repeat(151)), "at most 150 characters"),
        ] {
            let problem = read(names).expect_err(names);
            assert!(problem.contains(says), "{names}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn no_two_sets_of_tenants_have_one_name(one in names(), other in names()) {
            let read = |names: &[String]| TenantId::parse_federated(&names.join("|")).expect("sound names");
            let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
            prop_assert_eq!(read(&one) == read(&other), set(&one) == set(&other));
            let parts: BTreeSet<String> = read(&one).parts().map(str::to_owned).collect();
            prop_assert_eq!(parts, set(&one));
        }
    }

    fn names() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[ab!.*'()_-]{0,2}a", 1..5)
    }
}
