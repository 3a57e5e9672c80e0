// SPDX-License-Identifier: GPL-2.0

//! ferric: the interrupt controllers of KVM/x86 guests, in Rust.
//!
//! The module registers itself with `kvm.ko` as an irqchip provider. A VM takes
//! the provider when it creates its irqchip (`KVM_CREATE_IRQCHIP` or
//! `KVM_CAP_SPLIT_IRQCHIP`) and keeps it for life; KVM then calls ferric where
//! it would run its own local APIC, I/O APIC, PIC and PIT code.
//!
//! # A tour of the crate
//!
//! - [`model`]: what the chips do. No unsafe code, no kernel types; also built
//!   on the host, where its tests run.
//! - [`kvm`]: all that knows KVM. `ops` is the table that KVM calls, `vcpu` and
//!   `vm` are the objects behind it, `map` finds the destination of a message,
//!   `chips` ties the PIC and the I/O APIC to KVM's buses and routing, `pit` the
//!   8254; `posted` has Intel's posted interrupts, `sleepers` those whom their
//!   wake-up vector wakes. `shim.c` wraps what only C can express.
//!
//! An interrupt flows one way:
//!
//! ```text
//! line (irqfd, KVM_IRQ_LINE) -> pic | ioapic --\
//! MSI  (irqfd, KVM_SIGNAL_MSI) ----------------+-> Message -> destination map
//! IPI  (ICR write, hypercall) -----------------/        -> lapic accept -> vCPU entry
//! timer, LVT ------------------------------------------------^       (or PIR, APICv)
//! ```
//!
//! # Lock order
//!
//! Outermost first. Everything below a lock may be taken while it is held.
//!
//! ```text
//! kvm->lock                       mutex, KVM's: irqchip creation, vCPU creation
//!   vcpu->mutex                   mutex, KVM's: all owner-side APIC operations
//!     kvm->slots_lock             mutex, KVM's: I/O bus (un)registration
//!     sleepers::NUMBERS           mutex: numbers of vCPUs with posted interrupts
//!     Vm::map_lock                mutex: bringing the destination map up to date
//!       Pit::model                mutex: the 8254; its timer and its thread are
//!                                 waited for under it, and take none
//!         kvm->irq_lock           mutex, KVM's: routing, notifiers
//!       kvm->arch.apicv_update_lock  rwsem, KVM's: APICv inhibits
//!     kvm->srcu, kvm->irq_srcu    SRCU read side, KVM's: buses, routing
//!       Vm::ioapic                spinlock, interrupts on
//!         RCU read side           destination map; vCPU kicks and wake-ups
//!       Vm::pic                   spinlock, interrupts on; never with ioapic
//! ```
//!
//! Delivery to a vCPU takes none of these: accepting an interrupt is atomic
//! operations on the register page or on the posted-interrupt descriptor, and may
//! happen in hardirq context. The hrtimer callback and the handler of the wake-up
//! vector take no lock either, nor do vCPUs that are loaded or put.

use kernel::prelude::*;

mod kvm;
// The model is also a library, for the host: there its public items are public,
// and tests call what the module does not.
#[allow(dead_code, unreachable_pub, unused_imports)]
mod model;

module! {
    type: Ferric,
    name: "ferric",
    authors: ["ferric maintainers"],
    description: "KVM/x86 interrupt controllers in Rust",
    license: "GPL",
}

struct Ferric {
    _provider: kvm::Provider,
}

impl kernel::Module for Ferric {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _provider: kvm::Provider::register()?,
        })
    }
}
