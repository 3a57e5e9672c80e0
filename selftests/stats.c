// SPDX-License-Identifier: GPL-2.0
/*
 * What ferric counts of a VM, in debugfs: enough to tell at which step an
 * interrupt that a guest waits for has stopped, without anything that would push
 * it on.
 */
#include "apicv.h"
#include "irq_vm.h"
#include "provider.h"
#include "stats.h"
#include "harness.h"

#define VECTOR			0x51
#define MSI_VECTOR		0x61
#define PIN			20	/* the GSI of the same number is on it alone */

FIXTURE(stats) {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;
	struct stats stats;
};

static void expect_counters(const struct stats *stats, u64 msi, u64 ioapic,
			    u64 injected, u64 eoi)
{
	TEST_ASSERT_EQ(stats_counter(stats, "msi_delivered"), msi);
	TEST_ASSERT_EQ(stats_counter(stats, "ioapic_delivered"), ioapic);
	TEST_ASSERT_EQ(stats_counter(stats, "lapic_injected"), injected);
	TEST_ASSERT_EQ(stats_counter(stats, "eoi"), eoi);
}

FIXTURE_SETUP(stats)
{
	if (!ferric_is_loaded())
		SKIP(return, "KVM's own irqchip does not count");
	self->ivm = irq_vm_create(1, IRQCHIP_FULL, true);
	self->cpu = &self->ivm->cpu[0];
	self->cpu->guest->eoi = EOI_NONE;
	self->stats = stats_begin();
}

FIXTURE_TEARDOWN(stats)
{
	irq_vm_free(self->ivm);
	stats_end(&self->stats);
}

TEST_F(stats, tell_where_an_interrupt_has_stopped)
{
	struct irq_cpu *cpu = self->cpu;
	/* What a processor takes and ends, it counts nowhere. */
	const u64 one = apicv_is_on() ? 0 : 1;

	expect_counters(&self->stats, 0, 0, 0, 0);
	/* Sent to nobody. */
	TEST_ASSERT_EQ(signal_msi(self->ivm, MSI_ADDR(9), 0, MSI_VECTOR), 0);
	ioapic_set_rte(self->ivm, PIN, RTE_MASKED | RTE_LEVEL | VECTOR);
	irq_line(self->ivm, PIN, 1);
	expect_counters(&self->stats, 0, 0, 0, 0);

	/* Accepted, but not taken: nothing gets it on but the guest. */
	cpu_set_cr8(cpu, 15);
	TEST_ASSERT_EQ(signal_msi(self->ivm, MSI_ADDR(0), 0, MSI_VECTOR), 1);
	cpu_take_irqs(cpu);
	usleep(50000);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
	expect_counters(&self->stats, 1, 0, 0, 0);

	/* Taken, but not ended. */
	cpu_set_cr8(cpu, 0);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, MSI_VECTOR);
	expect_counters(&self->stats, 1, 0, one, 0);
	cpu_apic_write(cpu, APIC_EOI, 0);
	expect_counters(&self->stats, 1, 0, one, one);

	/* From the I/O APIC, whose line waits for its EOI. */
	ioapic_set_rte(self->ivm, PIN, RTE_LEVEL | VECTOR);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, VECTOR);
	expect_counters(&self->stats, 1, 1, 2 * one, one);
	TEST_ASSERT_EQ(stats_counter(&self->stats, "ioapic_eoi"), 0);
	irq_line(self->ivm, PIN, 0);
	cpu_apic_write(cpu, APIC_EOI, 0);
	/* The EOI of a level interrupt is an exit. */
	expect_counters(&self->stats, 1, 1, 2 * one, 1 + one);
	TEST_ASSERT_EQ(stats_counter(&self->stats, "ioapic_eoi"), 1);
}

TEST_HARNESS_MAIN
