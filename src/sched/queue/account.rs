//! Virtual time: how much of the service each one has had, for its weight.
//!
//! Start-time fair queuing: who has had least is served next, and whoever is served moves ahead by cost over weight. A clock
//! stands at the least of those that wait and never goes back; who comes back after a while starts at the clock (or beside the
//! least of those that wait, if they were given something back), so that time spent idle is no credit. Everybody stays within a few of the greatest costs of the clock: neither a wrong estimate, nor
//! shards of unequal load, nor slots that only some could use, leave a debt or a credit that lasts.
//!
//! Times are whole numbers. A cost is at most 2⁴⁸ and is shifted by 32 bits, so that weights divide it well; the greatest charge
//! (of that cost, at a weight of a thousandth) is below 2⁹⁰, so 2³⁸ of these fit into 128 bits, and the clock starts at nothing
//! again whenever the queue is empty. Should it ever come to it, times stand still at the end instead of starting over.

use std::num::NonZeroU32;

/// A cost beyond this is this.
const MOST_COST: u64 = 1 << 48;
/// A measured cost is believed within this factor of its estimate, both ways.
const BELIEVED: u64 = 100;
/// How far from the clock one may be, in greatest costs.
const FARTHEST: u128 = 64;
/// The greatest cost is forgotten at this rate, each time that something is charged.
const FADING: u128 = 1024;

/// How much of the service a tenant gets beside others: twice the weight, twice the share. In thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(NonZeroU32);

impl Weight {
    /// The usual weight.
    pub const ONE: Self = Self(NonZeroU32::new(1000).expect("not zero"));

    /// So many thousandths of the usual weight; none if that is nothing.
    pub const fn from_thousandths(thousandths: u32) -> Option<Self> {
        match NonZeroU32::new(thousandths) {
            None => None,
            Some(thousandths) => Some(Self(thousandths)),
        }
    }
}

/// A virtual time, or a span of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag(u128);

impl Tag {
    /// What `cost` costs one of `weight`.
    pub fn of(cost: u64, weight: Weight) -> Self {
        Self((u128::from(cost.clamp(1, MOST_COST)) << 32) * 1000 / u128::from(weight.0.get()))
    }

    pub fn plus(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    pub fn minus(self, span: Self) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

/// A measured cost as far as it is believed: at most what was charged is given back, less a hundredth.
pub(super) fn believed(measured: u64, estimated: u64) -> u64 {
    let estimated = estimated.clamp(1, MOST_COST);
    measured.clamp(estimated / BELIEVED, estimated.saturating_mul(BELIEVED))
}

/// The clock of those who share something.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    now: Tag,
    /// The greatest charge of late.
    greatest: Tag,
}

impl Clock {
    pub fn now(&self) -> Tag {
        self.now
    }

    /// Where one starts who had nothing waiting, beside others of whom the least is at `least`.
    ///
    /// That may be behind the clock: what was given back to them is no reason to wait behind them.
    pub fn enter(&self, tag: Tag, least: Option<Tag>) -> Tag {
        tag.max(least.map_or(self.now, |least| least.min(self.now)))
    }

    /// Somebody is served while the least of those that wait is at `least`.
    pub fn advance(&mut self, least: Tag) {
        self.now = self.now.max(least);
    }

    /// Where one at `tag` is after it was charged.
    pub fn charge(&mut self, tag: Tag, charge: Tag) -> Tag {
        let faded = Tag(self.greatest.0 - self.greatest.0 / FADING);
        self.greatest = faded.max(charge);
        self.near(tag.plus(charge))
    }

    /// Where one at `tag` is after a charge turned out to be another.
    pub fn correct(&mut self, tag: Tag, charged: Tag, measured: Tag) -> Tag {
        self.greatest = self.greatest.max(measured);
        self.near(tag.minus(charged).plus(measured))
    }

    fn near(&self, tag: Tag) -> Tag {
        let farthest = Tag(self.greatest.0.saturating_mul(FARTHEST));
        tag.clamp(self.now.minus(farthest), self.now.plus(farthest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000;

    #[test]
    fn twice_the_weight_costs_half() {
        let two = Weight::from_thousandths(2000).expect("a weight");
        assert_eq!(Tag::of(7, Weight::ONE), Tag::of(14, two));
        assert!(Tag::of(0, Weight::ONE) > Tag::default(), "nothing is free");
        let heaviest = Weight::from_thousandths(u32::MAX).expect("a weight");
        assert!(Tag::of(1, heaviest) > Tag::default());
    }

    #[test]
    fn a_measurement_is_believed_within_a_factor() {
        assert_eq!(believed(5, 10), 5);
        assert_eq!((believed(0, 1000), believed(u64::MAX, 1000)), (10, 100_000));
        assert_eq!(believed(u64::MAX, u64::MAX), MOST_COST * 100);
    }

    #[test]
    fn no_lie_gives_a_lasting_credit_or_debt() {
        let mut clock = Clock::default();
        clock.advance(Tag::of(1_000 * SECOND, Weight::ONE));
        let (dear, cheap) = (Tag::of(SECOND, Weight::ONE), Tag::of(SECOND / 100, Weight::ONE));
        let (mut debtor, mut creditor) = (clock.now(), clock.now());
        for _ in 0..100_000 {
            debtor = clock.charge(debtor, dear);
            creditor = clock.correct(creditor, dear, cheap);
        }
        let farthest = Tag::of(64 * SECOND, Weight::ONE);
        assert_eq!((debtor, creditor), (clock.now().plus(farthest), clock.now().minus(farthest)));
    }

    #[test]
    fn an_old_giant_is_forgotten() {
        let mut clock = Clock::default();
        let (giant, small) = (Tag::of(1_000_000, Weight::ONE), Tag::of(1, Weight::ONE));
        clock.charge(Tag::default(), giant);
        (0..40_000).for_each(|_| {
            clock.charge(Tag::default(), small);
        });
        assert!(clock.charge(giant, small) < Tag::of(100, Weight::ONE));
    }

    #[test]
    fn the_end_of_time_is_no_wrap() {
        let mut clock = Clock::default();
        let lightest = Weight::from_thousandths(1).expect("a weight");
        let most = Tag::of(u64::MAX, lightest);
        assert!(most < Tag(1 << 91));
        clock.advance(Tag(u128::MAX - 5));
        assert_eq!(clock.charge(clock.now(), most), Tag(u128::MAX));
    }
}
