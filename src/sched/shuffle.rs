//! Which queriers a tenant is confined to.
//!
//! A tenant that is confined to a few queriers can hurt only those. The choice is rendezvous hashing: every pair of tenant and
//! querier has a score that depends on their names alone, and a tenant has the queriers with the highest scores. So every
//! replica chooses the same ones, and one querier that joins or leaves changes at most one of them: it takes somebody's place,
//! or somebody takes its place.

use std::cmp::Reverse;
use std::num::NonZeroUsize;

use xxhash_rust::xxh3::xxh3_64;

/// A share of a whole, in thousandths: more than nothing, at most all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

impl Share {
    /// All of it.
    pub const ALL: Self = Self(1000);

    /// So many thousandths; none if that is nothing or more than all.
    pub const fn from_thousandths(thousandths: u16) -> Option<Self> {
        if thousandths == 0 || thousandths > Self::ALL.0 { None } else { Some(Self(thousandths)) }
    }

    /// How many that is of `whole`, rounded up.
    pub const fn of(self, whole: usize) -> usize {
        whole.saturating_mul(self.0 as usize).div_ceil(Self::ALL.0 as usize)
    }
}

/// How many queriers may serve one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardSize {
    /// All of them: the tenant is not confined.
    All,
    /// So many.
    Count(NonZeroUsize),
    /// A share of those that there are.
    Share(Share),
    /// So many, or that share, whichever is fewer.
    Fewer(NonZeroUsize, Share),
}

impl ShardSize {
    /// How many of `queriers` that is; none if the tenant is not confined by it.
    pub fn of(self, queriers: usize) -> Option<usize> {
        let size = match self {
            Self::All => return None,
            Self::Count(count) => count.get(),
            Self::Share(share) => share.of(queriers),
            Self::Fewer(count, share) => share.of(queriers).min(count.get()),
        };
        (size < queriers).then_some(size)
    }

    /// The fewer of the two, however many queriers there are.
    #[must_use]
    pub fn or_fewer(self, other: Self) -> Self {
        let ((a_count, a_share), (b_count, b_share)) = (self.bounds(), other.bounds());
        match (a_count.into_iter().chain(b_count).min(), a_share.into_iter().chain(b_share).min()) {
            (None, None) => Self::All,
            (Some(count), None) => Self::Count(count),
            (None, Some(share)) => Self::Share(share),
            (Some(count), Some(share)) => Self::Fewer(count, share),
        }
    }

    fn bounds(self) -> (Option<NonZeroUsize>, Option<Share>) {
        match self {
            Self::All => (None, None),
            Self::Count(count) => (Some(count), None),
            Self::Share(share) => (None, Some(share)),
            Self::Fewer(count, share) => (Some(count), Some(share)),
        }
    }
}

/// The hash of a name: a tenant's or a querier's. The same on every replica and in every version.
pub fn name_hash(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

/// How much a querier is a tenant's. Two multiplications mix the hashes (the finaliser of `SplitMix64`).
fn score(tenant: u64, querier: u64) -> u64 {
    let mut mixed = tenant ^ querier.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The queriers that a tenant is confined to, its best one first; none if it is not confined.
///
/// Queriers are pairs of the hash of their name and whatever the caller knows them by.
pub fn shard<K: Copy>(tenant: u64, queriers: &[(u64, K)], size: ShardSize) -> Option<Vec<K>> {
    let size = size.of(queriers.len())?;
    // Where scores are equal, the names decide; the caller's own keys may differ between replicas.
    let mut scored: Vec<_> = queriers.iter().map(|&(hash, key)| (Reverse((score(tenant, hash), hash)), key)).collect();
    scored.select_nth_unstable_by_key(size, |&(score, _)| score);
    scored.truncate(size);
    scored.sort_unstable_by_key(|&(score, _)| score);
    Some(scored.into_iter().map(|(_, key)| key).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn queriers(names: impl IntoIterator<Item = usize>) -> Vec<(u64, usize)> {
        names.into_iter().map(|i| (name_hash(&format!("querier-{i}")), i)).collect()
    }

    fn set(tenant: usize, queriers: &[(u64, usize)], size: ShardSize) -> BTreeSet<usize> {
        let chosen = shard(name_hash(&format!("tenant-{tenant}")), queriers, size);
        chosen.unwrap_or_else(|| queriers.iter().map(|&(_, i)| i).collect()).into_iter().collect()
    }

    fn count(count: usize) -> ShardSize {
        ShardSize::Count(NonZeroUsize::new(count).expect("not zero"))
    }

    #[test]
    fn one_querier_more_or_less_changes_at_most_one_member() {
        let third = ShardSize::Share(Share::from_thousandths(333).expect("a share"));
        for size in [count(1), count(4), count(30), third] {
            let mut changed = 0;
            for n in [5, 6, 20, 50, 100] {
                let (before, after) = (queriers(0..n), queriers(0..=n));
                for tenant in 0..2_000 {
                    let (few, many) = (set(tenant, &before, size), set(tenant, &after, size));
                    assert!(
                        few.difference(&many).count() <= 1 && many.difference(&few).count() <= 1,
                        "{size:?} of {n}"
                    );
                    assert!(many.is_subset(&few.iter().copied().chain([n]).collect()) || many.len() > few.len());
                    changed += usize::from(few != many);
                }
            }
            assert!(changed > 0, "the newcomer is somebody's: {size:?}");
        }
    }

    #[test]
    fn the_choice_depends_on_names_alone() {
        let (one, mut other) = (queriers(0..50), queriers(0..50));
        other.reverse();
        assert!((0..1000).all(|tenant| set(tenant, &one, count(4)) == set(tenant, &other, count(4))));
        let tenant = name_hash("team-a");
        assert_eq!(shard(tenant, &one, count(4)), Some(vec![16, 0, 42, 31]), "another version must choose the same");
    }

    /// Against the hypergeometric figures: 50 queriers, 4 each; two tenants share none 70.9 %, one 26.4 %, two 2.7 %.
    #[test]
    fn tenants_overlap_as_rarely_as_chance_has_it() {
        let all = queriers(0..50);
        let sets: Vec<_> = (0..10_000).map(|tenant| set(tenant, &all, count(4))).collect();
        let mut shared = [0_u32; 5];
        for pair in sets.chunks(2) {
            shared[pair[0].intersection(&pair[1]).count()] += 1;
        }
        let pairs = 5_000.0_f64;
        for (k, expected) in [(0, 0.709_f64), (1, 0.264), (2, 0.027)] {
            let sigma = (expected * (1.0 - expected) / pairs).sqrt();
            let found = f64::from(shared[k]) / pairs;
            assert!((found - expected).abs() < 4.0 * sigma, "{k} shared: {found}, expected {expected}");
        }
        let mut load = [0; 50];
        sets.iter().flatten().for_each(|&querier| load[querier] += 1);
        assert!(load.iter().all(|n| (680..920).contains(n)), "800 tenants each, give or take: {load:?}");
    }

    #[test]
    fn who_may_have_all_is_not_confined() {
        let all = queriers(0..4);
        assert_eq!(shard(1, &all, ShardSize::All), None);
        assert_eq!(shard(1, &all, count(4)), None);
        assert_eq!(shard(1, &all, ShardSize::Share(Share::ALL)), None);
        assert_eq!(shard(1, &all, count(3)).map(|members| members.len()), Some(3));
        assert_eq!(shard::<usize>(1, &[], count(3)), None);
        let half = Share::from_thousandths(500).expect("a share");
        assert_eq!((half.of(3), half.of(4), half.of(0)), (2, 2, 0));
        assert_eq!((Share::from_thousandths(0), Share::from_thousandths(1001)), (None, None));
    }

    #[test]
    fn the_fewer_of_two_sizes_is_the_fewer_of_any_number_of_queriers() {
        let count = |count| ShardSize::Count(NonZeroUsize::new(count).expect("not zero"));
        let share = |share| ShardSize::Share(Share::from_thousandths(share).expect("a share"));
        let sizes = [ShardSize::All, count(1), count(4), share(250), share(1000), count(4).or_fewer(share(500))];
        for (a, b) in sizes.iter().flat_map(|a| sizes.iter().map(move |b| (*a, *b))) {
            for queriers in 0..20 {
                let of = |size: ShardSize| size.of(queriers).unwrap_or(queriers);
                assert_eq!(of(a.or_fewer(b)), of(a).min(of(b)), "{a:?} and {b:?} of {queriers}");
            }
        }
    }
}
