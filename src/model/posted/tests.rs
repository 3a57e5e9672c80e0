// SPDX-License-Identifier: GPL-2.0

//! The descriptor, and the transitions one at a time. What others do between
//! their steps is in `selftests/host/posted_interleavings.rs`.

use super::{Descriptor, Host, Life, Notification, Phase, Sleepers, CAPACITY};
use std::boxed::Box;
use std::cell::RefCell;
use std::vec::Vec;

const ACTIVE_VECTOR: u8 = 0xf2;
const WAKEUP_VECTOR: u8 = 0xf1;

/// What the machine was asked for, in order.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    Add(u32),
    Remove(u32),
    WakeupToSelf,
}

#[derive(Default)]
struct FakeHost {
    asked: RefCell<Vec<Asked>>,
}

impl FakeHost {
    fn take(&self) -> Vec<Asked> {
        self.asked.take()
    }
}

impl Host for FakeHost {
    fn destination(&self, cpu: u32) -> u32 {
        // As in xAPIC mode.
        cpu << 8
    }

    fn active_vector(&self) -> u8 {
        ACTIVE_VECTOR
    }

    fn wakeup_vector(&self) -> u8 {
        WAKEUP_VECTOR
    }

    fn add_sleeper(&self, cpu: u32) {
        self.asked.borrow_mut().push(Asked::Add(cpu));
    }

    fn remove_sleeper(&self, cpu: u32) {
        self.asked.borrow_mut().push(Asked::Remove(cpu));
    }

    fn send_wakeup_to_self(&self) {
        self.asked.borrow_mut().push(Asked::WakeupToSelf);
    }
}

/// A vCPU in that phase, on which nothing is posted.
fn life_in(phase: Phase) -> (FakeHost, Life<Box<Descriptor>>) {
    let host = FakeHost::default();
    let life = Life::new(Box::default(), &host);
    match phase {
        Phase::Created => {}
        Phase::Active(cpu) => {
            life.activate(&host, cpu);
        }
        Phase::Ready(cpu) => {
            life.activate(&host, cpu);
            life.suppress();
        }
        Phase::Halted(cpu) => {
            life.activate(&host, cpu);
            life.halt(&host);
        }
    }
    assert_eq!(life.phase(), phase);
    host.take();
    (host, life)
}

const PHASES: [Phase; 4] = [
    Phase::Created,
    Phase::Active(3),
    Phase::Ready(3),
    Phase::Halted(3),
];

/// What the type's documentation promises of each phase.
fn assert_invariants(life: &Life<Box<Descriptor>>) {
    let control = life.descriptor().control();
    let (suppressed, vector, cpu) = match life.phase() {
        Phase::Created => (true, ACTIVE_VECTOR, 0),
        Phase::Active(cpu) => (false, ACTIVE_VECTOR, cpu),
        Phase::Ready(cpu) => (true, ACTIVE_VECTOR, cpu),
        Phase::Halted(cpu) => (false, WAKEUP_VECTOR, cpu),
    };
    assert_eq!(control.is_suppressed(), suppressed, "{:?}", life.phase());
    let notification = control.notification();
    assert_eq!(notification.vector, vector, "{:?}", life.phase());
    assert_eq!(notification.destination, cpu << 8, "{:?}", life.phase());
}

#[test]
fn the_control_word_is_as_the_hardware_has_it() {
    let host = FakeHost::default();
    let life = Life::new(Box::default(), &host);
    life.activate(&host, 0x12);
    life.descriptor().post(0);
    // NDST in bits 63:32, in xAPIC mode 15:8 of it; NV in 23:16; ON in bit 0.
    let control = life.descriptor().control();
    assert_eq!(
        format!("{control:?}"),
        format!("Control({})", 0x1200_00f2_0001_u64)
    );
    let ready = life_in(Phase::Ready(0)).1;
    let control = ready.descriptor().control();
    assert_eq!(format!("{control:?}"), format!("Control({})", 0xf2_0002));
}

#[test]
fn each_transition_leads_from_each_phase_to_one_that_is_as_promised() {
    for phase in PHASES {
        for posted in [false, true] {
            for cpu in [3, 4] {
                let (host, life) = life_in(phase);
                if posted {
                    life.descriptor().post_as_hardware(0x40);
                }
                assert_eq!(life.activate(&host, cpu), posted, "{phase:?}");
                assert_eq!(life.phase(), Phase::Active(cpu));
                assert_invariants(&life);
                let left = match phase {
                    Phase::Halted(cpu) => vec![Asked::Remove(cpu)],
                    _ => vec![],
                };
                assert_eq!(host.take(), left, "from {phase:?} to {cpu}");
            }

            let (host, life) = life_in(phase);
            if posted {
                life.descriptor().post_as_hardware(0x40);
            }
            life.halt(&host);
            assert_invariants(&life);
            let asked = host.take();
            match phase {
                Phase::Active(cpu) => {
                    assert_eq!(life.phase(), Phase::Halted(cpu));
                    assert_eq!(asked[0], Asked::Add(cpu));
                    assert_eq!(asked[1..].contains(&Asked::WakeupToSelf), posted);
                }
                _ => {
                    assert_eq!(life.phase(), phase, "only what is active halts");
                    assert_eq!(asked, []);
                }
            }

            let (_, life) = life_in(phase);
            life.suppress();
            assert_invariants(&life);
            match phase {
                Phase::Active(cpu) => assert_eq!(life.phase(), Phase::Ready(cpu)),
                _ => assert_eq!(life.phase(), phase, "only what is active is put"),
            }
        }

        let (host, life) = life_in(phase);
        life.end(&host);
        assert_invariants(&life);
        let sleeps = matches!(phase, Phase::Halted(_));
        assert_eq!(host.take().contains(&Asked::Remove(3)), sleeps);
        assert_eq!(
            life.descriptor().post_as_hardware(0x40).is_some(),
            phase == Phase::Active(3)
        );
    }
}

#[test]
fn hardware_notifies_whom_the_phase_names_and_once() {
    let active = Notification {
        vector: ACTIVE_VECTOR,
        destination: 3 << 8,
    };
    let wakeup = Notification {
        vector: WAKEUP_VECTOR,
        ..active
    };
    for (phase, first) in [
        (Phase::Created, None),
        (Phase::Active(3), Some(active)),
        (Phase::Ready(3), None),
        (Phase::Halted(3), Some(wakeup)),
    ] {
        let (_, life) = life_in(phase);
        assert_eq!(life.descriptor().post_as_hardware(0x40), first, "{phase:?}");
        assert_eq!(
            life.descriptor().post_as_hardware(0x41),
            None,
            "outstanding"
        );
        assert!(life.descriptor().is_pending(), "{phase:?}");
    }
}

#[test]
fn a_bit_that_suppression_has_left_is_notified_by_the_next_one() {
    let (host, life) = life_in(Phase::Ready(3));
    assert_eq!(life.descriptor().post_as_hardware(0x40), None);
    assert!(!life.descriptor().control().is_outstanding());
    // The same vector again, after the suppression, before anybody has looked.
    life.descriptor().unsuppress();
    assert!(life.descriptor().post_as_hardware(0x40).is_some());
    assert!(life.activate(&host, 3));
}

#[test]
fn software_tells_whatever_sn_says_and_only_of_what_is_new() {
    for phase in PHASES {
        let (_, life) = life_in(phase);
        assert!(life.descriptor().post(0x40), "{phase:?}");
        assert!(!life.descriptor().post(0x40), "the same");
        assert!(!life.descriptor().post(0x41), "outstanding");
    }
}

#[test]
fn each_vector_is_harvested_once_and_where_it_belongs() {
    let descriptor = Descriptor::default();
    assert_eq!(descriptor.harvest(), None);
    for vector in 0..=255 {
        assert!(descriptor.post(vector));
        let mut pir = [0; 4];
        pir[usize::from(vector) / 64] = 1 << (vector % 64);
        assert!(!descriptor.is_empty());
        assert_eq!(descriptor.harvest(), Some(pir));
        assert!(descriptor.is_empty() && !descriptor.is_pending());
        assert_eq!(descriptor.harvest(), None);
    }
}

#[test]
fn nothing_is_left_by_a_reset() {
    let (host, life) = life_in(Phase::Active(3));
    life.descriptor().post(0x40);
    life.descriptor().post(0xff);
    life.descriptor().clear();
    assert_invariants(&life);
    assert!(!life.descriptor().is_pending());
    assert!(!life.activate(&host, 3));
    assert_eq!(life.descriptor().harvest(), None);
}

#[test]
fn a_vcpu_that_stays_where_it_is_costs_no_change() {
    let (host, life) = life_in(Phase::Active(3));
    life.descriptor().post(0x40);
    let before = life.descriptor().control();
    assert!(life.activate(&host, 3));
    assert_eq!(life.descriptor().control(), before);
}

/// The numbers that the handler looks at.
fn looked_at(sleepers: &Sleepers) -> Vec<u32> {
    let mut numbers = Vec::new();
    sleepers.for_each(|number| numbers.push(number));
    numbers
}

#[test]
fn the_handler_looks_at_those_who_sleep_and_at_no_other() {
    let sleepers = Sleepers::default();
    assert_eq!(looked_at(&sleepers), []);
    let last = CAPACITY as u32 - 1;
    for number in [last, 0, 63, 64, 1000] {
        sleepers.add(number);
    }
    assert_eq!(looked_at(&sleepers), [0, 63, 64, 1000, last]);
    // Twice makes no difference.
    sleepers.add(64);
    sleepers.remove(63);
    sleepers.remove(1000);
    sleepers.remove(7);
    assert_eq!(looked_at(&sleepers), [0, 64, last]);
    sleepers.remove(0);
    sleepers.remove(last);
    assert_eq!(looked_at(&sleepers), [64]);
    sleepers.remove(64);
    assert_eq!(looked_at(&sleepers), []);
    // A word that the handler has found empty is looked at again.
    sleepers.add(65);
    assert_eq!(looked_at(&sleepers), [65]);
}

#[test]
fn each_number_is_one_sleeper() {
    for number in 0..CAPACITY as u32 {
        let sleepers = Sleepers::default();
        sleepers.add(number);
        assert_eq!(looked_at(&sleepers), [number]);
        sleepers.remove(number);
        assert_eq!(looked_at(&sleepers), []);
    }
}

// Who is woken may be added again, elsewhere, while the handler is still at it.
#[test]
fn who_is_removed_by_the_handler_itself_does_no_harm() {
    let sleepers = Sleepers::default();
    sleepers.add(1);
    sleepers.add(2);
    sleepers.for_each(|number| sleepers.remove(number));
    assert_eq!(looked_at(&sleepers), []);
    sleepers.add(2);
    assert_eq!(looked_at(&sleepers), [2]);
}
