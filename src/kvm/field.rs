// SPDX-License-Identifier: GPL-2.0

//! Fields of KVM's structures that ferric reads and writes in place.

use core::marker::PhantomData;
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

/// A field of KVM's, by its offset in the object that it is in: a quarter of a
/// [`Field`], for what is rarely used.
///
/// # Invariants
///
/// `offset` is that of a field that a [`Field`] of the same type may be made of.
pub(super) struct FieldAt<T> {
    offset: u16,
    field: PhantomData<fn() -> T>,
}

impl<T> FieldAt<T> {
    /// # Safety
    ///
    /// `field` must be in the object at `base`, in its first 64 KiB, and the type's
    /// invariants must hold.
    pub(super) unsafe fn new<F, B>(field: *mut F, base: *mut B) -> Self {
        // INVARIANT: By this function's requirements.
        Self {
            // CAST: By this function's requirements it fits.
            offset: (field.addr() - base.addr()) as u16,
            field: PhantomData,
        }
    }

    /// The field.
    ///
    /// # Safety
    ///
    /// `base` must be the object that this was made for, and live for `'a`.
    #[inline(always)]
    pub(super) unsafe fn of<'a, B>(&self, base: *mut B) -> &'a T {
        // SAFETY: By this function's requirements and the type invariants.
        unsafe { &*base.byte_add(self.offset.into()).cast::<T>() }
    }
}
