// SPDX-License-Identifier: GPL-2.0

//! Acceptance: what a message does to the APIC that it was sent to.
//!
//! Source: Intel SDM volume 3, "Interrupt Acceptance for Fixed Interrupts" and
//! "INIT" and "Start-up" of "Interrupt Command Register (ICR)".

use super::super::message::{DeliveryMode, Message, Trigger};
use super::super::sync::Ordering;
use super::register::{DELIVERY_MODE, LVT_LEVEL, LVT_MASKED};
use super::{Host, LocalApic, Offset, Vectors, LEVELS, RECEIVES};

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
        let receives = if trigger.is_level() {
            self.receives_level(vector)
        } else {
            self.receives_edge(vector)
        };
        if receives {
            self.host.deliver_interrupt(mode, trigger, vector);
        }
        receives
    }

    /// [`Self::accept`] for a fixed interrupt, unless it is a de-assertion.
    #[inline(always)]
    pub fn accept_asserted(self, trigger: Trigger, vector: u8) -> bool {
        self.host.trace_accept(DeliveryMode::Fixed, trigger, vector);
        let receives = if trigger.is_level() {
            self.receives_level(vector)
        } else {
            self.receives_edge(vector)
        };
        if receives {
            self.host
                .deliver_interrupt(DeliveryMode::Fixed, trigger, vector);
        }
        receives
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

    /// Takes an edge-triggered fixed interrupt in software, after
    /// [`Self::receives_edge`]; a store only if it is not pending yet. Any context, no lock.
    ///
    /// The result is that of [`Self::set_irr`], but of several that come at once
    /// each may be told to ask. A full barrier must be before the call, for what the
    /// vCPU is to see when it takes an interrupt that is pending already.
    #[inline(always)]
    pub fn mark(self, vector: u8) -> bool {
        let regs = self.regs();
        if regs.test(Vectors::Irr, vector) {
            return self.own().unsettled.load();
        }
        // As in `set_irr`.
        regs.set(Vectors::Irr, vector);
        self.host.irr_pending().store(true, Ordering::Relaxed);
        true
    }

    /// Does it take an edge-triggered interrupt? If so, that must be made pending
    /// next. Any context, no lock.
    ///
    /// TMR is settled here, when the interrupt is accepted, and before the bit in
    /// IRR makes it visible: the EOI will look at it.
    #[inline(always)]
    pub fn receives_edge(self, vector: u8) -> bool {
        let reception = self.own().reception.load(Ordering::Relaxed);
        if reception == RECEIVES {
            return true;
        }
        let receives = reception & RECEIVES != 0;
        if receives && self.regs().test(Vectors::Tmr, vector) {
            self.regs().clear(Vectors::Tmr, vector);
        }
        receives
    }

    /// The same for one that is level-triggered.
    fn receives_level(self, vector: u8) -> bool {
        let reception = &self.own().reception;
        let now = reception.load(Ordering::Relaxed);
        if now & RECEIVES == 0 {
            return false;
        }
        // Before the bit, or an edge of that vector would not look for it.
        if now & LEVELS == 0 {
            reception.fetch_or(LEVELS, Ordering::SeqCst);
        }
        if !self.regs().test(Vectors::Tmr, vector) {
            self.regs().set(Vectors::Tmr, vector);
        }
        true
    }

    /// Delivers from an LVT entry; false if it is masked or dropped. Any
    /// context, no lock.
    pub fn local_deliver(self, lvt: Offset) -> bool {
        let entry = self.regs().read(lvt);
        if !self.is_hardware_enabled() || entry & LVT_MASKED != 0 {
            return false;
        }
        let accepted = if entry & (DELIVERY_MODE | LVT_LEVEL) == 0 {
            self.accept_asserted(Trigger::Edge, entry as u8)
        } else {
            self.accept_vector(
                DeliveryMode::from_bits(entry >> 8),
                entry as u8,
                true,
                Trigger::from_bit(entry & LVT_LEVEL != 0),
            )
        };
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
