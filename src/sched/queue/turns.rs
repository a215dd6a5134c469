//! Who has a turn where: the turns and benches of each group follow from what each tenant has and may have.

use std::collections::BTreeSet;

use super::Queue;
use super::fleet::{Change, Fleet, Group};
use super::slab::Place;
use super::tenant::Tenant;
use super::words::Lane;
use crate::sched::shuffle::{ShardSize, shard};

impl<T> Queue<T> {
    /// Brings the turns and benches of a tenant's groups into line with what it has.
    pub(super) fn refresh(&mut self, place: Place) {
        let tenant = &mut self.tenants[place];
        let (from, to) = (std::mem::replace(&mut tenant.listed_tag, tenant.tag), tenant.tag);
        for lane in Lane::ALL {
            let waits = tenant.lined[lane] > 0;
            tenant.benched[lane] &= waits;
            let wanted = waits && !tenant.benched[lane];
            let listed = std::mem::replace(&mut tenant.listed[lane], wanted);
            if wanted != listed || (listed && from != to) {
                let (from, to) = (listed.then_some(from), wanted.then_some(to));
                each_group(&mut self.shared, &mut self.fleet, tenant.members.as_deref(), |group| {
                    group.move_turn(lane, place, from, to);
                });
            }
        }
        let on_bench = tenant.benched.values().iter().any(|&benched| benched);
        if on_bench != std::mem::replace(&mut tenant.on_bench, on_bench) {
            let toggle =
                |bench: &mut BTreeSet<Place>| if on_bench { bench.insert(place) } else { bench.remove(&place) };
            each_group(&mut self.shared, &mut self.fleet, tenant.members.as_deref(), |group| {
                toggle(&mut group.bench);
            });
            toggle(&mut self.bench);
        }
    }

    /// The tenant has a turn in each lane again in which it may hold more than it does.
    pub(super) fn unbench(&mut self, place: Place) {
        if !self.tenants[place].on_bench {
            return;
        }
        for lane in Lane::ALL {
            if self.tenants[place].benched[lane] && self.has_room(place, lane) {
                self.tenants[place].benched[lane] = false;
            }
        }
        self.refresh(place);
        self.call(place);
    }

    pub(super) fn fleet_changed(&mut self, change: Change) {
        match change {
            Change::Shards => self.reshard(),
            Change::Slots => self.bench.clone().into_iter().for_each(|tenant| self.unbench(tenant)),
        }
    }

    /// The queriers that a tenant is confined to and that serve; none if it is not confined.
    pub(super) fn members(&self, tenant: &Tenant, candidates: Option<&[(u64, Place)]>) -> Option<Vec<Place>> {
        let size = tenant.rules.max_queriers;
        let mut members = match candidates {
            Some(candidates) => shard(tenant.hash, candidates, size)?,
            None if size == ShardSize::All => return None,
            None => shard(tenant.hash, &self.fleet.candidates(), size)?,
        };
        members.retain(|&place| self.fleet.queriers[place].is_serving());
        Some(members)
    }

    /// Queriers came or went, or the rules are others: who is whose is decided anew.
    pub(super) fn reshard(&mut self) {
        let candidates = self.fleet.candidates();
        for place in self.tenants.places() {
            let members = self.members(&self.tenants[place], Some(&candidates));
            let tenant = &mut self.tenants[place];
            if members != tenant.members {
                let (listed, on_bench) = (std::mem::take(&mut tenant.listed), std::mem::take(&mut tenant.on_bench));
                let tag = tenant.listed_tag;
                let serving = std::mem::replace(&mut tenant.members, members);
                each_group(&mut self.shared, &mut self.fleet, serving.as_deref(), |group| {
                    for lane in Lane::ALL {
                        group.move_turn(lane, place, listed[lane].then_some(tag), None);
                    }
                    group.bench.remove(&place);
                });
                if on_bench {
                    self.bench.remove(&place);
                }
                self.refresh(place);
            }
            self.unbench(place);
            if self.tenants[place].in_line() > 0 {
                self.call(place);
            }
        }
    }
}

/// Does something with the groups that a tenant belongs to: that of all, or those of its queriers.
fn each_group(shared: &mut Group, fleet: &mut Fleet, members: Option<&[Place]>, mut act: impl FnMut(&mut Group)) {
    let Some(members) = members else { return act(shared) };
    for &place in members {
        // One that has left took its group along.
        if let Some(querier) = fleet.queriers.get_mut(place) {
            act(&mut querier.own);
        }
    }
}
