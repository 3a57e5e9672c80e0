// SPDX-License-Identifier: GPL-2.0

//! Reset, save and restore.

use super::super::page::SAVED_WORDS;
use super::fake::{Event, Machine};
use super::lapic::{Invalid, Offset, Vectors};
use super::sync::Ordering;

fn index(register: Offset) -> usize {
    usize::from(register.0) / 4
}

#[test]
fn a_reset_enables_the_apic_at_its_architectural_address() {
    for (id, base) in [(0, 0xfee0_0900), (7, 0xfee0_0800)] {
        let machine = Machine::created(id);
        machine.apic().reset(false);
        assert_eq!(machine.apic_base.load(Ordering::Relaxed), base);
        assert_eq!(machine.read(Offset::ID), id << 24);
        assert!(!machine.software_enabled.load(Ordering::Relaxed));
    }
}

#[test]
fn an_init_keeps_base_id_and_in_x2apic_mode_the_logical_id() {
    let machine = Machine::enabled();
    machine.write(Offset::ID, 0x4200_0000);
    machine.write(Offset::LDR, 0x0100_0000);
    machine.apic().reset(true);
    assert_eq!(machine.read(Offset::ID), 0x4200_0000);
    assert_eq!(machine.read(Offset::LDR), 0);
    assert_eq!(machine.read(Offset::SPURIOUS), 0xff);

    let machine = Machine::x2apic(0x33);
    machine.apic().msr_write(0x300, 0x1_0000_0041).unwrap();
    machine.apic().reset(true);
    assert_eq!(machine.apic().msr_read(0x20), Ok(0x33));
    assert_eq!(machine.apic().msr_read(0xd0), Ok(0x0003_0008));
    assert_eq!(machine.apic().msr_read(0x300), Ok(0));
}

#[test]
fn a_reset_drops_what_was_requested_and_in_service() {
    let machine = Machine::enabled();
    machine.interrupt(0x40);
    machine.level_interrupt(0x50);
    machine.take();
    machine.write(Offset::TPR, 0x90);
    machine.apic().reset(true);
    assert_eq!(machine.take(), None);
    assert_eq!(machine.apic().highest_in_service(), None);
    assert_eq!(machine.read(Offset::PPR), 0);
    for vectors in [Vectors::Irr, Vectors::Isr, Vectors::Tmr] {
        assert_eq!(machine.regs.parts(vectors), 0);
    }
}

#[test]
fn a_reset_stops_the_timer() {
    let machine = Machine::enabled();
    machine.write(Offset::LVT_TIMER, 0x2_0040);
    machine.write(Offset::INITIAL_COUNT, 1_000_000);
    machine.apic().reset(true);
    assert_eq!(machine.hrtimer.get(), None);
    assert_eq!(machine.advance(10_000_000), 0);
    assert_eq!(machine.read(Offset::CURRENT_COUNT), 0);
}

#[test]
fn lint0_is_an_extint_on_the_bootstrap_processor_where_the_quirk_is_on() {
    for (id, quirk, value) in [(0, true, 0x700), (0, false, 0x1_0000), (1, true, 0x1_0000)] {
        let machine = Machine::created(id);
        machine.lint0_quirk.set(quirk);
        machine.apic().reset(false);
        assert_eq!(machine.read(Offset::LVT_LINT0), value);
    }
}

#[test]
fn a_reset_tells_the_vendor_code_and_clears_the_attention() {
    let machine = Machine::enabled();
    machine.attention.store(3, Ordering::Relaxed);
    machine.arbitration_priority.store(9, Ordering::Relaxed);
    machine.pv_eoi_enabled.set(true);
    machine.apicv_active.store(true, Ordering::Relaxed);
    machine.apic().reset(false);
    assert_eq!(machine.events.borrow()[0], Event::PreRestore);
    assert!(machine.has(Event::PostRestore));
    assert!(machine.has(Event::HighestInService(None)));
    assert_eq!(machine.attention.load(Ordering::Relaxed), 0);
    assert_eq!(machine.arbitration_priority.load(Ordering::Relaxed), 0);
    assert!(!machine.pv_eoi_enabled.get());
    assert_eq!(
        machine.events.borrow().last(),
        Some(&Event::MapRecalculated)
    );
}

fn busy() -> Machine {
    let machine = Machine::enabled();
    machine.write(Offset::LDR, 0x0200_0000);
    machine.write(Offset::TPR, 0x15);
    for vector in [0x21, 0x43, 0x65] {
        machine.interrupt(vector);
    }
    machine.take();
    machine.level_interrupt(0x87);
    machine.write(Offset::LVT_LINT0, 0x8731);
    machine.write(Offset::ICR_HIGH, 0x0900_0000);
    machine.write(Offset::ICR, 0x4099);
    machine
}

#[test]
fn a_saved_apic_restores_to_the_same_state_and_goes_on_the_same() {
    let old = busy();
    let mut saved = old.saved();
    let new = Machine::reset(0);
    new.apic().restore(&mut saved).unwrap();
    assert!(new.has(Event::InjectionRequest));
    // PPR is computed before ISR has been counted, as in KVM, so it is right
    // from the next look for an interrupt on.
    assert_eq!(new.apic().has_interrupt(), Some(0x87));
    assert_eq!(new.saved(), old.saved());
    assert!(new.has(Event::RtcRestore { id_changed: false }));

    for machine in [&old, &new] {
        assert_eq!(machine.take(), Some(0x87));
        machine.eoi();
        machine.eoi();
        assert_eq!(machine.take(), Some(0x43));
        machine.eoi();
        assert_eq!(machine.take(), Some(0x21));
        machine.eoi();
        assert_eq!(machine.take(), None);
        assert_eq!(machine.apic().highest_in_service(), None);
    }
}

#[test]
fn a_save_changes_nothing() {
    let machine = busy();
    let first = machine.saved();
    assert_eq!(machine.saved(), first);
    assert_eq!(machine.take(), Some(0x87));
}

#[test]
fn a_counting_timer_goes_on_where_it_was_after_a_restore() {
    for lvt in [0x0040, 0x2_0040] {
        let old = Machine::enabled();
        old.write(Offset::DIVIDE, 0xb);
        old.write(Offset::LVT_TIMER, lvt);
        old.write(Offset::INITIAL_COUNT, 1_000_000);
        old.advance(300_000);
        let mut saved = old.saved();
        assert_eq!(saved[index(Offset::CURRENT_COUNT)], 700_000);

        let new = Machine::reset(0);
        new.now.set(5_000_000_000);
        new.apic().restore(&mut saved).unwrap();
        assert_eq!(new.hrtimer.get(), Some(5_000_700_000));
        assert_eq!(new.read(Offset::CURRENT_COUNT), 700_000);
        assert_eq!(new.saved(), old.saved());
    }
}

#[test]
fn a_periodic_timer_saved_at_zero_starts_a_new_period_and_a_one_shot_expires() {
    for (lvt, expires) in [(0x2_0040, Some(1_000_000)), (0x0040, None)] {
        let machine = Machine::enabled();
        machine.write(Offset::DIVIDE, 0xb);
        machine.write(Offset::LVT_TIMER, lvt);
        let mut saved = machine.saved();
        saved[index(Offset::INITIAL_COUNT)] = 1_000_000;
        let start = machine.now.get();
        machine.apic().restore(&mut saved).unwrap();
        match expires {
            Some(ns) => assert_eq!(machine.hrtimer.get(), Some(start + ns)),
            None => {
                machine.advance(1);
                assert_eq!(machine.apic().pending_timer(), 1);
            }
        }
    }
}

#[test]
fn a_current_count_above_the_initial_one_is_the_initial_one() {
    let machine = Machine::enabled();
    machine.write(Offset::DIVIDE, 0xb);
    let mut saved = machine.saved();
    saved[index(Offset::INITIAL_COUNT)] = 1000;
    saved[index(Offset::CURRENT_COUNT)] = u32::MAX;
    let start = machine.now.get();
    machine.apic().restore(&mut saved).unwrap();
    assert_eq!(machine.hrtimer.get(), Some(start + 1000));
    assert_eq!(machine.regs.read(Offset::CURRENT_COUNT), 0);
}

#[test]
fn a_restore_cancels_both_clocks_and_what_they_had_pending() {
    let machine = Machine::enabled();
    let mut quiet = machine.saved();
    machine.has_hv_timer.set(true);
    machine.write(Offset::LVT_TIMER, 0x4_0040);
    machine.apic().set_tscdeadline(machine.tsc() + 1000);
    assert!(machine.hv_timer.get().is_some());
    machine.apic().restore(&mut quiet).unwrap();
    assert_eq!(machine.hv_timer.get(), None);
    assert!(!machine.hv_timer_in_use.load(Ordering::Relaxed));

    machine.has_hv_timer.set(false);
    machine.write(Offset::LVT_TIMER, 0x0040);
    machine.write(Offset::INITIAL_COUNT, 1000);
    machine.advance(10_000);
    assert_eq!(machine.apic().pending_timer(), 1);
    machine.apic().restore(&mut quiet).unwrap();
    machine.write(Offset::LVT_TIMER, 0x0040);
    assert_eq!(machine.apic().pending_timer(), 0);
}

#[test]
fn a_restore_to_the_same_mode_leaves_no_timer_running_on_either_clock() {
    for has_hv_timer in [false, true] {
        let machine = Machine::enabled();
        machine.write(Offset::LVT_TIMER, 0x2_0040);
        let mut stopped = machine.saved();
        machine.has_hv_timer.set(has_hv_timer);
        machine.write(Offset::INITIAL_COUNT, 1_000_000);
        assert_eq!(machine.hv_timer.get().is_some(), has_hv_timer);
        machine.apic().restore(&mut stopped).unwrap();
        assert_eq!(machine.hv_timer.get(), None);
        assert_eq!(machine.hrtimer.get(), None);
        assert!(!machine.hv_timer_in_use.load(Ordering::Relaxed));
    }
}

#[test]
fn the_software_enable_bit_is_counted_by_a_restore() {
    let machine = Machine::enabled();
    let mut saved = machine.saved();
    saved[index(Offset::SPURIOUS)] = 0xff;
    machine.apic().restore(&mut saved).unwrap();
    assert!(machine.has(Event::SoftwareEnabled(false)));
    assert!(!machine.interrupt(0x40));
}

#[test]
fn the_version_is_the_hosts_and_not_the_one_restored() {
    let machine = Machine::enabled();
    let mut saved = machine.saved();
    saved[index(Offset::VERSION)] = 0xdead_beef;
    machine.apic().restore(&mut saved).unwrap();
    assert_eq!(machine.read(Offset::VERSION), 0x0005_0014);
}

#[test]
fn the_x2apic_id_is_saved_in_either_format() {
    for (format, id) in [(false, 0x1200_0000), (true, 0x12)] {
        let machine = Machine::x2apic(0x12);
        machine.x2apic_format.set(format);
        assert_eq!(machine.saved()[index(Offset::ID)], id);
        let mut saved = machine.saved();
        machine.apic().restore(&mut saved).unwrap();
        assert_eq!(machine.apic().msr_read(0x20), Ok(0x12));
    }
}

#[test]
fn another_x2apic_id_is_refused_with_32_bit_ids_and_ignored_without() {
    let machine = Machine::x2apic(0x12);
    let mut saved = machine.saved();
    saved[index(Offset::ID)] = 0x99;
    saved[index(Offset::LDR)] = 0x99;
    machine.apic().restore(&mut saved).unwrap();
    assert_eq!(machine.apic().msr_read(0x20), Ok(0x12));
    assert_eq!(machine.apic().msr_read(0xd0), Ok(0x0001_0004));

    machine.x2apic_format.set(true);
    saved[index(Offset::ID)] = 0x99;
    saved[index(Offset::TPR)] = 0x33;
    machine.forget();
    assert_eq!(machine.apic().restore(&mut saved), Err(Invalid));
    assert_eq!(machine.apic().msr_read(0x80), Ok(0));
    assert!(machine.has(Event::MapRecalculated));
    machine.regs.write(Offset::ID, 0x99);
    let mut buffer = [0; SAVED_WORDS];
    assert_eq!(machine.apic().save(&mut buffer), Err(Invalid));
}

#[test]
fn the_xapic_id_is_what_is_restored() {
    let machine = Machine::enabled();
    let mut saved = machine.saved();
    saved[index(Offset::ID)] = 0x9900_0000;
    machine.x2apic_format.set(true);
    machine.apic().restore(&mut saved).unwrap();
    assert_eq!(machine.apic().identity().xapic_id, 0x99);
}

#[test]
fn user_space_sees_two_halves_of_the_x2apic_icr_whatever_the_hardware_has() {
    for (from_split, to_split) in [(false, false), (false, true), (true, false), (true, true)] {
        let old = Machine::x2apic(0);
        old.icr_is_split.set(from_split);
        old.apic().msr_write(0x300, 0x1234_5678_0000_0041).unwrap();
        let mut saved = old.saved();
        assert_eq!(saved[index(Offset::ICR)], 0x41);
        assert_eq!(saved[index(Offset::ICR_HIGH)], 0x1234_5678);

        let new = Machine::x2apic(0);
        new.icr_is_split.set(to_split);
        new.apic().restore(&mut saved).unwrap();
        assert_eq!(new.apic().msr_read(0x300), Ok(0x1234_5678_0000_0041));
    }
}

#[test]
fn apicv_learns_of_restored_registers() {
    let machine = Machine::enabled();
    machine.interrupt(0x50);
    machine.take();
    let mut saved = machine.saved();
    let machine = Machine::enabled();
    machine.apicv_active.store(true, Ordering::Relaxed);
    machine.apic().restore(&mut saved).unwrap();
    assert_eq!(machine.events.borrow()[0], Event::PreRestore);
    assert!(machine.has(Event::HighestInService(Some(0x50))));
    assert!(machine.has(Event::PostRestore));
}

#[test]
fn ppr_is_saved_as_it_is_if_the_cpu_has_changed_tpr() {
    let machine = Machine::enabled();
    machine.shadows_tpr.set(true);
    machine.write_cr8(0x40);
    assert_eq!(machine.saved()[usize::from(Offset::PPR.0) / 4], 0x40);
}
