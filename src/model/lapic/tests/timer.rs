// SPDX-License-Identifier: GPL-2.0

//! The timer in its three modes, on both clocks.

use super::fake::{Event, Machine};
use super::lapic::{Offset, Vectors};
use super::sync::Ordering;

// LVT entries, of vector 0x40.
pub(super) const ONE_SHOT: u32 = 0x40;
pub(super) const PERIODIC: u32 = 0x2_0040;
pub(super) const TSC_DEADLINE: u32 = 0x4_0040;

/// The timer counts ns, and delivers vector 0x40.
fn timer(lvt: u32) -> Machine {
    let machine = Machine::enabled();
    machine.write(Offset::DIVIDE, 0xb);
    machine.write(Offset::LVT_TIMER, lvt);
    machine.forget();
    machine
}

/// Delivers what is pending, takes it, and ends it. How many were there?
fn take_timer(machine: &Machine) -> u32 {
    let pending = machine.apic().pending_timer();
    machine.apic().inject_timer();
    if machine.take() == Some(0x40) {
        machine.eoi();
    }
    pending
}

#[test]
fn a_one_shot_expires_once() {
    let machine = timer(ONE_SHOT);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    assert_eq!(machine.advance(499_999), 0);
    assert_eq!(machine.advance(1), 1);
    assert!(machine.has(Event::UnblockRequest) && machine.has(Event::Kick));
    assert_eq!(take_timer(&machine), 1);
    assert_eq!(machine.advance(10_000_000), 0);
    assert_eq!(take_timer(&machine), 0);
    assert_eq!(machine.read(Offset::CURRENT_COUNT), 0);
}

#[test]
fn a_periodic_timer_expires_every_period() {
    let machine = timer(PERIODIC);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    for _ in 0..5 {
        assert_eq!(machine.advance(499_999), 0);
        assert_eq!(machine.advance(1), 1);
        assert_eq!(take_timer(&machine), 1);
    }
}

#[test]
fn the_current_count_counts_down_and_starts_again() {
    let machine = timer(PERIODIC);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    assert_eq!(machine.read(Offset::CURRENT_COUNT), 0, "a full period is 0");
    machine.advance(1);
    assert_eq!(machine.read(Offset::CURRENT_COUNT), 499_999);
    machine.advance(499_998);
    assert_eq!(machine.read(Offset::CURRENT_COUNT), 1);
    machine.advance(100_001);
    assert_eq!(machine.read(Offset::CURRENT_COUNT), 400_000);
}

#[test]
fn a_count_without_a_bus_clock_does_not_divide_by_zero_either() {
    let machine = timer(ONE_SHOT);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    machine.advance(1);
    machine.bus_cycle_ns.set(0);
    assert_eq!(machine.read(Offset::CURRENT_COUNT), 0);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    assert_eq!(machine.read(Offset::CURRENT_COUNT), 0);
}

#[test]
fn the_initial_count_times_divisor_and_bus_cycle_is_the_period() {
    for (divide, divisor) in [
        (0x0, 2),
        (0x1, 4),
        (0x2, 8),
        (0x3, 16),
        (0x8, 32),
        (0x9, 64),
        (0xa, 128),
        (0xb, 1),
    ] {
        for bus_cycle_ns in [1, 25] {
            let machine = timer(ONE_SHOT);
            machine.bus_cycle_ns.set(bus_cycle_ns);
            machine.write(Offset::DIVIDE, divide);
            let start = machine.now.get();
            machine.write(Offset::INITIAL_COUNT, 1000);
            let period = 1000 * divisor * bus_cycle_ns as i64;
            assert_eq!(machine.hrtimer.get(), Some(start + period));
            machine.advance(period / 4);
            assert_eq!(machine.read(Offset::CURRENT_COUNT), 750);
        }
    }
}

#[test]
fn another_divisor_stretches_what_is_left() {
    let machine = timer(ONE_SHOT);
    machine.write(Offset::INITIAL_COUNT, 1_000_000);
    machine.advance(600_000);
    let start = machine.now.get();
    machine.write(Offset::DIVIDE, 0x1);
    assert_eq!(machine.hrtimer.get(), Some(start + 1_600_000));
    assert_eq!(machine.read(Offset::CURRENT_COUNT), 400_000);
    machine.write(Offset::DIVIDE, 0x0);
    assert_eq!(machine.hrtimer.get(), Some(start + 800_000));
    machine.advance(800_000);
    assert_eq!(take_timer(&machine), 1);
}

#[test]
fn the_same_divisor_or_a_stopped_timer_is_left_alone() {
    let machine = timer(ONE_SHOT);
    machine.write(Offset::DIVIDE, 0x3);
    assert_eq!(machine.hrtimer.get(), None);
    machine.write(Offset::INITIAL_COUNT, 1_000_000);
    let armed = machine.hrtimer.get();
    machine.advance(5);
    machine.write(Offset::DIVIDE, 0x3);
    assert_eq!(machine.hrtimer.get(), armed);
}

#[test]
fn an_initial_count_of_zero_stops_the_timer() {
    let machine = timer(PERIODIC);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    machine.write(Offset::INITIAL_COUNT, 0);
    assert_eq!(machine.hrtimer.get(), None);
    assert_eq!(machine.read(Offset::CURRENT_COUNT), 0);
}

#[test]
fn a_new_initial_count_forgets_what_was_pending() {
    let machine = timer(ONE_SHOT);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    machine.advance(600_000);
    assert_eq!(machine.apic().pending_timer(), 1);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    assert_eq!(machine.apic().pending_timer(), 0);
}

#[test]
fn a_period_is_no_shorter_than_the_host_allows() {
    let machine = timer(PERIODIC);
    let start = machine.now.get();
    machine.write(Offset::INITIAL_COUNT, 1);
    assert_eq!(machine.hrtimer.get(), Some(start + 200_000));
    assert_eq!(machine.advance(1_000_000), 5);

    let machine = timer(ONE_SHOT);
    let start = machine.now.get();
    machine.write(Offset::INITIAL_COUNT, 1);
    assert_eq!(machine.hrtimer.get(), Some(start + 1));
}

#[test]
fn a_one_shot_turned_periodic_is_limited_too() {
    let machine = timer(ONE_SHOT);
    machine.write(Offset::INITIAL_COUNT, 100);
    machine.write(Offset::LVT_TIMER, PERIODIC);
    machine.advance(100);
    let start = machine.now.get();
    assert_eq!(machine.hrtimer.get(), Some(start + 200_000));
}

#[test]
fn expiries_that_were_missed_are_not_made_up_for() {
    let machine = timer(PERIODIC);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    // The callback is not called for an hour, as if the host had slept.
    machine.now.set(machine.now.get() + 3_600_000_000_000);
    let next = machine.apic().timer_expired().unwrap();
    assert_eq!(next, machine.now.get());
    let next = machine.apic().timer_expired().unwrap();
    assert_eq!(next, machine.now.get() + 500_000);
    assert_eq!(machine.apic().pending_timer(), 1);
}

#[test]
fn only_one_expiry_is_pending_at_a_time() {
    let machine = timer(PERIODIC);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    assert_eq!(machine.advance(5_000_000), 10);
    assert_eq!(take_timer(&machine), 1);
    assert_eq!(take_timer(&machine), 0);
}

#[test]
fn a_masked_or_disabled_timer_is_not_pending() {
    let machine = timer(ONE_SHOT);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    machine.advance(500_000);
    machine.write(Offset::LVT_TIMER, 0x1_0000 | ONE_SHOT);
    assert_eq!(machine.apic().pending_timer(), 0);
    machine.write(Offset::LVT_TIMER, ONE_SHOT);
    assert_eq!(machine.apic().pending_timer(), 1);
    machine.write(Offset::SPURIOUS, 0xff);
    machine.write(Offset::SPURIOUS, 0x1ff);
    machine.write(Offset::LVT_TIMER, ONE_SHOT);
    assert_eq!(machine.apic().pending_timer(), 0, "disabling dropped it");
}

#[test]
fn a_deadline_expires_when_the_tsc_reaches_it() {
    let machine = timer(TSC_DEADLINE);
    let start = machine.now.get();
    let deadline = machine.tsc() + 1_000_000;
    machine.apic().set_tscdeadline(deadline);
    assert_eq!(machine.hrtimer.get(), Some(start + 500_000));
    assert_eq!(machine.apic().tscdeadline(), deadline);
    assert_eq!(machine.advance(500_000), 1);
    assert_eq!(take_timer(&machine), 1);
    assert_eq!(machine.apic().tscdeadline(), 0, "disarmed by the expiry");
}

#[test]
fn a_deadline_can_be_armed_again_after_each_expiry() {
    let machine = timer(TSC_DEADLINE);
    for _ in 0..5 {
        let deadline = machine.tsc() + 1_000_000;
        machine.apic().set_tscdeadline(deadline);
        assert_eq!(machine.advance(499_999), 0);
        assert_eq!(machine.advance(1), 1);
        assert_eq!(take_timer(&machine), 1);
    }
}

#[test]
fn a_deadline_set_while_one_is_pending_replaces_it() {
    let machine = timer(TSC_DEADLINE);
    machine.apic().set_tscdeadline(machine.tsc() + 1000);
    machine.advance(500);
    assert_eq!(machine.apic().pending_timer(), 1);
    let deadline = machine.tsc() + 1_000_000;
    machine.apic().set_tscdeadline(deadline);
    assert_eq!(machine.apic().pending_timer(), 0);
    assert_eq!(machine.apic().tscdeadline(), deadline);
    assert_eq!(machine.advance(500_000), 1);
    assert_eq!(take_timer(&machine), 1);
}

#[test]
fn a_deadline_in_the_past_expires_at_once() {
    for ago in [0, 1, 100] {
        let machine = timer(TSC_DEADLINE);
        machine.apic().set_tscdeadline(machine.tsc() - ago);
        assert_eq!(machine.hrtimer.get(), None);
        assert_eq!(take_timer(&machine), 1);
    }
}

#[test]
fn a_deadline_of_zero_disarms() {
    let machine = timer(TSC_DEADLINE);
    machine.apic().set_tscdeadline(machine.tsc() + 1000);
    machine.apic().set_tscdeadline(0);
    assert_eq!(machine.hrtimer.get(), None);
    assert_eq!(machine.advance(1_000_000), 0);
    assert_eq!(take_timer(&machine), 0);
}

#[test]
fn a_deadline_expires_early_by_the_advance() {
    let machine = timer(TSC_DEADLINE);
    machine.timer_advance_ns.store(1000, Ordering::Relaxed);
    let start = machine.now.get();
    machine.apic().set_tscdeadline(machine.tsc() + 1_000_000);
    assert_eq!(machine.hrtimer.get(), Some(start + 499_000));
    machine.apic().set_tscdeadline(machine.tsc() + 2000);
    assert_eq!(machine.hrtimer.get(), None, "closer than the advance");
    assert_eq!(machine.apic().pending_timer(), 1);
}

#[test]
fn a_deadline_means_nothing_in_the_other_modes_or_without_an_apic() {
    for lvt in [ONE_SHOT, PERIODIC] {
        let machine = timer(lvt);
        machine.apic().set_tscdeadline(machine.tsc() + 1000);
        assert_eq!(machine.apic().tscdeadline(), 0);
        assert_eq!(machine.hrtimer.get(), None);
    }
    let machine = timer(TSC_DEADLINE);
    machine.apic().set_base(0xfee0_0000, true).unwrap();
    machine.apic().set_tscdeadline(machine.tsc() + 1000);
    assert_eq!(machine.hrtimer.get(), None);
}

#[test]
fn a_deadline_without_a_tsc_frequency_does_not_divide_by_zero() {
    let machine = timer(TSC_DEADLINE);
    machine.tsc_khz.set(0);
    machine.apic().set_tscdeadline(machine.tsc() + 1000);
    assert_eq!(machine.hrtimer.get(), None);
    assert_eq!(machine.apic().pending_timer(), 0);
}

#[test]
fn a_deadline_beyond_reckoning_wraps_and_does_not_panic() {
    let machine = timer(TSC_DEADLINE);
    machine.apic().set_tscdeadline(u64::MAX);
    let left = (u64::MAX - machine.tsc()).wrapping_mul(1_000_000) / 2_000_000;
    let expires = machine.now.get().wrapping_add(left as i64);
    assert_eq!(machine.hrtimer.get(), Some(expires));
}

#[test]
fn counts_do_nothing_in_tsc_deadline_mode() {
    let machine = timer(TSC_DEADLINE);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    assert_eq!(machine.read(Offset::INITIAL_COUNT), 0);
    assert_eq!(machine.read(Offset::CURRENT_COUNT), 0);
    assert_eq!(machine.hrtimer.get(), None);
}

#[test]
fn a_change_from_or_to_tsc_deadline_mode_disarms_the_timer() {
    let machine = timer(PERIODIC);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    machine.write(Offset::LVT_TIMER, TSC_DEADLINE);
    assert_eq!(machine.hrtimer.get(), None);
    assert_eq!(machine.read(Offset::INITIAL_COUNT), 0);
    machine.apic().set_tscdeadline(machine.tsc() + 1000);
    machine.write(Offset::LVT_TIMER, ONE_SHOT);
    assert_eq!(machine.hrtimer.get(), None);
    machine.write(Offset::LVT_TIMER, TSC_DEADLINE);
    assert_eq!(machine.apic().tscdeadline(), 0);
}

#[test]
fn a_change_between_one_shot_and_periodic_keeps_the_count() {
    let machine = timer(PERIODIC);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    machine.advance(100_000);
    machine.write(Offset::LVT_TIMER, ONE_SHOT);
    assert_eq!(machine.read(Offset::CURRENT_COUNT), 400_000);
    assert_eq!(machine.advance(5_000_000), 1);
}

#[test]
fn the_reserved_mode_does_not_count() {
    let machine = timer(0x6_0040);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    assert_eq!(machine.hrtimer.get(), None);
    assert_eq!(machine.advance(5_000_000), 0);
}

#[test]
fn the_cpus_timer_is_preferred_and_takes_the_deadline() {
    let machine = timer(TSC_DEADLINE);
    machine.has_hv_timer.set(true);
    let deadline = machine.tsc() + 1000;
    machine.apic().set_tscdeadline(deadline);
    assert_eq!(machine.hv_timer.get(), Some(deadline));
    assert_eq!(machine.hrtimer.get(), None);
    machine.advance(500);
    machine.apic().expired_hv_timer();
    assert_eq!(machine.hv_timer.get(), None);
    assert_eq!(take_timer(&machine), 1);
    machine.forget();
    machine.apic().expired_hv_timer();
    assert_eq!(take_timer(&machine), 0, "not in use any more");
}

#[test]
fn counting_modes_use_the_cpus_timer_too() {
    let machine = timer(ONE_SHOT);
    machine.has_hv_timer.set(true);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    assert_eq!(machine.hv_timer.get(), Some(machine.tsc() + 1_000_000));
    machine.advance(500_000);
    machine.apic().expired_hv_timer();
    assert_eq!(take_timer(&machine), 1);
    assert_eq!(machine.hv_timer.get(), None);

    let machine = timer(PERIODIC);
    machine.has_hv_timer.set(true);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    for _ in 0..3 {
        machine.advance(500_000);
        machine.apic().expired_hv_timer();
        assert_eq!(take_timer(&machine), 1);
        assert_eq!(machine.hv_timer.get(), Some(machine.tsc() + 1_000_000));
    }
}

#[test]
fn after_a_long_pause_the_cpus_timer_does_not_catch_up_either() {
    let machine = timer(PERIODIC);
    machine.has_hv_timer.set(true);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    machine.now.set(machine.now.get() + 3_600_000_000_000);
    machine.apic().expired_hv_timer();
    assert_eq!(machine.hv_timer.get(), Some(machine.tsc()));
    machine.apic().expired_hv_timer();
    assert_eq!(machine.hv_timer.get(), Some(machine.tsc() + 1_000_000));
}

#[test]
fn a_deadline_that_has_passed_while_it_was_armed_in_the_cpu_expires() {
    let machine = timer(TSC_DEADLINE);
    machine.has_hv_timer.set(true);
    machine.apic().set_tscdeadline(machine.tsc() - 1);
    assert_eq!(machine.hv_timer.get(), None);
    assert_eq!(take_timer(&machine), 1);
}

#[test]
fn the_timer_moves_to_the_other_clock_to_block_and_back_to_run() {
    for lvt in [ONE_SHOT, PERIODIC, TSC_DEADLINE] {
        let machine = timer(lvt);
        machine.has_hv_timer.set(true);
        let start = machine.now.get();
        let deadline = machine.tsc() + 1_000_000;
        machine.write(Offset::INITIAL_COUNT, 500_000);
        machine.apic().set_tscdeadline(deadline);
        assert_eq!(machine.hv_timer.get(), Some(deadline));

        machine.apic().switch_to_sw_timer();
        assert_eq!(machine.hv_timer.get(), None);
        assert_eq!(machine.hrtimer.get(), Some(start + 500_000));
        machine.apic().switch_to_hv_timer();
        assert_eq!(machine.hv_timer.get(), Some(deadline));
        assert_eq!(machine.hrtimer.get(), None);
        machine.apic().restart_hv_timer();
        assert_eq!(machine.hv_timer.get(), Some(deadline));

        machine.apic().switch_to_sw_timer();
        machine.advance(500_000);
        machine.apic().switch_to_hv_timer();
        assert_eq!(take_timer(&machine), 1);
    }
}

#[test]
fn a_move_back_while_an_expiry_is_pending_arms_nothing() {
    let machine = timer(TSC_DEADLINE);
    machine.apic().set_tscdeadline(machine.tsc() + 1000);
    machine.advance(500);
    machine.has_hv_timer.set(true);
    machine.apic().switch_to_hv_timer();
    assert_eq!(machine.hv_timer.get(), None);
    assert_eq!(take_timer(&machine), 1);
}

#[test]
fn a_deadline_too_far_for_the_cpus_timer_goes_to_the_hrtimer() {
    let machine = timer(TSC_DEADLINE);
    machine.has_hv_timer.set(true);
    machine.hv_timer_refuses.set(true);
    let start = machine.now.get();
    machine.apic().set_tscdeadline(machine.tsc() + 1_000_000);
    assert_eq!(machine.hrtimer.get(), Some(start + 500_000));
    assert!(!machine.hv_timer_in_use.load(Ordering::Relaxed));
    assert_eq!(machine.advance(500_000), 1);
    assert_eq!(take_timer(&machine), 1);
}

#[test]
fn an_hrtimer_that_expires_while_the_cpus_timer_is_armed_counts_once() {
    // By its advance the hrtimer expires when the deadline is yet to come.
    let machine = timer(TSC_DEADLINE);
    machine.timer_advance_ns.store(100, Ordering::Relaxed);
    machine.apic().set_tscdeadline(machine.tsc() + 1000);
    machine.has_hv_timer.set(true);
    machine.callback_is_late.set(true);
    machine.now.set(machine.now.get() + 450);
    machine.apic().switch_to_hv_timer();
    assert_eq!(machine.hv_timer.get(), None);
    assert!(!machine.hv_timer_in_use.load(Ordering::Relaxed));
    assert_eq!(machine.hrtimer.get(), None);
    assert_eq!(take_timer(&machine), 1);
}

#[test]
fn a_timer_turned_one_shot_with_an_expiry_pending_is_not_armed_to_block() {
    let machine = timer(PERIODIC);
    machine.has_hv_timer.set(true);
    machine.write(Offset::INITIAL_COUNT, 500_000);
    machine.advance(500_000);
    machine.apic().expired_hv_timer();
    assert!(machine.hv_timer.get().is_some(), "for the next period");
    machine.write(Offset::LVT_TIMER, ONE_SHOT);
    machine.apic().switch_to_sw_timer();
    assert_eq!(machine.hv_timer.get(), None);
    assert_eq!(machine.hrtimer.get(), None);
    assert_eq!(take_timer(&machine), 1);
}

#[test]
fn a_count_that_ends_now_is_left_to_the_hrtimer_and_one_that_has_ended_expires() {
    for (late, armed) in [(0, true), (1, false)] {
        let machine = timer(ONE_SHOT);
        machine.has_hv_timer.set(true);
        machine.write(Offset::INITIAL_COUNT, 500_000);
        machine.advance(500_000 + late);
        machine.apic().switch_to_sw_timer();
        assert_eq!(machine.hrtimer.get().is_some(), armed);
        assert_eq!(machine.apic().pending_timer(), u32::from(!armed));
    }
}

#[test]
fn the_hrtimer_follows_the_vcpu_unless_it_posts() {
    let machine = timer(ONE_SHOT);
    machine.apic().migrate_timer();
    assert_eq!(machine.hrtimer.get(), None, "it was not armed");
    machine.write(Offset::INITIAL_COUNT, 500_000);
    let armed = machine.hrtimer.get();
    machine.last_hrtimer.set(armed.unwrap());
    machine.apic().migrate_timer();
    assert_eq!(machine.hrtimer.get(), armed);
    machine.can_post.set(true);
    machine.apicv_active.store(true, Ordering::Relaxed);
    machine.last_hrtimer.set(0);
    machine.apic().migrate_timer();
    assert_eq!(machine.hrtimer.get(), armed);
}

#[test]
fn with_apicv_an_expiry_in_the_vcpus_thread_is_delivered_at_once() {
    let machine = timer(TSC_DEADLINE);
    machine.apicv_active.store(true, Ordering::Relaxed);
    machine.apic().set_tscdeadline(machine.tsc());
    assert!(machine.regs.test(Vectors::Irr, 0x40));
    assert_eq!(machine.apic().pending_timer(), 0);
    assert_eq!(machine.apic().tscdeadline(), 0);

    let machine = timer(TSC_DEADLINE);
    machine.apicv_active.store(true, Ordering::Relaxed);
    machine.wants_to_run.set(false);
    machine.apic().set_tscdeadline(machine.tsc());
    assert_eq!(machine.apic().pending_timer(), 1, "it only looks");
}

#[test]
fn the_callback_posts_to_a_vcpu_in_guest_mode() {
    let machine = timer(TSC_DEADLINE);
    machine.can_post.set(true);
    machine.apicv_active.store(true, Ordering::Relaxed);
    machine.in_guest.set(true);
    machine.timer_advance_ns.store(1000, Ordering::Relaxed);
    machine.apic().set_tscdeadline(machine.tsc() + 1_000_000);
    machine.forget();
    machine.advance(499_000);
    assert!(machine.regs.test(Vectors::Irr, 0x40));
    assert_eq!(machine.apic().pending_timer(), 0);
    assert_eq!(
        machine.events.borrow()[0],
        // 1000 ns, less the eighth by which the advance was just tuned.
        Event::DelayCycles(1750),
        "it waits before it posts"
    );
}

fn expired_early(early_ns: i64) -> Machine {
    let machine = timer(TSC_DEADLINE);
    machine.timer_advance_ns.store(1000, Ordering::Relaxed);
    machine.apic().set_tscdeadline(machine.tsc() + 1_000_000);
    machine.advance(499_000);
    machine.apic().inject_timer();
    assert_eq!(machine.take(), Some(0x40));
    machine.now.set(machine.now.get() + 1000 - early_ns);
    machine.forget();
    machine
}

#[test]
fn the_entry_waits_for_the_deadline_that_was_advanced() {
    let machine = expired_early(20);
    machine.apic().wait_expire();
    assert_eq!(*machine.events.borrow(), [Event::DelayCycles(40)]);
    machine.forget();
    machine.apic().wait_expire();
    assert!(machine.events.borrow().is_empty(), "only once");
}

#[test]
fn the_entry_does_not_wait_after_the_deadline_or_for_another_vector() {
    for late_ns in [0, 20] {
        let machine = expired_early(-late_ns);
        machine.apic().wait_expire();
        assert!(machine.events.borrow().is_empty());
    }

    let machine = expired_early(20);
    machine.write(Offset::LVT_TIMER, TSC_DEADLINE + 1);
    machine.forget();
    machine.apic().wait_expire();
    assert!(machine.events.borrow().is_empty());
    machine.protected.store(true, Ordering::Relaxed);
    machine.apic().wait_expire();
    assert_eq!(*machine.events.borrow(), [Event::DelayCycles(40)]);
}

#[test]
fn the_time_that_tuning_takes_is_not_waited_for_again() {
    let machine = expired_early(30);
    machine.ns_per_look.set(10);
    machine.apic().wait_expire();
    // 20 ns when it looked first, 10 ns when it looked again.
    assert_eq!(*machine.events.borrow(), [Event::DelayCycles(20)]);
}

#[test]
fn with_apicv_the_entry_waits_while_the_vector_is_requested() {
    // Taken by the CPU, which does not show it in IRR any more.
    let machine = expired_early(20);
    machine.apicv_active.store(true, Ordering::Relaxed);
    machine.apic().wait_expire();
    assert!(machine.events.borrow().is_empty());
    machine.regs.set(Vectors::Irr, 0x40);
    machine.apic().wait_expire();
    assert_eq!(*machine.events.borrow(), [Event::DelayCycles(40)]);
}

#[test]
fn the_wait_is_no_longer_than_the_advance() {
    let machine = expired_early(1000);
    machine.timer_advance_ns.store(10, Ordering::Relaxed);
    machine.now.set(machine.now.get() - 100_000);
    machine.apic().wait_expire();
    assert_eq!(*machine.events.borrow(), [Event::DelayCycles(20)]);

    let machine = expired_early(100);
    machine.tsc_scaled.set(true);
    machine.apic().wait_expire();
    assert_eq!(*machine.events.borrow(), [Event::DelayNs(100)]);
}

#[test]
fn the_advance_is_tuned_by_an_eighth_of_the_difference() {
    for (early_ns, advance) in [
        (800, 900),
        (-800, 1100),
        (49, 1000),
        (-49, 1000),
        (50, 994),
        (-5001, 1000),
        (-5000, 1625),
    ] {
        let machine = expired_early(early_ns);
        machine.apic().wait_expire();
        let tuned = machine.timer_advance_ns.load(Ordering::Relaxed);
        assert_eq!(tuned, advance, "{early_ns}");
    }
}

#[test]
fn an_advance_out_of_bounds_starts_anew() {
    for (advance, tuned) in [(4500, 5000), (4501, 1000)] {
        let machine = expired_early(-4000);
        machine.timer_advance_ns.store(advance, Ordering::Relaxed);
        machine.apic().wait_expire();
        assert_eq!(machine.timer_advance_ns.load(Ordering::Relaxed), tuned);
    }
    let machine = expired_early(800);
    machine.timer_advance_ns.store(50, Ordering::Relaxed);
    machine.apic().wait_expire();
    assert_eq!(machine.timer_advance_ns.load(Ordering::Relaxed), 1000);
}
