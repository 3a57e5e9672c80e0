// SPDX-License-Identifier: GPL-2.0

//! Runs sequences of steps on both sides, and compares.

use super::harness::{self, report, runner, Unavailable};
use ferric_model::{lapic, message, sync};
use proptest::collection::vec;
use proptest::prelude::*;
use std::cell::Cell;
use std::fmt;
use std::process::ExitCode;

#[allow(dead_code)]
#[path = "../../../src/model/lapic/tests/fake.rs"]
mod fake;
mod guest;
mod host;
mod kvm;
mod look;
mod machine;
mod model;
mod step;

use host::{Host, Settings, PARKED, PARKED_REGISTER};
use kvm::OnKvm;
use look::difference;
use model::OnModel;
use step::{default_routes, set_up, step, Step, CPUS};

/// Number of sequences, if not `FERRIC_REFERENCE_CASES`, and the longest one's
/// steps.
const CASES: u32 = 25;
const MAX_STEPS: usize = 600;

/// Offset of the ID register.
const ID: u16 = 0x20;

/// Monotonic time in ns, by the clock that KVM's 8254 uses.
fn now() -> i64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: The function writes to `time`.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    assert_eq!(result, 0);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Steps, of which one is written in a line.
#[derive(Clone)]
struct Sequence(Vec<Step>);

impl fmt::Debug for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|step| write!(f, "\n    {step:x?}"))
    }
}

/// Does the steps on both sides; counts those that make sense.
fn compare(
    host: &Host,
    settings: &Settings,
    steps: &[Step],
    count: &Cell<usize>,
) -> Result<(), TestCaseError> {
    let failed = |what: &str, why: String| TestCaseError::fail(format!("{what}: {why}"));
    let on_kvm = |error: kvm_ioctls::Error| failed("KVM", error.to_string());

    let routes = default_routes();
    let begin = now();
    let mut kvm = OnKvm::new(&host.kvm, settings, &routes).map_err(on_kvm)?;
    for cpu in 0..CPUS {
        kvm.arrive(cpu).map_err(|why| failed("the guest", why))?;
    }
    kvm.set_lapic_register(PARKED, ID, PARKED_REGISTER)
        .map_err(on_kvm)?;
    let look = kvm.look().map_err(on_kvm)?;

    let mut model = OnModel::new(settings, &routes, begin);
    model.set_lapic_register(PARKED, ID, PARKED_REGISTER);
    model.created((begin, now()), &look);
    if let Some(difference) = difference(&look, &model.look()) {
        return Err(failed("KVM and the model after creation", difference));
    }

    for step in set_up().iter().chain(steps) {
        let makes_sense = match *step {
            Step::Take(cpu) => model.machine.may_take(cpu),
            Step::Timer(cpu, ..) => model.machine.may_time(cpu),
            _ => true,
        };
        if !makes_sense {
            continue;
        }
        count.set(count.get() + 1);
        let from = now();
        let answer = kvm
            .step(step)
            .map_err(|why| failed(&format!("{step:x?}"), why))?;
        let to = now();
        let look = kvm.look().map_err(on_kvm)?;
        let by_model = model.step(step, (from, to), (&answer, &look));
        prop_assert_eq!(&answer, &by_model, "answer to {:x?}", step);
        if let Some(difference) = difference(&look, &model.look()) {
            let after = format!("KVM and the model after {step:x?}");
            return Err(failed(&after, difference));
        }
    }
    Ok(())
}

pub fn run() -> ExitCode {
    let host = Host::find().map_err(Unavailable::Here);
    harness::run("live_kvm", 1, host, |host| {
        let count = Cell::new(0);
        let ids = prop::sample::select(&[[0_u32, 1, 2], [0, 5, 0x12], [0, 1, 0x123]][..]);
        let steps = vec(step(), 1..MAX_STEPS).prop_map(Sequence);
        let result = runner(CASES).run(&(ids, any::<(bool, bool)>(), steps), |case| {
            let (ids, flags, Sequence(steps)) = case;
            let settings = host.settings(ids, flags);
            let as_it_is = |step: Step| match settings.host.has_tpr_of_cr8 {
                true => step.with_tpr_of_cr8(),
                false => step,
            };
            let steps: Vec<_> = steps.into_iter().map(as_it_is).collect();
            compare(host, &settings, &steps, &count)
        });
        vec![report("steps_of_a_machine", count.take(), result)]
    })
}
