// SPDX-License-Identifier: GPL-2.0

//! What the model's frequent operations cost in time on this machine, without
//! KVM, kernel and guest around them: for comparing one version of the model with
//! another. What they cost in all, beside KVM's own irqchip, is counted by
//! `selftests/bench`.

use criterion::{criterion_group, criterion_main, Bencher, Criterion};
use std::hint::black_box;
use std::time::{Duration, Instant};

#[allow(dead_code)]
#[path = "../../src/model/lapic/tests/fake.rs"]
mod fake;
use ferric_model::{lapic, message, sync};

#[path = "costs/chips.rs"]
mod chips;
#[path = "costs/destinations.rs"]
mod destinations;
#[path = "costs/local_apic.rs"]
mod local_apic;

/// Measures an operation that uses something up: after `number` of them, each of
/// which is told how many were before it, all is prepared anew, unmeasured.
fn rounds<T>(
    bencher: &mut Bencher,
    number: u64,
    mut prepare: impl FnMut(),
    mut operation: impl FnMut(u64) -> T,
) {
    bencher.iter_custom(|iterations| {
        let mut left = iterations;
        let mut time = Duration::ZERO;
        while left != 0 {
            let round = left.min(number);
            prepare();
            let start = Instant::now();
            for i in 0..round {
                black_box(operation(black_box(i)));
            }
            time += start.elapsed();
            left -= round;
        }
        time
    });
}

fn configured() -> Criterion {
    Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = costs;
    config = configured();
    targets = local_apic::costs, destinations::costs, chips::costs
}
criterion_main!(costs);
