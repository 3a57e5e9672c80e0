// SPDX-License-Identifier: GPL-2.0

//! Properties of the I/O APIC that hold for every state and every sequence of
//! accesses.

use ferric_model::ioapic::{
    Eoi, EoiSource, Host, IoApic, RedirectionEntry, Rescan, RtcStatus, State, DEFAULT_BASE, LENGTH,
    PINS, RTC_PIN,
};
use ferric_model::line::source;
use ferric_model::message::{DestinationMode, Message, Trigger};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;

/// The pin that has this vector in the tests below that give each its own.
fn pin_of(vector: u8) -> usize {
    usize::from(vector - 0x20)
}

/// Local APICs that take everything, and write it down.
#[derive(Default)]
struct Apics {
    delivered: Vec<Message>,
    /// vCPUs, by ID, with the vectors whose EOI they owe.
    pending: BTreeMap<u32, Vec<u8>>,
    rescans: usize,
}

const VCPU_IDS: [u32; 4] = [0, 63, 64, 4095];

fn addressed(message: &Message) -> impl Iterator<Item = u32> + '_ {
    VCPU_IDS
        .into_iter()
        .enumerate()
        .filter(|&(index, _)| match message.destination_mode {
            DestinationMode::Physical => [index as u32, 0xff].contains(&message.destination),
            DestinationMode::Logical => message.destination & (1 << index) != 0,
        })
        .map(|(_, vcpu_id)| vcpu_id)
}

impl Host for Apics {
    fn deliver(&mut self, message: &Message, mut rtc: Option<&mut RtcStatus>) -> i32 {
        self.delivered.push(*message);
        let mut result = -1;
        for vcpu_id in addressed(message) {
            result = result.max(0) + 1;
            let vectors = self.pending.entry(vcpu_id).or_default();
            if !vectors.contains(&message.vector) {
                vectors.push(message.vector);
            }
            if let Some(rtc) = rtc.as_deref_mut() {
                rtc.record(vcpu_id, message.vector);
            }
        }
        result
    }

    fn eoi_is_accelerated(&self) -> bool {
        false
    }

    fn for_each_target(
        &self,
        message: &Message,
        mut visit: impl FnMut(u32, bool) -> ControlFlow<()>,
    ) {
        for vcpu_id in addressed(message) {
            let pending = self
                .pending
                .get(&vcpu_id)
                .is_some_and(|vectors| vectors.contains(&message.vector));
            if visit(vcpu_id, pending).is_break() {
                return;
            }
        }
    }

    fn has_ack_notifier(&self, _pin: usize) -> bool {
        false
    }

    fn resample(&mut self, _pin: usize) -> bool {
        false
    }

    fn mask_changed(&mut self, pin: usize, _masked: bool) {
        assert!(pin < PINS);
    }

    fn rescan(&mut self, _rescan: Rescan) {
        self.rescans += 1;
    }

    fn delay_injection(&mut self) {}
}

#[derive(Clone, Debug)]
enum Access {
    /// The guest programs the lower half of an entry, the vector aside.
    Configure {
        pin: usize,
        level: bool,
        masked: bool,
    },
    Drive {
        pin: usize,
        level: bool,
    },
    Eoi {
        pin: usize,
        suppressed: bool,
    },
    DelayedInjection,
}

struct Machine {
    chip: IoApic,
    apics: Apics,
}

impl Machine {
    /// Each pin has a vector of its own and goes to vCPU 0.
    fn new() -> Self {
        let mut machine = Self {
            chip: IoApic::new(),
            apics: Apics::default(),
        };
        for pin in 0..PINS {
            machine.write_register(0x11 + 2 * pin as u32, 0);
            machine.configure(pin, false, true);
        }
        machine
    }

    fn write_register(&mut self, index: u32, value: u32) {
        let apics = &mut self.apics;
        assert!(self.chip.write(DEFAULT_BASE, &[index as u8], apics));
        let window = DEFAULT_BASE + 0x10;
        assert!(self.chip.write(window, &value.to_le_bytes(), apics));
    }

    fn read_register(&mut self, index: u32) -> u32 {
        assert!(self
            .chip
            .write(DEFAULT_BASE, &[index as u8], &mut self.apics));
        let mut data = [0; 4];
        assert!(self.chip.read(DEFAULT_BASE + 0x10, &mut data));
        u32::from_le_bytes(data)
    }

    fn configure(&mut self, pin: usize, level: bool, masked: bool) {
        let value =
            (0x20 + pin as u32) | if level { LEVEL } else { 0 } | if masked { MASKED } else { 0 };
        self.write_register(0x10 + 2 * pin as u32, value);
    }

    fn eoi(&mut self, eoi: Eoi) -> Vec<usize> {
        if let Some(vectors) = self.apics.pending.get_mut(&eoi.vcpu_id) {
            vectors.retain(|&vector| vector != eoi.vector);
        }
        let mut acknowledged = Vec::new();
        let mut next = self.chip.begin_eoi(&eoi, &mut self.apics);
        while let Some(pin) = next {
            acknowledged.push(pin);
            assert!(acknowledged.len() <= PINS);
            next = self.chip.continue_eoi(&eoi, pin, &mut self.apics);
        }
        acknowledged
    }

    /// The result of [`Access::Drive`], for the others 0; and what was
    /// delivered.
    fn perform(&mut self, access: &Access) -> (i32, Vec<Message>) {
        self.apics.delivered.clear();
        let result = match *access {
            Access::Configure { pin, level, masked } => {
                self.configure(pin, level, masked);
                0
            }
            Access::Drive { pin, level } => {
                let apics = &mut self.apics;
                self.chip
                    .set_line(pin as u32, source::USERSPACE, level, false, apics)
            }
            Access::Eoi { pin, suppressed } => {
                let trigger = self.chip.entry(pin).unwrap().trigger();
                self.eoi(Eoi {
                    vcpu_id: 0,
                    vector: 0x20 + pin as u8,
                    trigger,
                    suppressed,
                });
                0
            }
            Access::DelayedInjection => {
                self.chip.inject_delayed(&mut self.apics);
                0
            }
        };
        (result, self.apics.delivered.clone())
    }
}

/// Few pins, so that accesses meet.
fn any_pin() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![0, RTC_PIN, 10, PINS - 1])
}

fn any_access() -> impl Strategy<Value = Access> {
    prop_oneof![
        3 => (any_pin(), any::<bool>(), any::<bool>())
            .prop_map(|(pin, level, masked)| Access::Configure { pin, level, masked }),
        5 => (any_pin(), any::<bool>()).prop_map(|(pin, level)| Access::Drive { pin, level }),
        3 => (any_pin(), prop::bool::weighted(0.2))
            .prop_map(|(pin, suppressed)| Access::Eoi { pin, suppressed }),
        1 => Just(Access::DelayedInjection),
    ]
}

fn any_state() -> impl Strategy<Value = State> {
    (
        prop_oneof![3 => Just(DEFAULT_BASE), 1 => any::<u64>()],
        any::<[u32; 4]>(),
        any::<[u64; PINS]>(),
    )
        .prop_map(|(base_address, [ioregsel, id, irr, pad], redirtbl)| State {
            base_address,
            ioregsel,
            id,
            irr,
            pad,
            redirtbl,
        })
}

proptest! {
    #[test]
    fn remote_irr_blocks_until_the_eoi(accesses in vec(any_access(), 0..80)) {
        let mut machine = Machine::new();
        // Told by the messages alone, not by the chip.
        let mut in_flight = [false; PINS];
        for access in &accesses {
            let (_, delivered) = machine.perform(access);
            match *access {
                Access::Configure { pin, level: false, .. } => in_flight[pin] = false,
                Access::Eoi { pin, suppressed: false }
                    if machine.chip.entry(pin).unwrap().trigger().is_level() =>
                {
                    in_flight[pin] = false;
                }
                _ => {}
            }
            for message in delivered.iter().filter(|message| message.trigger.is_level()) {
                let pin = pin_of(message.vector);
                prop_assert!(!in_flight[pin], "pin {} again, by {:?}", pin, access);
                in_flight[pin] = true;
            }
            for (pin, &in_flight) in in_flight.iter().enumerate() {
                prop_assert_eq!(machine.chip.entry(pin).unwrap().remote_irr(), in_flight);
            }
        }
    }

    #[test]
    fn a_high_level_line_that_is_not_masked_is_always_in_flight(
        accesses in vec(any_access(), 0..80),
    ) {
        let mut machine = Machine::new();
        let mut high = [false; PINS];
        for access in &accesses {
            if let Access::Drive { pin, level } = *access {
                high[pin] = level;
            }
            machine.perform(access);
            for (pin, &high) in high.iter().enumerate() {
                let entry = machine.chip.entry(pin).unwrap();
                if high && entry.trigger().is_level() && !entry.masked() {
                    prop_assert!(entry.remote_irr(), "pin {} lost by {:?}", pin, access);
                }
            }
        }
    }

    #[test]
    fn every_edge_that_is_not_masked_is_delivered_at_once(
        accesses in vec(any_access(), 0..80),
    ) {
        let mut machine = Machine::new();
        let mut high = [false; PINS];
        for access in &accesses {
            let (result, delivered) = machine.perform(access);
            let Access::Drive { pin, level } = *access else { continue };
            let entry = machine.chip.entry(pin).unwrap();
            if entry.trigger() == Trigger::Edge {
                let expected = match (high[pin], level) {
                    (false, true) if entry.masked() => (-1, 0),
                    (false, true) => (1, 1),
                    (true, true) => (0, 0),
                    (_, false) => (1, 0),
                };
                prop_assert_eq!((result, delivered.len()), expected);
                if let [message] = delivered[..] {
                    prop_assert_eq!(message, entry.message());
                }
            }
            high[pin] = level;
        }
    }

    #[test]
    fn a_masked_pin_delivers_nothing(accesses in vec(any_access(), 0..80)) {
        let mut machine = Machine::new();
        for access in &accesses {
            let (_, delivered) = machine.perform(access);
            for message in delivered {
                let entry = machine.chip.entry(pin_of(message.vector)).unwrap();
                prop_assert!(!entry.masked());
            }
        }
    }

    #[test]
    fn a_pin_is_the_or_of_its_sources(drives in vec((0..3u32, any::<bool>()), 0..30)) {
        let mut machine = Machine::new();
        let mut levels = [false; 3];
        for (source, level) in drives {
            levels[source as usize] = level;
            machine.chip.set_line(10, source, level, false, &mut machine.apics);
            let high = machine.chip.state().irr & (1 << 10) != 0;
            prop_assert_eq!(high, levels.contains(&true));
        }
    }

    /// Of edges this holds only for those that are not kept back by a mask:
    /// restoring raises such an edge again, which by then may find its pin
    /// unmasked.
    #[test]
    fn saving_and_restoring_shows_in_nothing(
        level_pins in prop::bits::u32::masked((1 << PINS) - 1),
        before in vec(any_access(), 0..60),
        after in vec(any_access(), 0..60),
    ) {
        let mut machine = Machine::new();
        for pin in 0..PINS {
            machine.configure(pin, level_pins & (1 << pin) != 0, false);
        }
        let mut high = [false; PINS];
        let mut tame = |access: &Access| match *access {
            Access::Configure { pin, masked, .. } => {
                let level = level_pins & (1 << pin) != 0;
                Access::Configure { pin, level, masked: masked && level }
            }
            Access::Drive { pin, .. } => {
                high[pin] = !high[pin];
                Access::Drive { pin, level: high[pin] }
            }
            ref other => other.clone(),
        };
        for access in &before {
            machine.perform(&tame(access));
        }
        let saved = machine.chip.state();
        let mut restored = Machine::new();
        restored.apics.delivered.clear();
        restored.chip.set_state(&saved, &mut restored.apics);
        prop_assert_eq!(&restored.apics.delivered, &[]);
        prop_assert_eq!(restored.chip.state(), saved);
        for access in &after {
            let access = tame(access);
            prop_assert_eq!(machine.perform(&access), restored.perform(&access));
            prop_assert_eq!(machine.chip.state(), restored.chip.state());
        }
    }

    #[test]
    fn restoring_keeps_all_but_what_it_delivers(state in any_state()) {
        let mut machine = Machine::new();
        machine.chip.set_state(&state, &mut machine.apics);
        let saved = machine.chip.state();
        for pin in 0..PINS {
            let entry = RedirectionEntry(state.redirtbl[pin]);
            let raised = state.irr & (1 << pin) != 0;
            let delivered = raised
                && !entry.masked()
                && !(entry.trigger().is_level() && entry.remote_irr());
            let in_flight = u64::from(delivered && entry.trigger().is_level()) << 14;
            prop_assert_eq!(saved.redirtbl[pin], entry.0 | in_flight);
            let pending = raised && !(delivered && entry.trigger() == Trigger::Edge);
            prop_assert_eq!(saved.irr & (1 << pin) != 0, pending);
        }
        prop_assert_eq!(saved.irr >> PINS, 0);
        prop_assert_eq!(
            (saved.base_address, saved.ioregsel, saved.id, saved.pad),
            (state.base_address, state.ioregsel, state.id, state.pad)
        );
    }

    #[test]
    fn no_restored_state_upsets_the_accesses_after_it(
        state in any_state(),
        accesses in vec((0..LENGTH, vec(any::<u8>(), 0..10), any::<[u8; 4]>()), 0..40),
    ) {
        let mut machine = Machine::new();
        machine.chip.set_state(&state, &mut machine.apics);
        let start = state.base_address;
        for (offset, data, [pin, level, vcpu, vector]) in accesses {
            let address = start.wrapping_add(offset);
            let claimed = start <= u64::MAX - LENGTH;
            prop_assert_eq!(machine.chip.write(address, &data, &mut machine.apics), claimed);
            prop_assert_eq!(machine.chip.read(address, &mut data.clone()), claimed);
            let (pin, level) = (u32::from(pin) % 26, level & 1 != 0);
            let asked = vcpu & 1 != 0;
            machine.chip.set_line(pin, source::PIT, level, asked, &mut machine.apics);
            machine.eoi(Eoi {
                vcpu_id: VCPU_IDS[usize::from(vcpu) % 4],
                vector,
                trigger: Trigger::from_bit(vcpu & 2 != 0),
                suppressed: vcpu & 4 != 0,
            });
            machine.chip.inject_delayed(&mut machine.apics);
            machine.chip.scan(u32::from(vcpu), &machine.apics, |_| {});
        }
    }

    #[test]
    fn an_entry_reads_as_written_but_for_the_read_only_bits(
        pin in 0..PINS as u32, low: u32, high: u32,
    ) {
        let mut machine = Machine::new();
        // So that no delivery sets remote IRR in between.
        let low = low | MASKED;
        machine.write_register(0x11 + 2 * pin, high);
        machine.write_register(0x10 + 2 * pin, low);
        prop_assert_eq!(machine.read_register(0x11 + 2 * pin), high);
        prop_assert_eq!(machine.read_register(0x10 + 2 * pin), low & !0x5000);
    }

    #[test]
    fn a_register_write_changes_no_other_register(
        index in 0..0x100u32, value: u32,
    ) {
        let mut machine = Machine::new();
        let before: Vec<u32> = (0..0x100).map(|index| machine.read_register(index)).collect();
        machine.write_register(index, value);
        for other in 0..0x100 {
            // The arbitration ID is the ID.
            if other != index && !(index == 0 && other == 2) {
                prop_assert_eq!(machine.read_register(other), before[other as usize]);
            }
        }
    }

    #[test]
    fn every_changed_entry_makes_the_vcpus_scan(
        pin in 0..PINS as u32, upper: bool, value: u32,
    ) {
        let mut machine = Machine::new();
        machine.apics.rescans = 0;
        machine.write_register(0x10 + 2 * pin + u32::from(upper), value);
        prop_assert_eq!(machine.apics.rescans, 1);
    }

    #[test]
    fn the_scan_finds_every_level_entry_and_the_rtc(redirtbl: [u64; PINS]) {
        let mut machine = Machine::new();
        let state = State { redirtbl, ..machine.chip.state() };
        machine.chip.set_state(&state, &mut machine.apics);
        let mut found = Vec::new();
        machine.chip.scan(0, &machine.apics, |source| found.push(source));
        let expected: Vec<EoiSource> = redirtbl
            .iter()
            .enumerate()
            .filter(|&(pin, bits)| bits & u64::from(LEVEL) != 0 || pin == RTC_PIN)
            .map(|(_, &bits)| EoiSource::Entry(RedirectionEntry(bits).message()))
            .collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn the_rtc_is_coalesced_while_a_vcpu_owes_its_eoi(
        logical_destination in 0..16u32,
        accesses in vec((any::<bool>(), 0..4usize, any::<bool>()), 0..40),
    ) {
        let mut machine = Machine::new();
        machine.write_register(0x11 + 2 * RTC_PIN as u32, logical_destination << 24);
        machine.write_register(0x10 + 2 * RTC_PIN as u32, 0x828);
        let targets = logical_destination.count_ones() as i32;
        let mut owing = [false; 4];
        for (tick, vcpu, right_vector) in accesses {
            if tick {
                let expected = match (owing.contains(&true), targets) {
                    (true, _) => 0,
                    (false, 0) => -1,
                    (false, targets) => targets,
                };
                let mut drive = |level| {
                    machine.chip.set_line(
                        RTC_PIN as u32, source::USERSPACE, level, true, &mut machine.apics)
                };
                prop_assert_eq!(drive(true), expected);
                drive(false);
                if expected > 0 {
                    owing = core::array::from_fn(|vcpu| logical_destination & (1 << vcpu) != 0);
                }
            } else {
                machine.eoi(Eoi {
                    vcpu_id: VCPU_IDS[vcpu],
                    vector: if right_vector { 0x28 } else { 0x29 },
                    trigger: Trigger::Edge,
                    suppressed: false,
                });
                owing[vcpu] &= !right_vector;
            }
            for (vcpu, owing) in owing.into_iter().enumerate() {
                let mut first = None;
                machine.chip.scan(VCPU_IDS[vcpu], &machine.apics, |source| {
                    first.get_or_insert(source);
                });
                prop_assert_eq!(first == Some(EoiSource::InFlight(0x28)), owing);
            }
        }
    }

    #[test]
    fn an_eoi_reaches_the_pins_with_its_vector_in_order(
        vectors in vec(0x30..0x33u8, PINS), vector in 0x30..0x34u8,
    ) {
        let mut machine = Machine::new();
        for (pin, &vector) in vectors.iter().enumerate() {
            machine.write_register(0x10 + 2 * pin as u32, LEVEL | u32::from(vector));
        }
        let acknowledged = machine.eoi(Eoi {
            vcpu_id: 0, vector, trigger: Trigger::Level, suppressed: false,
        });
        let expected: Vec<usize> = (0..PINS).filter(|&pin| vectors[pin] == vector).collect();
        prop_assert_eq!(acknowledged, expected);
    }
}
