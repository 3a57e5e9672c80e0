// SPDX-License-Identifier: GPL-2.0

use super::*;

/// So many ns that at least so many ticks are over, and not one more.
fn ns(ticks: u32) -> i64 {
    ticks_to_ns(ticks) + 1
}

#[test]
fn ticks_and_time_are_converted_without_overflow() {
    assert_eq!(ns_to_ticks(1_000_000_000), 1_193_181);
    assert_eq!(ns_to_ticks(0), 0);
    // 292 years: 2^63 ns.
    assert_eq!(
        i128::from(ns_to_ticks(i64::MAX)),
        i128::from(i64::MAX) * 1_193_181 / 1_000_000_000
    );
    assert_eq!(
        i128::from(ns_to_ticks(-1)),
        i128::from(u64::MAX) * 1_193_181 / 1_000_000_000
    );
    assert_eq!(ticks_to_ns(0x10000), 54_925_447);
    assert_eq!(
        i128::from(ticks_to_ns(u32::MAX)),
        i128::from(u32::MAX) * 1_000_000_000 / 1_193_181
    );
}

#[test]
fn counts_down_and_wraps_in_the_modes_that_do() {
    for mode in [0, 1, 4, 5] {
        let mut bench = Bench::new();
        bench.program(2, mode, 1000);
        assert_eq!(bench.count(2), 1000, "mode {mode}");
        bench.pass(ns(400));
        assert_eq!(bench.count(2), 600, "mode {mode}");
        bench.pass(ns(601));
        assert_eq!(bench.count(2), 0xffff, "mode {mode}");
    }
}

#[test]
fn counts_periodically_in_modes_2_and_3() {
    let mut bench = Bench::new();
    bench.program(2, 2, 1000);
    bench.pass(ns(1400));
    assert_eq!(bench.count(2), 600);
    // By two, twice a period.
    bench.program(2, 3, 1000);
    bench.pass(ns(100));
    assert_eq!(bench.count(2), 800);
    bench.pass(ns(500));
    assert_eq!(bench.count(2), 800);
}

#[test]
fn modes_6_and_7_are_2_and_3() {
    let mut bench = Bench::new();
    bench.program(0, 6, 100);
    assert_eq!(bench.pit.counters()[0].mode, 2);
    bench.program(0, 7, 100);
    assert_eq!(bench.pit.counters()[0].mode, 3);
}

#[test]
fn count_0_is_the_largest() {
    let mut bench = Bench::new();
    bench.program(0, 2, 0);
    assert_eq!(bench.pit.counters()[0].count, 0x10000);
    assert_eq!(bench.machine.period, Some(ticks_to_ns(0x10000)));
    bench.pass(ns(1));
    assert_eq!(bench.count(0), 0xffff);
}

#[test]
fn the_output_of_each_mode() {
    // Ticks after loading 100, and the level then.
    let levels: [(u8, &[(u32, bool)]); 6] = [
        (0, &[(0, false), (99, false), (100, true), (5000, true)]),
        (1, &[(0, true), (99, true), (100, false), (5000, false)]),
        (
            2,
            &[
                (0, false),
                (99, false),
                (100, true),
                (101, false),
                (200, true),
            ],
        ),
        (
            3,
            &[(0, true), (49, true), (50, false), (99, false), (100, true)],
        ),
        (4, &[(0, false), (99, false), (100, true), (101, false)]),
        (5, &[(0, false), (99, false), (100, true), (101, false)]),
    ];
    for (mode, levels) in levels {
        for &(ticks, level) in levels {
            let mut bench = Bench::new();
            bench.program(2, mode, 100);
            if ticks != 0 {
                bench.pass(ns(ticks));
            }
            assert_eq!(bench.output_of_2(), level, "mode {mode}, {ticks} ticks");
        }
    }
}

#[test]
fn an_odd_square_wave_is_high_for_the_longer_half() {
    let mut bench = Bench::new();
    bench.program(2, 3, 101);
    bench.pass(ns(50));
    assert!(bench.output_of_2());
    bench.pass(ns(1));
    assert!(!bench.output_of_2());
}

#[test]
fn a_rising_gate_starts_over_in_the_modes_that_do() {
    for (mode, starts_over) in [
        (0, false),
        (1, true),
        (2, true),
        (3, true),
        (4, false),
        (5, true),
    ] {
        let mut bench = Bench::new();
        bench.program(2, mode, 1000);
        bench.pass(ns(100));
        let loaded = bench.pit.counters()[2].count_load_time;
        bench.write(0x61, 1);
        let now = bench.machine.now;
        let expected = if starts_over { now } else { loaded };
        assert_eq!(
            bench.pit.counters()[2].count_load_time,
            expected,
            "mode {mode}"
        );
        // Neither a gate that stays high does, nor one that falls.
        bench.pass(ns(100));
        bench.write(0x61, 1);
        bench.write(0x61, 0);
        assert_eq!(
            bench.pit.counters()[2].count_load_time,
            expected,
            "mode {mode}"
        );
    }
}

#[test]
fn counter_0_counts_from_its_timer() {
    let mut bench = Bench::new();
    // Never started.
    assert_eq!(bench.read(0x40), 0);
    bench.program(0, 2, 1000);
    bench.pass(ns(250));
    assert_eq!(bench.count(0), 750);
    assert_eq!(bench.pass(ns(1000)), 1);
    assert_eq!(bench.count(0), 750);
    bench.program(0, 0, 1000);
    assert_eq!(bench.pass(ns(3000)), 1);
    assert_eq!(bench.count(0), 0x10000u32.wrapping_sub(2000) as u16);
}

#[test]
fn one_shot_and_periodic_timers() {
    for (mode, period, starts) in [
        (0, None, true),
        (1, None, true),
        (2, Some(()), true),
        (3, Some(()), true),
        (4, None, true),
        (5, None, false),
    ] {
        let mut bench = Bench::new();
        bench.program(0, 2, 5000);
        bench.program(0, mode, 1000);
        assert_eq!(bench.machine.running, starts, "mode {mode}");
        if starts {
            assert_eq!(bench.machine.period, period.map(|()| ticks_to_ns(1000)));
            assert_eq!(bench.machine.expires, bench.machine.now + ticks_to_ns(1000));
        }
    }
}

#[test]
fn periods_are_limited_to_what_the_host_bears() {
    let mut bench = Bench::new();
    bench.machine.min_period = 200_000;
    bench.program(0, 2, 100);
    let requested = ticks_to_ns(100);
    assert_eq!(bench.machine.period, Some(200_000));
    // The first one comes when it was asked for.
    assert_eq!(bench.machine.expires, bench.machine.now + requested);
    assert_eq!(bench.machine.limited, [(requested, 200_000)]);
    // A single one is as short as it likes.
    bench.program(0, 0, 100);
    assert_eq!(bench.machine.expires, bench.machine.now + requested);
    assert_eq!(bench.machine.limited.len(), 1);
    // And one that is just long enough is not slowed down.
    bench.machine.min_period = requested;
    bench.program(0, 2, 100);
    assert_eq!(bench.machine.limited.len(), 1);
}

#[test]
fn a_load_time_in_the_future_does_no_harm() {
    let mut bench = Bench::new();
    let mut counters = *bench.pit.counters();
    for mode in 0..=255 {
        for count in [1, 2, 0xffff, 0x10000, u32::MAX] {
            counters[2].mode = mode;
            counters[2].count = count;
            bench.pit.restore(&counters, None, &mut bench.machine);
            bench.machine.now -= 5_000_000_000;
            bench.count(2);
            bench.output_of_2();
            bench.machine.now += 5_000_000_000;
        }
    }
}
