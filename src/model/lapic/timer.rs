// SPDX-License-Identifier: GPL-2.0

//! The APIC timer: one-shot, periodic and TSC-deadline.
//!
//! It runs on one of two clocks. In software it is an hrtimer, whose callback
//! comes in hardirq context on whatever CPU armed it. Where the CPU has a timer
//! of its own that exits the guest (Intel's preemption timer), it is used while
//! the vCPU is loaded and gives the vCPU's thread an exit instead.
//!
//! Either way the expiry only counts up [`Timer::pending`] and wakes the vCPU,
//! which delivers from the LVT entry itself; unless it is safe to deliver at
//! once.
//!
//! All times wrap as KVM's do; none of them is trusted. A periodic timer does
//! not catch up with what it missed while the vCPU did not run, and no period
//! is shorter than the host allows, so the callback's rate is bounded.
//!
//! Source: Intel SDM volume 3, "APIC Timer" and "TSC-Deadline Mode".

use super::super::sync::{Ordering, Relaxed};
use super::host::Clocks;
use super::hrtimer::Hrtimer;
use super::register::LVT_MASKED;
use super::{Host, LocalApic, Offset, Vectors};

/// Timer mode field of the LVT entry: periodic.
pub const MODE_PERIODIC: u32 = 1 << 17;
/// Timer mode field of the LVT entry: TSC-deadline.
pub const MODE_TSC_DEADLINE: u32 = 2 << 17;
/// Timer mode field of the LVT entry: one-shot.
pub const MODE_ONE_SHOT: u32 = 0;

/// The first value of [`super::Shared::timer_advance_ns`], and the one that it
/// falls back to.
pub const ADVANCE_INITIAL_NS: u32 = 1000;
/// It does not grow beyond this.
const ADVANCE_MAX_NS: u32 = 5000;
/// Differences that are shorter than this are noise, cycles.
const ADJUST_MIN: u64 = 100;
/// Differences that are longer than this have other causes, cycles.
const ADJUST_MAX: u64 = 10000;
/// The part of a difference that one adjustment makes up for.
const ADJUST_STEP: u64 = 8;

/// The timer's state.
///
/// The vCPU's thread writes it, and so does the hrtimer's callback while the
/// timer is armed; hence relaxed atomics throughout.
#[derive(Default)]
#[repr(C)]
pub struct Timer {
    /// Period of the initial count, ns. Zero: not running.
    period: Relaxed<i64>,
    /// When it expires next, monotonic ns. Not used in TSC-deadline mode.
    target: Relaxed<i64>,
    /// The same in cycles of the guest's TSC; zero if it is not armed.
    tscdeadline: Relaxed<u64>,
    /// Timer mode, as in the LVT entry.
    mode: Relaxed<u32>,
    /// Base-2 logarithm of the divisor: 0 to 7.
    divide_shift: Relaxed<u32>,
    /// What the hrtimer is doing.
    pub(super) hrtimer: Hrtimer,
}

impl Timer {
    pub(super) fn is_periodic(&self) -> bool {
        self.mode.load() == MODE_PERIODIC
    }

    fn is_one_shot(&self) -> bool {
        self.mode.load() == MODE_ONE_SHOT
    }

    pub(super) fn is_tsc_deadline(&self) -> bool {
        self.mode.load() == MODE_TSC_DEADLINE
    }

    /// Does it count down from the initial count?
    fn counts(&self) -> bool {
        self.is_periodic() || self.is_one_shot()
    }

    /// Time to the next expiry; zero if that is over.
    fn remaining(&self, now: i64) -> i64 {
        self.target.load().wrapping_sub(now).max(0)
    }
}

impl<H: Host> LocalApic<'_, H> {
    /// Is there an expiry that is not delivered yet?
    #[inline(always)]
    fn is_timer_pending(self) -> bool {
        self.host.timer_pending().load(Ordering::Relaxed) != 0
    }

    /// What has expired is not delivered, or is already.
    #[inline(always)]
    pub(super) fn forget_pending_timer(self) {
        self.host.timer_pending().store(0, Ordering::Relaxed);
    }

    // Registers.

    /// The current count register.
    pub(super) fn current_count(self) -> u32 {
        let timer = &self.own().timer;
        let period = timer.period.load();
        if timer.is_tsc_deadline() || self.regs().read(Offset::INITIAL_COUNT) == 0 || period == 0 {
            return 0;
        }

        let remaining = timer.remaining(self.host.now()) as u64;
        let tick = self.host.bus_cycle_ns() << timer.divide_shift.load();
        let in_period = remaining.checked_rem(period as u64).unwrap_or(0);
        in_period.checked_div(tick).unwrap_or(0) as u32
    }

    /// A write to the initial count register: starts the timer.
    pub(super) fn write_initial_count(self, value: u32) {
        let timer = &self.own().timer;
        if timer.is_tsc_deadline() {
            return;
        }
        let set = || {
            self.regs().write(Offset::INITIAL_COUNT, value);
            self.forget_pending_timer();
            timer.counts() && self.set_target(Offset::INITIAL_COUNT)
        };
        // A count ends later than now.
        if self.replace_expiry(set, || Some(timer.target.load())) {
            return;
        }
        self.cancel_timer();
        self.regs().write(Offset::INITIAL_COUNT, value);
        self.start_timer(Offset::INITIAL_COUNT);
    }

    /// A write to the divide configuration register: what is left of the count
    /// takes longer or shorter.
    pub(super) fn write_divide(self, value: u32) {
        let timer = &self.own().timer;
        let old = timer.divide_shift.load();
        self.regs().write(Offset::DIVIDE, value);
        self.update_divisor();
        if timer.divide_shift.load() != old && timer.period.load() != 0 {
            self.stop_hrtimer();
            self.rescale_target(old);
            self.restart_timer();
        }
    }

    /// Decodes the divide configuration register.
    pub(super) fn update_divisor(self) {
        let value = self.regs().read(Offset::DIVIDE);
        let code = value & 3 | (value & 8) >> 1;
        self.own().timer.divide_shift.store((code + 1) & 7);
    }

    /// Takes over the timer mode from the LVT entry. A change from or to
    /// TSC-deadline mode disarms the timer.
    pub(super) fn update_timer_mode(self) {
        let timer = &self.own().timer;
        let modes = self.host.timer_mode_mask().load(Ordering::Relaxed);
        let mode = self.regs().read(Offset::LVT_TIMER) & modes;
        if timer.mode.load() == mode {
            return;
        }
        if timer.is_tsc_deadline() != (mode == MODE_TSC_DEADLINE) {
            self.cancel_timer();
            self.regs().write(Offset::INITIAL_COUNT, 0);
            timer.period.store(0);
            timer.tscdeadline.store(0);
        } else {
            timer.hrtimer.mode_changes();
        }
        timer.mode.store(mode);
        self.limit_period();
    }

    /// `IA32_TSC_DEADLINE`: the deadline in cycles of the guest's TSC, zero if
    /// the timer is not armed or not in that mode. What user space has restored
    /// before the mode is there as well. The vCPU's thread.
    #[inline]
    pub fn tscdeadline(self) -> u64 {
        let kept = self.kept_tscdeadline();
        if kept != 0 || !self.takes_tscdeadline() {
            return kept;
        }
        self.own().timer.tscdeadline.load()
    }

    /// Is the timer in TSC-deadline mode, and the APIC enabled?
    #[inline]
    pub(super) fn takes_tscdeadline(self) -> bool {
        self.is_hardware_enabled() && self.own().timer.is_tsc_deadline()
    }

    /// The guest writes `IA32_TSC_DEADLINE`; ignored in the other modes. The
    /// vCPU's thread; interrupts may be off.
    #[inline]
    pub fn set_tscdeadline(self, deadline: u64) {
        if !self.takes_tscdeadline() {
            return;
        }
        let set = || {
            self.own().timer.tscdeadline.store(deadline);
            self.forget_pending_timer();
            deadline != 0
        };
        if self.replace_expiry(set, || self.when_to_expire(deadline)) {
            return;
        }
        self.stop_hrtimer();
        set();
        self.restart_timer();
    }

    // Times.

    /// The time that a count takes, ns.
    fn count_to_ns(self, count: u32) -> i64 {
        let ticks = u64::from(count).wrapping_mul(self.host.bus_cycle_ns());
        (ticks << self.own().timer.divide_shift.load()) as i64
    }

    /// Keeps the guest from having hrtimers at a rate that hurts the host.
    fn limit_period(self) {
        let timer = &self.own().timer;
        if timer.is_periodic() && timer.period.load() != 0 {
            let shortest = i64::from(self.host.min_timer_period_us()) * 1000;
            if timer.period.load() < shortest {
                timer.period.store(shortest);
            }
        }
    }

    /// The divisor was `1 << old`: what is left until the expiry takes another
    /// time now.
    fn rescale_target(self, old: u32) {
        let timer = &self.own().timer;
        let period = self.count_to_ns(self.regs().read(Offset::INITIAL_COUNT));
        timer.period.store(period);
        self.limit_period();

        let now = self.host.now();
        let before = timer.remaining(now) as u64;
        // Both divisors are powers of two.
        let new = timer.divide_shift.load();
        let after = if new >= old {
            before << (new - old)
        } else {
            before >> (old - new)
        };

        let cycles = |ns| self.host.nsec_to_cycles(ns);
        let moved = cycles(after).wrapping_sub(cycles(before));
        let deadline = timer.tscdeadline.load().wrapping_add(moved);
        timer.tscdeadline.store(deadline);
        timer.target.store(now.wrapping_add(after as i64));
    }

    /// Computes the expiry from the initial count, or for a restored APIC from
    /// the current count. False if there is nothing to count.
    fn set_target(self, count: Offset) -> bool {
        let timer = &self.own().timer;
        timer
            .period
            .store(self.count_to_ns(self.regs().read(Offset::INITIAL_COUNT)));
        if timer.period.load() == 0 {
            timer.tscdeadline.store(0);
            return false;
        }
        self.limit_period();

        let period = timer.period.load();
        let mut left = period;
        if count != Offset::INITIAL_COUNT && timer.counts() {
            left = self.count_to_ns(self.regs().read(count));
            if left <= 0 {
                left = if timer.is_periodic() { period } else { 0 };
            } else if left > period {
                // Nonsense, which no APIC would have saved.
                self.regs().write(count, 0);
                left = period;
            }
        }

        let Clocks { now, tsc } = self.host.clocks();
        let deadline = tsc.wrapping_add(self.host.nsec_to_cycles(left as u64));
        timer.tscdeadline.store(deadline);
        timer.target.store(now.wrapping_add(left));
        true
    }

    /// The next expiry of a periodic timer. Also in hardirq context.
    ///
    /// Expiries that were missed are not made up for: only one interrupt can
    /// be pending anyway, and the number of them is the guest's choice.
    fn advance_target(self) {
        let timer = &self.own().timer;
        let Clocks { now, tsc } = self.host.clocks();

        let mut target = timer.target.load().wrapping_add(timer.period.load());
        if target < now {
            target = now;
        }
        timer.target.store(target);
        // The TSC follows the kernel's clock, so that the two do not drift
        // apart; and it is not in the past either.
        let left = target.wrapping_sub(now) as u64;
        let deadline = tsc.wrapping_add(self.host.nsec_to_cycles(left));
        timer.tscdeadline.store(deadline);
    }

    // Starting and stopping.

    /// Disarms the timer, on both clocks, and forgets what it had pending. The
    /// vCPU's thread.
    pub fn cancel_timer(self) {
        self.stop_hrtimer();
        if self.host.has_hv_timer() {
            self.host.without_preemption(|| {
                if self.is_hv_timer_in_use() {
                    self.cancel_hv_timer();
                }
            });
        }
        self.forget_pending_timer();
    }

    /// Starts the timer from the registers; `count` is the register to count
    /// from.
    pub(super) fn start_timer(self, count: Offset) {
        self.forget_pending_timer();
        if self.own().timer.counts() && !self.set_target(count) {
            return;
        }
        self.restart_timer();
    }

    /// The guest's TSC is another one: the expiry that was computed from it is
    /// at another time, or the same time is at another count of it.
    pub(super) fn rearm_by_tsc(self) {
        let timer = &self.own().timer;
        if timer.tscdeadline.load() == 0 {
            return;
        }
        if timer.counts() {
            let Clocks { now, tsc } = self.host.clocks();
            let left = timer.remaining(now) as u64;
            let deadline = tsc.wrapping_add(self.host.nsec_to_cycles(left));
            timer.tscdeadline.store(deadline);
            if !self.is_hv_timer_in_use() {
                return;
            }
        } else if timer.is_tsc_deadline() {
            self.stop_hrtimer();
        } else {
            // The mode that there is not: what was armed in another one stays.
            return;
        }
        self.restart_timer();
    }

    /// Arms the timer for the expiry that it has, on the better clock.
    fn restart_timer(self) {
        if !self.host.has_hv_timer() {
            self.start_sw_timer();
            return;
        }
        if !self.own().timer.is_periodic() && self.is_timer_pending() {
            return;
        }
        self.host.without_preemption(|| {
            if !self.start_hv_timer() {
                self.start_sw_timer();
            }
        });
    }

    /// Arms the timer for the expiry that `set` sets, in place of the one that
    /// it has, on the better clock; `expires` is when in monotonic ns.
    ///
    /// False if there is nothing to arm, or it cannot be done this way. Then the
    /// caller stops the timer, and does all of it again. The vCPU's thread.
    #[inline(always)]
    fn replace_expiry(
        self,
        set: impl FnOnce() -> bool,
        expires: impl FnOnce() -> Option<i64>,
    ) -> bool {
        let Some(before) = self.callbacks_before() else {
            return false;
        };
        if !set() {
            return false;
        }
        if self.host.has_hv_timer() {
            let replaced = self.host.without_preemption(|| {
                let Some(expired) = self.set_hv_timer() else {
                    if self.is_hv_timer_in_use() {
                        self.cancel_hv_timer();
                    }
                    return None;
                };
                let retired = self.retire_hrtimer(before);
                if retired {
                    self.hv_timer_is_set(expired);
                }
                Some(retired)
            });
            if let Some(replaced) = replaced {
                return replaced;
            }
        }
        let replaced = expires().is_some_and(|at| self.replace_hrtimer(before, at));
        self.host.trace_hv_timer_state(false);
        replaced
    }

    fn is_hv_timer_in_use(self) -> bool {
        self.host.hv_timer_in_use().load(Ordering::Relaxed)
    }

    /// Preemption is off.
    fn cancel_hv_timer(self) {
        self.host.cancel_hv_timer();
        self.host.hv_timer_in_use().store(false, Ordering::Relaxed);
    }

    /// Arms the CPU's timer; false if it cannot be had. Preemption is off.
    fn start_hv_timer(self) -> bool {
        let Some(expired) = self.set_hv_timer() else {
            return false;
        };
        self.stop_hrtimer();
        self.hv_timer_is_set(expired);
        true
    }

    /// Sets the CPU's timer; `Some(true)` if the expiry is over. The hrtimer may
    /// be armed as well. Preemption is off.
    #[inline(always)]
    fn set_hv_timer(self) -> Option<bool> {
        let deadline = self.own().timer.tscdeadline.load();
        if !self.host.can_use_hv_timer() || deadline == 0 {
            return None;
        }
        let expired = self.host.set_hv_timer(deadline)?;
        self.host.hv_timer_in_use().store(true, Ordering::Relaxed);
        Some(expired)
    }

    /// The CPU's timer is the only one. Preemption is off.
    #[inline(always)]
    fn hv_timer_is_set(self, expired: bool) {
        // A periodic timer is left running even if it has expired: the exit
        // that follows computes the next expiry.
        if !self.own().timer.is_periodic() {
            if self.is_timer_pending() {
                // The hrtimer was faster.
                self.cancel_hv_timer();
            } else if expired {
                self.expire(false);
                self.cancel_hv_timer();
            }
        }
        self.host.trace_hv_timer_state(self.is_hv_timer_in_use());
    }

    /// Arms the hrtimer. Preemption is off, unless there is no other timer.
    fn start_sw_timer(self) {
        let mode = self.own().timer.mode.load();
        if self.is_hv_timer_in_use() {
            self.cancel_hv_timer();
        }
        if mode != MODE_PERIODIC && self.is_timer_pending() {
            return;
        }
        match mode {
            MODE_TSC_DEADLINE => self.start_sw_deadline(),
            MODE_ONE_SHOT | MODE_PERIODIC => self.start_sw_count(),
            _ => {}
        }
        self.host.trace_hv_timer_state(false);
    }

    fn start_sw_count(self) {
        let timer = &self.own().timer;
        if timer.period.load() == 0 {
            return;
        }
        if self.host.now() > timer.target.load() {
            self.expire(false);
            if timer.is_one_shot() {
                return;
            }
            self.advance_target();
        }
        self.stop_repeating_hrtimer();
        self.start_hrtimer(timer.target.load());
    }

    fn start_sw_deadline(self) {
        let deadline = self.own().timer.tscdeadline.load();
        if let Some(expires) = self.when_to_expire(deadline) {
            self.start_hrtimer(expires);
        } else if deadline != 0 && self.host.virtual_tsc_khz() != 0 {
            self.expire(false);
        }
    }

    /// The time to arm the hrtimer for, so that a TSC deadline is met; `None` if
    /// there is none or it is over.
    #[inline(always)]
    fn when_to_expire(self, deadline: u64) -> Option<i64> {
        if deadline == 0 {
            return None;
        }
        let Clocks { now, tsc } = self.host.clocks();
        let khz = u64::from(self.host.virtual_tsc_khz());
        let ns = cycles_to_ns(deadline.wrapping_sub(tsc), khz);
        let advance = u64::from(self.advance_ns());
        (deadline > tsc && ns > advance)
            .then(|| now.wrapping_add(ns as i64).wrapping_sub(advance as i64))
    }

    // Expiry.

    /// The timer has expired; `in_callback` says on which clock.
    fn expire(self, in_callback: bool) {
        let timer = &self.own().timer;
        let host = self.host;
        if self.is_timer_pending() {
            return;
        }
        if timer.is_tsc_deadline() || self.is_hv_timer_in_use() {
            self.set_expired(timer.tscdeadline.load());
        }

        if !in_callback && self.is_apicv_active() && host.wants_to_run() {
            self.deliver_timer();
            return;
        }
        if host.can_post_timer_interrupt() && host.is_in_guest_mode() {
            // It expires early by the advance, and once posted there is no
            // entry left to wait at.
            if self.expired() != 0 && self.advance_ns() != 0 {
                self.wait_for_deadline();
            }
            self.deliver_timer();
            return;
        }

        host.timer_pending().store(1, Ordering::Relaxed);
        host.request_unblock();
        if in_callback {
            host.kick();
        }
    }

    /// The hrtimer's callback: the time to arm it for again, if it is to be.
    /// Hardirq context.
    pub fn timer_expired(self) -> Option<i64> {
        let timer = &self.own().timer;
        self.expire(true);
        let repeats = timer.is_periodic() && timer.period.load() != 0;
        let again = repeats.then(|| {
            self.advance_target();
            timer.target.load()
        });
        timer.hrtimer.callback_ends();
        again
    }

    /// The CPU's timer has made the guest exit. The vCPU's thread.
    pub fn expired_hv_timer(self) {
        self.host.without_preemption(|| {
            // The vCPU may have been scheduled out in between, which moves the
            // timer to the other clock, where it has expired too.
            if !self.is_hv_timer_in_use() {
                return;
            }
            self.expire(false);
            self.cancel_hv_timer();
            let timer = &self.own().timer;
            if timer.is_periodic() && timer.period.load() != 0 {
                self.advance_target();
                self.restart_timer();
            }
        });
    }

    /// The vCPU is about to run: back to the CPU's timer.
    pub fn switch_to_hv_timer(self) {
        self.restart_timer();
    }

    /// The vCPU is about to block: the CPU's timer would not wake it.
    pub fn switch_to_sw_timer(self) {
        self.host.without_preemption(|| {
            if self.is_hv_timer_in_use() {
                self.start_sw_timer();
            }
        });
    }

    /// The TSC has changed while the CPU's timer was armed.
    pub fn restart_hv_timer(self) {
        self.restart_timer();
    }

    // Delivery.

    /// Expiries that wait to be delivered. The vCPU's thread; may not sleep.
    #[inline]
    pub fn pending_timer(self) -> u32 {
        let pending = self.host.timer_pending().load(Ordering::Relaxed);
        // Asked at each entry, and there mostly is none.
        if pending == 0 {
            return 0;
        }
        let masked = self.regs().read(Offset::LVT_TIMER) & LVT_MASKED != 0;
        if self.is_software_enabled() && self.is_hardware_enabled() && !masked {
            pending
        } else {
            0
        }
    }

    /// Delivers what waits. The vCPU's thread.
    #[inline]
    pub fn inject_timer(self) {
        if self.is_timer_pending() {
            self.deliver_timer();
            self.forget_pending_timer();
        }
    }

    fn deliver_timer(self) {
        let timer = &self.own().timer;
        if self.local_deliver(Offset::LVT_TIMER) {
            self.host.trace_timer();
        }
        if timer.is_tsc_deadline() {
            timer.tscdeadline.store(0);
        } else if timer.is_one_shot() {
            timer.tscdeadline.store(0);
            timer.target.store(0);
        }
    }

    // The advance.

    fn expired(self) -> u64 {
        self.host.expired_tscdeadline().load(Ordering::Relaxed)
    }

    fn set_expired(self, deadline: u64) {
        self.host
            .expired_tscdeadline()
            .store(deadline, Ordering::Relaxed);
    }

    /// The vCPU need not wait for an expiry of a state that is gone.
    pub(super) fn forget_expired(self) {
        self.set_expired(0);
    }

    fn advance_ns(self) -> u32 {
        self.host.timer_advance_ns().load(Ordering::Relaxed)
    }

    /// Just before the entry: the timer was made to expire early, so wait for
    /// the rest. The vCPU's thread, interrupts off.
    #[inline]
    pub fn wait_expire(self) {
        if self.expired() != 0 && self.advance_ns() != 0 && self.is_timer_injected() {
            self.wait_for_deadline();
        }
    }

    /// Is the timer's interrupt on its way into the guest? With APICv a higher
    /// one may come first; then the wait is in vain.
    fn is_timer_injected(self) -> bool {
        if self.host.protected().load(Ordering::Relaxed) {
            return true;
        }
        let vector = self.regs().read(Offset::LVT_TIMER) as u8;
        let vectors = if self.is_apicv_active() {
            Vectors::Irr
        } else {
            Vectors::Isr
        };
        self.is_hardware_enabled() && self.regs().test(vectors, vector)
    }

    fn wait_for_deadline(self) {
        let deadline = self.expired();
        self.set_expired(0);

        let read_tsc = || self.host.l1_tsc();
        let mut tsc = read_tsc();
        let delta = tsc.wrapping_sub(deadline) as i64;
        self.host.trace_wait_expire(delta);
        self.adjust_advance(delta);

        if tsc < deadline {
            // The above has taken some of the time.
            tsc = read_tsc();
        }
        if tsc < deadline {
            self.delay(deadline - tsc);
        }
    }

    /// Spins for that many cycles of the guest's TSC, but not for longer than
    /// the advance.
    fn delay(self, cycles: u64) {
        let advance = self.advance_ns();
        if !self.host.tsc_is_scaled() {
            let longest = self.host.nsec_to_cycles(u64::from(advance));
            self.host.delay_cycles(cycles.min(longest));
        } else {
            let ns = cycles_to_ns(cycles, u64::from(self.host.virtual_tsc_khz()));
            self.host.delay_ns((ns as u32).min(advance));
        }
    }

    /// The timer was `delta` cycles late, or early: it should not be next time.
    fn adjust_advance(self, delta: i64) {
        let size = delta.unsigned_abs();
        if !(ADJUST_MIN..=ADJUST_MAX).contains(&size) {
            return;
        }
        let ns = cycles_to_ns(size, u64::from(self.host.virtual_tsc_khz()));
        let step = (ns / ADJUST_STEP) as u32;
        let advance = if delta < 0 {
            self.advance_ns().wrapping_sub(step)
        } else {
            self.advance_ns().wrapping_add(step)
        };
        let advance = if advance > ADVANCE_MAX_NS {
            ADVANCE_INITIAL_NS
        } else {
            advance
        };
        self.host
            .timer_advance_ns()
            .store(advance, Ordering::Relaxed);
    }
}

/// Wraps for times beyond 2^64 / 10^6 cycles, as KVM's does. Zero if the
/// frequency is not known.
fn cycles_to_ns(cycles: u64, khz: u64) -> u64 {
    cycles.wrapping_mul(1_000_000).checked_div(khz).unwrap_or(0)
}
