// SPDX-License-Identifier: GPL-2.0

//! Which vCPUs have not yet acknowledged the RTC's interrupt.
//!
//! The RTC's interrupt is edge-triggered, so that the I/O APIC would not learn
//! of its EOI. But Windows keeps time by counting these interrupts, and user
//! space re-injects those that were lost, if it is told that they were: an
//! interrupt raised while the one before is not acknowledged on all vCPUs that
//! got it counts as coalesced.

/// One more than the highest vCPU ID: `KVM_MAX_VCPU_IDS`.
pub const MAX_VCPU_IDS: usize = 4096;

/// The vCPUs that the RTC's interrupt was sent to and that owe an EOI.
///
/// `V` is memory for the vectors, [`MAX_VCPU_IDS`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtcStatus<V = [u8; MAX_VCPU_IDS]> {
    /// Number of EOIs owed. Not always the number of bits in `owed`: where the
    /// interrupt was sent as an NMI, say, no EOI will come.
    pending: i32,
    owed: [u64; MAX_VCPU_IDS / 64],
    /// The vector sent, for the vCPUs in `owed`.
    vectors: V,
}

impl<V> RtcStatus<V> {
    pub(super) const fn new(vectors: V) -> Self {
        Self {
            pending: 0,
            owed: [0; MAX_VCPU_IDS / 64],
            vectors,
        }
    }
}

impl<V: AsRef<[u8]> + AsMut<[u8]>> RtcStatus<V> {
    /// Notes that the local APIC of `vcpu_id` has accepted `vector`. For the
    /// delivery: to be called for each vCPU whose local APIC takes the
    /// interrupt as one with a vector (fixed or lowest priority).
    pub fn record(&mut self, vcpu_id: u32, vector: u8) {
        let id = vcpu_id as usize;
        let slot = self.vectors.as_mut().get_mut(id);
        if let (Some(word), Some(slot)) = (self.owed.get_mut(id / 64), slot) {
            *word |= 1 << (id % 64);
            *slot = vector;
        }
    }

    /// The vector whose EOI `vcpu_id` owes.
    pub fn owed_by(&self, vcpu_id: u32) -> Option<u8> {
        let id = vcpu_id as usize;
        let word = self.owed.get(id / 64)?;
        if word & (1 << (id % 64)) == 0 {
            return None;
        }
        self.vectors.as_ref().get(id).copied()
    }

    /// Number of EOIs owed.
    pub fn pending(&self) -> i32 {
        self.pending
    }

    /// Sets the number of EOIs owed after a delivery: what it returned.
    pub(super) fn set_pending(&mut self, accepted: i32) {
        self.pending = accepted.max(0);
    }

    /// Forgets all.
    pub(super) fn reset(&mut self) {
        self.pending = 0;
        self.owed.fill(0);
    }

    /// One more vCPU owes an EOI.
    pub(super) fn add(&mut self, vcpu_id: u32, vector: u8) {
        self.record(vcpu_id, vector);
        self.pending = self.pending.saturating_add(1);
    }

    /// `vcpu_id` owes no EOI any more. False if fewer were owed than vCPUs owe
    /// one: the account is wrong and must be taken anew.
    #[must_use]
    pub(super) fn remove(&mut self, vcpu_id: u32) -> bool {
        let id = vcpu_id as usize;
        if let Some(word) = self.owed.get_mut(id / 64) {
            *word &= !(1 << (id % 64));
        }
        self.pending -= 1;
        self.pending >= 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_vcpu_owes_its_vector() {
        let mut status = RtcStatus::new([0; MAX_VCPU_IDS]);
        status.record(0, 0x30);
        status.record(4095, 0x31);
        assert_eq!(status.owed_by(0), Some(0x30));
        assert_eq!(status.owed_by(4095), Some(0x31));
        assert_eq!(status.owed_by(64), None);
    }

    #[test]
    fn a_vcpu_that_owes_no_more_leaves_the_others_alone() {
        let mut status = RtcStatus::new([0; MAX_VCPU_IDS]);
        for id in [1, 70, 200, 4000] {
            status.add(id, 0x30);
        }
        assert!(status.remove(70));
        assert!(status.remove(4000));
        assert_eq!(status.pending(), 2);
        assert_eq!(
            [1, 70, 200, 4000].map(|id| status.owed_by(id)),
            [Some(0x30), None, Some(0x30), None]
        );
    }

    #[test]
    fn vcpu_ids_out_of_range_are_ignored() {
        let mut status = RtcStatus::new([0; MAX_VCPU_IDS]);
        let before = status.clone();
        for id in [4096, u32::MAX] {
            status.record(id, 0x30);
            assert_eq!(status.owed_by(id), None);
        }
        assert_eq!(status, before);
    }

    #[test]
    fn an_account_that_does_not_add_up_is_noticed() {
        let mut status = RtcStatus::new([0; MAX_VCPU_IDS]);
        status.add(1, 0x30);
        status.record(2, 0x30);
        assert!(status.remove(1));
        assert!(!status.remove(2));
    }

    #[test]
    fn a_failed_delivery_leaves_nothing_pending() {
        let mut status = RtcStatus::new([0; MAX_VCPU_IDS]);
        status.set_pending(-1);
        assert_eq!(status.pending(), 0);
    }
}
