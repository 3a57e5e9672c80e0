// SPDX-License-Identifier: GPL-2.0

//! Devices on KVM's I/O buses.

use super::bindings;
use super::chips::Chips;
use core::cell::UnsafeCell;
use core::marker::PhantomPinned;
use core::ptr::NonNull;
use kernel::error::to_result;
use kernel::ffi::{c_int, c_void};
use kernel::prelude::*;

/// Up to `N` devices of a VM. What a guest does to them goes to the VM's
/// [`Chips`].
///
/// # Invariants
///
/// - `kvm` is the VM that this belongs to, and outlives it.
/// - The first `registered` devices in `io` are on KVM's I/O buses.
pub(super) struct Devices<const N: usize> {
    kvm: NonNull<bindings::kvm>,
    io: [UnsafeCell<bindings::ferric_io_device>; N],
    registered: usize,
    _pin: PhantomPinned,
}

impl<const N: usize> Devices<N> {
    /// None yet.
    pub(super) const fn new(kvm: NonNull<bindings::kvm>) -> Self {
        const EMPTY: bindings::ferric_io_device = bindings::ferric_io_device {
            dev: bindings::kvm_io_device {
                ops: core::ptr::null(),
            },
            vm: core::ptr::null_mut(),
            kind: 0,
        };
        Self {
            kvm,
            io: [const { UnsafeCell::new(EMPTY) }; N],
            registered: 0,
            _pin: PhantomPinned,
        }
    }

    /// Puts the devices in `kinds`, at most `N`, on the buses. May sleep; takes
    /// `kvm->slots_lock`. To be called once.
    ///
    /// # Safety
    ///
    /// `owner` must be a pinned [`Chips`] of the same VM, that outlives the
    /// devices. `kvm` must outlive them, too.
    pub(super) unsafe fn register(
        self: Pin<&mut Self>,
        owner: *mut c_void,
        kinds: &[u32],
    ) -> Result {
        // SAFETY: Nothing is moved.
        let this = unsafe { self.get_unchecked_mut() };
        for (io, kind) in this.io.iter().zip(kinds) {
            let io = io.get();
            // SAFETY: Nobody else has a pointer to the device yet.
            unsafe {
                (*io).vm = owner;
                (*io).kind = *kind;
            }
            // SAFETY: The device is pinned, and unregistered before it goes.
            to_result(unsafe { bindings::ferric_io_register(this.kvm.as_ptr(), io) })?;
            this.registered += 1;
        }
        Ok(())
    }

    /// Takes the devices off the buses. May sleep; takes `kvm->slots_lock`.
    pub(super) fn unregister(self: Pin<&mut Self>) {
        // SAFETY: Nothing is moved.
        let this = unsafe { self.get_unchecked_mut() };
        let registered = core::mem::take(&mut this.registered);
        for io in &this.io[..registered] {
            // SAFETY: By the type invariants the device is registered; KVM
            // tolerates a bus that is gone already.
            unsafe { bindings::ferric_io_unregister(this.kvm.as_ptr(), io.get()) };
        }
    }
}

impl<const N: usize> Drop for Devices<N> {
    fn drop(&mut self) {
        // SAFETY: A value that is dropped is not moved any more.
        unsafe { Pin::new_unchecked(self) }.unregister();
    }
}

/// The longest access that KVM emulates.
const MAX_ACCESS: usize = 8;

/// A guest's read from a device on one of KVM's buses.
///
/// # Safety
///
/// `this` is what was registered with the device, and `data` has room for
/// `length` bytes.
#[no_mangle]
unsafe extern "C" fn ferric_io_read(
    this: *mut c_void,
    _vcpu: *mut bindings::kvm_vcpu,
    kind: u32,
    address: u64,
    length: c_int,
    data: *mut c_void,
) -> c_int {
    // SAFETY: By this function's requirements.
    let chips = unsafe { Chips::from_raw(this) };
    let Some(length) = access_length(length) else {
        return super::NOT_SUPPORTED;
    };
    // SAFETY: By this function's requirements; no other reference to the
    // emulator's buffer exists while the device runs.
    let data = unsafe { core::slice::from_raw_parts_mut(data.cast::<u8>(), length) };
    answer(chips.read(kind, address, data))
}

/// A guest's write to a device on one of KVM's buses.
///
/// # Safety
///
/// `this` is what was registered with the device, and `data` holds `length`
/// bytes.
#[no_mangle]
unsafe extern "C" fn ferric_io_write(
    this: *mut c_void,
    _vcpu: *mut bindings::kvm_vcpu,
    kind: u32,
    address: u64,
    length: c_int,
    data: *const c_void,
) -> c_int {
    // SAFETY: By this function's requirements.
    let chips = unsafe { Chips::from_raw(this) };
    let Some(length) = access_length(length) else {
        return super::NOT_SUPPORTED;
    };
    // SAFETY: By this function's requirements; nobody writes to the buffer
    // while the device runs.
    let data = unsafe { core::slice::from_raw_parts(data.cast::<u8>(), length) };
    answer(chips.write(kind, address, data))
}

fn access_length(length: c_int) -> Option<usize> {
    usize::try_from(length)
        .ok()
        .filter(|length| (1..=MAX_ACCESS).contains(length))
}

fn answer(served: bool) -> c_int {
    if served {
        0
    } else {
        super::NOT_SUPPORTED
    }
}
