//! How much may be tried again: a tenth of the traffic, so that retries never multiply a load that servers are failing under.
//!
//! Each request earns a tenth of a retry. What is earned and not used is kept up to a small reserve, which is also what there
//! is to begin with: a proxy with little traffic can still outlive one server.

/// What one request earns, in parts of a retry.
const EARNED: u32 = 1;
/// What one retry costs.
const PRICE: u32 = 10;
/// The reserve, in retries.
const RESERVE: u32 = 20;

/// What is left to be tried again.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    parts: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { parts: RESERVE * PRICE }
    }
}

impl Budget {
    /// A request came.
    pub fn earn(&mut self) {
        self.parts = (self.parts + EARNED).min(RESERVE * PRICE);
    }

    /// Takes one retry, if there is one.
    pub fn take(&mut self) -> bool {
        let left = self.parts.checked_sub(PRICE);
        self.parts = left.unwrap_or(self.parts);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_traffic_is_tried_again_beyond_the_reserve() {
        let mut budget = Budget::default();
        let requests = 10_000;
        // Everything fails.
        let retries = (0..requests).filter(|_| {
            budget.earn();
            budget.take()
        });
        let retries = retries.count();
        assert!((requests / 10..=requests / 10 + 23).contains(&retries), "{retries}");
        assert!(!budget.take());
    }

    #[test]
    fn what_is_saved_is_bounded() {
        let mut budget = Budget::default();
        (0..1_000_000).for_each(|_| budget.earn());
        assert_eq!((0..1000).filter(|_| budget.take()).count(), RESERVE as usize);
    }
}
