// SPDX-License-Identifier: GPL-2.0

//! The model as a whole machine: local APICs, I/O APIC, PIC pair and 8254,
//! wired as KVM wires them, by its routing, destinations and EOIs.

use super::fake::{self, Event};
use super::guest::FIRST_VECTOR;
use super::host::Settings;
use super::step::{Route, IRQFD_GSI, RESAMPLE_GSI};
use ferric_model::destination::{
    choose_lowest_priority, matches, slow_path_message, DestinationMap, Policy, Resolution, Source,
    Target, MIN_SLOTS,
};
use ferric_model::ioapic::{self, Eoi, EoiSource, IoApic, Rescan, RtcStatus};
use ferric_model::lapic::Shared;
use ferric_model::line::source;
use ferric_model::message::{DeliveryMode, DestinationMode, Message, Shorthand, Trigger};
use ferric_model::pic::{self, Pic};
use ferric_model::pit::{self, Pit, Reinjection};
use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering::Relaxed;

/// What KVM keeps of a vCPU beside its local APIC.
pub struct Cpu {
    pub machine: fake::Machine,
    pub base: Cell<u64>,
    /// NMIs that have come.
    pub nmis: Cell<u32>,
    /// The EOIs that the I/O APIC wants are to be found out before the next
    /// entry to the guest.
    scan: Cell<bool>,
}

/// What the chips are wired to.
pub struct Machine {
    pub cpus: Vec<Cpu>,
    pub pic: RefCell<Pic>,
    pub ioapic: RefCell<IoApic>,
    pub pit: RefCell<Pit>,
    routes: RefCell<Vec<Route>>,
    policy: Policy,
    ends_at_once: bool,
    /// How often the irqfd's user was told of an EOI.
    pub resampled: Cell<u64>,
}

/// Chips, in the routing's terms.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chip {
    Pic,
    IoApic,
}

impl Machine {
    pub fn new(settings: &Settings, routes: &[Route], now: i64) -> Self {
        let cpus = settings.ids.iter().map(|&id| {
            let machine = fake::Machine::created(id);
            machine.x2apic_format.set(settings.policy.x2apic_format);
            machine.icr_is_split.set(settings.host.icr_is_split);
            machine.bus_cycle_ns.set(super::kvm::BUS_CYCLE_NS);
            machine.apic().reset(false);
            Cpu {
                machine,
                base: Cell::new(0xfee0_0000),
                nmis: Cell::new(0),
                scan: Cell::new(false),
            }
        });
        let this = Self {
            cpus: cpus.collect(),
            pic: RefCell::new(Pic::new()),
            ioapic: RefCell::new(IoApic::new()),
            pit: RefCell::new(Pit::new(now)),
            routes: RefCell::new(routes.to_vec()),
            policy: settings.policy,
            ends_at_once: settings.host.ends_at_once,
            resampled: Cell::new(0),
        };
        this.settle();
        this
    }

    /// Does what the local APICs have asked for, until there is nothing left.
    pub fn settle(&self) {
        loop {
            let mut idle = true;
            for (index, cpu) in self.cpus.iter().enumerate() {
                for event in cpu.machine.events.take() {
                    idle = false;
                    self.event(index, event);
                }
            }
            if idle {
                break;
            }
        }
    }

    fn event(&self, index: usize, event: Event) {
        let cpu = &self.cpus[index];
        match event {
            // To itself it is delivered already.
            Event::Sent(message) if message.shorthand == Shorthand::Own => {}
            Event::Sent(message) => {
                self.deliver(Some(index), &message, None);
            }
            Event::IoapicEoi(vector, trigger) => self.eoi(&Eoi {
                vcpu_id: cpu.machine.vcpu_id.get(),
                vector,
                trigger,
                suppressed: cpu.machine.apic().suppresses_eoi_broadcast(),
            }),
            Event::RtcRestore { id_changed } => {
                self.ioapic.borrow_mut().restore_rtc(
                    cpu.machine.vcpu_id.get(),
                    &mut IoApicHost(self),
                    |message| {
                        let is_addressed = self.is_addressed(cpu, message);
                        let pending =
                            is_addressed && cpu.machine.apic().is_eoi_pending(message.vector);
                        (id_changed || is_addressed).then_some(pending)
                    },
                );
            }
            Event::ScanRequest => cpu.scan.set(true),
            // KVM scans whenever it builds the map of destinations.
            Event::MapDirty => self.rescan(Rescan::All),
            Event::BaseAddress(address) => cpu.base.set(address),
            Event::Nmi => cpu.nmis.set(cpu.nmis.get() + 1),
            Event::Smi | Event::Init | Event::StartUp(_) | Event::SentFast(_) => {
                panic!("{event:?} was to be left out")
            }
            _ => {}
        }
    }

    // Destinations.

    /// Does a device's message address this APIC, enabled or not?
    fn is_addressed(&self, cpu: &Cpu, message: &Message) -> bool {
        let identity = cpu.machine.apic().identity();
        matches(&identity, message, Source::Device, false, &self.policy)
    }

    fn enabled(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        (0..self.cpus.len()).filter(|&index| self.cpus[index].machine.apic().is_hardware_enabled())
    }

    fn map(&self) -> Option<DestinationMap<usize, Vec<<usize as Target>::Slot>>> {
        let ids = self
            .enabled()
            .map(|index| self.cpus[index].machine.vcpu_id.get() as usize + 1);
        let ids = ids.max().unwrap_or(0).max(MIN_SLOTS);
        let slots = (0..ids + self.cpus.len())
            .map(|_| usize::slot(None))
            .collect();
        let apics = self
            .enabled()
            .map(|index| (self.cpus[index].machine.apic().identity(), index));
        DestinationMap::build(slots, ids, &self.policy, apics)
            .0
            .ok()
    }

    fn matching<'a>(
        &'a self,
        sender: Option<usize>,
        message: &'a Message,
    ) -> impl Iterator<Item = usize> + Clone + 'a {
        let source = self.source(sender);
        self.enabled().filter(move |&index| {
            let identity = self.cpus[index].machine.apic().identity();
            let is_sender = Some(index) == sender;
            matches(&identity, message, source, is_sender, &self.policy)
        })
    }

    fn source(&self, sender: Option<usize>) -> Source {
        match sender {
            Some(index) => Source::Apic {
                is_x2apic: self.cpus[index].machine.apic().is_x2apic(),
            },
            None => Source::Device,
        }
    }

    fn priority(&self, index: usize) -> i32 {
        let machine = &self.cpus[index].machine;
        machine.arbitration_priority().load(Relaxed) as i32
    }

    fn accept(&self, index: usize, message: &Message, rtc: &mut Option<&mut RtcStatus>) -> i32 {
        let machine = &self.cpus[index].machine;
        let taken = machine.apic().accept(message);
        let has_vector = matches!(
            message.delivery_mode,
            DeliveryMode::Fixed | DeliveryMode::LowestPriority
        );
        if let (Some(rtc), true) = (rtc, taken && has_vector) {
            rtc.record(machine.vcpu_id.get(), message.vector);
        }
        taken.into()
    }

    /// Delivers a message; the result is KVM's account of it.
    pub fn deliver(
        &self,
        sender: Option<usize>,
        message: &Message,
        mut rtc: Option<&mut RtcStatus>,
    ) -> i32 {
        let map = self.map();
        let resolution = match &map {
            Some(map) => map.resolve(message, self.source(sender), &self.policy, |index| {
                self.priority(index)
            }),
            None => Resolution::Slow,
        };
        let found: Option<Vec<usize>> = match resolution {
            Resolution::Targets(targets) => Some(targets.collect()),
            Resolution::All(all) => Some(all.collect()),
            Resolution::Others(all) => Some(all.filter(|index| Some(*index) != sender).collect()),
            Resolution::Sender | Resolution::Slow => None,
        };
        if let Some(found) = found {
            let accepted = found
                .into_iter()
                .map(|index| self.accept(index, message, &mut rtc));
            return accepted.sum();
        }
        let message = slow_path_message(message);
        let matching = self.matching(sender, &message);
        if message.is_lowest_priority() {
            let enabled =
                matching.filter(|&index| self.cpus[index].machine.apic().is_software_enabled());
            let priority = |index| self.priority(index);
            choose_lowest_priority(enabled, message.vector, &self.policy, priority)
                .map_or(-1, |index| self.accept(index, &message, &mut rtc))
        } else {
            matching
                .map(|index| self.accept(index, &message, &mut rtc))
                .fold(-1, |sum: i32, taken| sum.max(0) + taken)
        }
    }

    // Lines and their EOIs.

    pub fn set_routes(&self, routes: &[Route]) {
        *self.routes.borrow_mut() = routes.to_vec();
    }

    /// Drives a GSI; the result is KVM's account of it.
    pub fn set_gsi(&self, source: u32, gsi: u32, level: bool, line_status: bool) -> i32 {
        let index = gsi.checked_sub(1).map(|index| index as usize);
        let route = index.and_then(|index| self.routes.borrow().get(index).cloned());
        let pic = |line: u8| {
            let mut pic = self.pic.borrow_mut();
            pic.set_line(line.into(), source, level, &mut PicHost(self))
        };
        let ioapic = |pin: u8| {
            let mut ioapic = self.ioapic.borrow_mut();
            ioapic.set_line(
                pin.into(),
                source,
                level,
                line_status,
                &mut IoApicHost(self),
            )
        };
        let results = match route {
            None => [-1, -1],
            Some(Route::Pic(line)) => [pic(line), -1],
            Some(Route::IoApic(pin)) => [ioapic(pin), -1],
            Some(Route::Both(line, pin)) => [pic(line), ioapic(pin)],
            Some(Route::Msi(address, data)) if level => [self.msi(address, 0, data), -1],
            Some(Route::Msi(..)) => [-1, -1],
        };
        results
            .into_iter()
            .filter(|&result| result >= 0)
            .reduce(|sum, result| sum + result)
            .unwrap_or(-1)
    }

    /// `KVM_SIGNAL_MSI`; a negative errno if KVM does not take the address.
    pub fn msi(&self, address: u32, high: u32, data: u32) -> i32 {
        let mut destination = address >> 12 & 0xff;
        if self.policy.x2apic_format {
            if high & 0xff != 0 {
                return -22;
            }
            destination |= high & !0xff;
        }
        self.deliver(
            None,
            &Message {
                vector: data as u8,
                delivery_mode: DeliveryMode::from_bits(data >> 8),
                destination_mode: DestinationMode::from_bit(address & 1 << 2 != 0),
                shorthand: Shorthand::None,
                trigger: Trigger::from_bit(data & 1 << 15 != 0),
                assert: true,
                redirection_hint: address & 1 << 3 != 0,
                destination,
            },
            None,
        )
    }

    /// The GSI that leads to a pin; the last one of several.
    fn gsi_of(&self, chip: Chip, pin: u8) -> Option<u32> {
        let routes = self.routes.borrow();
        let leads_there = |route: &Route| match *route {
            Route::Pic(line) => (chip, pin) == (Chip::Pic, line),
            Route::IoApic(line) => (chip, pin) == (Chip::IoApic, line),
            Route::Both(line, _) if chip == Chip::Pic => pin == line,
            Route::Both(_, line) => pin == line,
            Route::Msi(..) => false,
        };
        let found = (1..).zip(routes.iter());
        let last = found.filter(|(_, route)| leads_there(route)).last();
        last.map(|(gsi, _)| gsi)
    }

    fn is_resampling(&self, chip: Chip, pin: u8) -> bool {
        self.gsi_of(chip, pin) == Some(RESAMPLE_GSI)
    }

    /// An irqfd is signalled: the one that resamples holds its line.
    pub fn signal(&self, resampling: bool) {
        if resampling {
            self.set_gsi(source::RESAMPLE, RESAMPLE_GSI, true, false);
        } else {
            self.set_gsi(source::USERSPACE, IRQFD_GSI, true, false);
            self.set_gsi(source::USERSPACE, IRQFD_GSI, false, false);
        }
    }

    fn notify_acknowledged(&self, chip: Chip, pin: u8) {
        if self.is_resampling(chip, pin) {
            self.set_gsi(source::RESAMPLE, RESAMPLE_GSI, false, false);
            self.resampled.set(self.resampled.get() + 1);
        }
    }

    /// Finishes an access to the PIC.
    pub fn finish(&self, mut step: pic::Step) -> u8 {
        loop {
            match step {
                pic::Step::Done(value) => return value,
                pic::Step::Acknowledge { pin, then } => {
                    self.notify_acknowledged(Chip::Pic, pin);
                    step = self.pic.borrow_mut().resume(then);
                }
            }
        }
    }

    fn eoi(&self, eoi: &Eoi) {
        let mut pin = (self.ioapic.borrow_mut()).begin_eoi(eoi, &mut IoApicHost(self));
        while let Some(acknowledged) = pin {
            self.notify_acknowledged(Chip::IoApic, acknowledged as u8);
            let mut ioapic = self.ioapic.borrow_mut();
            pin = ioapic.continue_eoi(eoi, acknowledged, &mut IoApicHost(self));
        }
    }

    fn rescan(&self, rescan: Rescan) {
        let Rescan::Addressed { now, before } = rescan else {
            self.cpus.iter().for_each(|cpu| cpu.scan.set(true));
            return;
        };
        let map = self.map();
        for message in [Some(now), before].into_iter().flatten() {
            let priority = |index| self.priority(index);
            match map
                .as_ref()
                .map(|map| map.resolve(&message, Source::Device, &self.policy, priority))
            {
                Some(Resolution::Targets(targets)) => {
                    targets.for_each(|index| self.cpus[index].scan.set(true));
                }
                _ => self
                    .matching(None, &message)
                    .for_each(|index| self.cpus[index].scan.set(true)),
            }
        }
    }

    // What KVM does before it enters the guest.

    /// Finds out which EOIs the I/O APIC wants, if that is due.
    fn scan(&self, cpu: &Cpu) {
        let apic = cpu.machine.apic();
        if !cpu.scan.take() || !apic.is_hardware_enabled() {
            return;
        }
        let handled = &cpu.machine.ioapic_handled;
        handled.iter().for_each(|word| word.store(0, Relaxed));
        cpu.machine.stale_eoi.set(None);
        let ioapic = self.ioapic.borrow();
        ioapic.scan(
            cpu.machine.vcpu_id.get(),
            &IoApicHost(self),
            |source| match source {
                EoiSource::InFlight(vector) => cpu.machine.handle_by_ioapic(vector),
                EoiSource::Entry(message) => {
                    let vector = message.vector;
                    if !self.is_addressed(cpu, &message) {
                        if !apic.is_eoi_pending(vector) {
                            return;
                        }
                        let stale = cpu.machine.stale_eoi.get();
                        cpu.machine.stale_eoi.set(stale.max(Some(vector)));
                    }
                    cpu.machine.handle_by_ioapic(vector);
                }
            },
        );
    }

    /// A vCPU enters the guest.
    pub fn enter(&self, index: usize) {
        let cpu = &self.cpus[index];
        self.scan(cpu);
        let apic = cpu.machine.apic();
        if apic.pending_timer() != 0 {
            apic.inject_timer();
            self.settle();
            self.scan(cpu);
        }
    }

    fn takes_from_pic(&self, index: usize) -> bool {
        let apic = self.cpus[index].machine.apic();
        apic.accepts_pic_interrupt() && self.pic.borrow().output()
    }

    /// Can the guest take what comes? It would take the vectors of exceptions
    /// for exceptions. The PIC pair gives these if its base is one, or if it is
    /// so high that its last lines are beyond 0xff.
    pub fn may_take(&self, index: usize) -> bool {
        let is_valid =
            |chip| (FIRST_VECTOR..=0xf8).contains(&self.pic.borrow().state(chip).irq_base);
        !self.takes_from_pic(index) || is_valid(pic::Chip::Master) && is_valid(pic::Chip::Slave)
    }

    /// Does the timer of a vCPU's APIC interrupt it?
    pub fn may_time(&self, index: usize) -> bool {
        let apic = self.cpus[index].machine.apic();
        apic.is_hardware_enabled() && apic.is_software_enabled()
    }

    /// The interrupt that a vCPU takes now: the PIC's before its APIC's.
    pub fn take_interrupt(&self, index: usize) -> Option<u8> {
        let vector = if self.takes_from_pic(index) {
            let step = self.pic.borrow_mut().acknowledge();
            Some(self.finish(step))
        } else {
            self.cpus[index].machine.take()
        };
        if vector.is_some() && self.ends_at_once {
            self.cpus[index].machine.apic().eoi();
        }
        self.settle();
        vector
    }
}

struct PicHost<'a>(&'a Machine);

impl pic::Host for PicHost<'_> {
    fn accepts_interrupts(&self) -> bool {
        let mut cpus = self.0.cpus.iter();
        cpus.any(|cpu| cpu.machine.apic().accepts_pic_interrupt())
    }

    fn mask_changed(&mut self, _pin: u8, _masked: bool) {
        // For the 8254, whose GSI leads nowhere.
    }
}

impl Machine {
    /// A write to the PIC.
    pub fn write_pic(&self, port: pic::Port, data: &[u8]) {
        let step = (self.pic.borrow_mut()).write(port, data, &mut PicHost(self));
        self.finish(step);
    }

    /// A write to the I/O APIC; false if it is not there.
    pub fn write_ioapic(&self, address: u64, data: &[u8]) -> bool {
        (self.ioapic.borrow_mut()).write(address, data, &mut IoApicHost(self))
    }

    /// Restores the state of the I/O APIC.
    pub fn restore_ioapic(&self, state: &ioapic::State) {
        (self.ioapic.borrow_mut()).set_state(state, &mut IoApicHost(self));
    }
}

struct IoApicHost<'a>(&'a Machine);

impl ioapic::Host for IoApicHost<'_> {
    fn deliver(&mut self, message: &Message, rtc: Option<&mut RtcStatus>) -> i32 {
        self.0.deliver(None, message, rtc)
    }

    fn eoi_is_accelerated(&self) -> bool {
        // See `host::PARKED`.
        false
    }

    fn for_each_target(
        &self,
        message: &Message,
        mut visit: impl FnMut(u32, bool) -> ControlFlow<()>,
    ) {
        for cpu in &self.0.cpus {
            let machine = &cpu.machine;
            if self.0.is_addressed(cpu, message)
                && visit(
                    machine.vcpu_id.get(),
                    machine.apic().is_eoi_pending(message.vector),
                )
                .is_break()
            {
                break;
            }
        }
    }

    fn has_ack_notifier(&self, pin: usize) -> bool {
        self.0.is_resampling(Chip::IoApic, pin as u8)
    }

    fn resample(&mut self, pin: usize) -> bool {
        let resampling = self.0.is_resampling(Chip::IoApic, pin as u8);
        if resampling {
            self.0.resampled.set(self.0.resampled.get() + 1);
        }
        resampling
    }

    fn mask_changed(&mut self, _pin: usize, _masked: bool) {}

    fn rescan(&mut self, rescan: Rescan) {
        self.0.rescan(rescan);
    }

    fn delay_injection(&mut self) {
        panic!("a sequence has fewer EOIs");
    }
}

/// What the 8254 finds around it: the time, as often as it asks.
pub struct PitHost {
    times: RefCell<Vec<i64>>,
    reinjection: Reinjection,
}

impl PitHost {
    /// It finds these times, one after the other, and the last one from then
    /// on.
    pub fn new(times: &[i64]) -> Self {
        let times = times.iter().rev().copied().collect();
        Self {
            times: RefCell::new(times),
            reinjection: Reinjection::new(),
        }
    }
}

impl pit::Host for PitHost {
    fn now_ns(&self) -> i64 {
        let mut times = self.times.borrow_mut();
        match times[..] {
            [last] => last,
            _ => times.pop().expect("a time"),
        }
    }

    fn timer_remaining_ns(&self) -> i64 {
        panic!("counter 0 does not run");
    }

    fn stop_timer(&mut self) {}

    fn start_timer(&mut self, _first: i64, _period: Option<i64>) {
        panic!("counter 0 was not to run");
    }

    fn min_period_ns(&self) -> i64 {
        200_000
    }

    fn reinjection(&self) -> &Reinjection {
        &self.reinjection
    }
}
