// SPDX-License-Identifier: GPL-2.0

//! Which local APICs a message is for.
//!
//! There are two ways to find them, and they must agree. [`matches`] asks one
//! APIC after the other, as the bus would; it handles everything. The
//! [`DestinationMap`] is a table of the whole VM, built whenever an ID or a
//! mode changes, that answers most questions with a lookup and no lock, or says
//! that it cannot.
//!
//! KVM's addressing has peculiarities that guests and user space rely on:
//!
//! - A message from a device to 0xff is a broadcast to x2APICs as well, since
//!   there may be no interrupt remapping, unless user space has disabled that
//!   (`KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK`).
//! - An APIC in xAPIC mode also answers to its x2APIC ID if that is above 0xff,
//!   so that hot-plugged vCPUs can be reached before they switch modes.
//! - A destination above 0xff is not truncated for xAPICs.
//!
//! Source: Intel SDM volume 3, "Determining IPI Destination" and "Logical
//! x2APIC ID".

use super::message::{DestinationMode, Message, Shorthand};
use super::nospec;

/// The broadcast destination of an xAPIC.
pub const BROADCAST: u32 = 0xff;
/// The broadcast destination of an x2APIC.
pub const X2APIC_BROADCAST: u32 = 0xffff_ffff;

/// Value of DFR that selects the flat model.
const DFR_FLAT: u32 = 0xffff_ffff;
/// Value of DFR that selects the cluster model.
const DFR_CLUSTER: u32 = 0x0fff_ffff;

/// The logical destination register of an x2APIC: the cluster in its upper
/// half, one bit for the APIC in its lower.
#[inline]
pub const fn x2apic_ldr(id: u32) -> u32 {
    (id >> 4) << 16 | 1 << (id & 0xf)
}

/// How one local APIC is addressed. Only those that are enabled by
/// `IA32_APIC_BASE` have an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The vCPU's ID.
    pub x2apic_id: u32,
    /// The ID register's upper byte, which the guest can change.
    pub xapic_id: u8,
    /// Is it in x2APIC mode?
    pub is_x2apic: bool,
    /// Is it enabled by its spurious vector register?
    pub is_software_enabled: bool,
    /// Logical destination register.
    pub ldr: u32,
    /// Destination format register.
    pub dfr: u32,
}

/// Where a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A device, by way of the I/O APIC or as an MSI.
    Device,
    /// A local APIC, in x2APIC mode or not.
    Apic {
        /// Is the sender in x2APIC mode?
        is_x2apic: bool,
    },
}

/// What the host has chosen for a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK`
    pub broadcast_quirk_disabled: bool,
    /// `KVM_X2APIC_API_USE_32BIT_IDS`
    pub x2apic_format: bool,
    /// Lowest priority picks by the vector, rather than by arbitration.
    pub vector_hashing: bool,
}

impl Identity {
    fn is_broadcast(&self, destination: u32) -> bool {
        destination
            == if self.is_x2apic {
                X2APIC_BROADCAST
            } else {
                BROADCAST
            }
    }

    fn matches_physical(&self, destination: u32) -> bool {
        if self.is_broadcast(destination) {
            true
        } else if self.is_x2apic || destination > 0xff {
            destination == self.x2apic_id
        } else {
            destination == u32::from(self.xapic_id)
        }
    }

    fn matches_logical(&self, destination: u32) -> bool {
        if self.is_broadcast(destination) {
            return true;
        }
        if self.is_x2apic {
            return self.ldr >> 16 == destination >> 16 && self.ldr & destination & 0xffff != 0;
        }
        let id = self.ldr >> 24;
        match self.dfr {
            DFR_FLAT => id & destination != 0,
            DFR_CLUSTER => id >> 4 == destination >> 4 && id & destination & 0xf != 0,
            _ => false,
        }
    }
}

/// Is the message for this APIC? `is_sender` says whether it is the one that
/// sent it.
pub fn matches(
    target: &Identity,
    message: &Message,
    source: Source,
    is_sender: bool,
    policy: &Policy,
) -> bool {
    let destination = if source == Source::Device
        && message.destination == BROADCAST
        && target.is_x2apic
        && !policy.broadcast_quirk_disabled
    {
        X2APIC_BROADCAST
    } else {
        message.destination
    };

    match (message.shorthand, message.destination_mode) {
        (Shorthand::None, DestinationMode::Physical) => target.matches_physical(destination),
        (Shorthand::None, DestinationMode::Logical) => target.matches_logical(destination),
        (Shorthand::Own, _) => is_sender,
        (Shorthand::AllIncludingSelf, _) => true,
        (Shorthand::AllExcludingSelf, _) => !is_sender,
    }
}

/// The message as it is delivered when the map does not know its destinations:
/// there is no lowest priority among everybody.
pub fn slow_path_message(message: &Message) -> Message {
    let mut message = *message;
    if message.destination_mode == DestinationMode::Physical
        && message.destination == BROADCAST
        && message.is_lowest_priority()
    {
        message.delivery_mode = super::message::DeliveryMode::Fixed;
    }
    message
}

/// Picks the one APIC that takes a lowest-priority message, of those that match
/// and are enabled by software.
///
/// `candidates` is walked twice, and may change in between; then another one
/// of them is picked.
pub fn choose_lowest_priority<T: Copy>(
    candidates: impl Iterator<Item = T> + Clone,
    vector: u8,
    policy: &Policy,
    arbitration_priority: impl Fn(T) -> i32,
) -> Option<T> {
    if policy.vector_hashing {
        let count = candidates.clone().count();
        let nth = usize::from(vector).checked_rem(count)?;
        candidates.take(nth.saturating_add(1)).last()
    } else {
        candidates.reduce(|lowest, candidate| {
            let difference =
                arbitration_priority(candidate).wrapping_sub(arbitration_priority(lowest));
            if difference < 0 {
                candidate
            } else {
                lowest
            }
        })
    }
}

/// Which logical destinations the map can look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// There is an ID beyond the table: try again with a larger one.
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
/// for each physical ID, and then one for each APIC.
pub struct DestinationMap<T, S> {
    /// By x2APIC ID or xAPIC ID; then all APICs, in the order they came in.
    slots: S,
    /// Number of the slots for IDs.
    ids: usize,
    /// Number of APICs.
    count: usize,
    /// Number of those that are in x2APIC mode.
    x2apics: usize,
    flat: [Option<T>; 8],
    cluster: [[Option<T>; 4]; 16],
    logical_mode: LogicalMode,
}

impl<T: Copy, S: AsRef<[Option<T>]> + AsMut<[Option<T>]>> DestinationMap<T, S> {
    /// Builds the map of `apics`, all of those that have an identity.
    ///
    /// `slots` must be empty. The first `ids` are for the x2APIC IDs, as many as
    /// there are and [`MIN_SLOTS`] at least, and the rest for as many APICs. After
    /// [`BuildError::TooSmall`] the inhibits mean nothing.
    pub fn build(
        slots: S,
        ids: usize,
        policy: &Policy,
        apics: impl IntoIterator<Item = (Identity, T)>,
    ) -> (Result<Self, BuildError>, Inhibits) {
        let mut map = Self {
            slots,
            ids,
            count: 0,
            x2apics: 0,
            flat: [None; 8],
            cluster: [[None; 4]; 16],
            logical_mode: LogicalMode::SoftwareDisabled,
        };
        let mut modified = false;
        let mut result = Ok(());
        for (identity, apic) in apics {
            // Deliberately truncated: whatever that aliases is found below.
            modified |= !identity.is_x2apic && identity.xapic_id != identity.x2apic_id as u8;
            result = map
                .add_physical(&identity, apic, policy)
                .and_then(|()| map.add_to_all(&identity, apic));
            if result.is_err() {
                break;
            }
            map.add_logical(&identity, apic);
        }

        let inhibits = Inhibits {
            physical_id_aliased: result.is_err(),
            logical_id_aliased: result.is_err() || map.logical_mode == LogicalMode::Disabled,
            apic_id_modified: modified,
        };
        (result.map(|()| map), inhibits)
    }

    fn add_physical(
        &mut self,
        identity: &Identity,
        apic: T,
        policy: &Policy,
    ) -> Result<(), BuildError> {
        let slots = self.slots.as_mut();
        let slots = slots.get_mut(..self.ids).unwrap_or_default();
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
                if let Some(slot) = slots.get_mut(x2apic_id) {
                    *slot = Some(apic);
                }
            }
            if !identity.is_x2apic {
                if let Some(slot) = slots.get_mut(xapic_id) {
                    slot.get_or_insert(apic);
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
        match slots.get_mut(id) {
            Some(slot @ None) => {
                *slot = Some(apic);
                Ok(())
            }
            _ => Err(BuildError::Aliased),
        }
    }

    fn add_to_all(&mut self, identity: &Identity, apic: T) -> Result<(), BuildError> {
        let index = self.ids.saturating_add(self.count);
        let slot = self.slots.as_mut().get_mut(index);
        *slot.ok_or(BuildError::TooSmall)? = Some(apic);
        self.count += 1;
        self.x2apics += usize::from(identity.is_x2apic);
        Ok(())
    }

    fn add_logical(&mut self, identity: &Identity, apic: T) {
        if self.logical_mode == LogicalMode::Disabled
            || !identity.is_software_enabled
            || identity.ldr == 0
        {
            return;
        }

        let mode = if identity.is_x2apic {
            LogicalMode::X2Apic
        } else if identity.dfr == DFR_FLAT {
            LogicalMode::Flat
        } else {
            LogicalMode::Cluster
        };
        if self.logical_mode == LogicalMode::SoftwareDisabled {
            self.logical_mode = mode;
        } else if self.logical_mode != mode {
            self.logical_mode = LogicalMode::Disabled;
            return;
        }

        let id = identity.ldr >> 24;
        let (members, mask) = match mode {
            LogicalMode::Flat => (&mut self.flat[..], id & 0xff),
            LogicalMode::Cluster => {
                let number = (id >> 4 & 0xf) as usize;
                (&mut self.cluster[number][..], id & 0xf)
            }
            // The logical ID of an x2APIC follows from its physical one, so
            // the table of those serves for both.
            _ => return,
        };
        if mask == 0 {
            return;
        }
        match members.get_mut(mask.trailing_zeros() as usize) {
            Some(slot @ None) if mask.is_power_of_two() => *slot = Some(apic),
            _ => self.logical_mode = LogicalMode::Disabled,
        }
    }
}

/// What a map says about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution<'a, T> {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct All<'a, T> {
    slots: &'a [Option<T>],
}

impl<T> All<'_, T> {
    /// How many there are.
    pub const fn count(&self) -> usize {
        self.slots.len()
    }
}

impl<T: Copy> Iterator for All<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        let (first, rest) = self.slots.split_first()?;
        self.slots = rest;
        *first
    }
}

/// At most 64 APICs that lie side by side in a map; an iterator over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets<'a, T> {
    slots: &'a [Option<T>],
    mask: u64,
}

impl<T> Targets<'_, T> {
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

impl<T: Copy> Iterator for Targets<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        while self.mask != 0 {
            let index = self.mask.trailing_zeros() as usize;
            self.mask &= self.mask - 1;
            if let Some(Some(apic)) = self.slots.get(index) {
                return Some(*apic);
            }
        }
        None
    }
}

impl<T: Copy, S: AsRef<[Option<T>]>> DestinationMap<T, S> {
    /// The caller's memory for the tables.
    pub fn table(&self) -> &S {
        &self.slots
    }

    /// Which logical destinations can be looked up.
    pub fn logical_mode(&self) -> LogicalMode {
        self.logical_mode
    }

    /// The APIC with that physical ID. The ID may come from the guest.
    #[inline]
    pub fn physical(&self, id: u32) -> Option<T> {
        self.at(id).0.first().copied().flatten()
    }

    /// The table from `id` on, and how many slots of it there are.
    #[inline]
    fn at(&self, id: u32) -> (&[Option<T>], u32) {
        let slots = self.slots.as_ref();
        let slots = slots.get(..self.ids).unwrap_or_default();
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

    fn all(&self) -> All<'_, T> {
        let all = self.ids..self.ids.saturating_add(self.count);
        All {
            slots: self.slots.as_ref().get(all).unwrap_or_default(),
        }
    }

    /// Is a broadcast one for all APICs, since they agree in their mode, and does
    /// each of them take it?
    fn addresses_all(&self, message: &Message, source: Source, policy: &Policy) -> bool {
        if message.is_lowest_priority() || self.count == 0 {
            return false;
        }
        match message.destination {
            X2APIC_BROADCAST => self.x2apics == self.count,
            BROADCAST if self.x2apics == 0 => true,
            // What a device sends is taken for a broadcast by x2APICs, too.
            BROADCAST => {
                self.x2apics == self.count
                    && source == Source::Device
                    && !policy.broadcast_quirk_disabled
            }
            _ => false,
        }
    }

    fn is_broadcast(&self, destination: u32, source: Source, policy: &Policy) -> bool {
        if policy.broadcast_quirk_disabled {
            destination == BROADCAST && self.logical_mode != LogicalMode::X2Apic
                || destination == X2APIC_BROADCAST
        } else if let Source::Apic { is_x2apic: true } = source {
            destination == X2APIC_BROADCAST
        } else {
            destination == BROADCAST
        }
    }

    /// Those that a logical destination addresses.
    fn logical(&self, destination: u32) -> Option<Targets<'_, T>> {
        let (slots, mask) = match self.logical_mode {
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

impl<T: Copy> Targets<'_, T> {
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
            let slot = |index: usize| self.slots.get(index).copied().flatten();
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

#[cfg(test)]
mod tests;
