// SPDX-License-Identifier: GPL-2.0
/*
 * I/O APIC version 0x20: its EOI register, and local APICs that offer not to
 * broadcast EOIs.  ferric has it, if asked to by ioapic_version=0x20; KVM's own
 * irqchip has not.
 */
#include <sys/eventfd.h>

#include "irq_vm.h"
#include "provider.h"
#include "harness.h"

#define PARAMETER		"/sys/module/ferric/parameters/ioapic_version"
#define VECTOR			0x51
#define PIN			5
#define RESAMPLE_PIN		6
#define REG_EOI			0x40
#define DIRECTED_EOI		BIT(12)		/* APIC_SPIV */
#define LVR_DIRECTED_EOI	BIT(24)

static int set_version(const char *version)
{
	int fd = open(PARAMETER, O_WRONLY), ret;

	TEST_ASSERT(fd >= 0, "cannot open " PARAMETER);
	ret = write(fd, version, strlen(version)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

FIXTURE(directed_eoi) {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;
};

FIXTURE_SETUP(directed_eoi)
{
	if (!ferric_is_loaded())
		SKIP(return, "KVM's own I/O APIC is an 82093AA");
	TEST_ASSERT_EQ(set_version("0x20"), 0);
	self->ivm = irq_vm_create(1, IRQCHIP_FULL, true);
	TEST_ASSERT_EQ(set_version("0x11"), 0);
	self->cpu = &self->ivm->cpu[0];
	cpu_apic_write(self->cpu, APIC_LVT0, APIC_LVT_MASKED);
	cpu_apic_write(self->cpu, APIC_SPIV, APIC_SPIV_APIC_ENABLED |
		       DIRECTED_EOI | APIC_SPURIOUS_VECTOR);
	self->cpu->guest->eoi = EOI_NONE;
}

FIXTURE_TEARDOWN(directed_eoi)
{
	irq_vm_free(self->ivm);
}

static void write_eoi(struct irq_cpu *cpu, u8 vector)
{
	cpu_mmio_write(cpu, IOAPIC_GPA + REG_EOI, 4, vector);
}

static void expect_interrupt(struct irq_cpu *cpu)
{
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, VECTOR);
}

static void expect_none(struct irq_cpu *cpu)
{
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
}

TEST(the_default_is_kvms)
{
	struct irq_vm *ivm = irq_vm_create(1, IRQCHIP_FULL, true);

	TEST_ASSERT_EQ(ioapic_read(ivm, IOAPIC_REG_VERSION), 0x170011u);
	TEST_ASSERT_EQ(cpu_apic_read(&ivm->cpu[0], APIC_LVR) & LVR_DIRECTED_EOI, 0);
	irq_vm_free(ivm);
}

TEST(other_versions)
{
	if (!ferric_is_loaded())
		SKIP(return, "a parameter of ferric's");
	TEST_ASSERT_EQ(set_version("0x12"), -EINVAL);
	TEST_ASSERT_EQ(set_version("-1"), -EINVAL);
	TEST_ASSERT_EQ(set_version("x"), -EINVAL);
	TEST_ASSERT_EQ(set_version("0x100000011"), -ERANGE);
	TEST_ASSERT_EQ(set_version("17"), 0);
}

TEST_F(directed_eoi, is_offered)
{
	TEST_ASSERT_EQ(ioapic_read(self->ivm, IOAPIC_REG_VERSION), 0x170020u);
	TEST_ASSERT_EQ(cpu_apic_read(self->cpu, APIC_LVR) & LVR_DIRECTED_EOI,
		       LVR_DIRECTED_EOI);
	TEST_ASSERT_EQ(cpu_apic_read(self->cpu, APIC_SPIV) & DIRECTED_EOI, DIRECTED_EOI);
}

TEST_F(directed_eoi, a_level_interrupt_waits_for_the_register)
{
	const u64 rte = RTE_LEVEL | VECTOR;

	ioapic_set_rte(self->ivm, PIN, rte);
	irq_line(self->ivm, PIN, 1);
	expect_interrupt(self->cpu);
	/* As Windows with Credential Guard does it: the local APIC comes first. */
	cpu_apic_write(self->cpu, APIC_EOI, 0);
	expect_none(self->cpu);
	TEST_ASSERT_EQ(ioapic_rte(self->ivm, PIN), rte | RTE_REMOTE_IRR);

	/* The device is not done: it comes again, once. */
	write_eoi(self->cpu, VECTOR);
	expect_interrupt(self->cpu);
	irq_line(self->ivm, PIN, 0);
	cpu_apic_write(self->cpu, APIC_EOI, 0);
	write_eoi(self->cpu, VECTOR);
	expect_none(self->cpu);
	TEST_ASSERT_EQ(ioapic_rte(self->ivm, PIN), rte);
}

TEST_F(directed_eoi, another_vector_ends_nothing)
{
	ioapic_set_rte(self->ivm, PIN, RTE_LEVEL | VECTOR);
	irq_line(self->ivm, PIN, 1);
	expect_interrupt(self->cpu);
	cpu_apic_write(self->cpu, APIC_EOI, 0);
	write_eoi(self->cpu, VECTOR + 1);
	expect_none(self->cpu);
	TEST_ASSERT(ioapic_rte(self->ivm, PIN) & RTE_REMOTE_IRR, "no remote IRR");
}

TEST_F(directed_eoi, an_irqfd_resamples_at_the_register)
{
	int irqfd = eventfd(0, 0), resamplefd = eventfd(0, EFD_NONBLOCK);

	TEST_ASSERT_EQ(irqfd_assign(self->ivm, irqfd, RESAMPLE_PIN, resamplefd), 0);
	ioapic_set_rte(self->ivm, RESAMPLE_PIN, RTE_LEVEL | VECTOR);
	eventfd_signal(irqfd);
	TEST_ASSERT(lapic_wait_irr(self->cpu, VECTOR), "the irqfd's interrupt is lost");
	expect_interrupt(self->cpu);
	cpu_apic_write(self->cpu, APIC_EOI, 0);
	TEST_ASSERT_EQ(eventfd_take(resamplefd, 0), 0);
	write_eoi(self->cpu, VECTOR);
	TEST_ASSERT_EQ(eventfd_take(resamplefd, 1000), 1);
	TEST_ASSERT(!(ioapic_rte(self->ivm, RESAMPLE_PIN) & RTE_REMOTE_IRR), "remote IRR");
	close(irqfd);
	close(resamplefd);
}

TEST_F(directed_eoi, a_guest_that_does_not_ask_for_it)
{
	cpu_apic_write(self->cpu, APIC_SPIV, APIC_SPIV_APIC_ENABLED | APIC_SPURIOUS_VECTOR);
	ioapic_set_rte(self->ivm, PIN, RTE_LEVEL | VECTOR);
	irq_line(self->ivm, PIN, 1);
	expect_interrupt(self->cpu);
	irq_line(self->ivm, PIN, 0);
	cpu_apic_write(self->cpu, APIC_EOI, 0);
	TEST_ASSERT(!(ioapic_rte(self->ivm, PIN) & RTE_REMOTE_IRR), "remote IRR");
	expect_none(self->cpu);
}

TEST_F(directed_eoi, user_space_can_say_no)
{
	struct irq_vm *ivm;

	TEST_ASSERT_EQ(set_version("0x20"), 0);
	ivm = irq_vm_create_empty(IRQCHIP_FULL);
	TEST_ASSERT_EQ(set_version("0x11"), 0);
	vm_enable_cap(ivm->vm, KVM_CAP_X2APIC_API, KVM_X2APIC_DISABLE_SUPPRESS_EOI_BROADCAST);
	cpu_enable_apic(irq_vm_add_cpu(ivm, 0), true);
	TEST_ASSERT_EQ(ioapic_read(ivm, IOAPIC_REG_VERSION), 0x170020u);
	TEST_ASSERT_EQ(cpu_apic_read(&ivm->cpu[0], APIC_LVR) & LVR_DIRECTED_EOI, 0);
	irq_vm_free(ivm);
}

TEST_HARNESS_MAIN
