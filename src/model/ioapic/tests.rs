// SPDX-License-Identifier: GPL-2.0

mod directed_eoi;
mod entries;
mod eoi;
mod lines;
mod registers;
mod rtc;
mod state;

use super::super::line::source;
use super::super::message::DestinationMode;
use super::*;

const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
const REMOTE_IRR: u64 = 1 << 14;

/// Four vCPUs whose local APICs take everything that is fixed and addressed to
/// them physically, plus whatever is written down of the other calls.
struct Machine {
    /// Result of a delivery, where it is not to be the number of vCPUs.
    delivery: Option<i32>,
    delivered: Vec<Message>,
    /// Vectors pending or in service, by vCPU.
    pending: [Vec<u8>; 4],
    accelerated: bool,
    notifiers: Vec<usize>,
    resamplers: Vec<usize>,
    resampled: Vec<usize>,
    masks: Vec<(usize, bool)>,
    rescans: Vec<Rescan>,
    delays: usize,
    traced: Vec<(usize, RedirectionEntry, bool)>,
}

impl Machine {
    fn addresses(message: &Message, vcpu_id: u32) -> bool {
        match message.destination_mode {
            DestinationMode::Physical => {
                message.destination == vcpu_id || message.destination == 0xff
            }
            DestinationMode::Logical => message.destination & (1 << vcpu_id) != 0,
        }
    }
}

impl Host for Machine {
    fn deliver(&mut self, message: &Message, mut rtc: Option<&mut RtcStatus>) -> i32 {
        self.delivered.push(*message);
        if let Some(result) = self.delivery {
            return result;
        }
        let mut result = -1;
        for vcpu_id in (0..4).filter(|&id| Self::addresses(message, id)) {
            result = result.max(0) + 1;
            self.pending[vcpu_id as usize].push(message.vector);
            if let Some(rtc) = rtc.as_deref_mut() {
                rtc.record(vcpu_id, message.vector);
            }
        }
        result
    }

    fn eoi_is_accelerated(&self) -> bool {
        self.accelerated
    }

    fn for_each_target(
        &self,
        message: &Message,
        mut visit: impl FnMut(u32, bool) -> ControlFlow<()>,
    ) {
        for vcpu_id in (0..4).filter(|&id| Self::addresses(message, id)) {
            let pending = self.pending[vcpu_id as usize].contains(&message.vector);
            if visit(vcpu_id, pending).is_break() {
                return;
            }
        }
    }

    fn has_ack_notifier(&self, pin: usize) -> bool {
        self.notifiers.contains(&pin)
    }

    fn resample(&mut self, pin: usize) -> bool {
        let resampled = self.resamplers.contains(&pin);
        if resampled {
            self.resampled.push(pin);
        }
        resampled
    }

    fn mask_changed(&mut self, pin: usize, masked: bool) {
        self.masks.push((pin, masked));
    }

    fn rescan(&mut self, rescan: Rescan) {
        self.rescans.push(rescan);
    }

    fn delay_injection(&mut self) {
        self.delays += 1;
    }

    fn trace_set_line(&mut self, pin: usize, entry: RedirectionEntry, coalesced: bool) {
        self.traced.push((pin, entry, coalesced));
    }
}

struct Bench {
    chip: IoApic,
    machine: Machine,
    acknowledged: Vec<usize>,
    on_acknowledge: fn(&mut Bench, usize),
}

impl Bench {
    fn new() -> Self {
        Self {
            chip: IoApic::new(),
            machine: Machine {
                delivery: None,
                delivered: Vec::new(),
                pending: Default::default(),
                accelerated: false,
                notifiers: Vec::new(),
                resamplers: Vec::new(),
                resampled: Vec::new(),
                masks: Vec::new(),
                rescans: Vec::new(),
                delays: 0,
                traced: Vec::new(),
            },
            acknowledged: Vec::new(),
            on_acknowledge: |_, _| {},
        }
    }

    /// With an entry programmed as a guest does it.
    fn with_entry(pin: u32, entry: u64) -> Self {
        let mut bench = Self::new();
        bench.program(pin, entry);
        bench.machine.masks.clear();
        bench.machine.rescans.clear();
        bench
    }

    fn program(&mut self, pin: u32, entry: u64) {
        self.write_register(0x11 + 2 * pin, (entry >> 32) as u32);
        self.write_register(0x10 + 2 * pin, entry as u32);
    }

    fn select(&mut self, index: u32) {
        let data = index.to_le_bytes();
        assert!(self.chip.write(DEFAULT_BASE, &data, &mut self.machine));
    }

    fn write_register(&mut self, index: u32, value: u32) {
        self.select(index);
        let data = value.to_le_bytes();
        assert!(self
            .chip
            .write(DEFAULT_BASE + 0x10, &data, &mut self.machine));
    }

    fn read_register(&mut self, index: u32) -> u32 {
        self.select(index);
        let mut data = [0; 4];
        assert!(self.chip.read(DEFAULT_BASE + 0x10, &mut data));
        u32::from_le_bytes(data)
    }

    fn drive(&mut self, pin: u32, level: bool) -> i32 {
        self.chip
            .set_line(pin, source::USERSPACE, level, false, &mut self.machine)
    }

    /// As `KVM_IRQ_LINE_STATUS` does it.
    fn drive_asking(&mut self, pin: u32, level: bool) -> i32 {
        self.chip
            .set_line(pin, source::USERSPACE, level, true, &mut self.machine)
    }

    fn eoi(&mut self, vcpu_id: u32, vector: u8, trigger: Trigger) {
        self.complete(Eoi {
            vcpu_id,
            vector,
            trigger,
            suppressed: false,
        });
    }

    fn complete(&mut self, eoi: Eoi) {
        self.machine.pending[eoi.vcpu_id as usize].retain(|&vector| vector != eoi.vector);
        let mut next = self.chip.begin_eoi(&eoi, &mut self.machine);
        for _ in 0..=PINS {
            let Some(pin) = next else { return };
            self.acknowledged.push(pin);
            (self.on_acknowledge)(self, pin);
            next = self.chip.continue_eoi(&eoi, pin, &mut self.machine);
        }
        panic!("an EOI without end");
    }

    fn restore(&mut self, state: &State) {
        self.chip.set_state(state, &mut self.machine);
    }

    fn remote_irr(&self, pin: usize) -> bool {
        self.chip.entry(pin).unwrap().remote_irr()
    }

    fn irr(&self) -> u32 {
        self.chip.state().irr
    }

    fn deliveries(&self) -> usize {
        self.machine.delivered.len()
    }

    fn scan(&self, vcpu_id: u32) -> Vec<EoiSource> {
        let mut sources = Vec::new();
        self.chip
            .scan(vcpu_id, &self.machine, |source| sources.push(source));
        sources
    }
}
