// SPDX-License-Identifier: GPL-2.0

use super::super::*;
use super::*;

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
fn an_accelerated_eoi_that_is_found_out_is_told_to_nobody() {
    // Whoever is told may drive a line, for which EOIs are looked for.
    for pin in [3, 8] {
        let mut bench = Bench::with_entry(pin, 0x38);
        bench.machine.accelerated = true;
        bench.machine.notifiers = vec![pin as usize];
        bench.machine.resamplers = vec![pin as usize];
        for _ in 0..2 {
            bench.drive_asking(pin, true);
            bench.drive_asking(pin, false);
            bench.machine.pending = Default::default();
        }
        assert!(bench.machine.resampled.is_empty());
        assert!(bench.acknowledged.is_empty());
    }
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

/// Says that nobody took the interrupt, which every vCPU has.
struct Liar(Machine);
impl Host for Liar {
    fn deliver(&mut self, message: &Message, rtc: Option<&mut RtcStatus>) -> i32 {
        self.0.deliver(message, rtc);
        0
    }
    fn eoi_is_accelerated(&self) -> bool {
        false
    }
    fn for_each_target(&self, message: &Message, visit: impl FnMut(u32, bool) -> ControlFlow<()>) {
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

#[test]
fn an_account_of_the_rtc_that_does_not_add_up_is_taken_anew() {
    // CVE-2014-0155: the count of EOIs owed went below zero.
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
fn an_account_of_the_rtc_that_a_restored_apic_contradicts_is_taken_anew() {
    let Bench {
        mut chip, machine, ..
    } = Bench::with_entry(8, 0xff00_0000_0000_0038);
    let mut liar = Liar(machine);
    chip.set_line(8, source::USERSPACE, true, true, &mut liar);
    liar.0.pending[2].clear();
    chip.restore_rtc(2, &mut liar, |_| Some(false));
    assert_eq!(chip.rtc.pending(), 3);
    assert_eq!(chip.rtc.owed_by(2), None);
    assert_eq!(chip.rtc.owed_by(3), Some(0x38));
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
