// SPDX-License-Identifier: GPL-2.0

//! Indexing with a number that the guest chose.
//!
//! A bounds check can be mispredicted, and the load behind it then runs with
//! the index out of bounds (Spectre variant 1). The kernel's C code therefore
//! clamps such an index once more, without a branch, in
//! `array_index_nospec()`. There is no Rust version of it in the kernel crate.

use core::hint::black_box;

/// Returns `index` if it is less than `size`, else 0, without a branch.
///
/// To be called after the bounds check, and the result used as the index.
/// `size` is at most `isize::MAX`, as every array's length is.
#[inline]
pub fn clamp(index: usize, size: usize) -> usize {
    #[cfg(test)]
    tests::CALLS.with(|calls| calls.set(calls.get() + 1));
    // The compiler knows from the bounds check what the mask would be and
    // would drop it; the kernel's C code hides the index in inline assembly,
    // and so, with rustc's LLVM back end, does black_box().
    let index = black_box(index);
    // The sign bit of the operand is set if the index is out of bounds,
    // except where it is so large that the difference wraps to a small number,
    // and then the index itself has it set.
    let outside = (index | size.wrapping_sub(1).wrapping_sub(index)) as isize;
    index & (!outside >> (isize::BITS - 1)) as usize
}

#[cfg(test)]
pub(crate) mod tests {
    use super::clamp;
    use core::cell::Cell;

    std::thread_local! {
        /// Calls in this thread. A missing one changes no result, so that tests
        /// of those who have to call it can but count.
        pub(crate) static CALLS: Cell<usize> = const { Cell::new(0) };
    }

    /// How often `f` clamps an index.
    pub(crate) fn calls<R>(f: impl FnOnce() -> R) -> usize {
        let before = CALLS.get();
        let _ = f();
        CALLS.get() - before
    }

    #[test]
    fn an_index_within_bounds_is_unchanged() {
        for index in 0..24 {
            assert_eq!(clamp(index, 24), index);
        }
    }

    #[test]
    fn an_index_out_of_bounds_becomes_zero() {
        for index in [
            24,
            25,
            255,
            1 << 31,
            isize::MAX as usize,
            1 << 63,
            usize::MAX,
        ] {
            assert_eq!(clamp(index, 24), 0);
        }
        assert_eq!(clamp(0, 0), 0);
    }
}
