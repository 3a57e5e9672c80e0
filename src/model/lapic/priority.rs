// SPDX-License-Identifier: GPL-2.0

//! Which interrupt is delivered next: IRR, ISR, and the task and processor
//! priorities.
//!
//! Source: Intel SDM volume 3, "Handling Interrupts" to "Task and Processor
//! Priorities".

use super::super::sync::Ordering;
use super::{Host, LocalApic, Offset, Vectors, ALL_PARTS, UNKNOWN};

/// The priority class of a vector or of a priority register: bits 7:4.
const CLASS: u32 = 0xf0;

/// The vector, if it can be delivered at that processor priority.
#[inline(always)]
fn above(ppr: u32, vector: u8) -> Option<u8> {
    (u32::from(vector) & CLASS > ppr).then_some(vector)
}

impl<H: Host> LocalApic<'_, H> {
    /// The highest vector in IRR, unless there is no need to look.
    #[inline]
    pub fn highest_irr(self) -> Option<u8> {
        if !self.host.irr_pending().load(Ordering::Relaxed) {
            return None;
        }
        self.regs().highest_if_any(Vectors::Irr)
    }

    /// Takes a vector out of IRR.
    ///
    /// The hint is cleared *before* the scan: a sender sets the bit first and
    /// the hint second, so either the scan sees the bit, or the sender's hint
    /// comes after ours. The locked operation in between keeps the order.
    #[inline]
    fn clear_irr(self, vector: u8) {
        if self.is_apicv_active() {
            self.regs().clear(Vectors::Irr, vector);
            return;
        }
        self.host.irr_pending().store(false, Ordering::Relaxed);
        self.regs().clear(Vectors::Irr, vector);
        if !self.regs().is_empty(Vectors::Irr) {
            self.host.irr_pending().store(true, Ordering::Relaxed);
        }
    }

    /// The highest vector in service.
    #[inline(always)]
    pub fn highest_in_service(self) -> Option<u8> {
        let parts = self.own().parts_in_service.get();
        if parts == 0 {
            return None;
        }
        match self.own().highest_in_service.get() {
            UNKNOWN => self.find_in_service(parts),
            vector => Some(vector as u8),
        }
    }

    #[inline(never)]
    fn find_in_service(self, parts: u32) -> Option<u8> {
        if parts == ALL_PARTS {
            // Mostly the CPU has ended it already.
            self.regs().highest_if_any(Vectors::Isr)
        } else {
            self.regs().highest_of(Vectors::Isr, parts)
        }
    }

    /// The same without a look into ISR: none if it is not known.
    #[inline]
    pub(super) fn cached_in_service(self) -> Option<u8> {
        match self.own().highest_in_service.get() {
            UNKNOWN => None,
            vector => Some(vector as u8),
        }
    }

    #[inline]
    fn set_isr(self, vector: u8) {
        if !self.regs().set_in_service(vector) {
            return;
        }
        if self.is_apicv_active() {
            // Nothing is remembered, for the CPU changes ISR; it is told.
            self.host.hwapic_isr_update(Some(vector));
        } else {
            // Only the highest vector is ever taken, so it is the highest here.
            let parts = &self.own().parts_in_service;
            parts.set(parts.get() | 1 << (vector / 32));
            self.own().highest_in_service.set(u32::from(vector));
        }
    }

    #[inline]
    pub(super) fn clear_isr(self, vector: u8) {
        let Some(rest) = self.regs().clear_in_service(vector) else {
            return;
        };
        if self.is_apicv_active() {
            // Reached by way of Hyper-V's EOI MSR.
            self.host.hwapic_isr_update(self.highest_in_service());
        } else {
            if rest == 0 {
                let parts = &self.own().parts_in_service;
                parts.set(parts.get() & !(1 << (vector / 32)));
            }
            self.own().highest_in_service.set(UNKNOWN);
        }
    }

    /// Finds out anew what is in service: APICv was switched on or off, or the
    /// registers were replaced. The vCPU's thread.
    pub fn update_apicv(self) {
        // While APICv is on, others set bits in IRR at any time; and when it
        // has just been switched off, not all of them know it yet.
        self.host.irr_pending().store(true, Ordering::Relaxed);
        self.own().unsettled.store(true);

        self.own().highest_in_service.set(UNKNOWN);
        if self.is_apicv_active() {
            // The CPU's copy of the highest vector must fit ISR, or the next
            // EOI that it does by itself clears another bit.
            self.own().parts_in_service.set(ALL_PARTS);
            self.host.hwapic_isr_update(self.highest_in_service());
        } else {
            let parts = self.regs().parts(Vectors::Isr);
            self.own().parts_in_service.set(parts);
        }
    }

    /// The highest vector that is pending, if [`Self::may_be_pending`]. May not
    /// sleep.
    #[inline(always)]
    fn highest_pending(self) -> Option<u8> {
        if self.host.posts_interrupts() && self.host.is_posted_outstanding() {
            self.host.sync_pir_to_irr()
        } else {
            self.regs().highest(Vectors::Irr)
        }
    }

    /// The vector to deliver at that processor priority, if something is pending.
    /// May not sleep.
    #[inline(never)]
    fn deliverable(self, ppr: u32) -> Option<u8> {
        above(ppr, self.highest_pending()?)
    }

    /// May there be something pending? If not, nobody has to look.
    #[inline]
    fn may_be_pending(self) -> bool {
        self.host.irr_pending().load(Ordering::Relaxed) || self.host.posts_interrupts()
    }

    /// Computes PPR from TPR and ISR, and stores it. Says what it is, and
    /// whether it is lower than before.
    #[inline]
    pub(super) fn compute_ppr(self) -> (u32, bool) {
        let old = self.regs().read(Offset::PPR);
        let tpr = self.regs().read(Offset::TPR);
        let in_service = self.highest_in_service().map_or(0, u32::from);

        let ppr = if tpr & CLASS >= in_service & CLASS {
            tpr & 0xff
        } else {
            in_service & CLASS
        };
        self.own().ppr_tpr.set(tpr as u8);
        if ppr != old {
            self.regs().write(Offset::PPR, ppr);
        }
        (ppr, ppr < old)
    }

    /// Computes PPR, and asks for an injection if more can be delivered than
    /// before. The vCPU's thread; may not sleep.
    #[inline]
    pub fn update_ppr(self) {
        let (ppr, lowered) = self.compute_ppr();
        if lowered && self.may_be_pending() && self.deliverable(ppr).is_some() {
            self.host.request_own_event();
        } else {
            self.update_cr8_intercept();
        }
    }

    /// Tells the vendor code from which TPR on it must look.
    fn update_cr8_intercept(self) {
        if self.is_apicv_active() {
            return;
        }
        let pending = if self.host.vapic_address().load(Ordering::Relaxed) == 0 {
            self.highest_irr()
        } else {
            None
        };
        let tpr = (self.regs().read(Offset::TPR) & CLASS) >> 4;
        self.host
            .update_cr8_intercept(tpr as u8, pending.map(|vector| vector >> 4));
    }

    /// Writes TPR, all of it (CR8 is its bits 7:4). The vCPU's thread, may not
    /// sleep; interrupts may be off.
    #[inline]
    pub fn set_tpr(self, tpr: u8) {
        self.regs().write(Offset::TPR, u32::from(tpr));
        self.update_ppr();
    }

    /// Takes over the TPR that the guest has now, after each exit. The vCPU's
    /// thread, may not sleep.
    ///
    /// PPR follows from TPR and ISR, and is right for those that it was computed
    /// from; so nothing is left to do if TPR is what it was, unless the registers
    /// were replaced.
    #[inline]
    pub fn sync_tpr(self, tpr: u8) {
        if self.regs().read(Offset::TPR) != u32::from(tpr) || self.own().unsettled.load() {
            self.set_tpr(tpr);
        }
    }

    /// The vector that can be delivered now. The vCPU's thread, may not sleep:
    /// it is called while the vCPU prepares to block.
    ///
    /// PPR is right already if TPR is what it was computed from, for whoever changes
    /// ISR computes it; but for APICv, where the CPU changes ISR as well.
    #[inline(always)]
    pub fn has_interrupt(self) -> Option<u8> {
        if !self.is_hardware_enabled() || self.host.protected().load(Ordering::Relaxed) {
            return None;
        }
        self.enabled_has_interrupt()
    }

    /// The same of an APIC that is enabled, and not protected.
    #[inline(always)]
    fn enabled_has_interrupt(self) -> Option<u8> {
        if !self.host.posts_interrupts() {
            if !self.host.irr_pending().load(Ordering::Relaxed) {
                return None;
            }
            let ppr = self.settled_ppr();
            return above(ppr, self.regs().highest(Vectors::Irr)?);
        }
        if self.host.is_posted_outstanding() {
            return self.posted_has_interrupt();
        }
        // Mostly there is none, and PPR does not matter.
        let highest = self.regs().highest(Vectors::Irr)?;
        if !self.is_settled() {
            return self.unsettled_has_interrupt(highest);
        }
        above(self.regs().read(Offset::PPR), highest)
    }

    /// The same after a notification.
    #[inline(never)]
    fn posted_has_interrupt(self) -> Option<u8> {
        let highest = self.host.sync_pir_to_irr()?;
        above(self.settled_ppr(), highest)
    }

    /// The same if `highest` is what IRR has, and PPR may be another one.
    #[inline(never)]
    fn unsettled_has_interrupt(self, highest: u8) -> Option<u8> {
        above(self.settle(), highest)
    }

    /// Is TPR what PPR was computed from? The vCPU's thread, or its mutex is held.
    #[inline(always)]
    pub fn is_ppr_of_tpr(self) -> bool {
        self.regs().read(Offset::TPR) as u8 == self.own().ppr_tpr.get()
    }

    /// Is PPR that of TPR and ISR, and need the vCPU not look with care?
    #[inline(always)]
    fn is_settled(self) -> bool {
        self.is_ppr_of_tpr() && !self.own().unsettled.load()
    }

    /// PPR as it follows from TPR and ISR.
    #[inline(always)]
    fn settled_ppr(self) -> u32 {
        if self.is_settled() {
            self.regs().read(Offset::PPR)
        } else {
            self.settle()
        }
    }

    fn settle(self) -> u32 {
        // Where interrupts are posted, these are looked for before each entry, see
        // `unsettle`.
        let stays = self.is_apicv_active() && !self.host.posts_interrupts();
        self.own().unsettled.store(stays);
        self.compute_ppr().0
    }

    /// The CPU is about to run the guest, and may change TPR and ISR by itself. The
    /// vCPU's thread.
    #[inline(always)]
    pub fn unsettle(self) {
        if self.is_apicv_active() {
            self.own().unsettled.store(true);
        }
    }

    /// Is there an interrupt for the guest to take, from this APIC, or from outside
    /// of it if this APIC lets that through? Not for one that is protected. The
    /// vCPU's thread, may not sleep.
    #[inline(always)]
    pub fn has_interrupt_or(self, external: impl FnOnce() -> bool) -> bool {
        if !self.is_hardware_enabled() {
            return external();
        }
        // A PIC has something for a guest that uses this APIC only by mistake.
        external() && self.lets_external_through() || self.enabled_has_interrupt().is_some()
    }

    /// Takes the vector that [`Self::has_interrupt`] finds: it moves from IRR to
    /// ISR. The vCPU's thread.
    #[inline]
    pub fn take_interrupt(self) -> Option<u8> {
        let vector = self.has_interrupt()?;
        self.clear_irr(vector);
        if self.host.synic_auto_eoi(vector) {
            self.update_ppr();
        } else {
            self.set_isr(vector);
            // Its class is above that of TPR and of whatever was in service.
            self.regs().write(Offset::PPR, u32::from(vector) & CLASS);
        }
        Some(vector)
    }

    /// The CPU has taken `vector`: the same for one that was found before. The
    /// vCPU's thread.
    ///
    /// Called while APICv is active, by nested virtualization that
    /// acknowledges interrupts on exit.
    #[inline]
    pub fn ack_interrupt(self, vector: u8) {
        self.clear_irr(vector);
        if self.host.synic_auto_eoi(vector) {
            // It is not in service, and another one may be deliverable.
            self.update_ppr();
        } else {
            self.set_isr(vector);
            // PPR rises: nothing more can be delivered, except what a sender
            // has added meanwhile, and that made its own request.
            self.compute_ppr();
        }
    }
}
