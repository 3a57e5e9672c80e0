// SPDX-License-Identifier: GPL-2.0

//! The input lines of the PIC and of the I/O APIC.
//!
//! Several sources may drive one pin, as with interrupt lines that are wired
//! together: user space, the resampling irqfds, and the 8254. The pin is high
//! while at least one of them holds it high.

/// Who drives a line; the numbers are KVM's `irq_source_id`.
pub mod source {
    /// `KVM_IRQ_LINE` and plain irqfds (`KVM_USERSPACE_IRQ_SOURCE_ID`).
    pub const USERSPACE: u32 = 0;
    /// Irqfds with a resample eventfd (`KVM_IRQFD_RESAMPLE_IRQ_SOURCE_ID`).
    pub const RESAMPLE: u32 = 1;
    /// The in-kernel 8254 (`KVM_PIT_IRQ_SOURCE_ID`).
    pub const PIT: u32 = 2;
}

/// Which sources hold each of `PINS` pins high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines<const PINS: usize> {
    holders: [u64; PINS],
}

impl<const PINS: usize> Lines<PINS> {
    /// All pins low.
    pub const fn new() -> Self {
        Self { holders: [0; PINS] }
    }

    /// Lets `source` drive `pin` to `level`; returns the level that the pin
    /// then has. A pin that does not exist stays low. Sources are numbered
    /// from 0 to 63, higher bits of `source` are ignored.
    pub fn drive(&mut self, pin: usize, source: u32, level: bool) -> bool {
        let Some(holders) = self.holders.get_mut(pin) else {
            return false;
        };
        let bit = 1u64 << (source & 63);
        if level {
            *holders |= bit;
        } else {
            *holders &= !bit;
        }
        *holders != 0
    }

    /// The level that `pin` has now.
    pub fn level(&self, pin: usize) -> bool {
        self.holders.get(pin).is_some_and(|holders| *holders != 0)
    }
}

impl<const PINS: usize> Default for Lines<PINS> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_high_until_the_last_source_lets_go() {
        let mut lines = Lines::<16>::new();
        assert!(lines.drive(4, source::USERSPACE, true));
        assert!(lines.drive(4, source::RESAMPLE, true));
        assert!(lines.drive(4, source::USERSPACE, false));
        assert!(lines.level(4));
        assert!(!lines.drive(4, source::RESAMPLE, false));
        assert!(!lines.level(4));
    }

    #[test]
    fn a_source_that_drives_twice_lets_go_once() {
        let mut lines = Lines::<16>::new();
        lines.drive(0, source::PIT, true);
        lines.drive(0, source::PIT, true);
        assert!(!lines.drive(0, source::PIT, false));
    }

    #[test]
    fn lines_do_not_disturb_each_other() {
        let mut lines = Lines::<16>::new();
        lines.drive(3, source::USERSPACE, true);
        assert!(!lines.drive(4, source::USERSPACE, false));
        assert!(lines.level(3));
    }

    #[test]
    fn all_lines_are_low_at_first() {
        let lines = Lines::<3>::default();
        assert_eq!([0, 1, 2].map(|pin| lines.level(pin)), [false; 3]);
    }

    #[test]
    fn pins_and_sources_out_of_range_are_harmless() {
        let mut lines = Lines::<16>::new();
        assert!(!lines.drive(16, source::USERSPACE, true));
        assert!(!lines.level(16));
        assert!(lines.drive(0, u32::MAX, true));
        assert!(!lines.drive(0, 63, false));
    }
}
