// SPDX-License-Identifier: GPL-2.0
/*
 * What a test has a guest's vCPU do: accesses to registers, and interrupts.
 */
#include "irq_vm.h"

static u64 guest_mmio_read(u64 addr, u64 width, u64 unused)
{
	switch (width) {
	case 1:
		return READ_ONCE(*(u8 *)addr);
	case 2:
		return READ_ONCE(*(u16 *)addr);
	case 4:
		return READ_ONCE(*(u32 *)addr);
	default:
		return READ_ONCE(*(u64 *)addr);
	}
}

static u64 guest_mmio_write(u64 addr, u64 width, u64 val)
{
	switch (width) {
	case 1:
		WRITE_ONCE(*(u8 *)addr, val);
		break;
	case 2:
		WRITE_ONCE(*(u16 *)addr, val);
		break;
	case 4:
		WRITE_ONCE(*(u32 *)addr, val);
		break;
	default:
		WRITE_ONCE(*(u64 *)addr, val);
		break;
	}
	return 0;
}

static u64 guest_in(u64 port, u64 width, u64 unused)
{
	u32 val = 0;

	switch (width) {
	case 1:
		return guest_in8(port);
	case 2:
		asm volatile("inw %w1, %w0" : "+a"(val) : "d"(port) : "memory");
		return (u16)val;
	default:
		asm volatile("inl %w1, %0" : "+a"(val) : "d"(port) : "memory");
		return val;
	}
}

static u64 guest_out(u64 port, u64 width, u64 val)
{
	switch (width) {
	case 1:
		guest_out8(port, val);
		break;
	case 2:
		asm volatile("outw %w0, %w1" : : "a"(val), "d"(port) : "memory");
		break;
	default:
		asm volatile("outl %k0, %w1" : : "a"(val), "d"(port) : "memory");
		break;
	}
	return 0;
}

static u64 guest_rdmsr(u64 msr, u64 unused, u64 unused2)
{
	u64 val = 0;

	this_guest_cpu()->fault = rdmsr_safe(msr, &val);
	return val;
}

static u64 guest_wrmsr(u64 msr, u64 val, u64 unused)
{
	this_guest_cpu()->fault = wrmsr_safe(msr, val);
	return 0;
}

static u64 guest_xapic_ipi(u64 icr_low, u64 dest, u64 unused)
{
	xapic_write_reg(APIC_ICR2, SET_APIC_DEST_FIELD((u32)dest));
	xapic_write_reg(APIC_ICR, icr_low);
	return 0;
}

static u64 guest_get_cr8(u64 unused, u64 unused2, u64 unused3)
{
	return get_cr8();
}

static u64 guest_set_cr8(u64 val, u64 unused, u64 unused2)
{
	set_cr8(val);
	return 0;
}

static u64 guest_rdtsc(u64 unused, u64 unused2, u64 unused3)
{
	return rdtsc();
}

static u64 guest_take_irqs(u64 unused, u64 unused2, u64 unused3)
{
	struct guest_cpu *cpu = this_guest_cpu();
	u32 before = READ_ONCE(cpu->nr_irqs);

	asm volatile("sti; nop; nop; nop; nop; cli" : : : "memory");
	return READ_ONCE(cpu->nr_irqs) - before;
}

static u64 guest_wait_irqs(u64 nr, u64 cycles, u64 unused)
{
	struct guest_cpu *cpu = this_guest_cpu();
	u64 start = rdtsc();

	sti();
	while (READ_ONCE(cpu->nr_irqs) < nr && rdtsc() - start < cycles)
		cpu_relax();
	cli();
	return READ_ONCE(cpu->nr_irqs);
}

static u64 guest_halt(u64 unused, u64 unused2, u64 unused3)
{
	safe_halt();
	cli();
	return READ_ONCE(this_guest_cpu()->nr_irqs);
}

void cpu_enable_apic(struct irq_cpu *cpu, bool x2apic)
{
	u64 base = cpu_rdmsr(cpu, MSR_IA32_APICBASE);

	/* Out of x2APIC mode the only way leads through the disabled state. */
	if (!x2apic && (base & MSR_IA32_APICBASE_EXTD)) {
		base &= ~(u64)(MSR_IA32_APICBASE_EXTD | MSR_IA32_APICBASE_ENABLE);
		cpu_wrmsr(cpu, MSR_IA32_APICBASE, base);
	}
	base |= MSR_IA32_APICBASE_ENABLE;
	cpu_wrmsr(cpu, MSR_IA32_APICBASE, base);
	if (x2apic)
		cpu_wrmsr(cpu, MSR_IA32_APICBASE, base | MSR_IA32_APICBASE_EXTD);

	cpu->x2apic = x2apic;
	cpu->guest->eoi = x2apic ? EOI_X2APIC : EOI_XAPIC;
	cpu_apic_write(cpu, APIC_SPIV,
		       APIC_SPIV_APIC_ENABLED | APIC_SPURIOUS_VECTOR);
}

u64 cpu_mmio_read(struct irq_cpu *cpu, gpa_t gpa, int width)
{
	return cpu_call(cpu, guest_mmio_read, gpa, width, 0);
}

void cpu_mmio_write(struct irq_cpu *cpu, gpa_t gpa, int width, u64 val)
{
	cpu_call(cpu, guest_mmio_write, gpa, width, val);
}

u32 cpu_in(struct irq_cpu *cpu, u16 port, int width)
{
	return cpu_call(cpu, guest_in, port, width, 0);
}

void cpu_out(struct irq_cpu *cpu, u16 port, int width, u32 val)
{
	cpu_call(cpu, guest_out, port, width, val);
}

u8 cpu_inb(struct irq_cpu *cpu, u16 port)
{
	return cpu_in(cpu, port, 1);
}

void cpu_outb(struct irq_cpu *cpu, u16 port, u8 val)
{
	cpu_out(cpu, port, 1, val);
}

u8 cpu_rdmsr_safe(struct irq_cpu *cpu, u32 msr, u64 *val)
{
	*val = cpu_call(cpu, guest_rdmsr, msr, 0, 0);
	return cpu->guest->fault;
}

u8 cpu_wrmsr_safe(struct irq_cpu *cpu, u32 msr, u64 val)
{
	cpu_call(cpu, guest_wrmsr, msr, val, 0);
	return cpu->guest->fault;
}

u64 cpu_rdmsr(struct irq_cpu *cpu, u32 msr)
{
	u64 val;
	u8 fault = cpu_rdmsr_safe(cpu, msr, &val);

	TEST_ASSERT(!fault, "RDMSR %#x raised %u", msr, fault);
	return val;
}

void cpu_wrmsr(struct irq_cpu *cpu, u32 msr, u64 val)
{
	u8 fault = cpu_wrmsr_safe(cpu, msr, val);

	TEST_ASSERT(!fault, "WRMSR %#x = %#lx raised %u", msr, val, fault);
}

u64 cpu_apic_read(struct irq_cpu *cpu, u32 reg)
{
	if (cpu->x2apic)
		return cpu_rdmsr(cpu, APIC_BASE_MSR + (reg >> 4));
	return cpu_mmio_read(cpu, APIC_DEFAULT_GPA + reg, 4);
}

void cpu_apic_write(struct irq_cpu *cpu, u32 reg, u64 val)
{
	if (cpu->x2apic)
		cpu_wrmsr(cpu, APIC_BASE_MSR + (reg >> 4), val);
	else
		cpu_mmio_write(cpu, APIC_DEFAULT_GPA + reg, 4, val);
}

void cpu_send_ipi(struct irq_cpu *cpu, u32 icr_low, u32 dest)
{
	if (cpu->x2apic)
		cpu_apic_write(cpu, APIC_ICR, (u64)dest << 32 | icr_low);
	else
		cpu_call(cpu, guest_xapic_ipi, icr_low, dest, 0);
}

u64 cpu_get_cr8(struct irq_cpu *cpu)
{
	return cpu_call(cpu, guest_get_cr8, 0, 0, 0);
}

void cpu_set_cr8(struct irq_cpu *cpu, u64 val)
{
	cpu_call(cpu, guest_set_cr8, val, 0, 0);
}

u64 cpu_rdtsc(struct irq_cpu *cpu)
{
	return cpu_call(cpu, guest_rdtsc, 0, 0, 0);
}

u32 cpu_take_irqs(struct irq_cpu *cpu)
{
	return cpu_call(cpu, guest_take_irqs, 0, 0, 0);
}

u32 cpu_wait_irqs(struct irq_cpu *cpu, u32 nr, u64 cycles)
{
	return cpu_call(cpu, guest_wait_irqs, nr, cycles, 0);
}

u32 cpu_halt(struct irq_cpu *cpu)
{
	return cpu_call(cpu, guest_halt, 0, 0, 0);
}

void cpu_make_event(struct irq_cpu *cpu)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(cpu->vcpu, &events);
	vcpu_events_set(cpu->vcpu, &events);
}

void cpu_clear_log(struct irq_cpu *cpu)
{
	cpu->guest->nr_irqs = 0;
}

void __cpu_expect_log(struct irq_cpu *cpu, const u8 *vectors, u32 nr, int line)
{
	char got[256] = "";
	u32 n = cpu->guest->nr_irqs;
	int len = 0;
	u32 i;

	for (i = 0; i < n && i < 32; i++)
		len += snprintf(got + len, sizeof(got) - len, " %#x",
				cpu->guest->log[i]);
	TEST_ASSERT(n == nr, "line %d, vCPU %u: wanted %u interrupts, got %u:%s",
		    line, cpu->vcpu->id, nr, n, got);
	for (i = 0; i < n; i++)
		TEST_ASSERT(cpu->guest->log[i] == vectors[i],
			    "line %d, vCPU %u: wanted vector %#x as number %u of:%s",
			    line, cpu->vcpu->id, vectors[i], i, got);
	cpu_clear_log(cpu);
}
