// SPDX-License-Identifier: GPL-2.0

//! The 8254 of a VM: its timer, the thread that injects its ticks, and its
//! place on KVM's I/O buses.
//!
//! A tick goes from the timer's callback, in hardirq context, to a thread of
//! the VM's, `kvm-pit/<pid>`, whose priority and CPUs operators set. That one
//! drives GSI 0.

use super::bindings;
use super::io_device::Devices;
use super::vm::Vm;
use crate::model::lapic::Offset;
use crate::model::pit::{self, Counters, Host, Port, Reinjection};
use crate::model::sync::{AtomicI64, Ordering};
use core::ptr::{null_mut, NonNull};
use kernel::error::to_result;
use kernel::ffi::c_void;
use kernel::prelude::*;
use kernel::sync::{new_mutex, Mutex};

/// `KVM_PIT_SPEAKER_DUMMY`: the speaker's port is wanted, too.
const SPEAKER_DUMMY: u32 = bindings::KVM_PIT_SPEAKER_DUMMY;

/// The 8254 of a VM.
///
/// # Invariants
///
/// - `kvm` is the VM that this belongs to, and outlives it.
/// - `host` is the shim's, and calls back with the address of this.
#[pin_data(PinnedDrop)]
pub(super) struct Pit {
    kvm: NonNull<bindings::kvm>,
    #[pin]
    model: Mutex<pit::Pit>,
    reinjection: Reinjection,
    /// Of the timer, in ns; 0 if it expires once. Written while it is stopped.
    period_ns: AtomicI64,
    host: *mut bindings::ferric_pit_host,
    #[pin]
    devices: Devices<2>,
}

// SAFETY: The mutex guards the model; the functions that are called with `host`
// may be called from any thread, and those that must not run at the same time
// are called with the mutex held.
unsafe impl Send for Pit {}
// SAFETY: As above.
unsafe impl Sync for Pit {}

impl Pit {
    /// Makes the 8254 in its reset state and puts it on the VM's buses, where
    /// its accesses go to `owner`. Sleeps; `kvm->lock` is held.
    ///
    /// # Safety
    ///
    /// `kvm` must outlive the 8254 and be served by ferric. `owner` must be
    /// what [`Devices::register`] asks for.
    pub(super) unsafe fn new(
        kvm: NonNull<bindings::kvm>,
        owner: *mut c_void,
        flags: u32,
    ) -> Result<Pin<KBox<Self>>> {
        // SAFETY: Reading the clock has no preconditions.
        let now_ns = unsafe { bindings::ferric_now_ns() };
        let mut this = KBox::pin_init(
            pin_init!(&this in Self {
                kvm,
                model <- new_mutex!(pit::Pit::new(now_ns), "ferric::pit"),
                reinjection: Reinjection::new(),
                period_ns: AtomicI64::new(0),
                host: {
                    let mut host = null_mut();
                    // SAFETY: The 8254 is pinned, and destroys the host before
                    // it goes. Nothing calls back before it is initialised.
                    to_result(unsafe {
                        bindings::ferric_pit_host_create(
                            kvm.as_ptr(),
                            this.as_ptr().cast(),
                            &mut host,
                        )
                    })?;
                    host
                },
                devices: Devices::new(*kvm),
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )?;
        this.set_reinject(true);

        const KINDS: [u32; 2] = [
            bindings::ferric_io_kind_FERRIC_IO_PIT,
            bindings::ferric_io_kind_FERRIC_IO_SPEAKER,
        ];
        let kinds = if flags & SPEAKER_DUMMY != 0 {
            &KINDS[..]
        } else {
            &KINDS[..1]
        };
        // SAFETY: By this function's requirements.
        unsafe { this.as_mut().project().devices.register(owner, kinds)? };
        Ok(this)
    }

    /// The 8254 that the shim calls back for.
    ///
    /// # Safety
    ///
    /// `this` must be what [`Self::new`] gave to the shim, and alive.
    unsafe fn from_raw<'a>(this: *mut c_void) -> &'a Self {
        // SAFETY: By this function's requirements.
        unsafe { &*this.cast::<Self>() }
    }

    /// Stops ticks and all that could start them again but for a guest's
    /// access. Sleeps.
    pub(super) fn quiesce(&self) {
        self.set_reinject(false);
        let _guard = self.model.lock();
        PitHost(self).stop_timer();
    }

    /// A guest's read: what is driven, or none. Sleeps.
    pub(super) fn read(&self, port: Port) -> Option<u8> {
        self.model.lock().read(port, &PitHost(self))
    }

    /// A guest's write. Sleeps.
    pub(super) fn write(&self, port: Port, value: u8) {
        self.model.lock().write(port, value, &mut PitHost(self));
    }

    /// `KVM_GET_PIT`, `KVM_GET_PIT2`: counters and flags. Sleeps.
    pub(super) fn state(&self) -> (Counters, u32) {
        let model = self.model.lock();
        (*model.counters(), model.flags())
    }

    /// `KVM_SET_PIT`, without flags, and `KVM_SET_PIT2`. Every state is
    /// accepted. Sleeps.
    pub(super) fn restore(&self, counters: &Counters, flags: Option<u32>) {
        self.model
            .lock()
            .restore(counters, flags, &mut PitHost(self));
    }

    /// `KVM_REINJECT_CONTROL`. Sleeps.
    pub(super) fn set_reinject(&self, on: bool) {
        let _guard = self.model.lock();
        if self.reinjection.is_enabled() == on {
            return;
        }
        if on {
            self.reinjection.reset();
        }
        // SAFETY: By the type invariants; the mutex keeps two from doing this
        // at once, and on and off take turns.
        unsafe { bindings::ferric_pit_set_notifiers(self.host, on) };
        self.reinjection.set_enabled(on);
    }

    /// Moves the timer to this CPU. Sleeps.
    pub(super) fn migrate_timer(&self) {
        let _guard = self.model.lock();
        // SAFETY: By the type invariants; nobody starts the timer meanwhile,
        // as the mutex is held.
        unsafe { bindings::ferric_pit_timer_migrate(self.host) };
    }

    /// Raises and lowers GSI 0, unless the guest still owes the EOI of the tick
    /// before. In the VM's thread.
    fn inject(&self) {
        if !self.reinjection.may_inject() {
            return;
        }
        // SAFETY: By the type invariants; no lock is held.
        unsafe { bindings::ferric_pit_pulse(self.kvm.as_ptr()) };

        // The NMI watchdog of guests: the PIT is wired to LINT0 of all local
        // APICs, where it may be an NMI.
        //
        // SAFETY: By the type invariants, and as `Vm` outlives its chips.
        let vm = unsafe { Vm::of_kvm(self.kvm.as_ptr()) };
        if vm.has_nmi_watchdogs() {
            for vcpu in vm.vcpus() {
                vcpu.apic().local_deliver(Offset::LVT_LINT0);
            }
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Pit {
    fn drop(mut self: Pin<&mut Self>) {
        self.as_mut().project().devices.unregister();
        self.set_reinject(false);
        // SAFETY: By the type invariants; it is not used any more.
        unsafe { bindings::ferric_pit_host_destroy(self.host) };
    }
}

/// What the 8254 needs from the machine.
struct PitHost<'a>(&'a Pit);

impl Host for PitHost<'_> {
    fn now_ns(&self) -> i64 {
        // SAFETY: Reading the clock has no preconditions.
        unsafe { bindings::ferric_now_ns() }
    }

    fn timer_remaining_ns(&self) -> i64 {
        // SAFETY: By the type invariants.
        unsafe { bindings::ferric_pit_timer_remaining(self.0.host) }
    }

    fn stop_timer(&mut self) {
        // SAFETY: By the type invariants; neither the timer nor the thread takes
        // the mutex that is held.
        unsafe { bindings::ferric_pit_timer_stop(self.0.host) };
    }

    fn start_timer(&mut self, first: i64, period: Option<i64>) {
        let period = period.unwrap_or(0);
        self.0.period_ns.store(period, Ordering::Relaxed);
        // SAFETY: By the type invariants.
        unsafe { bindings::ferric_pit_timer_start(self.0.host, first) };
    }

    fn min_period_ns(&self) -> i64 {
        // SAFETY: The function reads a module parameter.
        i64::from(unsafe { bindings::ferric_min_timer_period_us() }) * 1000
    }

    fn reinjection(&self) -> &Reinjection {
        &self.0.reinjection
    }

    fn period_limited(&mut self, requested: i64, to: i64) {
        // SAFETY: The function writes to the kernel's log.
        unsafe { bindings::ferric_log_pit_period(requested, to) };
    }
}

/// The timer has expired. Hardirq context. Returns the time to the next tick,
/// or 0 if there is none.
///
/// # Safety
///
/// `this` is what [`Pit::new`] gave to the shim.
#[no_mangle]
unsafe extern "C" fn ferric_pit_expired(this: *mut c_void) -> i64 {
    // SAFETY: By this function's requirements; the timer is stopped before the
    // 8254 goes.
    let pit = unsafe { Pit::from_raw(this) };
    pit.reinjection.tick();
    pit.period_ns.load(Ordering::Relaxed)
}

/// An injection that was asked for, in the VM's thread.
///
/// # Safety
///
/// As for [`ferric_pit_expired`].
#[no_mangle]
unsafe extern "C" fn ferric_pit_inject(this: *mut c_void) {
    // SAFETY: By this function's requirements; the thread ends before the 8254
    // goes.
    unsafe { Pit::from_raw(this) }.inject();
}

/// The guest has acknowledged a tick. Any context but hardirq. True if the next
/// one is to be injected.
///
/// # Safety
///
/// As for [`ferric_pit_expired`].
#[no_mangle]
unsafe extern "C" fn ferric_pit_acknowledged(this: *mut c_void) -> bool {
    // SAFETY: By this function's requirements; the notifier is unregistered
    // before the 8254 goes.
    unsafe { Pit::from_raw(this) }.reinjection.acknowledge()
}

/// The guest has unmasked GSI 0: it counts ticks from here.
///
/// # Safety
///
/// As for [`ferric_pit_expired`].
#[no_mangle]
unsafe extern "C" fn ferric_pit_unmasked(this: *mut c_void) {
    // SAFETY: As in `ferric_pit_acknowledged`.
    unsafe { Pit::from_raw(this) }.reinjection.reset();
}
