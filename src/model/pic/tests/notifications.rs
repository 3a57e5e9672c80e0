// SPDX-License-Identifier: GPL-2.0

use super::super::*;
use super::*;

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
