// SPDX-License-Identifier: GPL-2.0

//! The local APIC.
//!
//! A [`LocalApic`] is a view of the surroundings ([`host`]), which hold the
//! register page, which the hardware may be writing ([`page`]), and the model's
//! own state ([`Own`]). It is one pointer: it is made where it is needed, and
//! goes from function to function in a register.
//!
//! # Who touches what
//!
//! The vCPU's thread owns an APIC: it runs the guest's accesses, the entry and
//! exit code and the ioctls, one at a time. Three others reach in meanwhile:
//!
//! - *Senders*, in any context, call [`LocalApic::accept`] (and
//!   [`LocalApic::local_deliver`]): TMR and IRR bits by locked operations, the
//!   `irr_pending` hint after the IRR bit, then a request, then a kick. They
//!   take no lock.
//! - *The hrtimer's callback*, in hardirq context, calls
//!   [`LocalApic::timer_expired`]: the fields of [`timer::Timer`] are relaxed
//!   atomics, and the vCPU's thread cancels the timer before it changes them
//!   where it matters.
//! - *The hardware*, with APICv or AVIC active: IRR, ISR, TPR and PPR in the
//!   page, while the guest runs.
//!
//! The behaviour is that of KVM's own local APIC, bit by bit, in what the guest
//! can see and in what the ioctls save. Sources: Intel SDM volume 3, "Advanced
//! Programmable Interrupt Controller (APIC)"; AMD APM volume 2, "Advanced
//! Programmable Interrupt Controller"; Linux,
//! Documentation/virt/kvm/api.rst.

pub mod accept;
pub mod access;
pub mod asking;
pub mod base;
pub mod eoi;
pub mod host;
mod hrtimer;
pub mod icr;
pub mod lvt;
pub mod page;
pub mod posted;
pub mod priority;
pub mod register;
pub mod restored;
pub mod state;
pub mod timer;
pub mod vapic;

#[cfg(test)]
mod tests;

use super::destination::Identity;
use super::sync::{AtomicU32, Ordering, Owned, Relaxed};
pub use base::Mode;
pub use host::{Host, Shared, SuppressEoiBroadcast};
pub use page::{RegisterPage, SavedRegisters, Vectors};
pub use register::Offset;
pub use timer::Timer;

/// The access is an error: #GP where there is a fault to raise, otherwise
/// `-EINVAL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

/// The state of a local APIC that nothing outside the model knows.
///
/// All zeros is a valid state, the one before the first reset; an object from
/// zeroed memory will do.
#[derive(Default)]
#[repr(C)]
pub struct Own {
    /// The timer, which its callback touches too.
    pub timer: Timer,
    /// A bit for each of ISR's parts in which a bit may be set, and certainly for
    /// those in which one is; all of them while APICv is active, since the CPU
    /// changes ISR then.
    parts_in_service: Owned<u32>,
    /// Highest vector in service; [`UNKNOWN`] if ISR must be searched.
    highest_in_service: Owned<u32>,
    /// Must the vCPU look with care? There may be something in IRR that it has been
    /// asked to look for in vain, while the APIC was disabled: then whoever sends
    /// it once more has to ask once more. Or PPR may not be that of TPR and ISR: the
    /// registers were replaced, or the CPU has changed them. Only the vCPU's thread
    /// writes it, and clears it when it has looked.
    unsettled: Relaxed<bool>,
    /// The TPR that PPR was computed from. The CPU writes TPR by itself not only
    /// with APICv: where it shadows TPR (VMX), `MOV CR8`, and a store to the page, or
    /// WRMSR, of TPR change the register without an exit.
    ppr_tpr: Owned<u8>,
    /// [`RECEIVES`] and [`LEVELS`].
    reception: AtomicU32,
    /// Was LVT0 an unmasked NMI at its last write?
    lint0_nmi: Owned<bool>,
    /// What user space has restored before its time.
    restored: restored::Restored,
}

/// Bit of [`Own::reception`]: the APIC is enabled, globally and by software. Then
/// it takes interrupts.
const RECEIVES: u32 = 1 << 0;
/// Bit of [`Own::reception`]: there may be a bit in TMR. It stays, once a level has
/// been accepted or restored; few vCPUs take any.
const LEVELS: u32 = 1 << 1;

/// All of ISR's parts.
const ALL_PARTS: u32 = 0xff;

/// No vector is known to be the highest in service.
const UNKNOWN: u32 = u32::MAX;

/// A local APIC.
pub struct LocalApic<'a, H: Host> {
    host: &'a H,
}

impl<H: Host> Clone for LocalApic<'_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H: Host> Copy for LocalApic<'_, H> {}

impl<'a, H: Host> LocalApic<'a, H> {
    /// The APIC in these surroundings, which hold its registers and its state.
    #[inline(always)]
    pub fn new(host: &'a H) -> Self {
        Self { host }
    }

    /// The register page.
    #[inline(always)]
    pub fn regs(self) -> &'a RegisterPage {
        self.host.regs()
    }

    /// The model's own state.
    #[inline(always)]
    fn own(self) -> &'a Own {
        self.host.own()
    }

    /// The surroundings.
    #[inline(always)]
    pub fn host(self) -> &'a H {
        self.host
    }

    /// Disabled, xAPIC or x2APIC. Any context.
    #[inline]
    pub fn mode(self) -> Mode {
        Mode::of(self.host.apic_base().load(Ordering::Relaxed))
    }

    /// Is the global enable bit set?
    #[inline(always)]
    pub fn is_hardware_enabled(self) -> bool {
        self.host.apic_base().load(Ordering::Relaxed) & base::ENABLE != 0
    }

    /// Is the software enable bit set?
    #[inline(always)]
    pub fn is_software_enabled(self) -> bool {
        self.host.software_enabled().load(Ordering::Relaxed)
    }

    /// Both: does it take interrupts? Any context.
    #[inline(always)]
    pub fn receives(self) -> bool {
        self.own().reception.load(Ordering::Relaxed) & RECEIVES != 0
    }

    /// To be called when one of the two has changed. The vCPU's thread.
    pub fn update_receives(self) {
        let reception = &self.own().reception;
        if self.is_hardware_enabled() && self.is_software_enabled() {
            reception.fetch_or(RECEIVES, Ordering::Relaxed);
        } else {
            reception.fetch_and(!RECEIVES, Ordering::Relaxed);
        }
    }

    /// Is it in x2APIC mode?
    #[inline(always)]
    pub fn is_x2apic(self) -> bool {
        self.host.apic_base().load(Ordering::Relaxed) & base::X2APIC != 0
    }

    /// Does the hardware deliver this vCPU's interrupts?
    #[inline(always)]
    fn is_apicv_active(self) -> bool {
        self.host.apicv_active().load(Ordering::Relaxed)
    }

    /// How this APIC is addressed. Any context; if its registers are being
    /// changed, the map is dirty and will be built again.
    pub fn identity(self) -> Identity {
        Identity {
            x2apic_id: self.host.vcpu_id(),
            xapic_id: (self.regs().read(Offset::ID) >> 24) as u8,
            is_x2apic: self.is_x2apic(),
            is_software_enabled: self.is_software_enabled(),
            ldr: self.regs().read(Offset::LDR),
            dfr: self.regs().read(Offset::DFR),
        }
    }
}
