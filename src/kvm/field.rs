// SPDX-License-Identifier: GPL-2.0

//! Fields of KVM's structures that ferric reads and writes in place.

use core::ops::Deref;
use core::ptr::NonNull;

/// A field of KVM's that lives at least as long as the object that holds this.
///
/// # Invariants
///
/// The pointer is valid and aligned for `T`, made of atomics, and everybody else
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
