// SPDX-License-Identifier: GPL-2.0

//! Acceptance: what a message does to the APIC that it was sent to.
//!
//! Source: Intel SDM volume 3, "Interrupt Acceptance for Fixed Interrupts" and
//! "INIT" and "Start-up" of "Interrupt Command Register (ICR)".

use super::super::message::{DeliveryMode, Message, Trigger};
use super::super::sync::Ordering;
use super::register::{DELIVERY_MODE, LVT_LEVEL, LVT_MASKED};
use super::{Host, LocalApic, Offset, Vectors};

impl<H: Host> LocalApic<'_, H> {
    /// Takes a message; false if the APIC drops it. Any context, no lock.
    ///
    /// Destination and shorthand have been dealt with. For the caller that
    /// tracks the RTC's EOI: a vector is pending here if the result is true
    /// and the delivery mode is fixed or lowest priority.
    #[inline]
    pub fn accept(self, message: &Message) -> bool {
        self.accept_vector(
            message.delivery_mode,
            message.vector,
            message.assert,
            message.trigger,
        )
    }

    #[inline]
    fn accept_vector(self, mode: DeliveryMode, vector: u8, assert: bool, trigger: Trigger) -> bool {
        let host = self.host;

        host.trace_accept(mode, trigger, vector);
        match mode {
            DeliveryMode::Fixed => self.accept_fixed(mode, vector, assert, trigger),
            DeliveryMode::LowestPriority => {
                // May lose a count against another sender, which only makes
                // the arbitration a little less fair.
                let priority = host.arbitration_priority();
                let count = priority.load(Ordering::Relaxed);
                priority.store(count.wrapping_add(1), Ordering::Relaxed);
                self.accept_fixed(mode, vector, assert, trigger)
            }
            DeliveryMode::RemoteRead => {
                host.set_pv_unhalted();
                host.request_event();
                host.kick();
                true
            }
            DeliveryMode::Smi => {
                let injected = host.inject_smi();
                if injected {
                    host.kick();
                }
                injected
            }
            DeliveryMode::Nmi => {
                host.inject_nmi();
                host.kick();
                true
            }
            DeliveryMode::Init => {
                // A level-triggered de-assertion only synchronizes arbitration
                // IDs, which there are none of.
                let accepted = !trigger.is_level() || assert;
                if accepted {
                    host.set_pending_init();
                    host.request_event();
                    host.kick();
                }
                accepted
            }
            DeliveryMode::StartUp => {
                host.set_pending_startup(vector);
                host.request_event();
                host.kick();
                true
            }
            // From LVT0 alone; the PIC's output is looked at elsewhere, see
            // `accepts_pic_interrupt`.
            DeliveryMode::ExtInt => false,
        }
    }

    #[inline]
    fn accept_fixed(self, mode: DeliveryMode, vector: u8, assert: bool, trigger: Trigger) -> bool {
        if trigger.is_level() && !assert {
            return false;
        }
        if !self.receives() {
            return false;
        }

        // TMR is settled here, when the interrupt is accepted, and before the
        // bit in IRR makes it visible: the EOI will look at it.
        if self.regs().test(Vectors::Tmr, vector) != trigger.is_level() {
            if trigger.is_level() {
                self.regs().set(Vectors::Tmr, vector);
            } else {
                self.regs().clear(Vectors::Tmr, vector);
            }
        }
        self.host.deliver_interrupt(mode, trigger, vector);
        true
    }

    /// The software half of a delivery, for a [`Host`] without hardware that
    /// delivers: sets the bit in IRR, then the hint; a full barrier. Any context,
    /// no lock.
    ///
    /// If true, a request for an event and a kick must follow. If the bit was set
    /// already, that is up to whoever set it.
    #[inline]
    pub fn set_irr(self, vector: u8) -> bool {
        if !self.regs().set(Vectors::Irr, vector) {
            return self.own().unsettled.load();
        }
        // After the bit, or `clear_irr` could miss both.
        self.host.irr_pending().store(true, Ordering::Relaxed);
        true
    }

    /// Takes an edge-triggered fixed interrupt in software, for an APIC that
    /// receives; a store only if it is not pending yet. Any context, no lock.
    ///
    /// The result is that of [`Self::set_irr`], but of several that come at once
    /// each may be told to ask. A full barrier must be before the call, for what the
    /// vCPU is to see when it takes an interrupt that is pending already.
    #[inline(always)]
    pub fn mark(self, vector: u8) -> bool {
        let regs = self.regs();
        self.settle_edge(vector);
        if regs.test(Vectors::Irr, vector) {
            return self.own().unsettled.load();
        }
        // As in `set_irr`.
        regs.set(Vectors::Irr, vector);
        self.host.irr_pending().store(true, Ordering::Relaxed);
        true
    }

    /// TMR's part of an edge-triggered interrupt that is about to be pending. Any
    /// context, no lock.
    #[inline(always)]
    pub fn settle_edge(self, vector: u8) {
        if self.regs().test(Vectors::Tmr, vector) {
            self.regs().clear(Vectors::Tmr, vector);
        }
    }

    /// Delivers from an LVT entry; false if it is masked or dropped. Any
    /// context, no lock.
    pub fn local_deliver(self, lvt: Offset) -> bool {
        let entry = self.regs().read(lvt);
        if !self.is_hardware_enabled() || entry & LVT_MASKED != 0 {
            return false;
        }
        let accepted = self.accept_vector(
            DeliveryMode::from_bits(entry >> 8),
            entry as u8,
            true,
            Trigger::from_bit(entry & LVT_LEVEL != 0),
        );
        if accepted && lvt == Offset::LVT_PERFORMANCE && self.host.is_intel_compatible() {
            self.regs().write(lvt, entry | LVT_MASKED);
        }
        accepted
    }

    /// Does this vCPU take the PIC's interrupts? By LVT0 as an ExtINT, or
    /// because it has no APIC. Any context.
    #[inline]
    pub fn accepts_pic_interrupt(self) -> bool {
        !self.is_hardware_enabled() || self.lets_external_through()
    }

    /// Is LVT0 an ExtINT?
    #[inline]
    pub(super) fn lets_external_through(self) -> bool {
        let lint0 = self.regs().read(Offset::LVT_LINT0);
        lint0 & LVT_MASKED == 0 && lint0 & DELIVERY_MODE == DELIVERY_MODE
    }
}
