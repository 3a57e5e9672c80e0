// SPDX-License-Identifier: GPL-2.0

//! What the model of a local APIC gets from KVM: functions of the shim.

use super::super::bindings;
use super::super::stats::Event;
use super::{or_none, vector, Vcpu};
use crate::model::ioapic::Eoi;
use crate::model::lapic::asking::Asking;
use crate::model::lapic::host::Clocks;
use crate::model::lapic::{Host, SavedRegisters, Shared, SuppressEoiBroadcast};
use crate::model::message::{DeliveryMode, Message, Trigger};
use crate::model::posted::Descriptor;
use crate::model::sync::{fence, AtomicU32, AtomicU64, Ordering};
use core::sync::atomic::{AtomicI8, AtomicPtr};
use kernel::bindings::{
    hrtimer, hrtimer_cancel, hrtimer_mode_HRTIMER_MODE_ABS_HARD, hrtimer_start_range_ns,
};
use kernel::ffi::{c_int, c_uint};
use kernel::static_branch_unlikely;

/// `struct kvm_vcpu`'s `requests`: bit of `KVM_REQ_EVENT`.
const REQUEST_EVENT: u64 = 1 << bindings::FERRIC_REQ_EVENT;
/// `struct kvm_lapic`'s `pending_events`: bit of a pending INIT.
const PENDING_INIT: u64 = 1 << 0;
/// `struct kvm_lapic`'s `pending_events`: bit of a pending SIPI.
const PENDING_SIPI: u64 = 1 << 1;

/// Calls a function of the shim with the vCPU and more.
///
/// The blocks that this expands to are all safe for the same reason, and so
/// share its comment: the vCPU is alive, as this object is, and the context is
/// the one that `Host` promises for the method.
macro_rules! shim {
    ($vcpu:expr, $function:ident $(, $argument:expr)*) => {{
        // SAFETY: The vCPU outlives `$vcpu`, and each `Host` method is called
        // in the context it documents, which is that of KVM's function.
        unsafe { bindings::$function($vcpu.as_kvm_vcpu() $(, $argument)*) }
    }};
}

/// The same with KVM's local APIC.
macro_rules! shim_lapic {
    ($vcpu:expr, $function:ident $(, $argument:expr)*) => {{
        // SAFETY: As for `shim!`.
        unsafe { bindings::$function($vcpu.as_lapic() $(, $argument)*) }
    }};
}

/// The same without a vCPU.
macro_rules! shim_plain {
    ($function:ident $(, $argument:expr)*) => {{
        // SAFETY: The function has no requirement but the context.
        unsafe { bindings::$function($($argument),*) }
    }};
}

/// Is the tracepoint on? A NOP or a jump.
macro_rules! tracing {
    ($tracepoint:ident) => {{
        // SAFETY: A tracepoint's static key can always be asked.
        unsafe { static_branch_unlikely!(bindings::$tracepoint, kernel::bindings::tracepoint, key) }
    }};
}

impl Host for Vcpu {
    #[inline(always)]
    fn vcpu_id(&self) -> u32 {
        self.id
    }

    fn is_reset_bsp(&self) -> bool {
        shim!(self, ferric_is_bsp)
    }

    fn has_x2apic(&self) -> bool {
        shim!(self, ferric_has_x2apic_cpuid)
    }

    fn x2apic_format(&self) -> bool {
        self.vm().x2apic_format()
    }

    #[inline]
    fn is_split(&self) -> bool {
        self.vm().chips().is_none()
    }

    fn suppress_eoi_broadcast(&self) -> SuppressEoiBroadcast {
        self.vm().suppress_eoi_broadcast()
    }

    fn quirk_lint0_reenabled(&self) -> bool {
        self.vm().quirk_lint0_reenabled()
    }

    fn is_intel_compatible(&self) -> bool {
        shim!(self, ferric_cpuid_is_intel_compatible)
    }

    #[inline]
    fn x2apic_icr_is_split(&self) -> bool {
        self.vm().x2apic_icr_is_split()
    }

    fn reserved_gpa_bits(&self) -> u64 {
        shim!(self, ferric_reserved_gpa_bits)
    }

    #[inline]
    fn now(&self) -> i64 {
        shim_plain!(ferric_now_ns)
    }

    #[inline]
    fn l1_tsc(&self) -> u64 {
        shim!(self, ferric_l1_tsc)
    }

    #[inline]
    fn clocks(&self) -> Clocks {
        let clocks = shim!(self, ferric_clocks);
        Clocks {
            now: clocks.now,
            tsc: clocks.l1_tsc,
        }
    }

    fn l1_tsc_clock(&self) -> (u64, u64) {
        (
            self.rare(&self.fields.l1_tsc_offset)
                .load(Ordering::Relaxed),
            self.rare(&self.fields.l1_tsc_ratio).load(Ordering::Relaxed),
        )
    }

    #[inline]
    fn virtual_tsc_khz(&self) -> u32 {
        self.fields.virtual_tsc_khz.load(Ordering::Relaxed)
    }

    fn tsc_is_scaled(&self) -> bool {
        shim!(self, ferric_tsc_is_scaled)
    }

    /// `pvclock_scale_delta()`, which C has as an inline function.
    #[inline]
    fn nsec_to_cycles(&self, ns: u64) -> u64 {
        // SAFETY: C reads and writes both as scalars of this size.
        let (shift, mult): (&AtomicI8, &AtomicU32) = unsafe {
            (
                self.vcpu_field(bindings::FERRIC_VCPU_TSC_SHIFT),
                self.vcpu_field(bindings::FERRIC_VCPU_TSC_MULT),
            )
        };
        let shift = shift.load(Ordering::Relaxed);
        let ns = if shift < 0 {
            ns.wrapping_shr(u32::from(shift.unsigned_abs()))
        } else {
            ns.wrapping_shl(u32::from(shift.unsigned_abs()))
        };
        let cycles = u128::from(ns) * u128::from(mult.load(Ordering::Relaxed));
        (cycles >> 32) as u64
    }

    #[inline]
    fn bus_cycle_ns(&self) -> u64 {
        self.vm().bus_cycle_ns()
    }

    fn min_timer_period_us(&self) -> u32 {
        shim_plain!(ferric_min_timer_period_us)
    }

    fn delay_cycles(&self, cycles: u64) {
        shim_plain!(ferric_delay_cycles, cycles);
    }

    fn delay_ns(&self, ns: u32) {
        shim_plain!(ferric_delay_ns, ns);
    }

    #[inline]
    fn start_hrtimer(&self, expires: i64) {
        // SAFETY: KVM has set up the hrtimer, and cancels it before it frees this.
        unsafe {
            hrtimer_start_range_ns(
                self.hrtimer(),
                expires,
                0,
                hrtimer_mode_HRTIMER_MODE_ABS_HARD,
            );
        }
    }

    #[inline]
    fn cancel_hrtimer(&self) -> bool {
        // SAFETY: As for `start_hrtimer`; its callback is not the caller.
        unsafe { hrtimer_cancel(self.hrtimer()) != 0 }
    }

    #[inline]
    fn is_hrtimer_running(&self) -> bool {
        let timer = self.hrtimer();
        // SAFETY: An hrtimer that is set up has a base, and those are there for
        // ever. Both pointers are looked at as in `hrtimer_callback_running()`.
        let running = unsafe {
            let base = AtomicPtr::from_ptr(&raw mut (*timer).base).load(Ordering::Relaxed);
            // ORDERING: `__run_hrtimer()` clears it after the callback, and the
            // CPU keeps the order of stores.
            AtomicPtr::from_ptr(&raw mut (*base).running).load(Ordering::Acquire)
        };
        running == timer
    }

    fn restart_hrtimer(&self) {
        shim_lapic!(self, ferric_timer_restart);
    }

    #[inline(always)]
    fn has_hv_timer(&self) -> bool {
        self.vm().has_hv_timer()
    }

    #[inline]
    fn can_use_hv_timer(&self) -> bool {
        shim!(self, ferric_can_use_hv_timer)
    }

    #[inline]
    fn set_hv_timer(&self, deadline: u64) -> Option<bool> {
        let mut expired = false;
        (shim!(self, ferric_set_hv_timer, deadline, &mut expired) == 0).then_some(expired)
    }

    #[inline]
    fn cancel_hv_timer(&self) {
        shim!(self, ferric_cancel_hv_timer);
    }

    #[inline]
    fn can_post_timer_interrupt(&self) -> bool {
        shim!(self, ferric_can_post_timer)
    }

    #[inline]
    fn is_in_guest_mode(&self) -> bool {
        shim!(self, ferric_in_guest_mode)
    }

    #[inline]
    fn wants_to_run(&self) -> bool {
        shim!(self, ferric_wants_to_run)
    }

    #[inline]
    fn without_preemption<R>(&self, f: impl FnOnce() -> R) -> R {
        shim_plain!(ferric_preempt_disable);
        let result = f();
        shim_plain!(ferric_preempt_enable);
        result
    }

    #[inline]
    fn request_event(&self) {
        shim!(self, ferric_request_event);
    }

    #[inline(always)]
    fn request_own_event(&self) {
        self.asking().request();
    }

    #[inline]
    fn request_unblock(&self) {
        shim!(self, ferric_request_unblock);
    }

    fn request_scan_ioapic(&self) {
        shim!(self, ferric_request_scan_ioapic);
    }

    fn request_eoi_exit(&self, vector: u8) {
        self.rare(&self.fields.pending_ioapic_eoi)
            .store(vector.into(), Ordering::Relaxed);
        shim!(self, ferric_request_ioapic_eoi_exit);
    }

    #[inline]
    fn kick(&self) {
        shim!(self, ferric_kick);
    }

    #[inline(always)]
    fn deliver_interrupt(&self, mode: DeliveryMode, trigger: Trigger, vector: u8) {
        if !self.vm().may_be_accelerated() {
            if self.apic().set_irr(vector) && self.asking().ask() {
                self.kick();
            }
            return;
        }
        if let Some(descriptor) = self.posts_directly() {
            if descriptor.post(vector) && self.asking().must_be_told() {
                shim!(self, ferric_notify);
            }
            self.trace_posted(mode, trigger, vector);
            return;
        }
        shim_lapic!(
            self,
            ferric_deliver_interrupt,
            (mode as c_int) << 8,
            trigger_bit(trigger),
            vector.into()
        );
    }

    #[inline(always)]
    fn posts_interrupts(&self) -> bool {
        self.vm().has_posted_interrupts()
    }

    #[inline(always)]
    fn is_posted_outstanding(&self) -> bool {
        self.is_notified()
    }

    /// What KVM does beside it, telling the CPU the highest vector, it does before
    /// each entry as well; unless the interrupt is not for the CPU to deliver.
    #[inline]
    fn sync_pir_to_irr(&self) -> Option<u8> {
        if self.posts_directly().is_some() {
            return self.harvest_outstanding().highest;
        }
        vector(shim!(self, ferric_sync_pir_to_irr))
    }

    fn hwapic_isr_update(&self, highest: Option<u8>) {
        shim!(self, ferric_hwapic_isr_update, or_none(highest));
    }

    #[inline]
    fn update_cr8_intercept(&self, tpr: u8, max_irr: Option<u8>) {
        shim!(
            self,
            ferric_update_cr8_intercept,
            tpr.into(),
            or_none(max_irr)
        );
    }

    fn copy_registers_to(&self, to: &mut SavedRegisters) {
        // SAFETY: Both are 1 KiB and aligned to 8 bytes, the page as one and the
        // state as `kvm_lapic_state` in memory of kmalloc()'s, and do not overlap.
        // Others may change words of the page meanwhile: each is copied whole, by
        // READ_ONCE() and WRITE_ONCE().
        unsafe { bindings::ferric_copy_registers(to.as_mut_ptr(), self.page()) };
    }

    fn copy_registers_from(&self, from: &SavedRegisters) {
        // SAFETY: As above.
        unsafe { bindings::ferric_copy_registers(self.page(), from.as_ptr()) };
    }

    fn apicv_pre_state_restore(&self) {
        shim!(self, ferric_apicv_pre_state_restore);
    }

    fn apicv_post_state_restore(&self) {
        shim!(self, ferric_apicv_post_state_restore);
    }

    fn inject_nmi(&self) {
        shim!(self, ferric_inject_nmi);
    }

    fn inject_smi(&self) -> bool {
        shim!(self, ferric_inject_smi)
    }

    fn set_pv_unhalted(&self) {
        self.rare(&self.fields.pv_unhalted)
            .store(true, Ordering::Relaxed);
    }

    fn set_pending_init(&self) {
        lapic_field!(self, pending_events, AtomicU64).store(PENDING_INIT, Ordering::Relaxed);
    }

    fn set_pending_startup(&self, vector: u8) {
        lapic_field!(self, sipi_vector, AtomicU32).store(vector.into(), Ordering::Relaxed);
        // ORDERING: The vector before the bit; pairs with the read barrier in
        // kvm_apic_accept_events().
        fence(Ordering::Release);
        lapic_field!(self, pending_events, AtomicU64).fetch_or(PENDING_SIPI, Ordering::SeqCst);
    }

    #[inline]
    fn synic_has_vector(&self, vector: u8) -> bool {
        self.has_hyperv() && shim!(self, ferric_synic_has_vector, vector.into())
    }

    #[inline]
    fn synic_auto_eoi(&self, vector: u8) -> bool {
        self.has_hyperv() && shim!(self, ferric_synic_auto_eoi, vector.into())
    }

    fn synic_send_eoi(&self, vector: u8) {
        shim!(self, ferric_synic_send_eoi, vector.into());
    }

    fn is_stale_pending_eoi(&self, vector: u8) -> bool {
        self.rare(&self.fields.stale_pending_eoi)
            .load(Ordering::Relaxed)
            == u32::from(vector)
    }

    fn ioapic_eoi(&self, vector: u8, trigger: Trigger) {
        if let Some(chips) = self.vm().chips() {
            chips.ioapic_eoi(&Eoi {
                vcpu_id: self.id,
                vector,
                trigger,
                suppressed: self.apic().suppresses_eoi_broadcast(),
            });
        }
    }

    fn rtc_eoi_tracking_restore(&self, id_changed: bool) {
        if let Some(chips) = self.vm().chips() {
            chips.restore_rtc(self, id_changed);
        }
    }

    fn set_software_enabled(&self, enabled: bool) {
        // KVM's function does this and what waits for an enabled APIC, so that
        // enabling is left to `software_enable_written`, which always follows.
        if !enabled {
            shim_lapic!(self, ferric_set_sw_enabled, false);
        }
    }

    fn software_enable_written(&self) {
        shim_lapic!(self, ferric_set_sw_enabled, true);
    }

    fn nmi_watchdog_changed(&self, active: bool) {
        self.vm().count_nmi_watchdog(active);
    }

    fn report_tpr_access(&self, write: bool) {
        if self
            .rare(&self.fields.tpr_access_reporting)
            .load(Ordering::Relaxed)
        {
            shim!(self, ferric_report_tpr_access, write);
        }
    }

    fn set_version(&self) {
        shim!(self, ferric_set_version);
    }

    fn mark_map_dirty(&self) {
        self.vm().mark_map_dirty(self);
    }

    fn recalculate_map(&self) {
        self.vm().recalculate_map();
    }

    fn hardware_enable_changed(&self, enabled: bool) {
        shim!(self, ferric_hw_enable_changed, enabled);
    }

    fn mode_changed(&self) {
        shim!(self, ferric_apic_mode_changed);
    }

    fn set_base_address(&self, address: u64) {
        lapic_field!(self, base_address, AtomicU64).store(address, Ordering::Relaxed);
    }

    fn inhibit_base_modified(&self) {
        self.vm().inhibit_base_modified();
    }

    fn deliver(&self, message: &Message) {
        let delivered = self.vm().deliver(Some(self), message, None);
        self.count_ipi(delivered);
    }

    #[inline(always)]
    fn deliver_fast(&self, message: &Message) -> bool {
        match self.vm().deliver_fast(Some(self), message, None) {
            Some(delivered) => {
                self.count_ipi(delivered);
                true
            }
            None => false,
        }
    }

    fn pv_eoi_enabled(&self) -> bool {
        // KVM_MSR_ENABLED
        self.fields.pv_eoi_msr.load(Ordering::Relaxed) & 1 != 0
    }

    fn set_pv_eoi_msr(&self, value: u64) {
        self.fields.pv_eoi_msr.store(value, Ordering::Relaxed);
    }

    fn pv_eoi_map(&self, address: u64, length: usize) -> bool {
        shim!(self, ferric_map_pv_eoi, address, length) == 0
    }

    fn pv_eoi_read(&self) -> Option<u8> {
        let mut value = 0;
        (shim!(self, ferric_read_pv_eoi, &mut value) >= 0).then_some(value)
    }

    fn pv_eoi_write(&self, value: u8) -> bool {
        shim!(self, ferric_write_pv_eoi, value) >= 0
    }

    fn vapic_map(&self, address: u64) -> bool {
        shim_lapic!(self, ferric_map_vapic, address) == 0
    }

    fn vapic_read(&self) -> Option<u32> {
        let mut value = 0;
        (shim_lapic!(self, ferric_read_vapic, &mut value) == 0).then_some(value)
    }

    fn vapic_write(&self, value: u32) {
        // KVM has checked the address; if the memory is gone, so is the reader.
        shim_lapic!(self, ferric_write_vapic, value);
    }

    #[inline]
    fn trace_accept(&self, mode: DeliveryMode, trigger: Trigger, vector: u8) {
        if tracing!(__tracepoint_kvm_apic_accept_irq) {
            shim_plain!(
                ferric_trace_accept_irq,
                self.id,
                (mode as u16) << 8,
                trigger_bit(trigger) as u16,
                vector
            );
        }
    }

    #[inline]
    fn trace_eoi(&self, vector: Option<u8>) {
        if vector.is_some() {
            self.vm().stats().count(Event::Eoi, 1);
        }
        if tracing!(__tracepoint_kvm_eoi) {
            shim_lapic!(self, ferric_trace_eoi, or_none(vector));
        }
    }

    #[inline]
    fn trace_pv_eoi(&self, vector: Option<u8>) {
        if tracing!(__tracepoint_kvm_pv_eoi) {
            shim_lapic!(self, ferric_trace_pv_eoi, or_none(vector));
        }
    }

    #[inline]
    fn trace_ipi(&self, icr_low: u32, destination: u32) {
        if tracing!(__tracepoint_kvm_apic_ipi) {
            shim_plain!(ferric_trace_apic_ipi, icr_low, destination);
        }
    }

    #[inline]
    fn trace_read(&self, offset: u32, value: u32) {
        if tracing!(__tracepoint_kvm_apic) {
            shim_plain!(ferric_trace_apic_read, offset, value.into());
        }
    }

    #[inline]
    fn trace_write(&self, offset: u32, value: u64) {
        if tracing!(__tracepoint_kvm_apic) {
            shim_plain!(ferric_trace_apic_write, offset, value);
        }
    }

    #[inline]
    fn trace_hv_timer_state(&self, in_use: bool) {
        if tracing!(__tracepoint_kvm_hv_timer_state) {
            shim_plain!(ferric_trace_hv_timer_state, self.id, in_use);
        }
    }

    #[inline]
    fn trace_timer(&self) {
        self.vm().stats().count(Event::Timer, 1);
    }

    #[inline]
    fn trace_wait_expire(&self, delta: i64) {
        if tracing!(__tracepoint_kvm_wait_lapic_expire) {
            shim_plain!(ferric_trace_wait_lapic_expire, self.id, delta);
        }
    }
}

impl Vcpu {
    /// The timer's.
    #[inline(always)]
    fn hrtimer(&self) -> *mut hrtimer {
        // SAFETY: The field is within the object.
        unsafe { &raw mut (*self.as_lapic()).lapic_timer.timer }
    }

    /// How this vCPU is asked for a look.
    #[inline(always)]
    pub(in crate::kvm) fn asking(&self) -> Asking<'_> {
        Asking {
            // SAFETY: Senders look at these three fields as at atomics, in C, too;
            // they are within the vCPU, which outlives this, and have the sizes
            // and alignments of the atomics.
            requests: unsafe { self.vcpu_field(bindings::FERRIC_VCPU_REQUESTS) },
            event: REQUEST_EVENT,
            // SAFETY: As above.
            sleeper: unsafe { self.vcpu_field(bindings::FERRIC_VCPU_SLEEPER) },
            // SAFETY: As above.
            mode: unsafe { self.vcpu_field(bindings::FERRIC_VCPU_MODE) },
            in_guest_mode: bindings::FERRIC_IN_GUEST_MODE,
        }
    }

    /// A field of KVM's vCPU, at a place that is known when this is compiled.
    ///
    /// # Safety
    ///
    /// `T` is an atomic, and what is there is accessed as such by everybody.
    #[inline(always)]
    unsafe fn vcpu_field<T>(&self, offset: c_uint) -> &T {
        // SAFETY: By this function's requirements; the vCPU outlives this.
        unsafe { &*self.as_kvm_vcpu().byte_add(offset as usize).cast::<T>() }
    }

    /// The descriptor by which the vCPU gets an interrupt now, if APICv is active and
    /// it is not a notification that a nested guest's hypervisor may mean.
    ///
    /// As in KVM the answer may be out of date at once: whoever switches APICv or
    /// enters a nested guest looks at both PIR and IRR afterwards.
    #[inline(always)]
    pub(in crate::kvm) fn posts_directly(&self) -> Option<&Descriptor> {
        // SAFETY: C reads and writes the field as a word.
        let flags: &AtomicU32 = unsafe { self.vcpu_field(bindings::FERRIC_VCPU_HFLAGS) };
        if !self.apicv_active().load(Ordering::Relaxed)
            || flags.load(Ordering::Relaxed) & bindings::FERRIC_HF_GUEST != 0
        {
            return None;
        }
        self.descriptor()
    }

    /// `kvm_apicv_accept_irq`
    #[inline(always)]
    pub(in crate::kvm) fn trace_posted(&self, mode: DeliveryMode, trigger: Trigger, vector: u8) {
        if tracing!(__tracepoint_kvm_apicv_accept_irq) {
            shim_plain!(
                ferric_trace_posted,
                self.id,
                (mode as u16) << 8,
                trigger_bit(trigger) as u16,
                vector
            );
        }
    }

    /// Is there a need for [`Self::trace_taken`] or [`Self::trace_posted`]?
    #[inline(always)]
    pub(in crate::kvm) fn traces_acceptance() -> bool {
        tracing!(__tracepoint_kvm_apic_accept_irq) || tracing!(__tracepoint_kvm_apicv_accept_irq)
    }

    /// `kvm_apic_accept_irq`, for who does not go through `accept`.
    #[inline(always)]
    pub(in crate::kvm) fn trace_taken(&self, message: &Message) {
        self.trace_accept(message.delivery_mode, message.trigger, message.vector);
    }

    /// The register page, for C.
    fn page(&self) -> *mut u32 {
        // SAFETY: By the type invariants `regs` is set, once.
        unsafe { (*self.as_lapic()).regs.cast() }
    }

    /// Has the vCPU anything of Hyper-V's? Once it has, it keeps it.
    #[inline(always)]
    fn has_hyperv(&self) -> bool {
        self.fields.hyperv.load(Ordering::Relaxed) != 0
    }

    /// Makes the vCPU look for events, now.
    pub(in crate::kvm) fn request_event_and_kick(&self) {
        self.request_event();
        self.kick();
    }

    fn count_ipi(&self, delivered: i32) {
        if delivered > 0 {
            self.vm().stats().count(Event::Ipi, delivered as u64);
        }
    }
}

/// KVM's trigger mode: `APIC_INT_LEVELTRIG`, or 0 for edge.
fn trigger_bit(trigger: Trigger) -> c_int {
    if trigger.is_level() {
        1 << 15
    } else {
        0
    }
}
