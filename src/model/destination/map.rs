// SPDX-License-Identifier: GPL-2.0

//! The destination map: what it is made of, how it is built and asked. How it
//! follows a single change is in `update`.

use super::super::message::{DestinationMode, Message, Shorthand};
use super::super::nospec;
use super::super::sync::{AtomicU32, AtomicU64, Ordering};
use super::{Identity, Policy, Source, BROADCAST, X2APIC_BROADCAST};

/// An APIC as a map holds it: a pointer, or in tests a number.
pub trait Target: Copy + PartialEq {
    /// A slot that holds one, or none.
    type Slot;
    /// A slot with that in it.
    fn slot(target: Option<Self>) -> Self::Slot;
    /// What is in a slot. An acquire, for what a pointer leads to.
    fn load(slot: &Self::Slot) -> Option<Self>;
    /// Replaces what is in a slot. A release.
    fn store(slot: &Self::Slot, target: Option<Self>);
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        // No `From` makes a u64 of a usize.
        #[allow(clippy::cast_lossless)]
        impl Target for $number {
            type Slot = AtomicU64;
            fn slot(target: Option<Self>) -> AtomicU64 {
                AtomicU64::new(target.map_or(0, |number| number as u64 + 1))
            }
            fn load(slot: &AtomicU64) -> Option<Self> {
                let number = slot.load(Ordering::Acquire);
                (number != 0).then(|| (number - 1) as $number)
            }
            fn store(slot: &AtomicU64, target: Option<Self>) {
                slot.store(target.map_or(0, |number| number as u64 + 1), Ordering::Release);
            }
        }
    )*};
}

numbers!(u32, usize);

/// Which logical destinations the map can look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LogicalMode {
    /// No APIC is enabled by software, so none has a logical ID that counts.
    SoftwareDisabled,
    /// All use the flat model.
    Flat,
    /// All use the cluster model.
    Cluster,
    /// All are in x2APIC mode.
    X2Apic,
    /// Modes are mixed or IDs are ambiguous: no lookup is possible.
    Disabled,
}

/// Why a map cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// Two APICs have the same physical ID: VM without a map.
    Aliased,
    /// There is an ID beyond the table, or no room for the list of all.
    TooSmall,
}

/// What follows from the APICs' IDs for hardware that has a map of its own
/// (APICv, AVIC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inhibits {
    /// `APICV_INHIBIT_REASON_PHYSICAL_ID_ALIASED`
    pub physical_id_aliased: bool,
    /// `APICV_INHIBIT_REASON_LOGICAL_ID_ALIASED`
    pub logical_id_aliased: bool,
    /// `APICV_INHIBIT_REASON_APIC_ID_MODIFIED`
    pub apic_id_modified: bool,
}

/// Number of physical IDs that a map has room for at least: all xAPIC IDs.
pub const MIN_SLOTS: usize = 256;

/// The map of a VM's local APICs by their addresses.
///
/// `T` stands for an APIC, and `S` is the caller's memory for two tables: one slot
/// for each physical ID, and then one for each APIC. The latter lists all of them. If
/// their IDs count up ([`counts_up`]) it may be left out: then the first of the former
/// are the same list.
///
/// Whoever builds or updates it keeps others from doing the same; those who look
/// something up need no lock, and see each slot as it is before or after.
pub struct DestinationMap<T: Target, S> {
    /// By x2APIC ID or xAPIC ID; then all APICs, in the order they came in.
    slots: S,
    /// Number of the slots for IDs.
    ids: usize,
    /// Where the list of all APICs starts: behind those slots, or with them.
    list: usize,
    /// Number of APICs.
    count: AtomicU32,
    flat: [T::Slot; 8],
    cluster: [[T::Slot; 4]; 16],
    logical_mode: AtomicU32,
    pub(super) census: Census,
}

/// How many APICs there are of each kind.
pub(super) struct Census {
    /// In x2APIC mode.
    pub(super) x2apics: AtomicU32,
    /// With an ID register that the guest has changed.
    pub(super) modified: AtomicU32,
    /// Those whose logical IDs count, for each of the three models.
    pub(super) logical: [AtomicU32; 3],
    /// In xAPIC mode with a large x2APIC ID, which they are found by, while what
    /// they have of it as an xAPIC ID finds another one.
    pub(super) shadowed: AtomicU32,
    /// Not found by their only ID, as another one has it, or with a logical ID of
    /// several bits or of another one.
    pub(super) irregular: AtomicU32,
}

/// Adds to a count that only its owner changes.
pub(super) fn add(count: &AtomicU32, number: i32) {
    let new = count.load(Ordering::Relaxed).wrapping_add_signed(number);
    count.store(new, Ordering::Relaxed);
}

/// Do the physical IDs of `apics` count up from zero, as those of most VMs do?
pub fn counts_up(apics: impl IntoIterator<Item = Identity>, policy: &Policy) -> bool {
    (0..)
        .zip(apics)
        .all(|(number, identity)| identity.physical_ids(policy).0 == number)
}

impl<T: Target, S: AsRef<[T::Slot]>> DestinationMap<T, S> {
    /// Builds the map of `apics`, all of those that have an identity.
    ///
    /// `slots` must be empty. The first `ids` are for the x2APIC IDs, as many as
    /// there are and [`MIN_SLOTS`] at least, and the rest for as many APICs; if there
    /// is no rest, the IDs must count up. After [`BuildError::TooSmall`] the inhibits
    /// mean nothing.
    pub fn build(
        slots: S,
        ids: usize,
        policy: &Policy,
        apics: impl IntoIterator<Item = (Identity, T)>,
    ) -> (Result<Self, BuildError>, Inhibits) {
        let empty = |_| T::slot(None);
        let has_list = slots.as_ref().len() > ids;
        let map = Self {
            slots,
            ids,
            list: if has_list { ids } else { 0 },
            count: AtomicU32::new(0),
            flat: core::array::from_fn(empty),
            cluster: core::array::from_fn(|_| core::array::from_fn(empty)),
            logical_mode: AtomicU32::new(LogicalMode::SoftwareDisabled as u32),
            census: Census {
                x2apics: AtomicU32::new(0),
                modified: AtomicU32::new(0),
                logical: core::array::from_fn(|_| AtomicU32::new(0)),
                shadowed: AtomicU32::new(0),
                irregular: AtomicU32::new(0),
            },
        };
        let mut result = Ok(());
        for (identity, apic) in apics {
            if identity.is_modified() {
                add(&map.census.modified, 1);
            }
            result = map
                .add_physical(&identity, apic, policy)
                .and_then(|()| map.add_to_all(&identity, apic, policy));
            if result.is_err() {
                break;
            }
            map.add_logical(&identity, apic);
        }

        let inhibits = match result {
            Ok(()) => map.inhibits(),
            Err(_) => Inhibits {
                physical_id_aliased: true,
                logical_id_aliased: true,
                ..map.inhibits()
            },
        };
        (result.map(|()| map), inhibits)
    }

    /// What follows from the APICs' IDs.
    pub fn inhibits(&self) -> Inhibits {
        Inhibits {
            physical_id_aliased: false,
            logical_id_aliased: self.logical_mode() == LogicalMode::Disabled,
            apic_id_modified: self.census.modified.load(Ordering::Relaxed) != 0,
        }
    }

    /// The slots of the physical IDs.
    #[inline(always)]
    pub(super) fn by_id(&self) -> &[T::Slot] {
        self.slots.as_ref().get(..self.ids).unwrap_or_default()
    }

    fn add_physical(
        &self,
        identity: &Identity,
        apic: T,
        policy: &Policy,
    ) -> Result<(), BuildError> {
        let slots = self.by_id();
        let x2apic_id = identity.x2apic_id as usize;
        let xapic_id = usize::from(identity.xapic_id);
        if xapic_id >= slots.len() {
            return Err(BuildError::Aliased);
        }
        if x2apic_id >= slots.len() {
            return Err(BuildError::TooSmall);
        }

        if policy.x2apic_format {
            // With 32-bit IDs an xAPIC has its x2APIC ID too if that is above
            // 0xff, and of several xAPICs with the same ID the first counts.
            if identity.is_x2apic || identity.x2apic_id > 0xff {
                if let Some(slot) = slots.get(x2apic_id) {
                    if T::load(slot).is_some() {
                        add(&self.census.irregular, 1);
                    }
                    T::store(slot, Some(apic));
                }
            }
            if !identity.is_x2apic {
                match slots.get(xapic_id) {
                    Some(slot) if T::load(slot).is_none() => T::store(slot, Some(apic)),
                    _ if identity.x2apic_id > 0xff => add(&self.census.shadowed, 1),
                    _ => add(&self.census.irregular, 1),
                }
            }
            return Ok(());
        }

        // Otherwise each APIC that has an ID takes what is sent there, which a
        // table with one slot for each ID cannot do.
        let id = if identity.is_x2apic {
            x2apic_id
        } else {
            xapic_id
        };
        match slots.get(id) {
            Some(slot) if T::load(slot).is_none() => {
                T::store(slot, Some(apic));
                Ok(())
            }
            _ => Err(BuildError::Aliased),
        }
    }

    /// Adds an APIC to the list of all, or does nothing.
    pub(super) fn add_to_all(
        &self,
        identity: &Identity,
        apic: T,
        policy: &Policy,
    ) -> Result<(), BuildError> {
        let count = self.count.load(Ordering::Relaxed);
        if self.list == 0 && identity.physical_ids(policy).0 != count {
            return Err(BuildError::TooSmall);
        }
        let index = self.list.saturating_add(count as usize);
        let slot = self.slots.as_ref().get(index);
        T::store(slot.ok_or(BuildError::TooSmall)?, Some(apic));
        // ORDERING: The slot before the number that says that it is there.
        self.count.store(count + 1, Ordering::Release);
        add(&self.census.x2apics, identity.is_x2apic.into());
        Ok(())
    }

    fn add_logical(&self, identity: &Identity, apic: T) {
        let Some(mode) = identity.logical_mode() else {
            return;
        };
        self.count_logical(mode, 1);
        let before = self.logical_mode();
        if before == LogicalMode::Disabled {
            return;
        }
        if before != LogicalMode::SoftwareDisabled && before != mode {
            self.set_logical_mode(LogicalMode::Disabled);
            return;
        }
        self.set_logical_mode(mode);
        match self.logical_slot(mode, identity.ldr) {
            Logical::Slot(slot) if T::load(slot).is_none() => T::store(slot, Some(apic)),
            Logical::Slot(_) | Logical::Ambiguous => {
                self.set_logical_mode(LogicalMode::Disabled);
                add(&self.census.irregular, 1);
            }
            Logical::None => {}
        }
    }

    pub(super) fn count_logical(&self, mode: LogicalMode, number: i32) {
        if let Some(count) = self.census.logical.get(mode as usize - 1) {
            add(count, number);
        }
    }

    pub(super) fn set_logical_mode(&self, mode: LogicalMode) {
        self.logical_mode.store(mode as u32, Ordering::Release);
    }

    /// Where an APIC with that logical ID is found.
    pub(super) fn logical_slot(&self, mode: LogicalMode, ldr: u32) -> Logical<'_, T> {
        let id = ldr >> 24;
        let (members, mask) = match mode {
            LogicalMode::Flat => (&self.flat[..], id & 0xff),
            LogicalMode::Cluster => {
                let number = (id >> 4 & 0xf) as usize;
                (&self.cluster[number][..], id & 0xf)
            }
            // The logical ID of an x2APIC follows from its physical one, so
            // the table of those serves for both.
            _ => return Logical::None,
        };
        match members.get(mask.trailing_zeros() as usize) {
            Some(slot) if mask.is_power_of_two() => Logical::Slot(slot),
            _ if mask == 0 => Logical::None,
            _ => Logical::Ambiguous,
        }
    }
}

/// Where an APIC is found by its logical ID.
pub(super) enum Logical<'a, T: Target> {
    /// In that slot.
    Slot(&'a T::Slot),
    /// It has several.
    Ambiguous,
    /// It has none, or needs none.
    None,
}

/// What a map says about a message.
pub enum Resolution<'a, T: Target> {
    /// The sender itself takes it.
    Sender,
    /// These APICs take it; there may be none.
    Targets(Targets<'a, T>),
    /// All these take it, the sender among them.
    All(All<'a, T>),
    /// All these take it but the sender.
    Others(All<'a, T>),
    /// The map cannot tell: ask every APIC, by [`matches`].
    Slow,
}

/// All APICs of a map; an iterator over them.
pub struct All<'a, T: Target> {
    slots: &'a [T::Slot],
}

impl<T: Target> Clone for All<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Target> Copy for All<'_, T> {}

impl<T: Target> All<'_, T> {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.slots.len()
    }
}

impl<T: Target> Iterator for All<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        let (first, rest) = self.slots.split_first()?;
        self.slots = rest;
        T::load(first)
    }
}

/// At most 64 APICs that lie side by side in a map; an iterator over them.
pub struct Targets<'a, T: Target> {
    slots: &'a [T::Slot],
    mask: u64,
}

impl<T: Target> Clone for Targets<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Target> Copy for Targets<'_, T> {}

impl<T: Target> Targets<'_, T> {
    /// No APIC.
    pub const fn none() -> Self {
        Self {
            slots: &[],
            mask: 0,
        }
    }

    /// Is exactly one APIC addressed, whether it exists or not?
    pub const fn is_single(&self) -> bool {
        self.mask.is_power_of_two()
    }
}

impl<T: Target> Iterator for Targets<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        while self.mask != 0 {
            let index = self.mask.trailing_zeros() as usize;
            self.mask &= self.mask - 1;
            if let Some(apic) = self.slots.get(index).and_then(T::load) {
                return Some(apic);
            }
        }
        None
    }
}

impl<T: Target, S: AsRef<[T::Slot]>> DestinationMap<T, S> {
    /// The caller's memory for the tables.
    pub fn table(&self) -> &S {
        &self.slots
    }

    /// Which logical destinations can be looked up.
    #[inline]
    pub fn logical_mode(&self) -> LogicalMode {
        const MODES: [LogicalMode; 5] = [
            LogicalMode::SoftwareDisabled,
            LogicalMode::Flat,
            LogicalMode::Cluster,
            LogicalMode::X2Apic,
            LogicalMode::Disabled,
        ];
        let mode = self.logical_mode.load(Ordering::Acquire) as usize;
        MODES.get(mode).copied().unwrap_or(LogicalMode::Disabled)
    }

    /// The APIC with that physical ID. The ID may come from the guest.
    #[inline(always)]
    pub fn physical(&self, id: u32) -> Option<T> {
        let slots = self.by_id();
        if id as usize >= slots.len() {
            return None;
        }
        let index = nospec::clamp(id as usize, slots.len());
        slots.get(index).and_then(T::load)
    }

    /// The APIC that a physical destination addresses, if it cannot be a broadcast
    /// and there is one. What is a broadcast depends on sender and settings.
    #[inline(always)]
    pub fn single(&self, destination: u32) -> Option<T> {
        if destination == BROADCAST {
            return None;
        }
        // No APIC has the ID that is x2APIC's broadcast.
        self.physical(destination)
    }

    /// The table from `id` on, and how many slots of it there are.
    #[inline]
    fn at(&self, id: u32) -> (&[T::Slot], u32) {
        let slots = self.by_id();
        if id as usize >= slots.len() {
            return (&[], 0);
        }
        let index = nospec::clamp(id as usize, slots.len());
        let rest = slots.get(index..).unwrap_or(&[]);
        (rest, rest.len() as u32)
    }

    /// The APICs whose physical IDs are `first` plus a bit that is set in
    /// `bitmap` (`KVM_HC_SEND_IPI`).
    #[inline]
    pub fn physical_range(&self, first: u32, bitmap: u64) -> Targets<'_, T> {
        let (slots, count) = self.at(first);
        let members = u64::MAX
            .checked_shr(64u32.saturating_sub(count))
            .unwrap_or(0);
        Targets {
            slots,
            mask: bitmap & members,
        }
    }

    /// Finds the destinations of a message. Any context, no lock.
    ///
    /// `arbitration_priority` is asked only for a message of lowest priority
    /// without vector hashing.
    #[inline]
    pub fn resolve(
        &self,
        message: &Message,
        source: Source,
        policy: &Policy,
        arbitration_priority: impl Fn(T) -> i32,
    ) -> Resolution<'_, T> {
        match message.shorthand {
            Shorthand::None => {}
            _ if source == Source::Device => return Resolution::Slow,
            Shorthand::Own => return Resolution::Sender,
            // Only one of them takes it, but which one is asked of all.
            _ if message.is_lowest_priority() => return Resolution::Slow,
            Shorthand::AllIncludingSelf => return Resolution::All(self.all()),
            Shorthand::AllExcludingSelf => return Resolution::Others(self.all()),
        }
        if self.is_broadcast(message.destination, source, policy) {
            return if self.addresses_all(message, source, policy) {
                Resolution::All(self.all())
            } else {
                Resolution::Slow
            };
        }
        if message.destination_mode == DestinationMode::Physical {
            let (slots, _) = self.at(message.destination);
            return Resolution::Targets(Targets { slots, mask: 1 });
        }

        match self.logical(message.destination) {
            None => Resolution::Slow,
            Some(targets) if message.is_lowest_priority() => Resolution::Targets(
                targets.lowest_priority(message.vector, policy, arbitration_priority),
            ),
            Some(targets) => Resolution::Targets(targets),
        }
    }

    /// All APICs that have an identity.
    pub fn all(&self) -> All<'_, T> {
        let count = self.count.load(Ordering::Acquire) as usize;
        let all = self.list..self.list.saturating_add(count);
        All {
            slots: self.slots.as_ref().get(all).unwrap_or_default(),
        }
    }

    /// Is a broadcast one for all APICs, since they agree in their mode, and does
    /// each of them take it?
    fn addresses_all(&self, message: &Message, source: Source, policy: &Policy) -> bool {
        let count = self.count.load(Ordering::Relaxed);
        let x2apics = self.census.x2apics.load(Ordering::Relaxed);
        if message.is_lowest_priority() || count == 0 {
            return false;
        }
        match message.destination {
            X2APIC_BROADCAST => x2apics == count,
            BROADCAST if x2apics == 0 => true,
            // What a device sends is taken for a broadcast by x2APICs, too.
            BROADCAST => {
                x2apics == count && source == Source::Device && !policy.broadcast_quirk_disabled
            }
            _ => false,
        }
    }

    fn is_broadcast(&self, destination: u32, source: Source, policy: &Policy) -> bool {
        if policy.broadcast_quirk_disabled {
            destination == BROADCAST && self.logical_mode() != LogicalMode::X2Apic
                || destination == X2APIC_BROADCAST
        } else if let Source::Apic { is_x2apic: true } = source {
            destination == X2APIC_BROADCAST
        } else {
            destination == BROADCAST
        }
    }

    /// Those that a logical destination addresses.
    fn logical(&self, destination: u32) -> Option<Targets<'_, T>> {
        let (slots, mask) = match self.logical_mode() {
            LogicalMode::SoftwareDisabled => return Some(Targets::none()),
            LogicalMode::Disabled => return None,
            LogicalMode::Flat => (&self.flat[..], destination & 0xff),
            LogicalMode::Cluster => {
                let number = (destination >> 4 & 0xf) as usize;
                (&self.cluster[number][..], destination & 0xf)
            }
            LogicalMode::X2Apic => {
                let (slots, count) = self.at((destination >> 16) << 4);
                let members = 0xffff_u32 >> 16u32.saturating_sub(count);
                (slots, destination & members)
            }
        };
        Some(Targets {
            slots,
            mask: u64::from(mask),
        })
    }
}

impl<T: Target> Targets<'_, T> {
    /// Only that one of them that takes a lowest-priority message.
    fn lowest_priority(
        self,
        vector: u8,
        policy: &Policy,
        arbitration_priority: impl Fn(T) -> i32,
    ) -> Self {
        let index = if policy.vector_hashing {
            // By the addressed ones, whether they exist or not. If the one
            // picked does not, the message is dropped.
            let nth = u32::from(vector)
                .checked_rem(self.mask.count_ones())
                .unwrap_or(0);
            nth_bit(self.mask, nth)
        } else {
            let slot = |index: usize| self.slots.get(index).and_then(T::load);
            let candidates = (0..16).filter(|&i| self.mask & 1 << i != 0);
            candidates
                .filter_map(|i| slot(i).map(|apic| (i, apic)))
                .reduce(|lowest, candidate| {
                    let difference = arbitration_priority(candidate.1)
                        .wrapping_sub(arbitration_priority(lowest.1));
                    if difference < 0 {
                        candidate
                    } else {
                        lowest
                    }
                })
                .map(|(i, _)| i as u32)
        };
        Self {
            mask: index.map_or(0, |index| 1 << index),
            ..self
        }
    }
}

/// The position of the `nth` bit that is set, counted from zero.
fn nth_bit(mut mask: u64, nth: u32) -> Option<u32> {
    for _ in 0..nth {
        mask &= mask.wrapping_sub(1);
    }
    (mask != 0).then(|| mask.trailing_zeros())
}
