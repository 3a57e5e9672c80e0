// SPDX-License-Identifier: GPL-2.0

use super::super::*;
use super::*;

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
fn masking_withdraws_the_request() {
    let mut bench = Bench::initialized();
    bench.pulse(4);
    assert!(bench.pic.output());
    bench.write(0x21, 0x10);
    assert!(!bench.pic.output());
}

#[test]
fn a_high_line_that_becomes_edge_triggered_has_no_new_edge() {
    let mut bench = Bench::initialized();
    bench.write(0x4d0, 0x20);
    bench.drive(5, true);
    assert_eq!(bench.master().last_irr, 0x20);
    bench.acknowledge();
    bench.write(0x4d0, 0x00);
    bench.write(0x20, 0x20);
    bench.acknowledge();
    bench.write(0x20, 0x20);
    bench.drive(5, true);
    assert_eq!(bench.master().irr, 0);
}
