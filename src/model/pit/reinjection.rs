// SPDX-License-Identifier: GPL-2.0

//! Ticks that came while the guest had not yet acknowledged the one before.
//!
//! Guests that keep time by counting ticks fall behind if some get lost. So
//! each tick waits for the acknowledgement of its predecessor, at the PIC or
//! the I/O APIC, unless user space has turned that off
//! (`KVM_REINJECT_CONTROL`).

use super::super::sync::{fence, AtomicBool, AtomicU32, Ordering};

/// The account of ticks. Shared by the timer's callback, the worker that
/// injects, and the vCPUs that acknowledge; all methods may be called at any
/// time and in any context.
#[derive(Debug)]
pub struct Reinjection {
    enabled: AtomicBool,
    /// Ticks since the last acknowledgement but one.
    pending: AtomicU32,
    acknowledged: AtomicBool,
}

impl Default for Reinjection {
    fn default() -> Self {
        Self::new()
    }
}

impl Reinjection {
    /// Off, with nothing pending.
    pub fn new() -> Self {
        Self {
            enabled: AtomicBool::new(false),
            pending: AtomicU32::new(0),
            acknowledged: AtomicBool::new(true),
        }
    }

    /// Do ticks wait for their predecessor's acknowledgement?
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Turns that on or off. The state is kept while it is off, so that
    /// [`Self::reset`] is due before it is turned on.
    pub fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Forgets the ticks pending: the guest counts anew, be it that it has
    /// loaded another count or unmasked the pin.
    pub fn reset(&self) {
        self.pending.store(0, Ordering::Relaxed);
        self.acknowledged.store(true, Ordering::Relaxed);
    }

    /// The timer has expired. An injection is due afterwards.
    pub fn tick(&self) {
        if self.is_enabled() {
            // More than there are in 497 days at 100 Hz are not made up for.
            let _ = self
                .pending
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |pending| {
                    pending.checked_add(1)
                });
        }
    }

    /// An injection is due; may it be now? If not, the acknowledgement that is
    /// missing asks for it again.
    pub fn may_inject(&self) -> bool {
        // ORDERING: The tick that has asked for this was counted before, and
        // `acknowledge` looks for it after it has set the flag that is taken
        // here: one of the two sees the other.
        !self.is_enabled() || self.acknowledged.swap(false, Ordering::SeqCst)
    }

    /// The guest has acknowledged a tick. True if the next one is due.
    #[must_use = "the next tick is lost if it is not injected"]
    pub fn acknowledge(&self) -> bool {
        self.acknowledged.store(true, Ordering::SeqCst);
        // ORDERING: See `may_inject`.
        fence(Ordering::SeqCst);
        self.pending
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |pending| {
                pending.checked_sub(1)
            })
            .is_ok_and(|before| before > 1)
    }
}
