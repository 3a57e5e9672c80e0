// SPDX-License-Identifier: GPL-2.0

//! State that is restored comes back in any order of the ioctls.

use super::fake::{Event, Machine};
use super::lapic::{Offset, SavedRegisters, Vectors};
use super::sync::Ordering;

const WITHOUT_DEADLINE_MODE: u32 = 1 << 17;
const WITH_DEADLINE_MODE: u32 = 3 << 17;
const XAPIC: u64 = 0xfee0_0900;
const X2APIC: u64 = 0xfee0_0d00;

/// What one ioctl restores.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Cpuid,
    Tsc,
    Base,
    Lapic,
    Deadline,
}

const PARTS: [Part; 5] = [
    Part::Cpuid,
    Part::Tsc,
    Part::Base,
    Part::Lapic,
    Part::Deadline,
];

/// All orders of the parts.
fn orders() -> Vec<Vec<Part>> {
    let mut orders = vec![vec![]];
    for _ in PARTS {
        orders = orders
            .iter()
            .flat_map(|order: &Vec<Part>| {
                let rest = PARTS.iter().filter(|part| !order.contains(part));
                rest.map(|&part| [order.as_slice(), &[part]].concat())
                    .collect::<Vec<_>>()
            })
            .collect();
    }
    orders
}

/// A vCPU's state, as far as the local APIC is concerned.
struct Saved {
    base: u64,
    registers: SavedRegisters,
    tsc_offset: u64,
    deadline: u64,
}

impl Saved {
    fn of(machine: &Machine) -> Self {
        Self {
            base: machine.apic_base.load(Ordering::Relaxed),
            registers: machine.saved(),
            tsc_offset: machine.tsc_offset.get(),
            deadline: machine.apic().tscdeadline(),
        }
    }

    fn restore_in(&self, order: &[Part], machine: &Machine) {
        for part in order {
            match part {
                Part::Cpuid => machine
                    .timer_mode_mask
                    .store(WITH_DEADLINE_MODE, Ordering::Relaxed),
                Part::Tsc => {
                    machine.tsc_offset.set(self.tsc_offset);
                    machine.apic().follow_tsc();
                }
                Part::Base => machine.apic().set_base(self.base, true).unwrap(),
                Part::Lapic => machine.apic().restore(&mut self.registers.clone()).unwrap(),
                Part::Deadline => machine.apic().restore_tscdeadline(self.deadline),
            }
        }
        machine.apic().begin_run();
    }
}

/// A vCPU of user space's before it restores anything.
fn fresh(base: u64) -> Machine {
    let machine = Machine::reset(0);
    machine.apic().set_base(base, true).unwrap();
    machine
        .timer_mode_mask
        .store(WITHOUT_DEADLINE_MODE, Ordering::Relaxed);
    machine.apic().begin_run();
    machine
}

fn with_deadline(machine: Machine) -> Machine {
    machine.tsc_offset.set(5_000_000_000);
    machine.apic().follow_tsc();
    let write = |register: Offset, value: u32| {
        if machine.apic().is_x2apic() {
            machine
                .apic()
                .msr_write(register.0.into(), value.into())
                .unwrap();
        } else {
            machine.write(register, value);
        }
    };
    write(Offset::LVT_TIMER, 0x4_0041);
    machine.apic().set_tscdeadline(machine.tsc() + 2_000_000);
    machine
}

#[test]
fn any_order_of_the_ioctls_restores_the_same() {
    let xapic = Machine::enabled();
    xapic.write(Offset::ID, 0x4200_0000);
    xapic.write(Offset::LDR, 0x0400_0000);
    xapic.interrupt(0x51);
    let x2apic = Machine::x2apic(0);
    x2apic.apic().msr_write(0x300, 0x1234_0000_0041).unwrap();
    for source in [with_deadline(xapic), with_deadline(x2apic)] {
        let saved = Saved::of(&source);
        assert_ne!(saved.deadline, 0);
        for order in orders() {
            for base in [XAPIC, X2APIC, 0xfee0_0100] {
                let machine = fresh(base);
                saved.restore_in(&order, &machine);
                let context = format!("{order:?} from {base:#x}");
                assert_eq!(machine.saved(), saved.registers, "{context}");
                assert_eq!(machine.apic().tscdeadline(), saved.deadline, "{context}");
                assert_eq!(machine.hrtimer.get(), source.hrtimer.get(), "{context}");
            }
        }
    }
}

#[test]
fn a_deadline_waits_for_its_mode_no_longer_than_until_the_vcpu_runs() {
    let machine = Machine::enabled();
    machine.apic().restore_tscdeadline(0x1234_5678);
    assert_eq!(machine.apic().tscdeadline(), 0x1234_5678, "reads back");
    assert_eq!(machine.hrtimer.get(), None, "there is no such mode yet");
    machine.apic().begin_run();
    assert_eq!(machine.apic().tscdeadline(), 0);
    machine.write(Offset::LVT_TIMER, 0x4_0041);
    machine.apic().begin_run();
    assert_eq!(machine.apic().tscdeadline(), 0);
    assert_eq!(machine.hrtimer.get(), None);
}

#[test]
fn a_deadline_of_zero_takes_back_one_that_waits() {
    let machine = Machine::enabled();
    let source = with_deadline(Machine::enabled());
    machine.apic().restore_tscdeadline(machine.tsc() + 1000);
    machine.apic().restore_tscdeadline(0);
    machine.apic().restore(&mut source.saved()).unwrap();
    machine.apic().begin_run();
    assert_eq!(machine.apic().tscdeadline(), 0);
    assert_eq!(machine.hrtimer.get(), None);
}

#[test]
fn a_reset_forgets_a_deadline_that_waits() {
    let machine = Machine::enabled();
    let source = with_deadline(Machine::enabled());
    machine.apic().restore_tscdeadline(machine.tsc() + 1000);
    machine.apic().reset(true);
    machine.apic().restore(&mut source.saved()).unwrap();
    machine.apic().begin_run();
    assert_eq!(machine.apic().tscdeadline(), 0);
    assert_eq!(machine.hrtimer.get(), None);
}

#[test]
fn the_guests_own_deadline_does_not_wait() {
    let machine = Machine::enabled();
    let source = with_deadline(Machine::enabled());
    machine.apic().set_tscdeadline(machine.tsc() + 1000);
    machine.apic().restore(&mut source.saved()).unwrap();
    machine.apic().begin_run();
    assert_eq!(machine.apic().tscdeadline(), 0);
    assert_eq!(machine.hrtimer.get(), None);
}

#[test]
fn ids_of_the_other_mode_are_not_taken_over() {
    let saved = Machine::x2apic(0).saved();
    let machine = fresh(X2APIC);
    machine.apic().restore(&mut saved.clone()).unwrap();
    machine.apic().set_base(XAPIC, true).unwrap();
    assert_eq!(machine.read(Offset::ID), 0);
    assert_eq!(machine.regs.read(Offset::LDR), saved[0xd0 / 4], "as KVM");
}

#[test]
fn ids_that_the_guest_has_had_time_to_change_are_not_taken_over() {
    let machine = Machine::enabled();
    machine.write(Offset::LDR, 0x0400_0000);
    let mut saved = machine.saved();
    machine.apic().restore(&mut saved).unwrap();
    machine.apic().begin_run();
    machine.apic().set_base(X2APIC, true).unwrap();
    machine.apic().set_base(XAPIC, true).unwrap();
    assert_ne!(machine.regs.read(Offset::LDR), 0x0400_0000);
}

#[test]
fn who_owes_the_rtc_an_eoi_is_told_again_by_the_id_that_is_taken_over() {
    let machine = Machine::enabled();
    machine.write(Offset::ID, 5 << 24);
    let mut saved = machine.saved();
    let machine = fresh(X2APIC);
    machine.apic().restore(&mut saved).unwrap();
    let before = Event::RtcRestore { id_changed: false };
    let after = Event::RtcRestore { id_changed: true };
    assert!(machine.has(before) && !machine.has(after));
    machine.apic().set_base(XAPIC, true).unwrap();
    assert_eq!(machine.read(Offset::ID), 5 << 24);
    assert!(machine.has(after));
}

/// Moves what is saved to another machine, where vector 0x41 has to come once,
/// and then from the one that was saved, which goes on as if it had not been.
fn expect_once(saved: &Saved, machine: &Machine) {
    let other = fresh(XAPIC);
    saved.restore_in(&PARTS, &other);
    for machine in [&other, machine] {
        machine.advance(2_000_000);
        machine.apic().inject_timer();
        assert_eq!(machine.take(), Some(0x41));
        machine.write(Offset::EOI, 0);
        machine.apic().inject_timer();
        assert_eq!(machine.take(), None, "once");
        assert_eq!(machine.apic().tscdeadline(), 0);
    }
}

#[test]
fn the_registers_hold_a_count_that_has_run_out_but_is_not_delivered() {
    for posts in [false, true] {
        let machine = Machine::enabled();
        if posts {
            *machine.posted.borrow_mut() = Some(Vec::new());
        }
        machine.write(Offset::LVT_TIMER, 0x41);
        machine.write(Offset::INITIAL_COUNT, 1_000_000);
        machine.advance(2_000_000_000);
        assert_eq!(machine.apic().pending_timer(), 1);
        let saved = Saved::of(&machine);
        assert_eq!(saved.registers[0x220 / 4], 1 << 1, "in IRR");
        expect_once(&saved, &machine);
    }
}

#[test]
fn the_msr_holds_a_deadline_that_has_passed_but_is_not_delivered() {
    let machine = with_deadline(Machine::enabled());
    let deadline = machine.apic().tscdeadline();
    machine.advance(2_000_000);
    assert_eq!(machine.apic().pending_timer(), 1);
    let saved = Saved::of(&machine);
    // In whatever order they are saved: in one of the two, and not in both.
    assert_eq!(saved.deadline, deadline);
    assert_eq!(saved.registers[0x220 / 4], 0);
    expect_once(&saved, &machine);
}

#[test]
fn a_timer_that_is_masked_stays_pending_over_a_save() {
    let machine = Machine::enabled();
    machine.write(Offset::LVT_TIMER, 0x41);
    machine.write(Offset::INITIAL_COUNT, 1_000_000);
    machine.advance(2_000_000_000);
    machine.write(Offset::LVT_TIMER, 0x1_0041);
    assert_eq!(machine.saved()[0x220 / 4], 0);
    machine.write(Offset::LVT_TIMER, 0x41);
    assert_eq!(machine.apic().pending_timer(), 1);
    assert_eq!(machine.regs.parts(Vectors::Irr), 0);
}

#[test]
fn a_deadline_follows_the_tsc() {
    let machine = with_deadline(Machine::enabled());
    let armed = machine.hrtimer.get().unwrap();
    // 100 us back in time.
    machine.tsc_offset.set(machine.tsc_offset.get() - 200_000);
    machine.apic().follow_tsc();
    assert_eq!(machine.hrtimer.get(), Some(armed + 100_000));
    // And beyond it.
    machine
        .tsc_offset
        .set(machine.tsc_offset.get() + 10_000_000);
    machine.apic().follow_tsc();
    assert_eq!(machine.apic().pending_timer(), 1);
}

#[test]
fn a_count_does_not_follow_the_tsc_on_either_clock() {
    for has_hv_timer in [false, true] {
        let machine = Machine::enabled();
        machine.apic().begin_run();
        machine.has_hv_timer.set(has_hv_timer);
        machine.write(Offset::LVT_TIMER, 0x41);
        machine.write(Offset::INITIAL_COUNT, 1_000_000);
        let (hrtimer, hv_timer) = (machine.hrtimer.get(), machine.hv_timer.get());
        machine.tsc_offset.set(machine.tsc_offset.get() + 4242);
        machine.apic().follow_tsc();
        assert_eq!(machine.hrtimer.get(), hrtimer);
        assert_eq!(machine.hv_timer.get(), hv_timer.map(|tsc| tsc + 4242));
    }
}

#[test]
fn what_was_armed_stays_in_the_mode_that_there_is_not() {
    let machine = Machine::enabled();
    machine.apic().begin_run();
    machine.write(Offset::LVT_TIMER, 0x41);
    machine.write(Offset::INITIAL_COUNT, 1_000_000);
    machine.write(Offset::LVT_TIMER, 0x6_0041);
    let armed = machine.hrtimer.get();
    assert!(armed.is_some());
    machine.tsc_offset.set(machine.tsc_offset.get() + 4242);
    machine.apic().follow_tsc();
    assert_eq!(machine.hrtimer.get(), armed);
}
