// SPDX-License-Identifier: GPL-2.0

//! End of interrupt.
//!
//! Source: Intel SDM volume 3, "Signaling Interrupt Servicing Completion" and
//! "Directed EOI with x2APIC Mode".

use super::super::message::Trigger;
use super::super::sync::Ordering;
use super::register::SPURIOUS_DIRECTED_EOI;
use super::{Host, LocalApic, Offset, SuppressEoiBroadcast, Vectors};

impl<H: Host> LocalApic<'_, H> {
    /// The guest signals the end of the interrupt in service. Returns its
    /// vector, none if there was none. The vCPU's thread.
    #[inline(always)]
    pub fn eoi(self) -> Option<u8> {
        let vector = self.highest_in_service();
        self.host.trace_eoi(vector);
        // Guests do write EOI with nothing in service.
        if let Some(vector) = vector {
            self.end(vector);
        }
        vector
    }

    /// The same on the exit fast path; false, and nothing is done, if others have
    /// to hear of it. The vCPU's thread, interrupts off.
    #[inline]
    pub(super) fn eoi_fast(self) -> bool {
        let vector = self.highest_in_service();
        let is_own = |vector| !self.ioapic_handles(vector) && !self.host.synic_has_vector(vector);
        if !vector.is_none_or(is_own) {
            return false;
        }
        self.eoi();
        true
    }

    fn end(self, vector: u8) {
        self.clear_isr(vector);
        // The request below has the next entry look for what can be delivered now
        // and from which TPR on; the latter not for an APIC that is disabled.
        if self.is_software_enabled() {
            self.compute_ppr();
        } else {
            self.update_ppr();
        }
        if self.host.synic_has_vector(vector) {
            self.host.synic_send_eoi(vector);
        }
        self.broadcast_eoi(vector);
        // With an empty IRR nothing can be delivered, and who fills it asks for a
        // look; but the guest may want to see in memory what is in service.
        if self.host.irr_pending().load(Ordering::Relaxed)
            || self.host.vapic_address().load(Ordering::Relaxed) != 0
            || self.host.posts_interrupts()
        {
            self.host.request_own_event();
        }
    }

    /// The CPU has done the EOI of `vector` itself, ISR and PPR included, and
    /// exited because an I/O APIC must see it. The vCPU's thread.
    pub fn eoi_accelerated(self, vector: u8) {
        self.host.trace_eoi(Some(vector));
        self.broadcast_eoi(vector);
        self.host.request_own_event();
    }

    /// Does an I/O APIC want to know of the EOI of `vector`?
    #[inline]
    pub(super) fn ioapic_handles(self, vector: u8) -> bool {
        let words = self.host.ioapic_handled_vectors();
        let word = words[usize::from(vector >> 6)].load(Ordering::Relaxed);
        word & 1 << (vector & 63) != 0
    }

    /// Tells the I/O APIC, in the kernel or in user space, of an EOI.
    #[inline]
    fn broadcast_eoi(self, vector: u8) {
        if self.ioapic_handles(vector) {
            self.broadcast_handled_eoi(vector);
        }
    }

    fn broadcast_handled_eoi(self, vector: u8) {
        let host = self.host;

        // It was pending from a route that is gone; by now its EOI probably
        // concerns nobody.
        if host.is_stale_pending_eoi(vector) {
            host.request_scan_ioapic();
        }

        if host.is_split() {
            // With directed EOI the guest tells the I/O APIC itself.
            if !self.suppresses_eoi_broadcast() {
                host.request_eoi_exit(vector);
            }
            return;
        }

        let trigger = Trigger::from_bit(self.regs().test(Vectors::Tmr, vector));
        host.ioapic_eoi(vector, trigger);
    }

    /// Has the guest asked for directed EOI, and does the VM honour it? Then
    /// EOIs of level interrupts are not broadcast. Any context.
    pub fn suppresses_eoi_broadcast(self) -> bool {
        if self.regs().read(Offset::SPURIOUS) & SPURIOUS_DIRECTED_EOI == 0 {
            return false;
        }
        match self.host.suppress_eoi_broadcast() {
            SuppressEoiBroadcast::Enabled => true,
            SuppressEoiBroadcast::Disabled => false,
            SuppressEoiBroadcast::Quirked => !self.host.is_split(),
        }
    }

    /// Is `vector` requested or in service, so that an EOI will come? Any
    /// context; a snapshot.
    pub fn is_eoi_pending(self, vector: u8) -> bool {
        self.regs().test(Vectors::Isr, vector) || self.regs().test(Vectors::Irr, vector)
    }
}
