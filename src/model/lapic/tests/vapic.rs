// SPDX-License-Identifier: GPL-2.0

//! The VAPIC word and PV EOI.

use super::super::vapic::{CHECK_VAPIC, PV_EOI_PENDING};
use super::fake::Machine;
use super::lapic::{Offset, Vectors};
use super::sync::Ordering;

fn with_pv_eoi() -> Machine {
    let machine = Machine::enabled();
    machine.pv_eoi_enabled.set(true);
    machine
}

fn attention(machine: &Machine) -> u64 {
    machine.attention.load(Ordering::Relaxed)
}

#[test]
fn the_guest_may_skip_the_eoi_of_the_only_interrupt_in_service() {
    let machine = with_pv_eoi();
    machine.interrupt(0x50);
    machine.take();
    machine.apic().sync_to_vapic();
    assert_eq!(machine.pv_eoi.get(), 1);
    assert_eq!(attention(&machine), PV_EOI_PENDING);

    // The guest clears the bit in place of an EOI.
    machine.pv_eoi.set(0);
    machine.apic().sync_from_vapic();
    assert!(!machine.regs.test(Vectors::Isr, 0x50));
    assert_eq!(attention(&machine), 0);
}

#[test]
fn an_eoi_that_was_not_skipped_is_not_done() {
    let machine = with_pv_eoi();
    machine.interrupt(0x50);
    machine.take();
    machine.apic().sync_to_vapic();
    machine.apic().sync_from_vapic();
    assert_eq!(machine.pv_eoi.get(), 0, "taken back");
    assert!(machine.regs.test(Vectors::Isr, 0x50));
    assert_eq!(attention(&machine), 0);
}

#[test]
fn pv_eoi_is_not_allowed_when_something_depends_on_the_eoi() {
    // Another interrupt waits.
    let machine = with_pv_eoi();
    machine.interrupt(0x40);
    machine.interrupt(0x50);
    machine.take();
    machine.apic().sync_to_vapic();
    assert_eq!(attention(&machine), 0);

    // The I/O APIC must hear of it.
    let machine = with_pv_eoi();
    machine.handle_by_ioapic(0x50);
    machine.interrupt(0x50);
    machine.take();
    machine.apic().sync_to_vapic();
    assert_eq!(attention(&machine), 0);

    // What is in service is not known without a search.
    let machine = with_pv_eoi();
    for vector in [0x40, 0x50] {
        machine.interrupt(vector);
        machine.take();
    }
    machine.eoi();
    machine.apic().sync_to_vapic();
    assert_eq!(attention(&machine), 0);

    // The guest has not enabled it, or its page is gone.
    let machine = with_pv_eoi();
    machine.interrupt(0x50);
    machine.take();
    machine.pv_eoi_writable.set(false);
    machine.apic().sync_to_vapic();
    assert_eq!(attention(&machine), 0);
    machine.pv_eoi_writable.set(true);
    machine.pv_eoi_enabled.set(false);
    machine.apic().sync_to_vapic();
    assert_eq!(attention(&machine), 0);
    assert_eq!(machine.pv_eoi.get(), 0);
}

#[test]
fn pv_eoi_disabled_while_pending_is_forgotten() {
    let machine = with_pv_eoi();
    machine.interrupt(0x50);
    machine.take();
    machine.apic().sync_to_vapic();
    machine.pv_eoi_enabled.set(false);
    machine.pv_eoi_readable.set(false);
    machine.apic().sync_from_vapic();
    assert_eq!(attention(&machine), 0);
    assert!(machine.regs.test(Vectors::Isr, 0x50));
}

#[test]
fn an_unreadable_pv_eoi_byte_counts_as_an_eoi() {
    let machine = with_pv_eoi();
    machine.interrupt(0x50);
    machine.take();
    machine.apic().sync_to_vapic();
    machine.pv_eoi_readable.set(false);
    machine.apic().sync_from_vapic();
    assert!(!machine.regs.test(Vectors::Isr, 0x50));
}

#[test]
fn a_pv_eoi_byte_that_cannot_be_taken_back_counts_as_an_eoi() {
    let machine = with_pv_eoi();
    machine.interrupt(0x50);
    machine.take();
    machine.apic().sync_to_vapic();
    machine.pv_eoi_writable.set(false);
    machine.apic().sync_from_vapic();
    assert!(!machine.regs.test(Vectors::Isr, 0x50));
    assert_eq!(attention(&machine), PV_EOI_PENDING, "it is still allowed");

    // And so for the next one.
    machine.pv_eoi_writable.set(true);
    machine.interrupt(0x51);
    machine.take();
    machine.apic().sync_to_vapic();
    assert_eq!(attention(&machine), PV_EOI_PENDING);
}

#[test]
fn the_vapic_word_has_tpr_the_class_in_service_and_the_vector_requested() {
    let machine = Machine::enabled();
    machine.attention.store(CHECK_VAPIC, Ordering::Relaxed);
    machine.interrupt(0x65);
    machine.take();
    machine.interrupt(0x43);
    machine.write(Offset::TPR, 0x12);
    machine.apic().sync_to_vapic();
    assert_eq!(machine.vapic.get(), Some(0x4300_6012));

    let machine = Machine::enabled();
    machine.attention.store(CHECK_VAPIC, Ordering::Relaxed);
    machine.apic().sync_to_vapic();
    assert_eq!(machine.vapic.get(), Some(0));
}

#[test]
fn the_guests_tpr_is_taken_from_the_vapic_word() {
    let machine = Machine::enabled();
    machine.vapic.set(Some(0xaabb_cc34));
    machine.apic().sync_from_vapic();
    assert_eq!(machine.regs.read(Offset::TPR), 0, "no VAPIC word");
    machine.attention.store(CHECK_VAPIC, Ordering::Relaxed);
    machine.apic().sync_from_vapic();
    assert_eq!(machine.regs.read(Offset::TPR), 0x34);
    machine.vapic.set(None);
    machine.apic().sync_from_vapic();
    assert_eq!(machine.regs.read(Offset::TPR), 0x34, "unreadable");
}
