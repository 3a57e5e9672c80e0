// SPDX-License-Identifier: GPL-2.0

//! An identity in 32 bits, for the four bytes that an APIC has left for it.

use super::{x2apic_ldr, Identity};

/// The identity of an APIC, without its x2APIC ID, which never changes; or that
/// the APIC has none, as it is disabled.
///
/// What a guest can make of its registers is kept exactly. User space can restore
/// others, with bits that no guest can set: those are unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedIdentity(u32);

const XAPIC_ID_SHIFT: u32 = 0;
const LDR_SHIFT: u32 = 8;
const DFR_SHIFT: u32 = 16;
const X2APIC: u32 = 1 << 20;
const SOFTWARE_ENABLED: u32 = 1 << 21;
const ENABLED: u32 = 1 << 22;
const UNKNOWN: u32 = 1 << 31;
/// Those bits of DFR that are always set.
const DFR_RESERVED: u32 = 0x0fff_ffff;

impl PackedIdentity {
    /// Packs an identity, or that there is none.
    pub fn new(identity: Option<&Identity>) -> Self {
        let Some(identity) = identity else {
            return Self(0);
        };
        let flag = |is_set: bool, flag| if is_set { flag } else { 0 };
        let packed = Self(
            u32::from(identity.xapic_id) << XAPIC_ID_SHIFT
                | flag(!identity.is_x2apic, identity.ldr >> 24 << LDR_SHIFT)
                | identity.dfr >> 28 << DFR_SHIFT
                | flag(identity.is_x2apic, X2APIC)
                | flag(identity.is_software_enabled, SOFTWARE_ENABLED)
                | ENABLED,
        );
        if packed.unpack(identity.x2apic_id) == Some(Some(*identity)) {
            packed
        } else {
            Self(UNKNOWN)
        }
    }

    /// The identity of the APIC with that x2APIC ID, `Some(None)` if it has none;
    /// `None` if that is unknown.
    pub fn unpack(self, x2apic_id: u32) -> Option<Option<Identity>> {
        let bits = self.0;
        if bits & UNKNOWN != 0 {
            return None;
        }
        let is_x2apic = bits & X2APIC != 0;
        let identity = Identity {
            x2apic_id,
            // CAST: To the eight bits that it has.
            xapic_id: (bits >> XAPIC_ID_SHIFT) as u8,
            is_x2apic,
            is_software_enabled: bits & SOFTWARE_ENABLED != 0,
            ldr: if is_x2apic {
                x2apic_ldr(x2apic_id)
            } else {
                bits >> LDR_SHIFT << 24
            },
            dfr: bits >> DFR_SHIFT << 28 | DFR_RESERVED,
        };
        Some((bits & ENABLED != 0).then_some(identity))
    }

    /// As a number, 0 if there is no identity.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// From what [`Self::bits`] has returned.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}
