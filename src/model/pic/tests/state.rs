// SPDX-License-Identifier: GPL-2.0

use super::super::*;
use super::*;

#[test]
fn the_saved_state_has_the_layout_of_kvm_pic_state() {
    let bytes: [u8; 16] = core::array::from_fn(|index| index as u8 + 1);
    let state = State::from_bytes(bytes);
    assert_eq!(
        state,
        State {
            last_irr: 1,
            irr: 2,
            imr: 3,
            isr: 4,
            priority_add: 5,
            irq_base: 6,
            read_reg_select: 7,
            poll: 8,
            special_mask: 9,
            init_state: 10,
            auto_eoi: 11,
            rotate_on_auto_eoi: 12,
            special_fully_nested_mode: 13,
            init4: 14,
            elcr: 15,
            elcr_mask: 16,
        }
    );
    assert_eq!(state.to_bytes(), bytes);
    assert_eq!(core::mem::size_of::<State>(), 16);
}

#[test]
fn restoring_a_request_raises_the_output() {
    let mut bench = Bench::initialized();
    let state = State {
        irr: 0x10,
        ..bench.master()
    };
    bench.set_state(Chip::Master, state);
    assert!(bench.pic.output());
    assert_eq!(bench.wakeups, 1);
    bench.set_state(Chip::Master, State { irr: 0, ..state });
    assert!(!bench.pic.output());
}

#[test]
fn restored_flags_are_true_for_any_value_but_zero() {
    let mut bench = Bench::initialized();
    let state = State {
        read_reg_select: 0x80,
        auto_eoi: 0x40,
        rotate_on_auto_eoi: 0x20,
        special_fully_nested_mode: 0x08,
        init4: 0x04,
        ..bench.master()
    };
    bench.set_state(Chip::Master, state);
    bench.pulse(4);
    bench.acknowledge();
    assert_eq!(bench.master().isr, 0);
    assert_eq!(bench.master().priority_add, 5);
    bench.set_state(
        Chip::Master,
        State {
            isr: 0x11,
            init_state: 2,
            ..state
        },
    );
    assert_eq!(bench.read(0x20), 0x11);
    bench.write(0x21, 0);
    assert_eq!(bench.master().init_state, 3);
}

#[test]
fn a_restored_init_state_beyond_icw4_ignores_the_data_port() {
    let mut bench = Bench::initialized();
    let state = State {
        init_state: 4,
        ..bench.master()
    };
    bench.set_state(Chip::Master, state);
    bench.write(0x21, 0xff);
    assert_eq!(bench.master(), state);
    bench.write(0x20, 0x11);
    assert_eq!(bench.master().init_state, 1);
}

#[test]
fn a_restored_priority_and_vector_base_are_reduced_where_used() {
    let mut bench = Bench::initialized();
    let state = State {
        priority_add: 0xfd,
        irq_base: 0xfc,
        irr: 0x21,
        ..bench.master()
    };
    bench.set_state(Chip::Master, state);
    assert_eq!(bench.acknowledge(), 0x01);
    assert_eq!(bench.master().priority_add, 0xfd);
}

#[test]
fn a_restored_elcr_can_make_any_line_level_triggered() {
    let mut bench = Bench::initialized();
    let state = State {
        elcr: 0x04,
        ..bench.master()
    };
    bench.set_state(Chip::Master, state);
    // The pulse on a level-triggered cascade leaves no request.
    bench.pulse(9);
    assert!(!bench.pic.output());
    assert_eq!(bench.master().irr, 0);
}
