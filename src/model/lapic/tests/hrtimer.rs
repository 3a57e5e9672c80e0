// SPDX-License-Identifier: GPL-2.0

//! The hrtimer is armed anew while its callback for the expiry before comes.

use super::fake::Machine;
use super::lapic::Offset;
use super::sync::Ordering;
use super::timer::{ONE_SHOT, PERIODIC, TSC_DEADLINE};

/// What the guest arms the timer with, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Armed {
    Deadline,
    Count,
}

impl Armed {
    const ALL: [Self; 2] = [Self::Deadline, Self::Count];

    /// The timer counts ns, and the TSC two of them.
    fn machine(self) -> Machine {
        let machine = Machine::enabled();
        machine.write(Offset::DIVIDE, 0xb);
        machine.write(
            Offset::LVT_TIMER,
            match self {
                Self::Deadline => TSC_DEADLINE,
                Self::Count => ONE_SHOT,
            },
        );
        machine
    }

    fn arm(self, machine: &Machine, ns: u32) {
        match self {
            Self::Deadline => {
                let deadline = machine.tsc() + 2 * u64::from(ns);
                machine.apic().set_tscdeadline(deadline);
            }
            Self::Count => machine.write(Offset::INITIAL_COUNT, ns),
        }
    }
}

fn pending(machine: &Machine) -> u32 {
    machine.timer_pending.load(Ordering::Relaxed)
}

#[test]
fn the_next_expiry_takes_the_place_of_the_last() {
    for armed in Armed::ALL {
        let machine = armed.machine();
        armed.arm(&machine, 500_000);
        let cancels = machine.cancels.get();
        armed.arm(&machine, 700_000);
        assert_eq!(machine.cancels.get(), cancels, "{armed:?}");
        assert_eq!(machine.advance(699_999), 0, "{armed:?}");
        assert_eq!(machine.advance(1), 1, "{armed:?}");
        armed.arm(&machine, 500_000);
        assert_eq!(pending(&machine), 0, "{armed:?}");
        assert_eq!(machine.cancels.get(), cancels, "{armed:?}");
    }
}

/// A slow one that nobody has waited for.
fn let_callback_end(machine: &Machine) {
    if machine.callback_runs.get() {
        machine.callback_ends();
    }
}

/// Each way in which the callback of the last expiry may overlap.
fn overlapping(test: impl Fn(Machine, Armed)) {
    for armed in Armed::ALL {
        for slow in [false, true] {
            let machine = armed.machine();
            armed.arm(&machine, 500_000);
            machine.now.set(machine.now.get() + 500_000);
            machine.callback_is_late.set(true);
            machine.callback_is_slow.set(slow);
            test(machine, armed);
        }
    }
}

#[test]
fn an_expiry_that_comes_while_it_is_replaced_is_undone() {
    overlapping(|machine, armed| {
        armed.arm(&machine, 700_000);
        let_callback_end(&machine);
        let deadline = machine.apic().tscdeadline();
        assert_eq!(deadline != 0, armed == Armed::Deadline);
        assert_eq!(pending(&machine), 0);
        assert_eq!(machine.expired_tscdeadline.load(Ordering::Relaxed), 0);
        assert_eq!(machine.hrtimer.get(), Some(machine.now.get() + 700_000));
        machine.callback_is_late.set(false);
        assert_eq!(machine.advance(699_999), 0);
        assert_eq!(pending(&machine), 0);
        assert_eq!(machine.apic().tscdeadline(), deadline);
        assert_eq!(machine.advance(1), 1);
        assert_eq!(pending(&machine), 1);
    });
}

#[test]
fn an_expiry_that_comes_while_the_timer_is_stopped_is_undone() {
    overlapping(|machine, armed| {
        match armed {
            Armed::Deadline => machine.apic().set_tscdeadline(0),
            Armed::Count => machine.write(Offset::INITIAL_COUNT, 0),
        }
        assert_eq!(pending(&machine), 0);
        assert_eq!(machine.hrtimer.get(), None);
        assert_eq!(machine.apic().tscdeadline(), 0);
    });
}

#[test]
fn a_deadline_that_is_over_comes_once() {
    overlapping(|machine, _| {
        if machine.read(Offset::LVT_TIMER) & 0x6_0000 == TSC_DEADLINE & 0x6_0000 {
            machine.apic().set_tscdeadline(machine.tsc() - 1);
            assert_eq!(pending(&machine), 1);
            assert_eq!(machine.hrtimer.get(), None);
        }
    });
}

#[test]
fn a_replacement_that_comes_at_once_is_not_undone() {
    for armed in Armed::ALL {
        let machine = armed.machine();
        armed.arm(&machine, 500_000);
        machine.arrives_at_once.set(true);
        armed.arm(&machine, 700_000);
        machine.arrives_at_once.set(false);
        assert_eq!(pending(&machine), 1, "{armed:?}");
        assert_eq!(machine.hrtimer.get(), None, "{armed:?}");
        machine.apic().inject_timer();
        assert_eq!(machine.take(), Some(0x40));
        assert_eq!(machine.apic().tscdeadline(), 0, "{armed:?}");
        assert_eq!(machine.advance(10_000_000), 0, "{armed:?}");
    }
}

/// The callback of a periodic timer arms the hrtimer again, which must not be
/// queued then: the machine looks for that.
#[test]
fn a_periodic_timers_callback_is_waited_for() {
    for (first, then) in [
        (PERIODIC, PERIODIC),
        (PERIODIC, ONE_SHOT),
        (ONE_SHOT, PERIODIC),
    ] {
        for slow in [false, true] {
            let machine = Armed::Count.machine();
            machine.write(Offset::LVT_TIMER, first);
            machine.write(Offset::INITIAL_COUNT, 500_000);
            machine.now.set(machine.now.get() + 500_000);
            machine.callback_is_late.set(true);
            machine.callback_is_slow.set(slow);
            // It may have found the timer periodic before this.
            machine.write(Offset::LVT_TIMER, then);
            let cancels = machine.cancels.get();
            machine.write(Offset::INITIAL_COUNT, 700_000);
            let_callback_end(&machine);
            assert_eq!(machine.cancels.get(), cancels + 1);
            assert_eq!(pending(&machine), 0);
            assert_eq!(machine.hrtimer.get(), Some(machine.now.get() + 700_000));
        }
    }
}

#[test]
fn the_cpus_timer_takes_the_place_of_the_hrtimer() {
    overlapping(|machine, armed| {
        machine.has_hv_timer.set(true);
        armed.arm(&machine, 700_000);
        let deadline = machine.tsc() + 1_400_000;
        assert_eq!(machine.hv_timer.get(), Some(deadline));
        assert!(machine.hv_timer_in_use.load(Ordering::Relaxed));
        assert_eq!(machine.hrtimer.get(), None);
        assert_eq!(pending(&machine), 0);
        if armed == Armed::Deadline {
            assert_eq!(machine.apic().tscdeadline(), deadline);
        }
    });
}

#[test]
fn the_hrtimer_takes_the_place_of_the_cpus_timer() {
    overlapping(|machine, armed| {
        machine.has_hv_timer.set(true);
        armed.arm(&machine, 700_000);
        machine.hv_timer_refuses.set(true);
        armed.arm(&machine, 900_000);
        assert!(!machine.hv_timer_in_use.load(Ordering::Relaxed));
        assert_eq!(machine.hv_timer.get(), None);
        assert_eq!(machine.hrtimer.get(), Some(machine.now.get() + 900_000));
        assert_eq!(pending(&machine), 0);
    });
}

#[test]
fn nothing_is_stopped_that_was_not_armed() {
    let machine = Armed::Deadline.machine();
    machine.has_hv_timer.set(true);
    let cancels = machine.cancels.get();
    for _ in 0..3 {
        Armed::Deadline.arm(&machine, 700_000);
    }
    assert!(machine.hv_timer_in_use.load(Ordering::Relaxed));
    machine.apic().migrate_timer();
    assert_eq!(machine.cancels.get(), cancels);
}

#[test]
fn an_hrtimer_that_is_started_while_it_expires_is_stopped_all_the_same() {
    for slow in [false, true] {
        let machine = Armed::Deadline.machine();
        machine.has_hv_timer.set(true);
        machine.hv_timer_refuses.set(true);
        machine.timer_advance_ns.store(1000, Ordering::Relaxed);
        Armed::Deadline.arm(&machine, 500_000);
        // By its advance it comes when there is time left.
        machine.now.set(machine.now.get() + 499_000 - 1);
        machine.callback_is_late.set(true);
        machine.callback_is_slow.set(slow);
        machine.now.set(machine.now.get() + 1);
        machine.timer_advance_ns.store(0, Ordering::Relaxed);
        machine.apic().switch_to_hv_timer();
        assert!(machine.hrtimer.get().is_some());
        machine.apic().set_tscdeadline(0);
        let_callback_end(&machine);
        assert_eq!(machine.hrtimer.get(), None);
        assert_eq!(pending(&machine), 0);
    }
}
