// SPDX-License-Identifier: GPL-2.0

//! The way of a message through a VM: from a sender to the local APICs that it
//! addresses.

use super::super::chips::RtcStatus;
use super::super::map::{DestinationMap, Target};
use super::super::multicast;
use super::super::stats::Event;
use super::super::vcpu::Vcpu;
use super::super::NOT_SUPPORTED;
use super::{Indexes, VcpuSet, Vm};
use crate::model::destination::{
    choose_lowest_priority, matches, slow_path_message, Resolution, Source,
};
use crate::model::lapic::Shared;
use crate::model::message::{DeliveryMode, DestinationMode, Message, Shorthand};
use crate::model::sync::Ordering;
use core::ptr::NonNull;
use kernel::ffi::c_int;
use kernel::prelude::*;
use kernel::sync::rcu;

impl Vm {
    /// What the map says about a message, given to `f`.
    #[inline]
    fn resolve<R>(
        &self,
        source: Option<&Vcpu>,
        message: &Message,
        f: impl FnOnce(Resolution<'_, Target>) -> R,
    ) -> R {
        let guard = rcu::read_lock();
        f(match self.map.get(&guard) {
            Some(map) => map.resolve(message, kind(source), &self.policy(), |target| {
                arbitration_priority(as_vcpu(&target))
            }),
            None if message.shorthand == Shorthand::Own && source.is_some() => Resolution::Sender,
            None => Resolution::Slow,
        })
    }

    /// The vCPUs that `message` addresses, asked one by one.
    fn matching<'a>(
        &'a self,
        source: Option<&'a Vcpu>,
        message: &'a Message,
    ) -> impl Iterator<Item = &'a Vcpu> + Clone {
        let policy = self.policy();
        self.vcpus().filter(move |vcpu| {
            vcpu.identity().is_some_and(|identity| {
                let is_sender = source.is_some_and(|source| core::ptr::eq(source, *vcpu));
                matches(&identity, message, kind(source), is_sender, &policy)
            })
        })
    }

    pub(super) fn for_each_destination(&self, message: &Message, mut visit: impl FnMut(&Vcpu)) {
        let resolved = self.resolve(None, message, |resolution| match resolution {
            Resolution::Targets(targets) => {
                for target in targets {
                    visit(as_vcpu(&target));
                }
                true
            }
            Resolution::All(all) => {
                for target in all {
                    visit(as_vcpu(&target));
                }
                true
            }
            Resolution::Sender | Resolution::Others(_) | Resolution::Slow => false,
        });
        if !resolved {
            self.matching(None, message).for_each(visit);
        }
    }

    /// Delivers a message if the map knows its destinations; none if it does
    /// not, and nothing has been done then. Any context.
    ///
    /// The result is KVM's account: the number of local APICs that took it.
    #[inline(always)]
    pub(in crate::kvm) fn deliver_fast(
        &self,
        source: Option<&Vcpu>,
        message: &Message,
        rtc: Option<&mut RtcStatus>,
    ) -> Option<i32> {
        self.unicast(source, message, rtc.is_some())
            .or_else(|| self.deliver_bounded(source, *message, rtc))
    }

    /// What is sent most, in the fewest instructions: a fixed interrupt for one
    /// APIC, by its physical ID or by the sender to itself. None if it is something
    /// else, its EOI is tracked, or there is no such APIC. Any context.
    #[inline(always)]
    fn unicast(&self, source: Option<&Vcpu>, message: &Message, is_tracked: bool) -> Option<i32> {
        let accept = |vcpu: &Vcpu| {
            let apic = vcpu.apic();
            apic.accept_asserted(message.trigger, message.vector)
        };
        if is_tracked
            || message.delivery_mode != DeliveryMode::Fixed
            || message.trigger.is_level() && !message.assert
        {
            return None;
        }
        match (message.shorthand, message.destination_mode) {
            (Shorthand::Own, _) => Some(accept(source?).into()),
            (Shorthand::None, DestinationMode::Physical) => {
                let guard = rcu::read_lock();
                let target = self.map.get(&guard)?.single(message.destination)?;
                Some(accept(as_vcpu(&target)).into())
            }
            _ => None,
        }
    }

    /// [`Self::deliver_fast`] for any other message.
    #[inline(never)]
    fn deliver_bounded(
        &self,
        source: Option<&Vcpu>,
        message: Message,
        mut rtc: Option<&mut RtcStatus>,
    ) -> Option<i32> {
        self.resolve(source, &message, |resolution| match resolution {
            Resolution::All(all) | Resolution::Others(all) if all.count() > multicast::MAX_FAST => {
                None
            }
            resolution => self.deliver_resolved(source, &message, resolution, &mut rtc),
        })
    }

    /// Delivers a message to the destinations that the map has for it, if it has;
    /// any number of them.
    #[inline]
    fn deliver_resolved(
        &self,
        source: Option<&Vcpu>,
        message: &Message,
        resolution: Resolution<'_, Target>,
        rtc: &mut Option<&mut RtcStatus>,
    ) -> Option<i32> {
        match resolution {
            Resolution::Sender => source.map(|vcpu| accept(vcpu, message, rtc)),
            Resolution::Targets(mut targets) if targets.is_single() => Some(
                targets
                    .next()
                    .map_or(0, |target| accept(as_vcpu(&target), message, rtc)),
            ),
            Resolution::Targets(targets) => Some(self.accept_all(targets, message, rtc)),
            Resolution::All(all) => Some(self.accept_all(all, message, rtc)),
            Resolution::Others(all) => {
                let source = source.map(NonNull::from);
                let others = all.filter(|target| Some(*target) != source);
                Some(self.accept_all(others, message, rtc))
            }
            Resolution::Slow => None,
        }
    }

    /// Gives a message to all `targets`; returns how many took it.
    #[inline]
    fn accept_all(
        &self,
        targets: impl Iterator<Item = Target>,
        message: &Message,
        rtc: &mut Option<&mut RtcStatus>,
    ) -> i32 {
        // SAFETY: As for `as_vcpu`: all of them live as long as the VM.
        let vcpus = targets.map(|target| unsafe { &*target.as_ptr() });
        if rtc.is_none() {
            self.give_all(vcpus, message)
        } else {
            vcpus.map(|vcpu| accept(vcpu, message, rtc)).sum()
        }
    }

    /// Gives a message to all `vcpus`; returns how many took it.
    #[inline]
    fn give_all<'a>(&self, vcpus: impl Iterator<Item = &'a Vcpu>, message: &Message) -> i32 {
        let accept = |vcpu: &Vcpu| accept(vcpu, message, &mut None);
        if !multicast::is_plain(message) {
            vcpus.map(accept).sum()
        } else if !self.may_be_accelerated {
            multicast::accept_all(vcpus, message)
        } else if self.has_posted_interrupts {
            multicast::post_all(vcpus, message, accept)
        } else {
            vcpus.map(accept).sum()
        }
    }

    /// Delivers a message. Task context; takes time in proportion to the
    /// number of vCPUs if the map does not know the destinations.
    ///
    /// The result is KVM's account: negative if no local APIC is addressed,
    /// else the number of those that took it.
    #[inline(always)]
    pub(in crate::kvm) fn deliver(
        &self,
        source: Option<&Vcpu>,
        message: &Message,
        rtc: Option<&mut RtcStatus>,
    ) -> i32 {
        self.unicast(source, message, rtc.is_some())
            .unwrap_or_else(|| self.deliver_anyhow(source, *message, rtc))
    }

    /// [`Self::deliver`] for any other message.
    #[inline(never)]
    fn deliver_anyhow(
        &self,
        source: Option<&Vcpu>,
        message: Message,
        mut rtc: Option<&mut RtcStatus>,
    ) -> i32 {
        let resolved = self.resolve(source, &message, |resolution| {
            self.deliver_resolved(source, &message, resolution, &mut rtc)
        });
        if let Some(delivered) = resolved {
            return delivered;
        }
        let message = slow_path_message(&message);
        let matching = self.matching(source, &message);
        if message.is_lowest_priority() {
            let enabled = matching.filter(|vcpu| vcpu.apic().is_software_enabled());
            let policy = self.policy();
            choose_lowest_priority(enabled, message.vector, &policy, |vcpu| {
                arbitration_priority(vcpu)
            })
            .map_or(-1, |vcpu| accept(vcpu, &message, &mut rtc))
        } else {
            matching
                .map(|vcpu| accept(vcpu, &message, &mut rtc))
                .fold(-1, |sum: i32, taken| sum.max(0) + taken)
        }
    }

    /// The only vCPU that `message` can go to, if there is just one: the
    /// destination of a posted interrupt. Any context.
    pub(in crate::kvm) fn single_destination(&self, message: &Message) -> Option<&Vcpu> {
        let fast = self.resolve(None, message, |resolution| match resolution {
            Resolution::Targets(mut targets) if targets.is_single() => targets.next(),
            _ => None,
        });
        if let Some(target) = fast {
            // SAFETY: A vCPU in the map lives as long as the VM.
            return Some(unsafe { &*target.as_ptr() });
        }
        let policy = self.policy();
        let mut found = None;
        for vcpu in self.vcpus() {
            let Some(identity) = vcpu.identity() else {
                continue;
            };
            if matches(&identity, message, Source::Device, false, &policy) {
                if found.is_some() {
                    return None;
                }
                found = Some(vcpu);
            }
        }
        found
    }

    /// The vCPU with that physical APIC ID, as the map has it. Any context.
    pub(in crate::kvm) fn vcpu_by_apic_id(&self, id: u32) -> Option<&Vcpu> {
        let guard = rcu::read_lock();
        let target = self.map.get(&guard)?.physical(id)?;
        // SAFETY: A vCPU in the map lives as long as the VM.
        Some(unsafe { &*target.as_ptr() })
    }

    /// `KVM_HC_SEND_IPI`: sends to those of `2 * 64` (or 32) APIC IDs from
    /// `min` on whose bits are set. Returns the number of local APICs that took
    /// it, or a negative errno of the hypercall's. The vCPU's thread.
    pub(in crate::kvm) fn pv_send_ipi(
        &self,
        bitmaps: [u64; 2],
        min: u32,
        icr: u64,
        is_64_bit: bool,
    ) -> c_int {
        // Destination mode and shorthand: the bitmaps are physical IDs.
        if icr & (0x800 | 0xc_0000) != 0 {
            return EINVAL.to_errno();
        }
        let message = Message::from_icr(icr as u32, 0);
        let guard = rcu::read_lock();
        let Some(map) = self.map.get(&guard) else {
            return NOT_SUPPORTED;
        };
        let step = if is_64_bit { 64 } else { 32 };
        let mut taken = 0;
        for (first, bitmap) in [min, min.wrapping_add(step)].into_iter().zip(bitmaps) {
            if bitmap == 0 {
                continue;
            }
            let targets = map.physical_range(first, bitmap);
            taken += self.accept_all(targets, &message, &mut None);
        }
        self.stats().count(Event::Ipi, taken as u64);
        taken
    }

    /// Sends a fixed, edge-triggered interrupt to the vCPUs of a set, or to all. A
    /// vCPU's thread.
    pub(in crate::kvm) fn send_to(&self, set: Option<&VcpuSet>, vector: u8) {
        let message = Message::from_icr(vector.into(), 0);
        let guard = rcu::read_lock();
        let map = self.map.get(&guard);
        let taken = match (set, map) {
            (Some(set), _) => {
                let indexes = set.indexes(self.online_vcpus());
                let vm = self;
                self.give_all(Members { vm, map, indexes }, &message)
            }
            (None, Some(map)) => self.accept_all(map.all(), &message, &mut None),
            (None, None) => self.give_all(self.vcpus(), &message),
        };
        self.stats().count(Event::Ipi, taken as u64);
    }

    /// Counts a message that KVM has sent through ferric.
    pub(in crate::kvm) fn count_message(
        &self,
        source: Option<&Vcpu>,
        message: &Message,
        delivered: i32,
    ) {
        // KVM_HC_KICK_CPU comes as a message, too, but interrupts nobody.
        if delivered > 0 && message.delivery_mode != DeliveryMode::RemoteRead {
            let event = match source {
                Some(_) => Event::Ipi,
                None => Event::Msi,
            };
            self.stats().count(event, delivered as u64);
        }
    }
}

/// The vCPUs of a set.
struct Members<'a> {
    vm: &'a Vm,
    map: Option<&'a DestinationMap>,
    indexes: Indexes<'a>,
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a Vcpu;

    #[inline(always)]
    fn next(&mut self) -> Option<&'a Vcpu> {
        loop {
            let index = self.indexes.next()?;
            // Mostly a vCPU's ID is its index, and the map is at hand.
            if let Some(target) = self.map.and_then(|map| map.physical(index)) {
                // SAFETY: As for `as_vcpu`: it lives as long as the VM.
                let vcpu: &Vcpu = unsafe { &*target.as_ptr() };
                if vcpu.index() == index {
                    return Some(vcpu);
                }
            }
            if let Some(vcpu) = self.vm.vcpu(index as usize) {
                return Some(vcpu);
            }
        }
    }
}

/// Where a message comes from, in the model's terms.
#[inline]
fn kind(source: Option<&Vcpu>) -> Source {
    match source {
        Some(vcpu) => Source::Apic {
            is_x2apic: vcpu.apic().is_x2apic(),
        },
        None => Source::Device,
    }
}

/// The vCPU in a slot of the map, for as long as the slot is looked at.
#[inline(always)]
fn as_vcpu(target: &Target) -> &Vcpu {
    // SAFETY: A map holds vCPUs that are online, which live as long as the VM;
    // it is looked at only through the VM.
    unsafe { target.as_ref() }
}

fn arbitration_priority(vcpu: &Vcpu) -> i32 {
    vcpu.arbitration_priority().load(Ordering::Relaxed) as i32
}

/// Gives a message to a vCPU; 1 if it took it, 0 if not. Notes an EOI that it
/// then owes the RTC.
#[inline]
fn accept(vcpu: &Vcpu, message: &Message, rtc: &mut Option<&mut RtcStatus>) -> i32 {
    let taken = vcpu.apic().accept(message);
    if let Some(rtc) = rtc {
        if taken
            && matches!(
                message.delivery_mode,
                DeliveryMode::Fixed | DeliveryMode::LowestPriority
            )
        {
            rtc.record(vcpu.id(), message.vector);
        }
    }
    taken.into()
}
