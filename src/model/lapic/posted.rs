// SPDX-License-Identifier: GPL-2.0

//! Posted interrupts on their way into IRR, and registers that the CPU serves in
//! KVM's place.

use super::super::posted::Pir;
use super::super::sync::Ordering;
use super::{Host, LocalApic, Offset, Vectors};

/// What IRR holds after posted interrupts were moved there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Harvest {
    /// The highest vector in IRR.
    pub highest: Option<u8>,
    /// Was that one posted, and not in IRR before?
    pub is_new: bool,
}

/// What the CPU virtualizes of a local APIC in x2APIC mode.
///
/// Source: Intel SDM volume 3, "Virtualizing MSR-Based APIC Accesses".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Virtualized {
    /// TPR ("virtualize x2APIC mode").
    pub tpr: bool,
    /// Reads of all registers, EOI and self-IPI ("APIC-register virtualization"
    /// and "virtual-interrupt delivery", which KVM has on together).
    pub interrupts: bool,
    /// ICR ("IPI virtualization").
    pub ipis: bool,
}

/// The x2APIC MSRs whose accesses exit: a bit for each one from 0x800 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intercepts {
    /// RDMSR
    pub read: u64,
    /// WRMSR
    pub write: u64,
}

const fn msr(offset: Offset) -> u64 {
    1 << (offset.0 >> 4)
}

/// Which MSRs exit. `readable` has a bit for each that the guest may read.
///
/// What does not exit and is not virtualized would reach the host's own APIC, and
/// what is virtualized but not there would read as whatever the page holds: only
/// what is in both sets is let through. The current count is nowhere but in the
/// timer; its read would exit all the same, as an APIC access, and cost more.
pub const fn x2apic_intercepts(readable: u64, virtualized: Virtualized) -> Intercepts {
    let (mut read, mut write) = (0, 0);
    if virtualized.tpr {
        read |= msr(Offset::TPR);
        write |= msr(Offset::TPR);
        if virtualized.interrupts {
            read |= readable & !msr(Offset::CURRENT_COUNT);
            write |= msr(Offset::EOI) | msr(Offset::SELF_IPI);
            if virtualized.ipis {
                write |= msr(Offset::ICR);
            }
        }
    }
    Intercepts {
        read: !(read & readable),
        write: !write,
    }
}

impl<H: Host> LocalApic<'_, H> {
    /// Moves what was posted to IRR. The vCPU's thread, interrupts on or off.
    #[inline(always)]
    pub fn accept_posted(self, posted: &Pir) -> Harvest {
        let mut newest = None;
        for (index, &bits) in posted.iter().enumerate() {
            for half in 0..2 {
                // CAST: A half of the word.
                let bits = (bits >> (32 * half)) as u32;
                if bits != 0 {
                    let part = 2 * index + half;
                    let new = bits & !self.regs().set_part(Vectors::Irr, part, bits);
                    if new != 0 {
                        newest = Some((32 * part as u32 + new.ilog2()) as u8);
                    }
                }
            }
        }
        let highest = self.regs().highest(Vectors::Irr);
        let is_new = newest.is_some() && newest == highest;
        // While APICv is active the hint always says that there may be something.
        if is_new && !self.is_apicv_active() {
            self.host.irr_pending().store(true, Ordering::Relaxed);
        }
        Harvest { highest, is_new }
    }

    /// The x2APIC MSRs whose accesses exit, if the CPU virtualizes that much. The
    /// vCPU's thread.
    pub fn x2apic_intercepts(self, virtualized: Virtualized) -> Intercepts {
        x2apic_intercepts(self.readable_mask(), virtualized)
    }
}
