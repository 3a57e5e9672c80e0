// SPDX-License-Identifier: GPL-2.0
/*
 * Many vCPUs, and high vCPU IDs: the tables and bitmaps that an ID, an index or
 * a destination is looked up in end where KVM_CAP_MAX_VCPU_ID and
 * KVM_CAP_MAX_VCPUS say, and not at 64, 128 or 256.
 */
#include "irq_vm.h"
#include "harness.h"

#define VECTOR			0x51
#define PIN			20	/* on the I/O APIC alone */
#define RTC_PIN			8

/* vCPUs that never run, so that the ones that do have high indexes. */
#define NR_IDLE			300

static u32 max_id(struct irq_vm *ivm)
{
	return vm_check_cap(ivm->vm, KVM_CAP_MAX_VCPU_ID) - 1;
}

/* The I/O APIC alone, so that nothing comes twice. */
static void mask_pic(struct irq_cpu *cpu)
{
	cpu_outb(cpu, 0x21, 0xff);
	cpu_outb(cpu, 0xa1, 0xff);
}

/*
 * A write to the redirection table asks the vCPUs that it concerns to find out
 * again which EOIs they have to report: a set of vCPUs by index.
 */
TEST(eoi_of_a_vcpu_with_a_high_index)
{
	struct irq_vm *ivm = irq_vm_create_empty(IRQCHIP_FULL);
	struct irq_cpu *bsp, *last;
	unsigned long id;

	bsp = irq_vm_add_cpu(ivm, 0);
	/* The VM keeps them. */
	for (id = 100; id < 100 + NR_IDLE; id++)
		kvm_close(ioctl(ivm->vm->fd, KVM_CREATE_VCPU, id));
	last = irq_vm_add_cpu(ivm, 2);
	cpu_enable_apic(bsp, false);
	cpu_enable_apic(last, false);
	last->guest->eoi = EOI_NONE;

	/* To it alone, and to all of them. */
	for (id = 2; id <= 0xff; id += 0xfd) {
		ioapic_set_rte(ivm, PIN, RTE_DEST(id) | RTE_LEVEL | VECTOR);
		irq_line(ivm, PIN, 1);
		irq_line(ivm, PIN, 0);
		TEST_ASSERT(ioapic_rte(ivm, PIN) & RTE_REMOTE_IRR, "no remote IRR");
		cpu_take_irqs(last);
		cpu_expect_log(last, VECTOR);
		cpu_apic_write(last, APIC_EOI, 0);
		TEST_ASSERT(!(ioapic_rte(ivm, PIN) & RTE_REMOTE_IRR),
			    "to %#lx: the EOI was not heard", id);
		/* Nothing is left over at the sender's. */
		cpu_take_irqs(bsp);
		cpu_clear_log(bsp);
	}
	/* Modes that have no vector ask everyone. */
	ioapic_set_rte(ivm, PIN, RTE_DEST(0xff) | RTE_LEVEL | RTE_LOWEST | VECTOR);
	ioapic_set_rte(ivm, PIN, RTE_DEST(0xff) | RTE_LOGICAL | RTE_LEVEL | VECTOR);
	ioapic_set_rte(ivm, PIN, RTE_MASKED);
	irq_vm_free(ivm);
}

/* Who owes the RTC an EOI: a set of vCPUs by ID. */
TEST(rtc_of_the_highest_id)
{
	struct irq_vm *ivm = irq_vm_create_empty(IRQCHIP_FULL);
	struct irq_cpu *bsp, *last;

	bsp = irq_vm_add_cpu(ivm, 0);
	last = irq_vm_add_cpu(ivm, max_id(ivm));
	cpu_enable_apic(bsp, false);
	cpu_enable_apic(last, true);
	bsp->guest->eoi = EOI_NONE;
	last->guest->eoi = EOI_NONE;
	mask_pic(bsp);

	ioapic_set_rte(ivm, RTC_PIN, RTE_DEST(0xff) | VECTOR);
	TEST_ASSERT_EQ(irq_line(ivm, RTC_PIN, 1), 2);
	irq_line(ivm, RTC_PIN, 0);
	cpu_take_irqs(bsp);
	cpu_take_irqs(last);
	cpu_expect_log(last, VECTOR);
	cpu_apic_write(bsp, APIC_EOI, 0);
	/* One of the two is missing. */
	TEST_ASSERT_EQ(irq_line(ivm, RTC_PIN, 1), 0);
	irq_line(ivm, RTC_PIN, 0);
	cpu_apic_write(last, APIC_EOI, 0);
	TEST_ASSERT_EQ(irq_line(ivm, RTC_PIN, 1), 2);
	irq_line(ivm, RTC_PIN, 0);
	irq_vm_free(ivm);
}

/*
 * An RTC interrupt that nobody gets is owed by nobody: not by one too few, so
 * that the next EOI would be one too many.
 */
TEST(rtc_to_nobody)
{
	struct irq_vm *ivm = irq_vm_create(1, IRQCHIP_FULL, false);
	struct irq_cpu *cpu = &ivm->cpu[0];
	u64 base = cpu_rdmsr(cpu, MSR_IA32_APICBASE);
	struct kvm_lapic_state state;
	int round;

	mask_pic(cpu);
	cpu->guest->eoi = EOI_NONE;
	for (round = 0; round < 3; round++) {
		/* To everybody, but there is no local APIC. */
		ioapic_set_rte(ivm, RTC_PIN, RTE_DEST(0xff) | VECTOR);
		cpu_wrmsr(cpu, MSR_IA32_APICBASE, base & ~(u64)MSR_IA32_APICBASE_ENABLE);
		TEST_ASSERT_EQ(irq_line(ivm, RTC_PIN, 1), -1);
		irq_line(ivm, RTC_PIN, 0);
		cpu_wrmsr(cpu, MSR_IA32_APICBASE, base);

		/* One is in service after all, user space says. */
		lapic_get(cpu, &state);
		state_set_reg(&state, APIC_ISR + APIC_VECTOR_TO_REG_OFFSET(VECTOR),
			      BIT(APIC_VECTOR_TO_BIT_NUMBER(VECTOR)));
		lapic_set(cpu, &state);
		TEST_ASSERT_EQ(irq_line(ivm, RTC_PIN, 1), 0);
		irq_line(ivm, RTC_PIN, 0);
		cpu_apic_write(cpu, APIC_EOI, 0);
		TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 0);
		TEST_ASSERT_EQ(irq_line(ivm, RTC_PIN, 1), 1);
		irq_line(ivm, RTC_PIN, 0);
		cpu_take_irqs(cpu);
		cpu_expect_log(cpu, VECTOR);
		cpu_apic_write(cpu, APIC_EOI, 0);
	}
	irq_vm_free(ivm);
}

/* A guest may send to each of x2APIC's 65536 clusters; most have no table. */
TEST(clusters_that_are_not_there)
{
	struct irq_vm *ivm = irq_vm_create_empty(IRQCHIP_FULL);
	struct irq_cpu *bsp, *last;
	u32 cluster, id = max_id(ivm);

	bsp = irq_vm_add_cpu(ivm, 0);
	last = irq_vm_add_cpu(ivm, id);
	cpu_enable_apic(bsp, true);
	cpu_enable_apic(last, true);
	TEST_ASSERT_EQ(cpu_apic_read(last, APIC_LDR), id >> 4 << 16 | BIT(id & 0xf));

	for (cluster = 1; cluster < 0x10000; cluster += cluster < 0x120 ? 1 : 0x111) {
		u32 icr = APIC_INT_ASSERT | APIC_DEST_LOGICAL | VECTOR;

		/* Not 0xffffffff, which is everybody. */
		cpu_send_ipi(bsp, icr, cluster << 16 | 0xfffe);
		TEST_ASSERT_EQ(lapic_count(bsp, APIC_IRR), 0);
		TEST_ASSERT(lapic_count(last, APIC_IRR) == (cluster == id >> 4),
			    "cluster %#x", cluster);
		if (cluster == id >> 4) {
			cpu_take_irqs(last);
			cpu_expect_log(last, VECTOR);
		}
	}
	/* Physical IDs have no end either. */
	for (cluster = 1; cluster; cluster <<= 1) {
		cpu_send_ipi(bsp, APIC_INT_ASSERT | VECTOR, cluster);
		cpu_send_ipi(bsp, APIC_INT_ASSERT | VECTOR, ~cluster);
	}
	TEST_ASSERT_EQ(lapic_count(bsp, APIC_IRR), 0);
	TEST_ASSERT_EQ(lapic_count(last, APIC_IRR), 0);
	irq_vm_free(ivm);
}

TEST_HARNESS_MAIN
