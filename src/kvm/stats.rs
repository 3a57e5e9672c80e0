// SPDX-License-Identifier: GPL-2.0

//! What each VM's irqchip has delivered, in debugfs:
//! `ferric/vm-<pid>-<n>/stats`, a line `name value` for each counter.
//!
//! Counting is off by default (module parameter `stats`), and then costs a NOP
//! at each place that counts.

use super::bindings;
use crate::model::sync::{AtomicU64, Ordering};
use kernel::debugfs::{Dir, Writer};
use kernel::fmt;
use kernel::prelude::*;
use kernel::static_branch_unlikely;
use kernel::str::CString;
use kernel::sync::global_lock;

global_lock! {
    // SAFETY: Initialised in `create_root`, before the first use.
    unsafe(uninit) static ROOT: Mutex<Option<Dir>> = None;
}

/// Serial number of the next VM, to tell those of one process apart.
static NEXT_VM: AtomicU64 = AtomicU64::new(0);

/// Creates debugfs' `ferric/`. To be called once, from the module's init.
pub(super) fn create_root() {
    // SAFETY: Called once only, as a module is initialised once only.
    unsafe { ROOT.init() };
    *ROOT.lock() = Some(Dir::new(c"ferric"));
}

/// Removes debugfs' `ferric/`. To be called from the module's exit.
pub(super) fn remove_root() {
    *ROOT.lock() = None;
}

/// The directory of a new VM, `vm-<pid>-<n>`.
pub(super) fn vm_dir() -> Result<Dir> {
    let n = NEXT_VM.fetch_add(1, Ordering::Relaxed);
    let name = CString::try_from_fmt(fmt!("vm-{}-{}", kernel::current!().tgid_nr_ns(None), n))?;
    // The root goes only after the last VM.
    Ok(ROOT.lock().as_ref().ok_or(ENODEV)?.subdir(&name))
}

/// What is counted.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(crate) enum Event {
    /// MSIs delivered, from `KVM_SIGNAL_MSI` and irqfds.
    Msi,
    /// Messages that the I/O APIC's pins sent.
    Ioapic,
    /// Interrupts acknowledged from the PIC.
    Pic,
    /// IPIs sent, each counted once for each destination that took it.
    Ipi,
    /// Timer interrupts delivered.
    Timer,
    /// Interrupts that a local APIC gave to its vCPU (software injection).
    Injected,
    /// EOIs that a local APIC got (not those that the CPU virtualizes).
    Eoi,
    /// Level interrupts whose EOI reached the I/O APIC.
    IoapicEoi,
    /// Sleeping vCPUs woken by the wake-up vector of posted interrupts.
    PostedWakeup,
}

const EVENTS: [(Event, &str); 9] = [
    (Event::Msi, "msi_delivered"),
    (Event::Ioapic, "ioapic_delivered"),
    (Event::Pic, "pic_delivered"),
    (Event::Ipi, "ipi_delivered"),
    (Event::Timer, "timer_delivered"),
    (Event::Injected, "lapic_injected"),
    (Event::Eoi, "eoi"),
    (Event::IoapicEoi, "ioapic_eoi"),
    (Event::PostedWakeup, "posted_wakeup"),
];

/// The counters of a VM.
pub(crate) struct Stats {
    counters: [AtomicU64; EVENTS.len()],
}

impl Stats {
    pub(super) const fn new() -> Self {
        Self {
            counters: [const { AtomicU64::new(0) }; EVENTS.len()],
        }
    }

    /// Counts `n` events, if counting is on. Any context.
    #[inline(always)]
    pub(crate) fn count(&self, event: Event, n: u64) {
        // SAFETY: shim.c defines the key.
        if unsafe { static_branch_unlikely!(bindings::ferric_keys, bindings::ferric_keys, stats) } {
            self.add(event, n);
        }
    }

    #[cold]
    fn add(&self, event: Event, n: u64) {
        self.counters[event as usize].fetch_add(n, Ordering::Relaxed);
    }
}

impl Writer for Stats {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (event, name) in EVENTS {
            let value = self.counters[event as usize].load(Ordering::Relaxed);
            writeln!(f, "{name} {value}")?;
        }
        Ok(())
    }
}
