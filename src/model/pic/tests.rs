// SPDX-License-Identifier: GPL-2.0

mod initialization;
mod lines;
mod notifications;
mod priority;
mod registers;
mod state;

use super::super::line::source;
use super::*;

/// A pair with what surrounds it in a machine: notified pins and mask changes
/// are written down, and after each call the owner's duties are done.
struct Bench {
    pic: Pic,
    surroundings: Surroundings,
    /// Pins acknowledged, in order.
    acknowledged: Vec<u8>,
    /// Called at each notification, with the lock dropped.
    on_acknowledge: fn(&mut Bench, u8),
    wakeups: usize,
}

#[derive(Default)]
struct Surroundings {
    accepts: bool,
    masks: Vec<(u8, bool)>,
    traced: Vec<(Chip, u8, bool)>,
}

impl Host for Surroundings {
    fn accepts_interrupts(&self) -> bool {
        self.accepts
    }

    fn mask_changed(&mut self, pin: u8, masked: bool) {
        self.masks.push((pin, masked));
    }

    fn trace_set_line(&mut self, chip: Chip, line: u8, _state: &State, coalesced: bool) {
        self.traced.push((chip, line, coalesced));
    }
}

impl Bench {
    fn new() -> Self {
        Self {
            pic: Pic::new(),
            surroundings: Surroundings {
                accepts: true,
                ..Surroundings::default()
            },
            acknowledged: Vec::new(),
            on_acknowledge: |_, _| {},
            wakeups: 0,
        }
    }

    /// Initialized as firmware does: vectors 0x08 and 0x70, nothing masked.
    fn initialized() -> Self {
        Self::with_icw4(0x01)
    }

    fn with_icw4(icw4: u8) -> Self {
        let mut bench = Self::new();
        for (command, data, base, cascade) in [(0x20, 0x21, 0x08, 0x04), (0xa0, 0xa1, 0x70, 0x02)] {
            bench.write(command, 0x11);
            bench.write(data, base);
            bench.write(data, cascade);
            bench.write(data, icw4);
            bench.write(data, 0x00);
        }
        bench.surroundings.masks.clear();
        bench
    }

    fn finish(&mut self, mut step: Step) -> u8 {
        // A chip has eight lines to acknowledge.
        for _ in 0..=8 {
            self.unlocked();
            match step {
                Step::Done(value) => return value,
                Step::Acknowledge { pin, then } => {
                    self.acknowledged.push(pin);
                    (self.on_acknowledge)(self, pin);
                    step = self.pic.resume(then);
                }
            }
        }
        panic!("an access without end");
    }

    fn unlocked(&mut self) {
        if self.pic.take_wakeup() {
            self.wakeups += 1;
        }
    }

    fn write(&mut self, address: u64, value: u8) {
        let port = Port::decode(address).unwrap();
        let step = self.pic.write(port, &[value], &mut self.surroundings);
        assert_eq!(self.finish(step), 0);
    }

    fn read(&mut self, address: u64) -> u8 {
        let step = self.pic.read(Port::decode(address).unwrap(), 1);
        self.finish(step)
    }

    fn acknowledge(&mut self) -> u8 {
        let step = self.pic.acknowledge();
        self.finish(step)
    }

    fn drive(&mut self, pin: u32, level: bool) -> i32 {
        let result = self
            .pic
            .set_line(pin, source::USERSPACE, level, &mut self.surroundings);
        self.unlocked();
        result
    }

    fn pulse(&mut self, pin: u32) {
        self.drive(pin, true);
        self.drive(pin, false);
    }

    fn set_state(&mut self, chip: Chip, state: State) {
        self.pic.set_state(chip, state);
        self.pic.update();
        self.unlocked();
    }

    fn master(&self) -> State {
        self.pic.state(Chip::Master)
    }

    fn slave(&self) -> State {
        self.pic.state(Chip::Slave)
    }
}
