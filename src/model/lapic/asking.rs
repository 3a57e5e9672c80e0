// SPDX-License-Identifier: GPL-2.0

//! How a sender makes a vCPU look at what it has made pending: a request, and a
//! kick if the vCPU would not look by itself.

use super::super::sync::{AtomicU32, AtomicU64, Ordering};

/// What senders see of a vCPU, in KVM's fields.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// `requests`
    pub requests: &'a AtomicU64,
    /// `KVM_REQ_EVENT`'s bit.
    pub event: u64,
    /// The thread that sleeps in `wait`, or zero.
    pub sleeper: &'a AtomicU64,
    /// `mode`
    pub mode: &'a AtomicU32,
    /// `IN_GUEST_MODE`
    pub in_guest_mode: u32,
}

impl Asking<'_> {
    /// Makes the vCPU look for events before it enters the guest, if it would not
    /// anyway.
    ///
    /// For the vCPU's own thread; or for a sender whose last store was a locked
    /// operation, with what the vCPU is to see.
    #[inline(always)]
    pub fn request(&self) {
        // ORDERING: The vCPU clears the bit and then looks, with a full barrier
        // in between (kvm_check_request()); so who still sees the bit has stored
        // early enough.
        if self.requests.load(Ordering::Relaxed) & self.event == 0 {
            self.requests.fetch_or(self.event, Ordering::SeqCst);
        }
    }

    /// Asks for a look at what a locked operation of the caller's has just made
    /// pending. If true, the vCPU must be told, by a kick: it sleeps or runs the
    /// guest, and does not look by itself. Any context.
    #[inline(always)]
    pub fn ask(&self) -> bool {
        self.request();
        self.must_be_told()
    }

    /// The same without the request, for what a vCPU looks at before each entry.
    #[inline(always)]
    pub fn must_be_told(&self) -> bool {
        // ORDERING: The request, or what was made pending, before these loads: both
        // are locked operations. Pairs with the barriers after the store of the
        // sleeper in prepare_to_rcuwait(), which a look at IRR follows, and after
        // that of the mode in vcpu_enter_guest(), which one at the requests does.
        self.sleeper.load(Ordering::Relaxed) != 0
            || self.mode.load(Ordering::Relaxed) == self.in_guest_mode
    }
}
