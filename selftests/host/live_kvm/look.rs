// SPDX-License-Identifier: GPL-2.0

//! What is compared: the outcome of a step, and the state of the irqchip.

use super::step::{MSR_APIC_BASE, MSR_TSC_DEADLINE};
use ferric_model::{ioapic, pic, pit};

/// What a step gives back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// What was read, or the ioctl's result.
    pub value: u64,
    /// The exception that the access raised.
    pub fault: u8,
    /// Exits to user space, for an address that nobody in the kernel answers.
    pub exits: u32,
    /// Vectors of the interrupts taken.
    pub taken: Vec<u8>,
    /// EOIs that user space was told of.
    pub resampled: u64,
}

impl Answer {
    pub fn of(value: i64) -> Self {
        Self {
            value: value as u64,
            ..Self::default()
        }
    }

    /// Of two accesses that make one step.
    pub fn add(&mut self, other: &Self) {
        self.fault |= other.fault;
        self.exits += other.exits;
    }
}

/// The state of the irqchip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The saved registers of each local APIC.
    pub lapics: Vec<Vec<u32>>,
    /// [`MSR_APIC_BASE`] and [`MSR_TSC_DEADLINE`].
    pub msrs: Vec<[u64; 2]>,
    /// NMIs that the step has sent to each; one runs and one waits, more are
    /// lost.
    pub nmis: Vec<u8>,
    pub pics: [pic::State; 2],
    pub ioapic: Option<ioapic::State>,
    pub counters: pit::Counters,
    pub pit_flags: u32,
}

/// Registers of a local APIC that are not compared as they are saved: PPR,
/// which KVM computes when it wants to know it (a guest's read is compared),
/// and which a CPU that handles TPR by itself changes by itself; and the
/// timer's current count.
const NOT_COMPARED: [usize; 2] = [0xa0, 0x390];

/// What differs, in words.
pub fn difference(kvm: &Look, model: &Look) -> Option<String> {
    let mut text = Vec::new();
    for (cpu, (kvm, model)) in kvm.lapics.iter().zip(&model.lapics).enumerate() {
        for (index, (kvm, model)) in kvm.iter().zip(model).enumerate() {
            if kvm != model && !NOT_COMPARED.contains(&(4 * index)) {
                text.push(format!(
                    "APIC {cpu} register {:#x}: {kvm:#x}, {model:#x}",
                    4 * index
                ));
            }
        }
    }
    for (cpu, (kvm, model)) in kvm.msrs.iter().zip(&model.msrs).enumerate() {
        for (msr, (kvm, model)) in [MSR_APIC_BASE, MSR_TSC_DEADLINE]
            .iter()
            .zip(kvm.iter().zip(model))
        {
            if kvm != model {
                text.push(format!("vCPU {cpu} MSR {msr:#x}: {kvm:#x}, {model:#x}"));
            }
        }
    }
    if kvm.nmis != model.nmis {
        text.push(format!("NMIs: {:?}, {:?}", kvm.nmis, model.nmis));
    }
    for (name, (kvm, model)) in ["master", "slave"]
        .iter()
        .zip(kvm.pics.iter().zip(&model.pics))
    {
        if kvm != model {
            text.push(format!("PIC {name}: {kvm:x?}, {model:x?}"));
        }
    }
    if kvm.ioapic != model.ioapic {
        text.push(format!("I/O APIC: {:x?}, {:x?}", kvm.ioapic, model.ioapic));
    }
    for (index, (kvm, model)) in kvm.counters.iter().zip(&model.counters).enumerate() {
        if kvm != model {
            text.push(format!("counter {index}: {kvm:x?}, {model:x?}"));
        }
    }
    if kvm.pit_flags != model.pit_flags {
        text.push(format!(
            "flags of the 8254: {:#x}, {:#x}",
            kvm.pit_flags, model.pit_flags
        ));
    }
    (!text.is_empty()).then(|| text.join("\n"))
}
