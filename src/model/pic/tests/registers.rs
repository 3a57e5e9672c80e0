// SPDX-License-Identifier: GPL-2.0

use super::super::*;
use super::*;

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
fn special_mask_mode_is_remembered_and_nothing_else() {
    let mut bench = Bench::initialized();
    bench.write(0x20, 0x68);
    assert_eq!(bench.master().special_mask, 1);
    // Without bit 6, bit 5 says nothing.
    bench.write(0x20, 0x08);
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
fn a_poll_of_the_slave_ends_the_service_of_the_cascade() {
    let mut bench = Bench::initialized();
    bench.pulse(12);
    bench.acknowledge();
    bench.pulse(9);
    assert_eq!(bench.master().isr, 0x04);
    bench.write(0xa0, 0x0c);
    assert_eq!(bench.read(0xa0), 0x81);
    assert_eq!(bench.master().isr, 0);
    assert_eq!(bench.slave().isr, 0x10);
}

#[test]
fn flags_are_saved_as_one() {
    let mut bench = Bench::with_icw4(0x1f);
    for value in [0x80, 0x0f, 0x6c] {
        bench.write(0x20, value);
    }
    let state = bench.master();
    assert_eq!(state.rotate_on_auto_eoi, 1);
    assert_eq!(state.read_reg_select, 1);
    assert_eq!(state.poll, 1);
    assert_eq!(state.special_mask, 1);
    assert_eq!(state.auto_eoi, 1);
    assert_eq!(state.special_fully_nested_mode, 1);
    assert_eq!(state.init4, 1);
}
