// SPDX-License-Identifier: GPL-2.0

use super::super::*;
use super::*;

#[test]
fn after_reset_all_pins_are_masked() {
    assert_eq!(IoApic::default(), IoApic::new());
    let state = IoApic::new().state();
    assert_eq!(
        state,
        State {
            base_address: 0xfec0_0000,
            ioregsel: 0,
            id: 0,
            irr: 0,
            pad: 0,
            redirtbl: [MASKED; 24],
        }
    );
}

#[test]
fn a_delivered_edge_is_not_pending_in_the_saved_state() {
    let mut bench = Bench::with_entry(4, 0x41);
    bench.drive(4, true);
    assert_eq!(bench.irr(), 0);
    bench.program(5, MASKED | 0x42);
    bench.drive(5, true);
    bench.program(6, LEVEL | 0x43);
    bench.drive(6, true);
    assert_eq!(bench.irr(), 0b110_0000);
}

#[test]
fn a_second_edge_while_the_line_is_high_makes_the_first_pending_again() {
    let mut bench = Bench::with_entry(4, 0x41);
    bench.drive(4, true);
    assert_eq!(bench.drive(4, true), 0);
    assert_eq!(bench.irr(), 1 << 4);
}

#[test]
fn restoring_keeps_every_field_and_raises_what_was_pending() {
    let mut bench = Bench::new();
    let mut state = State {
        base_address: DEFAULT_BASE,
        ioregsel: 0x1234_5678,
        id: 0xffff_ffff,
        irr: 0xffff_fff0,
        pad: 0x8765_4321,
        redirtbl: [MASKED | 0x1_2345_0000_0000; 24],
    };
    state.redirtbl[4] = 0x41;
    state.redirtbl[5] = LEVEL | 0x42;
    state.redirtbl[6] = LEVEL | REMOTE_IRR | 0x43;
    bench.restore(&state);
    let vectors: Vec<u8> = bench.machine.delivered.iter().map(|m| m.vector).collect();
    assert_eq!(vectors, [0x41, 0x42]);
    assert_eq!(bench.machine.rescans, [Rescan::All]);
    let mut expected = state;
    expected.irr = 0x00ff_ffe0;
    expected.redirtbl[5] |= REMOTE_IRR;
    assert_eq!(bench.chip.state(), expected);
    assert_eq!(bench.read_register(0), 0x0f00_0000);
}

#[test]
fn restoring_raises_a_pin_once() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    let state = bench.chip.state();
    let mut target = Bench::new();
    target.restore(&state);
    assert_eq!(target.deliveries(), 0);
    assert_eq!(target.chip.state(), state);
    target.eoi(0, 0x51, Trigger::Level);
    assert_eq!(target.deliveries(), 1);
}

#[test]
fn restoring_leaves_the_lines() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    let state = IoApic::new().state();
    bench.restore(&state);
    let level = bench
        .chip
        .set_line(10, source::RESAMPLE, false, false, &mut bench.machine);
    // User space still holds it high.
    assert_eq!(level, -1);
    assert_eq!(bench.irr(), 1 << 10);
}

#[test]
fn the_saved_state_is_laid_out_as_kvm_ioapic_state() {
    assert_eq!(core::mem::size_of::<State>(), 216);
    assert_eq!(core::mem::offset_of!(State, ioregsel), 8);
    assert_eq!(core::mem::offset_of!(State, irr), 16);
    assert_eq!(core::mem::offset_of!(State, redirtbl), 24);
}
