// SPDX-License-Identifier: GPL-2.0

use super::super::*;
use super::*;

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
    assert_eq!(bench.pic, Pic::default());
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
