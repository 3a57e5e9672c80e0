// SPDX-License-Identifier: GPL-2.0

//! A VM: its chips, its destination map, and the way of a message through it.

use super::bindings;
use super::chips::Chips;
use super::field::Field;
use super::map::{Published, Target};
use super::multicast;
use super::stats::{self, Event, Stats};
use super::vcpu::Vcpu;
use crate::model::destination::{
    choose_lowest_priority, matches, slow_path_message, Policy, Resolution, Source,
};
use crate::model::ioapic::{Rescan, RtcStatus};
use crate::model::lapic::{Shared, SuppressEoiBroadcast};
use crate::model::message::{DeliveryMode, Message, Shorthand};
use crate::model::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::ptr::NonNull;
use kernel::debugfs::File;
use kernel::ffi::{c_int, c_uint, c_ulong, c_void};
use kernel::prelude::*;
use kernel::sync::{new_mutex, rcu, Mutex};
use kernel::types::ForeignOwnable;
use upkeep::Followed;

mod upkeep;

/// Fields of `struct kvm`.
struct Fields {
    map_dirty: Field<AtomicU32>,
    nmi_watchdogs: Field<AtomicU32>,
    bus_cycle_ns: Field<AtomicU64>,
    x2apic_format: Field<AtomicBool>,
    broadcast_quirk_disabled: Field<AtomicBool>,
}

/// A set of vCPUs, by index, in the form of KVM's bitmaps.
#[repr(transparent)]
pub(super) struct VcpuSet([c_ulong; MAX_VCPUS.div_ceil(c_ulong::BITS as usize)]);

const MAX_VCPUS: usize = bindings::FERRIC_MAX_VCPUS as usize;

impl VcpuSet {
    const EMPTY: Self = Self([0; MAX_VCPUS.div_ceil(c_ulong::BITS as usize)]);

    /// The indexes below `count` that are in the set.
    fn indexes(&self, count: usize) -> impl Iterator<Item = u32> + '_ {
        const BITS: usize = c_ulong::BITS as usize;
        let words = self.0.iter().take(count.div_ceil(BITS));
        words.enumerate().flat_map(|(i, &word)| {
            let mut rest = word;
            core::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some((i * BITS) as u32 + bit)
            })
        })
    }

    fn add(&mut self, index: u32) {
        let index = index as usize;
        if let Some(word) = self.0.get_mut(index / c_ulong::BITS as usize) {
            *word |= 1 << (index % c_ulong::BITS as usize);
        }
    }
}

/// A VM whose irqchip ferric provides.
///
/// # Invariants
///
/// `kvm` is the VM, which outlives this.
#[pin_data]
pub(super) struct Vm {
    kvm: NonNull<bindings::kvm>,
    fields: Fields,
    /// None in split mode, where these chips are user space's.
    chips: Option<Pin<KBox<Chips>>>,
    /// The index of the vCPU whose change the map has to follow, or what `upkeep`
    /// has for none and for several.
    map_dirty_vcpu: AtomicU32,
    map: Published,
    /// Held while the map is brought up to date.
    #[pin]
    map_lock: Mutex<Followed>,
    vector_hashing: bool,
    has_posted_interrupts: bool,
    may_be_accelerated: bool,
    has_hv_timer: bool,
    x2apic_icr_is_split: bool,
    #[pin]
    stats: File<Stats>,
}

impl Vm {
    /// Makes ferric's object for a VM and ties it to the VM. Sleeps.
    ///
    /// # Safety
    ///
    /// `kvm` must be alive, without vCPUs, and not be served by ferric yet;
    /// [`Self::detach`] must be called before it goes. `kvm->lock` is held.
    pub(super) unsafe fn attach(kvm: NonNull<bindings::kvm>, split: bool) -> Result {
        let chips = if split {
            None
        } else {
            // SAFETY: By this function's requirements; the chips go with the
            // object, which is attached before there are vCPUs.
            Some(unsafe { Chips::new(kvm)? })
        };
        let mut raw = bindings::ferric_vm_fields::default();
        // SAFETY: By this function's requirements.
        unsafe { bindings::ferric_vm_fields(kvm.as_ptr(), &mut raw) };
        // SAFETY: All are scalars within the VM, and have the size and the
        // alignment of the atomics.
        let fields = unsafe {
            Fields {
                map_dirty: Field::new(raw.apic_map_dirty),
                nmi_watchdogs: Field::new(raw.vapics_in_nmi_mode),
                bus_cycle_ns: Field::new(raw.apic_bus_cycle_ns),
                x2apic_format: Field::new(raw.x2apic_format),
                broadcast_quirk_disabled: Field::new(raw.x2apic_broadcast_quirk_disabled),
            }
        };
        let dir = stats::vm_dir()?;
        // SAFETY: The functions read settings of KVM that do not change while
        // there is a VM.
        let (vector_hashing, has_posted_interrupts, may_be_accelerated, x2apic_icr_is_split) = unsafe {
            (
                bindings::ferric_vector_hashing(),
                bindings::ferric_has_sync_pir_to_irr(),
                bindings::ferric_may_be_accelerated(kvm.as_ptr()),
                bindings::ferric_x2apic_icr_is_split(),
            )
        };
        // INVARIANT: By this function's requirements.
        let vm = KBox::pin_init(
            try_pin_init!(Self {
                kvm,
                fields,
                chips,
                map: Published::new(),
                map_dirty_vcpu: AtomicU32::new(upkeep::NONE),
                map_lock <- new_mutex!(Followed::default(), "ferric::map_lock"),
                vector_hashing,
                has_posted_interrupts,
                may_be_accelerated,
                // SAFETY: As above.
                has_hv_timer: unsafe { bindings::ferric_has_hv_timer() },
                x2apic_icr_is_split,
                stats <- dir.read_only_file(c"stats", Stats::new()),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        // SAFETY: The VM is alive; nobody uses its pointer yet.
        unsafe { bindings::ferric_set_vm_data(kvm.as_ptr(), vm.into_foreign()) };
        Ok(())
    }

    /// Undoes [`Self::attach`]. Sleeps.
    ///
    /// # Safety
    ///
    /// `kvm` must be served by ferric, have no vCPUs any more, and nobody may
    /// use ferric's object afterwards.
    pub(super) unsafe fn detach(kvm: *mut bindings::kvm) {
        // SAFETY: By this function's requirements; `attach` has set the
        // pointer.
        drop(unsafe { <Pin<KBox<Self>>>::from_foreign(vm_data(kvm)) });
        // SAFETY: By this function's requirements.
        unsafe { bindings::ferric_set_vm_data(kvm, core::ptr::null_mut()) };
    }

    /// The object of a VM.
    ///
    /// # Safety
    ///
    /// `kvm` must be alive and served by ferric, for as long as `'a`.
    #[inline(always)]
    pub(super) unsafe fn of_kvm<'a>(kvm: *mut bindings::kvm) -> &'a Self {
        // SAFETY: By this function's requirements `attach` has set the pointer
        // to a box that lives until `detach`.
        unsafe { &*vm_data(kvm).cast::<Self>() }
    }

    /// The VM is going: stops all that reaches its vCPUs on its own. Sleeps.
    pub(super) fn pre_destroy(&self) {
        if let Some(chips) = &self.chips {
            chips.quiesce();
        }
        if self.has_posted_interrupts {
            // The wake-up vector's handler may still look at a vCPU that it found
            // asleep; from now on none sleeps, and soon none is there.
            // SAFETY: May sleep, by this function's contract.
            unsafe { bindings::ferric_synchronize_rcu() };
        }
    }

    /// PIC and I/O APIC; none in split mode.
    #[inline(always)]
    pub(super) fn chips(&self) -> Option<&Chips> {
        self.chips.as_deref()
    }

    /// The counters.
    #[inline(always)]
    pub(super) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Number of the vCPUs that are online.
    fn online_vcpus(&self) -> usize {
        // SAFETY: By the type invariants the VM is alive.
        let count = unsafe { bindings::ferric_online_vcpus(self.kvm.as_ptr()) };
        count as usize
    }

    /// The vCPU with that index, if it is online. Any context.
    fn vcpu(&self, index: usize) -> Option<&Vcpu> {
        // SAFETY: By the type invariants the VM is alive.
        let lapic = unsafe { bindings::ferric_lapic_by_index(self.kvm.as_ptr(), index as c_uint) };
        // SAFETY: A vCPU that is online stays so as long as the VM, and its APIC
        // is one of ours.
        (!lapic.is_null()).then(|| unsafe { Vcpu::from_lapic(lapic) })
    }

    /// The vCPUs that are online, in the order of their indexes. Any context.
    pub(super) fn vcpus(&self) -> impl Iterator<Item = &Vcpu> + Clone {
        (0..self.online_vcpus()).filter_map(move |index| self.vcpu(index))
    }

    // The VM's settings.

    /// Does a device's message to 0xff go to x2APICs, too?
    pub(super) fn policy(&self) -> Policy {
        Policy {
            broadcast_quirk_disabled: self.fields.broadcast_quirk_disabled.load(Ordering::Relaxed),
            x2apic_format: self.x2apic_format(),
            vector_hashing: self.vector_hashing,
        }
    }

    /// `KVM_X2APIC_API_USE_32BIT_IDS`
    pub(super) fn x2apic_format(&self) -> bool {
        self.fields.x2apic_format.load(Ordering::Relaxed)
    }

    /// Length of an APIC bus cycle in ns.
    #[inline]
    pub(super) fn bus_cycle_ns(&self) -> u64 {
        self.fields.bus_cycle_ns.load(Ordering::Relaxed)
    }

    /// Does the CPU vendor's code post interrupts?
    #[inline(always)]
    pub(super) fn has_posted_interrupts(&self) -> bool {
        self.has_posted_interrupts
    }

    /// Can the CPU ever deliver interrupts of this VM by itself (APICv, AVIC)?
    #[inline(always)]
    pub(super) fn may_be_accelerated(&self) -> bool {
        self.may_be_accelerated
    }

    /// Does the CPU have a timer that makes the guest exit?
    #[inline(always)]
    pub(super) fn has_hv_timer(&self) -> bool {
        self.has_hv_timer
    }

    /// Does the host's CPU keep the x2APIC ICR in two registers?
    #[inline(always)]
    pub(super) fn x2apic_icr_is_split(&self) -> bool {
        self.x2apic_icr_is_split
    }

    /// The VM's choice for directed EOI.
    pub(super) fn suppress_eoi_broadcast(&self) -> SuppressEoiBroadcast {
        // SAFETY: By the type invariants; the function reads a word.
        let mode = unsafe { bindings::ferric_suppress_eoi_broadcast_mode(self.kvm.as_ptr()) };
        match mode {
            bindings::FERRIC_SUPPRESS_EOI_BROADCAST_ENABLED => SuppressEoiBroadcast::Enabled,
            bindings::FERRIC_SUPPRESS_EOI_BROADCAST_DISABLED => SuppressEoiBroadcast::Disabled,
            _ => SuppressEoiBroadcast::Quirked,
        }
    }

    /// `KVM_X86_QUIRK_LINT0_REENABLED`
    pub(super) fn quirk_lint0_reenabled(&self) -> bool {
        // SAFETY: By the type invariants; the function reads a word.
        unsafe { bindings::ferric_has_quirk_lint0_reenabled(self.kvm.as_ptr()) }
    }

    /// `KVM_X86_QUIRK_LAPIC_MMIO_HOLE`
    pub(super) fn quirk_lapic_mmio_hole(&self) -> bool {
        // SAFETY: By the type invariants; the function reads a word.
        unsafe { bindings::ferric_has_quirk_lapic_mmio_hole(self.kvm.as_ptr()) }
    }

    /// One APIC more, or less, wants the PIT's ticks as NMIs.
    pub(super) fn count_nmi_watchdog(&self, active: bool) {
        if active {
            self.fields.nmi_watchdogs.fetch_add(1, Ordering::Relaxed);
        } else {
            self.fields.nmi_watchdogs.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Does any APIC want the PIT's ticks as NMIs?
    pub(super) fn has_nmi_watchdogs(&self) -> bool {
        (self.fields.nmi_watchdogs.load(Ordering::Relaxed) as i32) > 0
    }

    /// An APIC is enabled at an address that APICv cannot serve. Sleeps.
    pub(super) fn inhibit_base_modified(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::ferric_inhibit_base_modified(self.kvm.as_ptr()) };
    }

    /// Lets vCPUs find out again which EOIs they have to report. Any context.
    pub(super) fn request_ioapic_scan(&self, rescan: Rescan) {
        let Rescan::Addressed { now, before } = rescan else {
            // SAFETY: By the type invariants.
            unsafe { bindings::ferric_scan_ioapic_request(self.kvm.as_ptr()) };
            return;
        };
        let mut vcpus = VcpuSet::EMPTY;
        for message in [Some(now), before].into_iter().flatten() {
            self.for_each_destination(&message, |vcpu| vcpus.add(vcpu.index()));
        }
        // SAFETY: By the type invariants; the bitmap has a bit for each index.
        unsafe {
            bindings::ferric_scan_ioapic_request_mask(self.kvm.as_ptr(), vcpus.0.as_mut_ptr());
        }
    }

    // Delivery.

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

    fn for_each_destination(&self, message: &Message, mut visit: impl FnMut(&Vcpu)) {
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
    #[inline]
    pub(super) fn deliver_fast(
        &self,
        source: Option<&Vcpu>,
        message: &Message,
        mut rtc: Option<&mut RtcStatus>,
    ) -> Option<i32> {
        self.resolve(source, message, |resolution| match resolution {
            Resolution::All(all) | Resolution::Others(all) if all.count() > multicast::MAX_FAST => {
                None
            }
            resolution => self.deliver_resolved(source, message, resolution, &mut rtc),
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
            Resolution::Targets(targets) => Some(self.accept_all(targets, None, message, rtc)),
            Resolution::All(all) => Some(self.accept_all(all, None, message, rtc)),
            Resolution::Others(all) => Some(self.accept_all(all, source, message, rtc)),
            Resolution::Slow => None,
        }
    }

    /// Gives a message to all `targets` but one; returns how many took it.
    #[inline]
    fn accept_all(
        &self,
        targets: impl Iterator<Item = Target>,
        but: Option<&Vcpu>,
        message: &Message,
        rtc: &mut Option<&mut RtcStatus>,
    ) -> i32 {
        let but = but.map(NonNull::from);
        // SAFETY: As for `as_vcpu`: all of them live as long as the VM.
        let vcpus = targets
            .filter(|target| Some(*target) != but)
            .map(|target| unsafe { &*target.as_ptr() });
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
    pub(super) fn deliver(
        &self,
        source: Option<&Vcpu>,
        message: &Message,
        mut rtc: Option<&mut RtcStatus>,
    ) -> i32 {
        let resolved = self.resolve(source, message, |resolution| {
            self.deliver_resolved(source, message, resolution, &mut rtc)
        });
        if let Some(delivered) = resolved {
            return delivered;
        }
        let message = slow_path_message(message);
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
    pub(super) fn single_destination(&self, message: &Message) -> Option<&Vcpu> {
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
    pub(super) fn vcpu_by_apic_id(&self, id: u32) -> Option<&Vcpu> {
        let guard = rcu::read_lock();
        let target = self.map.get(&guard)?.physical(id)?;
        // SAFETY: A vCPU in the map lives as long as the VM.
        Some(unsafe { &*target.as_ptr() })
    }

    /// `KVM_HC_SEND_IPI`: sends to those of `2 * 64` (or 32) APIC IDs from
    /// `min` on whose bits are set. Returns the number of local APICs that took
    /// it, or a negative errno of the hypercall's. The vCPU's thread.
    pub(super) fn pv_send_ipi(
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
            return super::NOT_SUPPORTED;
        };
        let step = if is_64_bit { 64 } else { 32 };
        let mut taken = 0;
        for (first, bitmap) in [min, min.wrapping_add(step)].into_iter().zip(bitmaps) {
            if bitmap == 0 {
                continue;
            }
            let targets = map.physical_range(first, bitmap);
            taken += self.accept_all(targets, None, &message, &mut None);
        }
        self.stats().count(Event::Ipi, taken as u64);
        taken
    }

    /// Sends a fixed, edge-triggered interrupt to the vCPUs of a set, or to all. A
    /// vCPU's thread.
    pub(super) fn send_to(&self, set: Option<&VcpuSet>, vector: u8) {
        let message = Message::from_icr(vector.into(), 0);
        let guard = rcu::read_lock();
        let map = self.map.get(&guard);
        let taken = match (set, map) {
            (Some(set), _) => {
                // Mostly a vCPU's ID is its index, and the map is at hand.
                let vcpus = set.indexes(self.online_vcpus()).filter_map(|index| {
                    let target = map.and_then(|map| map.physical(index));
                    // SAFETY: As for `as_vcpu`: it lives as long as the VM.
                    let vcpu = target.map(|target| unsafe { &*target.as_ptr() });
                    vcpu.filter(|vcpu: &&Vcpu| vcpu.index() == index)
                        .or_else(|| self.vcpu(index as usize))
                });
                self.give_all(vcpus, &message)
            }
            (None, Some(map)) => self.accept_all(map.all(), None, &message, &mut None),
            (None, None) => self.give_all(self.vcpus(), &message),
        };
        self.stats().count(Event::Ipi, taken as u64);
    }

    /// Counts a message that KVM has sent through ferric.
    pub(super) fn count_message(&self, source: Option<&Vcpu>, message: &Message, delivered: i32) {
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

/// What `ferric_set_vm_data` has stored.
///
/// # Safety
///
/// `kvm` must be alive, and nobody be storing it.
#[inline(always)]
unsafe fn vm_data(kvm: *mut bindings::kvm) -> *mut c_void {
    // SAFETY: By this function's requirements; it is at that place in the VM.
    unsafe {
        kvm.byte_add(bindings::FERRIC_VM_DATA as usize)
            .cast::<*mut c_void>()
            .read()
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
