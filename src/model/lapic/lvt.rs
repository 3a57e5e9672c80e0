// SPDX-License-Identifier: GPL-2.0

//! The local vector table.
//!
//! Source: Intel SDM volume 3, "Local Vector Table".

use super::super::sync::Ordering;
use super::register::{guest_bits, DELIVERY_MODE, LVT, LVT_MASKED};
use super::{Host, Invalid, LocalApic, Offset};

/// Delivery mode NMI in an LVT entry.
const MODE_NMI: u32 = 4 << 8;

impl<H: Host> LocalApic<'_, H> {
    /// The entries that this vCPU has.
    pub(super) fn lvt_entries(self) -> impl Iterator<Item = Offset> {
        let count = self.host.lvt_entries().load(Ordering::Relaxed) as usize;
        LVT.iter().copied().take(count)
    }

    pub(super) fn has_cmci(self) -> bool {
        self.host.lvt_entries().load(Ordering::Relaxed) as usize >= LVT.len()
    }

    /// A write to any entry but the timer's.
    pub(super) fn write_lvt(self, lvt: Offset, value: u32) -> Result<(), Invalid> {
        if lvt == Offset::LVT_LINT0 {
            self.watch_lint0(value);
        }
        if lvt == Offset::LVT_CMCI && !self.has_cmci() {
            return Err(Invalid);
        }
        let value = self.masked_if_disabled(value) & guest_bits(lvt);
        self.regs().write(lvt, value);
        Ok(())
    }

    /// A write to the timer's entry.
    pub(super) fn write_lvt_timer(self, value: u32) {
        let modes = self.host.timer_mode_mask().load(Ordering::Relaxed);
        let value = self.masked_if_disabled(value) & (guest_bits(Offset::LVT_TIMER) | modes);
        self.regs().write(Offset::LVT_TIMER, value);
        self.update_timer_mode();
    }

    /// Entries cannot be unmasked while the APIC is disabled by software.
    fn masked_if_disabled(self, value: u32) -> u32 {
        if self.is_software_enabled() {
            value
        } else {
            value | LVT_MASKED
        }
    }

    /// The APIC was disabled by software: its entries are masked.
    pub(super) fn mask_lvt(self) {
        for lvt in self.lvt_entries() {
            self.regs().write(lvt, self.regs().read(lvt) | LVT_MASKED);
        }
    }

    /// Keeps count of the APICs whose LINT0 is an NMI, i.e. which want the
    /// PIT's ticks as a watchdog.
    pub(super) fn watch_lint0(self, value: u32) {
        let nmi = value & (DELIVERY_MODE | LVT_MASKED) == MODE_NMI;
        if self.own().lint0_nmi.get() != nmi {
            self.own().lint0_nmi.set(nmi);
            self.host.nmi_watchdog_changed(nmi);
        }
    }
}
