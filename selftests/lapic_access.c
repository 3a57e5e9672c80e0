// SPDX-License-Identifier: GPL-2.0
/*
 * Where the local APIC's registers answer, and to which accesses: the page in
 * memory and where it moves to, all of x2APIC's MSRs, odd widths and
 * alignments, registers that only read.
 */
#include "apicv.h"
#include "irq_vm.h"
#include "harness.h"

/* A harmless MMIO page that the APIC can move to. */
#define OTHER_APIC_GPA		0xfed10000ull

TEST(apic_page_moves)
{
	struct irq_vm *ivm = irq_vm_create(2, IRQCHIP_FULL, false);
	struct irq_cpu *cpu = &ivm->cpu[1];
	u64 flags = cpu_rdmsr(cpu, MSR_IA32_APICBASE) & 0xfff;

	irq_vm_map_mmio(ivm, OTHER_APIC_GPA);
	cpu_apic_write(cpu, APIC_TASKPRI, 0x40);
	cpu_wrmsr(cpu, MSR_IA32_APICBASE, OTHER_APIC_GPA | flags);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, OTHER_APIC_GPA + APIC_ID, 4), 1 << 24);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, OTHER_APIC_GPA + APIC_TASKPRI, 4), 0x40);

	/* The old page is not the APIC's any more: the access goes out. */
	TEST_ASSERT_EQ(cpu->nr_mmio, 0);
	cpu_mmio_read(cpu, APIC_DEFAULT_GPA + APIC_ID, 4);
	TEST_ASSERT_EQ(cpu->nr_mmio, 1);
	TEST_ASSERT_EQ(cpu->mmio_addr, APIC_DEFAULT_GPA + APIC_ID);

	/* Others keep theirs, and can send to it. */
	TEST_ASSERT_EQ(cpu_apic_read(&ivm->cpu[0], APIC_ID), 0);
	cpu->guest->eoi = EOI_NONE;
	cpu_send_ipi(&ivm->cpu[0], APIC_INT_ASSERT | 0x51, cpu->vcpu->id);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x51);
	cpu_mmio_write(cpu, OTHER_APIC_GPA + APIC_EOI, 4, 0);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 0);

	cpu_wrmsr(cpu, MSR_IA32_APICBASE, APIC_DEFAULT_GPA | flags);
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_TASKPRI), 0x40);
	irq_vm_free(ivm);
}

/* Which MSRs of 0x800 to 0xbff raise #GP, one bit each. */
#define NR_X2APIC_MSRS		0x400

static u8 read_faults[NR_X2APIC_MSRS];
static u8 write_faults[NR_X2APIC_MSRS];
static u8 wide_write_faults[NR_X2APIC_MSRS];

static bool is_sender(u32 reg)
{
	return reg == APIC_ICR || reg == APIC_SELF_IPI;
}

static u64 guest_sweep(u64 unused, u64 unused2, u64 unused3)
{
	u64 val;
	u32 i;

	for (i = 0; i < NR_X2APIC_MSRS; i++) {
		read_faults[i] = rdmsr_safe(APIC_BASE_MSR + i, &val);
		wide_write_faults[i] = is_sender(i << 4) ? 0 :
			wrmsr_safe(APIC_BASE_MSR + i, 1ull << 32);
		/* What it reads is a fair value to write; nothing else is. */
		write_faults[i] = is_sender(i << 4) ? 0 :
			wrmsr_safe(APIC_BASE_MSR + i, read_faults[i] ? 0 : (u32)val);
	}
	return 0;
}

static bool readable(u32 reg)
{
	switch (reg) {
	case APIC_ID:
	case APIC_LVR:
	case APIC_TASKPRI:
	case APIC_PROCPRI:
	case APIC_LDR:
	case APIC_SPIV:
	case APIC_ISR ... APIC_ESR:
	case APIC_ICR:
	case APIC_LVTT ... APIC_TMCCT:
	case APIC_TDCR:
		return true;
	default:
		return false;
	}
}

static bool writable(u32 reg)
{
	switch (reg) {
	case APIC_TASKPRI:
	case APIC_EOI:
	case APIC_SPIV:
	case APIC_ESR:
	case APIC_LVTT ... APIC_TMICT:
	case APIC_TDCR:
		return true;
	default:
		return false;
	}
}

TEST(x2apic_msr_sweep)
{
	struct irq_vm *ivm = irq_vm_create(1, IRQCHIP_FULL, true);
	u32 i;

	cpu_call(&ivm->cpu[0], guest_sweep, 0, 0, 0);
	sync_global_from_guest(ivm->vm, read_faults);
	sync_global_from_guest(ivm->vm, write_faults);
	sync_global_from_guest(ivm->vm, wide_write_faults);

	for (i = 0; i < NR_X2APIC_MSRS; i++) {
		u32 reg = i << 4;

		TEST_ASSERT(read_faults[i] == (readable(reg) ? 0 : GP_VECTOR),
			    "RDMSR %#x: vector %u", APIC_BASE_MSR + i, read_faults[i]);
		if (is_sender(reg))
			continue;
		TEST_ASSERT(write_faults[i] == (writable(reg) ? 0 : GP_VECTOR),
			    "WRMSR %#x: vector %u", APIC_BASE_MSR + i, write_faults[i]);
		TEST_ASSERT(wide_write_faults[i] == GP_VECTOR,
			    "WRMSR %#x with bit 32 set: vector %u",
			    APIC_BASE_MSR + i, wide_write_faults[i]);
	}
	irq_vm_free(ivm);
}

TEST(x2apic_icr_reserved_bits)
{
	struct irq_vm *ivm = irq_vm_create(2, IRQCHIP_FULL, true);
	struct irq_cpu *cpu = &ivm->cpu[0];
	int bit;

	for (bit = 0; bit < 32; bit++) {
		bool reserved = bit >= 20 || bit == 17 || bit == 16 || bit == 13;
		u64 icr = 1ull << 32 | APIC_INT_ASSERT | 0x40 | BIT(bit);
		u8 fault;

		/* Only what stays a fixed interrupt to vCPU 1. */
		if (!reserved && ((bit >= 8 && bit <= 11) || bit >= 18))
			continue;
		fault = cpu_wrmsr_safe(cpu, X2APIC_MSR(APIC_ICR), icr);
		TEST_ASSERT(fault == (reserved ? GP_VECTOR : 0),
			    "bit %d: vector %u", bit, fault);
		if (reserved)
			TEST_ASSERT_EQ(lapic_count(&ivm->cpu[1], APIC_IRR), 0);
		else
			TEST_ASSERT(cpu_take_irqs(&ivm->cpu[1]), "bit %d: lost", bit);
	}
	irq_vm_free(ivm);
}

TEST(xapic_odd_accesses)
{
	struct irq_vm *ivm = irq_vm_create(1, IRQCHIP_FULL, false);
	struct irq_cpu *cpu = &ivm->cpu[0];
	gpa_t lvr = APIC_DEFAULT_GPA + APIC_LVR, tpr = APIC_DEFAULT_GPA + APIC_TASKPRI;
	u32 offset;
	int width;

	/* Parts of a register can be read ... */
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, lvr, 4), 0x50014);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, lvr, 2), 0x0014);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, lvr + 2, 2), 0x0005);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, lvr, 1), 0x14);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, lvr + 1, 1), 0x00);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, lvr + 2, 1), 0x05);
	/* ... but only 32 aligned bits of it written; a processor takes fewer. */
	cpu_mmio_write(cpu, tpr, 4, 0x20);
	cpu_mmio_write(cpu, tpr, 1, 0x31);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, tpr, 4), apicv_is_on() ? 0x31 : 0x20);
	cpu_mmio_write(cpu, tpr, 2, 0x32);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, tpr, 4), apicv_is_on() ? 0x32 : 0x20);
	cpu_mmio_write(cpu, tpr, 4, 0x20);
	cpu_mmio_write(cpu, tpr, 8, 0x33);
	cpu_mmio_write(cpu, tpr + 1, 4, 0x34);
	cpu_mmio_write(cpu, tpr + 4, 4, 0x35);
	cpu_mmio_write(cpu, tpr - 2, 4, 0x360000);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, tpr, 4), 0x20);

	/* Anything else is harmless, wherever it is. */
	for (offset = 0; offset < PAGE_SIZE - 8; offset += 0x33) {
		for (width = 1; width <= 8; width *= 2) {
			cpu_mmio_read(cpu, APIC_DEFAULT_GPA + offset, width);
			if (width != 4 || offset & 0xf)
				cpu_mmio_write(cpu, APIC_DEFAULT_GPA + offset, width, ~0ull);
		}
	}
	TEST_ASSERT_EQ(cpu->nr_mmio, 0);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, tpr, 4), 0x20);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, lvr, 4), 0x50014);
	irq_vm_free(ivm);
}

/*
 * A register has four bytes of its sixteen.  A read of the other twelve gives
 * what the emulator's buffer held, which is the guest's own, and nothing of the
 * kernel's: neither what lies beside the register nor what is on the stack.
 */
TEST(xapic_reads_between_registers)
{
	struct irq_vm *ivm = irq_vm_create(1, IRQCHIP_FULL, false);
	struct irq_cpu *cpu = &ivm->cpu[0];
	struct kvm_lapic_state state;
	u32 offset;
	int width;

	/* User space may have left there what it likes. */
	lapic_get(cpu, &state);
	for (offset = 0; offset < sizeof(state.regs); offset++)
		if (offset & 0xc)
			state.regs[offset] = 0x5a;
	lapic_set(cpu, &state);

	for (offset = 0; offset < 0x400; offset++) {
		for (width = 1; width <= 8; width *= 2) {
			const u64 mask = ~0ull >> (64 - 8 * width);
			u64 last, got;

			if ((offset & 0xf) + width <= 4)
				continue;
			last = cpu_mmio_read(cpu, APIC_DEFAULT_GPA + APIC_LVR, 4);
			got = cpu_mmio_read(cpu, APIC_DEFAULT_GPA + offset, width);
			TEST_ASSERT(got == (last & mask) || got == 0 || got == mask,
				    "%d bytes at %#x: %#lx", width, offset, got);
		}
	}
	irq_vm_free(ivm);
}

/* The current count is a remainder, of periods that may be zero. */
TEST(current_count_of_a_stopped_timer)
{
	static const u32 modes[] = {
		APIC_LVT_TIMER_ONESHOT, APIC_LVT_TIMER_PERIODIC,
		APIC_LVT_TIMER_TSCDEADLINE, 3u << 17,
	};
	int x2apic, mode, divide;

	for (x2apic = 0; x2apic < 2; x2apic++) {
		struct irq_vm *ivm = irq_vm_create(1, IRQCHIP_FULL, x2apic);
		struct irq_cpu *cpu = &ivm->cpu[0];

		for (mode = 0; mode < ARRAY_SIZE(modes); mode++) {
			cpu_apic_write(cpu, APIC_LVTT, modes[mode] | APIC_LVT_MASKED | 0x51);
			for (divide = 0; divide < 16; divide++) {
				cpu_apic_write(cpu, APIC_TDCR, divide);
				TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_TMCCT), 0);
				cpu_apic_write(cpu, APIC_TMICT, 0);
				TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_TMCCT), 0);
				TEST_ASSERT_EQ(lapic_reg(cpu, APIC_TMCCT), 0);
			}
		}
		irq_vm_free(ivm);
	}
}

TEST(xapic_read_only_registers)
{
	struct irq_vm *ivm = irq_vm_create(1, IRQCHIP_FULL, false);
	struct irq_cpu *cpu = &ivm->cpu[0];
	struct kvm_lapic_state before, after;
	u32 reg;

	lapic_get(cpu, &before);
	for (reg = 0; reg < 0x400; reg += 0x10)
		if (!writable(reg) && reg != APIC_ID && reg != APIC_LDR &&
		    reg != APIC_DFR && reg != APIC_ICR && reg != APIC_ICR2)
			cpu_apic_write(cpu, reg, ~0u);
	lapic_get(cpu, &after);
	for (reg = 0; reg < 0x400; reg += 0x10)
		TEST_ASSERT(state_reg(&before, reg) == state_reg(&after, reg),
			    "%#x changed from %#x to %#x", reg,
			    state_reg(&before, reg), state_reg(&after, reg));
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_ARBPRI), 0);
	irq_vm_free(ivm);
}

TEST_HARNESS_MAIN
