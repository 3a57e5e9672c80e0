// SPDX-License-Identifier: GPL-2.0

//! The destination map of a VM, published under RCU.
//!
//! Anything that a destination depends on (IDs, modes, software enable) marks
//! the map dirty; whoever did so then rebuilds it, outside of all hot paths.
//! Senders look up the map that is there, without a lock. A message that is
//! sent while the map is rebuilt goes by the old map or by the new one, as it
//! could go before or after the change on hardware.

use super::bindings;
use super::vcpu::Vcpu;
use crate::model::destination::{self, Identity, Inhibits, Policy, MIN_SLOTS};
use core::ptr::{null_mut, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::alloc::KVVec;
use kernel::prelude::*;
use kernel::sync::rcu;

/// A vCPU in the map. The vCPUs of a VM go only with the VM, or before they
/// were ever online; see [`Published::replace`].
pub(super) type Target = NonNull<Vcpu>;

impl destination::Target for Target {
    type Slot = AtomicPtr<Vcpu>;

    #[inline(always)]
    fn slot(target: Option<Self>) -> AtomicPtr<Vcpu> {
        AtomicPtr::new(target.map_or(null_mut(), NonNull::as_ptr))
    }

    #[inline(always)]
    fn load(slot: &AtomicPtr<Vcpu>) -> Option<Self> {
        // ORDERING: The vCPU's own contents after the pointer to it.
        NonNull::new(slot.load(Ordering::Acquire))
    }

    #[inline(always)]
    fn store(slot: &AtomicPtr<Vcpu>, target: Option<Self>) {
        // ORDERING: The vCPU's own contents before the pointer to it.
        slot.store(
            target.map_or(null_mut(), NonNull::as_ptr),
            Ordering::Release,
        );
    }
}

/// Memory for the map's tables.
pub(super) struct Slots(KVVec<AtomicPtr<Vcpu>>);

impl Slots {
    fn new(count: usize) -> Result<Self> {
        let mut slots = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..count {
            slots.push(AtomicPtr::new(null_mut()), GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Self(slots))
    }
}

impl AsRef<[AtomicPtr<Vcpu>]> for Slots {
    #[inline(always)]
    fn as_ref(&self) -> &[AtomicPtr<Vcpu>] {
        &self.0
    }
}

/// The map of a VM's local APICs.
pub(super) type DestinationMap = destination::DestinationMap<Target, Slots>;

/// What follows if there is no map.
pub(super) const NO_MAP: Inhibits = Inhibits {
    physical_id_aliased: true,
    logical_id_aliased: true,
    apic_id_modified: false,
};

/// Builds the map of `apics`, those that have an identity; none if it cannot be
/// built, and then senders ask every vCPU. Sleeps.
pub(super) fn build(
    apics: impl Iterator<Item = (Identity, Target)> + Clone,
    policy: &Policy,
) -> (Option<KBox<DestinationMap>>, Inhibits) {
    // With room for as many more, so that it can follow when they come.
    let (count, max_id) = apics
        .clone()
        .fold((0, 0), |(count, max_id), (identity, _)| {
            (count + 1, identity.x2apic_id.max(max_id))
        });
    let ids = (max_id as usize + 1).max(MIN_SLOTS).next_power_of_two();
    let room = if destination::counts_up(apics.clone().map(|(identity, _)| identity), policy) {
        0
    } else {
        usize::next_power_of_two(count + 1)
    };
    let Ok(slots) = Slots::new(ids + room) else {
        return (None, NO_MAP);
    };
    match DestinationMap::build(slots, ids, policy, apics) {
        (Ok(map), inhibits) => match KBox::new(map, GFP_KERNEL_ACCOUNT) {
            Ok(map) => (Some(map), inhibits),
            Err(_) => (None, NO_MAP),
        },
        (Err(_), inhibits) => (None, inhibits),
    }
}

/// The map that senders see.
///
/// # Invariants
///
/// The pointer is null or came from `KBox::into_raw`, and the map behind it is
/// freed only after it was replaced and an RCU grace period has passed, or when
/// this is dropped.
pub(super) struct Published(AtomicPtr<DestinationMap>);

impl Published {
    /// No map.
    pub(super) const fn new() -> Self {
        // INVARIANT: The pointer is null.
        Self(AtomicPtr::new(null_mut()))
    }

    /// The map, for as long as the RCU read lock is held. Any context.
    #[inline(always)]
    pub(super) fn get<'a>(&'a self, _guard: &'a rcu::Guard) -> Option<&'a DestinationMap> {
        // ORDERING: Pairs with the release in `replace`, as rcu_dereference()
        // with rcu_assign_pointer().
        let map = self.0.load(Ordering::Acquire);
        // SAFETY: By the type invariants, as the caller holds the RCU read
        // lock.
        unsafe { map.as_ref() }
    }

    /// The map, without the RCU read lock.
    ///
    /// # Safety
    ///
    /// Nobody may replace it while the result is used.
    pub(super) unsafe fn owned(&self) -> Option<&DestinationMap> {
        let map = self.0.load(Ordering::Acquire);
        // SAFETY: By the type invariants and this function's requirements.
        unsafe { map.as_ref() }
    }

    /// Publishes another map, and frees the old one when nobody can see it any
    /// more. Sleeps. The caller keeps others from doing the same.
    pub(super) fn replace(&self, map: Option<KBox<DestinationMap>>) {
        let map = map.map_or(null_mut(), KBox::into_raw);
        // INVARIANT: `map` is null or came from `KBox::into_raw`.
        // ORDERING: The map's contents before the pointer to it.
        let old = self.0.swap(map, Ordering::AcqRel);
        let Some(old) = NonNull::new(old) else {
            return;
        };
        // The map and its table are plain memory; both are freed by RCU, not
        // dropped. Reading the table's parts out leaves the old map as it is
        // for those who still look at it.
        // SAFETY: By the type invariants `old` is a map, which nobody writes
        // to; the copy of the table is taken apart at once and never dropped.
        let table = unsafe { core::ptr::read(old.as_ref().table()) };
        let (table, _, _) = table.0.into_raw_parts();
        // SAFETY: Both came from allocators whose memory kvfree() frees, and
        // no pointer to them is left but those of RCU readers.
        unsafe {
            bindings::ferric_kvfree_rcu(table.cast());
            bindings::ferric_kvfree_rcu(old.as_ptr().cast());
        }
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        if let Some(map) = NonNull::new(*self.0.get_mut()) {
            // SAFETY: By the type invariants; nobody can reach the map through
            // an object that is being dropped.
            drop(unsafe { KBox::from_raw(map.as_ptr()) });
        }
    }
}
