// SPDX-License-Identifier: GPL-2.0

mod counting;
mod injection;
mod ports;
mod saved_state;

use super::*;

/// What surrounds the 8254 in a machine: a clock that the test moves on, and
/// the timer of counter 0.
#[derive(Default)]
struct Machine {
    now: i64,
    /// Expiry and period of the timer; the expiry stays when it is stopped.
    expires: i64,
    period: Option<i64>,
    running: bool,
    stops: usize,
    min_period: i64,
    limited: Vec<(i64, i64)>,
    reinjection: Reinjection,
}

impl Host for Machine {
    fn now_ns(&self) -> i64 {
        self.now
    }

    fn timer_remaining_ns(&self) -> i64 {
        self.expires - self.now
    }

    fn stop_timer(&mut self) {
        self.stops += 1;
        self.running = false;
    }

    fn start_timer(&mut self, first: i64, period: Option<i64>) {
        assert!(!self.running, "the timer must be stopped first");
        self.running = true;
        self.expires = self.now + first;
        self.period = period;
    }

    fn min_period_ns(&self) -> i64 {
        self.min_period
    }

    fn reinjection(&self) -> &Reinjection {
        &self.reinjection
    }

    fn period_limited(&mut self, requested: i64, to: i64) {
        self.limited.push((requested, to));
    }
}

struct Bench {
    pit: Pit,
    machine: Machine,
}

impl Bench {
    fn new() -> Self {
        let machine = Machine {
            now: 1_000_000,
            ..Machine::default()
        };
        Self {
            pit: Pit::new(machine.now),
            machine,
        }
    }

    /// Time goes on; gives the number of ticks of counter 0.
    fn pass(&mut self, ns: i64) -> usize {
        let end = self.machine.now + ns;
        let mut ticks = 0;
        while self.machine.running && self.machine.expires <= end {
            ticks += 1;
            match self.machine.period {
                Some(period) => self.machine.expires += period,
                None => self.machine.running = false,
            }
        }
        self.machine.now = end;
        ticks
    }

    fn write(&mut self, address: u64, value: u8) {
        let port = Port::decode(address).expect("a port of the 8254");
        self.pit.write(port, value, &mut self.machine);
    }

    fn read(&mut self, address: u64) -> u8 {
        let port = Port::decode(address).expect("a port of the 8254");
        self.pit.read(port, &self.machine).expect("a port to read")
    }

    /// Mode and initial count of a counter, by both bytes.
    fn program(&mut self, counter: u8, mode: u8, count: u16) {
        self.write(0x43, counter << 6 | 0x30 | mode << 1);
        let [low, high] = count.to_le_bytes();
        self.write(0x40 + u64::from(counter), low);
        self.write(0x40 + u64::from(counter), high);
    }

    /// The count, by latching it.
    fn count(&mut self, counter: u8) -> u16 {
        self.write(0x43, counter << 6);
        let port = 0x40 + u64::from(counter);
        u16::from_le_bytes([self.read(port), self.read(port)])
    }

    fn output_of_2(&mut self) -> bool {
        self.read(0x61) & 0x20 != 0
    }
}
