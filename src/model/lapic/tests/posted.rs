// SPDX-License-Identifier: GPL-2.0

//! Posted interrupts on their way into IRR, and what exits of x2APIC MSRs.

use super::fake::Machine;
use super::lapic::posted::{x2apic_intercepts, Harvest, Virtualized};
use super::lapic::Vectors;
use super::sync::Ordering;

/// PIR with these vectors.
fn pir(vectors: &[u8]) -> [u64; 4] {
    let mut pir = [0; 4];
    for vector in vectors {
        pir[usize::from(vector / 64)] |= 1 << (vector % 64);
    }
    pir
}

fn in_irr(machine: &Machine) -> std::vec::Vec<u8> {
    (0..=255)
        .filter(|&vector| machine.regs.test(Vectors::Irr, vector))
        .collect()
}

#[test]
fn each_vector_comes_to_its_place_in_irr() {
    for vector in 0..=255 {
        let machine = Machine::enabled();
        let harvest = machine.apic().accept_posted(&pir(&[vector]));
        assert_eq!(in_irr(&machine), [vector]);
        assert_eq!(harvest.highest, Some(vector));
        assert!(harvest.is_new);
    }
}

#[test]
fn what_irr_held_stays_and_is_not_new() {
    for (before, posted, highest, is_new) in [
        (&[][..], &[][..], None, false),
        (&[0x80], &[], Some(0x80), false),
        (&[0x80], &[0x80], Some(0x80), false),
        (&[0x80], &[0x40], Some(0x80), false),
        (&[0x80], &[0x81], Some(0x81), true),
        (&[0x9f], &[0x81], Some(0x9f), false),
        (&[0x40, 0xf0], &[0x3f, 0xff], Some(0xff), true),
    ] {
        let machine = Machine::enabled();
        for &vector in before {
            machine.regs.set(Vectors::Irr, vector);
        }
        let harvest = machine.apic().accept_posted(&pir(posted));
        assert_eq!(harvest, Harvest { highest, is_new });
        for vector in before.iter().chain(posted) {
            assert!(machine.regs.test(Vectors::Irr, *vector));
        }
    }
}

// The hint says always that there is something while APICv is active, and it
// must say so if it was inhibited and a device has posted.
#[test]
fn what_is_posted_while_apicv_is_inhibited_is_found() {
    let machine = Machine::enabled();
    machine.irr_pending.store(false, Ordering::Relaxed);
    machine.apic().accept_posted(&pir(&[0x51]));
    assert!(machine.irr_pending.load(Ordering::Relaxed));
    assert_eq!(machine.take(), Some(0x51));
}

/// MSRs 0x800 + index that a guest may read in x2APIC mode, by the manual.
const READABLE: [u32; 42] = [
    0x02, 0x03, 0x08, 0x0a, 0x0d, 0x0f, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19,
    0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x2f,
    0x30, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3e,
];

// Whatever does not exit has to be one of what the CPU virtualizes then, by SDM
// volume 3, "Virtualizing MSR-Based APIC Accesses"; anything else reaches the APIC
// of the host. All modes, and with and without the CMCI entry.
#[test]
fn no_msr_reaches_the_host_in_any_mode() {
    let all = READABLE.iter().fold(0_u64, |mask, index| mask | 1 << index);
    for readable in [all, all & !(1 << 0x2f)] {
        for mode in 0..8 {
            let virtualized = Virtualized {
                tpr: mode & 1 != 0,
                interrupts: mode & 2 != 0,
                ipis: mode & 4 != 0,
            };
            let intercepts = x2apic_intercepts(readable, virtualized);
            for index in 0..64 {
                let (tpr, interrupts, ipis) = match virtualized.tpr {
                    true => (true, virtualized.interrupts, virtualized.ipis),
                    false => (false, false, false),
                };
                // The current count is in no page.
                let reads = (tpr && index == 0x08)
                    || (interrupts && readable >> index & 1 != 0 && index != 0x39);
                let writes = match index {
                    0x08 => tpr,
                    0x0b | 0x3f => interrupts,
                    0x30 => interrupts && ipis,
                    _ => false,
                };
                assert_eq!(
                    intercepts.read >> index & 1 == 0,
                    reads,
                    "{mode} {index:#x}"
                );
                assert_eq!(
                    intercepts.write >> index & 1 == 0,
                    writes,
                    "{mode} {index:#x}"
                );
            }
        }
    }
}

#[test]
fn the_registers_are_those_that_the_guest_can_read() {
    let machine = Machine::x2apic(3);
    let virtualized = Virtualized {
        tpr: true,
        interrupts: true,
        ipis: false,
    };
    let expected = x2apic_intercepts(machine.apic().readable_mask(), virtualized);
    assert_eq!(machine.apic().x2apic_intercepts(virtualized), expected);
}
