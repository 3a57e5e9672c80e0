// SPDX-License-Identifier: GPL-2.0

//! One 8259A: its registers, its priorities, and its saved state.

/// Everything that one 8259A remembers, which is also what `KVM_GET_IRQCHIP`
/// and `KVM_SET_IRQCHIP` transfer: the fields and their order are those of
/// `struct kvm_pic_state` (KVM uAPI, `asm/kvm.h`).
///
/// User space may set any bytes. Flags are therefore true for every value but
/// 0, and a number is reduced to its range where it is used, not where it is
/// set, so that what is read back is what was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct State {
    /// Levels of the input lines, for the detection of edges.
    pub last_irr: u8,
    /// Interrupt request register: a bit for each request not acknowledged.
    pub irr: u8,
    /// Interrupt mask register (OCW1): a set bit disables the request.
    pub imr: u8,
    /// In-service register: a bit for each request waiting for its EOI.
    pub isr: u8,
    /// The line with the highest priority, 0 after a reset.
    pub priority_add: u8,
    /// Vector of line 0 (ICW2), a multiple of 8.
    pub irq_base: u8,
    /// A read of the command port gives the ISR, else the IRR (OCW3).
    pub read_reg_select: u8,
    /// The next read is a poll command's answer (OCW3).
    pub poll: u8,
    /// Special mask mode (OCW3); remembered, without effect on priorities.
    pub special_mask: u8,
    /// The initialization word expected next at the data port: 1 to 3 for ICW2
    /// to ICW4, 0 for none.
    pub init_state: u8,
    /// Automatic EOI (ICW4): no request stays in service.
    pub auto_eoi: u8,
    /// Rotate priorities on each automatic EOI (OCW2).
    pub rotate_on_auto_eoi: u8,
    /// Special fully nested mode (ICW4): the slave in service does not block
    /// further requests of the slave.
    pub special_fully_nested_mode: u8,
    /// ICW1 announced an ICW4.
    pub init4: u8,
    /// Edge/level control register of the PIIX: a set bit makes the line
    /// level-triggered.
    pub elcr: u8,
    /// The bits that a guest can set in [`Self::elcr`].
    pub elcr_mask: u8,
}

impl State {
    /// Power-on state of a chip whose lines in `elcr_mask` can be made
    /// level-triggered.
    pub(super) const fn new(elcr_mask: u8) -> Self {
        Self {
            last_irr: 0,
            irr: 0,
            imr: 0,
            isr: 0,
            priority_add: 0,
            irq_base: 0,
            read_reg_select: 0,
            poll: 0,
            special_mask: 0,
            init_state: 0,
            auto_eoi: 0,
            rotate_on_auto_eoi: 0,
            special_fully_nested_mode: 0,
            init4: 0,
            elcr: 0,
            elcr_mask,
        }
    }

    /// Reads the bytes of a `struct kvm_pic_state`.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let [last_irr, irr, imr, isr, priority_add, irq_base, read_reg_select, poll, special_mask, init_state, auto_eoi, rotate_on_auto_eoi, special_fully_nested_mode, init4, elcr, elcr_mask] =
            bytes;
        Self {
            last_irr,
            irr,
            imr,
            isr,
            priority_add,
            irq_base,
            read_reg_select,
            poll,
            special_mask,
            init_state,
            auto_eoi,
            rotate_on_auto_eoi,
            special_fully_nested_mode,
            init4,
            elcr,
            elcr_mask,
        }
    }

    /// The bytes of a `struct kvm_pic_state`.
    pub const fn to_bytes(self) -> [u8; 16] {
        [
            self.last_irr,
            self.irr,
            self.imr,
            self.isr,
            self.priority_add,
            self.irq_base,
            self.read_reg_select,
            self.poll,
            self.special_mask,
            self.init_state,
            self.auto_eoi,
            self.rotate_on_auto_eoi,
            self.special_fully_nested_mode,
            self.init4,
            self.elcr,
            self.elcr_mask,
        ]
    }

    /// Drives input `line` (0 to 7) to `level`.
    ///
    /// Returns KVM's account of it: -1 if the line is masked, 0 if the request
    /// was pending already (coalesced), else 1.
    pub(super) fn set_line(&mut self, line: u8, level: bool) -> i32 {
        let bit = bit(line);
        let mut result = 1;
        if self.elcr & bit != 0 {
            if level {
                result = i32::from(self.irr & bit == 0);
                self.irr |= bit;
                self.last_irr |= bit;
            } else {
                self.irr &= !bit;
                self.last_irr &= !bit;
            }
        } else if level {
            if self.last_irr & bit == 0 {
                result = i32::from(self.irr & bit == 0);
                self.irr |= bit;
            }
            self.last_irr |= bit;
        } else {
            self.last_irr &= !bit;
        }
        if self.imr & bit != 0 {
            -1
        } else {
            result
        }
    }

    /// The line of highest priority among those set in `lines`, with its rank:
    /// 0 for the highest priority, 7 for the lowest.
    fn highest(&self, lines: u8) -> Option<(u8, u8)> {
        (0..8)
            .map(|rank: u8| (rank, rank.wrapping_add(self.priority_add) & 7))
            .find(|&(_, line)| lines & bit(line) != 0)
    }

    /// The line of highest priority in service.
    pub(super) fn highest_in_service(&self) -> Option<u8> {
        self.highest(self.isr).map(|(_, line)| line)
    }

    /// The line, if any, for which the chip asserts its INT output.
    ///
    /// A request gets through if it is not masked and has a higher priority
    /// than all those in service. `master` tells whether a slave is wired to
    /// line 2, for the special fully nested mode.
    pub(super) fn requested(&self, master: bool) -> Option<u8> {
        let (rank, line) = self.highest(self.irr & !self.imr)?;
        let mut in_service = self.isr;
        if master && self.special_fully_nested_mode != 0 {
            in_service &= !bit(super::CASCADE_LINE);
        }
        match self.highest(in_service) {
            Some((current, _)) if current <= rank => None,
            _ => Some(line),
        }
    }

    /// Takes `line` into service, as in an INTA cycle. A level-triggered
    /// request stays pending for as long as its line is high.
    ///
    /// Returns true in automatic EOI mode: [`Self::end_of_interrupt`] is due.
    pub(super) fn accept(&mut self, line: u8) -> bool {
        let bit = bit(line);
        self.isr |= bit;
        if self.elcr & bit == 0 {
            self.irr &= !bit;
        }
        if self.auto_eoi == 0 {
            return false;
        }
        if self.rotate_on_auto_eoi != 0 {
            self.make_lowest_priority(line);
        }
        true
    }

    /// Takes `line` out of service.
    pub(super) fn end_of_interrupt(&mut self, line: u8) {
        self.isr &= !bit(line);
    }

    /// Rotates the priorities so that `line` gets the lowest.
    pub(super) fn make_lowest_priority(&mut self, line: u8) {
        self.priority_add = line.wrapping_add(1) & 7;
    }

    /// What ICW1 does. Returns the edge-triggered requests that it cancelled.
    pub(super) fn reset(&mut self) -> u8 {
        let cancelled = self.irr & !self.elcr;
        self.last_irr = 0;
        self.irr &= self.elcr;
        self.imr = 0;
        self.priority_add = 0;
        self.special_mask = 0;
        self.read_reg_select = 0;
        if self.init4 == 0 {
            self.special_fully_nested_mode = 0;
            self.auto_eoi = 0;
        }
        self.init_state = 1;
        cancelled
    }
}

/// The bit of `line` in a register.
pub(super) const fn bit(line: u8) -> u8 {
    1 << (line & 7)
}
