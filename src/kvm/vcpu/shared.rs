// SPDX-License-Identifier: GPL-2.0

//! The fields that the model of a local APIC shares with KVM, as atomics.

use super::Vcpu;
use crate::model::lapic::{Own, RegisterPage, Shared};
use crate::model::sync::{AtomicBool, AtomicU32, AtomicU64};

impl Shared for Vcpu {
    #[inline(always)]
    fn regs(&self) -> &RegisterPage {
        // SAFETY: By the type invariants: `regs` is set once, before anybody
        // can have this reference, and a page is a `RegisterPage`, all of
        // whose words are atomics.
        unsafe { &*(*self.as_lapic()).regs.cast::<RegisterPage>() }
    }

    #[inline(always)]
    fn own(&self) -> &Own {
        &self.own
    }

    #[inline(always)]
    fn irr_pending(&self) -> &AtomicBool {
        lapic_field!(self, irr_pending, AtomicBool)
    }

    #[inline(always)]
    fn apicv_active(&self) -> &AtomicBool {
        lapic_field!(self, apicv_active, AtomicBool)
    }

    #[inline(always)]
    fn software_enabled(&self) -> &AtomicBool {
        lapic_field!(self, sw_enabled, AtomicBool)
    }

    #[inline(always)]
    fn protected(&self) -> &AtomicBool {
        lapic_field!(self, guest_apic_protected, AtomicBool)
    }

    #[inline(always)]
    fn apic_base(&self) -> &AtomicU64 {
        &self.fields.apic_base
    }

    #[inline(always)]
    fn timer_mode_mask(&self) -> &AtomicU32 {
        lapic_field!(self, lapic_timer.timer_mode_mask, AtomicU32)
    }

    #[inline(always)]
    fn timer_advance_ns(&self) -> &AtomicU32 {
        lapic_field!(self, lapic_timer.timer_advance_ns, AtomicU32)
    }

    #[inline(always)]
    fn expired_tscdeadline(&self) -> &AtomicU64 {
        lapic_field!(self, lapic_timer.expired_tscdeadline, AtomicU64)
    }

    #[inline(always)]
    fn timer_pending(&self) -> &AtomicU32 {
        lapic_field!(self, lapic_timer.pending, AtomicU32)
    }

    #[inline(always)]
    fn hv_timer_in_use(&self) -> &AtomicBool {
        lapic_field!(self, lapic_timer.hv_timer_in_use, AtomicBool)
    }

    #[inline(always)]
    fn lvt_entries(&self) -> &AtomicU32 {
        lapic_field!(self, nr_lvt_entries, AtomicU32)
    }

    #[inline(always)]
    fn vapic_address(&self) -> &AtomicU64 {
        lapic_field!(self, vapic_addr, AtomicU64)
    }

    #[inline(always)]
    fn attention(&self) -> &AtomicU64 {
        &self.fields.attention
    }

    #[inline(always)]
    fn arbitration_priority(&self) -> &AtomicU32 {
        self.rare(&self.fields.arbitration_priority)
    }

    #[inline(always)]
    fn ioapic_handled_vectors(&self) -> &[AtomicU64; 4] {
        &self.fields.handled_vectors
    }
}
