// SPDX-License-Identifier: GPL-2.0

//! The hrtimer by which the APIC timer expires, as the vCPU's thread has armed
//! it.
//!
//! A guest that writes a new deadline mostly has the last one armed still. To
//! stop the hrtimer and to start it again takes it out of its CPU's queue and
//! puts it back, with the clock event programmed at both. To start it alone
//! moves it, often within its place, but does not wait for a callback that has
//! begun for the expiry before: that would set [`super::Shared::timer_pending`]
//! after it was forgotten, and could take the new deadline for its own. So a
//! callback counts itself when it is done, and who has replaced an expiry looks
//! whether one has come in between. Then, which is rare, the hrtimer is stopped
//! after all, and everything is done once more.
//!
//! A callback that arms the hrtimer again writes its time, which nobody may
//! while it is queued; those of a periodic timer are always stopped.

use super::super::sync::{AtomicU32, Ordering, Relaxed};
use super::{Host, LocalApic};

/// Neither queued, nor is its callback running.
const STOPPED: u32 = 0;
/// It may be either. Its callback comes once, and does not arm it again.
const ONCE: u32 = 1;
/// It may be either, and its callback may come again.
const REPEATS: u32 = 2;

/// The hrtimer as ferric knows it.
#[derive(Default)]
#[repr(C)]
pub(super) struct Hrtimer {
    /// One of the above. The vCPU's thread's.
    state: Relaxed<u32>,
    /// What `callbacks` was when the hrtimer was armed. The vCPU's thread's.
    armed_at: Relaxed<u32>,
    /// How often the callback has come to its end. The callback's, of which
    /// there is one at a time.
    callbacks: AtomicU32,
}

impl Hrtimer {
    /// The callback has done what it does.
    pub(super) fn callback_ends(&self) {
        let number = self.callbacks.load(Ordering::Relaxed).wrapping_add(1);
        // ORDERING: Pairs with the load in `replace_hrtimer()`: who sees the
        // number sees what the callback has done, or can undo it.
        self.callbacks.store(number, Ordering::Release);
    }

    /// A timer that is armed has become periodic, or is not any more.
    pub(super) fn mode_changes(&self) {
        if self.state.load() != STOPPED {
            self.state.store(REPEATS);
        }
    }
}

impl<H: Host> LocalApic<'_, H> {
    #[inline(always)]
    fn hrtimer(&self) -> &Hrtimer {
        &self.own().timer.hrtimer
    }

    /// Arms the hrtimer for `expires`, monotonic ns. The vCPU's thread.
    pub(super) fn start_hrtimer(self, expires: i64) {
        let hrtimer = self.hrtimer();
        // If it may be armed already, whose callback comes next is not known.
        let is_first = hrtimer.state.load() == STOPPED;
        self.note_start(is_first, hrtimer.callbacks.load(Ordering::Acquire));
        self.host.start_hrtimer(expires);
    }

    #[inline(always)]
    fn note_start(self, once: bool, callbacks: u32) {
        let once = once && !self.own().timer.is_periodic();
        let hrtimer = self.hrtimer();
        hrtimer.state.store(if once { ONCE } else { REPEATS });
        hrtimer.armed_at.store(callbacks);
    }

    /// Stops the hrtimer, waits until its callback is done, and says whether it
    /// was armed. The vCPU's thread.
    #[inline]
    pub(super) fn stop_hrtimer(self) -> bool {
        let hrtimer = self.hrtimer();
        let state = hrtimer.state.load();
        if state == STOPPED {
            return false;
        }
        // Once the callback has come to its end nothing is left of it but the way
        // back, on which the hrtimer may be armed again.
        if state == ONCE && hrtimer.callbacks.load(Ordering::Acquire) != hrtimer.armed_at.load() {
            hrtimer.state.store(STOPPED);
            return false;
        }
        self.cancel_hrtimer()
    }

    fn cancel_hrtimer(self) -> bool {
        let was_armed = self.host.cancel_hrtimer();
        self.hrtimer().state.store(STOPPED);
        was_armed
    }

    /// A periodic timer's callback is waited for before the hrtimer is armed
    /// anew. The vCPU's thread.
    #[inline]
    pub(super) fn stop_repeating_hrtimer(self) {
        if self.hrtimer().state.load() == REPEATS {
            self.stop_hrtimer();
        }
    }

    /// How often the callback has come; `None` if the hrtimer is to be stopped
    /// before the timer is set to another expiry. The vCPU's thread.
    #[inline(always)]
    pub(super) fn callbacks_before(self) -> Option<u32> {
        if self.hrtimer().state.load() == REPEATS {
            return None;
        }
        // ORDERING: What a callback that is counted here has done is seen, and is
        // overwritten by what the caller sets.
        Some(self.hrtimer().callbacks.load(Ordering::Acquire))
    }

    /// Arms the hrtimer in place of what it is armed for. Between
    /// [`Self::callbacks_before`], which said `before`, and this the timer was
    /// set to its new expiry. The vCPU's thread.
    ///
    /// False if it is undone: the caller sets the timer once more.
    #[inline(always)]
    pub(super) fn replace_hrtimer(self, before: u32, expires: i64) -> bool {
        self.note_start(true, before);
        self.host.start_hrtimer(expires);
        // ORDERING: None begins for the old expiry once the new one is armed, for
        // which the hrtimer's lock is taken. One that has begun before, and was
        // not counted then, is still running, or else it is counted now.
        if !self.host.is_hrtimer_running()
            && self.hrtimer().callbacks.load(Ordering::Acquire) == before
        {
            return true;
        }
        self.has_replacement_expired()
    }

    /// Stops the hrtimer, for the CPU's own timer is armed in its place; see
    /// [`Self::replace_hrtimer`].
    #[inline(always)]
    pub(super) fn retire_hrtimer(self, before: u32) -> bool {
        self.stop_hrtimer();
        if self.hrtimer().callbacks.load(Ordering::Acquire) == before {
            return true;
        }
        self.forget_expired();
        false
    }

    /// A callback has come while the hrtimer was armed anew. If it is still
    /// armed that was for the old expiry, and is to be undone. Otherwise the
    /// new one has come, whether or not the old one has before.
    #[cold]
    fn has_replacement_expired(self) -> bool {
        if !self.cancel_hrtimer() {
            return true;
        }
        self.forget_expired();
        false
    }

    /// The vCPU has moved to another CPU: the hrtimer follows it, unless its
    /// callback posts, in which case it is better off elsewhere.
    pub fn migrate_timer(self) {
        let state = self.hrtimer().state.load();
        if state != STOPPED && !self.host.can_post_timer_interrupt() && self.stop_hrtimer() {
            self.hrtimer().state.store(state);
            self.host.restart_hrtimer();
        }
    }
}
