// SPDX-License-Identifier: GPL-2.0

//! The host's KVM: a VM with its irqchip, its 8254 and the guest.

use super::guest::{self, Memory, Op, DONE_PORT, MAX_LOG, STOP_PORT};
use super::host::Settings;
use super::look::{Answer, Look};
use super::step::{
    self, Route, Step, APIC_ADDRESS, CPUS, IRQFD_GSI, MSR_APIC_BASE, MSR_TSC_DEADLINE, RESAMPLE_GSI,
};
use ferric_model::{ioapic, pic, pit};
use kvm_bindings::{
    kvm_cpuid_entry2, kvm_enable_cap, kvm_irq_level, kvm_irq_routing_entry, kvm_irqchip,
    kvm_lapic_state, kvm_mp_state, kvm_msi, kvm_msr_entry, kvm_pit_config, kvm_pit_state2,
    kvm_regs, kvm_segment, kvm_userspace_memory_region, CpuId, KvmIrqRouting, Msrs,
    KVM_CAP_X2APIC_API, KVM_CAP_X86_APIC_BUS_CYCLES_NS, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_MP_STATE_RUNNABLE,
    KVM_PIT_SPEAKER_DUMMY,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use std::cell::Cell;
use std::io;
use std::thread::sleep;
use std::time::Duration;
use vmm_sys_util::eventfd::{EventFd, EFD_NONBLOCK};
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ref};
use vmm_sys_util::{ioctl_iow_nr, ioctl_iowr_nr};

const KVMIO: u32 = kvm_bindings::KVMIO;

ioctl_iowr_nr!(KVM_IRQ_LINE_STATUS, KVMIO, 0x67, kvm_irq_level);
ioctl_iow_nr!(KVM_SIGNAL_MSI, KVMIO, 0xa5, kvm_msi);

/// So slow that large counts outlast a sequence on the slowest host.
pub const BUS_CYCLE_NS: u64 = 1000;
/// Enough for a timer to expire on a busy host.
const TIMER: Duration = Duration::from_millis(4);

/// Guest physical addresses have 40 bits, as the model's machine has it.
const PHYSICAL_ADDRESS_BITS: u32 = 40;

/// What user space's devices would answer.
const NOBODY: u8 = 0x5a;

/// Exits to user space in one call, before it counts as hung.
const MAX_EXITS: usize = 10 + MAX_LOG;

type Result<T> = std::result::Result<T, kvm_ioctls::Error>;
/// Of what the guest does: if it fails, why.
type Called<T> = std::result::Result<T, String>;

pub struct OnKvm {
    vm: VmFd,
    /// The last one does not run; see [`super::host::PARKED`].
    cpus: Vec<VcpuFd>,
    // The VM's descriptors go first.
    memory: Memory,
    /// NMIs that the guests have taken.
    nmis: [Cell<u8>; CPUS + 1],
    irqfd: EventFd,
    /// Two on one GSI, so that the lines of the GSI stay when one is taken off.
    resampling: [EventFd; 2],
    resampled: [EventFd; 2],
}

fn cpuid() -> CpuId {
    let entry = |function, eax, ebx, ecx, edx| kvm_cpuid_entry2 {
        function,
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    };
    // x2APIC and the TSC-deadline timer; MSRs, the APIC and MMX.
    let features = (1 << 21 | 1 << 24, 1 << 5 | 1 << 9 | 1 << 23);
    CpuId::from_entries(&[
        entry(0, 1, 0x756e_6547, 0x6c65_746e, 0x4965_6e69),
        entry(1, 0x600, 0, features.0, features.1),
        entry(0x8000_0000, 0x8000_0008, 0, 0, 0),
        entry(0x8000_0008, PHYSICAL_ADDRESS_BITS, 0, 0, 0),
    ])
    .expect("few entries")
}

fn routing(routes: &[Route]) -> KvmIrqRouting {
    let mut entries = Vec::new();
    for (gsi, route) in (1..).zip(routes) {
        let mut pin = |irqchip, pin| {
            let mut entry = kvm_irq_routing_entry {
                gsi,
                type_: KVM_IRQ_ROUTING_IRQCHIP,
                ..Default::default()
            };
            entry.u.irqchip.irqchip = irqchip;
            entry.u.irqchip.pin = u32::from(pin);
            entries.push(entry);
        };
        let (pic, ioapic) = match *route {
            Route::Pic(pin) => (Some(pin), None),
            Route::IoApic(pin) => (None, Some(pin)),
            Route::Both(pic, ioapic) => (Some(pic), Some(ioapic)),
            Route::Msi(address, data) => {
                let mut entry = kvm_irq_routing_entry {
                    gsi,
                    type_: KVM_IRQ_ROUTING_MSI,
                    ..Default::default()
                };
                entry.u.msi.address_lo = address;
                entry.u.msi.data = data;
                entries.push(entry);
                continue;
            }
        };
        match pic {
            Some(line @ ..8) => pin(KVM_IRQCHIP_PIC_MASTER, line),
            Some(line) => pin(KVM_IRQCHIP_PIC_SLAVE, line - 8),
            None => {}
        }
        if let Some(line) = ioapic {
            pin(KVM_IRQCHIP_IOAPIC, line);
        }
    }
    KvmIrqRouting::from_entries(&entries).expect("few entries")
}

fn enable(vm: &VmFd, cap: u32, argument: u64) -> Result<()> {
    let mut request = kvm_enable_cap {
        cap,
        ..Default::default()
    };
    request.args[0] = argument;
    vm.enable_cap(&request)
}

impl OnKvm {
    /// A VM, whose vCPUs have the given IDs, and that waits for calls.
    pub fn new(kvm: &Kvm, settings: &Settings, routes: &[Route]) -> Result<Self> {
        let vm = kvm.create_vm()?;
        vm.create_irq_chip()?;
        vm.create_pit2(kvm_pit_config {
            flags: KVM_PIT_SPEAKER_DUMMY,
            ..Default::default()
        })?;
        vm.set_gsi_routing(&routing(routes))?;
        enable(&vm, KVM_CAP_X2APIC_API, settings.x2apic_api())?;
        enable(&vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS, BUS_CYCLE_NS)?;
        let memory = Memory::new();
        let region = kvm_userspace_memory_region {
            memory_size: guest::MEMORY_SIZE as u64,
            userspace_addr: memory.address(),
            ..Default::default()
        };
        // SAFETY: The memory lives as long as the VM.
        unsafe { vm.set_user_memory_region(region)? };

        let cpus = settings.ids.iter().map(|&id| {
            let cpu = vm.create_vcpu(id.into())?;
            cpu.set_cpuid2(&cpuid())?;
            Ok(cpu)
        });
        let cpus = cpus.collect::<Result<Vec<_>>>()?;
        let fd = || EventFd::new(EFD_NONBLOCK).map_err(kvm_ioctls::Error::from);
        let this = Self {
            vm,
            cpus,
            memory,
            nmis: Default::default(),
            irqfd: fd()?,
            resampling: [fd()?, fd()?],
            resampled: [fd()?, fd()?],
        };
        for index in 0..CPUS {
            this.start(index)?;
        }
        this.vm.register_irqfd(&this.irqfd, IRQFD_GSI)?;
        for (fd, resampled) in this.resampling.iter().zip(&this.resampled) {
            this.vm
                .register_irqfd_with_resample(fd, resampled, RESAMPLE_GSI)?;
        }
        Ok(this)
    }

    /// Brings a vCPU to where it waits for a call.
    fn start(&self, index: usize) -> Result<()> {
        let cpu = &self.cpus[index];
        let mut sregs = cpu.get_sregs()?;
        let segment = |selector, type_| kvm_segment {
            selector,
            limit: 0xffff_ffff,
            type_,
            present: 1,
            db: 1,
            s: 1,
            g: 1,
            ..Default::default()
        };
        sregs.cs = segment(guest::CODE_SELECTOR, 11);
        let data = segment(guest::DATA_SELECTOR, 3);
        (sregs.ds, sregs.es, sregs.ss) = (data, data, data);
        (sregs.fs, sregs.gs) = (data, data);
        (sregs.gdt.base, sregs.gdt.limit) = (guest::GDT, guest::GDT_SIZE - 1);
        (sregs.idt.base, sregs.idt.limit) = (guest::IDT, guest::IDT_SIZE - 1);
        // Protected mode; the FPU's bits as they are without one to emulate.
        sregs.cr0 = 0x31;
        cpu.set_sregs(&sregs)?;
        cpu.set_regs(&kvm_regs {
            rip: guest::code(Op::Done),
            rbx: guest::call(index),
            rsp: guest::stack(index),
            rflags: 2,
            ..Default::default()
        })?;
        cpu.set_mp_state(kvm_mp_state {
            mp_state: KVM_MP_STATE_RUNNABLE,
        })
    }

    /// Lets the guest of a vCPU come to where it takes calls.
    pub fn arrive(&mut self, index: usize) -> Called<()> {
        self.run(index).map(|_| ())
    }

    /// Runs the guest until it is back; the exits to user space meanwhile.
    fn run(&mut self, index: usize) -> Called<u32> {
        let mut exits = 0;
        for _ in 0..MAX_EXITS {
            match self.cpus[index].run() {
                Ok(VcpuExit::IoOut(DONE_PORT, _)) => return Ok(exits),
                Ok(VcpuExit::IoOut(STOP_PORT, _)) => {}
                Ok(VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..)) => exits += 1,
                Ok(VcpuExit::IoIn(_, data) | VcpuExit::MmioRead(_, data)) => {
                    data.fill(NOBODY);
                    exits += 1;
                }
                Ok(other) => {
                    let exit = format!("{other:?}");
                    let at = self.cpus[index].get_regs().map_or(0, |regs| regs.rip);
                    return Err(format!("it leaves with {exit} at {at:#x}"));
                }
                Err(error) if io::Error::from(error).kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("KVM_RUN: {error}")),
            }
        }
        Err("the guest does not come back".into())
    }

    /// Has the guest do something.
    pub fn call(&mut self, index: usize, op: Op, address: u32, value: u64) -> Called<Answer> {
        self.memory.call(index, op, address, value);
        let exits = self.run(index)?;
        let call = self.memory.answer(index);
        self.nmis[index].set(self.nmis[index].get() + call.nmis as u8);
        let fault = call.fault as u8;
        let taken = (call.taken as usize).min(call.log.len());
        let reads = matches!(
            op,
            Op::Read8
                | Op::Read16
                | Op::Read32
                | Op::Read64
                | Op::Rdmsr
                | Op::In8
                | Op::In16
                | Op::In32
        );
        Ok(Answer {
            value: match reads && fault == 0 {
                true => u64::from(call.value[0]) | u64::from(call.value[1]) << 32,
                false => 0,
            },
            fault,
            exits,
            taken: call.log[..taken].to_vec(),
            resampled: 0,
        })
    }

    /// Does a step.
    pub fn step(&mut self, step: &Step) -> Called<Answer> {
        let mut answer = match *step {
            Step::MmioRead(cpu, address, width) => {
                let op = match width {
                    1 => Op::Read8,
                    2 => Op::Read16,
                    4 => Op::Read32,
                    _ => Op::Read64,
                };
                self.call(cpu, op, address, 0)?
            }
            Step::MmioWrite(cpu, address, width, value) => {
                let op = match width {
                    1 => Op::Write8,
                    2 => Op::Write16,
                    4 => Op::Write32,
                    _ => Op::Write64,
                };
                self.call(cpu, op, address, value)?
            }
            Step::Rdmsr(cpu, msr) => self.call(cpu, Op::Rdmsr, msr, 0)?,
            Step::Wrmsr(cpu, msr, value) => self.call(cpu, Op::Wrmsr, msr, value)?,
            Step::In(cpu, port, width) => {
                let op = match width {
                    1 => Op::In8,
                    2 => Op::In16,
                    _ => Op::In32,
                };
                self.call(cpu, op, port.into(), 0)?
            }
            Step::Out(cpu, port, width, value) => {
                let op = match width {
                    1 => Op::Out8,
                    2 => Op::Out16,
                    _ => Op::Out32,
                };
                self.call(cpu, op, port.into(), value.into())?
            }
            Step::Take(cpu) => {
                self.request_event(cpu).map_err(|error| error.to_string())?;
                self.call(cpu, Op::Take, 0, 0)?
            }
            Step::Entry(cpu, pin, low, destination) => {
                let mut answer = Answer::default();
                for (address, value) in step::entry_writes(pin, low, destination) {
                    answer.add(&self.call(cpu, Op::Write32, address, value.into())?);
                }
                answer
            }
            Step::Timer(cpu, entry, count) => self.timer(cpu, entry, count)?,
            _ => Answer::of(self.host_step(step).map_err(|error| error.to_string())?),
        };
        answer.resampled = self.resampled[0].read().unwrap_or(0);
        // Of the other one nothing is expected: it is not always there.
        let _ = self.resampled[1].read();
        Ok(answer)
    }

    /// Has KVM look for interrupts. Of several vCPUs that take the PIC's it tells
    /// the first one only, and the others find out when they look.
    fn request_event(&self, cpu: usize) -> Result<()> {
        let cpu = &self.cpus[cpu];
        cpu.set_vcpu_events(&cpu.get_vcpu_events()?)
    }

    fn host_step(&mut self, step: &Step) -> Result<i64> {
        match *step {
            Step::Cr8(cpu, cr8) => {
                let mut sregs = self.cpus[cpu].get_sregs()?;
                sregs.cr8 = cr8.into();
                self.cpus[cpu].set_sregs(&sregs)?;
            }
            Step::HostWrmsr(cpu, msr, value) => {
                let entry = kvm_msr_entry {
                    index: msr,
                    data: value,
                    ..Default::default()
                };
                let msrs = Msrs::from_entries(&[entry]).expect("one entry");
                return Ok(self.cpus[cpu].set_msrs(&msrs)? as i64);
            }
            Step::Line(gsi, level, status) => return self.line(gsi, level, status),
            Step::Msi(address, high, data) => {
                let msi = kvm_msi {
                    address_lo: address,
                    address_hi: high,
                    data,
                    ..Default::default()
                };
                // SAFETY: The ioctl reads the structure.
                let result = unsafe { ioctl_with_ref(&self.vm, KVM_SIGNAL_MSI(), &msi) };
                return Ok(result.into());
            }
            Step::Irqfd(resampling) => self.signal(resampling)?,
            Step::Routes(ref routes) => self.vm.set_gsi_routing(&routing(routes))?,
            Step::SetLapic(cpu, register, value) => {
                return Ok(self
                    .set_lapic_register(cpu, register, value)
                    .is_err()
                    .into());
            }
            Step::InService(cpu, vector, level) => {
                let change = |words: &mut [u32]| step::put_in_service(words, vector, level);
                return Ok(self.change_lapic(cpu, change).is_err().into());
            }
            Step::SetIrqchip(chip, offset, value) => {
                let mut state = self.chip(chip.into())?;
                // SAFETY: Every pattern of bytes is a state.
                let bytes = unsafe { &mut state.chip.dummy };
                for (to, byte) in bytes[offset.into()..].iter_mut().zip(value.to_le_bytes()) {
                    *to = byte as i8;
                }
                self.vm.set_irqchip(&state)?;
            }
            Step::SetPit(offset, value) => {
                let mut state = self.vm.get_pit2()?;
                let (mut counters, mut flags) = pit_state(&state);
                step::change_pit(&mut counters, &mut flags, offset, value);
                // SAFETY: Of the same layout, for any bytes.
                state.channels = unsafe { std::mem::transmute_copy(&counters) };
                state.flags = flags;
                self.vm.set_pit2(&state)?;
            }
            Step::Migration(order) => {
                for part in step::order(order) {
                    self.migrate(part)?;
                }
            }
            _ => unreachable!("{step:?} is the guest's"),
        }
        Ok(0)
    }

    fn line(&self, gsi: u32, level: bool, status: bool) -> Result<i64> {
        if !status {
            self.vm.set_irq_line(gsi, level)?;
            return Ok(0);
        }
        let mut request = kvm_irq_level {
            level: level.into(),
            ..Default::default()
        };
        request.__bindgen_anon_1.irq = gsi;
        // SAFETY: The ioctl reads and writes the structure.
        let result = unsafe { ioctl_with_mut_ref(&self.vm, KVM_IRQ_LINE_STATUS(), &mut request) };
        if result < 0 {
            return Err(kvm_ioctls::Error::last());
        }
        // SAFETY: The ioctl has stored the status.
        Ok(unsafe { request.__bindgen_anon_1.status }.into())
    }

    /// A worker of the kernel's may raise the line; taking the irqfd off waits
    /// for it.
    fn signal(&self, resampling: bool) -> Result<()> {
        if resampling {
            let fd = &self.resampling[1];
            fd.write(1)?;
            self.vm.unregister_irqfd(fd, RESAMPLE_GSI)?;
            self.vm
                .register_irqfd_with_resample(fd, &self.resampled[1], RESAMPLE_GSI)
        } else {
            self.irqfd.write(1)?;
            self.vm.unregister_irqfd(&self.irqfd, IRQFD_GSI)?;
            self.vm.register_irqfd(&self.irqfd, IRQFD_GSI)
        }
    }

    /// Saves and restores one of four parts.
    fn migrate(&self, part: u8) -> Result<()> {
        match part {
            0 => {
                for cpu in &self.cpus {
                    cpu.set_lapic(&cpu.get_lapic()?)?;
                }
            }
            1 => self.vm.set_irqchip(&self.chip(KVM_IRQCHIP_IOAPIC)?)?,
            2 => {
                for chip in [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE] {
                    self.vm.set_irqchip(&self.chip(chip)?)?;
                }
            }
            _ => self.vm.set_pit2(&self.vm.get_pit2()?)?,
        }
        Ok(())
    }

    fn chip(&self, chip_id: u32) -> Result<kvm_irqchip> {
        let mut chip = kvm_irqchip {
            chip_id,
            ..Default::default()
        };
        self.vm.get_irqchip(&mut chip)?;
        Ok(chip)
    }

    /// Programs the APIC's timer, and waits until it has expired.
    fn timer(&mut self, cpu: usize, entry: u32, count: u32) -> Called<Answer> {
        let x2apic = self.cpus[cpu].get_sregs().expect("sregs").apic_base & 0x400 != 0;
        let mut answer = Answer::default();
        for (register, value, wait) in step::timer_writes(entry, count) {
            if wait {
                sleep(TIMER);
            }
            let write = if x2apic {
                self.call(cpu, Op::Wrmsr, 0x800 + (register >> 4), value.into())?
            } else {
                self.call(cpu, Op::Write32, APIC_ADDRESS + register, value.into())?
            };
            answer.add(&write);
        }
        Ok(answer)
    }

    /// The NMIs that a vCPU has got in the last step, in its guest or not yet.
    /// They are gone then, and others can come.
    fn take_nmis(&self, index: usize) -> Result<u8> {
        let mut events = self.cpus[index].get_vcpu_events()?;
        let taken = self.nmis[index].take() + events.nmi.pending;
        if taken != 0 {
            events.nmi.pending = 0;
            events.nmi.injected = 0;
            events.nmi.masked = 0;
            self.cpus[index].set_vcpu_events(&events)?;
        }
        Ok(taken)
    }

    /// Saves the state of a local APIC, changes a register, and restores it.
    pub fn set_lapic_register(&self, cpu: usize, register: u16, value: u32) -> Result<()> {
        self.change_lapic(cpu, |words| step::change_lapic(words, register, value))
    }

    fn change_lapic(&self, cpu: usize, change: impl FnOnce(&mut [u32])) -> Result<()> {
        let mut state = self.cpus[cpu].get_lapic()?;
        let mut words = words(&state);
        change(&mut words);
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        for (to, byte) in state.regs.iter_mut().zip(bytes) {
            *to = byte as i8;
        }
        self.cpus[cpu].set_lapic(&state)
    }

    /// All that can be seen of the irqchip. NMIs are gone then.
    pub fn look(&self) -> Result<Look> {
        let mut look = Look::default();
        for (index, cpu) in self.cpus.iter().enumerate() {
            look.lapics.push(words(&cpu.get_lapic()?));
            look.nmis.push(self.take_nmis(index)?);
            let entries = [MSR_APIC_BASE, MSR_TSC_DEADLINE].map(|index| kvm_msr_entry {
                index,
                ..Default::default()
            });
            let mut msrs = Msrs::from_entries(&entries).expect("two entries");
            cpu.get_msrs(&mut msrs)?;
            let values = msrs.as_slice();
            look.msrs.push([values[0].data, values[1].data]);
        }
        for (id, to) in (0..).zip(&mut look.pics) {
            let chip = self.chip(id)?;
            // SAFETY: The state of a PIC has the layout of the model's.
            *to = unsafe { std::ptr::from_ref(&chip.chip).cast::<pic::State>().read() };
        }
        let chip = self.chip(KVM_IRQCHIP_IOAPIC)?;
        // SAFETY: As above.
        let ioapic = unsafe {
            std::ptr::from_ref(&chip.chip)
                .cast::<ioapic::State>()
                .read()
        };
        look.ioapic = Some(ioapic);
        (look.counters, look.pit_flags) = pit_state(&self.vm.get_pit2()?);
        Ok(look)
    }
}

fn words(state: &kvm_lapic_state) -> Vec<u32> {
    let words = state.regs.chunks_exact(4);
    let word = |bytes: &[i8]| u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[i] as u8));
    words.map(word).collect()
}

fn pit_state(state: &kvm_pit_state2) -> (pit::Counters, u32) {
    // SAFETY: Of the same layout, for any bytes.
    let counters = unsafe { std::mem::transmute_copy(&state.channels) };
    (counters, state.flags)
}
