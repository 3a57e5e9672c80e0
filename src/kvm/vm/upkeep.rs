// SPDX-License-Identifier: GPL-2.0

//! Keeping a VM's destination map up to date.
//!
//! Mostly one vCPU has changed, and the map follows that in place; if that is not
//! possible, or more has changed, it is built anew.

use super::super::bindings;
use super::super::map::{self, DestinationMap, Target};
use super::super::vcpu::Vcpu;
use super::Vm;
use crate::model::destination::{Inhibits, NeedsRebuild, Policy};
use crate::model::ioapic::Rescan;
use crate::model::lapic::Host;
use crate::model::sync::Ordering;

/// In place of the index of the vCPU that has changed: none has.
pub(super) const NONE: u32 = u32::MAX;
/// More than one has.
const SEVERAL: u32 = u32::MAX - 1;

/// What the map that is published was made of, with the identities that it was told
/// ([`Vcpu::mapped`]).
#[derive(Default)]
pub(super) struct Followed {
    /// Number of vCPUs, those of the first indexes.
    vcpus: usize,
    policy: Option<Policy>,
    inhibits: Option<Inhibits>,
}

impl Vm {
    /// Something that destinations depend on has changed in `vcpu`. Any context.
    pub(in crate::kvm) fn mark_map_dirty(&self, vcpu: &Vcpu) {
        let dirty = &self.map_dirty_vcpu;
        // A vCPU that is still being created has none yet and gives 0, which does
        // no harm: it comes into the map when it is found to be online.
        let this = vcpu.index();
        // ORDERING: What has changed, before the index; the index, before the mark.
        let first = dirty.compare_exchange(NONE, this, Ordering::AcqRel, Ordering::Relaxed);
        if first.is_err_and(|other| other != this) {
            dirty.store(SEVERAL, Ordering::Release);
        }
        self.fields
            .map_dirty
            .store(bindings::FERRIC_MAP_DIRTY, Ordering::Release);
    }

    /// Brings the map up to date if it is dirty. Sleeps then.
    #[inline]
    pub(in crate::kvm) fn recalculate_map(&self) {
        // ORDERING: The mark before the map.
        if self.fields.map_dirty.load(Ordering::Acquire) != bindings::FERRIC_MAP_CLEAN {
            self.update_map();
        }
    }

    #[cold]
    fn update_map(&self) {
        let mut followed = self.map_lock.lock();
        let dirty = &self.fields.map_dirty;
        // ORDERING: The mark before the registers that are read. If it is set
        // again meanwhile, whoever set it comes here again.
        let state = dirty.compare_exchange(
            bindings::FERRIC_MAP_DIRTY,
            bindings::FERRIC_MAP_UPDATE_IN_PROGRESS,
            Ordering::Acquire,
            Ordering::Acquire,
        );
        if state == Err(bindings::FERRIC_MAP_CLEAN) {
            // Somebody else has done it.
            return;
        }
        // ORDERING: The index before the registers that are read.
        let index = self.map_dirty_vcpu.swap(NONE, Ordering::Acquire);
        if self.follow(&mut followed, index).is_err() {
            self.rebuild(&mut followed);
        }
        // ORDERING: The map before the mark that it is there. If the mark has
        // been set meanwhile it stays.
        let _ = dirty.compare_exchange(
            bindings::FERRIC_MAP_UPDATE_IN_PROGRESS,
            bindings::FERRIC_MAP_CLEAN,
            Ordering::Release,
            Ordering::Relaxed,
        );
    }

    /// Lets the map follow the change of one vCPU, and those that have come online.
    fn follow(&self, followed: &mut Followed, index: u32) -> Result<(), NeedsRebuild> {
        let policy = self.policy();
        if index == NONE || index == SEVERAL || followed.policy != Some(policy) {
            return Err(NeedsRebuild);
        }
        let index = index as usize;
        let known = followed.vcpus;
        for new in known..self.online_vcpus() {
            let vcpu = self.vcpu(new).ok_or(NeedsRebuild)?;
            let identity = vcpu.identity();
            if let Some(identity) = &identity {
                let map = self.locked_map().ok_or(NeedsRebuild)?;
                map.append(Target::from(vcpu), identity, &policy)?;
                rescan(vcpu);
            }
            vcpu.set_mapped(identity.as_ref());
            followed.vcpus = new + 1;
        }
        if index < known {
            self.follow_one(index, &policy)?;
        }
        self.apply_map_inhibits(followed);
        Ok(())
    }

    /// Lets the map follow the vCPU with that index.
    fn follow_one(&self, index: usize, policy: &Policy) -> Result<(), NeedsRebuild> {
        let vcpu = self.vcpu(index).ok_or(NeedsRebuild)?;
        // Also if it is the same: what is in service may have been restored.
        rescan(vcpu);
        let old = vcpu.mapped().unpack(vcpu.id()).ok_or(NeedsRebuild)?;
        let new = vcpu.identity();
        if new == old {
            return Ok(());
        }
        let map = self.locked_map().ok_or(NeedsRebuild)?;
        map.update(Target::from(vcpu), old.as_ref(), new.as_ref(), policy)?;
        vcpu.set_mapped(new.as_ref());
        Ok(())
    }

    /// Builds the map anew. Sleeps.
    fn rebuild(&self, followed: &mut Followed) {
        let policy = self.policy();
        followed.policy = None;
        followed.vcpus = self.online_vcpus();
        let vcpus = (0..followed.vcpus).filter_map(|index| self.vcpu(index));
        for vcpu in vcpus.clone() {
            vcpu.set_mapped(vcpu.identity().as_ref());
        }
        // An identity that does not fit may be another one each time it is asked for.
        // Then the map is marked again, and that of now can do no harm.
        let apics = vcpus.filter_map(|vcpu| {
            let mapped = vcpu.mapped().unpack(vcpu.id());
            let identity = mapped.unwrap_or_else(|| vcpu.identity())?;
            Some((identity, Target::from(vcpu)))
        });
        let (map, inhibits) = map::build(apics, &policy);
        if map.is_some() {
            followed.policy = Some(policy);
        }
        self.set_map_inhibits(followed, inhibits);
        self.map.replace(map);
        self.request_ioapic_scan(Rescan::All);
    }

    /// The map, of which this thread has the lock.
    fn locked_map(&self) -> Option<&DestinationMap> {
        // SAFETY: Only what is called with a `Followed`, which is behind the lock,
        // replaces the map, and does not keep what it gets here.
        unsafe { self.map.owned() }
    }

    fn apply_map_inhibits(&self, followed: &mut Followed) {
        if let Some(map) = self.locked_map() {
            self.set_map_inhibits(followed, map.inhibits());
        }
    }

    fn set_map_inhibits(&self, followed: &mut Followed, inhibits: Inhibits) {
        if followed.inhibits == Some(inhibits) {
            return;
        }
        followed.inhibits = Some(inhibits);
        // SAFETY: By the type invariants.
        unsafe {
            bindings::ferric_set_map_inhibits(
                self.kvm.as_ptr(),
                inhibits.physical_id_aliased,
                inhibits.logical_id_aliased,
                inhibits.apic_id_modified,
            );
        }
    }
}

/// Lets a vCPU find out again which EOIs it has to report. That depends on its own
/// identity, of those of all vCPUs, and on what it has pending and in service.
fn rescan(vcpu: &Vcpu) {
    vcpu.request_scan_ioapic();
    vcpu.kick();
}
