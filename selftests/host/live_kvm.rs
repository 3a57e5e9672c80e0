// SPDX-License-Identifier: GPL-2.0

//! The model against the KVM of this machine: a small guest, a VMM and time do
//! the same random steps to a VM of KVM's and to the model, wired as KVM wires
//! it; see `live_kvm/step.rs`.
//!
//! After each step all must be equal: what the guest read, took or faulted
//! with, what the ioctls returned, and the state of the irqchip, the 8254 and
//! the local APICs as the ioctls save it.
//!
//! `FERRIC_REFERENCE_CASES` is the number of sequences and
//! `FERRIC_REFERENCE_SEED` chooses others, as for `lapic_reference`. Without a
//! KVM that can run the guest the test says why and passes.

use std::process::ExitCode;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[path = "live_kvm/compare.rs"]
mod compare;
#[allow(dead_code)]
#[path = "reference/harness.rs"]
mod harness;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> ExitCode {
    compare::run()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() -> ExitCode {
    let nowhere: Result<(), _> = Err(harness::Unavailable::Here(
        "this is not Linux on x86-64".into(),
    ));
    harness::run("live_kvm", 1, nowhere, |()| Vec::new())
}
