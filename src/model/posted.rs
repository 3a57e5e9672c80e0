// SPDX-License-Identifier: GPL-2.0

//! Posted interrupts: how devices, other vCPUs and ferric itself put interrupts
//! into a vCPU that runs, without an exit, and wake one that sleeps.
//!
//! Each vCPU has a [`Descriptor`] of 64 bytes that the CPU and the IOMMU know
//! by its physical address. Whoever sends sets the vector's bit in PIR, then ON,
//! and notifies the processor NDST by the vector NV, unless SN says that nobody
//! is to be disturbed or ON that somebody has been notified already.
//! [`Life`] is the only one that changes SN, NV and NDST, by transitions between
//! the four phases of a vCPU:
//!
//! ```text
//!                    suppress()                     halt()
//!      Ready  <-------------------  Active  ------------------->  Halted
//!      SN = 1 ------------------->  SN = 0  <-------------------  SN = 0
//!  (and Created)   activate()       NV = active    activate()     NV = wake-up
//!                                   NDST = its CPU                NDST = its last CPU
//! ```
//!
//! - *Active*: loaded on a processor, in the guest or not. A notification there
//!   makes the CPU take PIR over if it is in the guest, and is nothing otherwise:
//!   the vCPU's thread looks at PIR before each entry.
//! - *Ready*: not loaded, but its thread will run anyway, so that nobody need
//!   be told.
//! - *Halted*: its thread sleeps. A notification comes as the wake-up vector, whose
//!   handler wakes it.
//! - Whether APICv is inhibited changes nothing of this: the IOMMU posts all the
//!   same, and what it posted is harvested before the entry.
//!
//! # What makes it safe
//!
//! - ON may be set by others at any time, so the word that holds it, SN, NV and
//!   NDST is changed by compare-and-exchange or by one locked operation.
//! - While SN is set, senders leave bits in PIR without ON. Whoever clears SN
//!   looks at PIR afterwards, and sets ON in their place.
//! - A sender that has set ON before NV became the wake-up vector has notified
//!   by the other one, which wakes nobody. Whoever changes NV to it looks at ON
//!   in the same exchange, and wakes the vCPU in its place.
//! - ON is cleared before PIR is read: a bit set after that comes with an ON of
//!   its own.
//!
//! Source: Intel SDM volume 3, "Posted-Interrupt Processing"; Intel VT-d
//! specification, "Interrupt Posting" and "Posted Interrupt Descriptor (PID)".

mod descriptor;
mod life;
mod sleepers;

#[cfg(test)]
mod tests;

pub use descriptor::{Control, Descriptor, Notification, Pir};
pub use life::{Host, Life, Phase};
pub use sleepers::{Sleepers, CAPACITY};
