// SPDX-License-Identifier: GPL-2.0

//! All that knows KVM: the operations table, the objects behind it, and every
//! `unsafe` block of the crate.

mod bindings;
mod chips;
mod field;
mod io_device;
#[cfg(CONFIG_KCSAN)]
pub(crate) mod kcsan;
mod map;
mod multicast;
mod ops;
mod pit;
mod posted;
mod provider;
mod sleepers;
mod stats;
mod vcpu;
mod vm;

pub(crate) use provider::Provider;

/// What KVM wants to hear where ferric does not answer an access, or cannot do
/// what a hypercall asks for.
const NOT_SUPPORTED: kernel::ffi::c_int = -(kernel::bindings::EOPNOTSUPP as kernel::ffi::c_int);
