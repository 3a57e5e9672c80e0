// SPDX-License-Identifier: GPL-2.0

//! The functions that KVM calls: `struct kvm_irqchip_ops`.
//!
//! Each one finds ferric's object, converts what KVM passes, and calls it. The
//! context of each is documented in KVM's `irqchip_ops.h`.
//!
//! # Safety
//!
//! KVM calls all of them, with a VM whose irqchip ferric provides or with a
//! local APIC of such a VM, that is alive for the length of the call, and with
//! pointers that are valid for what they are documented to be used for.

// The module's documentation says it once for all.
#![allow(clippy::missing_safety_doc)]

use super::bindings::{
    self, kvm, kvm_irqchip, kvm_lapic, kvm_lapic_irq, kvm_lapic_state, kvm_pi_harvest,
    kvm_pit_channel_state, kvm_pit_state2, kvm_vcpu, pi_desc,
};
use super::chips::Chips;
use super::pit::Pit;
use super::sleepers;
use super::stats::Event;
use super::vcpu::{or_none, set_vector, Vcpu};
use super::vm::{VcpuSet, Vm};
use crate::model::ioapic::EoiSource;
use crate::model::lapic::icr::FastError;
use crate::model::lapic::posted::Virtualized;
use crate::model::lapic::{Invalid, Offset, SavedRegisters};
use crate::model::message::{DeliveryMode, DestinationMode, Message, Shorthand, Trigger};
use crate::model::pit::Counters;
use crate::model::sync::AtomicU64;
use core::ptr::{null_mut, NonNull};
use kernel::bindings::{hrtimer, hrtimer_restart};
use kernel::ffi::{c_int, c_uint, c_ulong, c_void};
use kernel::prelude::*;

/// The table that KVM gets.
#[repr(transparent)]
pub(super) struct Table(bindings::kvm_irqchip_ops);

// SAFETY: Nobody writes to the table nor to what it points to.
unsafe impl Sync for Table {}

impl Table {
    /// The table in KVM's form.
    pub(super) fn as_ptr(&self) -> *const bindings::kvm_irqchip_ops {
        &self.0
    }
}

/// What ferric does in KVM's place.
pub(super) static OPS: Table = Table(bindings::kvm_irqchip_ops {
    vm_init: Some(vm_init),
    vm_pre_destroy: Some(vm_pre_destroy),
    vm_destroy: Some(vm_destroy),
    get_irqchip: Some(get_irqchip),
    set_irqchip: Some(set_irqchip),
    set_pic_irq: Some(set_pic_irq),
    set_ioapic_irq: Some(set_ioapic_irq),
    pic_has_interrupt: Some(pic_has_interrupt),
    pic_ack_interrupt: Some(pic_ack_interrupt),
    scan_ioapic: Some(scan_ioapic),
    pit_create: Some(pit_create),
    pit_get: Some(pit_get),
    pit_set: Some(pit_set),
    pit_set_reinject: Some(pit_set_reinject),
    pit_migrate_timer: Some(pit_migrate_timer),
    lapic_alloc: Some(lapic_alloc),
    lapic_init: Some(lapic_init),
    lapic_free: Some(lapic_free),
    timer_fn: Some(timer_fn),
    mmio_ops: &raw const bindings::ferric_lapic_mmio_ops,
    reset: Some(reset),
    set_base: Some(set_base),
    get_state: Some(get_state),
    set_state: Some(set_state),
    begin_run: Some(begin_run),
    update_apicv: Some(update_apicv),
    has_interrupt: Some(has_interrupt),
    ack_interrupt: Some(ack_interrupt),
    vcpu_has_interrupt: Some(vcpu_has_interrupt),
    vcpu_get_interrupt: Some(vcpu_get_interrupt),
    set_tpr: Some(set_tpr),
    update_ppr: Some(update_ppr),
    sync_from_vapic: Some(sync_from_vapic),
    sync_to_vapic: Some(sync_to_vapic),
    wait_expire: Some(wait_expire),
    set_vapic_addr: Some(set_vapic_addr),
    set_pv_eoi: Some(set_pv_eoi),
    msr_read: Some(msr_read),
    msr_write: Some(msr_write),
    icr_write_fast: Some(icr_write_fast),
    msr_write_fast: Some(msr_write_fast),
    write_nodecode_fast: Some(write_nodecode_fast),
    write_nodecode: Some(write_nodecode),
    set_eoi_accelerated: Some(set_eoi_accelerated),
    send_ipi: Some(send_ipi),
    deliver: Some(deliver),
    deliver_fast: Some(deliver_fast),
    accept_irq: Some(accept_irq),
    send_to_vcpus: Some(send_to_vcpus),
    local_deliver: Some(local_deliver),
    pv_send_ipi: Some(pv_send_ipi),
    is_single_vcpu: Some(is_single_vcpu),
    vcpu_by_apic_id: Some(vcpu_by_apic_id),
    get_tscdeadline: Some(get_tscdeadline),
    set_tscdeadline: Some(set_tscdeadline),
    tsc_changed: Some(tsc_changed),
    inject_timer_irqs: Some(inject_timer_irqs),
    expired_hv_timer: Some(expired_hv_timer),
    switch_to_hv_timer: Some(switch_to_hv_timer),
    switch_to_sw_timer: Some(switch_to_sw_timer),
    restart_hv_timer: Some(restart_hv_timer),
    migrate_timer: Some(migrate_timer),
    pi_create: Some(pi_create),
    pi_load: Some(pi_load),
    pi_put: Some(pi_put),
    pi_wakeup: Some(pi_wakeup),
    pi_post: Some(pi_post),
    pi_harvest: Some(pi_harvest),
    pi_is_pending: Some(pi_is_pending),
    pi_clear: Some(pi_clear),
    x2apic_intercepts: Some(x2apic_intercepts),
});

/// The object of a local APIC.
macro_rules! vcpu {
    ($lapic:expr) => {{
        // SAFETY: See the module.
        unsafe { Vcpu::from_lapic($lapic) }
    }};
}

/// The object of a VM.
macro_rules! vm {
    ($kvm:expr) => {{
        // SAFETY: See the module.
        unsafe { Vm::of_kvm($kvm) }
    }};
}

/// Nonzero if the slow path has to do it.
fn fast(result: Result<(), FastError>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(FastError::Invalid) => 1,
        // The same number as EWOULDBLOCK.
        Err(FastError::WouldBlock) => EAGAIN.to_errno(),
    }
}

fn errno(result: Result) -> c_int {
    result.map_or_else(|error| error.to_errno(), |()| 0)
}

/// The 1 by which KVM's register functions ask for a #GP.
fn fault<T>(result: Result<T, Invalid>) -> c_int {
    c_int::from(result.is_err())
}

// The VM.

unsafe extern "C" fn vm_init(kvm: *mut kvm, split: bool) -> c_int {
    let Some(kvm) = NonNull::new(kvm) else {
        return EINVAL.to_errno();
    };
    // SAFETY: See the module; KVM calls `vm_destroy` before the VM goes, and
    // lets no vCPU be created before this has returned.
    errno(unsafe { Vm::attach(kvm, split) })
}

unsafe extern "C" fn vm_pre_destroy(kvm: *mut kvm) {
    vm!(kvm).pre_destroy();
}

unsafe extern "C" fn vm_destroy(kvm: *mut kvm) {
    // SAFETY: See the module; all vCPUs are gone, and KVM calls nothing of
    // ferric's for this VM afterwards.
    unsafe { Vm::detach(kvm) };
}

unsafe extern "C" fn get_irqchip(kvm: *mut kvm, chip: *mut kvm_irqchip) -> c_int {
    // SAFETY: See the module.
    let chip = unsafe { &mut *chip };
    errno(match vm!(kvm).chips() {
        Some(chips) => chips.get(chip),
        None => Err(ENXIO),
    })
}

unsafe extern "C" fn set_irqchip(kvm: *mut kvm, chip: *mut kvm_irqchip) -> c_int {
    // SAFETY: See the module.
    let chip = unsafe { &*chip };
    errno(match vm!(kvm).chips() {
        Some(chips) => chips.set(chip),
        None => Err(ENXIO),
    })
}

unsafe extern "C" fn set_pic_irq(
    kvm: *mut kvm,
    pin: c_uint,
    source: c_int,
    level: c_int,
    _line_status: bool,
) -> c_int {
    match vm!(kvm).chips() {
        Some(chips) => chips.set_pic_line(pin, source as u32, level != 0),
        None => -1,
    }
}

unsafe extern "C" fn set_ioapic_irq(
    kvm: *mut kvm,
    pin: c_uint,
    source: c_int,
    level: c_int,
    line_status: bool,
) -> c_int {
    match vm!(kvm).chips() {
        Some(chips) => chips.set_ioapic_line(pin, source as u32, level != 0, line_status),
        None => -1,
    }
}

unsafe extern "C" fn pic_has_interrupt(kvm: *mut kvm) -> bool {
    vm!(kvm).chips().is_some_and(|chips| chips.pic_output())
}

unsafe extern "C" fn pic_ack_interrupt(kvm: *mut kvm) -> c_int {
    or_none(vm!(kvm).chips().map(|chips| chips.acknowledge_pic()))
}

unsafe extern "C" fn scan_ioapic(lapic: *mut kvm_lapic, vectors: *mut c_ulong) {
    let vcpu = vcpu!(lapic);
    // SAFETY: See the module: a bitmap of 256 bits.
    let vectors = unsafe { &*vectors.cast::<[AtomicU64; 4]>() };
    if let Some(chips) = vcpu.vm().chips() {
        chips.scan_ioapic(vcpu, |source| match source {
            EoiSource::InFlight(vector) => set_vector(vectors, vector),
            EoiSource::Entry(message) => vcpu.scan_vector(&message, vectors),
        });
    }
}

// The 8254. KVM calls all but the first only for a VM that has one.

unsafe extern "C" fn pit_create(kvm: *mut kvm, flags: u32) -> c_int {
    errno(match vm!(kvm).chips() {
        Some(chips) => chips.create_pit(flags),
        None => Err(ENOENT),
    })
}

fn with_pit(kvm: *mut kvm, f: impl FnOnce(&Pit)) {
    if let Some(pit) = vm!(kvm).chips().and_then(Chips::pit) {
        f(pit);
    }
}

unsafe extern "C" fn pit_get(kvm: *mut kvm, state: *mut kvm_pit_state2) {
    with_pit(kvm, |pit| {
        let (counters, flags) = pit.state();
        // SAFETY: See the module; `Counters` has the layout of the array.
        unsafe {
            (&raw mut (*state).channels)
                .cast::<Counters>()
                .write(counters);
            (*state).flags = flags;
        }
    });
}

unsafe extern "C" fn pit_set(
    kvm: *mut kvm,
    channels: *const kvm_pit_channel_state,
    flags: *const u32,
) {
    with_pit(kvm, |pit| {
        // SAFETY: See the module: three channels, of which every pattern of
        // bytes is valid, and flags or null.
        let (counters, flags) = unsafe { (channels.cast::<Counters>().read(), flags.as_ref()) };
        pit.restore(&counters, flags.copied());
    });
}

unsafe extern "C" fn pit_set_reinject(kvm: *mut kvm, reinject: bool) {
    with_pit(kvm, |pit| pit.set_reinject(reinject));
}

unsafe extern "C" fn pit_migrate_timer(kvm: *mut kvm) {
    with_pit(kvm, Pit::migrate_timer);
}

// The life of a vCPU.

unsafe extern "C" fn lapic_alloc(vcpu: *mut kvm_vcpu) -> *mut kvm_lapic {
    // SAFETY: See the module.
    match unsafe { Vcpu::new(vcpu) } {
        Ok(vcpu) => KBox::into_raw(vcpu).cast(),
        Err(_) => null_mut(),
    }
}

unsafe extern "C" fn lapic_init(_lapic: *mut kvm_lapic) -> c_int {
    0
}

unsafe extern "C" fn lapic_free(lapic: *mut kvm_lapic) {
    // SAFETY: `lapic_alloc` made it of a box, and KVM does not use it any more.
    drop(unsafe { KBox::from_raw(lapic.cast::<Vcpu>()) });
}

unsafe extern "C" fn timer_fn(timer: *mut hrtimer) -> hrtimer_restart {
    // SAFETY: KVM's hrtimer of a local APIC is the one that is embedded there.
    let lapic = unsafe { kernel::container_of!(timer, kvm_lapic, lapic_timer.timer) };
    match vcpu!(lapic).apic().timer_expired() {
        Some(expires) => {
            // SAFETY: The timer's own callback may set its expiry.
            unsafe { bindings::ferric_timer_set_expires(timer, expires) };
            kernel::bindings::hrtimer_restart_HRTIMER_RESTART
        }
        None => kernel::bindings::hrtimer_restart_HRTIMER_NORESTART,
    }
}

unsafe extern "C" fn reset(lapic: *mut kvm_lapic, init_event: bool) {
    vcpu!(lapic).apic().reset(init_event);
}

unsafe extern "C" fn set_base(lapic: *mut kvm_lapic, value: u64, host_initiated: bool) -> c_int {
    fault(vcpu!(lapic).apic().set_base(value, host_initiated))
}

unsafe extern "C" fn get_state(lapic: *mut kvm_lapic, state: *mut kvm_lapic_state) -> c_int {
    // SAFETY: See the module; `struct kvm_lapic_state` is 1 KiB, which KVM
    // allocates with at least the alignment of a word.
    let state = unsafe { &mut *state.cast::<SavedRegisters>() };
    errno(vcpu!(lapic).apic().save(state).map_err(|Invalid| EINVAL))
}

unsafe extern "C" fn set_state(lapic: *mut kvm_lapic, state: *mut kvm_lapic_state) -> c_int {
    // SAFETY: As in `get_state`.
    let state = unsafe { &mut *state.cast::<SavedRegisters>() };
    errno(vcpu!(lapic).apic().restore(state).map_err(|Invalid| EINVAL))
}

unsafe extern "C" fn begin_run(lapic: *mut kvm_lapic) {
    vcpu!(lapic).apic().begin_run();
}

unsafe extern "C" fn update_apicv(lapic: *mut kvm_lapic) {
    vcpu!(lapic).apic().update_apicv();
}

// Entry and exit.

unsafe extern "C" fn has_interrupt(lapic: *mut kvm_lapic) -> c_int {
    or_none(vcpu!(lapic).apic().has_interrupt())
}

unsafe extern "C" fn ack_interrupt(lapic: *mut kvm_lapic, vector: c_int) {
    let vcpu = vcpu!(lapic);
    if let Ok(vector) = u8::try_from(vector) {
        vcpu.apic().ack_interrupt(vector);
        vcpu.vm().stats().count(Event::Injected, 1);
    }
}

unsafe extern "C" fn vcpu_has_interrupt(lapic: *mut kvm_lapic) -> bool {
    vcpu!(lapic).has_interrupt()
}

unsafe extern "C" fn vcpu_get_interrupt(lapic: *mut kvm_lapic) -> c_int {
    or_none(vcpu!(lapic).get_interrupt())
}

unsafe extern "C" fn set_tpr(lapic: *mut kvm_lapic, tpr: u8) {
    vcpu!(lapic).apic().sync_tpr(tpr);
}

unsafe extern "C" fn update_ppr(lapic: *mut kvm_lapic) {
    vcpu!(lapic).apic().update_ppr();
}

unsafe extern "C" fn sync_from_vapic(lapic: *mut kvm_lapic) {
    vcpu!(lapic).apic().sync_from_vapic();
}

unsafe extern "C" fn sync_to_vapic(lapic: *mut kvm_lapic) {
    vcpu!(lapic).apic().sync_to_vapic();
}

unsafe extern "C" fn wait_expire(lapic: *mut kvm_lapic) {
    vcpu!(lapic).apic().wait_expire();
}

unsafe extern "C" fn set_vapic_addr(lapic: *mut kvm_lapic, address: u64) -> c_int {
    let result = vcpu!(lapic).apic().set_vapic_address(address);
    errno(result.map_err(|Invalid| EINVAL))
}

unsafe extern "C" fn set_pv_eoi(lapic: *mut kvm_lapic, data: u64, length: c_ulong) -> c_int {
    fault(vcpu!(lapic).apic().set_pv_eoi(data, length))
}

// Registers.

unsafe extern "C" fn msr_read(lapic: *mut kvm_lapic, register: u32, data: *mut u64) -> c_int {
    let result = vcpu!(lapic).apic().msr_read(register);
    if let Ok(value) = result {
        // SAFETY: See the module.
        unsafe { *data = value };
    }
    fault(result)
}

unsafe extern "C" fn msr_write(lapic: *mut kvm_lapic, register: u32, data: u64) -> c_int {
    fault(vcpu!(lapic).apic().msr_write(register, data))
}

unsafe extern "C" fn icr_write_fast(lapic: *mut kvm_lapic, data: u64) -> c_int {
    fast(vcpu!(lapic).apic().icr_write_fast(data))
}

unsafe extern "C" fn msr_write_fast(lapic: *mut kvm_lapic, register: u32, data: u64) -> c_int {
    fast(vcpu!(lapic).apic().msr_write_fast(register, data))
}

unsafe extern "C" fn write_nodecode_fast(lapic: *mut kvm_lapic, offset: u32) -> c_int {
    if offset != u32::from(Offset::ICR.0) {
        return EAGAIN.to_errno();
    }
    fast(vcpu!(lapic).apic().icr_stored_fast())
}

unsafe extern "C" fn write_nodecode(lapic: *mut kvm_lapic, offset: u32) {
    vcpu!(lapic).apic().write_nodecode(offset);
}

unsafe extern "C" fn set_eoi_accelerated(lapic: *mut kvm_lapic, vector: c_int) {
    if let Ok(vector) = u8::try_from(vector) {
        vcpu!(lapic).apic().eoi_accelerated(vector);
    }
}

unsafe extern "C" fn send_ipi(lapic: *mut kvm_lapic, icr_low: u32, icr_high: u32) {
    vcpu!(lapic).apic().send_ipi(icr_low, icr_high);
}

/// A guest's read of the local APIC's registers by memory.
///
/// # Safety
///
/// See the module; `data` has room for `length` bytes.
#[no_mangle]
unsafe extern "C" fn ferric_lapic_mmio_read(
    lapic: *mut kvm_lapic,
    address: u64,
    length: c_int,
    data: *mut c_void,
) -> c_int {
    let vcpu = vcpu!(lapic);
    let Some(offset) = vcpu.mmio_offset(address) else {
        return super::NOT_SUPPORTED;
    };
    let Ok(length) = usize::try_from(length) else {
        return super::NOT_SUPPORTED;
    };
    // SAFETY: By this function's requirements.
    let data = unsafe { core::slice::from_raw_parts_mut(data.cast::<u8>(), length) };
    let apic = vcpu.apic();
    if apic.responds_to_mmio() {
        apic.mmio_read(offset, data);
    } else if vcpu.vm().quirk_lapic_mmio_hole() {
        data.fill(0xff);
    } else {
        return super::NOT_SUPPORTED;
    }
    0
}

/// A guest's write to the local APIC's registers by memory.
///
/// # Safety
///
/// See the module; `data` holds `length` bytes.
#[no_mangle]
unsafe extern "C" fn ferric_lapic_mmio_write(
    lapic: *mut kvm_lapic,
    address: u64,
    length: c_int,
    data: *const c_void,
) -> c_int {
    let vcpu = vcpu!(lapic);
    let Some(offset) = vcpu.mmio_offset(address) else {
        return super::NOT_SUPPORTED;
    };
    let Ok(length) = usize::try_from(length) else {
        return super::NOT_SUPPORTED;
    };
    // SAFETY: By this function's requirements.
    let data = unsafe { core::slice::from_raw_parts(data.cast::<u8>(), length) };
    let apic = vcpu.apic();
    if apic.responds_to_mmio() {
        apic.mmio_write(offset, data);
    } else if !vcpu.vm().quirk_lapic_mmio_hole() {
        return super::NOT_SUPPORTED;
    }
    0
}

// Delivery.

/// Decodes KVM's form of a message.
///
/// # Safety
///
/// See the module.
unsafe fn message(irq: *const kvm_lapic_irq) -> Message {
    // SAFETY: See the module.
    let irq = unsafe { &*irq };
    Message {
        vector: irq.vector as u8,
        delivery_mode: DeliveryMode::from_bits(u32::from(irq.delivery_mode) >> 8),
        destination_mode: DestinationMode::from_bit(irq.dest_mode != 0),
        shorthand: Shorthand::from_bits(irq.shorthand >> 18),
        trigger: Trigger::from_bit(irq.trig_mode != 0),
        assert: irq.level,
        redirection_hint: irq.msi_redir_hint,
        destination: irq.dest_id,
    }
}

/// The sender of a message, if it is an IPI.
///
/// # Safety
///
/// See the module; null for a message that comes from elsewhere.
unsafe fn source<'a>(lapic: *mut kvm_lapic) -> Option<&'a Vcpu> {
    if lapic.is_null() {
        None
    } else {
        Some(vcpu!(lapic))
    }
}

unsafe extern "C" fn deliver(
    kvm: *mut kvm,
    sender: *mut kvm_lapic,
    irq: *mut kvm_lapic_irq,
) -> c_int {
    // SAFETY: See the module.
    let (source, message) = unsafe { (source(sender), message(irq)) };
    let vm = vm!(kvm);
    let delivered = vm.deliver(source, &message, None);
    vm.count_message(source, &message, delivered);
    delivered
}

unsafe extern "C" fn deliver_fast(
    kvm: *mut kvm,
    sender: *mut kvm_lapic,
    irq: *mut kvm_lapic_irq,
    result: *mut c_int,
) -> bool {
    // SAFETY: See the module.
    let (source, message) = unsafe { (source(sender), message(irq)) };
    let vm = vm!(kvm);
    let delivered = vm.deliver_fast(source, &message, None);
    if let Some(delivered) = delivered {
        vm.count_message(source, &message, delivered);
    }
    // SAFETY: See the module.
    unsafe { *result = delivered.unwrap_or(-1) };
    delivered.is_some()
}

unsafe extern "C" fn accept_irq(lapic: *mut kvm_lapic, irq: *mut kvm_lapic_irq) -> c_int {
    // SAFETY: See the module.
    let message = unsafe { message(irq) };
    vcpu!(lapic).apic().accept(&message).into()
}

unsafe extern "C" fn send_to_vcpus(kvm: *mut kvm, vector: u8, vcpu_mask: *const c_ulong) {
    // SAFETY: See the module: null, or a bitmap of so many bits.
    let set = unsafe { vcpu_mask.cast::<VcpuSet>().as_ref() };
    vm!(kvm).send_to(set, vector);
}

unsafe extern "C" fn local_deliver(lapic: *mut kvm_lapic, lvt: c_int) -> c_int {
    vcpu!(lapic).apic().local_deliver(Offset(lvt as u16)).into()
}

unsafe extern "C" fn pv_send_ipi(
    kvm: *mut kvm,
    bitmap_low: c_ulong,
    bitmap_high: c_ulong,
    min: u32,
    icr: c_ulong,
    op_64_bit: c_int,
) -> c_int {
    vm!(kvm).pv_send_ipi(
        [bitmap_low as u64, bitmap_high as u64],
        min,
        icr as u64,
        op_64_bit != 0,
    )
}

unsafe extern "C" fn is_single_vcpu(
    kvm: *mut kvm,
    irq: *mut kvm_lapic_irq,
    dest: *mut *mut kvm_vcpu,
) -> bool {
    // SAFETY: See the module.
    let message = unsafe { message(irq) };
    match vm!(kvm).single_destination(&message) {
        Some(vcpu) => {
            // SAFETY: See the module.
            unsafe { *dest = vcpu.as_kvm_vcpu() };
            true
        }
        None => false,
    }
}

unsafe extern "C" fn vcpu_by_apic_id(kvm: *mut kvm, id: c_ulong) -> *mut kvm_vcpu {
    u32::try_from(id)
        .ok()
        .and_then(|id| vm!(kvm).vcpu_by_apic_id(id))
        .map_or(null_mut(), Vcpu::as_kvm_vcpu)
}

// The timer.

unsafe extern "C" fn get_tscdeadline(lapic: *mut kvm_lapic) -> u64 {
    vcpu!(lapic).apic().tscdeadline()
}

unsafe extern "C" fn set_tscdeadline(lapic: *mut kvm_lapic, data: u64, host_initiated: bool) {
    let apic = vcpu!(lapic).apic();
    if host_initiated {
        apic.restore_tscdeadline(data);
    } else {
        apic.set_tscdeadline(data);
    }
}

unsafe extern "C" fn tsc_changed(lapic: *mut kvm_lapic) {
    vcpu!(lapic).apic().follow_tsc();
}

unsafe extern "C" fn inject_timer_irqs(lapic: *mut kvm_lapic) {
    vcpu!(lapic).apic().inject_timer();
}

unsafe extern "C" fn expired_hv_timer(lapic: *mut kvm_lapic) {
    vcpu!(lapic).apic().expired_hv_timer();
}

unsafe extern "C" fn switch_to_hv_timer(lapic: *mut kvm_lapic) {
    vcpu!(lapic).apic().switch_to_hv_timer();
}

unsafe extern "C" fn switch_to_sw_timer(lapic: *mut kvm_lapic) {
    vcpu!(lapic).apic().switch_to_sw_timer();
}

unsafe extern "C" fn restart_hv_timer(lapic: *mut kvm_lapic) {
    vcpu!(lapic).apic().restart_hv_timer();
}

unsafe extern "C" fn migrate_timer(lapic: *mut kvm_lapic) {
    vcpu!(lapic).apic().migrate_timer();
}

// Posted interrupts.

unsafe extern "C" fn pi_create(lapic: *mut kvm_lapic, desc: *mut pi_desc) -> c_int {
    let vcpu = vcpu!(lapic);
    // SAFETY: See the module; KVM gives the descriptor away by this call.
    errno(unsafe { vcpu.create_posted(desc) })
}

unsafe extern "C" fn pi_load(lapic: *mut kvm_lapic) {
    vcpu!(lapic).load_posted();
}

unsafe extern "C" fn pi_put(lapic: *mut kvm_lapic, hw_senders: bool, blocking: bool) {
    vcpu!(lapic).put_posted(hw_senders, blocking);
}

unsafe extern "C" fn pi_wakeup() {
    sleepers::wake();
}

unsafe extern "C" fn pi_post(lapic: *mut kvm_lapic, vector: c_int) -> bool {
    vcpu!(lapic).post(vector as u8)
}

unsafe extern "C" fn pi_harvest(lapic: *mut kvm_lapic) -> kvm_pi_harvest {
    let harvest = vcpu!(lapic).harvest_posted();
    kvm_pi_harvest {
        max_irr: or_none(harvest.highest),
        max_irr_is_from_pir: harvest.is_new,
    }
}

unsafe extern "C" fn pi_is_pending(lapic: *mut kvm_lapic) -> bool {
    vcpu!(lapic).is_posted_pending()
}

unsafe extern "C" fn pi_clear(lapic: *mut kvm_lapic) {
    vcpu!(lapic).clear_posted();
}

unsafe extern "C" fn x2apic_intercepts(
    lapic: *mut kvm_lapic,
    flags: c_uint,
    read: *mut u64,
    write: *mut u64,
) {
    let intercepts = vcpu!(lapic).apic().x2apic_intercepts(Virtualized {
        tpr: flags & bindings::FERRIC_X2APIC_VIRT_MSRS != 0,
        interrupts: flags & bindings::FERRIC_X2APIC_VIRT_INTR != 0,
        ipis: flags & bindings::FERRIC_X2APIC_VIRT_IPI != 0,
    });
    // SAFETY: See the module.
    unsafe {
        *read = intercepts.read;
        *write = intercepts.write;
    }
}
