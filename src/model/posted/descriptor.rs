// SPDX-License-Identifier: GPL-2.0

//! The posted-interrupt descriptor, and what senders and the receiver do to it.
//!
//! Source: Intel SDM volume 3, "Posted-Interrupt Processing", format of the
//! descriptor; Intel VT-d specification, "Posted Interrupt Descriptor (PID)".

use super::super::sync::{fence, AtomicU64, Ordering};

/// Bit of [`Control`]: outstanding notification.
const ON: u64 = 1 << 0;
/// Bit of [`Control`]: suppress notifications.
const SN: u64 = 1 << 1;
const NV_SHIFT: u32 = 16;
const NDST_SHIFT: u32 = 32;

/// Bits 319:256 of the descriptor, as one value: who is to be notified, and
/// whether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control(u64);

/// An interrupt of the host that a sender owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The notification vector.
    pub vector: u8,
    /// NDST as it is in the descriptor: in x2APIC mode the processor's APIC ID,
    /// in xAPIC mode that ID in bits 15:8.
    pub destination: u32,
}

impl Control {
    /// Outstanding notification: somebody has been notified, or need not be.
    pub const fn is_outstanding(self) -> bool {
        self.0 & ON != 0
    }

    /// Suppress notifications: senders set bits in PIR, and nothing else.
    pub const fn is_suppressed(self) -> bool {
        self.0 & SN != 0
    }

    /// NV and NDST: the notification that a sender owes if it finds neither of
    /// the two bits.
    pub const fn notification(self) -> Notification {
        Notification {
            vector: (self.0 >> NV_SHIFT) as u8,
            destination: (self.0 >> NDST_SHIFT) as u32,
        }
    }

    pub(super) const fn suppressed(self, suppressed: bool) -> Self {
        Self(self.0 & !SN | if suppressed { SN } else { 0 })
    }

    pub(super) const fn notifying(self, to: Notification) -> Self {
        let flags = self.0 & (ON | SN);
        Self(flags | (to.vector as u64) << NV_SHIFT | (to.destination as u64) << NDST_SHIFT)
    }
}

/// Number of words of PIR. loom tries each access in every order, and one word is
/// as good as another.
const WORDS: usize = if cfg!(loom) { 1 } else { 4 };

/// The vectors that were harvested: 64 of them in a word, the lowest first.
pub type Pir = [u64; WORDS];

/// The descriptor, in the hardware's layout. CPU and IOMMU write it by its
/// physical address while it is in use.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Descriptor {
    /// Posted-interrupt requests, a bit for each vector.
    pir: [AtomicU64; WORDS],
    control: AtomicU64,
    reserved: [AtomicU64; 3],
}

// loom's atomics are larger.
#[cfg(not(loom))]
const _: () = assert!(size_of::<Descriptor>() == 64 && align_of::<Descriptor>() == 64);

impl Descriptor {
    /// Who is notified now, and whether. It may have changed when this returns.
    #[inline(always)]
    pub fn control(&self) -> Control {
        Control(self.control.load(Ordering::Acquire))
    }

    /// Changes SN, NV and NDST to what `change` makes of them, in one step with
    /// whatever ON is then. Returns what it was changed to.
    #[inline]
    pub(super) fn change(&self, change: impl Fn(Control) -> Control) -> Control {
        let mut to = Control::default();
        let _ = self
            .control
            .fetch_update(Ordering::SeqCst, Ordering::Acquire, |control| {
                to = change(Control(control));
                Some(to.0)
            });
        to
    }

    /// Sets SN. Senders have no use for the fence that this is; the thread that
    /// is about to be scheduled out neither.
    #[inline(always)]
    pub(super) fn suppress(&self) {
        self.control.fetch_or(SN, Ordering::SeqCst);
    }

    /// Clears SN.
    #[inline(always)]
    pub(super) fn unsuppress(&self) {
        self.control.fetch_and(!SN, Ordering::SeqCst);
    }

    /// Marks a notification as outstanding; true if none was.
    #[inline(always)]
    pub(super) fn set_outstanding(&self) -> bool {
        self.control.fetch_or(ON, Ordering::SeqCst) & ON == 0
    }

    /// Sets the vector's bit in PIR; true if it was clear.
    ///
    /// A bit that is set already costs no locked operation, so that interrupts
    /// that coalesce are cheap. It was set by a sender that goes on to ON, and
    /// the receiver that takes it takes this interrupt with it: it has not read
    /// that word of PIR yet.
    ///
    // ORDERING: What the sender has written for the receiver must be visible
    // before the bit is found set, or the receiver that takes it may look too
    // early. A load may overtake the stores before it: so a bit that seems to be
    // set is looked at once more behind a fence, and one that seems to be clear is
    // set by a locked operation, which is a fence and says what it was.
    #[inline]
    fn request(&self, vector: u8) -> bool {
        let word = &self.pir[usize::from(vector >> 6) % WORDS];
        let bit = 1 << (vector & 63);
        if word.load(Ordering::Relaxed) & bit != 0 {
            fence(Ordering::SeqCst);
            if word.load(Ordering::Acquire) & bit != 0 {
                return false;
            }
        }
        word.fetch_or(bit, Ordering::SeqCst) & bit == 0
    }

    /// Posts an interrupt as software does it; true if the receiver has to be
    /// told, which it is for whoever has set ON, whatever SN says: software knows
    /// by other means whether the vCPU runs. Any context.
    ///
    // ORDERING: The locked operation on ON comes before the caller's look at
    // whether the vCPU is in the guest; the vCPU says that it is, and then looks
    // at ON. One of the two sees the other. ON that is found set behind the locked
    // operation on PIR was set before the receiver cleared it, if it did, and it
    // reads PIR after that.
    #[inline]
    pub fn post(&self, vector: u8) -> bool {
        self.request(vector) && !self.control().is_outstanding() && self.set_outstanding()
    }

    /// Posts an interrupt as the IOMMU and the engine of IPI virtualization do:
    /// sets the bit, then ON unless notifications are suppressed or one is
    /// outstanding. Returns the notification that is due then. Any context.
    ///
    /// The hardware does all of it in one step. Here PIR comes first by itself,
    /// which leaves the receiver with every order that the hardware may have,
    /// and some more. Unlike [`Self::post`] this looks at ON though the bit was
    /// set: the hardware does, and a bit without ON is what suppression leaves.
    #[inline]
    pub fn post_as_hardware(&self, vector: u8) -> Option<Notification> {
        self.request(vector);
        let control = self
            .control
            .fetch_update(Ordering::SeqCst, Ordering::Acquire, |control| {
                (control & (ON | SN) == 0).then_some(control | ON)
            });
        control.ok().map(|control| Control(control).notification())
    }

    /// Is anything posted that has not been harvested? The vCPU's thread, while
    /// it prepares to block; any context.
    ///
    /// ON alone would do if SN were clear; see [`Life`](super::Life).
    #[inline]
    pub fn is_pending(&self) -> bool {
        let control = self.control();
        control.is_outstanding() || (control.is_suppressed() && !self.is_empty())
    }

    /// Is no bit set in PIR?
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pir
            .iter()
            .all(|word| word.load(Ordering::Acquire) == 0)
    }

    /// Takes what is posted out of PIR; none if no notification is outstanding.
    /// The vCPU's thread, and the CPU while the vCPU is in the guest.
    ///
    // ORDERING: ON is cleared by a locked operation before PIR is read. A sender
    // whose bit is not seen here finds ON clear, and notifies.
    #[inline]
    pub fn harvest(&self) -> Option<Pir> {
        if !self.control().is_outstanding() {
            return None;
        }
        self.control.fetch_and(!ON, Ordering::SeqCst);
        // A word without a bit costs no locked operation.
        Some(core::array::from_fn(|word| {
            let word = &self.pir[word];
            match word.load(Ordering::Acquire) {
                0 => 0,
                _ => word.swap(0, Ordering::SeqCst),
            }
        }))
    }

    /// Forgets what was posted: a reset, or a restore of saved state. The
    /// vCPU's thread.
    pub fn clear(&self) {
        self.control.fetch_and(!ON, Ordering::SeqCst);
        for word in &self.pir {
            word.store(0, Ordering::Release);
        }
    }
}
