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
    fence, AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

#[cfg(loom)]
pub use loom::sync::atomic::{
    fence, AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
