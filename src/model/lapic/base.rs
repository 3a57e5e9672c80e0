// SPDX-License-Identifier: GPL-2.0

//! `IA32_APIC_BASE`: where the APIC is, whether it is on, and in which mode.
//!
//! Source: Intel SDM volume 3, "Local APIC Status and Location" and "x2APIC
//! State Transitions".

use super::super::destination::x2apic_ldr;
use super::super::sync::Ordering;
use super::{Host, Invalid, LocalApic, Offset};

/// Bit of `IA32_APIC_BASE`: the APIC is enabled.
pub const ENABLE: u64 = 1 << 11;
/// Bit of `IA32_APIC_BASE`: x2APIC mode.
pub const X2APIC: u64 = 1 << 10;
/// Bit of `IA32_APIC_BASE`: bootstrap processor.
pub const BSP: u64 = 1 << 8;
/// Address field of `IA32_APIC_BASE`, as far as the guest's physical addresses
/// go.
pub const ADDRESS: u64 = !0xfff;
/// Where the registers are after a RESET.
pub const DEFAULT_ADDRESS: u64 = 0xfee0_0000;
/// Bits that are reserved on every processor.
const RESERVED: u64 = 0x2ff;

/// The modes of a local APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No local APIC.
    Disabled,
    /// x2APIC without the enable bit: cannot be set.
    Invalid,
    /// Registers in memory, 8-bit IDs.
    XApic,
    /// Registers are MSRs, 32-bit IDs.
    X2Apic,
}

impl Mode {
    /// The mode that a value of `IA32_APIC_BASE` selects.
    #[inline]
    pub const fn of(base: u64) -> Self {
        match (base & ENABLE != 0, base & X2APIC != 0) {
            (false, false) => Self::Disabled,
            (false, true) => Self::Invalid,
            (true, false) => Self::XApic,
            (true, true) => Self::X2Apic,
        }
    }
}

impl<H: Host> LocalApic<'_, H> {
    /// Writes `IA32_APIC_BASE`. The vCPU's thread; may sleep.
    ///
    /// The guest may move between modes only as the SDM's state diagram says;
    /// the host (`KVM_SET_SREGS`, `KVM_SET_MSRS`) from any to any.
    pub fn set_base(self, value: u64, host_initiated: bool) -> Result<(), Invalid> {
        let old = self.host.apic_base().load(Ordering::Relaxed);
        if old == value {
            return Ok(());
        }

        let mut reserved = self.host.reserved_gpa_bits() | RESERVED;
        if !self.host.has_x2apic() {
            reserved |= X2APIC;
        }
        let (from, to) = (Mode::of(old), Mode::of(value));
        if value & reserved != 0 || to == Mode::Invalid {
            return Err(Invalid);
        }
        if !host_initiated {
            match (from, to) {
                (Mode::X2Apic, Mode::XApic) | (Mode::Disabled, Mode::X2Apic) => {
                    return Err(Invalid)
                }
                _ => {}
            }
        }

        self.store_base(value);
        if host_initiated {
            self.take_kept_registers();
        }
        self.host.recalculate_map();
        Ok(())
    }

    /// Stores `IA32_APIC_BASE` and does what follows from it, but leaves the
    /// destination map dirty.
    pub(super) fn store_base(self, value: u64) {
        let host = self.host;
        let changed = host.apic_base().load(Ordering::Relaxed) ^ value;
        host.apic_base().store(value, Ordering::Relaxed);
        self.update_receives();

        if changed & ENABLE != 0 {
            if value & ENABLE != 0 {
                self.set_xapic_id(host.vcpu_id() as u8);
                host.hardware_enable_changed(true);
            } else {
                host.hardware_enable_changed(false);
                self.own().unsettled.store(true);
                host.mark_map_dirty();
            }
        }

        if changed & X2APIC != 0 {
            if value & X2APIC != 0 {
                self.set_x2apic_id();
            } else if value & ENABLE != 0 {
                self.set_xapic_id(host.vcpu_id() as u8);
            }
        }

        if changed & (ENABLE | X2APIC) != 0 {
            host.mode_changed();
        }

        let address = value & ADDRESS;
        host.set_base_address(address);
        if value & ENABLE != 0 && address != DEFAULT_ADDRESS {
            host.inhibit_base_modified();
        }
    }

    pub(super) fn set_xapic_id(self, id: u8) {
        self.regs().write(Offset::ID, u32::from(id) << 24);
        self.host.mark_map_dirty();
    }

    /// The x2APIC ID is the vCPU's, and the logical ID follows from it.
    fn set_x2apic_id(self) {
        let id = self.host.vcpu_id();
        self.regs().write(Offset::ID, id);
        self.regs().write(Offset::LDR, x2apic_ldr(id));
        self.host.mark_map_dirty();
    }
}
