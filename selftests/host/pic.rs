// SPDX-License-Identifier: GPL-2.0

//! Properties of the 8259 pair that hold for every state and every sequence of
//! accesses.

use ferric_model::line::source;
use ferric_model::pic::{Chip, Host, Pic, Port, State, Step};
use proptest::collection::vec;
use proptest::prelude::*;

/// The most notifications that one access can ask for: a reset that cancels the
/// requests of all lines of a chip.
const MAX_NOTIFICATIONS: usize = 8;

struct Listening(bool);

impl Host for Listening {
    fn accepts_interrupts(&self) -> bool {
        self.0
    }

    fn mask_changed(&mut self, pin: u8, _masked: bool) {
        assert!(pin < 16);
    }
}

#[derive(Clone, Debug)]
enum Access {
    Write(u64, u8),
    Read(u64),
    Drive(u32, bool),
    Acknowledge,
}

/// All that an access lets the guest and the notified see.
#[derive(Debug, PartialEq)]
struct Seen {
    value: i32,
    acknowledged: Vec<u8>,
    output: bool,
}

fn finish(pic: &mut Pic, mut step: Step) -> Seen {
    let mut acknowledged = Vec::new();
    let value = loop {
        match step {
            Step::Done(value) => break i32::from(value),
            Step::Acknowledge { pin, then } => {
                assert!(pin < 16);
                acknowledged.push(pin);
                assert!(acknowledged.len() <= MAX_NOTIFICATIONS);
                step = pic.resume(then);
            }
        }
    };
    Seen {
        value,
        acknowledged,
        output: pic.output(),
    }
}

fn perform(pic: &mut Pic, access: &Access) -> Seen {
    let host = &mut Listening(true);
    match *access {
        Access::Write(port, value) => {
            let step = pic.write(Port::decode(port).unwrap(), &[value], host);
            finish(pic, step)
        }
        Access::Read(port) => {
            let step = pic.read(Port::decode(port).unwrap(), 1);
            finish(pic, step)
        }
        Access::Drive(pin, level) => {
            let value = pic.set_line(pin, source::USERSPACE, level, host);
            Seen {
                value,
                acknowledged: Vec::new(),
                output: pic.output(),
            }
        }
        Access::Acknowledge => {
            let step = pic.acknowledge();
            finish(pic, step)
        }
    }
}

fn initialized() -> Pic {
    let mut pic = Pic::new();
    for (command, base) in [(0x20, 0x08), (0xa0, 0x70)] {
        perform(&mut pic, &Access::Write(command, 0x11));
        for value in [base, 0x04, 0x01, 0x00] {
            perform(&mut pic, &Access::Write(command + 1, value));
        }
    }
    pic
}

fn any_port() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1])
}

fn any_access() -> impl Strategy<Value = Access> {
    prop_oneof![
        3 => (any_port(), any::<u8>()).prop_map(|(port, value)| Access::Write(port, value)),
        2 => any_port().prop_map(Access::Read),
        4 => (0..16u32, any::<bool>()).prop_map(|(pin, level)| Access::Drive(pin, level)),
        2 => Just(Access::Acknowledge),
    ]
}

fn any_state() -> impl Strategy<Value = State> {
    any::<[u8; 16]>().prop_map(State::from_bytes)
}

/// The line that a chip requests, said in another way than the model does: the
/// first one, going round from the highest priority, that has an unmasked
/// request, unless one that is in service comes first.
fn expected_request(state: &State, ignored: u8) -> Option<u8> {
    let start = state.priority_add % 8;
    for line in (start..8).chain(0..start) {
        if state.isr & !ignored & (1 << line) != 0 {
            return None;
        }
        if state.irr & !state.imr & (1 << line) != 0 {
            return Some(line);
        }
    }
    None
}

proptest! {
    #[test]
    fn the_highest_priority_wins_under_any_rotation(
        irr: u8, imr: u8, isr: u8, priority_add: u8, nested: bool,
    ) {
        let mut pic = initialized();
        let state = State {
            irr, imr, isr, priority_add,
            special_fully_nested_mode: nested.into(),
            ..pic.state(Chip::Master)
        };
        pic.set_state(Chip::Master, state);
        pic.update();
        let expected = expected_request(&state, if nested { 0x04 } else { 0 });
        prop_assert_eq!(pic.output(), expected.is_some());
        let seen = perform(&mut pic, &Access::Acknowledge);
        let vector = match expected {
            None => 0x0f,
            // The slave has nothing to say.
            Some(2) => 0x77,
            Some(line) => 0x08 + i32::from(line),
        };
        prop_assert_eq!(seen.value, vector);
        let served = expected.map_or(0, |line| 1 << line);
        prop_assert_eq!(pic.state(Chip::Master).isr, isr | served);
        prop_assert_eq!(pic.state(Chip::Master).irr, irr & !served);
    }

    #[test]
    fn a_poll_finds_what_an_acknowledgement_would(
        irr: u8, imr: u8, isr: u8, priority_add: u8,
    ) {
        for (chip, port) in [(Chip::Master, 0x20), (Chip::Slave, 0xa0)] {
            let mut pic = initialized();
            let state = State { irr, imr, isr, priority_add, poll: 1, ..pic.state(chip) };
            pic.set_state(chip, state);
            let expected = expected_request(&state, 0);
            let seen = perform(&mut pic, &Access::Read(port));
            prop_assert_eq!(seen.value, expected.map_or(7, |line| 0x80 | i32::from(line)));
        }
    }

    #[test]
    fn a_non_specific_eoi_ends_the_highest_priority_in_service(
        isr: u8, priority_add: u8, rotate: bool,
    ) {
        let mut pic = initialized();
        let state = State { isr, priority_add, ..pic.state(Chip::Slave) };
        pic.set_state(Chip::Slave, state);
        let seen = perform(&mut pic, &Access::Write(0xa0, if rotate { 0xa0 } else { 0x20 }));
        let start = priority_add % 8;
        let ended = (start..8).chain(0..start).find(|line| isr & (1 << line) != 0);
        let after = pic.state(Chip::Slave);
        match ended {
            None => prop_assert_eq!(after, state),
            Some(line) => {
                prop_assert_eq!(after.isr, isr & !(1 << line));
                prop_assert_eq!(seen.acknowledged, vec![line + 8]);
                let expected = if rotate { (line + 1) % 8 } else { priority_add };
                prop_assert_eq!(after.priority_add, expected);
            }
        }
    }

    #[test]
    fn a_high_level_line_stays_requested_until_it_falls(
        pin in 9..16u32, accesses in vec(any_access(), 0..60),
    ) {
        prop_assume!(pin != 13);
        let mut pic = initialized();
        let bit = 1 << (pin - 8);
        perform(&mut pic, &Access::Write(0x4d1, bit));
        perform(&mut pic, &Access::Drive(pin, true));
        for access in &accesses {
            match *access {
                // These may let it fall, make it edge-triggered, or poll.
                Access::Drive(other, _) if other == pin => continue,
                Access::Write(0x4d1, _) => continue,
                Access::Write(0xa0, value) if value & 0x1c == 0x0c => continue,
                _ => {}
            }
            perform(&mut pic, access);
            prop_assert_ne!(pic.state(Chip::Slave).irr & bit, 0);
        }
        perform(&mut pic, &Access::Drive(pin, false));
        prop_assert_eq!(pic.state(Chip::Slave).irr & bit, 0);
    }

    #[test]
    fn every_edge_that_is_not_coalesced_is_acknowledged_once(
        pulses in vec((0..16u32).prop_filter("the cascade", |pin| *pin != 2), 0..60),
        serve_every in 1..5usize,
    ) {
        let mut pic = initialized();
        let mut raised = [0; 16];
        let mut served = [0; 16];
        let serve = |pic: &mut Pic, served: &mut [i32; 16]| {
            let vector = perform(pic, &Access::Acknowledge).value;
            let pin = if vector >= 0x70 { vector - 0x70 + 8 } else { vector - 0x08 };
            served[pin as usize] += 1;
            if pin >= 8 {
                perform(pic, &Access::Write(0xa0, 0x20));
            }
            perform(pic, &Access::Write(0x20, 0x20));
        };
        for (index, &pin) in pulses.iter().enumerate() {
            raised[pin as usize] += perform(&mut pic, &Access::Drive(pin, true)).value;
            perform(&mut pic, &Access::Drive(pin, false));
            if index % serve_every == 0 && pic.output() {
                serve(&mut pic, &mut served);
            }
        }
        for _ in 0..16 {
            if pic.output() {
                serve(&mut pic, &mut served);
            }
        }
        prop_assert!(!pic.output());
        prop_assert_eq!(raised, served);
    }

    #[test]
    fn a_masked_line_is_never_acknowledged(
        masks: [u8; 2], accesses in vec(any_access(), 0..60),
    ) {
        let mut pic = initialized();
        perform(&mut pic, &Access::Write(0x21, masks[0]));
        perform(&mut pic, &Access::Write(0xa1, masks[1]));
        for access in &accesses {
            match access {
                Access::Write(0x21 | 0xa1, _) => continue,
                Access::Write(_, value) if value & 0x10 != 0 => continue,
                _ => {}
            }
            let before = [Chip::Master, Chip::Slave].map(|chip| pic.state(chip).isr);
            perform(&mut pic, access);
            for (index, chip) in [Chip::Master, Chip::Slave].into_iter().enumerate() {
                let taken = pic.state(chip).isr & !before[index];
                prop_assert_eq!(taken & masks[index], 0);
            }
        }
    }

    #[test]
    fn saving_and_restoring_shows_in_nothing(
        before in vec(any_access(), 0..60), after in vec(any_access(), 0..60),
    ) {
        let mut pic = initialized();
        for access in &before {
            perform(&mut pic, access);
        }
        let mut restored = Pic::new();
        for chip in [Chip::Master, Chip::Slave] {
            let bytes = pic.state(chip).to_bytes();
            restored.set_state(chip, State::from_bytes(bytes));
        }
        restored.update();
        // Restoring recomputes INTR, which some accesses leave as it was.
        pic.update();
        for access in &after {
            prop_assert_eq!(perform(&mut pic, access), perform(&mut restored, access));
        }
        for chip in [Chip::Master, Chip::Slave] {
            prop_assert_eq!(pic.state(chip), restored.state(chip));
        }
    }

    #[test]
    fn what_is_restored_is_what_is_saved(bytes: [u8; 16]) {
        for chip in [Chip::Master, Chip::Slave] {
            let mut pic = Pic::new();
            pic.set_state(chip, State::from_bytes(bytes));
            prop_assert_eq!(pic.state(chip).to_bytes(), bytes);
        }
    }

    #[test]
    fn no_restored_state_upsets_the_accesses_after_it(
        master in any_state(), slave in any_state(), accesses in vec(any_access(), 0..60),
    ) {
        let mut pic = Pic::new();
        pic.set_state(Chip::Master, master);
        pic.set_state(Chip::Slave, slave);
        pic.update();
        for access in &accesses {
            let seen = perform(&mut pic, access);
            prop_assert!((-1..=255).contains(&seen.value));
        }
    }

    #[test]
    fn intr_tells_whether_there_is_a_request(accesses in vec(any_access(), 0..60)) {
        let mut pic = initialized();
        for access in &accesses {
            perform(&mut pic, access);
            pic.update();
            let state = pic.state(Chip::Master);
            let ignored = if state.special_fully_nested_mode != 0 { 0x04 } else { 0 };
            prop_assert_eq!(pic.output(), expected_request(&state, ignored).is_some());
        }
    }

    #[test]
    fn a_wakeup_is_due_exactly_when_intr_has_risen(accesses in vec(any_access(), 0..60)) {
        let mut pic = initialized();
        pic.take_wakeup();
        for access in &accesses {
            let mut was_high = pic.output();
            // The first INTA cycle lets INTR fall.
            was_high &= !matches!(access, Access::Acknowledge);
            let seen = perform(&mut pic, access);
            if seen.acknowledged.len() < 2 {
                prop_assert_eq!(pic.take_wakeup(), !was_high && pic.output());
            } else {
                pic.take_wakeup();
            }
        }
    }

    #[test]
    fn a_pin_is_the_or_of_its_sources(
        drives in vec((0..3u32, any::<bool>()), 0..30),
    ) {
        let mut pic = initialized();
        perform(&mut pic, &Access::Write(0x4d0, 0x08));
        let mut levels = [false; 3];
        for (source, level) in drives {
            levels[source as usize] = level;
            pic.set_line(3, source, level, &mut Listening(true));
            let requested = pic.state(Chip::Master).irr & 0x08 != 0;
            prop_assert_eq!(requested, levels.contains(&true));
        }
    }

    #[test]
    fn a_reset_is_heard_of_only_where_somebody_listens(
        irr: u8, elcr: u8, listening: bool,
    ) {
        let mut pic = initialized();
        let state = State { irr, elcr, ..pic.state(Chip::Slave) };
        pic.set_state(Chip::Slave, state);
        let step = pic.write(Port::Command(Chip::Slave), &[0x11], &mut Listening(listening));
        let seen = finish(&mut pic, step);
        let cancelled = if listening { irr & !elcr } else { 0 };
        let expected: Vec<u8> = (0..8).filter(|line| cancelled & (1 << line) != 0).map(|line| line + 8).collect();
        prop_assert_eq!(seen.acknowledged, expected);
        prop_assert_eq!(pic.state(Chip::Slave).irr, irr & elcr);
    }
}
