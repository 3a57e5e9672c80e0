// SPDX-License-Identifier: GPL-2.0

use super::*;

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
