// SPDX-License-Identifier: GPL-2.0

use super::super::*;
use super::*;

#[test]
fn the_version_register_tells_the_82093aa_with_24_pins() {
    let mut bench = Bench::new();
    assert_eq!(bench.read_register(1), 0x0017_0011);
    bench.write_register(1, u32::MAX);
    assert_eq!(bench.read_register(1), 0x0017_0011);
}

#[test]
fn the_id_has_four_bits_and_is_the_arbitration_id_too() {
    let mut bench = Bench::new();
    bench.write_register(0, 0xa5ff_ffff);
    assert_eq!(bench.read_register(0), 0x0500_0000);
    assert_eq!(bench.read_register(2), 0x0500_0000);
    bench.write_register(2, 0x0f00_0000);
    assert_eq!(bench.read_register(0), 0x0500_0000);
    assert_eq!(bench.chip.state().id, 5);
}

#[test]
fn the_select_register_has_eight_bits() {
    let mut bench = Bench::new();
    bench.select(0x1234_5613);
    assert_eq!(bench.chip.state().ioregsel, 0x13);
    let mut data = [0xff; 4];
    assert!(bench.chip.read(DEFAULT_BASE, &mut data));
    assert_eq!(data, [0x13, 0, 0, 0]);
}

#[test]
fn every_entry_has_its_two_halves() {
    let mut bench = Bench::new();
    for pin in 0..24 {
        bench.program(pin, (u64::from(pin) << 56) | MASKED | u64::from(pin + 0x20));
    }
    for pin in 0..24 {
        assert_eq!(bench.read_register(0x10 + 2 * pin), 0x1_0020 + pin);
        assert_eq!(bench.read_register(0x11 + 2 * pin), pin << 24);
    }
}

#[test]
fn registers_that_do_not_exist_read_as_ones_and_ignore_writes() {
    let mut bench = Bench::new();
    for index in (0x03..0x10).chain(0x40..=0xff) {
        let before = {
            bench.select(index);
            bench.chip.state()
        };
        bench.write_register(index, 0x1234_5678);
        assert_eq!(bench.chip.state(), before);
        assert_eq!(bench.read_register(index), u32::MAX);
    }
    assert!(bench.machine.rescans.is_empty());
}

#[test]
fn a_restored_index_out_of_range_selects_nothing() {
    for ioregsel in [0x40, 0x110, 0x8000_0010, u32::MAX] {
        let mut bench = Bench::new();
        let state = State {
            ioregsel,
            ..bench.chip.state()
        };
        bench.restore(&state);
        let mut data = [0; 4];
        bench.chip.read(DEFAULT_BASE + 0x10, &mut data);
        assert_eq!(data, [0xff; 4]);
        bench
            .chip
            .write(DEFAULT_BASE + 0x10, &[0; 4], &mut bench.machine);
        assert_eq!(bench.chip.state(), state);
    }
}

#[test]
fn only_two_offsets_have_registers() {
    let mut bench = Bench::with_entry(0, 0x30);
    bench.select(0x10);
    let before = bench.chip.state();
    for offset in (0..0x100).filter(|offset| ![0, 0x10].contains(offset)) {
        let mut data = [0xff; 4];
        assert!(bench.chip.read(DEFAULT_BASE + offset, &mut data));
        assert_eq!(data, [0; 4]);
        assert!(bench
            .chip
            .write(DEFAULT_BASE + offset, &[0xff; 4], &mut bench.machine));
    }
    assert_eq!(bench.chip.state(), before);
}

#[test]
fn addresses_outside_the_window_are_not_claimed() {
    let mut bench = Bench::new();
    for address in [0, DEFAULT_BASE - 1, DEFAULT_BASE + 0x100, u64::MAX] {
        assert!(!bench.chip.read(address, &mut [0; 4]));
        assert!(!bench.chip.write(address, &[0; 4], &mut bench.machine));
    }
}

#[test]
fn a_restored_base_moves_the_window() {
    let mut bench = Bench::new();
    let state = State {
        base_address: 0x1000,
        ..bench.chip.state()
    };
    bench.restore(&state);
    assert!(!bench.chip.read(DEFAULT_BASE, &mut [0; 4]));
    assert!(bench.chip.read(0x10ff, &mut [0; 4]));
    let wrapping = State {
        base_address: u64::MAX - 0x7f,
        ..state
    };
    bench.restore(&wrapping);
    assert!(!bench.chip.read(u64::MAX, &mut [0; 4]));
    assert!(!bench.chip.read(0, &mut [0; 4]));
}

#[test]
fn narrow_reads_give_the_low_bytes_and_wide_reads_zeroes_above() {
    let mut bench = Bench::new();
    bench.select(1);
    let window = DEFAULT_BASE + 0x10;
    let mut byte = [0xff; 1];
    bench.chip.read(window, &mut byte);
    assert_eq!(byte, [0x11]);
    let mut word = [0xff; 2];
    bench.chip.read(window, &mut word);
    assert_eq!(word, [0x11, 0x00]);
    let mut quad = [0xff; 8];
    bench.chip.read(window, &mut quad);
    assert_eq!(quad, [0x11, 0x00, 0x17, 0, 0, 0, 0, 0]);
}

#[test]
fn reads_of_odd_lengths_give_zeroes() {
    let mut bench = Bench::new();
    bench.select(1);
    for length in [0, 3, 5, 6, 7, 9, 16] {
        let mut data = vec![0xff; length];
        assert!(bench.chip.read(DEFAULT_BASE + 0x10, &mut data));
        assert!(data.iter().all(|&byte| byte == 0));
    }
}

#[test]
fn narrow_writes_are_zero_extended_and_of_wide_ones_half_counts() {
    let mut bench = Bench::new();
    let window = DEFAULT_BASE + 0x10;
    bench.select(0x11);
    let upper = |bench: &Bench| (bench.chip.entry(0).unwrap().0 >> 32) as u32;
    for (data, value) in [
        (&[1, 2, 3, 4, 5, 6, 7, 8][..], 0x0403_0201),
        (&[1][..], 0x01),
        (&[1, 2, 3, 4][..], 0x0403_0201),
        (&[1, 2][..], 0x0201),
    ] {
        assert!(bench.chip.write(window, data, &mut bench.machine));
        assert_eq!(upper(&bench), value);
    }
}

#[test]
fn writes_of_odd_lengths_are_ignored() {
    let mut bench = Bench::new();
    bench.select(0x10);
    let before = bench.chip.clone();
    for length in [0, 3, 5, 6, 7, 9] {
        let data = vec![0; length];
        for offset in [0, 0x10] {
            assert!(bench
                .chip
                .write(DEFAULT_BASE + offset, &data, &mut bench.machine));
        }
    }
    assert_eq!(bench.chip, before);
}

#[test]
fn an_index_of_the_guests_is_clamped() {
    use super::super::super::nospec::tests::calls;

    let mut bench = Bench::new();
    assert_eq!(calls(|| bench.read_register(0x3f)), 1);
    assert_eq!(calls(|| bench.write_register(0x3f, 0)), 1);
}
