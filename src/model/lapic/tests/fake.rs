// SPDX-License-Identifier: GPL-2.0

//! A machine around one local APIC: its clock stands still until it is moved,
//! its timers are two numbers, and all that the APIC asks for is written down.
//!
//! Also used by the tests and the benchmark in `selftests/host`, by path.

use super::lapic::host::Clocks;
use super::lapic::page::SAVED_WORDS;
use super::lapic::{
    Host, LocalApic, Offset, Own, RegisterPage, SavedRegisters, Shared, SuppressEoiBroadcast,
    Vectors,
};
use super::message::{DeliveryMode, DestinationMode, Message, Shorthand, Trigger};
use super::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::cell::{Cell, RefCell};

/// What the APIC asked its surroundings for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    InjectionRequest,
    UnblockRequest,
    ScanRequest,
    EoiExit(u8),
    Kick,
    Deliver(DeliveryMode, Trigger, u8),
    HighestInService(Option<u8>),
    Cr8(u8, Option<u8>),
    PreRestore,
    PostRestore,
    Nmi,
    Smi,
    PvUnhalt,
    Init,
    StartUp(u8),
    SynicEoi(u8),
    IoapicEoi(u8, Trigger),
    RtcRestore { id_changed: bool },
    SoftwareEnabled(bool),
    SoftwareEnableWritten,
    NmiWatchdog(bool),
    TprAccess(bool),
    Version,
    MapDirty,
    MapRecalculated,
    HardwareEnable(bool),
    ModeChanged,
    BaseAddress(u64),
    BaseInhibited,
    Sent(Message),
    SentFast(Message),
    DelayCycles(u64),
    DelayNs(u32),
}

/// Frequency of the guest's TSC: two cycles in each ns.
pub const TSC_KHZ: u32 = 2_000_000;
/// Size of the guest's memory.
pub const MEMORY: u64 = 0x10_0000;

/// The machine.
pub struct Machine {
    pub regs: Box<RegisterPage>,
    pub own: Own,

    pub irr_pending: AtomicBool,
    pub apicv_active: AtomicBool,
    pub software_enabled: AtomicBool,
    pub protected: AtomicBool,
    pub apic_base: AtomicU64,
    pub timer_mode_mask: AtomicU32,
    pub timer_advance_ns: AtomicU32,
    pub expired_tscdeadline: AtomicU64,
    pub timer_pending: AtomicU32,
    pub hv_timer_in_use: AtomicBool,
    pub lvt_entries: AtomicU32,
    pub vapic_address: AtomicU64,
    pub attention: AtomicU64,
    pub arbitration_priority: AtomicU32,
    pub ioapic_handled: [AtomicU64; 4],

    pub vcpu_id: Cell<u32>,
    pub is_bsp: Cell<bool>,
    pub has_x2apic: Cell<bool>,
    pub x2apic_format: Cell<bool>,
    pub is_split: Cell<bool>,
    pub suppress: Cell<SuppressEoiBroadcast>,
    pub lint0_quirk: Cell<bool>,
    pub intel: Cell<bool>,
    pub icr_is_split: Cell<bool>,
    /// The CPU stores TPR, and exits only if the vendor code wants to know.
    pub shadows_tpr: Cell<bool>,
    pub bus_cycle_ns: Cell<u64>,
    pub min_period_us: Cell<u32>,
    pub tsc_khz: Cell<u32>,
    pub tsc_scaled: Cell<bool>,
    pub ns_per_look: Cell<i64>,
    pub has_hv_timer: Cell<bool>,
    pub hv_timer_refuses: Cell<bool>,
    pub callback_is_late: Cell<bool>,
    pub callback_is_slow: Cell<bool>,
    pub callback_runs: Cell<bool>,
    /// The callback runs in another thread; this lets it.
    pub yields: Cell<Option<fn()>>,
    pub cancels: Cell<u32>,
    /// The lock of the hrtimer's queue.
    queue: AtomicU32,
    /// Whatever the hrtimer is armed for comes before its caller goes on.
    pub arrives_at_once: Cell<bool>,
    pub can_post: Cell<bool>,
    pub in_guest: Cell<bool>,
    pub wants_to_run: Cell<bool>,
    pub fast_path: Cell<bool>,
    pub has_smm: Cell<bool>,
    pub physical_bits: Cell<u32>,
    pub posted: RefCell<Option<Vec<u8>>>,
    pub synic: Cell<Option<u8>>,
    pub synic_auto_eoi: Cell<bool>,
    pub stale_eoi: Cell<Option<u8>>,

    pub now: Cell<i64>,
    pub hrtimer: Cell<Option<i64>>,
    pub last_hrtimer: Cell<i64>,
    pub hv_timer: Cell<Option<u64>>,
    pub preemption_off: Cell<u32>,

    pub tsc_offset: Cell<u64>,
    pub pv_eoi_enabled: Cell<bool>,
    pub pv_eoi: Cell<u8>,
    pub pv_eoi_readable: Cell<bool>,
    pub pv_eoi_writable: Cell<bool>,
    pub vapic: Cell<Option<u32>>,

    pub events: RefCell<Vec<Event>>,
    /// Nothing is written down: writing costs more than what is measured.
    pub forgetful: Cell<bool>,
}

impl Machine {
    /// A machine whose vCPU has been created and not been reset.
    pub fn created(vcpu_id: u32) -> Self {
        Self {
            regs: Box::default(),
            own: Own::default(),
            irr_pending: false.into(),
            apicv_active: false.into(),
            software_enabled: false.into(),
            protected: false.into(),
            apic_base: (1 << 11).into(),
            timer_mode_mask: (3 << 17).into(),
            timer_advance_ns: 0.into(),
            expired_tscdeadline: 0.into(),
            timer_pending: 0.into(),
            hv_timer_in_use: false.into(),
            lvt_entries: 6.into(),
            vapic_address: 0.into(),
            attention: 0.into(),
            arbitration_priority: 0.into(),
            ioapic_handled: Default::default(),
            vcpu_id: vcpu_id.into(),
            is_bsp: (vcpu_id == 0).into(),
            has_x2apic: true.into(),
            x2apic_format: false.into(),
            is_split: false.into(),
            suppress: SuppressEoiBroadcast::Quirked.into(),
            lint0_quirk: true.into(),
            intel: true.into(),
            icr_is_split: false.into(),
            shadows_tpr: false.into(),
            bus_cycle_ns: 1.into(),
            min_period_us: 200.into(),
            tsc_khz: TSC_KHZ.into(),
            tsc_scaled: false.into(),
            ns_per_look: 0.into(),
            has_hv_timer: false.into(),
            hv_timer_refuses: false.into(),
            callback_is_late: false.into(),
            callback_is_slow: false.into(),
            callback_runs: false.into(),
            yields: None.into(),
            cancels: 0.into(),
            queue: 0.into(),
            arrives_at_once: false.into(),
            can_post: false.into(),
            in_guest: false.into(),
            wants_to_run: true.into(),
            fast_path: true.into(),
            has_smm: true.into(),
            physical_bits: 40.into(),
            posted: RefCell::new(None),
            synic: None.into(),
            synic_auto_eoi: false.into(),
            stale_eoi: None.into(),
            now: 1_000_000.into(),
            hrtimer: None.into(),
            last_hrtimer: 0.into(),
            hv_timer: None.into(),
            preemption_off: 0.into(),
            tsc_offset: 77.into(),
            pv_eoi_enabled: false.into(),
            pv_eoi: 0.into(),
            pv_eoi_readable: true.into(),
            pv_eoi_writable: true.into(),
            vapic: Some(0).into(),
            events: RefCell::default(),
            forgetful: false.into(),
        }
    }

    /// A machine whose vCPU was reset; no events are left from that.
    pub fn reset(vcpu_id: u32) -> Self {
        let machine = Self::created(vcpu_id);
        machine.apic().reset(false);
        machine.forget();
        machine
    }

    /// A machine whose APIC the guest has enabled by software.
    pub fn enabled() -> Self {
        let machine = Self::reset(0);
        machine.write(Offset::SPURIOUS, 0x1ff);
        machine.forget();
        machine
    }

    /// The same in x2APIC mode.
    pub fn x2apic(vcpu_id: u32) -> Self {
        let machine = Self::reset(vcpu_id);
        machine.apic().set_base(0xfee0_0c00, false).unwrap();
        machine.apic().msr_write(0xf0, 0x1ff).unwrap();
        machine.forget();
        machine
    }

    /// The APIC.
    pub fn apic(&self) -> LocalApic<'_, Self> {
        LocalApic::new(self)
    }

    /// Reads a register by memory.
    pub fn read(&self, register: Offset) -> u32 {
        let mut data = [0; 4];
        self.apic().mmio_read(register.0.into(), &mut data);
        u32::from_le_bytes(data)
    }

    /// Writes a register by memory.
    pub fn write(&self, register: Offset, value: u32) {
        self.apic()
            .mmio_write(register.0.into(), &value.to_le_bytes());
    }

    /// The state as the ioctl returns it.
    pub fn saved(&self) -> SavedRegisters {
        let mut saved = [0; SAVED_WORDS];
        self.apic().save(&mut saved).unwrap();
        saved
    }

    /// An edge-triggered fixed interrupt, and whether it was accepted.
    pub fn interrupt(&self, vector: u8) -> bool {
        self.apic().accept(&message(DeliveryMode::Fixed, vector))
    }

    /// A level-triggered one.
    pub fn level_interrupt(&self, vector: u8) -> bool {
        let mut message = message(DeliveryMode::Fixed, vector);
        message.trigger = Trigger::Level;
        self.apic().accept(&message)
    }

    /// The CPU takes the next interrupt, if there is one.
    pub fn take(&self) -> Option<u8> {
        let vector = self.apic().has_interrupt()?;
        self.apic().ack_interrupt(vector);
        Some(vector)
    }

    /// The guest writes CR8: the CPU has stored TPR, or the next exit tells.
    pub fn write_cr8(&self, tpr: u8) {
        if self.shadows_tpr.get() {
            self.regs.write(Offset::TPR, tpr.into());
        } else {
            self.apic().sync_tpr(tpr);
        }
    }

    /// The guest signals an EOI.
    pub fn eoi(&self) {
        self.write(Offset::EOI, 0);
    }

    /// Lets an I/O APIC handle the EOI of a vector.
    pub fn handle_by_ioapic(&self, vector: u8) {
        self.ioapic_handled[usize::from(vector / 64)]
            .fetch_or(1 << (vector % 64), Ordering::Relaxed);
    }

    /// Moves the clock on, and lets the hrtimer's callback run as often as it
    /// is due. Returns how often that was.
    pub fn advance(&self, ns: i64) -> u32 {
        let end = self.now.get() + ns;
        let mut runs = 0;
        while let Some(expires) = self.hrtimer.get().filter(|&expires| expires <= end) {
            self.now.set(self.now.get().max(expires));
            self.hrtimer.set(None);
            if let Some(next) = self.apic().timer_expired() {
                self.start_hrtimer(next);
            }
            runs += 1;
        }
        self.now.set(end);
        runs
    }

    /// What follows, until the next access to an atomic, is one step: loom, which
    /// changes the thread there, has to see that it depends on what others do.
    pub fn lock_queue(&self) {
        self.queue.fetch_or(1, Ordering::SeqCst);
    }

    /// Has the hrtimer's callback just begun on another CPU?
    fn callback_begins(&self) -> bool {
        let begins = self.callback_is_late.get()
            && self.hrtimer.get().is_some_and(|at| at <= self.now.get());
        if begins {
            self.hrtimer.set(None);
        }
        begins
    }

    /// The callback does all that it does. Who has armed the hrtimer meanwhile
    /// has the last word.
    pub fn callback_ends(&self) {
        let again = self.apic().timer_expired();
        self.callback_runs.set(false);
        if self.hrtimer.get().is_none() {
            self.hrtimer.set(again);
        } else {
            assert_eq!(again, None, "the time of a queued hrtimer is written");
        }
    }

    /// The guest's TSC.
    pub fn tsc(&self) -> u64 {
        self.l1_tsc()
    }

    /// Forgets what happened.
    pub fn forget(&self) {
        self.events.borrow_mut().clear();
    }

    /// Did it happen since they were forgotten?
    pub fn has(&self, event: Event) -> bool {
        self.events.borrow().contains(&event)
    }

    /// The messages sent since they were forgotten.
    pub fn sent(&self) -> Vec<Message> {
        let events = self.events.borrow();
        let messages = events.iter().filter_map(|event| match event {
            Event::Sent(message) | Event::SentFast(message) => Some(*message),
            _ => None,
        });
        messages.collect()
    }

    fn note(&self, event: Event) {
        if !self.forgetful.get() {
            self.events.borrow_mut().push(event);
        }
    }
}

/// An edge-triggered message to one APIC.
pub fn message(delivery_mode: DeliveryMode, vector: u8) -> Message {
    Message {
        vector,
        delivery_mode,
        destination_mode: DestinationMode::Physical,
        shorthand: Shorthand::None,
        trigger: Trigger::Edge,
        assert: true,
        redirection_hint: false,
        destination: 0,
    }
}

impl Shared for Machine {
    fn regs(&self) -> &RegisterPage {
        &self.regs
    }
    fn own(&self) -> &Own {
        &self.own
    }
    fn irr_pending(&self) -> &AtomicBool {
        &self.irr_pending
    }
    fn apicv_active(&self) -> &AtomicBool {
        &self.apicv_active
    }
    fn software_enabled(&self) -> &AtomicBool {
        &self.software_enabled
    }
    fn protected(&self) -> &AtomicBool {
        &self.protected
    }
    fn apic_base(&self) -> &AtomicU64 {
        &self.apic_base
    }
    fn timer_mode_mask(&self) -> &AtomicU32 {
        &self.timer_mode_mask
    }
    fn timer_advance_ns(&self) -> &AtomicU32 {
        &self.timer_advance_ns
    }
    fn expired_tscdeadline(&self) -> &AtomicU64 {
        &self.expired_tscdeadline
    }
    fn timer_pending(&self) -> &AtomicU32 {
        &self.timer_pending
    }
    fn hv_timer_in_use(&self) -> &AtomicBool {
        &self.hv_timer_in_use
    }
    fn lvt_entries(&self) -> &AtomicU32 {
        &self.lvt_entries
    }
    fn vapic_address(&self) -> &AtomicU64 {
        &self.vapic_address
    }
    fn attention(&self) -> &AtomicU64 {
        &self.attention
    }
    fn arbitration_priority(&self) -> &AtomicU32 {
        &self.arbitration_priority
    }
    fn ioapic_handled_vectors(&self) -> &[AtomicU64; 4] {
        &self.ioapic_handled
    }
}

impl Host for Machine {
    fn vcpu_id(&self) -> u32 {
        self.vcpu_id.get()
    }
    fn is_reset_bsp(&self) -> bool {
        self.is_bsp.get()
    }
    fn has_x2apic(&self) -> bool {
        self.has_x2apic.get()
    }
    fn x2apic_format(&self) -> bool {
        self.x2apic_format.get()
    }
    fn is_split(&self) -> bool {
        self.is_split.get()
    }
    fn suppress_eoi_broadcast(&self) -> SuppressEoiBroadcast {
        self.suppress.get()
    }
    fn quirk_lint0_reenabled(&self) -> bool {
        self.lint0_quirk.get()
    }
    fn is_intel_compatible(&self) -> bool {
        self.intel.get()
    }
    fn x2apic_icr_is_split(&self) -> bool {
        self.icr_is_split.get()
    }
    fn reserved_gpa_bits(&self) -> u64 {
        !((1 << self.physical_bits.get()) - 1)
    }

    fn now(&self) -> i64 {
        self.now.get()
    }
    fn l1_tsc(&self) -> u64 {
        self.now.set(self.now.get() + self.ns_per_look.get());
        let host_tsc = self.now.get() as u64 * u64::from(TSC_KHZ) / 1_000_000;
        host_tsc.wrapping_add(self.tsc_offset.get())
    }
    fn clocks(&self) -> Clocks {
        let tsc = self.l1_tsc();
        Clocks {
            now: self.now.get(),
            tsc,
        }
    }
    fn l1_tsc_clock(&self) -> (u64, u64) {
        (self.tsc_offset.get(), 0)
    }
    fn virtual_tsc_khz(&self) -> u32 {
        self.tsc_khz.get()
    }
    fn tsc_is_scaled(&self) -> bool {
        self.tsc_scaled.get()
    }
    fn nsec_to_cycles(&self, ns: u64) -> u64 {
        ns.wrapping_mul(u64::from(TSC_KHZ) / 1_000_000)
    }
    fn bus_cycle_ns(&self) -> u64 {
        self.bus_cycle_ns.get()
    }
    fn min_timer_period_us(&self) -> u32 {
        self.min_period_us.get()
    }
    fn delay_cycles(&self, cycles: u64) {
        self.note(Event::DelayCycles(cycles));
    }
    fn delay_ns(&self, ns: u32) {
        self.note(Event::DelayNs(ns));
    }

    fn start_hrtimer(&self, expires: i64) {
        self.lock_queue();
        let begins = self.callback_begins();
        self.last_hrtimer.set(expires);
        self.hrtimer.set(Some(expires));
        if self.arrives_at_once.get() {
            self.advance(expires - self.now.get());
        }
        if begins {
            self.callback_runs.set(true);
            if !self.callback_is_slow.get() {
                self.callback_ends();
            }
        }
    }
    fn cancel_hrtimer(&self) -> bool {
        self.cancels.set(self.cancels.get() + 1);
        if let Some(yields) = self.yields.get() {
            self.lock_queue();
            while self.callback_runs.get() {
                yields();
                self.lock_queue();
            }
        } else if self.callback_begins() || self.callback_runs.get() {
            // It is waited for.
            self.callback_ends();
        }
        self.hrtimer.take().is_some()
    }
    fn is_hrtimer_running(&self) -> bool {
        self.lock_queue();
        self.callback_runs.get()
    }
    fn restart_hrtimer(&self) {
        self.hrtimer.set(Some(self.last_hrtimer.get()));
    }
    fn has_hv_timer(&self) -> bool {
        // The tests switch it off; what is armed by then is still there.
        self.has_hv_timer.get() || self.hv_timer_in_use.load(Ordering::Relaxed)
    }
    fn can_use_hv_timer(&self) -> bool {
        self.has_hv_timer.get() && !self.can_post_timer_interrupt()
    }
    fn set_hv_timer(&self, deadline: u64) -> Option<bool> {
        assert_ne!(self.preemption_off.get(), 0);
        if self.hv_timer_refuses.get() {
            return None;
        }
        self.hv_timer.set(Some(deadline));
        Some(deadline <= self.tsc())
    }
    fn cancel_hv_timer(&self) {
        assert_ne!(self.preemption_off.get(), 0);
        self.hv_timer.set(None);
    }
    fn can_post_timer_interrupt(&self) -> bool {
        self.can_post.get() && self.apicv_active.load(Ordering::Relaxed)
    }
    fn is_in_guest_mode(&self) -> bool {
        self.in_guest.get()
    }
    fn wants_to_run(&self) -> bool {
        self.wants_to_run.get()
    }
    fn without_preemption<R>(&self, f: impl FnOnce() -> R) -> R {
        self.preemption_off.set(self.preemption_off.get() + 1);
        let result = f();
        self.preemption_off.set(self.preemption_off.get() - 1);
        result
    }

    fn request_event(&self) {
        self.note(Event::InjectionRequest);
    }
    fn request_own_event(&self) {
        self.note(Event::InjectionRequest);
    }
    fn request_unblock(&self) {
        self.note(Event::UnblockRequest);
    }
    fn request_scan_ioapic(&self) {
        self.note(Event::ScanRequest);
    }
    fn request_eoi_exit(&self, vector: u8) {
        self.note(Event::EoiExit(vector));
    }
    fn kick(&self) {
        self.note(Event::Kick);
    }

    fn deliver_interrupt(&self, mode: DeliveryMode, trigger: Trigger, vector: u8) {
        self.note(Event::Deliver(mode, trigger, vector));
        if let Some(posted) = self.posted.borrow_mut().as_mut() {
            posted.push(vector);
            return;
        }
        self.apic().set_irr(vector);
        self.request_event();
        self.kick();
    }
    fn posts_interrupts(&self) -> bool {
        self.posted.borrow().is_some()
    }
    fn is_posted_outstanding(&self) -> bool {
        self.posted.borrow().as_ref().is_some_and(|p| !p.is_empty())
    }
    fn sync_pir_to_irr(&self) -> Option<u8> {
        for vector in self
            .posted
            .borrow_mut()
            .iter_mut()
            .flat_map(|p| p.drain(..))
        {
            self.apic().set_irr(vector);
        }
        self.regs.highest(Vectors::Irr)
    }
    fn hwapic_isr_update(&self, highest: Option<u8>) {
        self.note(Event::HighestInService(highest));
    }
    fn update_cr8_intercept(&self, tpr: u8, max_irr: Option<u8>) {
        self.note(Event::Cr8(tpr, max_irr));
    }
    fn apicv_pre_state_restore(&self) {
        self.note(Event::PreRestore);
    }
    fn apicv_post_state_restore(&self) {
        self.note(Event::PostRestore);
    }
    fn inject_nmi(&self) {
        self.note(Event::Nmi);
    }
    fn inject_smi(&self) -> bool {
        self.note(Event::Smi);
        self.has_smm.get()
    }
    fn set_pv_unhalted(&self) {
        self.note(Event::PvUnhalt);
    }
    fn set_pending_init(&self) {
        self.note(Event::Init);
    }
    fn set_pending_startup(&self, vector: u8) {
        self.note(Event::StartUp(vector));
    }

    fn synic_has_vector(&self, vector: u8) -> bool {
        self.synic.get() == Some(vector)
    }
    fn synic_auto_eoi(&self, vector: u8) -> bool {
        self.synic.get() == Some(vector) && self.synic_auto_eoi.get()
    }
    fn synic_send_eoi(&self, vector: u8) {
        self.note(Event::SynicEoi(vector));
    }
    fn is_stale_pending_eoi(&self, vector: u8) -> bool {
        self.stale_eoi.get() == Some(vector)
    }
    fn ioapic_eoi(&self, vector: u8, trigger: Trigger) {
        self.note(Event::IoapicEoi(vector, trigger));
    }
    fn rtc_eoi_tracking_restore(&self, id_changed: bool) {
        self.note(Event::RtcRestore { id_changed });
    }

    fn set_software_enabled(&self, enabled: bool) {
        self.software_enabled.store(enabled, Ordering::Relaxed);
        self.note(Event::SoftwareEnabled(enabled));
    }
    fn software_enable_written(&self) {
        self.note(Event::SoftwareEnableWritten);
    }
    fn nmi_watchdog_changed(&self, active: bool) {
        self.note(Event::NmiWatchdog(active));
    }
    fn report_tpr_access(&self, write: bool) {
        self.note(Event::TprAccess(write));
    }
    fn set_version(&self) {
        let entries = self.lvt_entries.load(Ordering::Relaxed);
        let offered = match self.suppress.get() {
            SuppressEoiBroadcast::Enabled => true,
            SuppressEoiBroadcast::Disabled => false,
            SuppressEoiBroadcast::Quirked => self.is_split.get(),
        };
        let directed_eoi = u32::from(self.has_x2apic.get() && offered) << 24;
        let version = 0x14 | (entries - 1) << 16 | directed_eoi;
        self.regs.write(Offset::VERSION, version);
        self.note(Event::Version);
    }
    fn mark_map_dirty(&self) {
        self.note(Event::MapDirty);
    }
    fn recalculate_map(&self) {
        self.note(Event::MapRecalculated);
    }

    fn hardware_enable_changed(&self, enabled: bool) {
        self.note(Event::HardwareEnable(enabled));
    }
    fn mode_changed(&self) {
        self.note(Event::ModeChanged);
    }
    fn set_base_address(&self, address: u64) {
        self.note(Event::BaseAddress(address));
    }
    fn inhibit_base_modified(&self) {
        self.note(Event::BaseInhibited);
    }

    fn deliver(&self, message: &Message) {
        self.note(Event::Sent(*message));
        if message.shorthand == Shorthand::Own {
            self.apic().accept(message);
        }
    }
    fn deliver_fast(&self, message: &Message) -> bool {
        if self.fast_path.get() {
            self.note(Event::SentFast(*message));
            if message.shorthand == Shorthand::Own {
                self.apic().accept(message);
            }
        }
        self.fast_path.get()
    }

    fn pv_eoi_enabled(&self) -> bool {
        self.pv_eoi_enabled.get()
    }
    fn set_pv_eoi_msr(&self, value: u64) {
        self.pv_eoi_enabled.set(value & 1 != 0);
    }
    fn pv_eoi_map(&self, address: u64, length: usize) -> bool {
        address + length as u64 <= MEMORY
    }
    fn pv_eoi_read(&self) -> Option<u8> {
        self.pv_eoi_readable.get().then(|| self.pv_eoi.get())
    }
    fn pv_eoi_write(&self, value: u8) -> bool {
        if self.pv_eoi_writable.get() {
            self.pv_eoi.set(value);
        }
        self.pv_eoi_writable.get()
    }
    fn vapic_map(&self, address: u64) -> bool {
        address + 4 <= MEMORY
    }
    fn vapic_read(&self) -> Option<u32> {
        self.vapic.get()
    }
    fn vapic_write(&self, value: u32) {
        self.vapic.set(Some(value));
    }
}
