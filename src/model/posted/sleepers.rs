// SPDX-License-Identifier: GPL-2.0

//! Who sleeps on a processor, so that the wake-up vector's handler finds those
//! whose interrupts have come.
//!
//! An interrupt's sender says nothing to the handler but the vector: it has to
//! look at the descriptor of each vCPU that may be meant, and there is no way
//! round it but to have few of them. So looking is cheap: vCPUs have numbers, a
//! set of them is bits, and neither who adds or removes one nor the handler waits
//! for a lock. It calls the scheduler only for those that are to be woken.

use super::super::sync::{AtomicU64, Ordering};

/// Words of a set. loom tries each access in every order, and one word is as good
/// as another.
const WORDS: usize = if cfg!(loom) { 1 } else { 64 };

/// The vCPUs of that many numbers fit in a set.
pub const CAPACITY: usize = WORDS * 64;

/// The vCPUs that sleep on one processor, by number.
#[derive(Default)]
pub struct Sleepers {
    /// The words that are, or were, not empty.
    in_use: AtomicU64,
    words: Words,
}

struct Words([AtomicU64; WORDS]);

impl Default for Words {
    fn default() -> Self {
        Self(core::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Sleepers {
    fn place(&self, number: u32) -> (&AtomicU64, u32, u64) {
        let word = number / 64 % WORDS as u32;
        (&self.words.0[word as usize], word, 1 << (number % 64))
    }

    /// Adds a vCPU. On the processor that the set is of, interrupts off.
    pub fn add(&self, number: u32) {
        let (bits, word, bit) = self.place(number);
        // ORDERING: Others remove theirs from the same word.
        bits.fetch_or(bit, Ordering::SeqCst);
        let in_use = self.in_use.load(Ordering::Relaxed);
        self.in_use.store(in_use | 1 << word, Ordering::Relaxed);
    }

    /// Removes a vCPU, if it is there. Any context. The handler may be looking at
    /// it, and wake it, for a moment longer.
    pub fn remove(&self, number: u32) {
        let (bits, _, bit) = self.place(number);
        bits.fetch_and(!bit, Ordering::SeqCst);
    }

    /// Calls `look` for each vCPU that is there. On the processor that the set is
    /// of, interrupts off: nobody adds one meanwhile.
    pub fn for_each(&self, mut look: impl FnMut(u32)) {
        let mut in_use = self.in_use.load(Ordering::Relaxed);
        let mut left = in_use;
        while left != 0 {
            let word = left.trailing_zeros();
            left &= left - 1;
            let mut bits = self.words.0[word as usize % WORDS].load(Ordering::Acquire);
            if bits == 0 {
                in_use &= !(1 << word);
            }
            while bits != 0 {
                look(word * 64 + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
        self.in_use.store(in_use, Ordering::Relaxed);
    }
}
