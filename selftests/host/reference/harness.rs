// SPDX-License-Identifier: GPL-2.0

//! How a comparison of the model with KVM is run and reported.

use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use std::env;
use std::fmt::Debug;
use std::process::ExitCode;

fn number(name: &str, default: u32) -> u32 {
    let value = env::var(name).ok().and_then(|value| value.parse().ok());
    value.unwrap_or(default)
}

/// What chooses the sequences.
fn seed() -> u32 {
    number("FERRIC_REFERENCE_SEED", 0)
}

/// A runner for `FERRIC_REFERENCE_CASES` sequences, or so many.
pub fn runner(cases: u32) -> TestRunner {
    let config = Config {
        cases: number("FERRIC_REFERENCE_CASES", cases),
        // Of a step, which is drawn once more; in proportion to all of them.
        max_local_rejects: u32::MAX,
        failure_persistence: None,
        max_shrink_iters: 100_000,
        max_shrink_time: 120_000,
        ..Config::default()
    };
    let seed = seed();
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Why there is nothing to compare with.
pub enum Unavailable {
    /// The machine lacks what is needed.
    Here(String),
    /// It should be there.
    Broken(String),
}

/// Runs `compare`, which gives the outcome of each of its `tests` tests, with
/// what is to be compared with; says so if that is not to be had here.
pub fn run<L>(
    name: &str,
    tests: u32,
    reference: Result<L, Unavailable>,
    compare: impl FnOnce(&L) -> Vec<bool>,
) -> ExitCode {
    let reference = match reference {
        Ok(reference) => reference,
        Err(Unavailable::Here(reason)) => {
            println!("test {name} ... ignored, {reason}");
            return finish(0, 0, tests);
        }
        Err(Unavailable::Broken(reason)) => {
            println!("test {name} ... FAILED\n{reason}");
            return finish(0, tests, 0);
        }
    };
    let outcomes = compare(&reference);
    let passed = outcomes.iter().map(|&passed| u32::from(passed)).sum();
    finish(passed, tests - passed, 0)
}

/// Says how a comparison of `count` ended, as Cargo's own tests say it.
pub fn report<T: Debug>(what: &str, count: usize, result: Result<(), TestError<T>>) -> bool {
    match &result {
        Ok(()) => println!("test {what}_are_those_of_kvm ... ok, {count} compared"),
        Err(error) => println!(
            "test {what}_are_those_of_kvm ... FAILED\n{error}\nFERRIC_REFERENCE_SEED={}",
            seed()
        ),
    }
    result.is_ok()
}

/// Sums up, likewise.
fn finish(passed: u32, failed: u32, ignored: u32) -> ExitCode {
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
