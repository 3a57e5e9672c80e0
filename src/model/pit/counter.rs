// SPDX-License-Identifier: GPL-2.0

//! One counter of the 8254.

/// How often a counter counts, in Hz.
const FREQUENCY: u32 = 1_193_181;
const NSEC_PER_SEC: u32 = 1_000_000_000;

/// The mode of a counter that no control word has given one.
pub(super) const UNUSED_MODE: u8 = 0xff;

/// Time in ns as ticks of a counter, rounded down. A negative time is taken for
/// the unsigned number of the same bits, as KVM does.
pub const fn ns_to_ticks(ns: i64) -> i64 {
    multiply_divide(ns as u64, FREQUENCY, NSEC_PER_SEC) as i64
}

/// Ticks of a counter as time in ns, rounded down.
pub const fn ticks_to_ns(ticks: u32) -> i64 {
    multiply_divide(ticks as u64, NSEC_PER_SEC, FREQUENCY) as i64
}

/// `value * numerator / denominator` without the overflow in between, and
/// without a division of 128 bits, which the kernel does not have.
const fn multiply_divide(value: u64, numerator: u32, denominator: u32) -> u64 {
    const LOW: u64 = u32::MAX as u64;
    let (numerator, denominator) = (numerator as u64, denominator as u64);
    let low = (value & LOW) * numerator;
    let high = (value >> 32) * numerator + (low >> 32);
    let rest = ((high % denominator) << 32) | (low & LOW);
    ((high / denominator) << 32) + rest / denominator
}

/// Which bytes of a count an access reads or writes. The numbers are those of
/// the control word and of the saved state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Access {
    Low = 1,
    High = 2,
    /// Both, the low one next.
    Word = 3,
    /// Both, the high one next. Not in a control word.
    WordHigh = 4,
}

impl Access {
    /// From a control word; none if that latches the count instead.
    pub(super) const fn from_control(control: u8) -> Option<Self> {
        Some(match control >> 4 & 3 {
            0 => return None,
            1 => Self::Low,
            2 => Self::High,
            _ => Self::Word,
        })
    }

    /// From the saved state, which may hold any number.
    const fn from_state(state: u8) -> Self {
        match state {
            2 => Self::High,
            3 => Self::Word,
            4 => Self::WordHigh,
            _ => Self::Low,
        }
    }
}

/// A counter; also its saved form, `struct kvm_pit_channel_state`. Every
/// pattern of bytes is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CounterState {
    /// The initial count; 0x10000 for the 0 that a guest writes.
    pub count: u32,
    /// The count that was latched.
    pub latched_count: u16,
    /// Which bytes of it are still to be read; 0 if none is latched.
    pub count_latched: u8,
    /// Is `status` to be read?
    pub status_latched: u8,
    /// The status that was latched.
    pub status: u8,
    /// Which byte of the count the next read gets.
    pub read_state: u8,
    /// Which byte of the count the next write sets.
    pub write_state: u8,
    /// The low byte written, while the high one is awaited.
    pub write_latch: u8,
    /// Which bytes the control word has chosen.
    pub rw_mode: u8,
    /// 0 to 5, or another number before the first control word.
    pub mode: u8,
    /// The control word's bit 0; counting is binary all the same.
    pub bcd: u8,
    /// Level of the gate input.
    pub gate: u8,
    /// When it was loaded or triggered, in ns; not of counter 0.
    pub count_load_time: i64,
}

const _: () = assert!(size_of::<CounterState>() == 24);

impl CounterState {
    /// Sets the initial count; 0 is the largest.
    pub(super) fn set_count(&mut self, count: u32) {
        self.count = if count == 0 { 0x10000 } else { count };
    }

    /// A control word that chooses mode and access.
    pub(super) fn program(&mut self, access: Access, control: u8) {
        self.rw_mode = access as u8;
        self.read_state = access as u8;
        self.write_state = access as u8;
        self.mode = match control >> 1 & 7 {
            mode @ 0..=5 => mode,
            // The highest bit of modes 2 and 3 does not matter.
            mode => mode - 4,
        };
        self.bcd = control & 1;
    }

    /// A write to the counter's port. Gives the initial count once it is
    /// complete.
    pub(super) fn write(&mut self, value: u8) -> Option<u32> {
        let value = u32::from(value);
        match Access::from_state(self.write_state) {
            Access::Low => Some(value),
            Access::High => Some(value << 8),
            Access::Word => {
                self.write_latch = value as u8;
                self.write_state = Access::WordHigh as u8;
                None
            }
            Access::WordHigh => {
                self.write_state = Access::Word as u8;
                Some(u32::from(self.write_latch) | value << 8)
            }
        }
    }

    /// A read of the counter's port, `elapsed` ns after it was loaded.
    pub(super) fn read(&mut self, elapsed: i64) -> u8 {
        if self.status_latched != 0 {
            self.status_latched = 0;
            return self.status;
        }
        if self.count_latched != 0 {
            let [low, high] = self.latched_count.to_le_bytes();
            return match Access::from_state(self.count_latched) {
                Access::Word => {
                    self.count_latched = Access::High as u8;
                    low
                }
                Access::High => {
                    self.count_latched = 0;
                    high
                }
                Access::Low | Access::WordHigh => {
                    self.count_latched = 0;
                    low
                }
            };
        }
        let [low, high] = self.current(elapsed).to_le_bytes();
        match Access::from_state(self.read_state) {
            Access::Low => low,
            Access::High => high,
            Access::Word => {
                self.read_state = Access::WordHigh as u8;
                low
            }
            Access::WordHigh => {
                self.read_state = Access::Word as u8;
                high
            }
        }
    }

    /// Latches the count, unless one is latched that was not read yet.
    pub(super) fn latch_count(&mut self, elapsed: i64) {
        if self.count_latched == 0 {
            self.latched_count = self.current(elapsed);
            self.count_latched = self.rw_mode;
        }
    }

    /// Latches the status, unless one is latched that was not read yet.
    pub(super) fn latch_status(&mut self, elapsed: i64) {
        if self.status_latched == 0 {
            self.status =
                u8::from(self.output(elapsed)) << 7 | self.rw_mode << 4 | self.mode << 1 | self.bcd;
            self.status_latched = 1;
        }
    }

    /// Drives the gate.
    pub(super) fn set_gate(&mut self, level: u8, now_ns: i64) {
        // These modes start over when the gate rises. The others should stop
        // while it is low, which KVM's do not.
        if matches!(self.mode, 1 | 2 | 3 | 5) && self.gate < level {
            self.count_load_time = now_ns;
        }
        self.gate = level;
    }

    /// Where the count is, `elapsed` ns after it was loaded.
    fn current(&self, elapsed: i64) -> u16 {
        let ticks = ns_to_ticks(elapsed);
        let count = i64::from(self.count);
        let current = match self.mode {
            0 | 1 | 4 | 5 => count.wrapping_sub(ticks),
            // Two at a time, so that it is loaded anew at half the period.
            3 => count - (2 * ticks).checked_rem(count).unwrap_or(0),
            _ => count - ticks.checked_rem(count).unwrap_or(0),
        };
        current as u16
    }

    /// Level of the output, `elapsed` ns after the count was loaded.
    pub(super) fn output(&self, elapsed: i64) -> bool {
        let ticks = ns_to_ticks(elapsed);
        let count = i64::from(self.count);
        let phase = ticks.checked_rem(count).unwrap_or(0);
        match self.mode {
            1 => ticks < count,
            2 => phase == 0 && ticks != 0,
            3 => phase < i64::from(self.count.wrapping_add(1) >> 1),
            4 | 5 => ticks == count,
            _ => ticks >= count,
        }
    }
}
