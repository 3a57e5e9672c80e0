// SPDX-License-Identifier: GPL-2.0

use super::super::*;
use super::*;

#[test]
fn an_edge_is_delivered_once_to_where_its_entry_says() {
    let entry = 0x0300_0000_0000_0041;
    let mut bench = Bench::with_entry(4, entry);
    assert_eq!(bench.drive(4, true), 1);
    assert_eq!(bench.machine.delivered, [RedirectionEntry(entry).message()]);
    assert_eq!(bench.drive(4, true), 0);
    assert_eq!(bench.drive(4, false), 1);
    assert_eq!(bench.deliveries(), 1);
    assert_eq!(bench.drive(4, true), 1);
    assert_eq!(bench.deliveries(), 2);
}

#[test]
fn the_result_is_the_number_of_vcpus_that_took_it() {
    let mut bench = Bench::with_entry(4, 0xff00_0000_0000_0041);
    assert_eq!(bench.drive(4, true), 4);
    let mut nobody = Bench::with_entry(4, 0x7700_0000_0000_0041);
    assert_eq!(nobody.drive(4, true), -1);
}

#[test]
fn pins_that_do_not_exist_are_refused() {
    let mut bench = Bench::new();
    let before = bench.chip.clone();
    for pin in [24, 31, 32, u32::MAX] {
        assert_eq!(bench.drive(pin, true), -1);
    }
    assert_eq!(bench.chip, before);
    assert_eq!(bench.chip.entry(24), None);
}

#[test]
fn a_masked_edge_is_kept_and_its_successors_are_coalesced() {
    let mut bench = Bench::with_entry(4, MASKED | 0x41);
    assert_eq!(bench.drive(4, true), -1);
    assert_eq!(bench.drive(4, true), 0);
    assert_eq!(bench.irr(), 1 << 4);
    assert_eq!(bench.drive(4, false), 1);
    assert_eq!(bench.irr(), 0);
    assert_eq!(bench.deliveries(), 0);
}

#[test]
fn a_level_interrupt_that_nobody_took_is_not_in_flight() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.machine.delivery = Some(0);
    assert_eq!(bench.drive(10, true), 0);
    assert!(!bench.remote_irr(10));
}

#[test]
fn the_fall_of_a_level_line_leaves_remote_irr() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    bench.drive(10, false);
    assert!(bench.remote_irr(10));
    assert_eq!(bench.irr(), 0);
    // Raised again before the EOI: pending, not delivered.
    assert_eq!(bench.drive(10, true), -1);
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!(bench.deliveries(), 2);
}

#[test]
fn every_assertion_is_traced_with_the_entry_before_it() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    bench.drive(10, false);
    let entry = RedirectionEntry(LEVEL | 0x51);
    assert_eq!(
        bench.machine.traced,
        [(10, entry, false), (10, entry.with_remote_irr(true), false)]
    );
}
