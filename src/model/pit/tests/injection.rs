// SPDX-License-Identifier: GPL-2.0

use super::*;

/// The worker's side: injections that were asked for, and done.
fn inject(reinjection: &Reinjection, injected: &mut usize) {
    if reinjection.may_inject() {
        *injected += 1;
    }
}

fn enabled() -> Reinjection {
    let reinjection = Reinjection::new();
    reinjection.reset();
    reinjection.set_enabled(true);
    reinjection
}

#[test]
fn without_reinjection_each_tick_is_injected_at_once() {
    let reinjection = Reinjection::new();
    let mut injected = 0;
    for _ in 0..5 {
        reinjection.tick();
        inject(&reinjection, &mut injected);
    }
    assert_eq!(injected, 5);
    assert!(!reinjection.acknowledge());
}

#[test]
fn with_reinjection_ticks_wait_for_the_acknowledgement() {
    let reinjection = enabled();
    let mut injected = 0;
    for _ in 0..5 {
        reinjection.tick();
        inject(&reinjection, &mut injected);
    }
    assert_eq!(injected, 1);
    for expected in 2..=5 {
        assert!(reinjection.acknowledge());
        inject(&reinjection, &mut injected);
        assert_eq!(injected, expected);
    }
    assert!(!reinjection.acknowledge());
    assert!(!reinjection.acknowledge());
}

#[test]
fn acknowledgements_of_others_are_not_saved_up() {
    let reinjection = enabled();
    let mut injected = 0;
    for _ in 0..10 {
        assert!(!reinjection.acknowledge());
    }
    for _ in 0..3 {
        reinjection.tick();
        inject(&reinjection, &mut injected);
    }
    assert_eq!(injected, 1);
}

#[test]
fn a_new_count_forgets_the_ticks_of_the_old_one() {
    let mut bench = Bench::new();
    bench.machine.reinjection.set_enabled(true);
    bench.program(0, 2, 1000);
    let mut injected = 0;
    for _ in 0..5 {
        bench.machine.reinjection.tick();
        inject(&bench.machine.reinjection, &mut injected);
    }
    bench.program(0, 2, 1000);
    assert!(!bench.machine.reinjection.acknowledge());
    bench.machine.reinjection.tick();
    inject(&bench.machine.reinjection, &mut injected);
    assert_eq!(injected, 2);
}

#[test]
fn what_was_missed_is_kept_while_it_is_off() {
    let reinjection = enabled();
    reinjection.tick();
    reinjection.tick();
    assert!(reinjection.may_inject());
    reinjection.set_enabled(false);
    reinjection.tick();
    assert!(reinjection.may_inject());
    reinjection.set_enabled(true);
    assert!(reinjection.acknowledge());
}

/// Each tick is injected, whatever the order of the worker and the guest.
#[test]
fn no_tick_is_lost_in_any_interleaving() {
    // Bits of `order`: who goes next, the timer or the guest.
    for order in 0..1u32 << 16 {
        let reinjection = enabled();
        let (mut injected, mut acknowledged, mut asked) = (0, 0, 0);
        let mut ticks = 0;
        for step in 0..16 {
            if order >> step & 1 == 0 {
                reinjection.tick();
                ticks += 1;
                asked += 1;
            } else if asked > 0 {
                asked = 0;
                inject(&reinjection, &mut injected);
            } else if acknowledged < injected {
                acknowledged += 1;
                asked += usize::from(reinjection.acknowledge());
            }
        }
        while asked > 0 || acknowledged < injected {
            if asked > 0 {
                asked = 0;
                inject(&reinjection, &mut injected);
            } else {
                acknowledged += 1;
                asked += usize::from(reinjection.acknowledge());
            }
        }
        assert_eq!(injected, ticks, "order {order:#x}");
    }
}
