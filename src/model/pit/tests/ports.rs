// SPDX-License-Identifier: GPL-2.0

use super::*;

#[test]
fn ports() {
    assert_eq!(Port::decode(0x3f), None);
    assert_eq!(Port::decode(0x40), Some(Port::Counter(0)));
    assert_eq!(Port::decode(0x42), Some(Port::Counter(2)));
    assert_eq!(Port::decode(0x43), Some(Port::Control));
    assert_eq!(Port::decode(0x44), None);
    assert_eq!(Port::decode(0x60), None);
    assert_eq!(Port::decode(0x61), Some(Port::Speaker));
    assert_eq!(Port::decode(0x62), None);
}

#[test]
fn power_on() {
    let mut bench = Bench::new();
    for counter in bench.pit.counters() {
        assert_eq!((counter.mode, counter.count), (0xff, 0x10000));
    }
    let gates = bench.pit.counters().map(|counter| counter.gate);
    assert_eq!(gates, [1, 1, 0]);
    assert!(!bench.machine.running);
    assert_eq!(bench.pass(1_000_000_000), 0);
}

#[test]
fn the_control_port_is_not_driven() {
    let mut bench = Bench::new();
    assert_eq!(bench.pit.read(Port::Control, &bench.machine), None);
}

#[test]
fn a_counter_that_does_not_exist_takes_and_gives_nothing() {
    let mut bench = Bench::new();
    let before = bench.pit.clone();
    bench.pit.write(Port::Counter(3), 0x12, &mut bench.machine);
    assert_eq!(bench.pit, before);
    assert_eq!(bench.pit.read(Port::Counter(3), &bench.machine), None);
}

#[test]
fn access_by_low_high_or_both_bytes() {
    let mut bench = Bench::new();
    // A counter that stands still: nothing is over yet.
    bench.write(0x43, 0x80 | 0x10);
    bench.write(0x42, 0x34);
    assert_eq!(bench.pit.counters()[2].count, 0x34);
    assert_eq!((bench.read(0x42), bench.read(0x42)), (0x34, 0x34));
    bench.write(0x43, 0x80 | 0x20);
    bench.write(0x42, 0x12);
    assert_eq!(bench.pit.counters()[2].count, 0x1200);
    assert_eq!((bench.read(0x42), bench.read(0x42)), (0x12, 0x12));
    bench.write(0x43, 0x80 | 0x30);
    bench.write(0x42, 0x34);
    // Counting goes on with the old count until both are there.
    assert_eq!(bench.pit.counters()[2].count, 0x1200);
    bench.write(0x42, 0x12);
    assert_eq!(bench.pit.counters()[2].count, 0x1234);
    let bytes = [bench.read(0x42), bench.read(0x42), bench.read(0x42)];
    assert_eq!(bytes, [0x34, 0x12, 0x34]);
}

#[test]
fn a_control_word_forgets_a_half_written_count() {
    let mut bench = Bench::new();
    bench.write(0x43, 0xb0);
    bench.write(0x42, 0x77);
    bench.program(2, 0, 0x1234);
    assert_eq!(bench.pit.counters()[2].count, 0x1234);
}

#[test]
fn a_latched_count_stays_until_it_is_read() {
    let mut bench = Bench::new();
    bench.program(2, 0, 0x1234);
    bench.write(0x43, 0x80);
    bench.pass(1_000_000);
    // The first latch holds.
    bench.write(0x43, 0x80);
    assert_eq!((bench.read(0x42), bench.read(0x42)), (0x34, 0x12));
    assert_ne!(bench.count(2), 0x1234);
}

#[test]
fn a_latched_count_of_one_byte_is_read_once() {
    for (access, value) in [(0x10, 0x34), (0x20, 0x12)] {
        let mut bench = Bench::new();
        bench.program(2, 0, 0x1234);
        bench.write(0x43, 0x80 | access);
        bench.write(0x43, 0x80);
        bench.pass(1_000_000_000);
        assert_eq!(bench.read(0x42), value);
        assert_ne!(bench.read(0x42), value);
    }
}

#[test]
fn read_back_latches_status_before_count() {
    let mut bench = Bench::new();
    bench.program(1, 2, 0x1234);
    bench.program(2, 3, 0x5678);
    // Status and count of counters 1 and 2.
    bench.write(0x43, 0xc0 | 2 << 1 | 2 << 2);
    assert_eq!(bench.read(0x41), 0x30 | 2 << 1);
    assert_eq!(bench.read(0x42), 0x80 | 0x30 | 3 << 1);
    assert_eq!((bench.read(0x41), bench.read(0x41)), (0x34, 0x12));
    assert_eq!((bench.read(0x42), bench.read(0x42)), (0x78, 0x56));
}

#[test]
fn read_back_latches_what_is_asked_for() {
    let mut bench = Bench::new();
    bench.program(2, 3, 0x5678);
    // Only the count of counter 2.
    bench.write(0x43, 0xd0 | 2 << 2);
    let counters = bench.pit.counters();
    assert_eq!(counters.map(|counter| counter.status_latched), [0; 3]);
    assert_eq!(counters.map(|counter| counter.count_latched), [0, 0, 3]);
    // Only the status of counter 0.
    bench.write(0x43, 0xe0 | 2);
    let counters = bench.pit.counters();
    assert_eq!(counters.map(|counter| counter.status_latched), [1, 0, 0]);
    assert_eq!(counters.map(|counter| counter.count_latched), [0, 0, 3]);
}

#[test]
fn a_latched_status_stays_until_it_is_read() {
    let mut bench = Bench::new();
    bench.program(2, 0, 10);
    bench.write(0x43, 0xe0 | 2 << 2);
    bench.pass(1_000_000);
    bench.write(0x43, 0xe0 | 2 << 2);
    assert_eq!(bench.read(0x42) & 0x80, 0);
    bench.write(0x43, 0xe0 | 2 << 2);
    assert_eq!(bench.read(0x42) & 0x80, 0x80);
}

#[test]
fn the_bcd_bit_is_kept_and_counting_is_binary() {
    let mut bench = Bench::new();
    bench.write(0x43, 0x80 | 0x30 | 1);
    bench.write(0x42, 0x00);
    bench.write(0x42, 0x10);
    assert_eq!(bench.pit.counters()[2].bcd, 1);
    bench.pass(ticks_to_ns(1) + 1);
    assert_eq!(bench.count(2), 0x0fff);
}

#[test]
fn the_speaker_port() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(0x61) & 3, 0);
    bench.write(0x61, 0xff);
    assert_eq!(bench.read(0x61) & 0x0f, 3);
    assert_eq!(bench.pit.flags(), FLAG_SPEAKER_DATA_ON);
    bench.write(0x61, 0x01);
    assert_eq!(bench.read(0x61) & 0x0f, 1);
    assert_eq!(bench.pit.flags(), 0);
}

#[test]
fn the_refresh_clock_toggles() {
    let mut bench = Bench::new();
    let first = bench.read(0x61) & 0x10;
    bench.pass(1 << 14);
    assert_ne!(bench.read(0x61) & 0x10, first);
    bench.pass(1 << 14);
    assert_eq!(bench.read(0x61) & 0x10, first);
}
