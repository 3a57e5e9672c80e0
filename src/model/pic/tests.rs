// SPDX-License-Identifier: GPL-2.0

use super::super::line::source;
use super::*;

/// A pair with what surrounds it in a machine: notified pins and mask changes
/// are written down, and after each call the owner's duties are done.
struct Bench {
    pic: Pic,
    surroundings: Surroundings,
    /// Pins acknowledged, in order.
    acknowledged: Vec<u8>,
    /// Called at each notification, with the lock dropped.
    on_acknowledge: fn(&mut Bench, u8),
    wakeups: usize,
}

#[derive(Default)]
struct Surroundings {
    accepts: bool,
    masks: Vec<(u8, bool)>,
    traced: Vec<(Chip, u8, bool)>,
}

impl Host for Surroundings {
    fn accepts_interrupts(&self) -> bool {
        self.accepts
    }

    fn mask_changed(&mut self, pin: u8, masked: bool) {
        self.masks.push((pin, masked));
    }

    fn trace_set_line(&mut self, chip: Chip, line: u8, _state: &State, coalesced: bool) {
        self.traced.push((chip, line, coalesced));
    }
}

impl Bench {
    fn new() -> Self {
        Self {
            pic: Pic::new(),
            surroundings: Surroundings {
                accepts: true,
                ..Surroundings::default()
            },
            acknowledged: Vec::new(),
            on_acknowledge: |_, _| {},
            wakeups: 0,
        }
    }

    /// Initialized as firmware does: vectors 0x08 and 0x70, nothing masked.
    fn initialized() -> Self {
        Self::with_icw4(0x01)
    }

    fn with_icw4(icw4: u8) -> Self {
        let mut bench = Self::new();
        for (command, data, base, cascade) in [(0x20, 0x21, 0x08, 0x04), (0xa0, 0xa1, 0x70, 0x02)] {
            bench.write(command, 0x11);
            bench.write(data, base);
            bench.write(data, cascade);
            bench.write(data, icw4);
            bench.write(data, 0x00);
        }
        bench.surroundings.masks.clear();
        bench
    }

    fn finish(&mut self, mut step: Step) -> u8 {
        loop {
            self.unlocked();
            match step {
                Step::Done(value) => return value,
                Step::Acknowledge { pin, then } => {
                    self.acknowledged.push(pin);
                    (self.on_acknowledge)(self, pin);
                    step = self.pic.resume(then);
                }
            }
        }
    }

    fn unlocked(&mut self) {
        if self.pic.take_wakeup() {
            self.wakeups += 1;
        }
    }

    fn write(&mut self, address: u64, value: u8) {
        let port = Port::decode(address).unwrap();
        let step = self.pic.write(port, &[value], &mut self.surroundings);
        assert_eq!(self.finish(step), 0);
    }

    fn read(&mut self, address: u64) -> u8 {
        let step = self.pic.read(Port::decode(address).unwrap(), 1);
        self.finish(step)
    }

    fn acknowledge(&mut self) -> u8 {
        let step = self.pic.acknowledge();
        self.finish(step)
    }

    fn drive(&mut self, pin: u32, level: bool) -> i32 {
        let result = self
            .pic
            .set_line(pin, source::USERSPACE, level, &mut self.surroundings);
        self.unlocked();
        result
    }

    fn pulse(&mut self, pin: u32) {
        self.drive(pin, true);
        self.drive(pin, false);
    }

    fn set_state(&mut self, chip: Chip, state: State) {
        self.pic.set_state(chip, state);
        self.pic.update();
        self.unlocked();
    }

    fn master(&self) -> State {
        self.pic.state(Chip::Master)
    }

    fn slave(&self) -> State {
        self.pic.state(Chip::Slave)
    }
}

#[test]
fn after_power_on_nothing_is_pending_and_only_elcr_masks_are_set() {
    let bench = Bench::new();
    let expected = |elcr_mask| State {
        elcr_mask,
        ..State::default()
    };
    assert_eq!(bench.master(), expected(0xf8));
    assert_eq!(bench.slave(), expected(0xde));
    assert!(!bench.pic.output());
}

#[test]
fn ports_are_decoded() {
    for (address, port) in [
        (0x20, Port::Command(Chip::Master)),
        (0x21, Port::Data(Chip::Master)),
        (0xa0, Port::Command(Chip::Slave)),
        (0xa1, Port::Data(Chip::Slave)),
        (0x4d0, Port::Elcr(Chip::Master)),
        (0x4d1, Port::Elcr(Chip::Slave)),
    ] {
        assert_eq!(Port::decode(address), Some(port));
    }
    for address in [0, 0x1f, 0x22, 0x9f, 0xa2, 0x4cf, 0x4d2, 0x1_0000_0020] {
        assert_eq!(Port::decode(address), None);
    }
}

#[test]
fn icw2_sets_the_vector_base_and_ignores_its_low_bits() {
    let mut bench = Bench::new();
    bench.write(0x20, 0x11);
    bench.write(0x21, 0x37);
    assert_eq!(bench.master().irq_base, 0x30);
    bench.write(0x21, 0x04);
    bench.write(0x21, 0x01);
    bench.pulse(5);
    assert_eq!(bench.acknowledge(), 0x35);
}

#[test]
fn each_chip_has_its_own_vector_base() {
    let mut bench = Bench::initialized();
    bench.pulse(1);
    assert_eq!(bench.acknowledge(), 0x09);
    bench.write(0x20, 0x20);
    bench.pulse(12);
    assert_eq!(bench.acknowledge(), 0x74);
}

#[test]
fn icw1_without_icw4_ends_initialization_after_icw3() {
    let mut bench = Bench::new();
    bench.write(0x20, 0x10);
    assert_eq!(bench.master().init_state, 1);
    bench.write(0x21, 0x20);
    assert_eq!(bench.master().init_state, 2);
    bench.write(0x21, 0x04);
    assert_eq!(bench.master().init_state, 0);
    bench.write(0x21, 0xaa);
    assert_eq!(bench.master().imr, 0xaa);
}

#[test]
fn icw4_is_expected_if_icw1_says_so() {
    let mut bench = Bench::new();
    bench.write(0x20, 0x11);
    bench.write(0x21, 0x20);
    bench.write(0x21, 0x04);
    assert_eq!(bench.master().init_state, 3);
    bench.write(0x21, 0x12);
    let state = bench.master();
    assert_eq!(state.init_state, 0);
    assert_eq!(state.auto_eoi, 1);
    assert_eq!(state.special_fully_nested_mode, 1);
}

#[test]
fn icw1_that_announces_no_icw4_clears_its_modes() {
    let mut bench = Bench::with_icw4(0x13);
    bench.write(0x20, 0x11);
    assert_eq!(bench.master().auto_eoi, 1);
    assert_eq!(bench.master().special_fully_nested_mode, 1);
    bench.write(0x20, 0x10);
    assert_eq!(bench.master().auto_eoi, 0);
    assert_eq!(bench.master().special_fully_nested_mode, 0);
}

#[test]
fn icw1_resets_mask_priority_and_edge_requests_but_keeps_level_requests() {
    let mut bench = Bench::initialized();
    bench.surroundings.accepts = false;
    bench.write(0x4d0, 0x20);
    bench.drive(5, true);
    bench.drive(6, true);
    bench.write(0x20, 0x0b);
    bench.write(0x20, 0x68);
    bench.write(0x20, 0xc3);
    bench.write(0x21, 0xf0);
    bench.write(0x20, 0x11);
    assert_eq!(
        bench.master(),
        State {
            irr: 0x20,
            irq_base: 0x08,
            init_state: 1,
            init4: 1,
            elcr: 0x20,
            elcr_mask: 0xf8,
            ..State::default()
        }
    );
}

#[test]
fn icw1_acknowledges_the_edge_requests_that_it_cancels() {
    let mut bench = Bench::initialized();
    bench.drive(8, true);
    bench.drive(11, true);
    bench.pulse(3);
    bench.write(0xa0, 0x11);
    assert_eq!(bench.acknowledged, [8, 11]);
    assert_eq!(bench.slave().irr, 0);
    bench.acknowledged.clear();
    bench.write(0x20, 0x11);
    // The cascade was requested, too.
    assert_eq!(bench.acknowledged, [2, 3]);
}

#[test]
fn icw1_ends_service_of_cancelled_requests_only() {
    let mut bench = Bench::initialized();
    let state = State {
        irr: 0x0a,
        isr: 0x0c,
        ..bench.master()
    };
    bench.set_state(Chip::Master, state);
    bench.write(0x20, 0x11);
    assert_eq!(bench.acknowledged, [1, 3]);
    assert_eq!(bench.master().isr, 0x04);
}

#[test]
fn icw1_ends_service_of_one_request_after_the_other() {
    let mut bench = Bench::initialized();
    let state = State {
        irr: 0x0a,
        isr: 0x0a,
        ..bench.master()
    };
    bench.set_state(Chip::Master, state);
    bench.on_acknowledge = |bench, pin| match pin {
        1 => assert_eq!(bench.master().isr, 0x08),
        3 => assert_eq!(bench.master().isr, 0x00),
        _ => panic!("pin {pin} was not requested"),
    };
    bench.write(0x20, 0x11);
    assert_eq!(bench.acknowledged, [1, 3]);
}

#[test]
fn icw1_acknowledges_nothing_if_no_vcpu_listens_to_the_pic() {
    let mut bench = Bench::initialized();
    bench.surroundings.accepts = false;
    bench.drive(3, true);
    let isr = bench.master().isr;
    bench.write(0x20, 0x11);
    assert!(bench.acknowledged.is_empty());
    assert_eq!(bench.master().irr, 0);
    assert_eq!(bench.master().isr, isr);
}

#[test]
fn icw1_leaves_the_output_as_it_is() {
    let mut bench = Bench::initialized();
    bench.pulse(3);
    bench.write(0x20, 0x11);
    assert!(bench.pic.output());
}

#[test]
fn an_edge_is_taken_once() {
    let mut bench = Bench::initialized();
    assert_eq!(bench.drive(4, true), 1);
    assert!(bench.pic.output());
    assert_eq!(bench.acknowledge(), 0x0c);
    bench.write(0x20, 0x20);
    assert!(!bench.pic.output());
    assert_eq!(bench.master().irr, 0);
}

#[test]
fn an_edge_survives_the_fall_of_its_line() {
    let mut bench = Bench::initialized();
    bench.pulse(4);
    assert_eq!(bench.master().irr, 0x10);
    assert_eq!(bench.acknowledge(), 0x0c);
}

#[test]
fn a_high_edge_line_makes_no_second_request() {
    let mut bench = Bench::initialized();
    bench.drive(4, true);
    bench.acknowledge();
    bench.write(0x20, 0x20);
    assert_eq!(bench.drive(4, true), 1);
    assert_eq!(bench.master().irr, 0);
    assert!(!bench.pic.output());
}

#[test]
fn a_second_edge_before_the_first_is_acknowledged_is_coalesced() {
    let mut bench = Bench::initialized();
    assert_eq!(bench.drive(4, true), 1);
    assert_eq!(bench.drive(4, false), 1);
    assert_eq!(bench.drive(4, true), 0);
    assert_eq!(
        bench.surroundings.traced.last(),
        Some(&(Chip::Master, 4, true))
    );
}

#[test]
fn a_masked_line_reports_minus_one_but_is_remembered() {
    let mut bench = Bench::initialized();
    bench.write(0x21, 0x10);
    assert_eq!(bench.drive(4, true), -1);
    assert_eq!(bench.drive(4, false), -1);
    assert!(!bench.pic.output());
    bench.write(0x21, 0x00);
    assert!(bench.pic.output());
    assert_eq!(bench.acknowledge(), 0x0c);
}

#[test]
fn a_level_request_stays_pending_until_the_line_falls() {
    let mut bench = Bench::initialized();
    bench.write(0x4d0, 0x20);
    assert_eq!(bench.drive(5, true), 1);
    assert_eq!(bench.drive(5, true), 0);
    assert_eq!(bench.acknowledge(), 0x0d);
    assert_eq!(bench.master().irr, 0x20);
    assert!(!bench.pic.output());
    bench.write(0x20, 0x20);
    assert!(bench.pic.output());
    assert_eq!(bench.drive(5, false), 1);
    assert!(!bench.pic.output());
    assert_eq!(bench.master().last_irr, 0);
}

#[test]
fn pins_that_do_not_exist_are_refused() {
    let mut bench = Bench::initialized();
    let before = bench.pic.clone();
    for pin in [16, 255, 256, u32::MAX] {
        assert_eq!(bench.drive(pin, true), -1);
    }
    assert_eq!(bench.pic, before);
}

#[test]
fn a_shared_line_falls_with_its_last_source() {
    let mut bench = Bench::initialized();
    bench.write(0x4d1, 0x08);
    bench.drive(11, true);
    let host = &mut bench.surroundings;
    bench.pic.set_line(11, source::RESAMPLE, true, host);
    bench.pic.set_line(11, source::USERSPACE, false, host);
    assert_eq!(bench.slave().irr, 0x08);
    bench
        .pic
        .set_line(11, source::RESAMPLE, false, &mut bench.surroundings);
    assert_eq!(bench.slave().irr, 0);
}

#[test]
fn lower_lines_have_higher_priority() {
    let mut bench = Bench::initialized();
    for pin in [7, 3, 0, 5] {
        bench.pulse(pin);
    }
    for vector in [0x08, 0x0b, 0x0d, 0x0f] {
        assert_eq!(bench.acknowledge(), vector);
        bench.write(0x20, 0x20);
    }
}

#[test]
fn a_request_waits_for_the_eoi_of_one_with_higher_or_equal_priority() {
    let mut bench = Bench::initialized();
    bench.pulse(3);
    assert_eq!(bench.acknowledge(), 0x0b);
    bench.pulse(4);
    assert!(!bench.pic.output());
    bench.pulse(3);
    assert!(!bench.pic.output());
    bench.pulse(1);
    assert!(bench.pic.output());
    assert_eq!(bench.acknowledge(), 0x09);
    assert_eq!(bench.master().isr, 0x0a);
}

#[test]
fn a_non_specific_eoi_ends_the_highest_priority_in_service() {
    let mut bench = Bench::initialized();
    bench.pulse(6);
    bench.acknowledge();
    bench.pulse(1);
    bench.acknowledge();
    bench.write(0x20, 0x20);
    assert_eq!(bench.master().isr, 0x40);
    bench.write(0x20, 0x20);
    assert_eq!(bench.master().isr, 0);
    assert_eq!(bench.acknowledged, [1, 6]);
}

#[test]
fn a_non_specific_eoi_with_nothing_in_service_does_nothing() {
    let mut bench = Bench::initialized();
    let before = bench.pic.clone();
    bench.write(0x20, 0x20);
    bench.write(0x20, 0xa0);
    assert_eq!(bench.pic, before);
    assert!(bench.acknowledged.is_empty());
}

#[test]
fn a_specific_eoi_ends_the_line_that_it_names() {
    let mut bench = Bench::initialized();
    bench.pulse(6);
    bench.acknowledge();
    bench.pulse(1);
    bench.acknowledge();
    bench.write(0x20, 0x66);
    assert_eq!(bench.master().isr, 0x02);
    assert_eq!(bench.acknowledged, [6]);
    assert_eq!(bench.master().priority_add, 0);
}

#[test]
fn a_specific_eoi_is_notified_even_if_the_line_is_not_in_service() {
    let mut bench = Bench::initialized();
    bench.write(0xa0, 0x63);
    assert_eq!(bench.acknowledged, [11]);
}

#[test]
fn an_eoi_lets_the_next_request_through() {
    let mut bench = Bench::initialized();
    bench.pulse(3);
    bench.acknowledge();
    bench.pulse(4);
    assert!(!bench.pic.output());
    bench.write(0x20, 0x20);
    assert!(bench.pic.output());
    assert_eq!(bench.acknowledge(), 0x0c);
}

#[test]
fn an_eoi_with_rotation_gives_the_line_the_lowest_priority() {
    let mut bench = Bench::initialized();
    bench.pulse(3);
    bench.acknowledge();
    bench.write(0x20, 0xa0);
    assert_eq!(bench.master().priority_add, 4);
    for pin in [3, 2, 7, 4] {
        bench.pulse(pin);
    }
    // The cascade gives the slave's spurious vector, as the slave is silent.
    for vector in [0x0c, 0x0f, 0x77, 0x0b] {
        assert_eq!(bench.acknowledge(), vector);
        bench.write(0x20, 0x20);
    }
}

#[test]
fn a_specific_eoi_with_rotation_gives_the_named_line_the_lowest_priority() {
    let mut bench = Bench::initialized();
    bench.pulse(1);
    bench.acknowledge();
    bench.write(0x20, 0xe7);
    assert_eq!(bench.master().priority_add, 0);
    assert_eq!(bench.master().isr, 0x02);
    bench.write(0x20, 0xe1);
    assert_eq!(bench.master().priority_add, 2);
    assert_eq!(bench.master().isr, 0);
    assert_eq!(bench.acknowledged, [7, 1]);
}

#[test]
fn set_priority_names_the_line_of_lowest_priority() {
    let mut bench = Bench::initialized();
    bench.pulse(0);
    bench.pulse(6);
    bench.write(0x20, 0xc5);
    assert_eq!(bench.master().priority_add, 6);
    assert_eq!(bench.acknowledge(), 0x0e);
    bench.write(0x20, 0xc7);
    assert_eq!(bench.master().priority_add, 0);
    assert!(bench.acknowledged.is_empty());
}

#[test]
fn set_priority_recomputes_the_output() {
    let mut bench = Bench::initialized();
    bench.pulse(3);
    bench.acknowledge();
    bench.pulse(4);
    assert!(!bench.pic.output());
    bench.write(0x20, 0xc3);
    assert!(bench.pic.output());
}

#[test]
fn ocw2_without_a_command_does_nothing() {
    let mut bench = Bench::initialized();
    bench.pulse(3);
    bench.acknowledge();
    let before = bench.pic.clone();
    bench.write(0x20, 0x40);
    bench.write(0x20, 0x43);
    assert_eq!(bench.pic, before);
}

#[test]
fn automatic_eoi_leaves_nothing_in_service() {
    let mut bench = Bench::with_icw4(0x03);
    bench.pulse(4);
    assert_eq!(bench.acknowledge(), 0x0c);
    assert_eq!(bench.master().isr, 0);
    assert_eq!(bench.acknowledged, [4]);
    assert_eq!(bench.master().priority_add, 0);
}

#[test]
fn automatic_eoi_acknowledges_the_cascade_before_the_slave() {
    let mut bench = Bench::with_icw4(0x03);
    bench.pulse(12);
    assert_eq!(bench.acknowledge(), 0x74);
    assert_eq!(bench.acknowledged, [2, 12]);
    assert_eq!(bench.slave().isr, 0);
}

#[test]
fn automatic_eoi_rotates_if_told_to() {
    let mut bench = Bench::with_icw4(0x03);
    bench.write(0x20, 0x80);
    bench.pulse(4);
    bench.acknowledge();
    assert_eq!(bench.master().priority_add, 5);
    bench.write(0x20, 0x00);
    bench.pulse(1);
    bench.acknowledge();
    assert_eq!(bench.master().priority_add, 5);
}

#[test]
fn a_slave_that_changes_during_the_cascades_notification_is_seen() {
    let mut bench = Bench::with_icw4(0x03);
    bench.pulse(12);
    bench.on_acknowledge = |bench, pin| {
        if pin == 2 {
            bench.pulse(9);
        }
    };
    assert_eq!(bench.acknowledge(), 0x71);
}

#[test]
fn a_line_raised_during_a_notification_asserts_the_output() {
    let mut bench = Bench::initialized();
    bench.write(0x4d0, 0x20);
    bench.drive(5, true);
    bench.acknowledge();
    bench.on_acknowledge = |bench, pin| {
        assert_eq!(pin, 5);
        bench.drive(5, false);
        bench.drive(5, true);
    };
    bench.write(0x20, 0x20);
    assert!(bench.pic.output());
    assert_eq!(bench.acknowledge(), 0x0d);
}

#[test]
fn during_a_notification_the_line_is_out_of_service_already() {
    let mut bench = Bench::initialized();
    bench.pulse(5);
    bench.acknowledge();
    bench.on_acknowledge = |bench, _| assert_eq!(bench.master().isr, 0);
    bench.write(0x20, 0x20);
    assert_eq!(bench.acknowledged, [5]);
}

#[test]
fn the_slaves_requests_come_through_line_2() {
    let mut bench = Bench::initialized();
    bench.pulse(10);
    assert_eq!(bench.master().irr, 0x04);
    assert_eq!(bench.acknowledge(), 0x72);
    assert_eq!(bench.master().isr, 0x04);
    assert_eq!(bench.slave().isr, 0x04);
    bench.write(0xa0, 0x20);
    bench.write(0x20, 0x20);
    assert_eq!(bench.acknowledged, [10, 2]);
    assert_eq!(bench.master().isr, 0);
}

#[test]
fn the_slaves_next_request_is_kept_until_the_masters_eoi() {
    let mut bench = Bench::initialized();
    bench.pulse(12);
    bench.acknowledge();
    bench.pulse(9);
    assert!(!bench.pic.output());
    bench.write(0xa0, 0x20);
    assert!(!bench.pic.output());
    bench.write(0x20, 0x20);
    assert!(bench.pic.output());
    assert_eq!(bench.acknowledge(), 0x71);
}

#[test]
fn in_special_fully_nested_mode_the_slave_interrupts_itself() {
    let mut bench = Bench::with_icw4(0x11);
    bench.pulse(12);
    assert_eq!(bench.acknowledge(), 0x74);
    bench.pulse(9);
    assert!(bench.pic.output());
    assert_eq!(bench.acknowledge(), 0x71);
    // Line 2 of the slave is an ordinary line.
    bench.pulse(10);
    assert!(!bench.pic.output());
}

#[test]
fn special_fully_nested_mode_of_the_slave_has_no_effect() {
    let mut bench = Bench::with_icw4(0x11);
    bench.pulse(10);
    assert_eq!(bench.acknowledge(), 0x72);
    bench.pulse(10);
    assert!(!bench.pic.output());
}

#[test]
fn special_mask_mode_is_remembered_and_nothing_else() {
    let mut bench = Bench::initialized();
    bench.write(0x20, 0x68);
    assert_eq!(bench.master().special_mask, 1);
    bench.write(0x20, 0x28);
    assert_eq!(bench.master().special_mask, 1);
    bench.pulse(1);
    bench.acknowledge();
    bench.write(0x21, 0x02);
    bench.pulse(3);
    assert!(!bench.pic.output());
    bench.write(0x20, 0x48);
    assert_eq!(bench.master().special_mask, 0);
}

#[test]
fn a_request_that_is_gone_gives_the_spurious_vector() {
    let mut bench = Bench::initialized();
    assert_eq!(bench.acknowledge(), 0x0f);
    assert_eq!(bench.master().isr, 0);
    assert!(bench.acknowledged.is_empty());
}

#[test]
fn a_slaves_request_that_is_gone_gives_the_slaves_spurious_vector() {
    let mut bench = Bench::initialized();
    bench.write(0x4d1, 0x02);
    bench.drive(9, true);
    bench.drive(9, false);
    assert_eq!(bench.acknowledge(), 0x77);
    assert_eq!(bench.slave().isr, 0);
    // The master has served its line 2 all the same.
    assert_eq!(bench.master().isr, 0x04);
}

#[test]
fn the_command_port_reads_irr_or_isr() {
    let mut bench = Bench::initialized();
    bench.pulse(3);
    bench.acknowledge();
    bench.pulse(6);
    assert_eq!(bench.read(0x20), 0x40);
    bench.write(0x20, 0x0b);
    assert_eq!(bench.read(0x20), 0x08);
    bench.write(0x20, 0x08);
    assert_eq!(bench.read(0x20), 0x08);
    bench.write(0x20, 0x0a);
    assert_eq!(bench.read(0x20), 0x40);
}

#[test]
fn the_data_port_reads_the_mask() {
    let mut bench = Bench::initialized();
    bench.write(0x21, 0x5a);
    bench.write(0xa1, 0xa5);
    assert_eq!(bench.read(0x21), 0x5a);
    assert_eq!(bench.read(0xa1), 0xa5);
}

#[test]
fn mask_changes_are_told_for_each_line_that_changed() {
    let mut bench = Bench::initialized();
    bench.write(0x21, 0x81);
    assert_eq!(bench.surroundings.masks, [(0, true), (7, true)]);
    bench.surroundings.masks.clear();
    bench.write(0x21, 0x03);
    assert_eq!(bench.surroundings.masks, [(1, true), (7, false)]);
    bench.surroundings.masks.clear();
    bench.write(0xa1, 0x02);
    assert_eq!(bench.surroundings.masks, [(9, true)]);
}

#[test]
fn masking_withdraws_the_request() {
    let mut bench = Bench::initialized();
    bench.pulse(4);
    assert!(bench.pic.output());
    bench.write(0x21, 0x10);
    assert!(!bench.pic.output());
}

#[test]
fn a_poll_gives_the_line_and_ends_its_interrupt() {
    let mut bench = Bench::initialized();
    bench.pulse(5);
    bench.write(0x20, 0x0c);
    assert_eq!(bench.read(0x20), 0x85);
    assert_eq!(bench.acknowledged, [5]);
    assert_eq!(bench.master().irr, 0);
    assert!(!bench.pic.output());
    // One poll command, one answer.
    assert_eq!(bench.read(0x20), 0x00);
}

#[test]
fn a_poll_without_a_request_gives_7_and_no_flag() {
    let mut bench = Bench::initialized();
    bench.write(0x20, 0x0c);
    assert_eq!(bench.read(0x21), 0x07);
    assert_eq!(bench.read(0x21), 0x00);
}

#[test]
fn a_poll_of_the_slave_clears_the_cascade() {
    let mut bench = Bench::initialized();
    bench.pulse(9);
    assert_eq!(bench.master().irr, 0x04);
    bench.write(0xa0, 0x0c);
    assert_eq!(bench.read(0xa1), 0x81);
    assert_eq!(bench.master().irr, 0);
    assert_eq!(bench.acknowledged, [9]);
    assert!(!bench.pic.output());
}

#[test]
fn a_poll_of_the_master_that_finds_the_slave_keeps_the_output() {
    let mut bench = Bench::initialized();
    bench.pulse(9);
    bench.write(0x20, 0x0c);
    assert_eq!(bench.read(0x20), 0x82);
    assert_eq!(bench.acknowledged, [2]);
    // Not recomputed: that would make line 2 be requested again.
    assert_eq!(bench.master().irr, 0);
    assert!(bench.pic.output());
}

#[test]
fn a_poll_is_over_only_after_its_notification() {
    let mut bench = Bench::initialized();
    bench.pulse(5);
    bench.pulse(6);
    bench.write(0x20, 0x0c);
    bench.on_acknowledge = |bench, pin| {
        if pin == 5 {
            assert_eq!(bench.read(0x20), 0x86);
        }
    };
    assert_eq!(bench.read(0x20), 0x85);
    assert_eq!(bench.acknowledged, [5, 6]);
    assert_eq!(bench.master().poll, 0);
}

#[test]
fn a_poll_does_not_touch_the_elcr() {
    let mut bench = Bench::initialized();
    bench.write(0x4d0, 0x20);
    bench.write(0x20, 0x0c);
    assert_eq!(bench.read(0x4d0), 0x20);
    assert_eq!(bench.master().poll, 1);
}

#[test]
fn the_elcr_has_the_lines_of_the_board() {
    let mut bench = Bench::initialized();
    bench.write(0x4d0, 0xff);
    bench.write(0x4d1, 0xff);
    assert_eq!(bench.read(0x4d0), 0xf8);
    assert_eq!(bench.read(0x4d1), 0xde);
}

#[test]
fn only_byte_accesses_reach_the_chips() {
    let mut bench = Bench::initialized();
    bench.write(0x21, 0x55);
    bench.pulse(1);
    bench.write(0x20, 0x0c);
    let before = bench.pic.clone();
    for port in [
        Port::Command(Chip::Master),
        Port::Data(Chip::Master),
        Port::Elcr(Chip::Slave),
    ] {
        for width in [0, 2, 4, 8] {
            assert_eq!(bench.pic.read(port, width), Step::Done(0));
            let data = vec![0xff; width];
            let step = bench.pic.write(port, &data, &mut bench.surroundings);
            assert_eq!(step, Step::Done(0));
        }
    }
    assert_eq!(bench.pic, before);
}

#[test]
fn a_rising_output_wakes_once() {
    let mut bench = Bench::initialized();
    bench.pulse(4);
    assert_eq!(bench.wakeups, 1);
    bench.pulse(1);
    bench.pulse(12);
    assert_eq!(bench.wakeups, 1);
}

#[test]
fn a_request_behind_the_one_acknowledged_wakes_again() {
    let mut bench = Bench::initialized();
    bench.pulse(4);
    bench.pulse(1);
    assert_eq!(bench.wakeups, 1);
    let state = State {
        auto_eoi: 1,
        ..bench.master()
    };
    bench.set_state(Chip::Master, state);
    assert_eq!(bench.acknowledge(), 0x09);
    assert_eq!(bench.wakeups, 2);
    assert!(bench.pic.output());
    assert_eq!(bench.acknowledge(), 0x0c);
    assert_eq!(bench.wakeups, 2);
    assert!(!bench.pic.output());
}

#[test]
fn the_saved_state_has_the_layout_of_kvm_pic_state() {
    let bytes: [u8; 16] = core::array::from_fn(|index| index as u8 + 1);
    let state = State::from_bytes(bytes);
    assert_eq!(
        state,
        State {
            last_irr: 1,
            irr: 2,
            imr: 3,
            isr: 4,
            priority_add: 5,
            irq_base: 6,
            read_reg_select: 7,
            poll: 8,
            special_mask: 9,
            init_state: 10,
            auto_eoi: 11,
            rotate_on_auto_eoi: 12,
            special_fully_nested_mode: 13,
            init4: 14,
            elcr: 15,
            elcr_mask: 16,
        }
    );
    assert_eq!(state.to_bytes(), bytes);
    assert_eq!(core::mem::size_of::<State>(), 16);
}

#[test]
fn restoring_a_request_raises_the_output() {
    let mut bench = Bench::initialized();
    let state = State {
        irr: 0x10,
        ..bench.master()
    };
    bench.set_state(Chip::Master, state);
    assert!(bench.pic.output());
    assert_eq!(bench.wakeups, 1);
    bench.set_state(Chip::Master, State { irr: 0, ..state });
    assert!(!bench.pic.output());
}

#[test]
fn restored_flags_are_true_for_any_value_but_zero() {
    let mut bench = Bench::initialized();
    let state = State {
        read_reg_select: 0x80,
        auto_eoi: 0x40,
        rotate_on_auto_eoi: 0x20,
        special_fully_nested_mode: 0x08,
        init4: 0x04,
        ..bench.master()
    };
    bench.set_state(Chip::Master, state);
    bench.pulse(4);
    bench.acknowledge();
    assert_eq!(bench.master().isr, 0);
    assert_eq!(bench.master().priority_add, 5);
    bench.set_state(
        Chip::Master,
        State {
            isr: 0x11,
            init_state: 2,
            ..state
        },
    );
    assert_eq!(bench.read(0x20), 0x11);
    bench.write(0x21, 0);
    assert_eq!(bench.master().init_state, 3);
}

#[test]
fn a_restored_init_state_beyond_icw4_ignores_the_data_port() {
    let mut bench = Bench::initialized();
    let state = State {
        init_state: 4,
        ..bench.master()
    };
    bench.set_state(Chip::Master, state);
    bench.write(0x21, 0xff);
    assert_eq!(bench.master(), state);
    bench.write(0x20, 0x11);
    assert_eq!(bench.master().init_state, 1);
}

#[test]
fn a_restored_priority_and_vector_base_are_reduced_where_used() {
    let mut bench = Bench::initialized();
    let state = State {
        priority_add: 0xfd,
        irq_base: 0xfc,
        irr: 0x21,
        ..bench.master()
    };
    bench.set_state(Chip::Master, state);
    assert_eq!(bench.acknowledge(), 0x01);
    assert_eq!(bench.master().priority_add, 0xfd);
}

#[test]
fn a_restored_elcr_can_make_any_line_level_triggered() {
    let mut bench = Bench::initialized();
    let state = State {
        elcr: 0x04,
        ..bench.master()
    };
    bench.set_state(Chip::Master, state);
    // The pulse on a level-triggered cascade leaves no request.
    bench.pulse(9);
    assert!(!bench.pic.output());
    assert_eq!(bench.master().irr, 0);
}
