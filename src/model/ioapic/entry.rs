// SPDX-License-Identifier: GPL-2.0

//! An entry of the I/O redirection table.

use super::super::message::{DeliveryMode, DestinationMode, Message, Shorthand, Trigger};

/// One of the 24 redirection table entries: where the interrupt of a pin goes.
///
/// Source: Intel 82093AA data sheet, "I/O Redirection Table Registers". The
/// same 64 bits are in `struct kvm_ioapic_state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct RedirectionEntry(pub u64);

impl RedirectionEntry {
    const DELIVERY_STATUS: u64 = 1 << 12;
    const REMOTE_IRR: u64 = 1 << 14;
    const LEVEL: u64 = 1 << 15;
    const MASKED: u64 = 1 << 16;
    /// The bits that a guest cannot write.
    const READ_ONLY: u64 = Self::DELIVERY_STATUS | Self::REMOTE_IRR;

    /// The entry after a reset: masked.
    pub const RESET: Self = Self(Self::MASKED);

    /// Bits 7:0, the interrupt vector.
    pub const fn vector(self) -> u8 {
        self.0 as u8
    }

    /// Bits 10:8, the delivery mode.
    pub const fn delivery_mode(self) -> DeliveryMode {
        DeliveryMode::from_bits((self.0 >> 8) as u32)
    }

    /// Bit 11, how the destination is to be read.
    pub const fn destination_mode(self) -> DestinationMode {
        DestinationMode::from_bit(self.0 & (1 << 11) != 0)
    }

    /// Bit 12, delivery status. Read-only for a guest, and never set by KVM:
    /// delivery takes no time.
    pub const fn delivery_status(self) -> bool {
        self.0 & Self::DELIVERY_STATUS != 0
    }

    /// Bit 13, input pin polarity: true if low means asserted. Without effect
    /// here, as the model's lines carry assertion, not voltage.
    pub const fn active_low(self) -> bool {
        self.0 & (1 << 13) != 0
    }

    /// Bit 14, remote IRR: a level-triggered interrupt was accepted and waits
    /// for its EOI.
    pub const fn remote_irr(self) -> bool {
        self.0 & Self::REMOTE_IRR != 0
    }

    /// Bit 15, the trigger mode.
    pub const fn trigger(self) -> Trigger {
        Trigger::from_bit(self.0 & Self::LEVEL != 0)
    }

    /// Bit 16, the interrupt mask.
    pub const fn masked(self) -> bool {
        self.0 & Self::MASKED != 0
    }

    /// Bits 63:56, the destination: an 8-bit APIC ID or logical destination.
    pub const fn destination(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// The interrupt that this entry makes of an assertion of its pin.
    pub const fn message(self) -> Message {
        Message {
            vector: self.vector(),
            delivery_mode: self.delivery_mode(),
            destination_mode: self.destination_mode(),
            shorthand: Shorthand::None,
            trigger: self.trigger(),
            assert: true,
            redirection_hint: false,
            destination: self.destination() as u32,
        }
    }

    /// Sets or clears remote IRR.
    #[must_use]
    pub(super) const fn with_remote_irr(self, set: bool) -> Self {
        if set {
            Self(self.0 | Self::REMOTE_IRR)
        } else {
            Self(self.0 & !Self::REMOTE_IRR)
        }
    }

    /// The entry after a guest has written its upper or its lower half.
    #[must_use]
    pub(super) const fn written(self, upper: bool, value: u32) -> Self {
        let bits = if upper {
            (self.0 & 0xffff_ffff) | ((value as u64) << 32)
        } else {
            (self.0 & !0xffff_ffff) | value as u64
        };
        let entry = Self((bits & !Self::READ_ONLY) | (self.0 & Self::READ_ONLY));
        // Linux and Xen end an interrupt at an I/O APIC without EOI register
        // by making the entry edge-triggered for a moment, and expect that this
        // clears remote IRR, as hardware does.
        match entry.trigger() {
            Trigger::Edge => entry.with_remote_irr(false),
            Trigger::Level => entry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERN: RedirectionEntry = RedirectionEntry(0xa500_0000_0001_b9c4);

    #[test]
    fn every_field_is_where_the_data_sheet_has_it() {
        assert_eq!(PATTERN.vector(), 0xc4);
        assert_eq!(PATTERN.delivery_mode(), DeliveryMode::LowestPriority);
        assert_eq!(PATTERN.destination_mode(), DestinationMode::Logical);
        assert!(PATTERN.delivery_status());
        assert!(PATTERN.active_low());
        assert!(!PATTERN.remote_irr());
        assert_eq!(PATTERN.trigger(), Trigger::Level);
        assert!(PATTERN.masked());
        assert_eq!(PATTERN.destination(), 0xa5);
    }

    #[test]
    fn a_clear_bit_reads_as_false() {
        let clear = RedirectionEntry(!0x1_f800);
        assert_eq!(clear.destination_mode(), DestinationMode::Physical);
        assert!(!clear.delivery_status());
        assert!(!clear.active_low());
        assert!(!clear.remote_irr());
        assert_eq!(clear.trigger(), Trigger::Edge);
        assert!(!clear.masked());
    }

    #[test]
    fn the_message_takes_every_field_from_the_entry() {
        assert_eq!(
            PATTERN.message(),
            Message {
                vector: 0xc4,
                delivery_mode: DeliveryMode::LowestPriority,
                destination_mode: DestinationMode::Logical,
                shorthand: Shorthand::None,
                trigger: Trigger::Level,
                assert: true,
                redirection_hint: false,
                destination: 0xa5,
            }
        );
    }

    #[test]
    fn every_delivery_mode_is_decoded() {
        for bits in 0..8u64 {
            let entry = RedirectionEntry(bits << 8);
            assert_eq!(entry.delivery_mode() as u64, bits);
        }
    }

    #[test]
    fn a_write_changes_one_half() {
        assert_eq!(PATTERN.written(true, 0x1234_5678).0, 0x1234_5678_0001_b9c4);
        let low = PATTERN.written(false, 0xffff_ffff).0;
        assert_eq!(low, 0xa500_0000_ffff_bfff);
    }

    #[test]
    fn a_write_leaves_the_read_only_bits() {
        let entry = RedirectionEntry(RedirectionEntry::READ_ONLY | RedirectionEntry::LEVEL);
        assert_eq!(entry.written(false, RedirectionEntry::LEVEL as u32), entry);
        let none = RedirectionEntry(0);
        assert_eq!(
            none.written(false, u32::MAX).0 & RedirectionEntry::READ_ONLY,
            0
        );
    }

    #[test]
    fn remote_irr_is_set_and_cleared_whatever_it_was() {
        for entry in [RedirectionEntry(0), RedirectionEntry(u64::MAX)] {
            assert!(entry.with_remote_irr(true).remote_irr());
            assert!(!entry.with_remote_irr(false).remote_irr());
            let changed = entry.with_remote_irr(true).0 ^ entry.with_remote_irr(false).0;
            assert_eq!(changed, RedirectionEntry::REMOTE_IRR);
        }
    }

    #[test]
    fn an_edge_triggered_entry_has_no_remote_irr() {
        let entry = RedirectionEntry(RedirectionEntry::READ_ONLY | RedirectionEntry::LEVEL);
        let edge = entry.written(false, 0);
        assert!(!edge.remote_irr());
        assert!(edge.delivery_status());
        assert!(!RedirectionEntry(RedirectionEntry::REMOTE_IRR)
            .written(true, 0)
            .remote_irr());
    }
}
