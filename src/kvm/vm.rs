// SPDX-License-Identifier: GPL-2.0

//! A VM: its chips, its vCPUs, and its destination map.

use super::bindings;
use super::chips::Chips;
use super::field::Field;
use super::map::Published;
use super::stats::{self, Stats};
use super::vcpu::Vcpu;
use crate::model::destination::Policy;
use crate::model::ioapic::Rescan;
use crate::model::lapic::SuppressEoiBroadcast;
use crate::model::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::ptr::NonNull;
use kernel::debugfs::File;
use kernel::ffi::{c_uint, c_ulong, c_void};
use kernel::prelude::*;
use kernel::sync::{new_mutex, Mutex};
use kernel::types::ForeignOwnable;
use upkeep::Followed;

mod delivery;
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

    /// The indexes in the set, of which there are none from `count` on.
    fn indexes(&self, count: usize) -> Indexes<'_> {
        let words = count.div_ceil(c_ulong::BITS as usize);
        Indexes {
            words: self.0.get(..words).unwrap_or(&self.0),
            next: 0,
            rest: 0,
        }
    }

    fn add(&mut self, index: u32) {
        let index = index as usize;
        if let Some(word) = self.0.get_mut(index / c_ulong::BITS as usize) {
            *word |= 1 << (index % c_ulong::BITS as usize);
        }
    }
}

/// The indexes in a [`VcpuSet`], in ascending order.
struct Indexes<'a> {
    words: &'a [c_ulong],
    /// The word that comes next.
    next: usize,
    /// What is left of the one before.
    rest: c_ulong,
}

impl Iterator for Indexes<'_> {
    type Item = u32;

    #[inline(always)]
    fn next(&mut self) -> Option<u32> {
        while self.rest == 0 {
            self.rest = *self.words.get(self.next)?;
            self.next += 1;
        }
        let bit = self.rest.trailing_zeros();
        self.rest &= self.rest - 1;
        Some((self.next as u32 - 1) * c_ulong::BITS + bit)
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
