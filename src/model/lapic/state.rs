// SPDX-License-Identifier: GPL-2.0

//! Reset, and the state that the ioctls save and restore.
//!
//! Source: Intel SDM volume 3, "Local APIC State After Power-Up or Reset" and
//! "Local APIC State After an INIT Reset"; Linux,
//! Documentation/virt/kvm/api.rst, `KVM_GET_LAPIC` and `KVM_SET_LAPIC`.

use super::super::destination::x2apic_ldr;
use super::super::sync::Ordering;
use super::base::{BSP, DEFAULT_ADDRESS, ENABLE};
use super::register::{DELIVERY_MODE, LVT_MASKED};
use super::{Host, Invalid, LocalApic, Offset, SavedRegisters, Vectors, ALL_PARTS, LEVELS};

impl<H: Host> LocalApic<'_, H> {
    /// RESET, or with `init_event` INIT. The vCPU's thread; may sleep.
    pub fn reset(self, init_event: bool) {
        let host = self.host;
        host.apicv_pre_state_restore();

        if !init_event {
            let bsp = if host.is_reset_bsp() { BSP } else { 0 };
            // The map is built again at the end, when all of it is in place.
            self.store_base(DEFAULT_ADDRESS | ENABLE | bsp);
        }

        self.stop_hrtimer();

        // INIT does not change the ID, RESET does even if it was enabled.
        if !init_event {
            self.set_xapic_id(host.vcpu_id() as u8);
        }
        host.set_version();

        for lvt in self.lvt_entries() {
            self.regs().write(lvt, LVT_MASKED);
        }
        self.update_timer_mode();
        if host.is_reset_bsp() && host.quirk_lint0_reenabled() {
            // As if a BIOS had wired the PIC through.
            self.regs().write(Offset::LVT_LINT0, DELIVERY_MODE);
        }
        self.watch_lint0(self.regs().read(Offset::LVT_LINT0));

        self.set_dfr(0xffff_ffff);
        self.set_spurious(0xff);
        self.regs().write(Offset::TPR, 0);
        if !self.is_x2apic() {
            self.set_ldr(0);
        }
        self.regs().write(Offset::ESR, 0);
        if self.is_x2apic() {
            self.regs().write_icr64(0);
        } else {
            self.regs().write(Offset::ICR, 0);
            self.regs().write(Offset::ICR_HIGH, 0);
        }
        self.regs().write(Offset::DIVIDE, 0);
        self.regs().write(Offset::INITIAL_COUNT, 0);
        for vectors in [Vectors::Irr, Vectors::Isr, Vectors::Tmr] {
            self.regs().clear_all(vectors);
        }
        self.update_apicv();
        self.update_divisor();
        self.forget_pending_timer();
        self.forget_restored();

        host.set_pv_eoi_msr(0);
        self.update_ppr();
        if self.is_apicv_active() {
            host.apicv_post_state_restore();
        }

        host.arbitration_priority().store(0, Ordering::Relaxed);
        host.attention().store(0, Ordering::Relaxed);
        host.recalculate_map();
    }

    /// `KVM_GET_LAPIC`. The vCPU's mutex is held, and posted interrupts have
    /// been synchronized to IRR.
    ///
    /// A count that has run out is delivered first, if it can be: the registers
    /// have no other place for it, and KVM's own APIC loses it here. A TSC
    /// deadline that has passed stays what it is: the MSR holds it, and whoever
    /// has read that before would have the interrupt twice.
    pub fn save(self, to: &mut SavedRegisters) -> Result<(), Invalid> {
        if self.pending_timer() != 0 && !self.own().timer.is_tsc_deadline() {
            self.inject_timer();
            if self.host.posts_interrupts() {
                self.host.sync_pir_to_irr();
            }
        }
        // PPR as it is, which nobody may have looked at since the CPU changed TPR.
        // Nothing waited for that, or the CPU would have exited.
        if !self.is_ppr_of_tpr() {
            self.compute_ppr();
        }
        self.host.copy_registers_to(to);
        to[word(Offset::CURRENT_COUNT)] = self.read_register(Offset::CURRENT_COUNT);

        if self.is_x2apic() {
            let id = self.host.vcpu_id();
            if self.host.x2apic_format() {
                if to[word(Offset::ID)] != id {
                    return Err(Invalid);
                }
            } else {
                to[word(Offset::ID)] = id << 24;
            }
            if !self.host.x2apic_icr_is_split() {
                // User space always sees two halves.
                to[word(Offset::ICR_HIGH)] = to[word(Offset::ICR) + 1];
            }
        }
        Ok(())
    }

    /// `KVM_SET_LAPIC`. The vCPU's mutex is held; may sleep.
    ///
    /// `from` is brought into the hardware's form on the way. If the ID does
    /// not fit, only the software enable bit has been taken over.
    pub fn restore(self, from: &mut SavedRegisters) -> Result<(), Invalid> {
        let host = self.host;
        host.apicv_pre_state_restore();
        self.keep_registers(from);

        // Before the page is replaced, for it is counted.
        self.set_spurious(from[word(Offset::SPURIOUS)]);

        if let Err(error) = self.fix_up(from) {
            host.recalculate_map();
            return Err(error);
        }
        self.host.copy_registers_from(from);
        if !self.regs().is_empty(Vectors::Tmr) {
            self.own().reception.fetch_or(LEVELS, Ordering::SeqCst);
        }

        host.mark_map_dirty();
        host.recalculate_map();
        host.set_version();

        // Of what was in service before, if anything was, for ISR is looked
        // through below. KVM has it that way round, and a state saved now would
        // show the difference; PPR is computed anew before anybody acts on it.
        let parts = &self.own().parts_in_service;
        if parts.get() != 0 {
            parts.set(ALL_PARTS);
        }
        self.update_ppr();
        // On both clocks, or an expiry of the old state would be delivered.
        self.cancel_timer();
        self.forget_expired();
        self.update_timer_mode();
        self.watch_lint0(self.regs().read(Offset::LVT_LINT0));
        self.update_divisor();
        self.start_timer(Offset::CURRENT_COUNT);
        self.regs().write(Offset::CURRENT_COUNT, 0);
        self.update_apicv();
        if self.is_apicv_active() {
            host.apicv_post_state_restore();
        }
        host.request_event();
        host.rtc_eoi_tracking_restore(false);
        host.arbitration_priority().store(0, Ordering::Relaxed);
        Ok(())
    }

    /// In x2APIC mode ID and LDR are not for user space to choose, and ICR may
    /// be one register.
    fn fix_up(self, from: &mut SavedRegisters) -> Result<(), Invalid> {
        if !self.is_x2apic() {
            return Ok(());
        }
        let id = self.host.vcpu_id();
        if self.host.x2apic_format() && from[word(Offset::ID)] != id {
            return Err(Invalid);
        }
        from[word(Offset::ID)] = id;
        from[word(Offset::LDR)] = x2apic_ldr(id);
        if !self.host.x2apic_icr_is_split() {
            from[word(Offset::ICR) + 1] = from[word(Offset::ICR_HIGH)];
        }
        Ok(())
    }
}

/// Index of a register among the saved ones. Always a constant, and below 256.
pub(super) const fn word(register: Offset) -> usize {
    (register.0 as usize / 4) & (super::page::SAVED_WORDS - 1)
}
