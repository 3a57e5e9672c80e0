// SPDX-License-Identifier: GPL-2.0

//! A message for many vCPUs, in two phases: first each of them is marked, then
//! those that must be told are told together, by one interrupt to all of their
//! CPUs.
//!
//! With posted interrupts, marking is posting and telling a notification. With
//! AVIC, of which ferric does not know how, each delivery is one by itself.

use super::bindings;
use super::vcpu::Vcpu;
use crate::model::message::{DeliveryMode, Message};
use crate::model::sync::{fence, Ordering};
use core::ptr::null_mut;
use kernel::ffi::c_uint;

/// Most local APICs that a message goes to where interrupts may be off, as on
/// the exit fast path: some ten thousand instructions. For more the sender comes
/// again, where it can be preempted.
pub(super) const MAX_FAST: usize = 256;

/// vCPUs that must be told at a time. Few of many mostly run or sleep, and the
/// array is on the stack, and cleared when the first one comes.
const BATCH: usize = 8;

/// How vCPUs are told.
#[derive(Clone, Copy)]
enum Means {
    Kick,
    Notification,
}

/// vCPUs that have been asked for something and must be told so.
struct Told {
    vcpus: [*mut bindings::kvm_vcpu; BATCH],
    count: usize,
}

impl Told {
    #[inline(always)]
    fn new() -> Self {
        Self {
            vcpus: [null_mut(); BATCH],
            count: 0,
        }
    }

    /// The vCPU will be told.
    #[inline]
    fn add(&mut self, vcpu: &Vcpu, means: Means) {
        if self.count >= BATCH {
            self.tell(means);
        }
        if let Some(slot) = self.vcpus.get_mut(self.count) {
            *slot = vcpu.as_kvm_vcpu();
            self.count += 1;
        }
    }

    /// Tells them: wakes those that sleep; the others leave the guest, or their
    /// CPUs are notified.
    fn tell(&mut self, means: Means) {
        if self.count == 0 {
            return;
        }
        let (vcpus, count) = (self.vcpus.as_mut_ptr(), self.count as c_uint);
        // SAFETY: The first `count` are vCPUs of a VM that is alive, as those were
        // that they came from; any context will do.
        unsafe {
            match means {
                Means::Kick => bindings::ferric_kick_many(vcpus, count),
                Means::Notification => bindings::ferric_notify_many(vcpus, count),
            }
        }
        self.count = 0;
    }
}

/// Can [`accept_all`] take the message?
#[inline]
pub(super) fn is_plain(message: &Message) -> bool {
    message.delivery_mode == DeliveryMode::Fixed && !message.trigger.is_level()
}

/// Gives an edge-triggered fixed message to all `vcpus`, of a VM that is not
/// accelerated; returns how many took it. Any context, no lock.
#[inline]
pub(super) fn accept_all<'a>(vcpus: impl Iterator<Item = &'a Vcpu>, message: &Message) -> i32 {
    if Vcpu::traces_acceptance() {
        accept_traced(vcpus, message)
    } else {
        accept_each::<false>(vcpus, message)
    }
}

/// Not inlined, or the compiler does not inline any more what is in the other loop.
#[inline(never)]
fn accept_traced<'a>(vcpus: impl Iterator<Item = &'a Vcpu>, message: &Message) -> i32 {
    accept_each::<true>(vcpus, message)
}

/// [`accept_all`]; whether it is traced is asked once for all vCPUs.
#[inline(always)]
fn accept_each<'a, const TRACED: bool>(
    vcpus: impl Iterator<Item = &'a Vcpu>,
    message: &Message,
) -> i32 {
    // ORDERING: What the sender has stored before, for those who take the
    // interrupt to see; it may be pending already, and then nothing is stored
    // below that would be ordered after it.
    fence(Ordering::SeqCst);
    let mut told = None;
    let mut taken = 0;
    for vcpu in vcpus {
        if !vcpu.apic().receives_edge(message.vector) {
            continue;
        }
        if vcpu.apic().mark(message.vector) && vcpu.asking().ask() {
            told.get_or_insert_with(Told::new).add(vcpu, Means::Kick);
        }
        if TRACED {
            vcpu.trace_taken(message);
        }
        taken = i32::wrapping_add(taken, 1);
    }
    if let Some(told) = &mut told {
        told.tell(Means::Kick);
    }
    taken
}

/// The same for a VM whose interrupts the CPU may deliver as posted ones; `accept`
/// gives it to a vCPU to which it does not.
#[inline]
pub(super) fn post_all<'a>(
    vcpus: impl Iterator<Item = &'a Vcpu>,
    message: &Message,
    accept: impl Fn(&Vcpu) -> i32,
) -> i32 {
    if Vcpu::traces_acceptance() {
        post_traced(vcpus, message, accept)
    } else {
        post_each::<false>(vcpus, message, accept)
    }
}

/// As [`accept_traced`].
#[inline(never)]
fn post_traced<'a>(
    vcpus: impl Iterator<Item = &'a Vcpu>,
    message: &Message,
    accept: impl Fn(&Vcpu) -> i32,
) -> i32 {
    post_each::<true>(vcpus, message, accept)
}

/// [`post_all`]; whether it is traced is asked once for all vCPUs.
#[inline(always)]
fn post_each<'a, const TRACED: bool>(
    vcpus: impl Iterator<Item = &'a Vcpu>,
    message: &Message,
    accept: impl Fn(&Vcpu) -> i32,
) -> i32 {
    let mut told = None;
    let mut taken = 0;
    for vcpu in vcpus {
        let Some(descriptor) = vcpu.posts_directly() else {
            taken = i32::wrapping_add(taken, accept(vcpu));
            continue;
        };
        if !vcpu.apic().receives_edge(message.vector) {
            continue;
        }
        if descriptor.post(message.vector) && vcpu.asking().must_be_told() {
            told.get_or_insert_with(Told::new)
                .add(vcpu, Means::Notification);
        }
        if TRACED {
            vcpu.trace_taken(message);
            vcpu.trace_posted(message.delivery_mode, message.trigger, message.vector);
        }
        taken = i32::wrapping_add(taken, 1);
    }
    if let Some(told) = &mut told {
        told.tell(Means::Notification);
    }
    taken
}
