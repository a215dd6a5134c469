//! What replicas share: never a wrong answer, whatever the shared tier does, and no more traffic than it is worth.
//!
//! Here the shared tier is a map in this process that can be told to fail (`shared/store.rs`), the replicas are real caches
//! (`shared/model.rs`), and the clock is an argument. `PROPTEST_CASES` raises the number of histories.

#[path = "shared/amortised.rs"]
mod amortised;
#[path = "shared/failures.rs"]
mod failures;
#[path = "shared/model.rs"]
mod model;
#[path = "shared/purges.rs"]
mod purges;
#[path = "shared/replicas.rs"]
mod replicas;
#[path = "shared/store.rs"]
mod store;
#[path = "shared/versions.rs"]
mod versions;
