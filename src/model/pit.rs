// SPDX-License-Identifier: GPL-2.0

//! The 8254 programmable interval timer of a PC, with the speaker's port.
//!
//! Three counters that count down 1193181 times a second. The output of counter
//! 0 is wired to line 0 of the PIC and pin 0 of the I/O APIC, or where routing
//! says; that of counter 2 is read through the speaker's port 0x61. Counter 1,
//! once the DRAM refresh, interrupts nobody.
//!
//! Sources: Intel 8254 data sheet; IBM PC/AT technical reference, "System Board
//! I/O: port B"; and where these leave a choice, KVM's `i8254.c`, which this
//! module equals in what a guest sees and in the saved state. What KVM leaves
//! out is left out here: BCD counting, the null count bit of the status.
//!
//! # Time and locks
//!
//! Only counter 0 needs a timer, which is the [`Host`]'s. The others are
//! computed from the time of their loading whenever somebody looks.
//!
//! A [`Pit`] has no lock of its own; its owner holds a mutex around each call.
//! What the timer's callback and the guest's EOI touch without it is
//! [`Reinjection`].

mod counter;
mod reinjection;
#[cfg(test)]
mod tests;

pub use counter::{ns_to_ticks, ticks_to_ns, CounterState};
pub use reinjection::Reinjection;

use counter::{Access, UNUSED_MODE};

/// Counters of the 8254.
pub const COUNTERS: usize = 3;

/// `KVM_PIT_FLAGS_HPET_LEGACY`: the HPET drives the timer interrupt, counter 0
/// is out of use.
pub const FLAG_HPET_LEGACY: u32 = 1 << 0;
/// `KVM_PIT_FLAGS_SPEAKER_DATA_ON`: bit 1 of port 0x61 is set.
pub const FLAG_SPEAKER_DATA_ON: u32 = 1 << 1;

/// The counter whose gate and output are at the speaker's port.
const SPEAKER_COUNTER: usize = 2;

/// An I/O port of the 8254 or beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// 0x40 to 0x42: the count of a counter.
    Counter(u8),
    /// 0x43: control words. Write only.
    Control,
    /// 0x61: the speaker's gate and data, the output of counter 2 and the
    /// refresh clock.
    Speaker,
}

impl Port {
    /// The port at an address, if it is one of these.
    pub const fn decode(address: u64) -> Option<Self> {
        Some(match address {
            0x40..=0x42 => Self::Counter((address - 0x40) as u8),
            0x43 => Self::Control,
            0x61 => Self::Speaker,
            _ => return None,
        })
    }
}

/// What the 8254 needs from its surroundings. All calls come under the owner's
/// mutex and may sleep.
pub trait Host {
    /// Monotonic time in ns, the same that saved states are stamped with.
    fn now_ns(&self) -> i64;

    /// Time until the timer of counter 0 expires, in ns; negative if that is
    /// past. For a timer that was stopped, as if it had not been.
    fn timer_remaining_ns(&self) -> i64;

    /// Stops the timer of counter 0, and waits until neither its callback nor
    /// the injection that this has asked for runs any more.
    fn stop_timer(&mut self);

    /// Starts the timer of counter 0, which is stopped: it expires in `first`
    /// ns, and then every `period` ns if there is one.
    fn start_timer(&mut self, first: i64, period: Option<i64>);

    /// The shortest period that guests may have, in ns: the host's timers are
    /// not throttled.
    fn min_period_ns(&self) -> i64;

    /// The counter of ticks that were not yet injected, which a new count
    /// resets.
    fn reinjection(&self) -> &Reinjection;

    /// A guest's periodic timer was slowed down, from `requested` ns.
    fn period_limited(&mut self, _requested: i64, _to: i64) {}
}

/// The saved state: `struct kvm_pit_state`.
pub type Counters = [CounterState; COUNTERS];

/// The 8254 and the flip-flops of the speaker's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pit {
    counters: Counters,
    flags: u32,
    /// Time between two ticks of counter 0, or until its only one, in ns; 0 as
    /// long as it was never started.
    period_ns: i64,
}

impl Pit {
    /// The 8254 as it is after power-on: no counter has a mode, and counter 2's
    /// gate is low.
    pub fn new(now_ns: i64) -> Self {
        let mut counters = [CounterState::default(); COUNTERS];
        for (index, counter) in counters.iter_mut().enumerate() {
            counter.mode = UNUSED_MODE;
            counter.gate = (index != SPEAKER_COUNTER).into();
            counter.set_count(0);
            if index != 0 {
                counter.count_load_time = now_ns;
            }
        }
        Self {
            counters,
            flags: 0,
            period_ns: 0,
        }
    }

    /// The saved state.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The saved flags, `FLAG_*`.
    pub const fn flags(&self) -> u32 {
        self.flags
    }

    /// Restores the state, whatever it says, and starts all counters from their
    /// initial counts. `flags` is none for `KVM_SET_PIT`, which knows no flags.
    pub fn restore(&mut self, counters: &Counters, flags: Option<u32>, host: &mut impl Host) {
        let had_legacy = self.flags & FLAG_HPET_LEGACY != 0;
        self.counters = *counters;
        if let Some(flags) = flags {
            self.flags = flags;
        }
        let has_legacy = self.flags & FLAG_HPET_LEGACY != 0;
        for index in 0..COUNTERS {
            let count = self.counters[index].count;
            if index == 0 && has_legacy && !had_legacy {
                // The HPET takes over. The mode stays for the time after it.
                self.counters[0].set_count(count);
                host.stop_timer();
            } else {
                self.load(index, count, host);
            }
        }
    }

    /// A guest's read. None from the control port, which nothing drives.
    pub fn read(&mut self, port: Port, host: &impl Host) -> Option<u8> {
        match port {
            Port::Counter(index) => {
                let index = usize::from(index);
                self.counters.get(index)?;
                let elapsed = self.elapsed_ns(index, host);
                Some(self.counters[index].read(elapsed))
            }
            Port::Control => None,
            Port::Speaker => Some(self.read_speaker(host)),
        }
    }

    /// A guest's write.
    pub fn write(&mut self, port: Port, value: u8, host: &mut impl Host) {
        match port {
            Port::Counter(index) => {
                let index = usize::from(index);
                let Some(counter) = self.counters.get_mut(index) else {
                    return;
                };
                if let Some(count) = counter.write(value) {
                    self.load(index, count, host);
                }
            }
            Port::Control => self.write_control(value, host),
            Port::Speaker => self.write_speaker(value, host),
        }
    }

    fn write_control(&mut self, value: u8, host: &impl Host) {
        const READ_BACK: usize = 3;
        match usize::from(value >> 6) {
            READ_BACK => {
                for index in 0..COUNTERS {
                    if value & (2 << index) == 0 {
                        continue;
                    }
                    let elapsed = self.elapsed_ns(index, host);
                    let counter = &mut self.counters[index];
                    if value & 0x20 == 0 {
                        counter.latch_count(elapsed);
                    }
                    if value & 0x10 == 0 {
                        counter.latch_status(elapsed);
                    }
                }
            }
            index => {
                let elapsed = self.elapsed_ns(index, host);
                let counter = &mut self.counters[index];
                match Access::from_control(value) {
                    None => counter.latch_count(elapsed),
                    Some(access) => counter.program(access, value),
                }
            }
        }
    }

    fn read_speaker(&self, host: &impl Host) -> u8 {
        let counter = &self.counters[SPEAKER_COUNTER];
        let output = counter.output(self.elapsed_ns(SPEAKER_COUNTER, host));
        // The DRAM refresh toggled it every 15 us; 2^14 ns is close.
        let refresh = (host.now_ns() >> 14) as u8 & 1;
        let data = u8::from(self.flags & FLAG_SPEAKER_DATA_ON != 0);
        counter.gate | data << 1 | refresh << 4 | u8::from(output) << 5
    }

    fn write_speaker(&mut self, value: u8, host: &impl Host) {
        if value & 2 != 0 {
            self.flags |= FLAG_SPEAKER_DATA_ON;
        } else {
            self.flags &= !FLAG_SPEAKER_DATA_ON;
        }
        self.counters[SPEAKER_COUNTER].set_gate(value & 1, host.now_ns());
    }

    /// How long counter `index` counts since it was loaded, or since its last
    /// tick. Negative if it was restored with a time that is yet to come.
    fn elapsed_ns(&self, index: usize, host: &impl Host) -> i64 {
        if index == 0 {
            if self.period_ns == 0 {
                return 0;
            }
            self.period_ns.wrapping_sub(host.timer_remaining_ns())
        } else {
            host.now_ns()
                .wrapping_sub(self.counters[index].count_load_time)
        }
    }

    /// Loads an initial count and starts counting from it.
    fn load(&mut self, index: usize, count: u32, host: &mut impl Host) {
        let counter = &mut self.counters[index];
        counter.set_count(count);
        if index != 0 {
            counter.count_load_time = host.now_ns();
            return;
        }
        match counter.mode {
            0 | 1 | 4 => self.start(false, host),
            2 | 3 => self.start(true, host),
            _ => host.stop_timer(),
        }
    }

    /// Starts the timer of counter 0.
    fn start(&mut self, periodic: bool, host: &mut impl Host) {
        if self.flags & FLAG_HPET_LEGACY != 0 {
            return;
        }
        let first = ticks_to_ns(self.counters[0].count);
        host.stop_timer();
        self.period_ns = first;
        host.reinjection().reset();
        if !periodic {
            host.start_timer(first, None);
            return;
        }
        let min = host.min_period_ns();
        if first < min {
            host.period_limited(first, min);
            self.period_ns = min;
        }
        host.start_timer(first, Some(self.period_ns));
    }
}
