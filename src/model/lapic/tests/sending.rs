// SPDX-License-Identifier: GPL-2.0

//! The forms of the interrupt command register.

use super::super::icr::FastError;
use super::fake::{Event, Machine};
use super::lapic::{Invalid, Offset, Vectors};
use super::message::{DeliveryMode, DestinationMode, Shorthand, Trigger};

#[test]
fn an_xapic_sends_when_the_low_half_is_written() {
    let machine = Machine::enabled();
    machine.write(Offset::ICR_HIGH, 0xab12_3456);
    assert!(machine.sent().is_empty());
    machine.write(Offset::ICR, 0x000c_0000 | 0xc000 | 0x900 | 0x41);
    let sent = machine.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].vector, 0x41);
    assert_eq!(sent[0].delivery_mode, DeliveryMode::LowestPriority);
    assert_eq!(sent[0].destination_mode, DestinationMode::Logical);
    assert_eq!(sent[0].shorthand, Shorthand::AllExcludingSelf);
    assert_eq!(sent[0].trigger, Trigger::Level);
    assert!(sent[0].assert && !sent[0].redirection_hint);
    assert_eq!(sent[0].destination, 0xab);
}

#[test]
fn each_field_of_the_icr_is_decoded_by_itself() {
    for icr in (0..0x10_0000).step_by(0x80).map(|bits: u32| bits | 0x55) {
        let machine = Machine::enabled();
        machine.write(Offset::ICR, icr);
        let sent = machine.sent()[0];
        assert_eq!(u32::from(sent.vector), icr & 0xff);
        assert_eq!(sent.delivery_mode as u32, icr >> 8 & 7);
        assert_eq!(
            sent.destination_mode == DestinationMode::Logical,
            icr & 0x800 != 0
        );
        assert_eq!(sent.assert, icr & 0x4000 != 0);
        assert_eq!(sent.trigger.is_level(), icr & 0x8000 != 0);
        assert_eq!(sent.shorthand as u32, icr >> 18 & 3);
        assert_eq!(machine.read(Offset::ICR), icr & !0x1000, "never busy");
    }
}

#[test]
fn an_x2apic_sends_to_a_32_bit_destination() {
    let machine = Machine::x2apic(0);
    machine
        .apic()
        .msr_write(0x300, 0x89ab_cdef_0000_0041)
        .unwrap();
    assert_eq!(machine.sent()[0].destination, 0x89ab_cdef);
}

#[test]
fn reserved_bits_of_the_x2apic_icr_fault_and_send_nothing() {
    let machine = Machine::x2apic(0);
    for bit in 0..64 {
        let value = 1 << bit | 0x41;
        let reserved = (20..32).contains(&bit) || [13, 16, 17].contains(&bit);
        machine.forget();
        let result = machine.apic().msr_write(0x300, value);
        assert_eq!(result, if reserved { Err(Invalid) } else { Ok(()) });
        assert_eq!(machine.sent().is_empty(), reserved);
        let fast = machine.apic().icr_write_fast(value);
        assert_eq!(fast.is_err(), reserved);
    }
}

#[test]
fn the_busy_bit_is_dropped_in_x2apic_mode_too() {
    let machine = Machine::x2apic(0);
    machine.apic().msr_write(0x300, 0x1041).unwrap();
    assert_eq!(machine.apic().msr_read(0x300), Ok(0x41));
}

#[test]
fn the_fast_path_stores_the_icr_only_if_it_has_sent() {
    let machine = Machine::x2apic(0);
    assert_eq!(machine.apic().icr_write_fast(0x5_0000_0041), Ok(()));
    assert!(matches!(
        machine.events.borrow()[0],
        Event::SentFast(message) if message.destination == 5
    ));
    machine.fast_path.set(false);
    let result = machine.apic().icr_write_fast(0x6_0000_0042);
    assert_eq!(result, Err(FastError::WouldBlock));
    assert_eq!(machine.apic().msr_read(0x300), Ok(0x5_0000_0041));
    let result = machine.apic().icr_write_fast(1 << 13);
    assert_eq!(result, Err(FastError::Invalid));
}

#[test]
fn what_the_cpu_has_stored_is_sent_on_the_fast_path_if_that_can_be() {
    let machine = Machine::enabled();
    machine.regs.write(Offset::ICR_HIGH, 0x0500_0000);
    machine.regs.write(Offset::ICR, 0x1041);
    assert_eq!(machine.apic().icr_stored_fast(), Ok(()));
    assert!(matches!(
        machine.events.borrow()[0],
        Event::SentFast(message) if message.destination == 5 && message.vector == 0x41
    ));
    assert_eq!(machine.read(Offset::ICR), 0x41, "never busy");

    machine.fast_path.set(false);
    machine.forget();
    machine.regs.write(Offset::ICR, 0x1042);
    let result = machine.apic().icr_stored_fast();
    assert_eq!(result, Err(FastError::WouldBlock));
    assert_eq!(machine.regs.read(Offset::ICR), 0x1042, "for the slow path");

    let machine = Machine::x2apic(0);
    machine.regs.write_icr64(0x6_0000_0043);
    assert_eq!(machine.apic().icr_stored_fast(), Ok(()));
    assert!(matches!(
        machine.events.borrow()[0],
        Event::SentFast(message) if message.destination == 6 && message.vector == 0x43
    ));
}

#[test]
fn a_self_ipi_on_the_fast_path_is_the_same() {
    let machine = Machine::x2apic(0);
    let write = |value| machine.apic().msr_write_fast(0x3f0, value);
    assert_eq!(write(0x99), Ok(()));
    assert_eq!(machine.take(), Some(0x99));
    for wrong in [0x100, 1 << 32, 0xffff_ffff_0000_0099] {
        assert!(write(wrong).is_err());
    }
    machine.fast_path.set(false);
    assert_eq!(write(0x9a), Err(FastError::WouldBlock));
    assert_eq!(machine.take(), None);
    // All other registers.
    for offset in (0..0x400)
        .step_by(16)
        .filter(|offset| ![0xb0, 0x3f0].contains(offset))
    {
        assert_eq!(
            machine.apic().msr_write_fast(offset, 0),
            Err(FastError::WouldBlock)
        );
    }
}

#[test]
fn a_self_ipi_is_a_fixed_edge_interrupt_to_the_sender() {
    let machine = Machine::x2apic(0);
    machine.apic().msr_write(0x3f0, 0x99).unwrap();
    assert_eq!(machine.sent()[0].shorthand, Shorthand::Own);
    assert!(machine.regs.test(Vectors::Irr, 0x99));
    assert_eq!(machine.take(), Some(0x99));
    assert_eq!(machine.apic().msr_write(0x3f0, 0x100), Err(Invalid));
    assert_eq!(machine.apic().msr_read(0x3f0), Err(Invalid));
}

#[test]
fn hyperv_writes_the_icr_as_64_bits_in_xapic_mode_too() {
    let machine = Machine::enabled();
    machine
        .apic()
        .msr_write(0x300, 0x0700_0000_0000_0041)
        .unwrap();
    assert_eq!(machine.sent()[0].destination, 7);
    assert_eq!(machine.apic().msr_read(0x300), Ok(0x0700_0000_0000_0041));
}
