// SPDX-License-Identifier: GPL-2.0

//! Does the steps to the model.
//!
//! Time is the host's: KVM has read its clock somewhere between the beginning
//! and the end of a step, and so may the model. Where the 8254's answer depends
//! on when that was, there must be a time in between at which the model does
//! exactly what KVM did.

use super::host::Settings;
use super::look::{Answer, Look};
use super::machine::{Machine, PitHost};
use super::step::{
    change_lapic, change_pit, entry_writes, order, put_in_service, timer_writes, Route, Step,
    APIC_ADDRESS, IOAPIC_ADDRESS, MSR_APIC_BASE, MSR_TSC_DEADLINE,
};
use ferric_model::lapic::base::{ENABLE, X2APIC};
use ferric_model::lapic::page::SAVED_WORDS;
use ferric_model::line::source;
use ferric_model::pic;
use ferric_model::pit::{Pit, Port};
use std::sync::atomic::Ordering::Relaxed;

/// What user space's devices answer.
const NOBODY: u8 = 0x5a;

/// Less than a tick of the 8254's counters, which is 838 ns.
const TIME_STEP: i64 = 400;
/// Half a period of the refresh clock at port 0x61.
const REFRESH: i64 = 1 << 14;

pub struct OnModel {
    pub machine: Machine,
    /// The host's time that the local APICs count from: theirs starts near 0.
    epoch: i64,
}

/// From when to when a step took, by the monotonic clock in ns.
pub type Window = (i64, i64);

impl OnModel {
    pub fn new(settings: &Settings, routes: &[Route], now: i64) -> Self {
        Self {
            machine: Machine::new(settings, routes, now),
            epoch: now,
        }
    }

    /// Takes over when the counters of the 8254 were loaded first, in that time.
    pub fn created(&mut self, window: Window, kvm: &Look) {
        let pit = self.machine.pit.get_mut();
        let counters = *pit.counters();
        pit.restore(&counters, None, &mut restored(window, kvm));
    }

    /// Does a step, in that time; `kvm` is what became of it there.
    pub fn step(&mut self, step: &Step, window: Window, kvm: (&Answer, &Look)) -> Answer {
        for cpu in 0..self.machine.cpus.len() {
            self.advance(cpu, window.0);
        }
        let mut answer = match *step {
            Step::MmioRead(cpu, ..)
            | Step::MmioWrite(cpu, ..)
            | Step::Rdmsr(cpu, ..)
            | Step::Wrmsr(cpu, ..)
            | Step::In(cpu, ..)
            | Step::Out(cpu, ..)
            | Step::Take(cpu)
            | Step::Entry(cpu, ..)
            | Step::Timer(cpu, ..) => self.guest_step(cpu, step, window, kvm),
            _ => Answer::of(self.host_step(step, window, kvm.1)),
        };
        self.machine.settle();
        answer.resampled = self.machine.resampled.take();
        answer
    }

    /// Lets a local APIC's time go on to the host's.
    fn advance(&self, cpu: usize, time: i64) {
        let machine = &self.machine.cpus[cpu].machine;
        let passed = (time - self.epoch - machine.now.get()).max(0);
        machine.advance(passed);
    }

    fn guest_step(
        &mut self,
        cpu: usize,
        step: &Step,
        window: Window,
        kvm: (&Answer, &Look),
    ) -> Answer {
        self.machine.enter(cpu);
        let mut answer = Answer::default();
        match *step {
            Step::MmioRead(_, address, width) => {
                // Where nobody drives the bus, KVM's emulator gives what it has
                // read before.
                let mut data = match self.is_driven(cpu, address.into(), width) {
                    true => [0xa5; 8],
                    false => kvm.0.value.to_le_bytes(),
                };
                let data = &mut data[..width.into()];
                if !self.mmio_read(cpu, address.into(), data) {
                    data.fill(NOBODY);
                    answer.exits = 1;
                }
                answer.value = little_endian(data);
            }
            Step::MmioWrite(_, address, width, value) => {
                let data = &value.to_le_bytes()[..width.into()];
                answer.exits = u32::from(!self.mmio_write(cpu, address.into(), data));
            }
            Step::Rdmsr(_, msr) => match self.rdmsr(cpu, msr) {
                Some(value) => answer.value = value,
                None => answer.fault = GENERAL_PROTECTION,
            },
            Step::Wrmsr(_, msr, value) => {
                if !self.wrmsr(cpu, msr, value, false) {
                    answer.fault = GENERAL_PROTECTION;
                }
            }
            Step::In(_, port, width) => {
                let mut data = [0; 4];
                let data = &mut data[..width.into()];
                if !self.port_read(port, data, window, kvm) {
                    data.fill(NOBODY);
                    answer.exits = 1;
                }
                answer.value = little_endian(data);
            }
            Step::Out(_, port, width, value) => {
                let data = &value.to_le_bytes()[..width.into()];
                answer.exits = u32::from(!self.port_write(port, data, window, kvm.1));
            }
            Step::Take(_) => {
                while answer.taken.len() < super::guest::MAX_LOG {
                    let Some(vector) = self.machine.take_interrupt(cpu) else {
                        break;
                    };
                    answer.taken.push(vector);
                }
            }
            Step::Entry(_, pin, low, destination) => {
                for (address, value) in entry_writes(pin, low, destination) {
                    self.machine.enter(cpu);
                    let written = self.mmio_write(cpu, address.into(), &value.to_le_bytes());
                    answer.exits += u32::from(!written);
                    self.machine.settle();
                }
            }
            Step::Timer(_, entry, count) => {
                answer.add(&self.timer(cpu, entry, count, window));
            }
            _ => unreachable!("{step:?} is not the guest's"),
        }
        answer
    }

    // Memory.

    fn apic_offset(&self, cpu: usize, address: u64) -> Option<u32> {
        let offset = address.checked_sub(self.machine.cpus[cpu].base.get())?;
        (offset < 0x1000).then_some(offset as u32)
    }

    /// Does a read lie within one register of the local APIC that can be read,
    /// or not in the local APIC at all?
    fn is_driven(&self, cpu: usize, address: u64, width: u8) -> bool {
        match self.apic_offset(cpu, address) {
            Some(offset) if self.machine.cpus[cpu].machine.apic().responds_to_mmio() => {
                let readable =
                    (READABLE.checked_shr(offset >> 4)).is_some_and(|bits| bits & 1 != 0);
                readable && offset % 16 + u32::from(width) <= 4
            }
            _ => true,
        }
    }

    /// False if nobody in the kernel answers.
    fn mmio_read(&self, cpu: usize, address: u64, data: &mut [u8]) -> bool {
        if let Some(offset) = self.apic_offset(cpu, address) {
            let apic = self.machine.cpus[cpu].machine.apic();
            if apic.responds_to_mmio() {
                apic.mmio_read(offset, data);
            } else {
                // KVM_X86_QUIRK_LAPIC_MMIO_HOLE
                data.fill(0xff);
            }
            return true;
        }
        is_ioapic(address, data.len()) && self.machine.ioapic.borrow().read(address, data)
    }

    fn mmio_write(&self, cpu: usize, address: u64, data: &[u8]) -> bool {
        if let Some(offset) = self.apic_offset(cpu, address) {
            let apic = self.machine.cpus[cpu].machine.apic();
            if apic.responds_to_mmio() {
                apic.mmio_write(offset, data);
            }
            return true;
        }
        is_ioapic(address, data.len()) && self.machine.write_ioapic(address, data)
    }

    // MSRs.

    fn rdmsr(&self, cpu: usize, msr: u32) -> Option<u64> {
        let apic = self.machine.cpus[cpu].machine.apic();
        match msr {
            MSR_APIC_BASE => Some(self.base(cpu)),
            MSR_TSC_DEADLINE => Some(apic.tscdeadline()),
            _ if apic.is_x2apic() => apic.msr_read((msr - 0x800) << 4).ok(),
            _ => None,
        }
    }

    fn wrmsr(&self, cpu: usize, msr: u32, value: u64, by_host: bool) -> bool {
        let apic = self.machine.cpus[cpu].machine.apic();
        match msr {
            MSR_APIC_BASE => apic.set_base(value, by_host).is_ok(),
            MSR_TSC_DEADLINE => {
                apic.set_tscdeadline(value);
                true
            }
            _ => apic.is_x2apic() && apic.msr_write((msr - 0x800) << 4, value).is_ok(),
        }
    }

    fn base(&self, cpu: usize) -> u64 {
        self.machine.cpus[cpu].machine.apic_base.load(Relaxed)
    }

    // Ports.

    fn port_read(
        &mut self,
        port: u16,
        data: &mut [u8],
        window: Window,
        kvm: (&Answer, &Look),
    ) -> bool {
        if !is_chip_port(port, data.len()) {
            return false;
        }
        let value = if let Some(port) = pic::Port::decode(port.into()) {
            let step = self.machine.pic.borrow_mut().read(port, data.len());
            self.machine.finish(step)
        } else {
            let port = Port::decode(port.into()).expect("a port of the 8254");
            let expected = kvm.0.value as u8;
            let times = times(window, kvm.1, port);
            let read = |pit: &mut Pit, host: &mut PitHost| pit.read(port, host).unwrap_or(expected);
            self.at_some_time(&times, kvm.1, |value| *value == expected, read)
        };
        data.fill(0);
        data[0] = value;
        if port == 0x43 {
            // Nothing drives the bus, and KVM gives what was there.
            let was_there = kvm.0.value.to_le_bytes();
            data.copy_from_slice(&was_there[..data.len()]);
        }
        true
    }

    fn port_write(&mut self, port: u16, data: &[u8], window: Window, kvm: &Look) -> bool {
        if !is_chip_port(port, data.len()) {
            return false;
        }
        if let Some(port) = pic::Port::decode(port.into()) {
            self.machine.write_pic(port, data);
        } else {
            let port = Port::decode(port.into()).expect("a port of the 8254");
            let times = times(window, kvm, port);
            let write = |pit: &mut Pit, host: &mut PitHost| pit.write(port, data[0], host);
            self.at_some_time(&times, kvm, |()| true, write);
        }
        true
    }

    /// Does an access at the first of `times` at which it has the outcome that
    /// is expected and leaves the state that KVM has, or else at the last one.
    fn at_some_time<T>(
        &mut self,
        times: &[Vec<i64>],
        kvm: &Look,
        is_expected: impl Fn(&T) -> bool,
        access: impl Fn(&mut Pit, &mut PitHost) -> T,
    ) -> T {
        let before = self.machine.pit.get_mut().clone();
        let attempts = times.iter().map(|times| {
            let mut pit = before.clone();
            let outcome = access(&mut pit, &mut PitHost::new(times));
            (pit, outcome)
        });
        let mut last = None;
        for (pit, outcome) in attempts {
            let equal = *pit.counters() == kvm.counters && pit.flags() == kvm.pit_flags;
            let found = equal && is_expected(&outcome);
            last = Some((pit, outcome));
            if found {
                break;
            }
        }
        let (pit, outcome) = last.expect("a time");
        *self.machine.pit.get_mut() = pit;
        outcome
    }

    // The VMM's.

    fn host_step(&mut self, step: &Step, window: Window, kvm: &Look) -> i64 {
        match *step {
            Step::Cr8(cpu, cr8) => {
                self.machine.cpus[cpu].machine.apic().set_tpr(cr8 << 4);
                0
            }
            Step::HostWrmsr(cpu, msr, value) => self.wrmsr(cpu, msr, value, true).into(),
            Step::Line(gsi, level, status) => {
                let result = self.machine.set_gsi(source::USERSPACE, gsi, level, status);
                if status {
                    result.into()
                } else {
                    0
                }
            }
            Step::Msi(address, high, data) => {
                // What is negative comes as the ioctl's -1.
                self.machine.msi(address, high, data).max(-1).into()
            }
            Step::Irqfd(resampling) => {
                self.machine.signal(resampling);
                0
            }
            Step::Routes(ref routes) => {
                self.machine.set_routes(routes);
                0
            }
            Step::SetLapic(cpu, register, value) => {
                self.set_lapic_register(cpu, register, value).into()
            }
            Step::InService(cpu, vector, level) => {
                let mut state = self.save(cpu);
                put_in_service(&mut state, vector, level);
                self.restore(cpu, &state).into()
            }
            Step::SetIrqchip(chip, offset, value) => {
                self.set_irqchip(chip, offset, value);
                0
            }
            Step::SetPit(offset, value) => {
                let pit = self.machine.pit.get_mut();
                let (mut counters, mut flags) = (*pit.counters(), pit.flags());
                change_pit(&mut counters, &mut flags, offset, value);
                pit.restore(&counters, Some(flags), &mut restored(window, kvm));
                0
            }
            Step::Migration(number) => {
                for part in order(number) {
                    self.migrate(part, window, kvm);
                }
                0
            }
            _ => unreachable!("{step:?} is the guest's"),
        }
    }

    fn save(&self, cpu: usize) -> [u32; SAVED_WORDS] {
        let mut state = [0; SAVED_WORDS];
        let apic = self.machine.cpus[cpu].machine.apic();
        apic.save(&mut state).expect("an ID that fits");
        state
    }

    /// True if the state is refused.
    fn restore(&self, cpu: usize, state: &[u32; SAVED_WORDS]) -> bool {
        let apic = self.machine.cpus[cpu].machine.apic();
        let refused = apic.restore(&mut state.clone()).is_err();
        // KVM keeps nothing for ioctls that are to come.
        apic.begin_run();
        self.machine.settle();
        refused
    }

    /// Saves the state of a local APIC, changes a register, and restores it;
    /// true if that is refused.
    pub fn set_lapic_register(&self, cpu: usize, register: u16, value: u32) -> bool {
        let mut state = self.save(cpu);
        change_lapic(&mut state, register, value);
        self.restore(cpu, &state)
    }

    fn set_irqchip(&mut self, chip: u8, offset: u8, value: u32) {
        let at = usize::from(offset);
        match chip {
            0 | 1 => {
                let pic = self.machine.pic.get_mut();
                let chip = [pic::Chip::Master, pic::Chip::Slave][usize::from(chip)];
                let mut bytes = pic.state(chip).to_bytes();
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
                pic.set_state(chip, pic::State::from_bytes(bytes));
            }
            _ => {
                let mut state = self.machine.ioapic.get_mut().state();
                let half = |old: u64, upper: bool| match upper {
                    true => old & 0xffff_ffff | u64::from(value) << 32,
                    false => old & !0xffff_ffff | u64::from(value),
                };
                match offset {
                    0 | 4 => state.base_address = half(state.base_address, offset == 4),
                    8 => state.ioregsel = value,
                    12 => state.id = value,
                    16 => state.irr = value,
                    20 => state.pad = value,
                    _ => {
                        let entry = &mut state.redirtbl[(at - 24) / 8];
                        *entry = half(*entry, at % 8 == 4);
                    }
                }
                self.machine.restore_ioapic(&state);
            }
        }
        self.machine.pic.get_mut().update();
    }

    fn migrate(&mut self, part: u8, window: Window, kvm: &Look) {
        match part {
            0 => {
                for cpu in 0..self.machine.cpus.len() {
                    let state = self.save(cpu);
                    self.restore(cpu, &state);
                }
            }
            1 => {
                let state = self.machine.ioapic.get_mut().state();
                self.machine.restore_ioapic(&state);
                self.machine.pic.get_mut().update();
            }
            2 => {
                for chip in [pic::Chip::Master, pic::Chip::Slave] {
                    let pic = self.machine.pic.get_mut();
                    pic.set_state(chip, pic.state(chip));
                    pic.update();
                }
            }
            _ => {
                let pit = self.machine.pit.get_mut();
                let (counters, flags) = (*pit.counters(), pit.flags());
                pit.restore(&counters, Some(flags), &mut restored(window, kvm));
            }
        }
    }

    /// Programs the APIC's timer, and lets the time pass.
    fn timer(&mut self, cpu: usize, entry: u32, count: u32, window: Window) -> Answer {
        let x2apic = self.base(cpu) & (ENABLE | X2APIC) == ENABLE | X2APIC;
        let mut answer = Answer::default();
        for (register, value, wait) in timer_writes(entry, count) {
            if wait {
                self.advance(cpu, window.1);
                self.machine.enter(cpu);
            }
            if x2apic {
                let written = self.wrmsr(cpu, 0x800 + (register >> 4), value.into(), false);
                answer.fault |= if written { 0 } else { GENERAL_PROTECTION };
            } else {
                let address = u64::from(APIC_ADDRESS + register);
                answer.exits += u32::from(!self.mmio_write(cpu, address, &value.to_le_bytes()));
            }
            self.machine.settle();
        }
        answer
    }

    /// All that can be seen of the irqchip.
    pub fn look(&self) -> Look {
        let cpus = 0..self.machine.cpus.len();
        let pic = self.machine.pic.borrow();
        let pit = self.machine.pit.borrow();
        let apic = |cpu: usize| self.machine.cpus[cpu].machine.apic();
        Look {
            lapics: cpus.clone().map(|cpu| self.save(cpu).to_vec()).collect(),
            msrs: (cpus
                .clone()
                .map(|cpu| [self.base(cpu), apic(cpu).tscdeadline()]))
            .collect(),
            nmis: cpus
                .map(|cpu| self.machine.cpus[cpu].nmis.take().min(2) as u8)
                .collect(),
            pics: [pic.state(pic::Chip::Master), pic.state(pic::Chip::Slave)],
            ioapic: Some(self.machine.ioapic.borrow().state()),
            counters: *pit.counters(),
            pit_flags: pit.flags(),
        }
    }
}

const GENERAL_PROTECTION: u8 = 13;

/// The registers of an xAPIC without CMCI that can be read, by `offset / 16`:
/// ID and version, TPR to PPR, LDR to the IRR's end, ESR, ICR to LVT error, the
/// timer's counts, its divisor.
const READABLE: u64 = 0xc | 0x700 | 0xff_ffff_e000 | 1 << 40 | 0xff << 48 | 3 << 56 | 1 << 62;

fn little_endian(data: &[u8]) -> u64 {
    data.iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Is the access within the I/O APIC's place on KVM's bus?
fn is_ioapic(address: u64, length: usize) -> bool {
    let first = u64::from(IOAPIC_ADDRESS);
    address >= first && address + length as u64 <= first + ferric_model::ioapic::LENGTH
}

/// Is the access within the place of one of the chips on KVM's bus, and at a
/// port that it answers?
fn is_chip_port(port: u16, length: usize) -> bool {
    const PLACES: [(u16, u16); 6] = [
        (0x20, 2),
        (0xa0, 2),
        (0x4d0, 2),
        (0x40, 4),
        (0x61, 4),
        (0, 0),
    ];
    let within = |(first, size)| port >= first && port + length as u16 <= first + size;
    let answers = pic::Port::decode(port.into()).is_some() || Port::decode(port.into()).is_some();
    answers && PLACES.into_iter().any(within)
}

/// The times in which the 8254's answer may have been made: lists of what it
/// finds when it looks at the clock, which it does twice at port 0x61.
fn times((from, to): Window, kvm: &Look, port: Port) -> Vec<Vec<i64>> {
    let loads = kvm.counters.iter().map(|counter| counter.count_load_time);
    let loads = loads.filter(|time| (from..=to).contains(time));
    let all = loads
        .chain((from..to).step_by(TIME_STEP as usize))
        .chain([to]);
    match port {
        Port::Speaker => all
            .flat_map(|time| {
                let refresh = [time, from, to, (from + REFRESH).min(to)];
                refresh.map(|refresh| vec![time, refresh])
            })
            .collect(),
        _ => all.map(|time| vec![time]).collect(),
    }
}

/// When counters 1 and 2 were restored, one after the other.
fn restored((from, to): Window, kvm: &Look) -> PitHost {
    let [_, one, two] = kvm.counters.map(|counter| counter.count_load_time);
    let one = one.clamp(from, to);
    PitHost::new(&[one, two.clamp(one, to)])
}
