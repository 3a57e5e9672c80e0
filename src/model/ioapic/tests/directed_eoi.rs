// SPDX-License-Identifier: GPL-2.0

//! The EOI register of version 0x20.

use super::super::*;
use super::*;

const PIN: u32 = 10;
const VECTOR: u8 = 0x51;

fn with_eoi_register() -> Bench {
    let mut bench = Bench::new();
    bench.chip.set_version(Version::WithEoi);
    bench.program(PIN, LEVEL | u64::from(VECTOR));
    bench
}

impl Bench {
    /// The guest writes the EOI register. False if there is none.
    fn write_eoi(&mut self, data: &[u8]) -> bool {
        let Some(vector) = self.chip.directed_eoi(DEFAULT_BASE + 0x40, data) else {
            return false;
        };
        let mut from = 0;
        while let Some(pin) = self.chip.next_directed(vector, from) {
            assert!(pin >= from);
            self.acknowledged.push(pin);
            (self.on_acknowledge)(self, pin);
            self.chip.end_directed(vector, pin, &mut self.machine);
            from = pin + 1;
        }
        true
    }

    fn suppressed_eoi(&mut self, trigger: Trigger) {
        self.complete(Eoi {
            vcpu_id: 0,
            vector: VECTOR,
            trigger,
            suppressed: true,
        });
    }
}

#[test]
fn the_version_says_that_there_is_one() {
    assert_eq!(with_eoi_register().read_register(1), 0x0017_0020);
}

#[test]
fn the_82093aa_has_none() {
    let mut bench = Bench::with_entry(PIN, LEVEL | u64::from(VECTOR));
    bench.drive(PIN, true);
    assert!(!bench.write_eoi(&[VECTOR, 0, 0, 0]));
    assert!(bench.remote_irr(PIN as usize));
}

#[test]
fn it_is_at_its_address_only() {
    let bench = with_eoi_register();
    for offset in (0..LENGTH).filter(|&offset| offset != 0x40) {
        let address = DEFAULT_BASE + offset;
        assert_eq!(bench.chip.directed_eoi(address, &[VECTOR]), None);
    }
    let beyond = DEFAULT_BASE + LENGTH + 0x40;
    assert_eq!(bench.chip.directed_eoi(beyond, &[VECTOR]), None);
    assert_eq!(bench.chip.directed_eoi(DEFAULT_BASE + 0x40, &[]), None);
}

#[test]
fn a_suppressed_eoi_waits_for_the_register() {
    let mut bench = with_eoi_register();
    bench.drive(PIN, true);
    bench.suppressed_eoi(Trigger::Level);
    assert!(bench.remote_irr(PIN as usize));
    assert_eq!(bench.acknowledged, [], "nobody is told yet");

    assert!(bench.write_eoi(&[VECTOR, 0, 0, 0]));
    assert_eq!(bench.acknowledged, [PIN as usize]);
    assert_eq!(bench.deliveries(), 2, "the line is still high");
    assert!(bench.remote_irr(PIN as usize));

    bench.drive(PIN, false);
    assert!(bench.write_eoi(&[VECTOR, 0, 0, 0]));
    assert_eq!(bench.deliveries(), 2);
    assert!(!bench.remote_irr(PIN as usize));
}

#[test]
fn without_suppression_the_local_apics_eoi_counts() {
    let mut bench = with_eoi_register();
    bench.drive(PIN, true);
    bench.drive(PIN, false);
    bench.eoi(0, VECTOR, Trigger::Level);
    assert!(!bench.remote_irr(PIN as usize));
    assert!(bench.write_eoi(&[VECTOR]));
    assert_eq!(bench.acknowledged, [PIN as usize], "once");
}

#[test]
fn an_edge_is_acknowledged_by_the_local_apic_in_any_case() {
    let mut bench = with_eoi_register();
    bench.program(4, u64::from(VECTOR));
    bench.drive(4, true);
    bench.suppressed_eoi(Trigger::Edge);
    assert!(bench.acknowledged.contains(&4));
    bench.acknowledged.clear();
    assert!(bench.write_eoi(&[VECTOR]));
    assert_eq!(bench.acknowledged, []);
}

#[test]
fn it_ends_all_pins_of_the_vector_and_no_other() {
    let mut bench = with_eoi_register();
    bench.program(3, LEVEL | u64::from(VECTOR));
    bench.program(23, LEVEL | u64::from(VECTOR));
    bench.program(11, LEVEL | 0x52);
    for pin in [3, PIN, 11, 23] {
        bench.drive(pin, true);
        bench.drive(pin, false);
    }
    assert!(bench.write_eoi(&[VECTOR]));
    assert_eq!(bench.acknowledged, [3, PIN as usize, 23]);
    assert!(bench.remote_irr(11));
}

#[test]
fn a_line_that_rises_during_the_eoi_is_delivered_again() {
    let mut bench = with_eoi_register();
    bench.drive(PIN, true);
    bench.drive(PIN, false);
    bench.on_acknowledge = |bench, _| {
        bench.drive(PIN, true);
    };
    assert!(bench.write_eoi(&[VECTOR]));
    assert_eq!(bench.deliveries(), 2);
}

#[test]
fn an_entry_that_changes_during_the_eoi_is_left_alone() {
    let mut bench = with_eoi_register();
    bench.drive(PIN, true);
    bench.on_acknowledge = |bench, _| bench.program(PIN, LEVEL | 0x61);
    assert!(bench.write_eoi(&[VECTOR]));
    assert!(
        bench.remote_irr(PIN as usize),
        "not of that vector any more"
    );
}

#[test]
fn a_storm_of_eois_is_slowed_down() {
    let mut bench = with_eoi_register();
    bench.drive(PIN, true);
    for _ in 0..MAX_SUCCESSIVE_EOIS {
        assert!(bench.write_eoi(&[VECTOR]));
    }
    assert_eq!(bench.machine.delays, 1);
}
