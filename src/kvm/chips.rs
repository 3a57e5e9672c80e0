// SPDX-License-Identifier: GPL-2.0

//! The PIC pair, the I/O APIC and the 8254 of a VM: their place on KVM's I/O
//! buses, in its interrupt routing, and in its ioctls.

use super::bindings;
use super::io_device::Devices;
use super::pit::Pit;
use super::stats::Event;
use super::vcpu::Vcpu;
use super::vm::Vm;
use crate::model::ioapic::{self, Eoi, EoiSource, Rescan, Version};
use crate::model::message::Message;
use crate::model::pic::{self, Pic, Step};
use crate::model::pit;
use crate::model::sync::{AtomicBool, Ordering};
use core::ops::ControlFlow;
use core::ptr::NonNull;
use kernel::ffi::{c_int, c_void};
use kernel::prelude::*;
use kernel::sync::{new_spinlock, SetOnce, SpinLock};
use kernel::types::Opaque;

/// Which chip a pin belongs to, in KVM's routing and its ioctls.
fn chip_of_pic_pin(pin: u8) -> u32 {
    if pin < 8 {
        bindings::KVM_IRQCHIP_PIC_MASTER
    } else {
        bindings::KVM_IRQCHIP_PIC_SLAVE
    }
}

/// The chips of a VM whose whole irqchip is in the kernel.
///
/// # Invariants
///
/// `kvm` is the VM that this belongs to, and outlives it.
#[pin_data(PinnedDrop)]
pub(super) struct Chips {
    kvm: NonNull<bindings::kvm>,
    #[pin]
    pic: SpinLock<Pic>,
    /// Level of the PIC's INTR output, for readers without the lock.
    pic_output: AtomicBool,
    #[pin]
    ioapic: SpinLock<IoApic>,
    #[pin]
    delayed_injection: Opaque<bindings::ferric_delayed_work>,
    #[pin]
    devices: Devices<4>,
    /// There once user space has asked for it.
    pit: SetOnce<Pin<KBox<Pit>>>,
}

// The tracking of the RTC's EOI has a bit for every vCPU ID.
const _: () = assert!(bindings::FERRIC_MAX_VCPU_IDS as usize <= ioapic::MAX_VCPU_IDS);

// SAFETY: The locks guard the chips; `devices` are changed only before the chips
// are shared and when they are dropped; KVM's functions that are called with
// `kvm` may be called from any thread.
unsafe impl Send for Chips {}
// SAFETY: As above.
unsafe impl Sync for Chips {}

impl Chips {
    /// Makes the chips in their reset state and puts them on the VM's buses.
    /// May sleep; takes `kvm->slots_lock`.
    ///
    /// # Safety
    ///
    /// `kvm` must outlive the chips, and no vCPU may run before
    /// [`Vm`] has been attached to it.
    pub(super) unsafe fn new(kvm: NonNull<bindings::kvm>) -> Result<Pin<KBox<Self>>> {
        let rtc_vectors = RtcVectors(KBox::init(pin_init::init_zeroed(), GFP_KERNEL_ACCOUNT)?);
        let mut chips = KBox::pin_init(
            pin_init!(Self {
                kvm,
                pic <- new_spinlock!(Pic::new(), "ferric::pic"),
                pic_output: AtomicBool::new(false),
                ioapic <- new_spinlock!(IoApic::with(rtc_vectors), "ferric::ioapic"),
                delayed_injection: Opaque::zeroed(),
                devices: Devices::new(*kvm),
                pit: SetOnce::new(),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        // SAFETY: By this function's requirements; the VM has no vCPU yet.
        if unsafe { bindings::ferric_choose_directed_eoi(kvm.as_ptr()) } {
            chips.ioapic.lock().set_version(Version::WithEoi);
        }
        let this = core::ptr::from_ref(&*chips).cast_mut().cast();
        // SAFETY: The work is pinned in `chips`, and cancelled before these go.
        unsafe { bindings::ferric_delayed_work_init(chips.delayed_injection.get(), this) };

        const KINDS: [u32; 4] = [
            bindings::ferric_io_kind_FERRIC_IO_PIC_MASTER,
            bindings::ferric_io_kind_FERRIC_IO_PIC_SLAVE,
            bindings::ferric_io_kind_FERRIC_IO_ELCR,
            bindings::ferric_io_kind_FERRIC_IO_IOAPIC,
        ];
        // SAFETY: The chips are pinned, and take the devices off the buses
        // before they go.
        unsafe { chips.as_mut().project().devices.register(this, &KINDS)? };
        Ok(chips)
    }

    /// The chips that a device on the bus belongs to.
    ///
    /// # Safety
    ///
    /// `this` must be what [`Self::new`] gave to the shim, and the VM alive.
    pub(super) unsafe fn from_raw<'a>(this: *mut c_void) -> &'a Self {
        // SAFETY: By this function's requirements.
        unsafe { &*this.cast::<Self>() }
    }

    fn vm(&self) -> &Vm {
        // SAFETY: By the type invariants and by `new`, the VM has ferric's
        // object attached whenever a chip is used.
        unsafe { Vm::of_kvm(self.kvm.as_ptr()) }
    }

    fn kvm(&self) -> *mut bindings::kvm {
        self.kvm.as_ptr()
    }

    /// Stops the delayed injection and the 8254, for good if no vCPU runs any
    /// more. Sleeps.
    pub(super) fn quiesce(&self) {
        if let Some(pit) = self.pit() {
            pit.quiesce();
        }
        // SAFETY: `new` has initialised the work.
        unsafe { bindings::ferric_delayed_work_cancel(self.delayed_injection.get()) };
    }

    // The 8254.

    /// The 8254, if user space has created it.
    pub(super) fn pit(&self) -> Option<&Pit> {
        self.pit.as_ref().map(|pit| &**pit)
    }

    /// `KVM_CREATE_PIT2`. `EEXIST` if there is one. Sleeps; `kvm->lock` is held.
    pub(super) fn create_pit(&self, flags: u32) -> Result {
        if self.pit().is_some() {
            return Err(EEXIST);
        }
        let this = core::ptr::from_ref(self).cast_mut().cast();
        // SAFETY: By the type invariants; the chips are pinned, and the 8254
        // goes with them.
        let pit = unsafe { Pit::new(self.kvm, this, flags)? };
        self.pit.populate(pit);
        Ok(())
    }

    // The PIC.

    /// Runs `f` on the PIC, publishes its output, and wakes whom it concerns.
    fn with_pic<R>(&self, f: impl FnOnce(&mut Pic, &mut PicHost<'_>) -> R) -> R {
        let (result, wakeup) = {
            let mut pic = self.pic.lock();
            let result = f(&mut pic, &mut PicHost(self));
            // Only a change is written: every vCPU reads this at each entry.
            if self.pic_output.load(Ordering::Relaxed) != pic.output() {
                self.pic_output.store(pic.output(), Ordering::Relaxed);
            }
            (result, pic.take_wakeup())
        };
        if wakeup {
            if let Some(vcpu) = self.vm().vcpus().find(|vcpu| vcpu.accepts_pic()) {
                vcpu.request_event_and_kick();
            }
        }
        result
    }

    /// Finishes an access to the PIC, with the notifications that it is due.
    fn finish(&self, mut step: Step) -> u8 {
        loop {
            match step {
                Step::Done(value) => return value,
                Step::Acknowledge { pin, then } => {
                    // SAFETY: `kvm` is alive; KVM's notifiers are called
                    // without our locks, and take `irq_srcu` themselves.
                    unsafe {
                        bindings::ferric_notify_acked(self.kvm(), chip_of_pic_pin(pin), pin.into());
                    }
                    step = self.with_pic(|pic, _| pic.resume(then));
                }
            }
        }
    }

    /// Drives a pin of the PIC; result as for `KVM_IRQ_LINE_STATUS`.
    pub(super) fn set_pic_line(&self, pin: u32, source: u32, level: bool) -> i32 {
        self.with_pic(|pic, host| pic.set_line(pin, source, level, host))
    }

    /// Is the PIC's INTR output high? Any context.
    #[inline]
    pub(super) fn pic_output(&self) -> bool {
        self.pic_output.load(Ordering::Relaxed)
    }

    /// The same for KVM, which looks at it by itself; a `bool` of C's, as long as
    /// the chips are there.
    pub(super) fn pic_output_ptr(&self) -> *const bool {
        self.pic_output.as_ptr()
    }

    /// INTA cycles of a vCPU; returns the vector.
    pub(super) fn acknowledge_pic(&self) -> u8 {
        let step = self.with_pic(|pic, _| pic.acknowledge());
        let vector = self.finish(step);
        self.vm().stats().count(Event::Pic, 1);
        vector
    }

    // The I/O APIC.

    /// Drives a pin of the I/O APIC; result as for `KVM_IRQ_LINE_STATUS`.
    pub(super) fn set_ioapic_line(
        &self,
        pin: u32,
        source: u32,
        level: bool,
        line_status: bool,
    ) -> i32 {
        self.ioapic
            .lock()
            .set_line(pin, source, level, line_status, &mut IoApicHost(self))
    }

    /// A local APIC has completed a vector that the I/O APIC wants to know of.
    pub(super) fn ioapic_eoi(&self, eoi: &Eoi) {
        let mut acknowledged = self.ioapic.lock().begin_eoi(eoi, &mut IoApicHost(self));
        while let Some(pin) = acknowledged {
            // SAFETY: As in `finish`.
            unsafe {
                bindings::ferric_notify_acked(self.kvm(), bindings::KVM_IRQCHIP_IOAPIC, pin as u32);
            }
            self.vm().stats().count(Event::IoapicEoi, 1);
            acknowledged = self
                .ioapic
                .lock()
                .continue_eoi(eoi, pin, &mut IoApicHost(self));
        }
    }

    /// The guest has written a vector to the I/O APIC's EOI register.
    fn directed_eoi(&self, vector: u8) {
        let mut next = self.ioapic.lock().next_directed(vector, 0);
        // PINS turns at most, for the pins only go up.
        while let Some(pin) = next {
            // SAFETY: As in `finish`.
            unsafe {
                bindings::ferric_notify_acked(self.kvm(), bindings::KVM_IRQCHIP_IOAPIC, pin as u32);
            }
            self.vm().stats().count(Event::IoapicEoi, 1);
            let mut ioapic = self.ioapic.lock();
            ioapic.end_directed(vector, pin, &mut IoApicHost(self));
            next = ioapic.next_directed(vector, pin + 1);
        }
    }

    /// Calls `visit` for each source of EOIs that `vcpu` must report.
    pub(super) fn scan_ioapic(&self, vcpu: &Vcpu, visit: impl FnMut(EoiSource)) {
        self.ioapic.lock().scan(vcpu.id(), &IoApicHost(self), visit);
    }

    /// The state of a local APIC was restored: it may owe the RTC an EOI. With
    /// `id_changed` it owes none if the RTC's message is not for it; else KVM leaves
    /// what was.
    pub(super) fn restore_rtc(&self, vcpu: &Vcpu, id_changed: bool) {
        self.ioapic
            .lock()
            .restore_rtc(vcpu.id(), &mut IoApicHost(self), |message| {
                let is_addressed = vcpu.is_addressed_by(message);
                let pending = is_addressed && vcpu.has_pending_eoi(message.vector);
                (id_changed || is_addressed).then_some(pending)
            });
    }

    // The ioctls.

    /// `KVM_GET_IRQCHIP`. `EINVAL` if there is no such chip.
    pub(super) fn get(&self, chip: &mut bindings::kvm_irqchip) -> Result {
        // The three states are plain numbers and arrays of them, and the union
        // has room for each.
        match chip.chip_id {
            bindings::KVM_IRQCHIP_PIC_MASTER | bindings::KVM_IRQCHIP_PIC_SLAVE => {
                let state = self.pic.lock().state(pic_chip(chip.chip_id));
                let to = core::ptr::from_mut(&mut chip.chip).cast::<pic::State>();
                // SAFETY: `State` has the layout of `struct kvm_pic_state`, a
                // member of the union at `to`; alignment 1.
                unsafe { to.write(state) };
            }
            bindings::KVM_IRQCHIP_IOAPIC => {
                let state = self.ioapic.lock().state();
                let to = core::ptr::from_mut(&mut chip.chip).cast::<ioapic::State>();
                // SAFETY: `State` has the layout of `struct kvm_ioapic_state`,
                // a member of the union at `to`, which is aligned for it.
                unsafe { to.write(state) };
            }
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    /// `KVM_SET_IRQCHIP`. `EINVAL` if there is no such chip. Every state is
    /// accepted.
    pub(super) fn set(&self, chip: &bindings::kvm_irqchip) -> Result {
        let result = match chip.chip_id {
            bindings::KVM_IRQCHIP_PIC_MASTER | bindings::KVM_IRQCHIP_PIC_SLAVE => {
                let from = core::ptr::from_ref(&chip.chip).cast::<pic::State>();
                // SAFETY: As in `get`; every byte pattern is a state.
                let state = unsafe { from.read() };
                self.with_pic(|pic, _| pic.set_state(pic_chip(chip.chip_id), state));
                Ok(())
            }
            bindings::KVM_IRQCHIP_IOAPIC => {
                let from = core::ptr::from_ref(&chip.chip).cast::<ioapic::State>();
                // SAFETY: As in `get`; every byte pattern is a state.
                let state = unsafe { from.read() };
                self.ioapic.lock().set_state(&state, &mut IoApicHost(self));
                Ok(())
            }
            _ => Err(EINVAL),
        };
        self.with_pic(|pic, _| pic.update());
        result
    }

    // The buses.

    /// A guest's read from a device of ours; false if none answers.
    pub(super) fn read(&self, kind: u32, address: u64, data: &mut [u8]) -> bool {
        let value = match kind {
            bindings::ferric_io_kind_FERRIC_IO_IOAPIC => {
                return self.ioapic.lock().read(address, data);
            }
            bindings::ferric_io_kind_FERRIC_IO_PIT | bindings::ferric_io_kind_FERRIC_IO_SPEAKER => {
                let (Some(pit), Some(port)) = (self.pit(), pit::Port::decode(address)) else {
                    return false;
                };
                match pit.read(port) {
                    Some(value) => value,
                    // Nothing drives the bus, and the guest gets what was there.
                    None => return true,
                }
            }
            _ => {
                let Some(port) = pic::Port::decode(address) else {
                    return false;
                };
                let width = data.len();
                let step = self.with_pic(|pic, _| pic.read(port, width));
                self.finish(step)
            }
        };
        data.fill(0);
        if let Some(first) = data.first_mut() {
            *first = value;
        }
        true
    }

    /// A guest's write to a device of ours; false if none answers.
    pub(super) fn write(&self, kind: u32, address: u64, data: &[u8]) -> bool {
        match kind {
            bindings::ferric_io_kind_FERRIC_IO_IOAPIC => {
                let mut ioapic = self.ioapic.lock();
                let Some(vector) = ioapic.directed_eoi(address, data) else {
                    return ioapic.write(address, data, &mut IoApicHost(self));
                };
                drop(ioapic);
                self.directed_eoi(vector);
            }
            bindings::ferric_io_kind_FERRIC_IO_PIT | bindings::ferric_io_kind_FERRIC_IO_SPEAKER => {
                let (Some(pit), Some(port)) = (self.pit(), pit::Port::decode(address)) else {
                    return false;
                };
                if let Some(value) = data.first() {
                    pit.write(port, *value);
                }
            }
            _ => {
                let Some(port) = pic::Port::decode(address) else {
                    return false;
                };
                let step = self.with_pic(|pic, host| pic.write(port, data, host));
                self.finish(step);
            }
        }
        true
    }
}

#[pinned_drop]
impl PinnedDrop for Chips {
    fn drop(mut self: Pin<&mut Self>) {
        self.as_mut().project().devices.unregister();
        self.quiesce();
    }
}

/// The vectors that vCPUs owe the EOI of to the RTC, by ID. On their own they fill
/// a page, and the other chips half of one.
pub(super) struct RtcVectors(KBox<[u8; ioapic::MAX_VCPU_IDS]>);

impl AsRef<[u8]> for RtcVectors {
    fn as_ref(&self) -> &[u8] {
        &*self.0
    }
}

impl AsMut<[u8]> for RtcVectors {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut *self.0
    }
}

/// Who owes the RTC an EOI.
pub(super) type RtcStatus = ioapic::RtcStatus<RtcVectors>;

type IoApic = ioapic::IoApic<RtcVectors>;

fn pic_chip(id: u32) -> pic::Chip {
    if id == bindings::KVM_IRQCHIP_PIC_MASTER {
        pic::Chip::Master
    } else {
        pic::Chip::Slave
    }
}

/// What the PIC needs from the VM.
struct PicHost<'a>(&'a Chips);

impl pic::Host for PicHost<'_> {
    fn accepts_interrupts(&self) -> bool {
        self.0.vm().vcpus().any(|vcpu| vcpu.accepts_pic())
    }

    fn mask_changed(&mut self, pin: u8, masked: bool) {
        // SAFETY: `kvm` is alive. A notifier takes no lock of ours: KVM's only
        // one, the 8254's, sets two atomics.
        unsafe {
            bindings::ferric_fire_mask_notifiers(
                self.0.kvm(),
                chip_of_pic_pin(pin),
                pin.into(),
                masked,
            );
        }
    }

    fn trace_set_line(&mut self, chip: pic::Chip, line: u8, state: &pic::State, coalesced: bool) {
        // SAFETY: Trace events may be emitted in any context.
        unsafe {
            bindings::ferric_trace_pic_set_irq(chip as u8, line, state.elcr, state.imr, coalesced);
        }
    }
}

/// What the I/O APIC needs from the VM.
struct IoApicHost<'a>(&'a Chips);

impl ioapic::Host<RtcVectors> for IoApicHost<'_> {
    fn deliver(&mut self, message: &Message, rtc: Option<&mut RtcStatus>) -> i32 {
        let vm = self.0.vm();
        let result = vm.deliver(None, message, rtc);
        if result > 0 {
            vm.stats().count(Event::Ioapic, 1);
        }
        result
    }

    fn eoi_is_accelerated(&self) -> bool {
        // SAFETY: `kvm` is alive; the function reads a word.
        unsafe { bindings::ferric_apicv_activated(self.0.kvm()) }
    }

    fn for_each_target(
        &self,
        message: &Message,
        mut visit: impl FnMut(u32, bool) -> ControlFlow<()>,
    ) {
        for vcpu in self.0.vm().vcpus() {
            if vcpu.is_addressed_by(message)
                && visit(vcpu.id(), vcpu.has_pending_eoi(message.vector)).is_break()
            {
                break;
            }
        }
    }

    fn has_ack_notifier(&self, pin: usize) -> bool {
        // SAFETY: `kvm` is alive; the function takes `irq_srcu` itself.
        unsafe {
            bindings::ferric_has_ack_notifier(
                self.0.kvm(),
                bindings::KVM_IRQCHIP_IOAPIC,
                pin as u32,
            )
        }
    }

    fn resample(&mut self, pin: usize) -> bool {
        // SAFETY: `kvm` is alive; resampling signals an eventfd and takes no
        // lock of ours in this context.
        unsafe {
            bindings::ferric_notify_resampler(
                self.0.kvm(),
                bindings::KVM_IRQCHIP_IOAPIC,
                pin as u32,
            )
        }
    }

    fn mask_changed(&mut self, pin: usize, masked: bool) {
        // SAFETY: As for the PIC.
        unsafe {
            bindings::ferric_fire_mask_notifiers(
                self.0.kvm(),
                bindings::KVM_IRQCHIP_IOAPIC,
                pin as u32,
                masked,
            );
        }
    }

    fn rescan(&mut self, rescan: Rescan) {
        self.0.vm().request_ioapic_scan(rescan);
    }

    fn delay_injection(&mut self) {
        // SAFETY: `new` has initialised the work, which does not run after
        // `quiesce` in `drop`.
        unsafe { bindings::ferric_delayed_work_schedule(self.0.delayed_injection.get()) };
    }

    fn trace_set_line(&mut self, pin: usize, entry: ioapic::RedirectionEntry, coalesced: bool) {
        // SAFETY: Trace events may be emitted in any context.
        unsafe { bindings::ferric_trace_ioapic_set_irq(entry.0, pin as c_int, coalesced) };
    }

    fn trace_delayed(&mut self, entry: ioapic::RedirectionEntry) {
        // SAFETY: Trace events may be emitted in any context.
        unsafe { bindings::ferric_trace_ioapic_delayed_eoi(entry.0) };
    }
}

/// The delayed injection's work, in a workqueue thread.
///
/// # Safety
///
/// `this` is what [`Chips::new`] gave to the work.
#[no_mangle]
unsafe extern "C" fn ferric_delayed_eoi_work(this: *mut c_void) {
    // SAFETY: By this function's requirements; the chips cancel the work
    // before they go.
    let chips = unsafe { Chips::from_raw(this) };
    chips.ioapic.lock().inject_delayed(&mut IoApicHost(chips));
}
