// SPDX-License-Identifier: GPL-2.0

//! IA32_APIC_BASE and the modes.

use super::super::base::Mode;
use super::fake::{Event, Machine};
use super::lapic::{Invalid, Offset};
use super::sync::Ordering;

const DISABLED: u64 = 0xfee0_0000;
const XAPIC: u64 = 0xfee0_0800;
const X2APIC: u64 = 0xfee0_0c00;
const INVALID: u64 = 0xfee0_0400;

#[test]
fn the_guest_moves_between_modes_only_as_the_state_diagram_says() {
    for (from, to, allowed) in [
        (DISABLED, XAPIC, true),
        (DISABLED, X2APIC, false),
        (DISABLED, INVALID, false),
        (XAPIC, DISABLED, true),
        (XAPIC, X2APIC, true),
        (XAPIC, INVALID, false),
        (X2APIC, DISABLED, true),
        (X2APIC, XAPIC, false),
        (X2APIC, INVALID, false),
    ] {
        let machine = Machine::enabled();
        machine.apic().set_base(from, true).unwrap();
        let result = machine.apic().set_base(to, false);
        assert_eq!(result.is_ok(), allowed, "{from:#x} {to:#x}");
        let expected = if allowed { to } else { from };
        assert_eq!(machine.apic_base.load(Ordering::Relaxed), expected);

        machine.apic().set_base(from, true).unwrap();
        let result = machine.apic().set_base(to, true);
        assert_eq!(result.is_ok(), to != INVALID, "by the host");
    }
}

#[test]
fn reserved_bits_of_the_base_are_refused() {
    let machine = Machine::enabled();
    for bit in 0..64 {
        let value = XAPIC ^ 1 << bit;
        let reserved = bit >= 40 || [0, 1, 2, 3, 4, 5, 6, 7, 9].contains(&bit);
        let result = machine.apic().set_base(value, true);
        assert_eq!(
            result,
            if reserved { Err(Invalid) } else { Ok(()) },
            "{bit}"
        );
    }
    let machine = Machine::enabled();
    machine.has_x2apic.set(false);
    assert_eq!(machine.apic().set_base(X2APIC, true), Err(Invalid));
    // With so few physical addresses some are reserved twice.
    machine.physical_bits.set(5);
    for bit in 0..64 {
        assert_eq!(machine.apic().set_base(1 << bit, true), Err(Invalid));
    }
}

#[test]
fn the_same_value_again_is_no_change_even_if_it_is_invalid() {
    let machine = Machine::enabled();
    machine.apic_base.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(machine.apic().set_base(u64::MAX, false), Ok(()));
    assert!(machine.events.borrow().is_empty());
}

#[test]
fn enabling_sets_the_xapic_id_anew() {
    let machine = Machine::reset(5);
    machine.write(Offset::ID, 0x4200_0000);
    machine.apic().set_base(DISABLED, false).unwrap();
    assert_eq!(machine.regs.read(Offset::ID), 0x4200_0000);
    machine.forget();
    machine.apic().set_base(XAPIC, false).unwrap();
    assert_eq!(machine.regs.read(Offset::ID), 0x0500_0000);
    assert_eq!(
        *machine.events.borrow(),
        [
            Event::MapDirty,
            Event::HardwareEnable(true),
            Event::ModeChanged,
            Event::BaseAddress(DISABLED),
            Event::MapRecalculated,
        ]
    );
}

#[test]
fn x2apic_mode_has_a_32_bit_id_and_the_logical_id_that_follows_from_it() {
    for (id, ldr) in [
        (0, 0x0000_0001),
        (5, 0x0000_0020),
        (0x10, 0x0001_0001),
        (0x123, 0x0012_0008),
        (4095, 0x00ff_8000),
    ] {
        let machine = Machine::x2apic(id);
        assert_eq!(machine.apic().msr_read(0x20), Ok(id.into()));
        assert_eq!(machine.apic().msr_read(0xd0), Ok(ldr.into()));
        let identity = machine.apic().identity();
        assert!(identity.is_x2apic && identity.is_software_enabled);
        assert_eq!((identity.x2apic_id, identity.ldr), (id, ldr));
        machine.apic().set_base(XAPIC, true).unwrap();
        assert_eq!(machine.read(Offset::ID), id << 24);
    }
}

#[test]
fn memory_answers_in_xapic_mode_only() {
    let machine = Machine::enabled();
    assert!(machine.apic().responds_to_mmio());
    assert_eq!(machine.apic().mode(), Mode::XApic);
    machine.apic().set_base(X2APIC, true).unwrap();
    assert!(!machine.apic().responds_to_mmio());
    assert_eq!(machine.apic().mode(), Mode::X2Apic);
    machine.apic().set_base(DISABLED, true).unwrap();
    assert!(!machine.apic().responds_to_mmio());
    assert_eq!(machine.apic().mode(), Mode::Disabled);
}

#[test]
fn another_address_is_taken_and_inhibits_apicv() {
    let machine = Machine::enabled();
    machine.apic().set_base(0x12_fee1_0800, false).unwrap();
    assert!(machine.has(Event::BaseAddress(0x12_fee1_0000)));
    assert!(machine.has(Event::BaseInhibited));
    assert!(!machine.has(Event::ModeChanged));
    let machine = Machine::enabled();
    machine.apic().set_base(0xfed0_0000, true).unwrap();
    assert!(!machine.has(Event::BaseInhibited), "not while it is off");
}

#[test]
fn switching_off_marks_the_map_dirty_and_keeps_the_registers() {
    let machine = Machine::enabled();
    machine.write(Offset::TPR, 0x40);
    machine.apic().set_base(DISABLED, false).unwrap();
    assert!(machine.has(Event::HardwareEnable(false)));
    assert!(machine.has(Event::MapDirty));
    assert_eq!(machine.regs.read(Offset::TPR), 0x40);
}
