// SPDX-License-Identifier: GPL-2.0

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
        while let Some(pin) = next {
            self.acknowledged.push(pin);
            (self.on_acknowledge)(self, pin);
            next = self.chip.continue_eoi(&eoi, pin, &mut self.machine);
        }
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

#[test]
fn after_reset_all_pins_are_masked() {
    let state = IoApic::new().state();
    assert_eq!(
        state,
        State {
            base_address: 0xfec0_0000,
            ioregsel: 0,
            id: 0,
            irr: 0,
            pad: 0,
            redirtbl: [MASKED; 24],
        }
    );
}

#[test]
fn the_version_register_tells_the_82093aa_with_24_pins() {
    let mut bench = Bench::new();
    assert_eq!(bench.read_register(1), 0x0017_0011);
    bench.write_register(1, u32::MAX);
    assert_eq!(bench.read_register(1), 0x0017_0011);
}

#[test]
fn the_id_has_four_bits_and_is_the_arbitration_id_too() {
    let mut bench = Bench::new();
    bench.write_register(0, 0xa5ff_ffff);
    assert_eq!(bench.read_register(0), 0x0500_0000);
    assert_eq!(bench.read_register(2), 0x0500_0000);
    bench.write_register(2, 0x0f00_0000);
    assert_eq!(bench.read_register(0), 0x0500_0000);
    assert_eq!(bench.chip.state().id, 5);
}

#[test]
fn the_select_register_has_eight_bits() {
    let mut bench = Bench::new();
    bench.select(0x1234_5613);
    assert_eq!(bench.chip.state().ioregsel, 0x13);
    let mut data = [0xff; 4];
    assert!(bench.chip.read(DEFAULT_BASE, &mut data));
    assert_eq!(data, [0x13, 0, 0, 0]);
}

#[test]
fn every_entry_has_its_two_halves() {
    let mut bench = Bench::new();
    for pin in 0..24 {
        bench.program(pin, (u64::from(pin) << 56) | MASKED | u64::from(pin + 0x20));
    }
    for pin in 0..24 {
        assert_eq!(bench.read_register(0x10 + 2 * pin), 0x1_0020 + pin);
        assert_eq!(bench.read_register(0x11 + 2 * pin), pin << 24);
    }
}

#[test]
fn registers_that_do_not_exist_read_as_ones_and_ignore_writes() {
    let mut bench = Bench::new();
    for index in (0x03..0x10).chain(0x40..=0xff) {
        let before = {
            bench.select(index);
            bench.chip.state()
        };
        bench.write_register(index, 0x1234_5678);
        assert_eq!(bench.chip.state(), before);
        assert_eq!(bench.read_register(index), u32::MAX);
    }
    assert!(bench.machine.rescans.is_empty());
}

#[test]
fn a_restored_index_out_of_range_selects_nothing() {
    for ioregsel in [0x40, 0x110, 0x8000_0010, u32::MAX] {
        let mut bench = Bench::new();
        let state = State {
            ioregsel,
            ..bench.chip.state()
        };
        bench.restore(&state);
        let mut data = [0; 4];
        bench.chip.read(DEFAULT_BASE + 0x10, &mut data);
        assert_eq!(data, [0xff; 4]);
        bench
            .chip
            .write(DEFAULT_BASE + 0x10, &[0; 4], &mut bench.machine);
        assert_eq!(bench.chip.state(), state);
    }
}

#[test]
fn only_two_offsets_have_registers() {
    let mut bench = Bench::with_entry(0, 0x30);
    bench.select(0x10);
    let before = bench.chip.state();
    for offset in (0..0x100).filter(|offset| ![0, 0x10].contains(offset)) {
        let mut data = [0xff; 4];
        assert!(bench.chip.read(DEFAULT_BASE + offset, &mut data));
        assert_eq!(data, [0; 4]);
        assert!(bench
            .chip
            .write(DEFAULT_BASE + offset, &[0xff; 4], &mut bench.machine));
    }
    assert_eq!(bench.chip.state(), before);
}

#[test]
fn addresses_outside_the_window_are_not_claimed() {
    let mut bench = Bench::new();
    for address in [0, DEFAULT_BASE - 1, DEFAULT_BASE + 0x100, u64::MAX] {
        assert!(!bench.chip.read(address, &mut [0; 4]));
        assert!(!bench.chip.write(address, &[0; 4], &mut bench.machine));
    }
}

#[test]
fn a_restored_base_moves_the_window() {
    let mut bench = Bench::new();
    let state = State {
        base_address: 0x1000,
        ..bench.chip.state()
    };
    bench.restore(&state);
    assert!(!bench.chip.read(DEFAULT_BASE, &mut [0; 4]));
    assert!(bench.chip.read(0x10ff, &mut [0; 4]));
    let wrapping = State {
        base_address: u64::MAX - 0x7f,
        ..state
    };
    bench.restore(&wrapping);
    assert!(!bench.chip.read(u64::MAX, &mut [0; 4]));
    assert!(!bench.chip.read(0, &mut [0; 4]));
}

#[test]
fn narrow_reads_give_the_low_bytes_and_wide_reads_zeroes_above() {
    let mut bench = Bench::new();
    bench.select(1);
    let window = DEFAULT_BASE + 0x10;
    let mut byte = [0xff; 1];
    bench.chip.read(window, &mut byte);
    assert_eq!(byte, [0x11]);
    let mut word = [0xff; 2];
    bench.chip.read(window, &mut word);
    assert_eq!(word, [0x11, 0x00]);
    let mut quad = [0xff; 8];
    bench.chip.read(window, &mut quad);
    assert_eq!(quad, [0x11, 0x00, 0x17, 0, 0, 0, 0, 0]);
}

#[test]
fn reads_of_odd_lengths_give_zeroes() {
    let mut bench = Bench::new();
    bench.select(1);
    for length in [0, 3, 5, 6, 7, 9, 16] {
        let mut data = vec![0xff; length];
        assert!(bench.chip.read(DEFAULT_BASE + 0x10, &mut data));
        assert!(data.iter().all(|&byte| byte == 0));
    }
}

#[test]
fn narrow_writes_are_zero_extended_and_of_wide_ones_half_counts() {
    let mut bench = Bench::new();
    let window = DEFAULT_BASE + 0x10;
    bench.select(0x11);
    let upper = |bench: &Bench| (bench.chip.entry(0).unwrap().0 >> 32) as u32;
    for (data, value) in [
        (&[1, 2, 3, 4, 5, 6, 7, 8][..], 0x0403_0201),
        (&[1][..], 0x01),
        (&[1, 2, 3, 4][..], 0x0403_0201),
        (&[1, 2][..], 0x0201),
    ] {
        assert!(bench.chip.write(window, data, &mut bench.machine));
        assert_eq!(upper(&bench), value);
    }
}

#[test]
fn writes_of_odd_lengths_are_ignored() {
    let mut bench = Bench::new();
    bench.select(0x10);
    let before = bench.chip.clone();
    for length in [0, 3, 5, 6, 7, 9] {
        let data = vec![0; length];
        for offset in [0, 0x10] {
            assert!(bench
                .chip
                .write(DEFAULT_BASE + offset, &data, &mut bench.machine));
        }
    }
    assert_eq!(bench.chip, before);
}

#[test]
fn an_edge_is_delivered_once_to_where_its_entry_says() {
    let entry = 0x0300_0000_0000_0041;
    let mut bench = Bench::with_entry(4, entry);
    assert_eq!(bench.drive(4, true), 1);
    assert_eq!(bench.machine.delivered, [RedirectionEntry(entry).message()]);
    assert_eq!(bench.drive(4, true), 0);
    assert_eq!(bench.drive(4, false), 1);
    assert_eq!(bench.deliveries(), 1);
    assert_eq!(bench.drive(4, true), 1);
    assert_eq!(bench.deliveries(), 2);
}

#[test]
fn an_edge_does_not_wait_for_an_eoi() {
    let mut bench = Bench::with_entry(4, 0x41);
    for _ in 0..3 {
        assert_eq!(bench.drive(4, true), 1);
        assert!(!bench.remote_irr(4));
        bench.drive(4, false);
    }
    assert_eq!(bench.deliveries(), 3);
}

#[test]
fn the_result_is_the_number_of_vcpus_that_took_it() {
    let mut bench = Bench::with_entry(4, 0xff00_0000_0000_0041);
    assert_eq!(bench.drive(4, true), 4);
    let mut nobody = Bench::with_entry(4, 0x7700_0000_0000_0041);
    assert_eq!(nobody.drive(4, true), -1);
}

#[test]
fn pins_that_do_not_exist_are_refused() {
    let mut bench = Bench::new();
    let before = bench.chip.clone();
    for pin in [24, 31, 32, u32::MAX] {
        assert_eq!(bench.drive(pin, true), -1);
    }
    assert_eq!(bench.chip, before);
    assert_eq!(bench.chip.entry(24), None);
}

#[test]
fn a_masked_edge_is_kept_and_its_successors_are_coalesced() {
    let mut bench = Bench::with_entry(4, MASKED | 0x41);
    assert_eq!(bench.drive(4, true), -1);
    assert_eq!(bench.drive(4, true), 0);
    assert_eq!(bench.irr(), 1 << 4);
    assert_eq!(bench.drive(4, false), 1);
    assert_eq!(bench.irr(), 0);
    assert_eq!(bench.deliveries(), 0);
}

#[test]
fn unmasking_does_not_deliver_a_kept_edge() {
    let mut bench = Bench::with_entry(4, MASKED | 0x41);
    bench.drive(4, true);
    bench.program(4, 0x41);
    assert_eq!(bench.deliveries(), 0);
}

#[test]
fn a_level_interrupt_sets_remote_irr_and_waits_for_the_eoi() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    assert_eq!(bench.drive(10, true), 1);
    assert!(bench.remote_irr(10));
    assert_eq!(bench.drive(10, true), -1);
    assert_eq!(bench.deliveries(), 1);
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!(bench.deliveries(), 2);
    assert!(bench.remote_irr(10));
    bench.drive(10, false);
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!(bench.deliveries(), 2);
    assert!(!bench.remote_irr(10));
}

#[test]
fn a_level_interrupt_that_nobody_took_is_not_in_flight() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.machine.delivery = Some(0);
    assert_eq!(bench.drive(10, true), 0);
    assert!(!bench.remote_irr(10));
}

#[test]
fn a_level_interrupt_to_nowhere_counts_as_in_flight() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x7700_0000_0000_0051);
    assert_eq!(bench.drive(10, true), -1);
    assert!(bench.remote_irr(10));
}

#[test]
fn the_fall_of_a_level_line_leaves_remote_irr() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    bench.drive(10, false);
    assert!(bench.remote_irr(10));
    assert_eq!(bench.irr(), 0);
    // Raised again before the EOI: pending, not delivered.
    assert_eq!(bench.drive(10, true), -1);
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!(bench.deliveries(), 2);
}

#[test]
fn an_eoi_of_a_masked_level_pin_ends_the_interrupt_without_a_new_one() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    bench.program(10, MASKED | LEVEL | 0x51);
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!(bench.acknowledged, [10]);
    assert!(!bench.remote_irr(10));
    assert_eq!(bench.deliveries(), 1);
}

#[test]
fn unmasking_a_high_level_line_delivers_it() {
    let mut bench = Bench::with_entry(10, MASKED | LEVEL | 0x51);
    assert_eq!(bench.drive(10, true), -1);
    bench.write_register(0x10 + 20, LEVEL as u32 | 0x51);
    assert_eq!(bench.deliveries(), 1);
    assert!(bench.remote_irr(10));
}

#[test]
fn unmasking_a_resampled_line_lets_its_owner_look_first() {
    let mut bench = Bench::with_entry(10, MASKED | LEVEL | 0x51);
    bench.machine.resamplers.push(10);
    bench.drive(10, true);
    bench.write_register(0x10 + 20, LEVEL as u32 | 0x51);
    assert_eq!(bench.machine.resampled, [10]);
    assert_eq!(bench.deliveries(), 0);
    assert_eq!(bench.irr(), 0);
    // And if the line is high still, the owner raises it again.
    assert_eq!(bench.drive(10, true), 1);
}

#[test]
fn writing_an_entry_does_not_resample_without_need() {
    for (entry, high) in [
        (MASKED | LEVEL | 0x51, true),
        (LEVEL | 0x51, false),
        (0x51, true),
    ] {
        let mut bench = Bench::with_entry(10, MASKED | LEVEL | 0x51);
        bench.machine.resamplers.push(10);
        bench.drive(10, high);
        bench.write_register(0x10 + 20, entry as u32);
        assert!(bench.machine.resampled.is_empty());
    }
}

#[test]
fn unmasking_while_in_flight_delivers_nothing() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    bench.program(10, MASKED | LEVEL | 0x51);
    bench.program(10, LEVEL | 0x51);
    assert_eq!(bench.deliveries(), 1);
}

#[test]
fn making_an_entry_edge_triggered_clears_remote_irr() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    // Linux's explicit EOI: mask and make edge-triggered, then restore.
    bench.write_register(0x10 + 20, (MASKED | 0x51) as u32);
    assert!(!bench.remote_irr(10));
    bench.write_register(0x10 + 20, (LEVEL | 0x51) as u32);
    assert_eq!(bench.deliveries(), 2);
    assert!(bench.remote_irr(10));
}

#[test]
fn remote_irr_and_delivery_status_cannot_be_written() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.write_register(0x10 + 20, (LEVEL | REMOTE_IRR | 1 << 12 | 0x51) as u32);
    assert_eq!(bench.read_register(0x10 + 20), (LEVEL | 0x51) as u32);
    bench.drive(10, true);
    bench.write_register(0x10 + 20, (LEVEL | 0x51) as u32);
    assert!(bench.remote_irr(10));
}

#[test]
fn an_eoi_reaches_every_pin_with_its_vector() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.program(3, LEVEL | 0x51);
    bench.program(23, LEVEL | 0x51);
    bench.program(11, LEVEL | 0x52);
    for pin in [3, 10, 11, 23] {
        bench.drive(pin, true);
        bench.drive(pin, false);
    }
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!(bench.acknowledged, [3, 10, 23]);
    assert!(!bench.remote_irr(3) && !bench.remote_irr(10) && !bench.remote_irr(23));
    assert!(bench.remote_irr(11));
}

#[test]
fn an_eoi_of_an_edge_is_notified_and_no_more() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    bench.eoi(0, 0x51, Trigger::Edge);
    assert_eq!(bench.acknowledged, [10]);
    assert!(bench.remote_irr(10));
    assert_eq!(bench.deliveries(), 1);
}

#[test]
fn a_suppressed_eoi_is_notified_and_no_more() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    bench.complete(Eoi {
        vcpu_id: 0,
        vector: 0x51,
        trigger: Trigger::Level,
        suppressed: true,
    });
    assert_eq!(bench.acknowledged, [10]);
    assert!(bench.remote_irr(10));
    assert_eq!(bench.deliveries(), 1);
}

#[test]
fn a_line_that_falls_in_the_notification_is_not_delivered_again() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    bench.on_acknowledge = |bench, pin| {
        assert!(bench.remote_irr(pin));
        bench.drive(10, false);
    };
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!(bench.deliveries(), 1);
    assert!(!bench.remote_irr(10));
}

#[test]
fn a_line_that_rises_in_the_notification_is_delivered_after_it() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    bench.drive(10, false);
    bench.on_acknowledge = |bench, _| {
        assert_eq!(bench.drive(10, true), -1);
        assert_eq!(bench.deliveries(), 1);
    };
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!(bench.deliveries(), 2);
}

#[test]
fn a_vector_changed_in_the_notification_counts_for_the_pins_behind() {
    let mut bench = Bench::with_entry(3, LEVEL | 0x51);
    bench.program(10, LEVEL | 0x51);
    bench.on_acknowledge = |bench, pin| {
        if pin == 3 {
            bench.program(10, LEVEL | 0x52);
            bench.program(12, LEVEL | 0x51);
        }
    };
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!(bench.acknowledged, [3, 12]);
}

#[test]
fn continuing_with_a_pin_that_does_not_exist_ends_the_eoi() {
    let mut bench = Bench::new();
    let eoi = Eoi {
        vcpu_id: 0,
        vector: 0,
        trigger: Trigger::Level,
        suppressed: false,
    };
    let before = bench.chip.clone();
    assert_eq!(bench.chip.continue_eoi(&eoi, 24, &mut bench.machine), None);
    assert_eq!(
        bench
            .chip
            .continue_eoi(&eoi, usize::MAX, &mut bench.machine),
        None
    );
    assert_eq!(bench.chip, before);
}

#[test]
fn the_ten_thousandth_eoi_in_a_row_delays_the_delivery() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    for _ in 0..9_999 {
        bench.eoi(0, 0x51, Trigger::Level);
    }
    assert_eq!((bench.deliveries(), bench.machine.delays), (10_000, 0));
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!((bench.deliveries(), bench.machine.delays), (10_000, 1));
    assert!(!bench.remote_irr(10));
    bench.chip.inject_delayed(&mut bench.machine);
    assert_eq!(bench.deliveries(), 10_001);
    bench.eoi(0, 0x51, Trigger::Level);
    assert_eq!((bench.deliveries(), bench.machine.delays), (10_002, 1));
}

#[test]
fn an_eoi_that_finds_the_line_low_ends_the_count() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    for _ in 0..9_999 {
        bench.eoi(0, 0x51, Trigger::Level);
    }
    bench.drive(10, false);
    bench.eoi(0, 0x51, Trigger::Level);
    bench.drive(10, true);
    for _ in 0..9_999 {
        bench.eoi(0, 0x51, Trigger::Level);
    }
    assert_eq!(bench.machine.delays, 0);
}

#[test]
fn the_delayed_injection_delivers_only_level_lines_that_wait() {
    let mut bench = Bench::new();
    bench.program(1, MASKED | LEVEL | 0x31);
    bench.program(2, LEVEL | 0x32);
    bench.program(3, MASKED | 0x33);
    bench.program(4, LEVEL | 0x34);
    bench.machine.delivery = Some(0);
    for pin in 1..=3 {
        bench.drive(pin, true);
    }
    bench.program(3, 0x33);
    bench.machine.delivered.clear();
    bench.machine.delivery = None;
    bench.chip.inject_delayed(&mut bench.machine);
    let vectors: Vec<u8> = bench.machine.delivered.iter().map(|m| m.vector).collect();
    assert_eq!(vectors, [0x32]);
    bench.chip.inject_delayed(&mut bench.machine);
    assert_eq!(bench.deliveries(), 1);
}

#[test]
fn every_change_of_the_mask_is_told() {
    let mut bench = Bench::with_entry(4, MASKED | 0x41);
    bench.program(4, 0x41);
    bench.program(4, 0x42);
    bench.program(4, MASKED | 0x42);
    assert_eq!(bench.machine.masks, [(4, false), (4, true)]);
}

#[test]
fn an_entry_with_a_fixed_vector_is_rescanned_where_it_goes_and_went() {
    let mut bench = Bench::with_entry(4, 0x0100_0000_0000_0841);
    bench.write_register(0x10 + 8, 0x842);
    let now = RedirectionEntry(0x0100_0000_0000_0842).message();
    assert_eq!(
        bench.machine.rescans,
        [Rescan::Addressed { now, before: None }]
    );
    bench.machine.rescans.clear();
    bench.write_register(0x10 + 8, 0x42);
    let physical = RedirectionEntry(0x0100_0000_0000_0042).message();
    assert_eq!(
        bench.machine.rescans,
        [Rescan::Addressed {
            now: physical,
            before: Some(now),
        }]
    );
    bench.machine.rescans.clear();
    bench.write_register(0x11 + 8, 0x0200_0000);
    assert_eq!(
        bench.machine.rescans,
        [Rescan::Addressed {
            now: RedirectionEntry(0x0200_0000_0000_0042).message(),
            before: Some(physical),
        }]
    );
}

#[test]
fn the_rescan_of_the_old_destination_is_not_arbitrated() {
    // A lowest-priority message would pick one vCPU of those it addresses.
    let mut bench = Bench::with_entry(4, 0x0300_0000_0000_0941);
    bench.write_register(0x10 + 8, 0x41);
    let Rescan::Addressed {
        before: Some(before),
        ..
    } = bench.machine.rescans[0]
    else {
        panic!("{:?}", bench.machine.rescans);
    };
    assert_eq!(before.delivery_mode, DeliveryMode::Fixed);
    assert_eq!(before.destination_mode, DestinationMode::Logical);
    assert_eq!(before.destination, 3);
}

#[test]
fn an_entry_that_is_not_fixed_is_rescanned_everywhere() {
    for mode in 1..8 {
        let mut bench = Bench::with_entry(4, MASKED | 0x41);
        bench.write_register(0x10 + 8, (mode << 8) | 0x41);
        assert_eq!(bench.machine.rescans, [Rescan::All]);
    }
}

#[test]
fn the_scan_names_level_entries_notified_pins_and_the_rtc() {
    let mut bench = Bench::new();
    bench.program(3, LEVEL | 0x33);
    bench.program(5, 0x35);
    bench.program(6, 0x36);
    bench.program(8, 0x38);
    bench.program(20, MASKED | LEVEL | 0x44);
    bench.machine.notifiers.push(6);
    let vectors: Vec<u8> = bench
        .scan(0)
        .into_iter()
        .map(|source| match source {
            EoiSource::Entry(message) => message.vector,
            EoiSource::InFlight(vector) => panic!("vector {vector} is not in flight"),
        })
        .collect();
    assert_eq!(vectors, [0x33, 0x36, 0x38, 0x44]);
}

#[test]
fn the_scan_names_an_rtc_interrupt_in_flight() {
    let mut bench = Bench::with_entry(8, 0x0100_0000_0000_0038);
    bench.drive_asking(8, true);
    bench.program(8, 0x0100_0000_0000_0039);
    assert_eq!(bench.scan(1)[0], EoiSource::InFlight(0x38));
    assert!(matches!(bench.scan(0)[0], EoiSource::Entry(_)));
}

#[test]
fn an_rtc_interrupt_is_coalesced_until_every_vcpu_has_completed_it() {
    let mut bench = Bench::with_entry(8, 0xff00_0000_0000_0038);
    assert_eq!(bench.drive_asking(8, true), 4);
    bench.drive_asking(8, false);
    for vcpu_id in 0..4 {
        assert_eq!(bench.drive_asking(8, true), 0);
        bench.drive_asking(8, false);
        bench.eoi(vcpu_id, 0x38, Trigger::Edge);
    }
    assert_eq!(bench.deliveries(), 1);
    assert_eq!(bench.drive_asking(8, true), 4);
}

#[test]
fn an_rtc_interrupt_is_tracked_only_for_those_who_ask() {
    let mut bench = Bench::with_entry(8, 0x38);
    for _ in 0..2 {
        assert_eq!(bench.drive(8, true), 1);
        bench.drive(8, false);
    }
    assert_eq!(bench.drive_asking(8, true), 1);
    bench.drive(8, false);
    assert_eq!(bench.drive(8, true), 1);
}

#[test]
fn only_the_rtc_is_tracked() {
    let mut bench = Bench::with_entry(9, 0x38);
    for _ in 0..2 {
        assert_eq!(bench.drive_asking(9, true), 1);
        bench.drive_asking(9, false);
    }
}

#[test]
fn another_eoi_of_the_vcpu_is_not_the_rtcs() {
    let mut bench = Bench::with_entry(8, 0x38);
    bench.drive_asking(8, true);
    bench.drive_asking(8, false);
    bench.eoi(0, 0x39, Trigger::Edge);
    bench.eoi(1, 0x38, Trigger::Edge);
    assert_eq!(bench.drive_asking(8, true), 0);
    bench.drive_asking(8, false);
    bench.eoi(0, 0x38, Trigger::Edge);
    assert_eq!(bench.drive_asking(8, true), 1);
}

#[test]
fn an_rtc_interrupt_to_nowhere_is_not_waited_for() {
    let mut bench = Bench::with_entry(8, 0x7700_0000_0000_0038);
    for _ in 0..2 {
        assert_eq!(bench.drive_asking(8, true), -1);
        bench.drive_asking(8, false);
    }
}

#[test]
fn an_accelerated_eoi_of_the_rtc_is_found_out() {
    let mut bench = Bench::with_entry(8, 0x0100_0000_0000_0038);
    bench.machine.accelerated = true;
    assert_eq!(bench.drive_asking(8, true), 1);
    bench.drive_asking(8, false);
    assert_eq!(bench.drive_asking(8, true), 0);
    bench.drive_asking(8, false);
    bench.machine.pending[1].clear();
    assert_eq!(bench.drive_asking(8, true), 1);
}

#[test]
fn one_accelerated_eoi_is_found_out_at_a_time() {
    let mut bench = Bench::with_entry(8, 0x0300_0000_0000_0838);
    bench.machine.accelerated = true;
    assert_eq!(bench.drive_asking(8, true), 2);
    bench.drive_asking(8, false);
    bench.machine.pending = Default::default();
    // The first vCPU is found twice, the second one never.
    for _ in 0..2 {
        assert_eq!(bench.drive_asking(8, true), 0);
        bench.drive_asking(8, false);
    }
}

#[test]
fn an_accelerated_eoi_is_not_looked_for_where_none_is_hidden() {
    let mut bench = Bench::with_entry(8, 0x38);
    bench.drive_asking(8, true);
    bench.drive_asking(8, false);
    bench.machine.pending = Default::default();
    assert_eq!(bench.drive_asking(8, true), 0);
    let mut level = Bench::with_entry(8, LEVEL | 0x38);
    level.machine.accelerated = true;
    level.drive_asking(8, true);
    level.machine.pending = Default::default();
    assert_eq!(level.drive_asking(8, true), 0);
}

#[test]
fn restoring_a_local_apic_restores_what_it_owes_of_the_rtc() {
    let mut bench = Bench::with_entry(8, 0x38);
    let restore = |bench: &mut Bench, vcpu_id, answer: Option<bool>| {
        bench
            .chip
            .restore_rtc(vcpu_id, &mut bench.machine, |message| {
                assert_eq!(message.vector, 0x38);
                answer
            });
    };
    restore(&mut bench, 0, Some(true));
    assert_eq!(bench.drive_asking(8, true), 0);
    restore(&mut bench, 0, None);
    assert_eq!(bench.drive_asking(8, true), 0);
    restore(&mut bench, 0, Some(true));
    restore(&mut bench, 1, Some(true));
    restore(&mut bench, 0, Some(false));
    assert_eq!(bench.drive_asking(8, true), 0);
    restore(&mut bench, 1, Some(false));
    restore(&mut bench, 1, Some(false));
    assert_eq!(bench.drive_asking(8, true), 1);
}

#[test]
fn an_account_of_the_rtc_that_does_not_add_up_is_taken_anew() {
    // CVE-2014-0155: the count of EOIs owed went below zero.
    struct Liar(Machine);
    impl Host for Liar {
        fn deliver(&mut self, message: &Message, rtc: Option<&mut RtcStatus>) -> i32 {
            self.0.deliver(message, rtc);
            0
        }
        fn eoi_is_accelerated(&self) -> bool {
            false
        }
        fn for_each_target(
            &self,
            message: &Message,
            visit: impl FnMut(u32, bool) -> ControlFlow<()>,
        ) {
            self.0.for_each_target(message, visit)
        }
        fn has_ack_notifier(&self, _pin: usize) -> bool {
            false
        }
        fn resample(&mut self, _pin: usize) -> bool {
            false
        }
        fn mask_changed(&mut self, _pin: usize, _masked: bool) {}
        fn rescan(&mut self, _rescan: Rescan) {}
        fn delay_injection(&mut self) {}
    }
    let Bench {
        mut chip, machine, ..
    } = Bench::with_entry(8, 0xff00_0000_0000_0038);
    let mut liar = Liar(machine);
    chip.set_line(8, source::USERSPACE, true, true, &mut liar);
    liar.0.pending[2].clear();
    let eoi = Eoi {
        vcpu_id: 2,
        vector: 0x38,
        trigger: Trigger::Edge,
        suppressed: false,
    };
    chip.begin_eoi(&eoi, &mut liar);
    assert_eq!(chip.rtc.pending(), 3);
    assert_eq!(chip.rtc.owed_by(2), None);
    assert_eq!(chip.rtc.owed_by(3), Some(0x38));
}

#[test]
fn a_delivered_edge_is_not_pending_in_the_saved_state() {
    let mut bench = Bench::with_entry(4, 0x41);
    bench.drive(4, true);
    assert_eq!(bench.irr(), 0);
    bench.program(5, MASKED | 0x42);
    bench.drive(5, true);
    bench.program(6, LEVEL | 0x43);
    bench.drive(6, true);
    assert_eq!(bench.irr(), 0b110_0000);
}

#[test]
fn a_second_edge_while_the_line_is_high_makes_the_first_pending_again() {
    let mut bench = Bench::with_entry(4, 0x41);
    bench.drive(4, true);
    assert_eq!(bench.drive(4, true), 0);
    assert_eq!(bench.irr(), 1 << 4);
}

#[test]
fn restoring_keeps_every_field_and_raises_what_was_pending() {
    let mut bench = Bench::new();
    let mut state = State {
        base_address: DEFAULT_BASE,
        ioregsel: 0x1234_5678,
        id: 0xffff_ffff,
        irr: 0xffff_fff0,
        pad: 0x8765_4321,
        redirtbl: [MASKED | 0x1_2345_0000_0000; 24],
    };
    state.redirtbl[4] = 0x41;
    state.redirtbl[5] = LEVEL | 0x42;
    state.redirtbl[6] = LEVEL | REMOTE_IRR | 0x43;
    bench.restore(&state);
    let vectors: Vec<u8> = bench.machine.delivered.iter().map(|m| m.vector).collect();
    assert_eq!(vectors, [0x41, 0x42]);
    assert_eq!(bench.machine.rescans, [Rescan::All]);
    let mut expected = state;
    expected.irr = 0x00ff_ffe0;
    expected.redirtbl[5] |= REMOTE_IRR;
    assert_eq!(bench.chip.state(), expected);
    assert_eq!(bench.read_register(0), 0x0f00_0000);
}

#[test]
fn restoring_raises_a_pin_once() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    let state = bench.chip.state();
    let mut target = Bench::new();
    target.restore(&state);
    assert_eq!(target.deliveries(), 0);
    assert_eq!(target.chip.state(), state);
    target.eoi(0, 0x51, Trigger::Level);
    assert_eq!(target.deliveries(), 1);
}

#[test]
fn restoring_takes_the_rtcs_account_anew() {
    let mut bench = Bench::with_entry(8, 0xff00_0000_0000_0038);
    bench.drive_asking(8, true);
    bench.drive_asking(8, false);
    for vcpu_id in 0..3 {
        bench.machine.pending[vcpu_id].clear();
    }
    let state = bench.chip.state();
    bench.restore(&state);
    assert_eq!(bench.drive_asking(8, true), 0);
    bench.drive_asking(8, false);
    bench.eoi(3, 0x38, Trigger::Edge);
    assert_eq!(bench.drive_asking(8, true), 4);
}

#[test]
fn restoring_leaves_the_lines() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    let state = IoApic::new().state();
    bench.restore(&state);
    let level = bench
        .chip
        .set_line(10, source::RESAMPLE, false, false, &mut bench.machine);
    // User space still holds it high.
    assert_eq!(level, -1);
    assert_eq!(bench.irr(), 1 << 10);
}

#[test]
fn every_assertion_is_traced_with_the_entry_before_it() {
    let mut bench = Bench::with_entry(10, LEVEL | 0x51);
    bench.drive(10, true);
    bench.drive(10, false);
    let entry = RedirectionEntry(LEVEL | 0x51);
    assert_eq!(
        bench.machine.traced,
        [(10, entry, false), (10, entry.with_remote_irr(true), false)]
    );
}

#[test]
fn the_saved_state_is_laid_out_as_kvm_ioapic_state() {
    assert_eq!(core::mem::size_of::<State>(), 216);
    assert_eq!(core::mem::offset_of!(State, ioregsel), 8);
    assert_eq!(core::mem::offset_of!(State, irr), 16);
    assert_eq!(core::mem::offset_of!(State, redirtbl), 24);
}
