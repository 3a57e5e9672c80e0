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
use crate::model::destination::{self, BuildError, Inhibits, Policy, MIN_SLOTS};
use core::ptr::{null_mut, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::alloc::KVVec;
use kernel::prelude::*;
use kernel::sync::rcu;

/// A vCPU in the map. The vCPUs of a VM go only with the VM, or before they
/// were ever online; see [`Published::replace`].
pub(super) type Target = NonNull<Vcpu>;

/// Memory for the map's tables.
pub(super) struct Slots(KVVec<Option<Target>>);

impl AsRef<[Option<Target>]> for Slots {
    #[inline(always)]
    fn as_ref(&self) -> &[Option<Target>] {
        &self.0
    }
}

impl AsMut<[Option<Target>]> for Slots {
    fn as_mut(&mut self) -> &mut [Option<Target>] {
        &mut self.0
    }
}

/// The map of a VM's local APICs.
pub(super) type DestinationMap = destination::DestinationMap<Target, Slots>;

/// Builds the map of `vcpus`; none if it cannot be built, and then senders ask
/// every vCPU. `max_id` is the largest ID seen so far, and grows. Sleeps.
///
/// `None` in place of the result asks for another try: another vCPU came in
/// between.
pub(super) fn build<'a>(
    vcpus: impl Iterator<Item = &'a Vcpu> + Clone,
    policy: &Policy,
    max_id: &mut u32,
) -> Option<(Option<KBox<DestinationMap>>, Inhibits)> {
    let mut count = 0;
    for vcpu in vcpus.clone() {
        if vcpu.identity().is_some() {
            *max_id = (*max_id).max(vcpu.id());
            count += 1;
        }
    }
    let no_map = Inhibits {
        physical_id_aliased: true,
        logical_id_aliased: true,
        apic_id_modified: false,
    };
    let ids = (*max_id as usize + 1).max(MIN_SLOTS);
    let Ok(slots) = KVVec::from_elem(None, ids + count, GFP_KERNEL_ACCOUNT) else {
        return Some((None, no_map));
    };

    let apics = vcpus.filter_map(|vcpu| Some((vcpu.identity()?, NonNull::from(vcpu))));
    match DestinationMap::build(Slots(slots), ids, policy, apics) {
        (Ok(map), inhibits) => match KBox::new(map, GFP_KERNEL_ACCOUNT) {
            Ok(map) => Some((Some(map), inhibits)),
            Err(_) => Some((None, no_map)),
        },
        (Err(BuildError::Aliased), inhibits) => Some((None, inhibits)),
        (Err(BuildError::TooSmall), _) => None,
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
