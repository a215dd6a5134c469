//! Values that have a notation of their own: weights, shares, and numbers of queriers.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::print::Printed;
use super::problem::Report;
use super::value::{Value, parsed};
use super::yaml::Node;
use crate::sched::shuffle::{ShardSize, Share};

/// How long a query waits for the shared tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteTimeout(pub Duration);

impl Default for RemoteTimeout {
    fn default() -> Self {
        Self(Duration::from_millis(50))
    }
}

impl Value for RemoteTimeout {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        Duration::read(node, report).map(Self)
    }

    fn print(&self) -> Printed {
        self.0.print()
    }
}

/// How much of the service a tenant gets beside others, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantWeight(pub u32);

impl Value for TenantWeight {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let expected = "a weight; write 1, 0.5 or 0.125: above 0, at most three decimals";
        parsed(node, report, expected, read_thousandths).map(Self)
    }

    fn print(&self) -> Printed {
        Printed::Plain(print_thousandths(self.0 as usize))
    }
}

/// A share of the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlightShare(pub Share);

impl Value for InFlightShare {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let expected = "a share of the slots: above 0 and at most 1, for example 0.75";
        parsed(node, report, expected, read_share).map(Self)
    }

    fn print(&self) -> Printed {
        Printed::Plain(print_share(self.0))
    }
}

/// How many queriers a tenant is confined to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxQueriers(pub ShardSize);

impl Value for MaxQueriers {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let count = |text: &str| Some(NonZeroUsize::new(text.parse().ok()?).map_or(ShardSize::All, ShardSize::Count));
        let share = |text: &str| read_share(text).map(ShardSize::Share);
        let expected = "a number of queriers; write 0 for all of them, 4 for four, or 0.25 for a quarter";
        parsed(node, report, expected, |text| count(text).or_else(|| share(text))).map(Self)
    }

    fn print(&self) -> Printed {
        Printed::Plain(match self.0 {
            // Of several tenants in one request: no file says that.
            ShardSize::Count(count) | ShardSize::Fewer(count, _) => count.to_string(),
            ShardSize::All => "0".to_owned(),
            // Else it would be one querier.
            ShardSize::Share(Share::ALL) => "1.0".to_owned(),
            ShardSize::Share(share) => print_share(share),
        })
    }
}

/// A decimal number, in thousandths.
fn read_thousandths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 3 || !is_number(whole) || !is_number(part) {
        return None;
    }
    let thousandths =
        whole.parse::<u32>().ok()?.checked_mul(1_000)?.checked_add(format!("{part:0<3}").parse().ok()?)?;
    (1..=1_000_000).contains(&thousandths).then_some(thousandths)
}

fn print_thousandths(thousandths: usize) -> String {
    let text = format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn read_share(text: &str) -> Option<Share> {
    u16::try_from(read_thousandths(text)?).ok().and_then(Share::from_thousandths)
}

fn print_share(share: Share) -> String {
    print_thousandths(share.of(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn shares_and_weights_are_decimal_numbers() {
        for (text, want) in [
            ("1", Some(1_000)),
            ("0.75", Some(750)),
            ("2.5", Some(2_500)),
            ("0.001", Some(1)),
            ("1000", Some(1_000_000)),
            ("0", None),
            ("0.0001", None),
            ("-1", None),
            ("1001", None),
            (".5", None),
            ("5000000", None),
        ] {
            assert_eq!(read_thousandths(text), want, "{text}");
            assert!(want.is_none_or(|n| print_thousandths(n as usize) == text), "{text}");
        }
        let limits = |text: &str| Config::parse(&format!("limits: {{{text}}}")).map(|config| config.limits);
        let queriers = |text: &str| limits(&format!("max_queriers: {text}")).map(|limits| limits.max_queriers);
        for (text, want) in [
            ("0", ShardSize::All),
            ("4", ShardSize::Count(NonZeroUsize::new(4).expect("not zero"))),
            ("0.25", ShardSize::Share(Share::from_thousandths(250).expect("a share"))),
            ("1.0", ShardSize::Share(Share::ALL)),
        ] {
            let read = queriers(text).expect("sound");
            assert_eq!((read.0, read.print()), (want, Printed::Plain(text.to_owned())));
        }
        assert!(queriers("1.5").expect_err("more than all").to_string().contains("0.25 for a quarter"));
        assert!(limits("max_in_flight: 2").is_err() && limits("weight: 0").is_err());
    }
}
