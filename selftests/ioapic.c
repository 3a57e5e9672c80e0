// SPDX-License-Identifier: GPL-2.0
/*
 * The I/O APIC: registers, edge and level pins, remote IRR and EOI, irqfd with
 * and without a resample eventfd, save and restore.
 */
#include "irq_vm.h"
#include "harness.h"

#define PATIENCE_MS		20000
#define PIN			20	/* the GSI of the same number is on it alone */
#define PIN2			21
#define VECTOR			0x51
#define VECTOR2			0x61

FIXTURE(ioapic) {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;
	struct irq_cpu *cpu1;
};

FIXTURE_SETUP(ioapic)
{
	self->ivm = irq_vm_create(2, IRQCHIP_FULL, false);
	self->cpu = &self->ivm->cpu[0];
	self->cpu1 = &self->ivm->cpu[1];
	/* Whoever tests EOIs sends them by hand. */
	self->cpu->guest->eoi = EOI_NONE;
	self->cpu1->guest->eoi = EOI_NONE;
}

FIXTURE_TEARDOWN(ioapic)
{
	irq_vm_free(self->ivm);
}

static void eoi(struct irq_cpu *cpu)
{
	cpu_apic_write(cpu, APIC_EOI, 0);
}

static bool remote_irr(struct irq_vm *ivm, int pin)
{
	return ioapic_rte(ivm, pin) & RTE_REMOTE_IRR;
}

static bool pending(struct irq_cpu *cpu, u8 vector)
{
	return lapic_vector(cpu, APIC_IRR, vector);
}

TEST_F(ioapic, registers_after_reset)
{
	int pin;

	/* Version 0x11, 24 pins. */
	TEST_ASSERT_EQ(ioapic_read(self->ivm, IOAPIC_REG_VERSION), 0x170011u);
	TEST_ASSERT_EQ(ioapic_read(self->ivm, IOAPIC_REG_ID), 0u);
	TEST_ASSERT_EQ(ioapic_read(self->ivm, IOAPIC_REG_ARB), 0u);
	for (pin = 0; pin < IOAPIC_PINS; pin++)
		TEST_ASSERT_EQ(ioapic_rte(self->ivm, pin), RTE_MASKED);
}

TEST_F(ioapic, id_register)
{
	ioapic_write(self->ivm, IOAPIC_REG_ID, 0xffffffff);
	TEST_ASSERT_EQ(ioapic_read(self->ivm, IOAPIC_REG_ID), 0x0f000000u);
	ioapic_write(self->ivm, IOAPIC_REG_ID, 0x05000000);
	TEST_ASSERT_EQ(ioapic_read(self->ivm, IOAPIC_REG_ARB), 0x05000000u);
	ioapic_write(self->ivm, IOAPIC_REG_ARB, 0x0a000000);
	TEST_ASSERT_EQ(ioapic_read(self->ivm, IOAPIC_REG_ARB), 0x05000000u);
	ioapic_write(self->ivm, IOAPIC_REG_VERSION, 0);
	TEST_ASSERT_EQ(ioapic_read(self->ivm, IOAPIC_REG_VERSION), 0x170011u);
}

TEST_F(ioapic, entry_bits)
{
	const u64 known = 0xff0000000001ffffull;
	int pin;

	for (pin = 0; pin < IOAPIC_PINS; pin++) {
		/* Delivery status and remote IRR are not the guest's to write. */
		ioapic_set_rte(self->ivm, pin, ~0ull);
		TEST_ASSERT_EQ(ioapic_rte(self->ivm, pin) & known,
			       known & ~(RTE_STATUS | RTE_REMOTE_IRR));
		ioapic_set_rte(self->ivm, pin, RTE_MASKED);
		TEST_ASSERT_EQ(ioapic_rte(self->ivm, pin), RTE_MASKED);
	}
}

TEST_F(ioapic, index_sweep)
{
	u32 reg;

	for (reg = 0; reg < 256; reg++) {
		if (reg <= IOAPIC_REG_ARB ||
		    (reg >= IOAPIC_REG_RTE(0) && reg < IOAPIC_REG_RTE(IOAPIC_PINS)))
			continue;
		/* There is nothing, and nothing behind it. */
		TEST_ASSERT(ioapic_read(self->ivm, reg) == ~0u, "index %#x", reg);
		ioapic_write(self->ivm, reg, 0x12345678);
		TEST_ASSERT(ioapic_read(self->ivm, reg) == ~0u, "index %#x", reg);
	}
	TEST_ASSERT_EQ(ioapic_read(self->ivm, IOAPIC_REG_VERSION), 0x170011u);
}

TEST_F(ioapic, access_widths)
{
	struct irq_cpu *cpu = self->cpu;
	gpa_t sel = IOAPIC_GPA + IOAPIC_REGSEL, window = IOAPIC_GPA + IOAPIC_WINDOW;
	u32 offset;

	/* The selector has eight bits. */
	cpu_mmio_write(cpu, sel, 4, 0x101);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, sel, 4), 0x01);
	cpu_mmio_write(cpu, sel, 1, 0x10);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, sel, 1), 0x10);
	cpu_mmio_write(cpu, sel, 2, 0x01);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, sel, 2), 0x01);

	TEST_ASSERT_EQ(cpu_mmio_read(cpu, window, 1), 0x11);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, window, 2), 0x0011);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, window, 4), 0x170011);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, window, 8), 0x170011);

	/* A narrow write is one of the whole register, the rest zero. */
	cpu_mmio_write(cpu, sel, 8, IOAPIC_REG_RTE(3));
	cpu_mmio_write(cpu, window, 4, RTE_MASKED | RTE_LEVEL | 0x77);
	cpu_mmio_write(cpu, window, 8, RTE_MASKED | 0x78);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, window, 4), RTE_MASKED | 0x78);
	cpu_mmio_write(cpu, window, 2, 0x179);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, window, 4), 0x179);
	cpu_mmio_write(cpu, window, 1, 0x7a);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, window, 4), 0x7a);

	/* The rest of the page's first quarter is its own, and empty. */
	for (offset = 0; offset < 0x100; offset += 4) {
		if (offset == IOAPIC_REGSEL || offset == IOAPIC_WINDOW)
			continue;
		cpu_mmio_write(cpu, IOAPIC_GPA + offset, 4, ~0u);
		TEST_ASSERT_EQ(cpu_mmio_read(cpu, IOAPIC_GPA + offset, 4), 0);
	}
	TEST_ASSERT_EQ(cpu->nr_mmio, 0);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, window, 4), 0x7a);
	/* What lies beyond is user space's. */
	cpu_mmio_read(cpu, IOAPIC_GPA + 0x100, 4);
	TEST_ASSERT_EQ(cpu->nr_mmio, 1);
}

TEST_F(ioapic, edge)
{
	struct irq_cpu *cpu = self->cpu;

	ioapic_set_rte(self->ivm, PIN, VECTOR);
	TEST_ASSERT_EQ(irq_line(self->ivm, PIN, 1), 1);
	TEST_ASSERT(pending(cpu, VECTOR), "not delivered");
	TEST_ASSERT(!remote_irr(self->ivm, PIN), "remote IRR on an edge");
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, VECTOR);
	eoi(cpu);

	/* A line that stays high is no edge. */
	TEST_ASSERT_EQ(irq_line(self->ivm, PIN, 1), 0);
	TEST_ASSERT(!pending(cpu, VECTOR), "delivered without an edge");
	irq_line(self->ivm, PIN, 0);
	TEST_ASSERT(!pending(cpu, VECTOR), "delivered by the falling edge");
	TEST_ASSERT_EQ(irq_line(self->ivm, PIN, 1), 1);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, VECTOR);
	eoi(cpu);
	TEST_ASSERT(!pending(cpu, VECTOR), "an EOI re-injects no edge");
}

TEST_F(ioapic, edge_while_masked_is_lost)
{
	ioapic_set_rte(self->ivm, PIN, RTE_MASKED | VECTOR);
	TEST_ASSERT_EQ(irq_line(self->ivm, PIN, 1), -1);
	ioapic_set_rte(self->ivm, PIN, VECTOR);
	TEST_ASSERT(!pending(self->cpu, VECTOR), "delivered on unmask");
	irq_line(self->ivm, PIN, 0);
	TEST_ASSERT_EQ(irq_line(self->ivm, PIN, 1), 1);
	TEST_ASSERT(pending(self->cpu, VECTOR), "not delivered");
}

TEST_F(ioapic, level)
{
	struct irq_cpu *cpu = self->cpu;

	ioapic_set_rte(self->ivm, PIN, RTE_LEVEL | VECTOR);
	TEST_ASSERT_EQ(irq_line(self->ivm, PIN, 1), 1);
	TEST_ASSERT(remote_irr(self->ivm, PIN), "no remote IRR");
	TEST_ASSERT(lapic_vector(cpu, APIC_TMR, VECTOR), "no TMR bit");
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, VECTOR);
	/* Nothing more until the EOI. */
	irq_line(self->ivm, PIN, 1);
	TEST_ASSERT(!pending(cpu, VECTOR), "delivered again before EOI");
	TEST_ASSERT(remote_irr(self->ivm, PIN), "remote IRR gone before EOI");

	/* The line is still high: again. */
	eoi(cpu);
	TEST_ASSERT(pending(cpu, VECTOR), "EOI with the line high");
	TEST_ASSERT(remote_irr(self->ivm, PIN), "no remote IRR");
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, VECTOR);
	irq_line(self->ivm, PIN, 0);
	TEST_ASSERT(remote_irr(self->ivm, PIN), "the line takes remote IRR away");
	eoi(cpu);
	TEST_ASSERT(!pending(cpu, VECTOR), "EOI with the line low");
	TEST_ASSERT(!remote_irr(self->ivm, PIN), "remote IRR after EOI");
}

/* A vCPU that was given the interrupt takes it, even if the line falls. */
TEST_F(ioapic, level_line_falls_before_acceptance)
{
	ioapic_set_rte(self->ivm, PIN, RTE_LEVEL | VECTOR);
	irq_line(self->ivm, PIN, 1);
	irq_line(self->ivm, PIN, 0);
	cpu_take_irqs(self->cpu);
	cpu_expect_log(self->cpu, VECTOR);
	eoi(self->cpu);
	TEST_ASSERT(!remote_irr(self->ivm, PIN), "remote IRR after EOI");
	TEST_ASSERT_EQ(lapic_count(self->cpu, APIC_IRR), 0);
}

TEST_F(ioapic, level_while_masked)
{
	ioapic_set_rte(self->ivm, PIN, RTE_MASKED | RTE_LEVEL | VECTOR);
	TEST_ASSERT_EQ(irq_line(self->ivm, PIN, 1), -1);
	TEST_ASSERT(!pending(self->cpu, VECTOR), "delivered though masked");
	ioapic_set_rte(self->ivm, PIN, RTE_LEVEL | VECTOR);
	TEST_ASSERT(pending(self->cpu, VECTOR), "lost on unmask");
	TEST_ASSERT(remote_irr(self->ivm, PIN), "no remote IRR");

	ioapic_set_rte(self->ivm, PIN2, RTE_MASKED | RTE_LEVEL | VECTOR2);
	irq_line(self->ivm, PIN2, 1);
	irq_line(self->ivm, PIN2, 0);
	ioapic_set_rte(self->ivm, PIN2, RTE_LEVEL | VECTOR2);
	TEST_ASSERT(!pending(self->cpu, VECTOR2), "the line is low");
}

TEST_F(ioapic, eoi_while_masked)
{
	struct irq_cpu *cpu = self->cpu;

	ioapic_set_rte(self->ivm, PIN, RTE_LEVEL | VECTOR);
	irq_line(self->ivm, PIN, 1);
	cpu_take_irqs(cpu);
	ioapic_set_rte(self->ivm, PIN, RTE_MASKED | RTE_LEVEL | VECTOR);
	TEST_ASSERT(remote_irr(self->ivm, PIN), "masking takes remote IRR away");
	eoi(cpu);
	TEST_ASSERT(!remote_irr(self->ivm, PIN), "EOI of a masked pin is lost");
	TEST_ASSERT(!pending(cpu, VECTOR), "delivered though masked");
	ioapic_set_rte(self->ivm, PIN, RTE_LEVEL | VECTOR);
	TEST_ASSERT(pending(cpu, VECTOR), "lost on unmask");
}

/* How systems end an interrupt without an EOI register. */
TEST_F(ioapic, edge_mode_clears_remote_irr)
{
	struct irq_cpu *cpu = self->cpu;

	ioapic_set_rte(self->ivm, PIN, RTE_LEVEL | VECTOR);
	irq_line(self->ivm, PIN, 1);
	cpu_take_irqs(cpu);
	cpu_clear_log(cpu);
	ioapic_set_rte(self->ivm, PIN, RTE_MASKED | VECTOR);
	TEST_ASSERT(!remote_irr(self->ivm, PIN), "remote IRR in edge mode");
	/* Level again, with the line still high. */
	ioapic_set_rte(self->ivm, PIN, RTE_LEVEL | VECTOR);
	TEST_ASSERT(pending(cpu, VECTOR), "not delivered again");
	TEST_ASSERT(remote_irr(self->ivm, PIN), "no remote IRR");
}

TEST_F(ioapic, destination_changes_in_service)
{
	struct irq_vm *ivm = self->ivm;

	ioapic_set_rte(ivm, PIN, RTE_LEVEL | RTE_DEST(0) | VECTOR);
	irq_line(ivm, PIN, 1);
	cpu_take_irqs(self->cpu);
	cpu_expect_log(self->cpu, VECTOR);
	ioapic_set_rte(ivm, PIN, RTE_LEVEL | RTE_DEST(1) | VECTOR);
	TEST_ASSERT(!pending(self->cpu1, VECTOR), "delivered twice");
	/* The EOI of the one that has it counts; the next goes to the other. */
	eoi(self->cpu);
	TEST_ASSERT(!pending(self->cpu, VECTOR), "to the old destination");
	TEST_ASSERT(pending(self->cpu1, VECTOR), "not to the new destination");
	cpu_take_irqs(self->cpu1);
	irq_line(ivm, PIN, 0);
	eoi(self->cpu1);
	TEST_ASSERT(!remote_irr(ivm, PIN), "remote IRR after EOI");
}

TEST_F(ioapic, destination_changes_while_pending)
{
	struct irq_vm *ivm = self->ivm;

	ioapic_set_rte(ivm, PIN, RTE_LEVEL | RTE_DEST(1) | VECTOR);
	irq_line(ivm, PIN, 1);
	TEST_ASSERT(pending(self->cpu1, VECTOR), "not delivered");
	ioapic_set_rte(ivm, PIN, RTE_LEVEL | RTE_DEST(0) | VECTOR);
	irq_line(ivm, PIN, 0);
	cpu_take_irqs(self->cpu1);
	cpu_expect_log(self->cpu1, VECTOR);
	eoi(self->cpu1);
	TEST_ASSERT(!remote_irr(ivm, PIN), "remote IRR after EOI");
	TEST_ASSERT_EQ(lapic_count(self->cpu, APIC_IRR), 0);
}

TEST_F(ioapic, one_eoi_for_two_pins_of_a_vector)
{
	struct irq_vm *ivm = self->ivm;

	ioapic_set_rte(ivm, PIN, RTE_LEVEL | VECTOR);
	ioapic_set_rte(ivm, PIN2, RTE_LEVEL | VECTOR);
	irq_line(ivm, PIN, 1);
	irq_line(ivm, PIN2, 1);
	cpu_take_irqs(self->cpu);
	cpu_expect_log(self->cpu, VECTOR);
	irq_line(ivm, PIN, 0);
	irq_line(ivm, PIN2, 0);
	eoi(self->cpu);
	TEST_ASSERT(!remote_irr(ivm, PIN), "remote IRR of the first pin");
	TEST_ASSERT(!remote_irr(ivm, PIN2), "remote IRR of the second pin");
}

/* The EOI of another vector, or of an edge of the same, is none of its. */
TEST_F(ioapic, eoi_of_others)
{
	struct irq_vm *ivm = self->ivm;

	ioapic_set_rte(ivm, PIN, RTE_LEVEL | RTE_DEST(1) | VECTOR);
	irq_line(ivm, PIN, 1);
	cpu_take_irqs(self->cpu1);
	cpu_send_ipi(self->cpu, APIC_INT_ASSERT | VECTOR2, 0);
	cpu_take_irqs(self->cpu);
	eoi(self->cpu);
	TEST_ASSERT(remote_irr(ivm, PIN), "EOI of another vector");
	cpu_send_ipi(self->cpu, APIC_INT_ASSERT | VECTOR, 0);
	cpu_take_irqs(self->cpu);
	eoi(self->cpu);
	TEST_ASSERT(remote_irr(ivm, PIN), "EOI of an edge-triggered IPI");
	eoi(self->cpu1);
	TEST_ASSERT(!pending(self->cpu, VECTOR), "to the wrong vCPU");
	TEST_ASSERT(pending(self->cpu1, VECTOR), "the line is still high");
}

TEST_F(ioapic, level_to_nobody)
{
	ioapic_set_rte(self->ivm, PIN, RTE_LEVEL | RTE_DEST(9) | VECTOR);
	irq_line(self->ivm, PIN, 1);
	TEST_ASSERT(!remote_irr(self->ivm, PIN), "nobody will send an EOI");
	/* When somebody can be asked, he is. */
	ioapic_set_rte(self->ivm, PIN, RTE_LEVEL | RTE_DEST(1) | VECTOR);
	TEST_ASSERT(pending(self->cpu1, VECTOR), "not delivered");
}

TEST_F(ioapic, all_pins)
{
	int gsi;

	/* GSI n is pin n; those below 16 are the PIC's, too. */
	cpu_outb(self->cpu, 0x21, 0xff);
	cpu_outb(self->cpu, 0xa1, 0xff);
	for (gsi = 0; gsi < IOAPIC_PINS; gsi++) {
		ioapic_set_rte(self->ivm, gsi, RTE_DEST(1) | (0x40 + gsi));
		TEST_ASSERT(irq_line(self->ivm, gsi, 1) == 1, "GSI %d", gsi);
		TEST_ASSERT(pending(self->cpu1, 0x40 + gsi), "GSI %d", gsi);
		TEST_ASSERT_EQ(lapic_count(self->cpu1, APIC_IRR), gsi + 1);
	}
}

TEST_F(ioapic, routes)
{
	struct kvm_irq_routing *r = routing_create();
	struct irq_vm *ivm = self->ivm;

	/* Two GSIs on one pin, and one GSI on pins of other numbers. */
	routing_add_pin(r, 40, KVM_IRQCHIP_IOAPIC, PIN);
	routing_add_pin(r, 41, KVM_IRQCHIP_IOAPIC, PIN);
	routing_add_pin(r, 1000, KVM_IRQCHIP_IOAPIC, PIN2);
	routing_commit(ivm, r);
	ioapic_set_rte(ivm, PIN, VECTOR);
	ioapic_set_rte(ivm, PIN2, VECTOR2);

	TEST_ASSERT_EQ(irq_line(ivm, PIN, 1), -1);
	TEST_ASSERT_EQ(irq_line(ivm, 40, 1), 1);
	irq_line(ivm, 40, 0);
	cpu_take_irqs(self->cpu);
	eoi(self->cpu);
	TEST_ASSERT_EQ(irq_line(ivm, 41, 1), 1);
	TEST_ASSERT_EQ(irq_line(ivm, 1000, 1), 1);
	cpu_take_irqs(self->cpu);
	cpu_expect_log(self->cpu, VECTOR, VECTOR2);

	/* An empty table disconnects all of it. */
	r->nr = 0;
	routing_commit(ivm, r);
	TEST_ASSERT_EQ(irq_line(ivm, 1000, 0), -1);
	TEST_ASSERT_EQ(irq_line(ivm, 1000, 1), -1);
	free(r);
}

/* User space wants to know of RTC interrupts that no one has seen. */
TEST_F(ioapic, rtc_coalescing)
{
	struct irq_vm *ivm = self->ivm;

	cpu_outb(self->cpu, 0x21, 0xff);
	cpu_outb(self->cpu, 0xa1, 0xff);
	ioapic_set_rte(ivm, 8, VECTOR);
	TEST_ASSERT_EQ(irq_line(ivm, 8, 1), 1);
	irq_line(ivm, 8, 0);
	/* With APICv KVM does not see it before it is in IRR. */
	cpu_rdtsc(self->cpu);
	TEST_ASSERT_EQ(irq_line(ivm, 8, 1), 0);
	irq_line(ivm, 8, 0);
	cpu_take_irqs(self->cpu);
	TEST_ASSERT_EQ(irq_line(ivm, 8, 1), 0);
	irq_line(ivm, 8, 0);
	eoi(self->cpu);
	TEST_ASSERT_EQ(irq_line(ivm, 8, 1), 1);
	cpu_take_irqs(self->cpu);
	cpu_expect_log(self->cpu, VECTOR, VECTOR);
}

TEST_F(ioapic, irqfd_pulses_an_edge)
{
	int fd = kvm_new_eventfd();

	ioapic_set_rte(self->ivm, PIN, VECTOR);
	TEST_ASSERT_EQ(irqfd_assign(self->ivm, fd, PIN, -1), 0);
	eventfd_signal(fd);
	TEST_ASSERT(lapic_wait_irr(self->cpu, VECTOR), "not delivered");
	cpu_take_irqs(self->cpu);
	eoi(self->cpu);
	/* The line is low again by itself. */
	eventfd_signal(fd);
	TEST_ASSERT(lapic_wait_irr(self->cpu, VECTOR), "not delivered");
	cpu_take_irqs(self->cpu);
	cpu_expect_log(self->cpu, VECTOR, VECTOR);
	close(fd);
}

TEST_F(ioapic, irqfd_signalled_before_it_is_assigned)
{
	int fd = kvm_new_eventfd();

	ioapic_set_rte(self->ivm, PIN, VECTOR);
	eventfd_signal(fd);
	TEST_ASSERT_EQ(irqfd_assign(self->ivm, fd, PIN, -1), 0);
	TEST_ASSERT(lapic_wait_irr(self->cpu, VECTOR), "not delivered");
	close(fd);
}

TEST_F(ioapic, resamplefd)
{
	int fd = kvm_new_eventfd(), resample = kvm_new_eventfd();
	struct irq_vm *ivm = self->ivm;
	int round;

	ioapic_set_rte(ivm, PIN, RTE_LEVEL | VECTOR);
	TEST_ASSERT_EQ(irqfd_assign(ivm, fd, PIN, resample), 0);

	for (round = 0; round < 3; round++) {
		eventfd_signal(fd);
		TEST_ASSERT(lapic_wait_irr(self->cpu, VECTOR), "not delivered");
		TEST_ASSERT(remote_irr(ivm, PIN), "no remote IRR");
		cpu_take_irqs(self->cpu);
		cpu_expect_log(self->cpu, VECTOR);
		TEST_ASSERT_EQ(eventfd_take(resample, 0), 0);
		/* The EOI lowers the line, and then user space is asked. */
		eoi(self->cpu);
		TEST_ASSERT_EQ(eventfd_take(resample, PATIENCE_MS), 1);
		TEST_ASSERT(!remote_irr(ivm, PIN), "remote IRR after EOI");
		TEST_ASSERT(!pending(self->cpu, VECTOR), "the line is still high");
	}
	close(fd);
	close(resample);
}

/* One line, two owners: lowered by one it is still high for the other. */
TEST_F(ioapic, resamplefd_and_irq_line_share_a_pin)
{
	int fd = kvm_new_eventfd(), resample = kvm_new_eventfd();
	struct irq_vm *ivm = self->ivm;

	ioapic_set_rte(ivm, PIN, RTE_LEVEL | VECTOR);
	TEST_ASSERT_EQ(irqfd_assign(ivm, fd, PIN, resample), 0);
	irq_line(ivm, PIN, 1);
	eventfd_signal(fd);
	TEST_ASSERT(lapic_wait_irr(self->cpu, VECTOR), "not delivered");
	cpu_take_irqs(self->cpu);
	eoi(self->cpu);
	TEST_ASSERT_EQ(eventfd_take(resample, PATIENCE_MS), 1);
	TEST_ASSERT(pending(self->cpu, VECTOR), "the other half of the line");
	cpu_take_irqs(self->cpu);
	irq_line(ivm, PIN, 0);
	eoi(self->cpu);
	TEST_ASSERT(!pending(self->cpu, VECTOR), "the line is still high");
	close(fd);
	close(resample);
}

TEST_F(ioapic, two_resamplefds_share_a_pin)
{
	int fd[2] = { kvm_new_eventfd(), kvm_new_eventfd() };
	int resample[2] = { kvm_new_eventfd(), kvm_new_eventfd() };
	struct irq_vm *ivm = self->ivm;
	int i;

	ioapic_set_rte(ivm, PIN, RTE_LEVEL | VECTOR);
	for (i = 0; i < 2; i++)
		TEST_ASSERT_EQ(irqfd_assign(ivm, fd[i], PIN, resample[i]), 0);
	eventfd_signal(fd[1]);
	TEST_ASSERT(lapic_wait_irr(self->cpu, VECTOR), "not delivered");
	cpu_take_irqs(self->cpu);
	eoi(self->cpu);
	/* Nobody knows whose it was: all are asked. */
	for (i = 0; i < 2; i++) {
		TEST_ASSERT_EQ(eventfd_take(resample[i], PATIENCE_MS), 1);
		close(fd[i]);
		close(resample[i]);
	}
}

/*
 * On unmask nobody knows if the device still asks.  With a resampler it is
 * asked, instead of an interrupt that may be spurious.
 */
TEST_F(ioapic, resamplefd_on_unmask)
{
	int fd = kvm_new_eventfd(), resample = kvm_new_eventfd();
	struct irq_vm *ivm = self->ivm;
	struct kvm_irqchip chip;
	int i;

	ioapic_set_rte(ivm, PIN, RTE_MASKED | RTE_LEVEL | VECTOR);
	TEST_ASSERT_EQ(irqfd_assign(ivm, fd, PIN, resample), 0);
	eventfd_signal(fd);
	for (i = 0; i < PATIENCE_MS; i++) {
		irqchip_get(ivm, KVM_IRQCHIP_IOAPIC, &chip);
		if (chip.chip.ioapic.irr & BIT(PIN))
			break;
		usleep(1000);
	}
	TEST_ASSERT(chip.chip.ioapic.irr & BIT(PIN), "the line is not high");
	TEST_ASSERT_EQ(eventfd_take(resample, 0), 0);
	ioapic_set_rte(ivm, PIN, RTE_LEVEL | VECTOR);
	TEST_ASSERT_EQ(eventfd_take(resample, PATIENCE_MS), 1);
	TEST_ASSERT(!pending(self->cpu, VECTOR), "delivered without asking");
	/* It does. */
	eventfd_signal(fd);
	TEST_ASSERT(lapic_wait_irr(self->cpu, VECTOR), "not delivered");
	close(fd);
	close(resample);
}

/* The eventfd of a pin that has become edge-triggered: no endless loop. */
TEST_F(ioapic, resamplefd_on_an_edge)
{
	int fd = kvm_new_eventfd(), resample = kvm_new_eventfd();

	ioapic_set_rte(self->ivm, PIN, VECTOR);
	TEST_ASSERT_EQ(irqfd_assign(self->ivm, fd, PIN, resample), 0);
	eventfd_signal(fd);
	TEST_ASSERT(lapic_wait_irr(self->cpu, VECTOR), "not delivered");
	cpu_take_irqs(self->cpu);
	eoi(self->cpu);
	TEST_ASSERT_EQ(eventfd_take(resample, PATIENCE_MS), 1);
	eventfd_signal(fd);
	TEST_ASSERT(lapic_wait_irr(self->cpu, VECTOR), "the line stayed high");
	close(fd);
	close(resample);
}

static void expect_same_ioapic(struct irq_vm *a, struct irq_vm *b)
{
	struct kvm_irqchip chip_a, chip_b;
	int pin;

	irqchip_get(a, KVM_IRQCHIP_IOAPIC, &chip_a);
	irqchip_get(b, KVM_IRQCHIP_IOAPIC, &chip_b);
	TEST_ASSERT_EQ(chip_a.chip.ioapic.base_address, chip_b.chip.ioapic.base_address);
	TEST_ASSERT_EQ(chip_a.chip.ioapic.ioregsel, chip_b.chip.ioapic.ioregsel);
	TEST_ASSERT_EQ(chip_a.chip.ioapic.id, chip_b.chip.ioapic.id);
	TEST_ASSERT_EQ(chip_a.chip.ioapic.irr, chip_b.chip.ioapic.irr);
	for (pin = 0; pin < IOAPIC_PINS; pin++)
		TEST_ASSERT_EQ(chip_a.chip.ioapic.redirtbl[pin].bits,
			       chip_b.chip.ioapic.redirtbl[pin].bits);
}

static void move_state(struct irq_vm *from, struct irq_vm *to)
{
	struct kvm_lapic_state state;
	struct kvm_irqchip chip;
	int i;

	for (i = 0; i < from->nr_cpus; i++) {
		lapic_get(&from->cpu[i], &state);
		lapic_set(&to->cpu[i], &state);
		to->cpu[i].guest->eoi = from->cpu[i].guest->eoi;
	}
	irqchip_get(from, KVM_IRQCHIP_IOAPIC, &chip);
	irqchip_set(to, &chip);
}

TEST_F(ioapic, restore_in_service_with_the_line_high)
{
	struct irq_vm *to = irq_vm_create(2, IRQCHIP_FULL, false);
	struct irq_vm *ivm = self->ivm;

	ioapic_write(ivm, IOAPIC_REG_ID, 0x03000000);
	ioapic_set_rte(ivm, PIN, RTE_LEVEL | VECTOR);
	ioapic_set_rte(ivm, PIN2, RTE_LEVEL | RTE_MASKED | RTE_LOGICAL |
		       RTE_LOW_ACTIVE | RTE_DEST(2) | VECTOR2);
	irq_line(ivm, PIN, 1);
	irq_line(ivm, PIN2, 1);
	cpu_take_irqs(self->cpu);
	cpu_expect_log(self->cpu, VECTOR);

	move_state(ivm, to);
	expect_same_ioapic(ivm, to);
	TEST_ASSERT(!pending(&to->cpu[0], VECTOR), "injected by the restore");
	/* The line is still high. */
	eoi(&to->cpu[0]);
	TEST_ASSERT(pending(&to->cpu[0], VECTOR), "lost by the restore");
	cpu_take_irqs(&to->cpu[0]);
	irq_line(to, PIN, 0);
	eoi(&to->cpu[0]);
	TEST_ASSERT(!remote_irr(to, PIN), "remote IRR after EOI");
	irq_vm_free(to);
}

TEST_F(ioapic, restore_line_low_in_service)
{
	struct irq_vm *to = irq_vm_create(2, IRQCHIP_FULL, false);

	ioapic_set_rte(self->ivm, PIN, RTE_LEVEL | VECTOR);
	irq_line(self->ivm, PIN, 1);
	cpu_take_irqs(self->cpu);
	irq_line(self->ivm, PIN, 0);
	move_state(self->ivm, to);
	TEST_ASSERT(remote_irr(to, PIN), "remote IRR lost by the restore");
	eoi(&to->cpu[0]);
	TEST_ASSERT(!remote_irr(to, PIN), "remote IRR after EOI");
	TEST_ASSERT(!pending(&to->cpu[0], VECTOR), "the line is low");
	irq_vm_free(to);
}

TEST_F(ioapic, restore_edges)
{
	struct irq_vm *to = irq_vm_create(2, IRQCHIP_FULL, false);
	struct kvm_irqchip chip;

	/* Delivered: not again. */
	ioapic_set_rte(self->ivm, PIN, VECTOR);
	irq_line(self->ivm, PIN, 1);
	cpu_take_irqs(self->cpu);
	eoi(self->cpu);
	move_state(self->ivm, to);
	TEST_ASSERT(!pending(&to->cpu[0], VECTOR), "repeated by the restore");

	/* Not delivered: user space says that it is to be. */
	irqchip_get(to, KVM_IRQCHIP_IOAPIC, &chip);
	TEST_ASSERT_EQ(chip.chip.ioapic.irr & BIT(PIN), 0);
	chip.chip.ioapic.irr |= BIT(PIN);
	irqchip_set(to, &chip);
	TEST_ASSERT(pending(&to->cpu[0], VECTOR), "not delivered by the restore");
	irq_vm_free(to);
}

TEST_HARNESS_MAIN
