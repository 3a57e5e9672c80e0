// SPDX-License-Identifier: GPL-2.0

//! How a destination map follows a change of one APIC, without being built anew:
//! at the boot of N vCPUs each changes a few times, and to look at all of them each
//! time would be N * N.
//!
//! That is done only where it is simple: the IDs are unique, and stay so, and no
//! APIC goes. All else is left to [`DestinationMap::build`].

use super::super::sync::Ordering;
use super::map::{add, Logical};
use super::{DestinationMap, Identity, LogicalMode, Policy, Target};

/// The map has to be built anew. Nothing has been changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeedsRebuild;

/// What to do with an APIC's slots of physical IDs.
struct Physical<'a, T: Target> {
    /// To be filled.
    fill: [Option<&'a T::Slot>; 2],
    /// To be emptied.
    empty: Option<&'a T::Slot>,
    /// How many more APICs have an xAPIC ID that finds another one.
    shadowed: i32,
}

impl<T: Target, S: AsRef<[T::Slot]>> DestinationMap<T, S> {
    /// Takes in an APIC that comes after all that [`Self::build`] would get.
    pub fn append(&self, apic: T, new: &Identity, policy: &Policy) -> Result<(), NeedsRebuild> {
        self.change(apic, None, new, policy, true)
    }

    /// Follows a change of `apic`, whose identity the map knows as `old` and which
    /// is `new` now; none stands for an APIC that is disabled.
    ///
    /// Whoever looks something up meanwhile finds the APIC by what it has been or by
    /// what it is, and by what stays the same in any case.
    pub fn update(
        &self,
        apic: T,
        old: Option<&Identity>,
        new: Option<&Identity>,
        policy: &Policy,
    ) -> Result<(), NeedsRebuild> {
        if old == new {
            return Ok(());
        }
        let new = new.ok_or(NeedsRebuild)?;
        self.change(apic, old, new, policy, false)
    }

    fn change(
        &self,
        apic: T,
        old: Option<&Identity>,
        new: &Identity,
        policy: &Policy,
        is_last: bool,
    ) -> Result<(), NeedsRebuild> {
        if self.census.irregular.load(Ordering::Relaxed) != 0 {
            return Err(NeedsRebuild);
        }
        // First all that can fail.
        let physical = match old {
            Some(old) => self.moved(apic, old, new, policy)?,
            None => self.added(new, policy, is_last)?,
        };
        let mode = self.changed_logical(apic, old, new)?;
        if old.is_none() {
            self.add_to_all(new, apic, policy)
                .map_err(|_| NeedsRebuild)?;
        }

        for slot in physical.fill.into_iter().flatten() {
            T::store(slot, Some(apic));
        }
        if let Some(slot) = physical.empty {
            T::store(slot, None);
        }
        add(&self.census.shadowed, physical.shadowed);
        if let Some(old) = old {
            add(
                &self.census.x2apics,
                i32::from(new.is_x2apic) - i32::from(old.is_x2apic),
            );
        }
        let was_modified = old.is_some_and(Identity::is_modified);
        add(
            &self.census.modified,
            i32::from(new.is_modified()) - i32::from(was_modified),
        );
        self.change_logical(apic, old, new, mode);
        Ok(())
    }

    /// The slots of an APIC that comes in, as the last one or between others.
    fn added(
        &self,
        new: &Identity,
        policy: &Policy,
        is_last: bool,
    ) -> Result<Physical<'_, T>, NeedsRebuild> {
        let (first, second) = new.physical_ids(policy);
        let slot = self.slot(first)?;
        if T::load(slot).is_some() {
            return Err(NeedsRebuild);
        }
        let mut physical = Physical {
            fill: [Some(slot), None],
            empty: None,
            shadowed: 0,
        };
        if let Some(id) = second {
            let slot = self.slot(id)?;
            if T::load(slot).is_none() {
                physical.fill[1] = Some(slot);
            } else if is_last {
                physical.shadowed = 1;
            } else {
                // The first of them has it.
                return Err(NeedsRebuild);
            }
        }
        Ok(physical)
    }

    /// The slots of one that changes: those that it has, or one of them less.
    fn moved(
        &self,
        apic: T,
        old: &Identity,
        new: &Identity,
        policy: &Policy,
    ) -> Result<Physical<'_, T>, NeedsRebuild> {
        let (old_ids, new_ids) = (old.physical_ids(policy), new.physical_ids(policy));
        if old_ids.0 != new_ids.0 || T::load(self.slot(new_ids.0)?) != Some(apic) {
            return Err(NeedsRebuild);
        }
        let mut physical = Physical {
            fill: [None; 2],
            empty: None,
            shadowed: 0,
        };
        match (old_ids.1, new_ids.1) {
            (old, new) if old == new => {}
            (Some(id), None) => {
                let slot = self.slot(id)?;
                if T::load(slot) != Some(apic) {
                    physical.shadowed = -1;
                } else if self.census.shadowed.load(Ordering::Relaxed) == 0 {
                    physical.empty = Some(slot);
                } else {
                    // It may be another one's now.
                    return Err(NeedsRebuild);
                }
            }
            _ => return Err(NeedsRebuild),
        }
        Ok(physical)
    }

    fn slot(&self, id: u32) -> Result<&T::Slot, NeedsRebuild> {
        self.by_id().get(id as usize).ok_or(NeedsRebuild)
    }

    /// The mode by which logical IDs are looked up after the change, if it can be
    /// followed.
    fn changed_logical(
        &self,
        apic: T,
        old: Option<&Identity>,
        new: &Identity,
    ) -> Result<LogicalMode, NeedsRebuild> {
        let (was, is) = (old.and_then(Identity::logical_mode), new.logical_mode());
        let mut left = None;
        for mode in [LogicalMode::Flat, LogicalMode::Cluster, LogicalMode::X2Apic] {
            let before = self.census.logical.get(mode as usize - 1);
            let before = before.map_or(0, |count| count.load(Ordering::Relaxed));
            let after = before + u32::from(is == Some(mode)) - u32::from(was == Some(mode));
            if after != 0 {
                left = match left {
                    None => Some(mode),
                    Some(_) => Some(LogicalMode::Disabled),
                };
            }
        }
        let mode = left.unwrap_or(LogicalMode::SoftwareDisabled);
        if self.logical_mode() == LogicalMode::Disabled && mode != LogicalMode::Disabled {
            // The tables are not complete.
            return Err(NeedsRebuild);
        }
        if let (Some(is), true) = (is, mode != LogicalMode::Disabled) {
            match self.logical_slot(is, new.ldr) {
                Logical::Ambiguous => return Err(NeedsRebuild),
                Logical::Slot(slot) if T::load(slot).is_some_and(|other| other != apic) => {
                    return Err(NeedsRebuild)
                }
                Logical::Slot(_) | Logical::None => {}
            }
        }
        Ok(mode)
    }

    /// Does what [`Self::changed_logical`] has found possible.
    fn change_logical(&self, apic: T, old: Option<&Identity>, new: &Identity, mode: LogicalMode) {
        let old = old.and_then(|old| Some((old.logical_mode()?, old.ldr)));
        let new = new.logical_mode().map(|mode| (mode, new.ldr));
        if let Some((mode, _)) = old {
            self.count_logical(mode, -1);
        }
        if let Some((mode, _)) = new {
            self.count_logical(mode, 1);
        }
        if mode != LogicalMode::Disabled && old != new {
            // The new one first: who still looks for the old one finds it.
            let slot = |id: Option<(LogicalMode, u32)>| match id {
                Some((mode, ldr)) => self.logical_slot(mode, ldr),
                None => Logical::None,
            };
            if let Logical::Slot(slot) = slot(new) {
                T::store(slot, Some(apic));
            }
            self.set_logical_mode(mode);
            if let Logical::Slot(old_slot) = slot(old) {
                let is_same = match slot(new) {
                    Logical::Slot(new_slot) => core::ptr::eq(old_slot, new_slot),
                    Logical::Ambiguous | Logical::None => false,
                };
                if !is_same && T::load(old_slot) == Some(apic) {
                    T::store(old_slot, None);
                }
            }
        }
        self.set_logical_mode(mode);
    }
}
