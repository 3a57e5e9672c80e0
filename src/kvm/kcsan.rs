// SPDX-License-Identifier: GPL-2.0

//! What KCSAN is told where the code does not say it: it takes every access to
//! an atomic for a marked one, which may race.

use kernel::bindings::{__kcsan_check_access, KCSAN_ACCESS_ASSERT, KCSAN_ACCESS_WRITE};
use kernel::ffi::c_int;

#[inline(always)]
fn check<T>(word: &T, kind: u32) {
    let word = core::ptr::from_ref(word).cast();
    // SAFETY: `word` is valid for reads, which is all that KCSAN does to it.
    unsafe { __kcsan_check_access(word, size_of::<T>(), kind as c_int) };
}

/// `word` is about to be read, while nobody writes it.
#[inline(always)]
pub(crate) fn plain_read<T>(word: &T) {
    check(word, 0);
}

/// `word` is about to be written, while nobody else uses it.
#[inline(always)]
pub(crate) fn plain_write<T>(word: &T) {
    check(word, KCSAN_ACCESS_WRITE);
}

/// Nobody else writes `word` now: `ASSERT_EXCLUSIVE_WRITER()`.
#[inline(always)]
pub(crate) fn assert_exclusive_writer<T>(word: &T) {
    check(word, KCSAN_ACCESS_ASSERT);
}
