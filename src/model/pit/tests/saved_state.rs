// SPDX-License-Identifier: GPL-2.0

use super::*;

#[test]
fn the_state_survives_a_round_trip() {
    let mut bench = Bench::new();
    bench.program(0, 2, 0x4321);
    bench.program(2, 3, 0x1234);
    bench.write(0x61, 3);
    bench.write(0x43, 0x80);
    bench.write(0x42, 0x55);
    let (counters, flags) = (*bench.pit.counters(), bench.pit.flags());

    let mut other = Bench::new();
    other.machine.now = bench.machine.now;
    other
        .pit
        .restore(&counters, Some(flags), &mut other.machine);
    assert_eq!(other.pit.counters(), &counters);
    assert_eq!(other.pit.flags(), flags);
    assert_eq!(other.machine.period, Some(ticks_to_ns(0x4321)));
    // The half-written count goes on, too.
    other.write(0x42, 0x66);
    assert_eq!(other.pit.counters()[2].count, 0x6655);
}

#[test]
fn a_restore_loads_all_counters() {
    let mut bench = Bench::new();
    let mut counters = *bench.pit.counters();
    counters[0].mode = 2;
    counters[0].count = 0;
    counters[1].count_load_time = 5;
    counters[2].count_load_time = -5;
    bench.pit.restore(&counters, None, &mut bench.machine);
    assert!(bench.machine.running);
    let restored = bench.pit.counters();
    assert_eq!(restored[0].count, 0x10000);
    assert_eq!(restored[0].count_load_time, 0);
    assert_eq!(restored[1].count_load_time, bench.machine.now);
    assert_eq!(restored[2].count_load_time, bench.machine.now);
}

#[test]
fn numbers_too_large_for_their_fields_set_the_bits_beside_them_too() {
    // User space may restore any bytes; what is read of them is KVM's.
    let mut bench = Bench::new();
    let mut counters = *bench.pit.counters();
    counters[2].gate = 0xff;
    bench.pit.restore(&counters, Some(3), &mut bench.machine);
    assert_eq!(bench.read(0x61), 0xff);

    let status = |rw_mode, mode, bcd| {
        let mut bench = Bench::new();
        let mut counters = *bench.pit.counters();
        (counters[2].rw_mode, counters[2].mode, counters[2].bcd) = (rw_mode, mode, bcd);
        bench.pit.restore(&counters, None, &mut bench.machine);
        bench.write(0x43, 0xe0 | 2 << 2);
        bench.read(0x42)
    };
    // Its output is low at first, unless in mode 3.
    assert_eq!(status(3, 0x08, 0), 0x30);
    assert_eq!(status(8, 3, 0), 0x86);
    assert_eq!(status(0, 3, 6), 0x86);
    assert_eq!(status(1, 0, 0x10), 0x10);
    assert_eq!(status(0x18, 0xff, 0xff), 0xff);
}

#[test]
fn the_old_ioctl_leaves_the_flags() {
    let mut bench = Bench::new();
    bench.write(0x61, 2);
    let counters = *bench.pit.counters();
    bench.pit.restore(&counters, None, &mut bench.machine);
    assert_eq!(bench.pit.flags(), FLAG_SPEAKER_DATA_ON);
}

#[test]
fn the_hpet_takes_counter_0_and_gives_it_back() {
    let mut bench = Bench::new();
    bench.program(0, 2, 1000);
    let counters = *bench.pit.counters();
    let flags = Some(FLAG_HPET_LEGACY);
    bench.pit.restore(&counters, flags, &mut bench.machine);
    assert!(!bench.machine.running);
    // The mode is kept for the time after it.
    assert_eq!(bench.pit.counters()[0].mode, 2);
    // While it is there, nothing starts counter 0.
    bench.program(0, 2, 2000);
    bench.pit.restore(&counters, flags, &mut bench.machine);
    assert!(!bench.machine.running);
    bench.pit.restore(&counters, Some(0), &mut bench.machine);
    assert!(bench.machine.running);
    assert_eq!(bench.machine.period, Some(ticks_to_ns(1000)));
}

#[test]
fn unknown_flags_are_kept() {
    let mut bench = Bench::new();
    let counters = *bench.pit.counters();
    bench
        .pit
        .restore(&counters, Some(0xffff_fffc), &mut bench.machine);
    assert_eq!(bench.pit.flags(), 0xffff_fffc);
}

#[test]
fn every_state_can_be_restored_and_used() {
    let mut bench = Bench::new();
    for byte in 0..=255 {
        let counter = CounterState {
            count: u32::from_ne_bytes([byte; 4]),
            latched_count: u16::from_ne_bytes([byte; 2]),
            count_latched: byte,
            status_latched: byte,
            status: byte,
            read_state: byte,
            write_state: byte,
            write_latch: byte,
            rw_mode: byte,
            mode: byte,
            bcd: byte,
            gate: byte,
            count_load_time: i64::from_ne_bytes([byte; 8]),
        };
        bench
            .pit
            .restore(&[counter; COUNTERS], Some(byte.into()), &mut bench.machine);
        for address in [0x40, 0x41, 0x42, 0x61] {
            for _ in 0..5 {
                bench.read(address);
            }
        }
        bench.write(0x43, 0xce);
        for address in [0x40, 0x41, 0x42, 0x61] {
            bench.write(address, byte);
            bench.read(address);
        }
    }
}
