// SPDX-License-Identifier: GPL-2.0

//! What a message does, by delivery mode; and the local vector table.

use super::fake::{message, Event, Machine};
use super::lapic::{Offset, Vectors};
use super::message::{DeliveryMode, Trigger};
use super::sync::Ordering;

const LVT: [Offset; 6] = [
    Offset::LVT_TIMER,
    Offset::LVT_THERMAL,
    Offset::LVT_PERFORMANCE,
    Offset::LVT_LINT0,
    Offset::LVT_LINT1,
    Offset::LVT_ERROR,
];

#[test]
fn a_fixed_interrupt_sets_irr_asks_and_kicks() {
    let machine = Machine::enabled();
    assert!(machine.interrupt(0x44));
    assert!(machine.regs.test(Vectors::Irr, 0x44));
    assert_eq!(
        *machine.events.borrow(),
        [
            Event::Deliver(DeliveryMode::Fixed, Trigger::Edge, 0x44),
            Event::InjectionRequest,
            Event::Kick,
        ]
    );
}

#[test]
fn tmr_follows_the_trigger_mode_of_each_acceptance() {
    let machine = Machine::enabled();
    machine.level_interrupt(0x44);
    assert!(machine.regs.test(Vectors::Tmr, 0x44));
    machine.interrupt(0x44);
    assert!(!machine.regs.test(Vectors::Tmr, 0x44));
    machine.interrupt(0x45);
    assert!(!machine.regs.test(Vectors::Tmr, 0x45));
}

#[test]
fn tmr_follows_an_edge_after_a_restored_level_too() {
    let old = Machine::enabled();
    old.level_interrupt(0x44);
    let mut saved = old.saved();
    let new = Machine::enabled();
    new.apic().restore(&mut saved).unwrap();
    assert!(new.regs.test(Vectors::Tmr, 0x44));
    new.interrupt(0x44);
    assert!(!new.regs.test(Vectors::Tmr, 0x44));
}

#[test]
fn tmr_is_settled_before_the_interrupt_is_delivered() {
    // A posted delivery leaves IRR alone, so TMR alone must have changed.
    let machine = Machine::enabled();
    machine.posted.replace(Some(Vec::new()));
    machine.level_interrupt(0x44);
    assert!(machine.regs.test(Vectors::Tmr, 0x44));
    assert!(!machine.regs.test(Vectors::Irr, 0x44));
}

#[test]
fn a_level_deassertion_is_dropped() {
    let machine = Machine::enabled();
    let mut deassert = message(DeliveryMode::Fixed, 0x44);
    deassert.assert = false;
    deassert.trigger = Trigger::Level;
    assert!(!machine.apic().accept(&deassert));
    assert!(machine.events.borrow().is_empty());
    deassert.trigger = Trigger::Edge;
    assert!(machine.apic().accept(&deassert));
}

#[test]
fn a_disabled_apic_drops_vectors_but_not_the_other_modes() {
    for (software, hardware) in [(false, true), (true, false)] {
        let machine = Machine::enabled();
        if !software {
            machine.write(Offset::SPURIOUS, 0xff);
        }
        if !hardware {
            machine.apic().set_base(0xfee0_0000, true).unwrap();
        }
        machine.forget();
        assert!(!machine.interrupt(0x44));
        let lowest = message(DeliveryMode::LowestPriority, 0x44);
        assert!(!machine.apic().accept(&lowest));
        assert!(machine.apic().accept(&message(DeliveryMode::Nmi, 0)));
        assert!(machine.apic().accept(&message(DeliveryMode::Init, 0)));
        assert!(machine.apic().accept(&message(DeliveryMode::StartUp, 9)));
    }
}

#[test]
fn lowest_priority_counts_for_the_arbitration() {
    let machine = Machine::enabled();
    for count in 1..4 {
        let lowest = message(DeliveryMode::LowestPriority, 0x44);
        assert!(machine.apic().accept(&lowest));
        assert_eq!(machine.arbitration_priority.load(Ordering::Relaxed), count);
    }
    assert!(machine.has(Event::Deliver(
        DeliveryMode::LowestPriority,
        Trigger::Edge,
        0x44
    )));
    machine.interrupt(0x44);
    assert_eq!(machine.arbitration_priority.load(Ordering::Relaxed), 3);
    machine
        .arbitration_priority
        .store(u32::MAX, Ordering::Relaxed);
    machine
        .apic()
        .accept(&message(DeliveryMode::LowestPriority, 0x44));
    assert_eq!(machine.arbitration_priority.load(Ordering::Relaxed), 0);
}

#[test]
fn the_other_modes_do_what_they_say() {
    for (mode, vector, accepted, events) in [
        (
            DeliveryMode::RemoteRead,
            0,
            true,
            &[Event::PvUnhalt, Event::InjectionRequest, Event::Kick][..],
        ),
        (DeliveryMode::Smi, 0, true, &[Event::Smi, Event::Kick]),
        (DeliveryMode::Nmi, 0, true, &[Event::Nmi, Event::Kick]),
        (
            DeliveryMode::Init,
            0,
            true,
            &[Event::Init, Event::InjectionRequest, Event::Kick],
        ),
        (
            DeliveryMode::StartUp,
            0x9a,
            true,
            &[Event::StartUp(0x9a), Event::InjectionRequest, Event::Kick],
        ),
        (DeliveryMode::ExtInt, 0x20, false, &[]),
    ] {
        let machine = Machine::enabled();
        assert_eq!(machine.apic().accept(&message(mode, vector)), accepted);
        assert_eq!(*machine.events.borrow(), events);
    }
}

#[test]
fn an_smi_without_smm_is_dropped() {
    let machine = Machine::enabled();
    machine.has_smm.set(false);
    assert!(!machine.apic().accept(&message(DeliveryMode::Smi, 0)));
    assert!(!machine.has(Event::Kick));
}

#[test]
fn an_init_deassertion_is_dropped() {
    let machine = Machine::enabled();
    let mut init = message(DeliveryMode::Init, 0);
    init.trigger = Trigger::Level;
    init.assert = false;
    assert!(!machine.apic().accept(&init));
    assert!(!machine.has(Event::Init));
    init.assert = true;
    assert!(machine.apic().accept(&init));
}

#[test]
fn each_lvt_entry_delivers_its_vector_unless_masked() {
    for lvt in LVT {
        let machine = Machine::enabled();
        assert!(!machine.apic().local_deliver(lvt), "masked after reset");
        machine.write(lvt, 0x47);
        assert!(machine.apic().local_deliver(lvt));
        assert!(machine.regs.test(Vectors::Irr, 0x47));
        machine.write(lvt, 0x1_0048);
        assert!(!machine.apic().local_deliver(lvt));
        assert!(!machine.regs.test(Vectors::Irr, 0x48));
    }
}

#[test]
fn entries_with_a_delivery_mode_deliver_by_it_and_the_others_fixed() {
    for lvt in LVT {
        let machine = Machine::enabled();
        machine.write(lvt, 0x447);
        assert!(machine.apic().local_deliver(lvt));
        let has_mode = lvt != Offset::LVT_TIMER && lvt != Offset::LVT_ERROR;
        assert_eq!(machine.has(Event::Nmi), has_mode);
        assert_eq!(machine.regs.test(Vectors::Irr, 0x47), !has_mode);
    }
}

#[test]
fn only_the_lint_pins_can_be_level_triggered() {
    for lvt in LVT {
        let machine = Machine::enabled();
        machine.write(lvt, 0x8047);
        assert!(machine.apic().local_deliver(lvt));
        let is_pin = lvt == Offset::LVT_LINT0 || lvt == Offset::LVT_LINT1;
        assert_eq!(machine.regs.test(Vectors::Tmr, 0x47), is_pin);
    }
}

#[test]
fn an_illegal_vector_in_an_lvt_entry_is_requested_and_never_delivered() {
    let machine = Machine::enabled();
    machine.write(Offset::LVT_ERROR, 0x05);
    assert!(machine.apic().local_deliver(Offset::LVT_ERROR));
    assert!(machine.regs.test(Vectors::Irr, 5));
    assert_eq!(machine.take(), None);
}

#[test]
fn the_performance_counter_entry_masks_itself_on_intel() {
    for intel in [true, false] {
        let machine = Machine::enabled();
        machine.intel.set(intel);
        machine.write(Offset::LVT_PERFORMANCE, 0x400);
        assert!(machine.apic().local_deliver(Offset::LVT_PERFORMANCE));
        let masked = machine.read(Offset::LVT_PERFORMANCE) == 0x1_0400;
        assert_eq!(masked, intel);
        machine.write(Offset::LVT_THERMAL, 0x400);
        machine.apic().local_deliver(Offset::LVT_THERMAL);
        assert_eq!(machine.read(Offset::LVT_THERMAL), 0x400);
    }
}

#[test]
fn no_lvt_entry_delivers_while_the_apic_is_disabled_in_its_base() {
    let machine = Machine::enabled();
    machine.write(Offset::LVT_LINT1, 0x400);
    machine.apic().set_base(0xfee0_0000, true).unwrap();
    assert!(!machine.apic().local_deliver(Offset::LVT_LINT1));
    assert!(!machine.has(Event::Nmi));
}

#[test]
fn the_pic_gets_through_by_an_unmasked_extint_or_without_an_apic() {
    let machine = Machine::enabled();
    assert!(machine.apic().accepts_pic_interrupt(), "LINT0 quirk");
    machine.write(Offset::LVT_LINT0, 0x1_0700);
    assert!(!machine.apic().accepts_pic_interrupt());
    machine.write(Offset::LVT_LINT0, 0x0031);
    assert!(!machine.apic().accepts_pic_interrupt());
    machine.write(Offset::LVT_LINT0, 0x0700);
    assert!(machine.apic().accepts_pic_interrupt());
    machine.write(Offset::LVT_LINT0, 0x1_0700);
    machine.apic().set_base(0xfee0_0000, true).unwrap();
    assert!(machine.apic().accepts_pic_interrupt());
}
