// SPDX-License-Identifier: GPL-2.0

//! End of interrupt.

use super::fake::{Event, Machine};
use super::lapic::{Offset, SuppressEoiBroadcast, Vectors};
use super::message::Trigger;

fn in_service(machine: &Machine, vector: u8) {
    machine.interrupt(vector);
    assert_eq!(machine.take(), Some(vector));
    machine.forget();
}

#[test]
fn an_eoi_ends_the_highest_vector_in_service_and_lowers_ppr() {
    let machine = Machine::enabled();
    in_service(&machine, 0x30);
    in_service(&machine, 0x50);
    assert_eq!(machine.read(Offset::PPR), 0x50);
    assert_eq!(machine.apic().eoi(), Some(0x50));
    assert!(!machine.regs.test(Vectors::Isr, 0x50));
    assert!(machine.regs.test(Vectors::Isr, 0x30));
    assert_eq!(machine.regs.read(Offset::PPR), 0x30);
    assert_eq!(machine.apic().eoi(), Some(0x30));
    assert_eq!(machine.regs.read(Offset::PPR), 0);
}

#[test]
fn after_an_eoi_the_vcpu_looks_for_interrupts_if_there_may_be_some() {
    let machine = Machine::enabled();
    in_service(&machine, 0x50);
    machine.eoi();
    assert!(!machine.has(Event::InjectionRequest));

    // Held back by the one in service until now.
    in_service(&machine, 0x50);
    machine.interrupt(0x40);
    machine.forget();
    machine.eoi();
    assert!(machine.has(Event::InjectionRequest));
    assert_eq!(machine.take(), Some(0x40));
    machine.forget();

    // The guest looks at a page that is written before an entry.
    machine.eoi();
    in_service(&machine, 0x50);
    assert!(machine.apic().set_vapic_address(0x1000).is_ok());
    machine.eoi();
    assert!(machine.has(Event::InjectionRequest));
}

#[test]
fn on_the_fast_path_only_an_eoi_that_concerns_nobody_else_is_done() {
    let machine = Machine::x2apic(0);
    let eoi = |machine: &Machine| {
        let offset = u32::from(Offset::EOI.0);
        machine.apic().msr_write_fast(offset, 0).is_ok()
    };
    machine.handle_by_ioapic(0xc5);
    machine.synic.set(Some(0x60));
    for (vector, is_done) in [(0x50, true), (0x60, false), (0xc5, false)] {
        in_service(&machine, vector);
        let before = machine.saved();
        assert_eq!(eoi(&machine), is_done);
        assert_eq!(machine.regs.test(Vectors::Isr, vector), !is_done);
        assert!(is_done || machine.saved() == before);
        assert_eq!(machine.apic().eoi().is_some(), !is_done);
    }
    assert!(eoi(&machine), "nothing is in service");
}

#[test]
fn an_eoi_with_nothing_in_service_does_nothing() {
    let machine = Machine::enabled();
    let before = machine.saved();
    machine.eoi();
    assert_eq!(machine.saved(), before);
    assert_eq!(*machine.events.borrow(), []);
}

#[test]
fn any_value_is_an_eoi() {
    let machine = Machine::enabled();
    in_service(&machine, 0x50);
    machine.write(Offset::EOI, 0xffff_ffff);
    assert!(!machine.regs.test(Vectors::Isr, 0x50));
}

#[test]
fn the_ioapic_hears_of_the_vectors_that_it_handles_only() {
    let machine = Machine::enabled();
    machine.handle_by_ioapic(0xc5);
    for vector in 16..=255 {
        machine.level_interrupt(vector);
        assert_eq!(machine.take(), Some(vector));
        machine.forget();
        machine.eoi();
        let heard = machine.has(Event::IoapicEoi(vector, Trigger::Level));
        assert_eq!(heard, vector == 0xc5);
    }
}

#[test]
fn the_ioapic_hears_how_the_interrupt_was_triggered_when_it_was_accepted() {
    let machine = Machine::enabled();
    machine.handle_by_ioapic(0x50);
    in_service(&machine, 0x50);
    machine.eoi();
    assert!(machine.has(Event::IoapicEoi(0x50, Trigger::Edge)));

    machine.level_interrupt(0x50);
    machine.take();
    machine.eoi();
    assert!(machine.has(Event::IoapicEoi(0x50, Trigger::Level)));
    assert!(
        machine.regs.test(Vectors::Tmr, 0x50),
        "TMR is not changed by the EOI"
    );
}

#[test]
fn a_stale_route_is_scanned_again_at_its_eoi() {
    let machine = Machine::enabled();
    machine.handle_by_ioapic(0x50);
    machine.stale_eoi.set(Some(0x50));
    in_service(&machine, 0x50);
    machine.eoi();
    assert!(machine.has(Event::ScanRequest));
}

#[test]
fn in_split_mode_user_space_hears_of_the_eoi() {
    let machine = Machine::enabled();
    machine.is_split.set(true);
    machine.handle_by_ioapic(0x50);
    in_service(&machine, 0x50);
    machine.eoi();
    assert!(machine.has(Event::EoiExit(0x50)));
    assert!(!machine.has(Event::IoapicEoi(0x50, Trigger::Edge)));
}

#[test]
fn directed_eoi_is_honoured_as_the_vm_has_chosen() {
    for (mode, is_split, honoured) in [
        (SuppressEoiBroadcast::Enabled, false, true),
        (SuppressEoiBroadcast::Enabled, true, true),
        (SuppressEoiBroadcast::Disabled, false, false),
        (SuppressEoiBroadcast::Disabled, true, false),
        (SuppressEoiBroadcast::Quirked, false, true),
        (SuppressEoiBroadcast::Quirked, true, false),
    ] {
        let machine = Machine::enabled();
        machine.suppress.set(mode);
        machine.is_split.set(is_split);
        assert!(!machine.apic().suppresses_eoi_broadcast());
        machine.regs.write(Offset::SPURIOUS, 0x11ff);
        assert_eq!(machine.apic().suppresses_eoi_broadcast(), honoured);

        machine.handle_by_ioapic(0x50);
        in_service(&machine, 0x50);
        machine.eoi();
        assert_eq!(machine.has(Event::EoiExit(0x50)), is_split && !honoured);
    }
}

#[test]
fn synic_hears_of_its_vector() {
    let machine = Machine::enabled();
    machine.synic.set(Some(0x50));
    in_service(&machine, 0x40);
    in_service(&machine, 0x50);
    machine.eoi();
    assert!(machine.has(Event::SynicEoi(0x50)));
    machine.eoi();
    assert!(!machine.has(Event::SynicEoi(0x40)));
}

#[test]
fn an_eoi_by_the_cpu_is_only_passed_on() {
    let machine = Machine::enabled();
    machine.handle_by_ioapic(0x50);
    in_service(&machine, 0x50);
    machine.apic().eoi_accelerated(0x50);
    assert!(machine.has(Event::IoapicEoi(0x50, Trigger::Edge)));
    assert!(machine.has(Event::InjectionRequest));
    assert!(machine.regs.test(Vectors::Isr, 0x50));
}

#[test]
fn an_eoi_is_pending_while_requested_or_in_service() {
    let machine = Machine::enabled();
    assert!(!machine.apic().is_eoi_pending(0x50));
    machine.interrupt(0x50);
    assert!(machine.apic().is_eoi_pending(0x50));
    machine.take();
    assert!(machine.apic().is_eoi_pending(0x50));
    machine.eoi();
    assert!(!machine.apic().is_eoi_pending(0x50));
}

#[test]
fn the_same_vector_requested_while_in_service_comes_again_after_the_eoi() {
    let machine = Machine::enabled();
    in_service(&machine, 0x50);
    machine.interrupt(0x50);
    assert_eq!(machine.take(), None);
    machine.eoi();
    assert_eq!(machine.take(), Some(0x50));
    machine.eoi();
    assert_eq!(machine.take(), None);
}
