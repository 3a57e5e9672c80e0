// SPDX-License-Identifier: GPL-2.0

//! What user space has restored, in whatever order.
//!
//! A local APIC comes back by several ioctls, and some of what they say depends
//! on what others have said: a TSC deadline means something in TSC-deadline
//! mode only, the IDs in the register page are those of one APIC mode, and the
//! modes that the timer has are for CPUID to say. What comes before its time is
//! kept here until it can be taken over, at the latest when the vCPU runs.
//! KVM's own APIC drops it.
//!
//! Source: Linux, Documentation/virt/kvm/api.rst, `KVM_SET_LAPIC`,
//! `KVM_SET_MSRS` and `KVM_SET_SREGS`.

use super::super::destination::x2apic_ldr;
use super::super::sync::Owned;
use super::{Host, LocalApic, Offset, SavedRegisters};

/// State that waits for what it depends on.
#[derive(Default)]
#[repr(C)]
pub struct Restored {
    /// `IA32_TSC_DEADLINE`, written while there was no such mode; or zero.
    tscdeadline: Owned<u64>,
    /// Have the registers been restored since the vCPU ran last?
    registers: Owned<bool>,
    /// The local APIC ID register then.
    id: Owned<u32>,
    /// The logical destination register then.
    ldr: Owned<u32>,
    /// The guest's TSC that the timer goes by: its offset from the host's...
    tsc_offset: Owned<u64>,
    /// ...and its scale.
    tsc_ratio: Owned<u64>,
}

impl<H: Host> LocalApic<'_, H> {
    /// User space writes `IA32_TSC_DEADLINE`, in whatever mode the timer is.
    /// The vCPU's mutex is held.
    pub fn restore_tscdeadline(self, deadline: u64) {
        let waits = !self.takes_tscdeadline();
        self.own()
            .restored
            .tscdeadline
            .set(if waits { deadline } else { 0 });
        self.set_tscdeadline(deadline);
    }

    /// A deadline that waits for its mode; zero if there is none.
    pub(super) fn kept_tscdeadline(self) -> u64 {
        self.own().restored.tscdeadline.get()
    }

    /// `KVM_SET_LAPIC` has these registers, which the mode that the APIC is in
    /// may not be right for.
    pub(super) fn keep_registers(self, from: &SavedRegisters) {
        let restored = &self.own().restored;
        restored.registers.set(true);
        restored.id.set(from[super::state::word(Offset::ID)]);
        restored.ldr.set(from[super::state::word(Offset::LDR)]);
    }

    /// User space has changed the mode. In x2APIC mode the IDs are not for it
    /// to choose; otherwise they are those that it has restored, unless these
    /// were of that mode.
    pub(super) fn take_kept_registers(self) {
        let restored = &self.own().restored;
        let (id, ldr) = (restored.id.get(), restored.ldr.get());
        let x2apic_id = self.host.vcpu_id();
        let of_x2apic = id == x2apic_id && ldr == x2apic_ldr(x2apic_id);
        if restored.registers.get() && !self.is_x2apic() && !of_x2apic {
            self.regs().write(Offset::ID, id);
            self.regs().write(Offset::LDR, ldr);
            self.host.mark_map_dirty();
            self.host.rtc_eoi_tracking_restore(true);
        }
    }

    /// A reset: nothing waits any more.
    pub(super) fn forget_restored(self) {
        self.own().restored.tscdeadline.set(0);
        self.own().restored.registers.set(false);
    }

    /// `KVM_RUN` is about to enter the guest: what was restored is complete.
    /// The vCPU's thread.
    pub fn begin_run(self) {
        // CPUID may have come after the registers.
        self.update_timer_mode();
        let kept = self.kept_tscdeadline();
        if kept != 0 {
            self.set_tscdeadline(kept);
        }
        self.forget_restored();
        self.follow_tsc();
    }

    /// The guest's TSC may have been written: a timer that was armed by what
    /// it said before is armed anew. The vCPU's thread.
    pub fn follow_tsc(self) {
        let restored = &self.own().restored;
        let (offset, ratio) = self.host.l1_tsc_clock();
        if restored.tsc_offset.get() != offset || restored.tsc_ratio.get() != ratio {
            restored.tsc_offset.set(offset);
            restored.tsc_ratio.set(ratio);
            self.rearm_by_tsc();
        }
    }
}
