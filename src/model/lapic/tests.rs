// SPDX-License-Identifier: GPL-2.0

//! Tests of the local APIC against a machine that the tests control.

// What `fake` imports, under the names that it has in `selftests/host` too.
use super::super::{lapic, message, sync};

mod acceptance;
mod base;
mod eoi;
mod fake;
mod hrtimer;
mod posted;
mod priority;
mod registers;
mod restored;
mod sending;
mod state;
mod timer;
mod vapic;
