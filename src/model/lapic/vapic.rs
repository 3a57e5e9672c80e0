// SPDX-License-Identifier: GPL-2.0

//! What the guest is told in its own memory to spare it exits: the VAPIC word
//! (old Windows guests, `KVM_SET_VAPIC_ADDR`) and PV EOI.
//!
//! All of it is called around entry and exit, by the vCPU's thread, and may
//! fault on guest memory.
//!
//! Source: Linux, Documentation/virt/kvm/x86/msr.rst, "MSR_KVM_EOI_EN".

use super::super::sync::Ordering;
use super::{Host, Invalid, LocalApic, Offset};

/// Attention bit: there is a VAPIC word.
pub const CHECK_VAPIC: u64 = 1 << 0;
/// Attention bit: the guest was told that it may skip the next EOI.
pub const PV_EOI_PENDING: u64 = 1 << 1;
/// Bit of the PV EOI byte: set by the host to allow it, cleared by the guest
/// in place of an EOI.
const PV_EOI_ENABLED: u8 = 1;
/// Bit of `MSR_KVM_PV_EOI_EN`: there is such a byte.
const MSR_ENABLED: u64 = 1;

impl<H: Host> LocalApic<'_, H> {
    #[inline(always)]
    fn has_attention(self, bit: u64) -> bool {
        self.host.attention().load(Ordering::Relaxed) & bit != 0
    }

    // The bits belong to the vCPU's thread, so no locked operation is needed.
    fn set_attention(self, bit: u64) {
        let attention = self.host.attention();
        attention.store(attention.load(Ordering::Relaxed) | bit, Ordering::Relaxed);
    }

    fn clear_attention(self, bit: u64) {
        let attention = self.host.attention();
        attention.store(attention.load(Ordering::Relaxed) & !bit, Ordering::Relaxed);
    }

    /// `KVM_SET_VAPIC_ADDR`: where the word is, zero for nowhere. If there is no
    /// memory, all stays as it was. The vCPU's mutex is held.
    pub fn set_vapic_address(self, address: u64) -> Result<(), Invalid> {
        if address == 0 {
            self.clear_attention(CHECK_VAPIC);
        } else if self.host.vapic_map(address) {
            self.set_attention(CHECK_VAPIC);
        } else {
            return Err(Invalid);
        }
        self.host.vapic_address().store(address, Ordering::Relaxed);
        Ok(())
    }

    /// Writes `MSR_KVM_PV_EOI_EN`: the address of the byte, which is the first
    /// of `length`, and bit 0 to enable it. If the address is not aligned, or
    /// there is no memory, all stays as it was. The vCPU's thread.
    pub fn set_pv_eoi(self, value: u64, length: usize) -> Result<(), Invalid> {
        let address = value & !MSR_ENABLED;
        if address % 4 != 0 || value & MSR_ENABLED != 0 && !self.host.pv_eoi_map(address, length) {
            return Err(Invalid);
        }
        self.host.set_pv_eoi_msr(value);
        Ok(())
    }

    /// After an exit: takes over what the guest has done.
    #[inline]
    pub fn sync_from_vapic(self) {
        if self.has_attention(PV_EOI_PENDING) {
            self.sync_pv_eoi_from_guest();
        }
        if self.has_attention(CHECK_VAPIC) {
            if let Some(word) = self.host.vapic_read() {
                self.set_tpr(word as u8);
            }
        }
    }

    /// Before an entry: tells the guest how things are.
    #[inline]
    pub fn sync_to_vapic(self) {
        self.sync_pv_eoi_to_guest();
        if self.has_attention(CHECK_VAPIC) {
            let tpr = self.regs().read(Offset::TPR) & 0xff;
            let requested = self.highest_irr().map_or(0, u32::from);
            let in_service = self.highest_in_service().map_or(0, u32::from);
            // TPR in bits 7:0, the class in service in 15:12, the vector
            // requested in 31:24.
            let word = tpr | (in_service & 0xf0) << 8 | requested << 24;
            self.host.vapic_write(word);
        }
    }

    /// Was the EOI skipped? Then it is done now. PV EOI ends here in any case,
    /// to be allowed anew at the next entry when that is safe.
    fn sync_pv_eoi_from_guest(self) {
        if !self.host.pv_eoi_enabled() {
            self.clear_attention(PV_EOI_PENDING);
            return;
        }
        if self.take_back_pv_eoi() {
            return;
        }
        let vector = self.eoi();
        self.host.trace_pv_eoi(vector);
    }

    /// Is the guest's byte still set, i.e. there was no EOI? Clears it.
    fn take_back_pv_eoi(self) -> bool {
        let Some(byte) = self.host.pv_eoi_read() else {
            return false;
        };
        let enabled = byte & PV_EOI_ENABLED != 0;
        if enabled && !self.host.pv_eoi_write(0) {
            return false;
        }
        self.clear_attention(PV_EOI_PENDING);
        enabled
    }

    /// Allows the guest to skip the next EOI, if nothing depends on it: no
    /// other interrupt waits, and no I/O APIC has to hear of it.
    fn sync_pv_eoi_to_guest(self) {
        if !self.host.pv_eoi_enabled() || self.host.irr_pending().load(Ordering::Relaxed) {
            return;
        }
        let is_safe = self
            .cached_in_service()
            .is_some_and(|vector| !self.ioapic_handles(vector));
        if is_safe && self.host.pv_eoi_write(PV_EOI_ENABLED) {
            self.set_attention(PV_EOI_PENDING);
        }
    }
}
