// SPDX-License-Identifier: GPL-2.0

//! The atomics that the model is written with, the one place where the kernel
//! build, the host build and a loom build differ.
//!
//! The kernel's own `kernel::sync::atomic` has neither `fetch_or` nor
//! `fetch_and`, which setting and clearing bits in a register page is made of.
//! ferric runs on x86-64 only, where core's atomics compile to the instructions
//! that the kernel's bit operations use: a locked read-modify-write is a full
//! barrier, and plain loads and stores are acquire and release.

#[cfg(not(loom))]
pub use core::sync::atomic::{
    fence, AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicU8, Ordering,
};

#[cfg(CONFIG_KCSAN)]
use crate::kvm::kcsan;
#[cfg(loom)]
mod interleaved;
#[cfg(loom)]
pub use interleaved::{fence, AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicU8, Ordering};

/// Elsewhere than in a KCSAN kernel nobody looks for data races.
#[cfg(not(CONFIG_KCSAN))]
mod kcsan {
    #[inline(always)]
    pub(super) fn plain_read<T>(_word: &T) {}
    #[inline(always)]
    pub(super) fn plain_write<T>(_word: &T) {}
    #[inline(always)]
    pub(super) fn assert_exclusive_writer<T>(_word: &T) {}
}

/// Says that nobody else writes `word` now, though others may read it: a KCSAN
/// kernel checks it, as by `ASSERT_EXCLUSIVE_WRITER()`.
#[inline(always)]
pub fn assert_exclusive_writer<T>(word: &T) {
    kcsan::assert_exclusive_writer(word);
}

/// A word of which there is an atomic.
pub trait Word: Copy {
    /// The atomic of that word.
    type Atomic;
    /// Wraps the word.
    fn atomic(self) -> Self::Atomic;
    /// Relaxed load.
    fn load(atomic: &Self::Atomic) -> Self;
    /// Relaxed store.
    fn store(self, atomic: &Self::Atomic);
}

macro_rules! word {
    ($($word:ty => $atomic:ty),*) => {$(
        impl Word for $word {
            type Atomic = $atomic;
            #[inline(always)]
            fn atomic(self) -> $atomic {
                <$atomic>::new(self)
            }
            #[inline(always)]
            fn load(atomic: &$atomic) -> Self {
                atomic.load(Ordering::Relaxed)
            }
            #[inline(always)]
            fn store(self, atomic: &$atomic) {
                atomic.store(self, Ordering::Relaxed)
            }
        }
    )*};
}

word!(bool => AtomicBool, u8 => AtomicU8, u32 => AtomicU32, i64 => AtomicI64, u64 => AtomicU64);

/// A word that one thread at a time owns, behind `&self`.
///
/// A chip is reached through shared references, since senders and timers touch
/// parts of it while its vCPU runs. What they do not touch is `Owned`: the
/// vCPU's thread, or whoever keeps that from running, reads and writes it. In
/// the machine code it is an ordinary load and store, and KCSAN is to take it for
/// one.
pub struct Owned<T: Word>(T::Atomic);

impl<T: Word> Owned<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value.atomic())
    }

    /// Reads the value.
    #[inline(always)]
    pub fn get(&self) -> T {
        kcsan::plain_read(&self.0);
        T::load(&self.0)
    }

    /// Replaces the value.
    #[inline(always)]
    pub fn set(&self, value: T) {
        kcsan::plain_write(&self.0);
        value.store(&self.0)
    }
}

impl<T: Word + Default> Default for Owned<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// A word that several threads or a timer's callback read and write, where
/// each access stands by itself and orders nothing else.
pub struct Relaxed<T: Word>(T::Atomic);

impl<T: Word> Relaxed<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value.atomic())
    }

    /// Relaxed load.
    #[inline(always)]
    pub fn load(&self) -> T {
        T::load(&self.0)
    }

    /// Relaxed store.
    #[inline(always)]
    pub fn store(&self, value: T) {
        value.store(&self.0)
    }
}

impl<T: Word + Default> Default for Relaxed<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}
