// SPDX-License-Identifier: GPL-2.0

//! A vCPU's local APIC: KVM's structure, the model's state, and what the model
//! asks of KVM.

use super::bindings;
use super::stats::Event;
use super::vm::Vm;
use crate::model::destination::{self, Source};
use crate::model::ioapic::Eoi;
use crate::model::lapic::{
    HighestIrr, Host, LocalApic, Own, RegisterPage, Shared, SuppressEoiBroadcast,
};
use crate::model::message::{DeliveryMode, Message, Trigger};
use crate::model::sync::{fence, AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::cell::UnsafeCell;
use core::ops::Deref;
use core::ptr::NonNull;
use kernel::ffi::c_int;
use kernel::prelude::*;

/// A field of KVM's that lives at least as long as the object that holds this.
///
/// # Invariants
///
/// The pointer is valid and aligned for `T`, an atomic, and everybody else
/// accesses the field as C's `READ_ONCE()` and `WRITE_ONCE()` do or is ordered
/// with us.
pub(super) struct Field<T>(NonNull<T>);

impl<T> Field<T> {
    /// # Safety
    ///
    /// The type's invariants must hold.
    pub(super) unsafe fn new<F>(field: *mut F) -> Self {
        // SAFETY: By this function's requirements the pointer is valid.
        // INVARIANT: By this function's requirements.
        Self(unsafe { NonNull::new_unchecked(field.cast()) })
    }
}

impl<T> Deref for Field<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: By the type invariants.
        unsafe { self.0.as_ref() }
    }
}

// SAFETY: A `Field` is a shared reference to an atomic.
unsafe impl<T: Sync> Send for Field<T> {}
// SAFETY: As above.
unsafe impl<T: Sync> Sync for Field<T> {}

/// Fields of `struct kvm_vcpu`.
struct Fields {
    apic_base: Field<AtomicU64>,
    handled_vectors: Field<[AtomicU64; 4]>,
    attention: Field<AtomicU64>,
    arbitration_priority: Field<AtomicU32>,
    pending_ioapic_eoi: Field<AtomicU32>,
    stale_pending_eoi: Field<AtomicU32>,
    pv_eoi_msr: Field<AtomicU64>,
    virtual_tsc_khz: Field<AtomicU32>,
    pv_unhalted: Field<AtomicBool>,
    tpr_access_reporting: Field<AtomicBool>,
    index: Field<AtomicU32>,
}

/// `highest_stale_pending_ioapic_eoi` when there is none.
const NO_VECTOR: u32 = u32::MAX;

/// A vCPU's local APIC.
///
/// # Invariants
///
/// - `lapic` comes first, so that KVM's pointer to it is a pointer to this.
/// - Once KVM has called `lapic_init`, `lapic.regs` is a register page and
///   `lapic.vcpu` the vCPU, and both outlive this.
/// - `vm` outlives this.
#[repr(C)]
pub(super) struct Vcpu {
    lapic: UnsafeCell<bindings::kvm_lapic>,
    vm: NonNull<Vm>,
    fields: Fields,
    id: u32,
    own: Own,
}

/// A field of the embedded `struct kvm_lapic`, as an atomic.
macro_rules! lapic_field {
    ($vcpu:expr, $field:ident $(. $inner:ident)?, $atomic:ty) => {{
        // SAFETY: The field is within the object and has the atomic's size and
        // alignment; C accesses it as it does shared scalars.
        let field: &$atomic = unsafe {
            &*core::ptr::addr_of!((*$vcpu.lapic.get()).$field$(.$inner)?).cast::<$atomic>()
        };
        field
    }};
}

impl Vcpu {
    /// Allocates the APIC of a new vCPU, as KVM's `lapic_alloc` wants it.
    /// Sleeps.
    ///
    /// # Safety
    ///
    /// `vcpu` must be a vCPU of a VM that ferric serves, and outlive the
    /// result.
    pub(super) unsafe fn new(vcpu: *mut bindings::kvm_vcpu) -> Result<KBox<Self>> {
        let mut raw = bindings::ferric_vcpu_fields::default();
        // SAFETY: By this function's requirements.
        let vm = unsafe {
            bindings::ferric_vcpu_fields(vcpu, &mut raw);
            Vm::of_kvm(bindings::ferric_vcpu_kvm(vcpu))
        };
        // SAFETY: All are scalars within the vCPU, and have the size and the
        // alignment of the atomics.
        let fields = unsafe {
            Fields {
                apic_base: Field::new(raw.apic_base),
                handled_vectors: Field::new(raw.ioapic_handled_vectors),
                attention: Field::new(raw.apic_attention),
                arbitration_priority: Field::new(raw.apic_arb_prio),
                pending_ioapic_eoi: Field::new(raw.pending_ioapic_eoi),
                stale_pending_eoi: Field::new(raw.highest_stale_pending_ioapic_eoi),
                pv_eoi_msr: Field::new(raw.pv_eoi_msr),
                virtual_tsc_khz: Field::new(raw.virtual_tsc_khz),
                pv_unhalted: Field::new(raw.pv_unhalted),
                tpr_access_reporting: Field::new(raw.tpr_access_reporting),
                index: Field::new(raw.vcpu_idx),
            }
        };
        // INVARIANT: `repr(C)` puts `lapic` first; KVM fills in what it says
        // before `lapic_init`; a vCPU's VM outlives it.
        Ok(KBox::new(
            Self {
                lapic: UnsafeCell::new(bindings::kvm_lapic::default()),
                vm: vm.into(),
                fields,
                id: raw.vcpu_id,
                own: Own::default(),
            },
            GFP_KERNEL_ACCOUNT,
        )?)
    }

    /// The object that KVM's pointer belongs to.
    ///
    /// # Safety
    ///
    /// `lapic` must be of a VM that ferric serves, initialised, and stay alive
    /// for `'a`.
    #[inline(always)]
    pub(super) unsafe fn from_lapic<'a>(lapic: *mut bindings::kvm_lapic) -> &'a Self {
        // SAFETY: By this function's requirements and the type invariants.
        unsafe { &*lapic.cast::<Self>() }
    }

    /// The model of this APIC.
    #[inline(always)]
    pub(super) fn apic(&self) -> LocalApic<'_, Self> {
        // SAFETY: By the type invariants: `regs` is set once, before anybody
        // can have this reference, and a page is a `RegisterPage`, all of
        // whose words are atomics.
        let regs = unsafe { &*(*self.lapic.get()).regs.cast::<RegisterPage>() };
        LocalApic::new(regs, &self.own, self)
    }

    /// The VM.
    #[inline(always)]
    pub(super) fn vm(&self) -> &Vm {
        // SAFETY: By the type invariants.
        unsafe { self.vm.as_ref() }
    }

    /// KVM's object.
    #[inline(always)]
    pub(super) fn as_lapic(&self) -> *mut bindings::kvm_lapic {
        self.lapic.get()
    }

    /// KVM's vCPU.
    #[inline(always)]
    pub(super) fn as_kvm_vcpu(&self) -> *mut bindings::kvm_vcpu {
        // SAFETY: By the type invariants `vcpu` is set, once.
        unsafe { (*self.lapic.get()).vcpu }
    }

    /// The vCPU's ID, which is its x2APIC ID.
    #[inline(always)]
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// The vCPU's index in the VM. Meaningful once the vCPU is online.
    pub(super) fn index(&self) -> u32 {
        self.fields.index.load(Ordering::Relaxed)
    }

    /// How the APIC is addressed; none if it is globally disabled.
    pub(super) fn identity(&self) -> Option<destination::Identity> {
        let apic = self.apic();
        apic.is_hardware_enabled().then(|| apic.identity())
    }

    /// Does a device's message address this APIC? As KVM, also if it is
    /// disabled.
    pub(super) fn is_addressed_by(&self, message: &Message) -> bool {
        let identity = self.apic().identity();
        destination::matches(
            &identity,
            message,
            Source::Device,
            false,
            &self.vm().policy(),
        )
    }

    /// The offset of a guest physical address in the registers, if it is there.
    pub(super) fn mmio_offset(&self, address: u64) -> Option<u32> {
        let base = lapic_field!(self, base_address, AtomicU64).load(Ordering::Relaxed);
        let offset = address.checked_sub(base)?;
        (offset < 0x1000).then_some(offset as u32)
    }

    /// Is `vector` requested or in service here?
    pub(super) fn has_pending_eoi(&self, vector: u8) -> bool {
        self.apic().is_eoi_pending(vector)
    }

    /// Does this vCPU take the PIC's interrupts?
    pub(super) fn accepts_pic(&self) -> bool {
        self.apic().accepts_pic_interrupt()
    }

    /// Makes the vCPU look for events, now.
    pub(super) fn request_event_and_kick(&self) {
        self.request_event();
        self.kick();
    }

    /// Note that an EOI of `vector` is to be reported, as KVM's
    /// `kvm_scan_ioapic_irq` does.
    pub(super) fn scan_vector(&self, message: &Message, vectors: &[AtomicU64; 4]) {
        let vector = message.vector;
        if !self.is_addressed_by(message) {
            if !self.has_pending_eoi(vector) {
                return;
            }
            // It is in flight from a destination that the entry had before:
            // only this one EOI matters.
            let stale = &self.fields.stale_pending_eoi;
            let highest = stale.load(Ordering::Relaxed);
            if highest == NO_VECTOR || u32::from(vector) > highest {
                stale.store(vector.into(), Ordering::Relaxed);
            }
        }
        set_vector(vectors, vector);
    }
}

/// Sets a vector's bit in a bitmap that only this thread changes.
pub(super) fn set_vector(vectors: &[AtomicU64; 4], vector: u8) {
    let word = &vectors[usize::from(vector >> 6)];
    let bits = word.load(Ordering::Relaxed) | 1 << (vector & 63);
    word.store(bits, Ordering::Relaxed);
}

impl Shared for Vcpu {
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
        &self.fields.arbitration_priority
    }

    #[inline(always)]
    fn ioapic_handled_vectors(&self) -> &[AtomicU64; 4] {
        &self.fields.handled_vectors
    }
}

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
    fn host_tsc(&self) -> u64 {
        shim_plain!(ferric_host_tsc)
    }

    #[inline]
    fn l1_tsc(&self, host_tsc: u64) -> u64 {
        shim!(self, ferric_l1_tsc, host_tsc)
    }

    #[inline]
    fn virtual_tsc_khz(&self) -> u32 {
        self.fields.virtual_tsc_khz.load(Ordering::Relaxed)
    }

    fn tsc_is_scaled(&self) -> bool {
        shim!(self, ferric_tsc_is_scaled)
    }

    fn nsec_to_cycles(&self, ns: u64) -> u64 {
        shim!(self, ferric_nsec_to_cycles, ns)
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
        shim_lapic!(self, ferric_timer_start, expires);
    }

    #[inline]
    fn cancel_hrtimer(&self) -> bool {
        shim_lapic!(self, ferric_timer_cancel)
    }

    fn restart_hrtimer(&self) {
        shim_lapic!(self, ferric_timer_restart);
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
    fn without_interrupts<R>(&self, f: impl FnOnce() -> R) -> R {
        let flags = shim_plain!(ferric_irq_save);
        let result = f();
        shim_plain!(ferric_irq_restore, flags);
        result
    }

    #[inline]
    fn request_event(&self) {
        shim!(self, ferric_request_event);
    }

    #[inline]
    fn request_unblock(&self) {
        shim!(self, ferric_request_unblock);
    }

    fn request_scan_ioapic(&self) {
        shim!(self, ferric_request_scan_ioapic);
    }

    fn request_eoi_exit(&self, vector: u8) {
        self.fields
            .pending_ioapic_eoi
            .store(vector.into(), Ordering::Relaxed);
        shim!(self, ferric_request_ioapic_eoi_exit);
    }

    #[inline]
    fn kick(&self) {
        shim!(self, ferric_kick);
    }

    #[inline]
    fn deliver_interrupt(&self, mode: DeliveryMode, trigger: Trigger, vector: u8) {
        shim_lapic!(
            self,
            ferric_deliver_interrupt,
            (mode as c_int) << 8,
            trigger_bit(trigger),
            vector.into()
        );
    }

    #[inline]
    fn sync_pir_to_irr(&self) -> HighestIrr {
        if !self.vm().has_posted_interrupts() {
            return HighestIrr::NotPosted;
        }
        HighestIrr::Synced(vector(shim!(self, ferric_sync_pir_to_irr)))
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
        self.fields.pv_unhalted.store(true, Ordering::Relaxed);
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
        shim!(self, ferric_synic_has_vector, vector.into())
    }

    #[inline]
    fn synic_auto_eoi(&self, vector: u8) -> bool {
        shim!(self, ferric_synic_auto_eoi, vector.into())
    }

    fn synic_send_eoi(&self, vector: u8) {
        shim!(self, ferric_synic_send_eoi, vector.into());
    }

    fn is_stale_pending_eoi(&self, vector: u8) -> bool {
        self.fields.stale_pending_eoi.load(Ordering::Relaxed) == u32::from(vector)
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

    fn rtc_eoi_tracking_restore(&self) {
        if let Some(chips) = self.vm().chips() {
            chips.restore_rtc(self);
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
        if self.fields.tpr_access_reporting.load(Ordering::Relaxed) {
            shim!(self, ferric_report_tpr_access, write);
        }
    }

    fn set_version(&self) {
        shim!(self, ferric_set_version);
    }

    fn mark_map_dirty(&self) {
        self.vm().mark_map_dirty();
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

    #[inline]
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

    fn pv_eoi_disable(&self) {
        self.fields.pv_eoi_msr.store(0, Ordering::Relaxed);
    }

    fn pv_eoi_read(&self) -> Option<u8> {
        let mut value = 0;
        (shim!(self, ferric_read_pv_eoi, &mut value) >= 0).then_some(value)
    }

    fn pv_eoi_write(&self, value: u8) -> bool {
        shim!(self, ferric_write_pv_eoi, value) >= 0
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
        shim_plain!(
            ferric_trace_accept_irq,
            self.id,
            (mode as u16) << 8,
            trigger_bit(trigger) as u16,
            vector
        );
    }

    #[inline]
    fn trace_eoi(&self, vector: Option<u8>) {
        if vector.is_some() {
            self.vm().stats().count(Event::Eoi, 1);
        }
        shim_lapic!(self, ferric_trace_eoi, or_none(vector));
    }

    #[inline]
    fn trace_pv_eoi(&self, vector: Option<u8>) {
        shim_lapic!(self, ferric_trace_pv_eoi, or_none(vector));
    }

    #[inline]
    fn trace_ipi(&self, icr_low: u32, destination: u32) {
        shim_plain!(ferric_trace_apic_ipi, icr_low, destination);
    }

    #[inline]
    fn trace_read(&self, offset: u32, value: u32) {
        shim_plain!(ferric_trace_apic_read, offset, value.into());
    }

    #[inline]
    fn trace_write(&self, offset: u32, value: u64) {
        shim_plain!(ferric_trace_apic_write, offset, value);
    }

    #[inline]
    fn trace_hv_timer_state(&self, in_use: bool) {
        shim_plain!(ferric_trace_hv_timer_state, self.id, in_use);
    }

    #[inline]
    fn trace_timer(&self) {
        self.vm().stats().count(Event::Timer, 1);
    }

    #[inline]
    fn trace_wait_expire(&self, delta: i64) {
        shim_plain!(ferric_trace_wait_lapic_expire, self.id, delta);
    }
}

impl Vcpu {
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

/// KVM's number for a vector that may not be there: -1 for none.
#[inline(always)]
pub(super) fn or_none(vector: Option<u8>) -> c_int {
    vector.map_or(-1, c_int::from)
}

/// The reverse of [`or_none`].
#[inline(always)]
fn vector(number: c_int) -> Option<u8> {
    u8::try_from(number).ok()
}
