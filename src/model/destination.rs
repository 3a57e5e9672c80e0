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
    /// Has the guest changed the ID register, so that IDs may not be unique?
    fn is_modified(&self) -> bool {
        // Deliberately truncated: whatever that aliases is found elsewhere.
        !self.is_x2apic && self.xapic_id != self.x2apic_id as u8
    }

    /// By which model its logical ID counts; none if it does not.
    fn logical_mode(&self) -> Option<LogicalMode> {
        if !self.is_software_enabled || self.ldr == 0 {
            None
        } else if self.is_x2apic {
            Some(LogicalMode::X2Apic)
        } else if self.dfr == DFR_FLAT {
            Some(LogicalMode::Flat)
        } else {
            Some(LogicalMode::Cluster)
        }
    }

    /// The physical ID that a map finds it by, and another one that it is found by
    /// if nobody else is.
    fn physical_ids(&self, policy: &Policy) -> (u32, Option<u32>) {
        let xapic_id = u32::from(self.xapic_id);
        if self.is_x2apic {
            (self.x2apic_id, None)
        } else if policy.x2apic_format && self.x2apic_id > 0xff {
            (self.x2apic_id, Some(xapic_id))
        } else {
            (xapic_id, None)
        }
    }

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

mod map;
mod packed;
mod update;

pub use map::{
    counts_up, All, BuildError, DestinationMap, Inhibits, LogicalMode, Resolution, Target, Targets,
    MIN_SLOTS,
};
pub use packed::PackedIdentity;
pub use update::NeedsRebuild;

#[cfg(test)]
mod tests;
