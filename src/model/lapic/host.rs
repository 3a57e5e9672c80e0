// SPDX-License-Identifier: GPL-2.0

//! What a local APIC needs from outside: the vCPU it belongs to, the VM, the
//! clock and the timers of the machine.
//!
//! [`Shared`] is state that other code than this model reads and writes, as
//! plain references, so that a hot path costs a load and no call. [`Host`] is
//! everything that has to be asked for or done. Both are implemented once for
//! KVM (`kvm/`) and once for the tests; all calls are static.

use super::super::message::{DeliveryMode, Message, Trigger};
use super::super::sync::{AtomicBool, AtomicU32, AtomicU64};
use super::{Own, RegisterPage, SavedRegisters};

/// State of one local APIC that lives outside the model, because KVM's C code
/// reads or writes it too.
///
/// Unless a method says otherwise, only the vCPU's own thread (or whoever
/// holds the vCPU's mutex) writes the field.
pub trait Shared {
    /// The register page.
    fn regs(&self) -> &RegisterPage;
    /// The model's own state.
    fn own(&self) -> &Own;

    /// May a bit be set in IRR? Only a hint, but never false while one is.
    ///
    /// Written by senders on other CPUs, after they have set the bit in IRR.
    fn irr_pending(&self) -> &AtomicBool;

    /// Does the CPU deliver the interrupts of this vCPU by itself (APICv, AVIC)?
    ///
    /// Written by KVM, which calls [`super::LocalApic::update_apicv`] then.
    fn apicv_active(&self) -> &AtomicBool;

    /// The software enable bit of the spurious interrupt vector register.
    ///
    /// Changed through [`Host::set_software_enabled`] only.
    fn software_enabled(&self) -> &AtomicBool;

    /// Does the model see only a part of the APIC's state (TDX)?
    fn protected(&self) -> &AtomicBool;

    /// `IA32_APIC_BASE`.
    fn apic_base(&self) -> &AtomicU64;

    /// The bits of LVT timer's mode field that the guest's CPUID allows:
    /// `1 << 17` without and `3 << 17` with the TSC-deadline mode.
    fn timer_mode_mask(&self) -> &AtomicU32;

    /// How much earlier than its deadline the timer is made to expire, ns.
    /// Zero turns that off.
    fn timer_advance_ns(&self) -> &AtomicU32;

    /// The deadline that has expired, in cycles of the guest's TSC, until the
    /// vCPU enters the guest again; zero if there is none. KVM calls
    /// [`super::LocalApic::wait_expire`] only if there is one.
    ///
    /// Written by the timer's callback, too.
    fn expired_tscdeadline(&self) -> &AtomicU64;

    /// Is there an expiry that is not delivered yet? KVM asks for it by
    /// [`super::LocalApic::pending_timer`] only if this is not zero.
    ///
    /// Written by the timer's callback, too.
    fn timer_pending(&self) -> &AtomicU32;

    /// Is the CPU's own timer (the VMX preemption timer) armed for this APIC?
    fn hv_timer_in_use(&self) -> &AtomicBool;

    /// Number of LVT entries: 6, or 7 with CMCI.
    fn lvt_entries(&self) -> &AtomicU32;

    /// Guest physical address of the VAPIC page's word; zero if there is none.
    fn vapic_address(&self) -> &AtomicU64;

    /// `KVM_APIC_CHECK_VAPIC` (bit 0) and `KVM_APIC_PV_EOI_PENDING` (bit 1).
    fn attention(&self) -> &AtomicU64;

    /// Arbitration priority: counts the lowest-priority interrupts taken.
    ///
    /// Written by senders without a lock; it may lose counts.
    fn arbitration_priority(&self) -> &AtomicU32;

    /// The vectors whose EOI an I/O APIC has to see, 64 in each word.
    fn ioapic_handled_vectors(&self) -> &[AtomicU64; 4];
}

/// Who decides whether an EOI of a level interrupt is told to the I/O APIC
/// when the guest has asked for directed EOI (`KVM_CAP_X2APIC_API`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuppressEoiBroadcast {
    /// KVM's history: honoured with an in-kernel I/O APIC (which does not
    /// offer it), ignored in split mode (which does).
    Quirked,
    /// Offered, and honoured.
    Enabled,
    /// Not offered, not honoured.
    Disabled,
}

/// A moment, on the two clocks that the timer goes by.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// Monotonic time in ns (`ktime_get`).
    pub now: i64,
    /// The L1 guest's TSC.
    pub tsc: u64,
}

/// What a local APIC asks of its surroundings.
///
/// Methods are called in the context of the [`super::LocalApic`] method that
/// needs them; those that may sleep say so.
pub trait Host: Shared {
    // The vCPU and its VM.

    /// The vCPU's ID, which is its x2APIC ID.
    fn vcpu_id(&self) -> u32;
    /// Is this the bootstrap processor after a RESET?
    fn is_reset_bsp(&self) -> bool;
    /// Does the guest's CPUID have x2APIC?
    fn has_x2apic(&self) -> bool;
    /// Does the VM use 32-bit APIC IDs in the ioctls
    /// (`KVM_X2APIC_API_USE_32BIT_IDS`)?
    fn x2apic_format(&self) -> bool;
    /// Is the I/O APIC in user space (`KVM_CAP_SPLIT_IRQCHIP`)?
    fn is_split(&self) -> bool;
    /// The VM's choice for directed EOI.
    fn suppress_eoi_broadcast(&self) -> SuppressEoiBroadcast;
    /// Is `KVM_X86_QUIRK_LINT0_REENABLED` on?
    fn quirk_lint0_reenabled(&self) -> bool;
    /// Does the guest's CPU mask the performance counter LVT when it delivers
    /// from it (Intel and its compatibles)?
    fn is_intel_compatible(&self) -> bool;
    /// Does the host's CPU keep the x2APIC ICR in two 32-bit registers (AMD),
    /// rather than in one of 64 bits (Intel)?
    fn x2apic_icr_is_split(&self) -> bool;
    /// Bits of `IA32_APIC_BASE` beyond the guest's physical address width.
    fn reserved_gpa_bits(&self) -> u64;

    // Clocks. Any context.

    /// Monotonic time in ns (`ktime_get`).
    fn now(&self) -> i64;
    /// The L1 guest's TSC.
    fn l1_tsc(&self) -> u64;
    /// Both, with nothing in between.
    fn clocks(&self) -> Clocks;
    /// What makes the L1 guest's TSC of the host's: offset and scale. Equal
    /// values are equal TSCs; they have no other meaning here.
    fn l1_tsc_clock(&self) -> (u64, u64);
    /// Frequency of the guest's TSC; zero if it is not known.
    fn virtual_tsc_khz(&self) -> u32;
    /// Does the guest's TSC run at another rate than the host's?
    fn tsc_is_scaled(&self) -> bool;
    /// `ns` in cycles of the guest's TSC.
    fn nsec_to_cycles(&self, ns: u64) -> u64;
    /// Length of an APIC bus cycle, the timer's input, in ns.
    fn bus_cycle_ns(&self) -> u64;
    /// The shortest period that a periodic timer may have, in us.
    fn min_timer_period_us(&self) -> u32;
    /// Spins for that many cycles of the host's TSC.
    fn delay_cycles(&self, cycles: u64);
    /// Spins for that many ns.
    fn delay_ns(&self, ns: u32);

    // Timers.

    /// Arms the vCPU's hrtimer for an absolute time in ns, instead of the one
    /// that it was armed for. Does not wait for a callback that runs. Any context
    /// but the callback itself.
    fn start_hrtimer(&self, expires: i64);
    /// Stops the hrtimer, waits until its callback is done, and says whether
    /// it was armed.
    fn cancel_hrtimer(&self) -> bool;
    /// Does the callback run now? If not, and one has begun before, then all that
    /// it does is seen after this.
    fn is_hrtimer_running(&self) -> bool;
    /// Arms the hrtimer on this CPU with the time that it had before.
    fn restart_hrtimer(&self);
    /// Does the CPU have a timer of its own at all? The same for all time.
    fn has_hv_timer(&self) -> bool;
    /// May this vCPU use the CPU's own timer now? False if the CPU has none.
    fn can_use_hv_timer(&self) -> bool;
    /// Arms the CPU's timer with a guest TSC; `Some(true)` if that is in the
    /// past already, `None` if it cannot be done. Preemption off.
    fn set_hv_timer(&self, deadline: u64) -> Option<bool>;
    /// Disarms the CPU's timer. Preemption off.
    fn cancel_hv_timer(&self);
    /// May a timer interrupt be posted from the hrtimer's callback
    /// (`kvm_can_post_timer_interrupt`)?
    fn can_post_timer_interrupt(&self) -> bool;
    /// Is the vCPU in guest mode now?
    fn is_in_guest_mode(&self) -> bool;
    /// Was the vCPU asked to run, rather than to be looked at?
    fn wants_to_run(&self) -> bool;
    /// Runs `f` with preemption off.
    fn without_preemption<R>(&self, f: impl FnOnce() -> R) -> R;

    // Requests to the vCPU. Any context.

    /// Look for events before the next entry (`KVM_REQ_EVENT`).
    fn request_event(&self);
    /// The same from the vCPU's thread, which need not ask a second time before
    /// it enters.
    fn request_own_event(&self);
    /// Stop blocking (`KVM_REQ_UNBLOCK`).
    fn request_unblock(&self);
    /// Find out again which EOIs an I/O APIC needs (`KVM_REQ_SCAN_IOAPIC`).
    fn request_scan_ioapic(&self);
    /// Leave to user space with the EOI of `vector`.
    fn request_eoi_exit(&self, vector: u8);
    /// Wakes the vCPU, or makes it leave the guest.
    fn kick(&self);

    // Delivery to the vCPU. Any context.

    /// Brings a fixed interrupt to the vCPU: sets IRR (or PIR), and wakes or
    /// notifies it. TMR has been set.
    fn deliver_interrupt(&self, mode: DeliveryMode, trigger: Trigger, vector: u8);
    /// Can interrupts be posted to vCPUs of this VM, so that IRR is not all?
    fn posts_interrupts(&self) -> bool;
    /// Has something been posted that is not in IRR yet? If not, IRR is all. The
    /// vCPU's thread; only if [`Self::posts_interrupts`].
    fn is_posted_outstanding(&self) -> bool;
    /// Moves posted interrupts to IRR, and returns its highest vector. The vCPU's
    /// thread only, may not sleep; only if [`Self::posts_interrupts`].
    fn sync_pir_to_irr(&self) -> Option<u8>;
    /// Tells the CPU the highest vector in service. APICv only.
    fn hwapic_isr_update(&self, highest: Option<u8>);
    /// Tells the vendor code from which TPR on `max_irr` can be delivered.
    /// Both are priority classes (0 to 15).
    fn update_cr8_intercept(&self, tpr: u8, max_irr: Option<u8>);
    /// Copies all registers of the page out.
    fn copy_registers_to(&self, to: &mut SavedRegisters) {
        self.regs().save(to);
    }
    /// Replaces all registers of the page.
    fn copy_registers_from(&self, from: &SavedRegisters) {
        self.regs().restore(from);
    }
    /// Before the registers are replaced as a whole.
    fn apicv_pre_state_restore(&self);
    /// After the registers were replaced, if APICv is active.
    fn apicv_post_state_restore(&self);
    /// Makes an NMI pending.
    fn inject_nmi(&self);
    /// Makes an SMI pending; false if the VM has no SMM.
    fn inject_smi(&self) -> bool;
    /// Lets a halted paravirtual spinner go on (`pv_unhalted`).
    fn set_pv_unhalted(&self);
    /// Makes INIT the only pending one of INIT and SIPI.
    fn set_pending_init(&self);
    /// Makes a SIPI pending: stores the vector, then sets the pending bit
    /// (with a write barrier in between).
    fn set_pending_startup(&self, vector: u8);

    // EOI.

    /// Does a SynIC source use that vector?
    fn synic_has_vector(&self, vector: u8) -> bool;
    /// Does a SynIC source with automatic EOI use that vector?
    fn synic_auto_eoi(&self, vector: u8) -> bool;
    /// Tells SynIC of the EOI.
    fn synic_send_eoi(&self, vector: u8);
    /// Is `vector` the highest one that was pending from a routing that is
    /// gone (`highest_stale_pending_ioapic_eoi`)?
    fn is_stale_pending_eoi(&self, vector: u8) -> bool;
    /// Tells the in-kernel I/O APIC of the EOI. Not called in split mode.
    fn ioapic_eoi(&self, vector: u8, trigger: Trigger);
    /// The registers of an APIC were restored: tell the tracking of the RTC's
    /// EOI, if the I/O APIC is in the kernel. `id_changed`: they were before, and
    /// now it has its ID, by which it may not be the one that owes an EOI.
    fn rtc_eoi_tracking_restore(&self, id_changed: bool);

    // Side effects of registers.

    /// Stores the software enable bit, and keeps KVM's books of it.
    fn set_software_enabled(&self, enabled: bool);
    /// The guest has written the spurious vector register with the enable bit
    /// set: async page faults and Xen's timers may have waited for it.
    fn software_enable_written(&self);
    /// The LVT0 entry now is (or no longer is) an unmasked NMI, which the PIT
    /// must know about.
    fn nmi_watchdog_changed(&self, active: bool);
    /// The guest reads or writes TPR (`KVM_TPR_ACCESS_REPORTING`).
    fn report_tpr_access(&self, write: bool);
    /// Writes the version register (`kvm_apic_set_version`).
    fn set_version(&self);
    /// Something that the destination map depends on has changed.
    fn mark_map_dirty(&self);
    /// Builds the destination map anew if it is dirty. Sleeps then.
    fn recalculate_map(&self);

    // Side effects of IA32_APIC_BASE, which is stored already.

    /// The global enable bit has changed: CPUID, KVM's books, and async page
    /// faults that wait for an APIC.
    fn hardware_enable_changed(&self, enabled: bool);
    /// The mode (disabled, xAPIC, x2APIC) has changed: APICv must know.
    fn mode_changed(&self);
    /// The registers are to be found at that guest physical address.
    fn set_base_address(&self, address: u64);
    /// The APIC is enabled at another address than the architectural one,
    /// which APICv cannot do.
    fn inhibit_base_modified(&self);

    // Sending. The vCPU's thread.

    /// Brings a message of this APIC to its destinations. May not sleep, but
    /// takes time in proportion to the number of vCPUs.
    fn deliver(&self, message: &Message);
    /// The same, if a bounded number of destinations can be found without a
    /// lock; false, and nothing done, if not. Interrupts may be off.
    fn deliver_fast(&self, message: &Message) -> bool;

    // Guest memory. The vCPU's thread, SRCU held, may fault and sleep.

    /// Has the guest enabled PV EOI?
    fn pv_eoi_enabled(&self) -> bool;
    /// Sets `MSR_KVM_PV_EOI_EN`; zero disables PV EOI.
    fn set_pv_eoi_msr(&self, value: u64);
    /// Finds the `length` bytes at `address`, the first of which is the PV EOI
    /// byte; false if there is no memory.
    fn pv_eoi_map(&self, address: u64, length: usize) -> bool;
    /// The PV EOI byte.
    fn pv_eoi_read(&self) -> Option<u8>;
    /// Stores the PV EOI byte; false if that fails.
    fn pv_eoi_write(&self, value: u8) -> bool;
    /// Finds the VAPIC page's word at `address`; false if there is no memory.
    fn vapic_map(&self, address: u64) -> bool;
    /// The VAPIC page's word.
    fn vapic_read(&self) -> Option<u32>;
    /// Stores the VAPIC page's word.
    fn vapic_write(&self, value: u32);

    // Tracepoints.

    /// `kvm_apic_accept_irq`
    #[inline]
    fn trace_accept(&self, _mode: DeliveryMode, _trigger: Trigger, _vector: u8) {}
    /// `kvm_eoi`
    #[inline]
    fn trace_eoi(&self, _vector: Option<u8>) {}
    /// `kvm_pv_eoi`
    #[inline]
    fn trace_pv_eoi(&self, _vector: Option<u8>) {}
    /// `kvm_apic_ipi`
    #[inline]
    fn trace_ipi(&self, _icr_low: u32, _destination: u32) {}
    /// `kvm_apic`, read
    #[inline]
    fn trace_read(&self, _offset: u32, _value: u32) {}
    /// `kvm_apic`, write
    #[inline]
    fn trace_write(&self, _offset: u32, _value: u64) {}
    /// `kvm_hv_timer_state`
    #[inline]
    fn trace_hv_timer_state(&self, _in_use: bool) {}
    /// The timer's interrupt was delivered; KVM has no tracepoint for it.
    #[inline]
    fn trace_timer(&self) {}
    /// `kvm_wait_lapic_expire`
    #[inline]
    fn trace_wait_expire(&self, _delta: i64) {}
}
