// SPDX-License-Identifier: GPL-2.0

//! What the interrupt controllers do, and nothing else.
//!
//! This tree is compiled twice: as the module `model` of `ferric.ko`, and as
//! the Cargo library `ferric-model`, whose tests run on the host. It therefore
//! names no kernel type, allocates nothing, and refers to its own items by
//! `super::` paths only. What it needs from outside (time, delivery, timers)
//! comes in through the `Host` traits, which `kvm/` implements.

#![forbid(unsafe_code)]

pub mod destination;
pub mod ioapic;
pub mod lapic;
pub mod line;
pub mod message;
pub mod nospec;
pub mod pic;
pub mod pit;
pub mod posted;
pub mod sync;
