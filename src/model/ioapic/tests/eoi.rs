// SPDX-License-Identifier: GPL-2.0

use super::super::*;
use super::*;

#[test]
fn an_edge_does_not_wait_for_an_eoi() {
    let mut bench = Bench::with_entry(4, 0x41);
    for _ in 0..3 {
        assert_eq!(bench.drive(4, true), 1);
        assert!(!bench.remote_irr(4));
        bench.drive(4, false);
    }
    assert_eq!(bench.deliveries(), 3);
}

#[test]
fn a_level_interrupt_sets_remote_irr_and_waits_for_the_eoi() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    assert_eq!(bench.drive(10, true), 1);
    assert!(bench.remote_irr(10));
    assert_eq!(bench.drive(10, true), -1);
    assert_eq!(bench.deliveries(), 1);
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!(bench.deliveries(), 2);
    assert!(bench.remote_irr(10));
    bench.drive(10, false);
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!(bench.deliveries(), 2);
    assert!(!bench.remote_irr(10));
}

#[test]
fn a_level_interrupt_to_nowhere_counts_as_in_flight() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x7700_0000_0000_0051);
    assert_eq!(bench.drive(10, true), -1);
    assert!(bench.remote_irr(10));
}

#[test]
fn an_eoi_of_a_masked_level_pin_ends_the_interrupt_without_a_new_one() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    bench.program(10, MASKED | LEVEL | 0x51);
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!(bench.acknowledged, [10]);
    assert!(!bench.remote_irr(10));
    assert_eq!(bench.deliveries(), 1);
}

#[test]
fn an_eoi_reaches_every_pin_with_its_vector() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.program(3, LEVEL | 0x51);
    bench.program(23, LEVEL | 0x51);
    bench.program(11, LEVEL | 0x52);
    for pin in [3, 10, 11, 23] {
        bench.drive(pin, true);
        bench.drive(pin, false);
    }
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!(bench.acknowledged, [3, 10, 23]);
    assert!(!bench.remote_irr(3) && !bench.remote_irr(10) && !bench.remote_irr(23));
    assert!(bench.remote_irr(11));
}

#[test]
fn an_eoi_of_an_edge_is_notified_and_no_more() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    bench.eoi(0, 0x51, Trigger::Edge);
    assert_eq!(bench.acknowledged, [10]);
    assert!(bench.remote_irr(10));
    assert_eq!(bench.deliveries(), 1);
}

#[test]
fn a_suppressed_eoi_is_notified_and_no_more() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    bench.complete(Eoi {
        vcpu_id: 0,
        vector: 0x51,
        trigger: Trigger::Level,
        suppressed: true,
    });
    assert_eq!(bench.acknowledged, [10]);
    assert!(bench.remote_irr(10));
    assert_eq!(bench.deliveries(), 1);
}

#[test]
fn a_line_that_falls_in_the_notification_is_not_delivered_again() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    bench.on_acknowledge = |bench, pin| {
        assert!(bench.remote_irr(pin));
        bench.drive(10, false);
    };
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!(bench.deliveries(), 1);
    assert!(!bench.remote_irr(10));
}

#[test]
fn a_line_that_rises_in_the_notification_is_delivered_after_it() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    bench.drive(10, false);
    bench.on_acknowledge = |bench, _| {
        assert_eq!(bench.drive(10, true), -1);
        assert_eq!(bench.deliveries(), 1);
    };
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!(bench.deliveries(), 2);
}

#[test]
fn a_vector_changed_in_the_notification_counts_for_the_pins_behind() {
    let mut bench = Bench::with_entry(3, LEVEL | 0x51);
    bench.program(10, LEVEL | 0x51);
    bench.on_acknowledge = |bench, pin| {
        if pin == 3 {
            bench.program(10, LEVEL | 0x52);
            bench.program(12, LEVEL | 0x51);
        }
    };
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!(bench.acknowledged, [3, 12]);
}

#[test]
fn continuing_with_a_pin_that_does_not_exist_ends_the_eoi() {
    let mut bench = Bench::new();
    let eoi = Eoi {
        vcpu_id: 0,
        vector: 0,
        trigger: Trigger::Level,
        suppressed: false,
    };
    let before = bench.chip.clone();
    assert_eq!(bench.chip.continue_eoi(&eoi, 24, &mut bench.machine), None);
    assert_eq!(
        bench
            .chip
            .continue_eoi(&eoi, usize::MAX, &mut bench.machine),
        None
    );
    assert_eq!(bench.chip, before);
}

#[test]
fn the_ten_thousandth_eoi_in_a_row_delays_the_delivery() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    for _ in 0..9_999 {
        bench.eoi(0, 0x51, Trigger::Level);
    }
    assert_eq!((bench.deliveries(), bench.machine.delays), (10_000, 0));
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!((bench.deliveries(), bench.machine.delays), (10_000, 1));
    assert!(!bench.remote_irr(10));
    bench.chip.inject_delayed(&mut bench.machine);
    assert_eq!(bench.deliveries(), 10_001);
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!((bench.deliveries(), bench.machine.delays), (10_002, 1));
}

#[test]
fn an_eoi_that_finds_the_line_low_ends_the_count() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    for _ in 0..9_999 {
        bench.eoi(0, 0x51, Trigger::Level);
    }
    bench.drive(10, false);
    bench.eoi(0, 0x51, Trigger::Level);
    bench.drive(10, true);
    for _ in 0..9_999 {
        bench.eoi(0, 0x51, Trigger::Level);
    }
    assert_eq!(bench.machine.delays, 0);
}

#[test]
fn the_delayed_injection_delivers_only_level_lines_that_wait() {
    let mut bench = Bench::new();
    bench.program(1, MASKED | LEVEL | 0x31);
    bench.program(2, LEVEL | 0x32);
    bench.program(3, MASKED | 0x33);
    bench.program(4, LEVEL | 0x34);
    bench.machine.delivery = Some(0);
    for pin in 1..=3 {
        bench.drive(pin, true);
    }
    bench.program(3, 0x33);
    bench.machine.delivered.clear();
    bench.machine.delivery = None;
    bench.chip.inject_delayed(&mut bench.machine);
    let vectors: Vec<u8> = bench.machine.delivered.iter().map(|m| m.vector).collect();
    assert_eq!(vectors, [0x32]);
    bench.chip.inject_delayed(&mut bench.machine);
    assert_eq!(bench.deliveries(), 1);
}
