// SPDX-License-Identifier: GPL-2.0

use super::super::*;
use super::*;

#[test]
fn unmasking_does_not_deliver_a_kept_edge() {
    let mut bench = Bench::with_entry(4, MASKED | 0x41);
    bench.drive(4, true);
    bench.program(4, 0x41);
    assert_eq!(bench.deliveries(), 0);
}

#[test]
fn unmasking_a_high_level_line_delivers_it() {
    let mut bench = Bench::with_entry(10, MASKED | LEVEL | 0x51);
    assert_eq!(bench.drive(10, true), -1);
    bench.write_register(0x10 + 20, LEVEL as u32 | 0x51);
    assert_eq!(bench.deliveries(), 1);
    assert!(bench.remote_irr(10));
}

#[test]
fn unmasking_a_resampled_line_lets_its_owner_look_first() {
    let mut bench = Bench::with_entry(10, MASKED | LEVEL | 0x51);
    bench.machine.resamplers.push(10);
    bench.drive(10, true);
    bench.write_register(0x10 + 20, LEVEL as u32 | 0x51);
    assert_eq!(bench.machine.resampled, [10]);
    assert_eq!(bench.deliveries(), 0);
    assert_eq!(bench.irr(), 0);
    // And if the line is high still, the owner raises it again.
    assert_eq!(bench.drive(10, true), 1);
}

#[test]
fn writing_an_entry_does_not_resample_without_need() {
    for (entry, high) in [
        (MASKED | LEVEL | 0x51, true),
        (LEVEL | 0x51, false),
        (0x51, true),
    ] {
        let mut bench = Bench::with_entry(10, MASKED | LEVEL | 0x51);
        bench.machine.resamplers.push(10);
        bench.drive(10, high);
        bench.write_register(0x10 + 20, entry as u32);
        assert!(bench.machine.resampled.is_empty());
    }
}

#[test]
fn unmasking_while_in_flight_delivers_nothing() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    bench.program(10, MASKED | LEVEL | 0x51);
    bench.program(10, LEVEL | 0x51);
    assert_eq!(bench.deliveries(), 1);
}

#[test]
fn making_an_entry_edge_triggered_clears_remote_irr() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    // Linux's explicit EOI: mask and make edge-triggered, then restore.
    bench.write_register(0x10 + 20, (MASKED | 0x51) as u32);
    assert!(!bench.remote_irr(10));
    bench.write_register(0x10 + 20, (LEVEL | 0x51) as u32);
    assert_eq!(bench.deliveries(), 2);
    assert!(bench.remote_irr(10));
}

#[test]
fn remote_irr_and_delivery_status_cannot_be_written() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.write_register(0x10 + 20, (LEVEL | REMOTE_IRR | 1 << 12 | 0x51) as u32);
    assert_eq!(bench.read_register(0x10 + 20), (LEVEL | 0x51) as u32);
    bench.drive(10, true);
    bench.write_register(0x10 + 20, (LEVEL | 0x51) as u32);
    assert!(bench.remote_irr(10));
}

#[test]
fn every_change_of_the_mask_is_told() {
    let mut bench = Bench::with_entry(4, MASKED | 0x41);
    bench.program(4, 0x41);
    bench.program(4, 0x42);
    bench.program(4, MASKED | 0x42);
    assert_eq!(bench.machine.masks, [(4, false), (4, true)]);
}

#[test]
fn an_entry_with_a_fixed_vector_is_rescanned_where_it_goes_and_went() {
    let mut bench = Bench::with_entry(4, 0x0100_0000_0000_0841);
    bench.write_register(0x10 + 8, 0x842);
    let now = RedirectionEntry(0x0100_0000_0000_0842).message();
    assert_eq!(
        bench.machine.rescans,
        [Rescan::Addressed { now, before: None }]
    );
    bench.machine.rescans.clear();
    bench.write_register(0x10 + 8, 0x42);
    let physical = RedirectionEntry(0x0100_0000_0000_0042).message();
    assert_eq!(
        bench.machine.rescans,
        [Rescan::Addressed {
            now: physical,
            before: Some(now),
        }]
    );
    bench.machine.rescans.clear();
    bench.write_register(0x11 + 8, 0x0200_0000);
    assert_eq!(
        bench.machine.rescans,
        [Rescan::Addressed {
            now: RedirectionEntry(0x0200_0000_0000_0042).message(),
            before: Some(physical),
        }]
    );
}

#[test]
fn the_rescan_of_the_old_destination_is_not_arbitrated() {
    // A lowest-priority message would pick one vCPU of those it addresses.
    let mut bench = Bench::with_entry(4, 0x0300_0000_0000_0941);
    bench.write_register(0x10 + 8, 0x41);
    let Rescan::Addressed {
        before: Some(before),
        ..
    } = bench.machine.rescans[0]
    else {
        panic!("{:?}", bench.machine.rescans);
    };
    assert_eq!(before.delivery_mode, DeliveryMode::Fixed);
    assert_eq!(before.destination_mode, DestinationMode::Logical);
    assert_eq!(before.destination, 3);
}

#[test]
fn an_entry_that_is_not_fixed_is_rescanned_everywhere() {
    for mode in 1..8 {
        let mut bench = Bench::with_entry(4, MASKED | 0x41);
        bench.write_register(0x10 + 8, (mode << 8) | 0x41);
        assert_eq!(bench.machine.rescans, [Rescan::All]);
    }
}

#[test]
fn a_change_of_the_trigger_mode_alone_is_rescanned() {
    // Only one of the two kinds has EOIs to report.
    let mut bench = Bench::with_entry(4, 0x41);
    for entry in [LEVEL | 0x41, 0x41] {
        bench.machine.rescans.clear();
        bench.write_register(0x10 + 8, entry as u32);
        let now = RedirectionEntry(entry).message();
        assert_eq!(
            bench.machine.rescans,
            [Rescan::Addressed { now, before: None }]
        );
    }
}
