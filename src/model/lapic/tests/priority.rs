// SPDX-License-Identifier: GPL-2.0

//! IRR, ISR, TPR and PPR: which interrupt comes next.

use super::fake::{Event, Machine};
use super::lapic::{Offset, Vectors};
use super::sync::Ordering;

#[test]
fn the_highest_vector_comes_first() {
    let machine = Machine::enabled();
    for vector in [0x31, 0xfe, 0x80, 0x7f] {
        machine.interrupt(vector);
    }
    for vector in [0xfe, 0x80, 0x7f, 0x31] {
        assert_eq!(machine.take(), Some(vector));
        machine.eoi();
    }
    assert_eq!(machine.take(), None);
}

#[test]
fn every_vector_from_16_can_be_taken_and_none_below() {
    for vector in 0..=255 {
        let machine = Machine::enabled();
        assert!(machine.interrupt(vector));
        assert_eq!(machine.take(), (vector >= 16).then_some(vector));
        assert_eq!(machine.regs.test(Vectors::Irr, vector), vector < 16);
        assert_eq!(machine.regs.test(Vectors::Isr, vector), vector >= 16);
    }
}

#[test]
fn an_interrupt_of_the_class_in_service_waits_and_a_higher_one_does_not() {
    let machine = Machine::enabled();
    machine.interrupt(0x45);
    assert_eq!(machine.take(), Some(0x45));
    machine.interrupt(0x4f);
    assert_eq!(machine.take(), None);
    machine.interrupt(0x50);
    assert_eq!(machine.take(), Some(0x50));
    machine.eoi();
    assert_eq!(machine.take(), None);
    machine.eoi();
    assert_eq!(machine.take(), Some(0x4f));
}

#[test]
fn ppr_is_tpr_if_its_class_is_not_below_the_one_in_service() {
    for tpr in 0..=255_u32 {
        for in_service in [0_u8, 0x10, 0x1f, 0x4a, 0xff] {
            let machine = Machine::enabled();
            if in_service != 0 {
                machine.interrupt(in_service);
                assert_eq!(machine.take(), Some(in_service));
            }
            machine.write(Offset::TPR, tpr);
            let class = u32::from(in_service) & 0xf0;
            let expected = if tpr & 0xf0 >= class { tpr } else { class };
            assert_eq!(machine.read(Offset::PPR), expected);
        }
    }
}

#[test]
fn tpr_holds_back_its_class_and_below() {
    for tpr in (0..=0xf0_u32).step_by(0x10) {
        for vector in (0x1f..=0xff_u8).step_by(0x10) {
            let machine = Machine::enabled();
            machine.write(Offset::TPR, tpr);
            machine.interrupt(vector);
            let expected = u32::from(vector) & 0xf0 > tpr;
            assert_eq!(machine.take().is_some(), expected, "{tpr:#x} {vector:#x}");
        }
    }
}

#[test]
fn lowering_tpr_asks_for_an_injection_if_something_waits() {
    let machine = Machine::enabled();
    machine.write(Offset::TPR, 0x80);
    machine.interrupt(0x55);
    assert_eq!(machine.take(), None);
    machine.forget();
    machine.write(Offset::TPR, 0x60);
    assert!(!machine.has(Event::InjectionRequest));
    machine.write(Offset::TPR, 0x20);
    assert!(machine.has(Event::InjectionRequest));
    // Written again it makes nothing more deliverable.
    machine.forget();
    machine.write(Offset::TPR, 0x20);
    assert!(!machine.has(Event::InjectionRequest));
}

#[test]
fn a_vector_in_service_that_is_acknowledged_again_stays_below_the_highest() {
    let machine = Machine::enabled();
    for vector in [0x50, 0x60] {
        machine.interrupt(vector);
        assert_eq!(machine.take(), Some(vector));
    }
    machine.apic().ack_interrupt(0x50);
    assert_eq!(machine.apic().highest_in_service(), Some(0x60));
    machine.eoi();
    assert_eq!(machine.apic().highest_in_service(), Some(0x50));
    machine.eoi();
    assert_eq!(machine.apic().highest_in_service(), None);
}

#[test]
fn the_vendor_code_learns_the_class_that_waits_and_the_tpr() {
    let machine = Machine::enabled();
    machine.write(Offset::TPR, 0x80);
    machine.interrupt(0x55);
    machine.forget();
    machine.write(Offset::TPR, 0x90);
    assert!(machine.has(Event::Cr8(9, Some(5))));
    machine.vapic_address.store(0x1000, Ordering::Relaxed);
    machine.forget();
    machine.write(Offset::TPR, 0xa0);
    assert!(machine.has(Event::Cr8(0xa, None)));
    machine.apicv_active.store(true, Ordering::Relaxed);
    machine.forget();
    machine.write(Offset::TPR, 0xb0);
    assert_eq!(machine.events.borrow()[1..], []);
}

#[test]
fn the_vendor_code_learns_the_tpr_that_counts_from_an_eoi_on() {
    // What waits is held back by TPR once nothing is in service: the guest must
    // exit when it lowers TPR. The entry that looks for events tells the vendor
    // code, but not of an APIC that is disabled by software.
    let machine = Machine::enabled();
    machine.write(Offset::TPR, 0x40);
    machine.interrupt(0x75);
    assert_eq!(machine.take(), Some(0x75));
    machine.interrupt(0x45);
    machine.forget();
    let saved = machine.saved();
    machine.eoi();
    assert!(machine.has(Event::InjectionRequest));

    machine.apic().restore(&mut saved.clone()).unwrap();
    machine.write(Offset::SPURIOUS, 0xff);
    machine.forget();
    machine.eoi();
    assert!(machine.has(Event::Cr8(4, Some(4))));
}

#[test]
fn a_tpr_that_the_guest_has_not_changed_costs_nothing() {
    let machine = Machine::enabled();
    // Once something has been looked for since the reset.
    machine.interrupt(0x75);
    assert_eq!(machine.take(), Some(0x75));
    machine.eoi();
    machine.apic().sync_tpr(0x40);
    assert_eq!(machine.read(Offset::PPR), 0x40);
    machine.interrupt(0x45);
    machine.forget();
    machine.apic().sync_tpr(0x40);
    assert_eq!(*machine.events.borrow(), []);
    machine.apic().sync_tpr(0x30);
    assert_eq!(machine.read(Offset::PPR), 0x30);
    assert!(machine.has(Event::InjectionRequest));
}

#[test]
fn a_tpr_that_the_cpu_lowers_without_an_exit_holds_nothing_back() {
    // On VMX the CPU shadows TPR, APICv or not; it exits where something waits.
    let machine = Machine::enabled();
    machine.shadows_tpr.set(true);
    machine.interrupt(0x75);
    assert_eq!(machine.take(), Some(0x75));
    machine.write_cr8(0x4f);
    machine.eoi();
    assert_eq!(machine.regs.read(Offset::PPR), 0x4f);
    machine.write_cr8(0);
    machine.interrupt(0x45);
    assert_eq!(machine.take(), Some(0x45));
    machine.eoi();

    // With posted interrupts whose hardware is inhibited, too.
    machine.posted.replace(Some(Vec::new()));
    machine.write_cr8(0x40);
    machine.read(Offset::PPR);
    machine.write_cr8(0);
    machine.interrupt(0x35);
    assert_eq!(machine.apic().has_interrupt(), Some(0x35));
}

#[test]
fn a_tpr_that_the_cpu_raises_without_an_exit_holds_back() {
    let machine = Machine::enabled();
    machine.shadows_tpr.set(true);
    machine.interrupt(0x75);
    assert_eq!(machine.take(), Some(0x75));
    machine.eoi();
    machine.write_cr8(0x40);
    machine.interrupt(0x45);
    assert_eq!(machine.apic().has_interrupt(), None);
    // Its priority is not below TPR's any more, so the CPU exits.
    machine.write_cr8(0x30);
    machine.forget();
    machine.apic().update_ppr();
    assert!(machine.has(Event::InjectionRequest));
    assert_eq!(machine.apic().has_interrupt(), Some(0x45));
}

#[test]
fn a_tpr_that_the_cpu_has_stored_already_counts_all_the_same() {
    let machine = Machine::enabled();
    machine.write(Offset::TPR, 0x40);
    machine.interrupt(0x45);
    machine.regs.write(Offset::TPR, 0x30);
    machine.forget();
    machine.apic().write_nodecode(Offset::TPR.0.into());
    assert!(machine.has(Event::InjectionRequest));
    assert_eq!(machine.take(), Some(0x45));
}

/// The interrupt is in service as restored, while PPR was that of its end.
fn restored_in_service(vector: u8) -> Machine {
    let machine = Machine::enabled();
    machine.interrupt(vector);
    assert_eq!(machine.take(), Some(vector));
    let mut saved = machine.saved();
    machine.eoi();
    machine.apic().restore(&mut saved).unwrap();
    machine
}

#[test]
fn ppr_is_that_of_a_restored_state_before_anything_is_delivered() {
    let machine = restored_in_service(0x75);
    machine.interrupt(0x71);
    assert_eq!(machine.apic().has_interrupt(), None);
    machine.interrupt(0x85);
    assert_eq!(machine.take(), Some(0x85));
}

#[test]
fn what_waits_is_reported_even_if_nothing_new_was_posted() {
    let machine = Machine::enabled();
    machine.posted.replace(Some(Vec::new()));
    machine.interrupt(0x71);
    assert_eq!(machine.apic().has_interrupt(), Some(0x71));
    // It is in IRR now, and there is nothing to synchronize.
    assert_eq!(machine.apic().has_interrupt(), Some(0x71));
}

#[test]
fn two_wait_while_tpr_rises_and_falls_and_both_are_taken() {
    let machine = Machine::enabled();
    machine.interrupt(0x51);
    machine.interrupt(0x61);
    machine.write(Offset::TPR, 0x70);
    assert_eq!(machine.take(), None);
    machine.write(Offset::TPR, 0);
    assert_eq!(machine.take(), Some(0x61));
    machine.eoi();
    assert_eq!(machine.take(), Some(0x51));
}

#[test]
fn the_hint_is_true_whenever_a_request_is_there() {
    let machine = Machine::enabled();
    machine.apic().update_apicv();
    machine.interrupt(0x40);
    machine.interrupt(0x50);
    assert_eq!(machine.take(), Some(0x50));
    assert!(machine.irr_pending.load(Ordering::Relaxed));
    machine.eoi();
    assert_eq!(machine.take(), Some(0x40));
    assert!(!machine.irr_pending.load(Ordering::Relaxed));
    machine.interrupt(0x41);
    assert!(machine.irr_pending.load(Ordering::Relaxed));
}

#[test]
fn a_hint_or_a_request_with_nothing_behind_it_is_harmless() {
    let machine = Machine::enabled();
    machine.irr_pending.store(true, Ordering::Relaxed);
    assert_eq!(machine.apic().highest_irr(), None);
    assert_eq!(machine.take(), None);
    machine.eoi();
    machine.write(Offset::TPR, 0x20);
    assert_eq!(machine.take(), None);
    assert_eq!(machine.read(Offset::PPR), 0x20);
    machine.interrupt(0x40);
    assert_eq!(machine.take(), Some(0x40));
}

#[test]
fn no_scan_is_made_while_the_hint_is_false() {
    let machine = Machine::enabled();
    machine.interrupt(0x40);
    machine.take();
    machine.regs.set(Vectors::Irr, 0x80);
    assert_eq!(machine.apic().highest_irr(), None);
    machine.irr_pending.store(true, Ordering::Relaxed);
    assert_eq!(machine.apic().highest_irr(), Some(0x80));
}

#[test]
fn posted_interrupts_are_synchronized_before_the_choice() {
    let machine = Machine::enabled();
    machine.posted.replace(Some(Vec::new()));
    machine.interrupt(0x71);
    assert!(!machine.regs.test(Vectors::Irr, 0x71));
    assert_eq!(machine.take(), Some(0x71));
    assert_eq!(machine.take(), None);
}

#[test]
fn an_auto_eoi_vector_is_never_in_service() {
    let machine = Machine::enabled();
    machine.synic.set(Some(0x90));
    machine.synic_auto_eoi.set(true);
    machine.interrupt(0x90);
    machine.interrupt(0x91);
    assert_eq!(machine.take(), Some(0x91));
    machine.eoi();
    assert_eq!(machine.take(), Some(0x90));
    assert!(!machine.regs.test(Vectors::Isr, 0x90));
    assert_eq!(machine.read(Offset::PPR), 0);
}

#[test]
fn with_apicv_the_cpu_is_told_what_is_in_service() {
    let machine = Machine::enabled();
    machine.interrupt(0x60);
    machine.take();
    machine.forget();
    machine.apicv_active.store(true, Ordering::Relaxed);
    machine.apic().update_apicv();
    assert!(machine.has(Event::HighestInService(Some(0x60))));
    assert!(machine.irr_pending.load(Ordering::Relaxed));

    // Nested virtualization acknowledges by software.
    machine.interrupt(0x70);
    assert_eq!(machine.take(), Some(0x70));
    assert!(machine.has(Event::HighestInService(Some(0x70))));
    assert!(machine.irr_pending.load(Ordering::Relaxed));

    // The CPU changes ISR; the EOI by Hyper-V's MSR looks at it afresh.
    machine.regs.clear(Vectors::Isr, 0x70);
    machine.forget();
    machine.apic().msr_write(0xb0, 0).unwrap();
    assert!(machine.has(Event::HighestInService(None)));

    machine.regs.set(Vectors::Isr, 0x33);
    machine.apicv_active.store(false, Ordering::Relaxed);
    machine.apic().update_apicv();
    assert_eq!(machine.apic().highest_in_service(), Some(0x33));
}

#[test]
fn nothing_is_delivered_while_the_apic_is_disabled_or_protected() {
    let machine = Machine::enabled();
    machine.interrupt(0x60);
    machine.protected.store(true, Ordering::Relaxed);
    assert_eq!(machine.apic().has_interrupt(), None);
    machine.protected.store(false, Ordering::Relaxed);
    machine.apic().set_base(0xfee0_0000, true).unwrap();
    assert_eq!(machine.apic().has_interrupt(), None);
}

#[test]
fn a_pending_interrupt_survives_software_disable_and_is_delivered_meanwhile() {
    let machine = Machine::enabled();
    machine.interrupt(0x60);
    machine.write(Offset::SPURIOUS, 0xff);
    assert_eq!(machine.apic().has_interrupt(), Some(0x60));
}

#[test]
fn after_a_restore_ppr_is_right_at_the_next_exit_even_if_nothing_was_looked_for() {
    let machine = restored_in_service(0x75);
    machine.apic().sync_tpr(0);
    assert_eq!(machine.regs.read(Offset::PPR), 0x70);
}

#[test]
fn what_was_asked_for_in_vain_is_asked_for_once_more() {
    let machine = Machine::enabled();
    machine.interrupt(0x45);
    machine.apic().set_base(0xfee0_0100, true).unwrap();
    assert_eq!(machine.apic().has_interrupt(), None);
    machine.apic().set_base(0xfee0_0900, true).unwrap();
    assert!(machine.apic().set_irr(0x45));
    assert_eq!(machine.apic().has_interrupt(), Some(0x45));
    assert!(!machine.apic().set_irr(0x45));
}

#[test]
fn with_apicv_what_the_cpu_changes_counts_from_the_next_entry_on() {
    let machine = Machine::enabled();
    machine.posted.replace(Some(Vec::new()));
    machine.apicv_active.store(true, Ordering::Relaxed);
    machine.apic().update_apicv();
    machine.regs.set(Vectors::Irr, 0x51);
    assert_eq!(machine.apic().has_interrupt(), Some(0x51));

    // The CPU takes another one.
    machine.apic().unsettle();
    machine.regs.set_in_service(0x91);
    assert_eq!(machine.apic().has_interrupt(), None);
    assert_eq!(machine.regs.read(Offset::PPR), 0x90);
    machine.apic().unsettle();
    machine.regs.clear_in_service(0x91);
    assert_eq!(machine.apic().has_interrupt(), Some(0x51));

    // Without posted interrupts nothing comes before each entry.
    machine.posted.replace(None);
    machine.apic().update_apicv();
    assert_eq!(machine.apic().has_interrupt(), Some(0x51));
    machine.regs.set_in_service(0x91);
    assert_eq!(machine.apic().has_interrupt(), None);
}
