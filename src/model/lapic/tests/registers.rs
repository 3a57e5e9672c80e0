// SPDX-License-Identifier: GPL-2.0

//! Every register: its reset value, its bits, who may access it and how wide.

use super::super::register::{Modes, REGISTERS};
use super::fake::{Event, Machine};
use super::lapic::{Invalid, Offset};
use super::sync::Ordering;

/// What the SDM's table of local APIC registers says, in KVM's version.
const READABLE_IN_XAPIC: [u16; 46] = [
    0x020, 0x030, 0x080, 0x090, 0x0a0, 0x0d0, 0x0e0, 0x0f0, 0x100, 0x110, 0x120, 0x130, 0x140,
    0x150, 0x160, 0x170, 0x180, 0x190, 0x1a0, 0x1b0, 0x1c0, 0x1d0, 0x1e0, 0x1f0, 0x200, 0x210,
    0x220, 0x230, 0x240, 0x250, 0x260, 0x270, 0x280, 0x300, 0x310, 0x320, 0x330, 0x340, 0x350,
    0x360, 0x370, 0x380, 0x390, 0x3e0, 0x2f0, 0x2f0,
];

const XAPIC_ONLY: [u16; 3] = [0x090, 0x0e0, 0x310];

fn with_cmci() -> Machine {
    let machine = Machine::enabled();
    machine.lvt_entries.store(7, Ordering::Relaxed);
    machine
}

#[test]
fn the_readable_registers_are_those_of_the_manual() {
    let machine = with_cmci();
    for index in 0..64 {
        let is_readable = machine.apic().readable_mask() & 1 << index != 0;
        assert_eq!(is_readable, READABLE_IN_XAPIC.contains(&(index << 4)));
    }
}

#[test]
fn arbitration_priority_dfr_and_the_icr_high_half_are_gone_in_x2apic_mode() {
    let machine = Machine::x2apic(0);
    machine.lvt_entries.store(7, Ordering::Relaxed);
    for index in 0..64 {
        let offset = index << 4;
        let expected = READABLE_IN_XAPIC.contains(&offset) && !XAPIC_ONLY.contains(&offset);
        assert_eq!(machine.apic().readable_mask() & 1 << index != 0, expected);
        if expected || offset == 0x300 {
            assert!(machine.apic().msr_read(offset.into()).is_ok());
        } else {
            assert_eq!(machine.apic().msr_read(offset.into()), Err(Invalid));
        }
    }
}

#[test]
fn an_apic_is_a_view_of_its_page_and_its_surroundings() {
    let machine = Machine::enabled();
    assert!(std::ptr::eq(machine.apic().regs(), &*machine.regs));
    assert!(std::ptr::eq(machine.apic().host(), &machine));
}

#[test]
fn no_msr_beyond_the_first_64_can_be_read_or_written() {
    let machine = Machine::x2apic(0);
    for offset in (0x400..0x4000).step_by(0x10) {
        assert_eq!(machine.apic().msr_read(offset), Err(Invalid));
        assert_eq!(machine.apic().msr_write(offset, 0), Err(Invalid));
    }
}

#[test]
fn the_cmci_entry_exists_only_with_seven_entries() {
    let machine = Machine::enabled();
    machine.regs.write(Offset::LVT_CMCI, 0x123);
    assert_eq!(machine.read(Offset::LVT_CMCI), 0);
    assert_eq!(machine.apic().write_register(0x2f0, 0x31), Err(Invalid));
    machine.lvt_entries.store(7, Ordering::Relaxed);
    assert_eq!(machine.read(Offset::LVT_CMCI), 0x123);
    assert_eq!(machine.apic().write_register(0x2f0, 0x31), Ok(()));
    assert_eq!(machine.read(Offset::LVT_CMCI), 0x31);
}

#[test]
fn each_register_has_its_reset_value() {
    let machine = Machine::created(3);
    machine.lvt_entries.store(7, Ordering::Relaxed);
    for offset in (0..0x400).step_by(4) {
        machine.regs.write(Offset(offset), 0xffff_ffff);
    }
    machine.apic().reset(false);

    for (offset, value) in [
        (0x020, 0x0300_0000),
        (0x030, 0x0006_0014),
        (0x080, 0),
        (0x0a0, 0),
        (0x0d0, 0),
        (0x0e0, 0xffff_ffff),
        (0x0f0, 0xff),
        (0x280, 0),
        (0x2f0, 0x1_0000),
        (0x300, 0),
        (0x310, 0),
        (0x320, 0x1_0000),
        (0x330, 0x1_0000),
        (0x340, 0x1_0000),
        (0x350, 0x1_0000),
        (0x360, 0x1_0000),
        (0x370, 0x1_0000),
        (0x380, 0),
        (0x3e0, 0),
    ] {
        assert_eq!(machine.regs.read(Offset(offset)), value, "{offset:#x}");
    }
    for offset in (0x100..0x280).step_by(0x10) {
        assert_eq!(machine.regs.read(Offset(offset)), 0, "{offset:#x}");
    }
    for entry in &REGISTERS {
        if let Some(value) = entry.reset {
            assert_eq!(machine.regs.read(entry.offset), value, "{}", entry.name);
        }
    }
}

#[test]
fn each_register_keeps_the_bits_it_has_and_no_others() {
    // Written with all ones, by memory, to an enabled APIC.
    for (offset, value) in [
        (0x020, 0xff00_0000),
        (0x080, 0x0000_00ff),
        (0x0d0, 0xff00_0000),
        (0x0e0, 0xffff_ffff),
        (0x0f0, 0x0000_03ff),
        (0x280, 0x0000_0000),
        (0x2f0, 0x0001_17ff),
        (0x300, 0xffff_efff),
        (0x310, 0xff00_0000),
        (0x320, 0x0007_10ff),
        (0x330, 0x0001_17ff),
        (0x340, 0x0001_17ff),
        (0x350, 0x0001_f7ff),
        (0x360, 0x0001_f7ff),
        (0x370, 0x0001_10ff),
        (0x380, 0xffff_ffff),
        (0x3e0, 0x0000_000b),
    ] {
        let machine = with_cmci();
        machine.write(Offset(offset), 0xffff_ffff);
        assert_eq!(machine.regs.read(Offset(offset)), value, "{offset:#x}");
    }
}

#[test]
fn dfr_keeps_its_model_and_reads_ones_below() {
    let machine = Machine::enabled();
    machine.write(Offset::DFR, 0);
    assert_eq!(machine.read(Offset::DFR), 0x0fff_ffff);
    machine.write(Offset::DFR, 0xf000_0000);
    assert_eq!(machine.read(Offset::DFR), 0xffff_ffff);
}

#[test]
fn the_timer_mode_has_the_bits_that_cpuid_allows() {
    let machine = Machine::enabled();
    machine.timer_mode_mask.store(1 << 17, Ordering::Relaxed);
    machine.write(Offset::LVT_TIMER, 0xffff_ffff);
    assert_eq!(machine.read(Offset::LVT_TIMER), 0x0003_10ff);
}

#[test]
fn directed_eoi_can_be_set_only_where_it_is_offered() {
    let machine = Machine::enabled();
    machine.write(Offset::SPURIOUS, 0x11ff);
    assert_eq!(machine.read(Offset::SPURIOUS), 0x1ff);
    machine.is_split.set(true);
    machine.apic().reset(true);
    assert_eq!(machine.read(Offset::VERSION), 0x0105_0014);
    machine.write(Offset::SPURIOUS, 0x11ff);
    assert_eq!(machine.read(Offset::SPURIOUS), 0x11ff);
}

#[test]
fn read_only_and_reserved_registers_ignore_writes_by_memory_and_fault_by_msr() {
    let writable_in_x2apic: [u32; 16] = [
        0x080, 0x0b0, 0x0f0, 0x280, 0x2f0, 0x300, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380,
        0x3e0, 0x3f0, 0x3f0,
    ];
    for index in 0..64_u16 {
        let offset = u32::from(index << 4);

        let machine = Machine::x2apic(0);
        machine.lvt_entries.store(7, Ordering::Relaxed);
        let expected = writable_in_x2apic.contains(&offset);
        let result = machine.apic().msr_write(offset, 0);
        assert_eq!(result.is_ok(), expected, "{offset:#x}");

        let machine = with_cmci();
        let writable = expected && offset != 0x3f0 || [0x20, 0xd0, 0xe0, 0x310].contains(&offset);
        let result = machine.apic().write_register(offset, 0);
        assert_eq!(result.is_ok(), writable, "{offset:#x}");
        if !writable {
            let machine = with_cmci();
            let before = machine.saved();
            machine.write(Offset(index << 4), 0xffff_ffff);
            assert_eq!(machine.saved(), before, "{offset:#x}");
        }
    }
}

#[test]
fn the_upper_half_of_an_msr_must_be_zero_except_for_icr() {
    let machine = Machine::x2apic(0);
    for offset in [0x080, 0x0b0, 0x0f0, 0x320, 0x380, 0x3f0] {
        assert_eq!(machine.apic().msr_write(offset, 1 << 32), Err(Invalid));
    }
    assert_eq!(machine.apic().msr_write(0x300, 1 << 32), Ok(()));
}

#[test]
fn esr_takes_only_zero_in_x2apic_mode() {
    let machine = Machine::x2apic(0);
    assert_eq!(machine.apic().msr_write(0x280, 1), Err(Invalid));
    assert_eq!(machine.apic().msr_write(0x280, 0), Ok(()));
    assert_eq!(Machine::enabled().apic().write_register(0x280, 1), Ok(()));
}

#[test]
fn reads_by_memory_take_every_width_that_stays_in_the_first_four_bytes() {
    let machine = Machine::enabled();
    machine.regs.write(Offset::LDR, 0x4433_2211);
    for first in 0..16_u32 {
        for length in 0..=16_usize {
            let mut data = [0xa5; 16];
            machine.apic().mmio_read(0xd0 + first, &mut data[..length]);
            let first = first as usize;
            let mut expected = [0xa5; 16];
            if first + length <= 4 && [1, 2, 4].contains(&length) {
                expected[..length].copy_from_slice(&[0x11, 0x22, 0x33, 0x44][first..][..length]);
            }
            assert_eq!(data, expected, "{first} {length}");
        }
    }
}

#[test]
fn reads_by_memory_of_what_is_not_there_leave_the_data_alone() {
    let machine = Machine::enabled();
    for offset in (0..0x1000).step_by(0x10) {
        let mut data = [0xa5; 4];
        machine.apic().mmio_read(offset, &mut data);
        if !READABLE_IN_XAPIC.contains(&(offset as u16)) || offset == 0x2f0 {
            assert_eq!(data, [0xa5; 4], "{offset:#x}");
        }
    }
}

#[test]
fn only_aligned_32_bit_writes_by_memory_do_anything() {
    let machine = Machine::enabled();
    let before = machine.saved();
    for first in 0..16_u32 {
        for length in 0..=8_usize {
            if first != 0 || length != 4 {
                machine
                    .apic()
                    .mmio_write(0x80 + first, &[0xff; 8][..length]);
            }
        }
    }
    assert_eq!(machine.saved(), before);
    machine.apic().mmio_write(0x80, &[0x20, 0, 0, 0]);
    assert_eq!(machine.read(Offset::TPR), 0x20);
}

#[test]
fn the_icr_reads_as_64_bits_by_msr_in_either_form() {
    for split in [false, true] {
        let machine = Machine::x2apic(0);
        machine.icr_is_split.set(split);
        let value = 0x1234_5678_0000_40f1;
        machine.apic().msr_write(0x300, value).unwrap();
        assert_eq!(machine.apic().msr_read(0x300), Ok(value));
        let high_half = if split { 0x310 } else { 0x304 };
        assert_eq!(machine.regs.read(Offset(high_half)), 0x1234_5678);
        assert_eq!(machine.regs.read(Offset(0x304 + 0x310 - high_half)), 0);
    }
}

#[test]
fn arbitration_priority_reads_as_zero() {
    let machine = Machine::enabled();
    machine.regs.write(Offset::ARBITRATION, 0x55);
    assert_eq!(machine.read(Offset::ARBITRATION), 0);
}

#[test]
fn accesses_to_tpr_are_reported() {
    let machine = Machine::enabled();
    machine.read(Offset::TPR);
    assert!(machine.has(Event::TprAccess(false)));
    machine.write(Offset::TPR, 0);
    assert!(machine.has(Event::TprAccess(true)));
}

#[test]
fn changes_of_id_and_mode_rebuild_the_destination_map() {
    for (offset, value) in [
        (Offset::ID, 1 << 24),
        (Offset::LDR, 1 << 24),
        (Offset::DFR, 0),
        (Offset::SPURIOUS, 0xff),
    ] {
        let machine = Machine::enabled();
        machine.write(offset, value);
        assert!(machine.has(Event::MapDirty));
        assert_eq!(
            machine.events.borrow().last(),
            Some(&Event::MapRecalculated)
        );
    }
    let machine = Machine::enabled();
    machine.write(Offset::SPURIOUS, 0x1fe);
    assert!(!machine.has(Event::MapDirty));
}

#[test]
fn disabling_by_software_masks_the_lvt_and_keeps_what_is_pending() {
    let machine = with_cmci();
    for lvt in [0x2f0, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370] {
        machine.write(Offset(lvt), 0x31);
    }
    machine.interrupt(0x55);
    machine.interrupt(0x66);
    assert_eq!(machine.take(), Some(0x66));
    machine.forget();

    machine.write(Offset::SPURIOUS, 0xff);
    assert!(machine.has(Event::SoftwareEnabled(false)));
    for lvt in [0x2f0, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370] {
        assert_eq!(machine.read(Offset(lvt)), 0x1_0031);
        machine.write(Offset(lvt), 0x32);
        assert_eq!(machine.read(Offset(lvt)), 0x1_0032, "stays masked");
    }
    assert!(!machine.interrupt(0x77), "new ones are dropped");

    machine.write(Offset::SPURIOUS, 0x1ff);
    assert!(machine.has(Event::SoftwareEnabled(true)));
    assert!(machine.has(Event::SoftwareEnableWritten));
    machine.eoi();
    assert_eq!(machine.take(), Some(0x55), "the old one was held");
    machine.eoi();
    assert_eq!(machine.take(), None);
}

#[test]
fn the_pit_learns_when_lint0_is_an_nmi() {
    let machine = Machine::enabled();
    machine.write(Offset::LVT_LINT0, 0x400);
    assert!(machine.has(Event::NmiWatchdog(true)));
    machine.forget();
    machine.write(Offset::LVT_LINT0, 0x400);
    assert!(!machine.has(Event::NmiWatchdog(true)));
    machine.write(Offset::LVT_LINT0, 0x1_0400);
    assert!(machine.has(Event::NmiWatchdog(false)));
}

#[test]
fn a_write_that_the_cpu_has_done_half_has_the_rest_done() {
    let machine = Machine::enabled();
    machine.regs.write(Offset::LDR, 0xffff_ffff);
    machine.apic().write_nodecode(0xd0);
    assert_eq!(machine.read(Offset::LDR), 0xff00_0000);

    machine.regs.write(Offset::ICR_HIGH, 0x0200_0000);
    machine.regs.write(Offset::ICR, 0x1041);
    machine.apic().write_nodecode(0x300);
    assert_eq!(machine.sent()[0].destination, 2);
    assert_eq!(machine.read(Offset::ICR), 0x41);

    for split in [false, true] {
        let machine = Machine::x2apic(0);
        machine.icr_is_split.set(split);
        machine.regs.write(Offset::ICR, 0x41);
        let high_half = Offset(if split { 0x310 } else { 0x304 });
        machine.regs.write(high_half, 0x201);
        machine.apic().write_nodecode(0x300);
        assert_eq!(machine.sent()[0].destination, 0x201);
    }
    for offset in 0..0x1000 {
        Machine::enabled().apic().write_nodecode(offset);
    }
}

#[test]
fn the_table_names_each_register_once_and_in_its_place() {
    for (index, entry) in REGISTERS.iter().enumerate() {
        assert_eq!(usize::from(entry.offset.0), index << 4);
        assert!(entry.writable || entry.guest_bits == 0);
        assert!(entry.readable || entry.readable_in == Modes::Both);
    }
}
