// SPDX-License-Identifier: GPL-2.0

//! The pair of 8259A interrupt controllers of a PC.
//!
//! Fifteen lines: 0 to 7 of the master, of which 2 carries the slave's output,
//! and 0 to 7 of the slave, here pins 8 to 15. With them goes the edge/level
//! control register (ELCR) of the PIIX.
//!
//! Sources: Intel 8259A data sheet; Intel 82371AB (PIIX4) data sheet, "ELCR1"
//! and "ELCR2"; and where these leave a choice, KVM's `i8259.c`, which this
//! module equals in what a guest sees and in the saved state.
//!
//! # Locks and notifications
//!
//! A [`Pic`] has no lock of its own. Its owner holds a spinlock around each
//! call, and after each call looks at [`Pic::take_wakeup`].
//!
//! Whoever wants to know that a guest has acknowledged an interrupt (the 8254,
//! an irqfd that resamples) may drive a line from within the notification, so
//! that it cannot run under the lock. An access that acknowledges an interrupt
//! therefore stops half way, with [`Step::Acknowledge`]: drop the lock, notify,
//! take the lock again, and continue with [`Pic::resume`].
//!
//! ```text
//! let mut step = locked(|pic| pic.write(port, data, host));
//! while let Step::Acknowledge { pin, then } = step {
//!     notify_acked(pin);
//!     step = locked(|pic| pic.resume(then));
//! }
//! ```
//!
//! At each such stop the registers are consistent, so that other accesses may
//! come between.

mod chip;
#[cfg(test)]
mod tests;

pub use chip::State;

use super::line::Lines;
use chip::bit;

/// Pins of both chips, the cascade included.
pub const PINS: usize = 16;

/// The master's line that the slave's output is wired to.
const CASCADE_LINE: u8 = 2;

/// The line whose vector a chip gives when there is no request any more.
const SPURIOUS_LINE: u8 = 7;

/// Master or slave; the numbers are `KVM_IRQCHIP_PIC_MASTER` and `..._SLAVE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Chip {
    /// Wired to the processor's INTR input. Pins 0 to 7.
    Master = 0,
    /// Wired to the master's line 2. Pins 8 to 15.
    Slave = 1,
}

impl Chip {
    const fn of_pin(pin: u8) -> Self {
        if pin < 8 {
            Self::Master
        } else {
            Self::Slave
        }
    }

    const fn first_pin(self) -> u8 {
        match self {
            Self::Master => 0,
            Self::Slave => 8,
        }
    }
}

/// An I/O port of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// 0x20 and 0xa0: ICW1, OCW2, OCW3; reads give IRR, ISR or a poll.
    Command(Chip),
    /// 0x21 and 0xa1: ICW2 to ICW4, OCW1; reads give the IMR or a poll.
    Data(Chip),
    /// 0x4d0 and 0x4d1: trigger mode of each line.
    Elcr(Chip),
}

impl Port {
    /// The port at an address, if it is one of the pair's.
    pub const fn decode(address: u64) -> Option<Self> {
        Some(match address {
            0x20 => Self::Command(Chip::Master),
            0x21 => Self::Data(Chip::Master),
            0xa0 => Self::Command(Chip::Slave),
            0xa1 => Self::Data(Chip::Slave),
            0x4d0 => Self::Elcr(Chip::Master),
            0x4d1 => Self::Elcr(Chip::Slave),
            _ => return None,
        })
    }
}

/// What the pair needs from its surroundings. All calls come under the owner's
/// lock, must not sleep and must not call back into the [`Pic`].
pub trait Host {
    /// Does the local APIC of any vCPU let the PIC's interrupts through, i.e.
    /// is it disabled or LINT0 unmasked in ExtINT mode?
    fn accepts_interrupts(&self) -> bool;

    /// The guest changed the mask bit of `pin` (0 to 15).
    ///
    /// Comes after the change and before INTR is recomputed. That needs no
    /// [`Step`]: whoever listens (the 8254) counts anew from there, and drives
    /// no line before the call is over.
    fn mask_changed(&mut self, pin: u8, masked: bool);

    /// Trace point: `line` of `chip` was driven; `state` is the chip's after.
    fn trace_set_line(&mut self, _chip: Chip, _line: u8, _state: &State, _coalesced: bool) {}
}

/// Where an access stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an access that is not resumed stays incomplete"]
pub enum Step {
    /// Complete: the byte read, or the vector acknowledged; 0 for a write.
    Done(u8),
    /// `pin` (0 to 15) has been acknowledged. With the lock dropped, its
    /// acknowledge notifiers are to be called, and then [`Pic::resume`].
    Acknowledge {
        /// The pin acknowledged, 0 to 15.
        pin: u8,
        /// What [`Pic::resume`] is to be told.
        then: Then,
    },
}

/// How an access goes on after its notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Then(Next);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// ICW1: the requests cancelled that are still to be acknowledged.
    Reset { chip: Chip, cancelled: u8 },
    /// OCW2.
    Update,
    /// INTA: the master has given its line.
    MasterAccepted { line: u8 },
    /// INTA: the chip whose vector counts has given its line.
    Accepted { chip: Chip, line: u8 },
    /// Poll command.
    Polled { chip: Chip, line: u8 },
}

/// The pair of 8259A.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pic {
    chips: [State; 2],
    lines: Lines<PINS>,
    output: bool,
    wakeup: bool,
}

impl Default for Pic {
    fn default() -> Self {
        Self::new()
    }
}

impl Pic {
    /// The pair as it is after power-on: all lines edge-triggered, none masked.
    pub const fn new() -> Self {
        Self {
            // Lines 0 to 2 of the master (timer, keyboard, cascade) and lines 0
            // and 5 of the slave (RTC, FPU) are always edge-triggered.
            chips: [State::new(0xf8), State::new(0xde)],
            lines: Lines::new(),
            output: false,
            wakeup: false,
        }
    }

    /// Level of the INTR output.
    ///
    /// KVM reads it without the lock, before each entry to the guest; the owner
    /// publishes it after each call for that.
    pub const fn output(&self) -> bool {
        self.output
    }

    /// Has INTR risen since the last call? Then, with the lock dropped, the
    /// first vCPU that accepts the PIC's interrupts is to be woken.
    pub fn take_wakeup(&mut self) -> bool {
        core::mem::take(&mut self.wakeup)
    }

    /// The saved state of a chip.
    pub const fn state(&self, chip: Chip) -> State {
        self.chips[chip as usize]
    }

    /// Restores the state of a chip, whatever it says. The line levels and the
    /// INTR output are not part of it: [`Self::update`] is due afterwards.
    pub fn set_state(&mut self, chip: Chip, state: State) {
        self.chips[chip as usize] = state;
    }

    /// Recomputes INTR. To be called after restoring state; everything else
    /// does so by itself.
    pub fn update(&mut self) {
        if self.requested(Chip::Slave).is_some() {
            // The cascade is edge-triggered: a pulse for each new request.
            let master = &mut self.chips[Chip::Master as usize];
            master.set_line(CASCADE_LINE, true);
            master.set_line(CASCADE_LINE, false);
        }
        let output = self.requested(Chip::Master).is_some();
        self.wakeup |= output && !self.output;
        self.output = output;
    }

    /// Lets `source` (see [`super::line::source`]) drive `pin` to `level`.
    ///
    /// Returns KVM's account of it, which `KVM_IRQ_LINE_STATUS` reports: -1 if
    /// the pin is masked or does not exist, 0 if the request was pending
    /// already (coalesced), else 1.
    pub fn set_line(&mut self, pin: u32, source: u32, level: bool, host: &mut impl Host) -> i32 {
        let pin = match u8::try_from(pin) {
            Ok(pin) if usize::from(pin) < PINS => pin,
            _ => return -1,
        };
        let level = self.lines.drive(usize::from(pin), source, level);
        let chip = Chip::of_pin(pin);
        let result = self.chips[chip as usize].set_line(pin & 7, level);
        self.update();
        host.trace_set_line(chip, pin & 7, &self.chips[chip as usize], result == 0);
        result
    }

    /// The INTA cycles: takes the request of highest priority into service and
    /// gives its vector, or that of the spurious interrupt if it is gone.
    pub fn acknowledge(&mut self) -> Step {
        // INTR falls, so that a request behind this one makes it rise again
        // and somebody is woken for it.
        self.output = false;
        match self.requested(Chip::Master) {
            None => self.accepted(Chip::Master, SPURIOUS_LINE),
            Some(line) if self.chips[Chip::Master as usize].accept(line) => {
                self.end_of_interrupt(Chip::Master, line, Next::MasterAccepted { line })
            }
            Some(line) => self.master_accepted(line),
        }
    }

    fn master_accepted(&mut self, line: u8) -> Step {
        if line != CASCADE_LINE {
            return self.accepted(Chip::Master, line);
        }
        let chip = Chip::Slave;
        match self.requested(chip) {
            None => self.accepted(chip, SPURIOUS_LINE),
            Some(line) if self.chips[chip as usize].accept(line) => {
                self.end_of_interrupt(chip, line, Next::Accepted { chip, line })
            }
            Some(line) => self.accepted(chip, line),
        }
    }

    fn accepted(&mut self, chip: Chip, line: u8) -> Step {
        // ICW2 gives multiples of 8, a restored state anything.
        let vector = self.chips[chip as usize].irq_base.wrapping_add(line);
        self.update();
        Step::Done(vector)
    }

    /// Takes `line` out of service and stops for its notification.
    fn end_of_interrupt(&mut self, chip: Chip, line: u8, next: Next) -> Step {
        self.chips[chip as usize].end_of_interrupt(line);
        Step::Acknowledge {
            pin: chip.first_pin() + (line & 7),
            then: Then(next),
        }
    }

    /// Continues an access after the notification it stopped for.
    pub fn resume(&mut self, then: Then) -> Step {
        match then.0 {
            Next::Reset { chip, cancelled } => self.acknowledge_cancelled(chip, cancelled),
            Next::Update => {
                self.update();
                Step::Done(0)
            }
            Next::MasterAccepted { line } => self.master_accepted(line),
            Next::Accepted { chip, line } => self.accepted(chip, line),
            Next::Polled { chip, line } => {
                // KVM recomputes INTR unless the master was polled and gave the
                // cascade: the slave is going to be polled next.
                if chip == Chip::Slave || line != CASCADE_LINE {
                    self.update();
                }
                self.chips[chip as usize].poll = 0;
                Step::Done(0x80 | line)
            }
        }
    }

    /// The guest reads `width` bytes at `port`. Only byte accesses reach the
    /// chip; all others read as zeroes.
    pub fn read(&mut self, port: Port, width: usize) -> Step {
        if width != 1 {
            return Step::Done(0);
        }
        let (chip, data) = match port {
            Port::Elcr(chip) => return Step::Done(self.chips[chip as usize].elcr),
            Port::Command(chip) => (chip, false),
            Port::Data(chip) => (chip, true),
        };
        let state = &self.chips[chip as usize];
        if state.poll != 0 {
            return self.poll(chip);
        }
        Step::Done(if data {
            state.imr
        } else if state.read_reg_select != 0 {
            state.isr
        } else {
            state.irr
        })
    }

    /// The read that answers a poll command takes the place of the INTA cycles:
    /// bit 7 says whether there is a request, bits 2:0 its line.
    fn poll(&mut self, chip: Chip) -> Step {
        let Some(line) = self.requested(chip) else {
            self.update();
            self.chips[chip as usize].poll = 0;
            return Step::Done(SPURIOUS_LINE);
        };
        if chip == Chip::Slave {
            let master = &mut self.chips[Chip::Master as usize];
            master.isr &= !bit(CASCADE_LINE);
            master.irr &= !bit(CASCADE_LINE);
        }
        // KVM ends the interrupt at once; the request goes even if its line is
        // level-triggered and high.
        self.chips[chip as usize].irr &= !bit(line);
        self.end_of_interrupt(chip, line, Next::Polled { chip, line })
    }

    /// The guest writes `data` to `port`. Only byte accesses reach the chip;
    /// all others are ignored.
    pub fn write(&mut self, port: Port, data: &[u8], host: &mut impl Host) -> Step {
        let &[value] = data else {
            return Step::Done(0);
        };
        match port {
            Port::Elcr(chip) => {
                let state = &mut self.chips[chip as usize];
                state.elcr = value & state.elcr_mask;
                Step::Done(0)
            }
            Port::Command(chip) if value & 0x10 != 0 => self.write_icw1(chip, value, host),
            Port::Command(chip) if value & 0x08 != 0 => {
                self.write_ocw3(chip, value);
                Step::Done(0)
            }
            Port::Command(chip) => self.write_ocw2(chip, value),
            Port::Data(chip) => {
                self.write_data(chip, value, host);
                Step::Done(0)
            }
        }
    }

    /// ICW1 resets the chip. Single mode (bit 1) and level mode (bit 3) do not
    /// exist in a PC and are ignored.
    fn write_icw1(&mut self, chip: Chip, value: u8, host: &mut impl Host) -> Step {
        let state = &mut self.chips[chip as usize];
        state.init4 = value & 1;
        let cancelled = state.reset();
        // Whoever waits for the guest to acknowledge a cancelled interrupt
        // would wait for ever. If nobody listens to the PIC, the guest takes
        // the same line through the I/O APIC and acknowledges it there.
        if cancelled != 0 && host.accepts_interrupts() {
            self.acknowledge_cancelled(chip, cancelled)
        } else {
            Step::Done(0)
        }
    }

    fn acknowledge_cancelled(&mut self, chip: Chip, cancelled: u8) -> Step {
        if cancelled == 0 {
            return Step::Done(0);
        }
        // One at a time: a notification can make INTR be recomputed, and then
        // it matters which lines are still in service.
        let line = cancelled.trailing_zeros() as u8;
        let cancelled = cancelled & !bit(line);
        self.end_of_interrupt(chip, line, Next::Reset { chip, cancelled })
    }

    fn write_ocw2(&mut self, chip: Chip, value: u8) -> Step {
        let state = &mut self.chips[chip as usize];
        let specified = value & 7;
        let ended = match value >> 5 {
            // Rotate in automatic EOI mode: clear, set.
            command @ (0 | 4) => {
                state.rotate_on_auto_eoi = command >> 2;
                return Step::Done(0);
            }
            // Non-specific EOI, without and with rotation.
            command @ (1 | 5) => {
                let Some(line) = state.highest_in_service() else {
                    return Step::Done(0);
                };
                if command == 5 {
                    state.make_lowest_priority(line);
                }
                line
            }
            // Specific EOI.
            3 => specified,
            // Set priority.
            6 => {
                state.make_lowest_priority(specified);
                self.update();
                return Step::Done(0);
            }
            // Specific EOI with rotation.
            7 => {
                state.make_lowest_priority(specified);
                specified
            }
            // 2 is no operation.
            _ => return Step::Done(0),
        };
        self.end_of_interrupt(chip, ended, Next::Update)
    }

    fn write_ocw3(&mut self, chip: Chip, value: u8) {
        let state = &mut self.chips[chip as usize];
        if value & 0x04 != 0 {
            state.poll = 1;
        }
        if value & 0x02 != 0 {
            state.read_reg_select = value & 1;
        }
        if value & 0x40 != 0 {
            state.special_mask = (value >> 5) & 1;
        }
    }

    /// ICW2 to ICW4, in turn, and after these OCW1.
    fn write_data(&mut self, chip: Chip, value: u8, host: &mut impl Host) {
        let state = &mut self.chips[chip as usize];
        match state.init_state {
            0 => {
                let changed = state.imr ^ value;
                state.imr = value;
                for line in (0..8).filter(|&line| changed & bit(line) != 0) {
                    host.mask_changed(chip.first_pin() + line, value & bit(line) != 0);
                }
                self.update();
            }
            1 => {
                state.irq_base = value & 0xf8;
                state.init_state = 2;
            }
            // ICW3 describes the cascade, which is wired as it is.
            2 => state.init_state = if state.init4 != 0 { 3 } else { 0 },
            3 => {
                state.special_fully_nested_mode = (value >> 4) & 1;
                state.auto_eoi = (value >> 1) & 1;
                state.init_state = 0;
            }
            // Only a restored state gets here.
            _ => {}
        }
    }

    fn requested(&self, chip: Chip) -> Option<u8> {
        self.chips[chip as usize].requested(chip == Chip::Master)
    }
}
