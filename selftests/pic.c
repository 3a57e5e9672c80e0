// SPDX-License-Identifier: GPL-2.0
/*
 * The pair of 8259s, as a guest with LINT0 in ExtINT mode uses them: ICWs and
 * OCWs, priorities and their rotation, all ways of EOI, poll, spurious
 * interrupts, ELCR, the cascade, save and restore.
 */
#include "irq_vm.h"
#include "harness.h"

#define MASTER_CMD		0x20
#define MASTER_DATA		0x21
#define SLAVE_CMD		0xa0
#define SLAVE_DATA		0xa1
#define ELCR_MASTER		0x4d0
#define ELCR_SLAVE		0x4d1

#define ICW1_INIT		0x11	/* with ICW4 */
#define ICW4_8086		0x01
#define ICW4_AUTO_EOI		0x02
#define ICW4_SFNM		0x10
#define OCW2_ROTATE_AEOI_ON	0x80
#define OCW2_ROTATE_AEOI_OFF	0x00
#define OCW2_EOI		0x20
#define OCW2_ROTATE_EOI		0xa0
#define OCW2_SPECIFIC_EOI(n)	(0x60 | (n))
#define OCW2_SET_LOWEST(n)	(0xc0 | (n))
#define OCW2_ROTATE_SPECIFIC(n)	(0xe0 | (n))
#define OCW3_READ_IRR		0x0a
#define OCW3_READ_ISR		0x0b
#define OCW3_POLL		0x0c

#define BASE			0x40
#define SLAVE_BASE		0x68

FIXTURE(pic) {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;
};

static u8 vector_of(int irq)
{
	return irq < 8 ? BASE + irq : SLAVE_BASE + irq - 8;
}

static void init_pics(struct irq_cpu *cpu, u8 base, u8 slave_base, u8 icw4)
{
	cpu_outb(cpu, MASTER_CMD, ICW1_INIT);
	cpu_outb(cpu, MASTER_DATA, base);
	cpu_outb(cpu, MASTER_DATA, BIT(2));
	cpu_outb(cpu, MASTER_DATA, icw4);
	cpu_outb(cpu, SLAVE_CMD, ICW1_INIT);
	cpu_outb(cpu, SLAVE_DATA, slave_base);
	cpu_outb(cpu, SLAVE_DATA, 2);
	/* The special fully nested mode is the master's. */
	cpu_outb(cpu, SLAVE_DATA, icw4 & ~ICW4_SFNM);
}

FIXTURE_SETUP(pic)
{
	self->ivm = irq_vm_create(1, IRQCHIP_FULL, false);
	self->cpu = &self->ivm->cpu[0];
	cpu_apic_write(self->cpu, APIC_LVT0, APIC_LVT_EXTINT);
	self->cpu->guest->eoi = EOI_NONE;
	self->cpu->guest->pic_base = BASE;
	init_pics(self->cpu, BASE, SLAVE_BASE, ICW4_8086);
}

FIXTURE_TEARDOWN(pic)
{
	irq_vm_free(self->ivm);
}

static void pulse(struct irq_vm *ivm, int irq)
{
	irq_line(ivm, irq, 1);
	irq_line(ivm, irq, 0);
}

static u8 read_irr(struct irq_cpu *cpu, u16 port)
{
	cpu_outb(cpu, port, OCW3_READ_IRR);
	return cpu_inb(cpu, port);
}

static u8 read_isr(struct irq_cpu *cpu, u16 port)
{
	cpu_outb(cpu, port, OCW3_READ_ISR);
	return cpu_inb(cpu, port);
}

TEST_F(pic, vector_base)
{
	struct irq_cpu *cpu = self->cpu;

	pulse(self->ivm, 3);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, BASE + 3);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	pulse(self->ivm, 10);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, SLAVE_BASE + 2);
	cpu_outb(cpu, SLAVE_CMD, OCW2_EOI);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);

	/* ICW2 gives the upper five bits, the line the lower three. */
	init_pics(cpu, 0x87, 0x95, ICW4_8086);
	pulse(self->ivm, 5);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x85);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	pulse(self->ivm, 15);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x97);
}

TEST_F(pic, every_line)
{
	int irq;

	self->cpu->guest->eoi = EOI_PIC;
	/* The handler tells the slave's vectors by their distance. */
	init_pics(self->cpu, BASE, BASE + 8, ICW4_8086);
	for (irq = 0; irq < 16; irq++) {
		if (irq == 2)
			continue;
		pulse(self->ivm, irq);
		cpu_take_irqs(self->cpu);
		cpu_expect_log(self->cpu, BASE + irq);
	}
	TEST_ASSERT_EQ(read_isr(self->cpu, MASTER_CMD), 0);
	TEST_ASSERT_EQ(read_isr(self->cpu, SLAVE_CMD), 0);
}

TEST_F(pic, priorities_fully_nested)
{
	struct irq_cpu *cpu = self->cpu;

	pulse(self->ivm, 5);
	pulse(self->ivm, 1);
	pulse(self->ivm, 3);
	TEST_ASSERT_EQ(read_irr(cpu, MASTER_CMD), BIT(1) | BIT(3) | BIT(5));
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(1));
	TEST_ASSERT_EQ(read_isr(cpu, MASTER_CMD), BIT(1));
	TEST_ASSERT_EQ(read_irr(cpu, MASTER_CMD), BIT(3) | BIT(5));

	/* A higher one interrupts, the lower ones wait. */
	pulse(self->ivm, 0);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(0));
	TEST_ASSERT_EQ(read_isr(cpu, MASTER_CMD), BIT(0) | BIT(1));

	/* The non-specific EOI ends the highest in service. */
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	TEST_ASSERT_EQ(read_isr(cpu, MASTER_CMD), BIT(1));
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(3));
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(5));
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	TEST_ASSERT_EQ(read_isr(cpu, MASTER_CMD), 0);
	/* With nothing in service it does nothing. */
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	TEST_ASSERT_EQ(read_isr(cpu, MASTER_CMD), 0);
}

TEST_F(pic, edges)
{
	struct irq_cpu *cpu = self->cpu;

	/* An edge is remembered, even if the line has fallen. */
	TEST_ASSERT_EQ(irq_line(self->ivm, 4, 1), 1);
	irq_line(self->ivm, 4, 0);
	TEST_ASSERT_EQ(irq_line(self->ivm, 4, 1), 0);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(4));
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	/* The line is still high, which is no edge. */
	irq_line(self->ivm, 4, 1);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
	irq_line(self->ivm, 4, 0);
	irq_line(self->ivm, 4, 1);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(4));
}

TEST_F(pic, mask_register)
{
	struct irq_cpu *cpu = self->cpu;

	TEST_ASSERT_EQ(cpu_inb(cpu, MASTER_DATA), 0);
	cpu_outb(cpu, MASTER_DATA, 0xaa);
	cpu_outb(cpu, SLAVE_DATA, 0x55);
	TEST_ASSERT_EQ(cpu_inb(cpu, MASTER_DATA), 0xaa);
	TEST_ASSERT_EQ(cpu_inb(cpu, SLAVE_DATA), 0x55);

	TEST_ASSERT_EQ(irq_line(self->ivm, 3, 1), -1);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
	TEST_ASSERT_EQ(read_irr(cpu, MASTER_CMD), BIT(3));
	cpu_outb(cpu, MASTER_DATA, 0);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(3));
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);

	/* A mask on the cascade silences the slave. */
	cpu_outb(cpu, SLAVE_DATA, 0);
	cpu_outb(cpu, MASTER_DATA, BIT(2));
	pulse(self->ivm, 9);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
	TEST_ASSERT_EQ(read_irr(cpu, SLAVE_CMD), BIT(1));
	cpu_outb(cpu, MASTER_DATA, 0);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(9));
}

TEST_F(pic, cascade)
{
	struct irq_cpu *cpu = self->cpu;

	pulse(self->ivm, 12);
	pulse(self->ivm, 3);
	pulse(self->ivm, 9);
	cpu_take_irqs(cpu);
	/* The slave's lines come where the master's second is: before the third. */
	cpu_expect_log(cpu, vector_of(9));
	TEST_ASSERT_EQ(read_isr(cpu, MASTER_CMD), BIT(2));
	TEST_ASSERT_EQ(read_isr(cpu, SLAVE_CMD), BIT(1));

	/* Both have to be told. */
	cpu_outb(cpu, SLAVE_CMD, OCW2_EOI);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(12));
	cpu_outb(cpu, SLAVE_CMD, OCW2_EOI);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(3));
}

TEST_F(pic, special_fully_nested_mode)
{
	struct irq_cpu *cpu = self->cpu;

	/* A slave line in service keeps higher ones of the same slave out ... */
	pulse(self->ivm, 12);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(12));
	pulse(self->ivm, 9);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
	cpu_outb(cpu, SLAVE_CMD, OCW2_EOI);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(9));
	cpu_outb(cpu, SLAVE_CMD, OCW2_EOI);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);

	/* ... which this mode of the master is there to change. */
	init_pics(cpu, BASE, SLAVE_BASE, ICW4_8086 | ICW4_SFNM);
	pulse(self->ivm, 12);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(12));
	pulse(self->ivm, 9);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(9));
	pulse(self->ivm, 13);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
}

TEST_F(pic, specific_eoi)
{
	struct irq_cpu *cpu = self->cpu;

	pulse(self->ivm, 6);
	cpu_take_irqs(cpu);
	pulse(self->ivm, 4);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(6), vector_of(4));
	/* It may name one that is not the highest, or none in service. */
	cpu_outb(cpu, MASTER_CMD, OCW2_SPECIFIC_EOI(6));
	TEST_ASSERT_EQ(read_isr(cpu, MASTER_CMD), BIT(4));
	cpu_outb(cpu, MASTER_CMD, OCW2_SPECIFIC_EOI(1));
	TEST_ASSERT_EQ(read_isr(cpu, MASTER_CMD), BIT(4));
	cpu_outb(cpu, MASTER_CMD, OCW2_SPECIFIC_EOI(4));
	TEST_ASSERT_EQ(read_isr(cpu, MASTER_CMD), 0);
}

TEST_F(pic, rotation)
{
	struct irq_cpu *cpu = self->cpu;

	/* The one that was served becomes the lowest. */
	pulse(self->ivm, 3);
	cpu_take_irqs(cpu);
	cpu_outb(cpu, MASTER_CMD, OCW2_ROTATE_EOI);
	cpu_clear_log(cpu);
	pulse(self->ivm, 3);
	pulse(self->ivm, 1);
	pulse(self->ivm, 7);
	pulse(self->ivm, 4);
	cpu_take_irqs(cpu);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	cpu_take_irqs(cpu);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	cpu_take_irqs(cpu);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	cpu_take_irqs(cpu);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	cpu_expect_log(cpu, vector_of(4), vector_of(7), vector_of(1), vector_of(3));

	/* Set by command: 6 is the lowest, so 7 the highest. */
	cpu_outb(cpu, MASTER_CMD, OCW2_SET_LOWEST(6));
	pulse(self->ivm, 0);
	pulse(self->ivm, 6);
	pulse(self->ivm, 7);
	cpu_take_irqs(cpu);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	cpu_take_irqs(cpu);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	cpu_take_irqs(cpu);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	cpu_expect_log(cpu, vector_of(7), vector_of(0), vector_of(6));

	/* By a specific EOI: back to 7 as the lowest. */
	pulse(self->ivm, 7);
	cpu_take_irqs(cpu);
	cpu_outb(cpu, MASTER_CMD, OCW2_ROTATE_SPECIFIC(7));
	TEST_ASSERT_EQ(read_isr(cpu, MASTER_CMD), 0);
	cpu_clear_log(cpu);
	pulse(self->ivm, 7);
	pulse(self->ivm, 0);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(0));
}

TEST_F(pic, rotated_priority_in_service)
{
	struct irq_cpu *cpu = self->cpu;

	/* With 4 as the lowest, 5 is the highest, and interrupts 0. */
	cpu_outb(cpu, MASTER_CMD, OCW2_SET_LOWEST(4));
	pulse(self->ivm, 0);
	cpu_take_irqs(cpu);
	pulse(self->ivm, 4);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(0));
	pulse(self->ivm, 5);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(5));
	/* The non-specific EOI goes by the same order. */
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	TEST_ASSERT_EQ(read_isr(cpu, MASTER_CMD), BIT(0));
}

TEST_F(pic, auto_eoi)
{
	struct irq_cpu *cpu = self->cpu;

	init_pics(cpu, BASE, SLAVE_BASE, ICW4_8086 | ICW4_AUTO_EOI);
	pulse(self->ivm, 1);
	cpu_take_irqs(cpu);
	TEST_ASSERT_EQ(read_isr(cpu, MASTER_CMD), 0);
	pulse(self->ivm, 6);
	cpu_take_irqs(cpu);
	pulse(self->ivm, 11);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(1), vector_of(6), vector_of(11));
	TEST_ASSERT_EQ(read_isr(cpu, SLAVE_CMD), 0);

	cpu_outb(cpu, MASTER_CMD, OCW2_ROTATE_AEOI_ON);
	pulse(self->ivm, 3);
	cpu_take_irqs(cpu);
	cpu_clear_log(cpu);
	pulse(self->ivm, 3);
	pulse(self->ivm, 5);
	while (cpu_take_irqs(cpu))
		;
	cpu_expect_log(cpu, vector_of(5), vector_of(3));

	cpu_outb(cpu, MASTER_CMD, OCW2_ROTATE_AEOI_OFF);
	cpu_outb(cpu, MASTER_CMD, OCW2_SET_LOWEST(7));
	pulse(self->ivm, 3);
	cpu_take_irqs(cpu);
	cpu_clear_log(cpu);
	pulse(self->ivm, 3);
	pulse(self->ivm, 5);
	while (cpu_take_irqs(cpu))
		;
	cpu_expect_log(cpu, vector_of(3), vector_of(5));
}

TEST_F(pic, poll)
{
	struct irq_cpu *cpu = self->cpu;

	cpu_outb(cpu, MASTER_CMD, OCW3_POLL);
	TEST_ASSERT_EQ(cpu_inb(cpu, MASTER_CMD), 0x07);

	pulse(self->ivm, 6);
	pulse(self->ivm, 4);
	cpu_outb(cpu, MASTER_CMD, OCW3_POLL);
	TEST_ASSERT_EQ(cpu_inb(cpu, MASTER_CMD), 0x84);
	/* One command, one poll: this is IRR again, without the one polled. */
	TEST_ASSERT_EQ(read_irr(cpu, MASTER_CMD), BIT(6));
	cpu_outb(cpu, MASTER_CMD, OCW3_POLL);
	TEST_ASSERT_EQ(cpu_inb(cpu, MASTER_CMD), 0x86);
	/* What was polled is not delivered. */
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);

	pulse(self->ivm, 13);
	cpu_outb(cpu, SLAVE_CMD, OCW3_POLL);
	TEST_ASSERT_EQ(cpu_inb(cpu, SLAVE_CMD), 0x85);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
	TEST_ASSERT_EQ(read_irr(cpu, MASTER_CMD), 0);
}

TEST_F(pic, elcr)
{
	struct irq_cpu *cpu = self->cpu;

	/* 0, 1, 2, 8 and 13 are edge-triggered, by construction of the PC. */
	cpu_outb(cpu, ELCR_MASTER, 0xff);
	cpu_outb(cpu, ELCR_SLAVE, 0xff);
	TEST_ASSERT_EQ(cpu_inb(cpu, ELCR_MASTER), 0xf8);
	TEST_ASSERT_EQ(cpu_inb(cpu, ELCR_SLAVE), 0xde);
	cpu_outb(cpu, ELCR_MASTER, BIT(5));
	cpu_outb(cpu, ELCR_SLAVE, BIT(2));

	/* As long as the line is high it comes again. */
	irq_line(self->ivm, 5, 1);
	cpu_take_irqs(cpu);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(5), vector_of(5));
	irq_line(self->ivm, 5, 0);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);

	/* A level that has gone before it was seen leaves nothing behind. */
	irq_line(self->ivm, 5, 1);
	irq_line(self->ivm, 5, 0);
	TEST_ASSERT_EQ(read_irr(cpu, MASTER_CMD), 0);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);

	irq_line(self->ivm, 10, 1);
	cpu_take_irqs(cpu);
	cpu_outb(cpu, SLAVE_CMD, OCW2_EOI);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(10), vector_of(10));
}

/* The line that asked goes away between request and acknowledgment. */
TEST_F(pic, spurious_irq15)
{
	struct irq_cpu *cpu = self->cpu;

	pulse(self->ivm, 11);
	cpu_outb(cpu, SLAVE_DATA, 0xff);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(15));
	/* The master believes in it, the slave does not. */
	TEST_ASSERT_EQ(read_isr(cpu, SLAVE_CMD), 0);
	TEST_ASSERT_EQ(read_isr(cpu, MASTER_CMD), BIT(2));
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
}

TEST_F(pic, spurious_irq7)
{
	struct irq_cpu *cpu = self->cpu;

	/* Initialization forgets the edge, but the CPU has been asked. */
	pulse(self->ivm, 3);
	cpu_outb(cpu, MASTER_CMD, ICW1_INIT);
	cpu_outb(cpu, MASTER_DATA, BASE);
	cpu_outb(cpu, MASTER_DATA, BIT(2));
	cpu_outb(cpu, MASTER_DATA, ICW4_8086);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(7));
	TEST_ASSERT_EQ(read_isr(cpu, MASTER_CMD), 0);
}

TEST_F(pic, initialization)
{
	struct irq_cpu *cpu = self->cpu;

	cpu_outb(cpu, MASTER_DATA, 0xff);
	cpu_outb(cpu, MASTER_CMD, OCW2_SET_LOWEST(3));
	cpu_outb(cpu, MASTER_CMD, OCW3_READ_ISR);
	pulse(self->ivm, 6);
	init_pics(cpu, BASE, SLAVE_BASE, ICW4_8086);
	/* Mask and edges are gone, the order is the usual, the read is of IRR. */
	TEST_ASSERT_EQ(cpu_inb(cpu, MASTER_DATA), 0);
	TEST_ASSERT_EQ(cpu_inb(cpu, MASTER_CMD), 0);
	pulse(self->ivm, 4);
	pulse(self->ivm, 3);
	TEST_ASSERT_EQ(cpu_inb(cpu, MASTER_CMD), BIT(3) | BIT(4));
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(3));

	/* Without ICW4 three words are all, and the next is a mask. */
	cpu_outb(cpu, MASTER_CMD, 0x10);
	cpu_outb(cpu, MASTER_DATA, 0x80);
	cpu_outb(cpu, MASTER_DATA, BIT(2));
	cpu_outb(cpu, MASTER_DATA, 0x5a);
	TEST_ASSERT_EQ(cpu_inb(cpu, MASTER_DATA), 0x5a);
}

static u64 guest_word_access(u64 port, u64 val, u64 unused)
{
	u16 got;

	asm volatile("outw %0, %1" : : "a"((u16)val), "d"((u16)port));
	asm volatile("inw %1, %0" : "=a"(got) : "d"((u16)port));
	return got;
}

TEST_F(pic, word_access)
{
	/* The ports are bytes. */
	cpu_outb(self->cpu, MASTER_DATA, 0x12);
	TEST_ASSERT_EQ(cpu_call(self->cpu, guest_word_access, MASTER_CMD, 0xff0a, 0), 0);
	TEST_ASSERT_EQ(cpu_inb(self->cpu, MASTER_DATA), 0x12);
	TEST_ASSERT_EQ(cpu_call(self->cpu, guest_word_access, ELCR_MASTER, 0xffff, 0), 0);
	TEST_ASSERT_EQ(cpu_inb(self->cpu, ELCR_MASTER), 0);
}

TEST_F(pic, local_apic_gates)
{
	struct irq_cpu *cpu = self->cpu;
	u64 base = cpu_rdmsr(cpu, MSR_IA32_APICBASE);

	/* LINT0 masked: the PIC asks in vain. */
	cpu_apic_write(cpu, APIC_LVT0, APIC_LVT_MASKED | APIC_LVT_EXTINT);
	pulse(self->ivm, 3);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
	/*
	 * Unmasked, it is heard.  KVM's own irqchip does not look at the PIC
	 * when LINT0 is unmasked, only when the next event comes: make one.
	 */
	cpu_apic_write(cpu, APIC_LVT0, APIC_LVT_EXTINT);
	cpu_make_event(cpu);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(3));
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);

	/* An ExtINT is above TPR, and sets no bit in the local APIC. */
	cpu_set_cr8(cpu, 15);
	pulse(self->ivm, 4);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(4));
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 0);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);

	/* With the APIC off the PIC has the CPU to itself. */
	cpu_apic_write(cpu, APIC_LVT0, APIC_LVT_MASKED);
	cpu_wrmsr(cpu, MSR_IA32_APICBASE, base & ~(u64)MSR_IA32_APICBASE_ENABLE);
	pulse(self->ivm, 5);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(5));
}

TEST_F(pic, before_the_local_apic)
{
	struct irq_cpu *cpu = self->cpu;

	/* With both asking the PIC comes first. */
	cpu_send_ipi(cpu, APIC_INT_ASSERT | APIC_DEST_SELF | 0xf1, 0);
	pulse(self->ivm, 7);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(7), 0xf1);
}

/* Once the local APIC's own interrupts are taken it has nothing to look for. */
TEST_F(pic, while_the_local_apic_has_nothing)
{
	struct irq_cpu *cpu = self->cpu;

	cpu_send_ipi(cpu, APIC_INT_ASSERT | APIC_DEST_SELF | 0xf1, 0);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0xf1);
	pulse(self->ivm, 7);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(7));
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);

	irq_line(self->ivm, 0, 1);
	cpu_halt(cpu);
	cpu_expect_log(cpu, vector_of(0));
}

TEST_F(pic, wakes_from_halt)
{
	irq_line(self->ivm, 0, 1);
	cpu_halt(self->cpu);
	cpu_expect_log(self->cpu, vector_of(0));
}

TEST_F(pic, restore)
{
	struct irq_vm *to = irq_vm_create(1, IRQCHIP_FULL, false);
	struct irq_cpu *cpu = &to->cpu[0];
	struct kvm_irqchip chip[2], got;
	int i;

	cpu->guest->eoi = EOI_NONE;
	/* Something everywhere: in service, pending, masked, rotated, level. */
	cpu_outb(self->cpu, ELCR_SLAVE, BIT(2));
	cpu_outb(self->cpu, MASTER_CMD, OCW2_SET_LOWEST(4));
	cpu_outb(self->cpu, SLAVE_DATA, BIT(6));
	pulse(self->ivm, 3);
	cpu_take_irqs(self->cpu);
	cpu_expect_log(self->cpu, vector_of(3));
	irq_line(self->ivm, 10, 1);
	pulse(self->ivm, 14);
	pulse(self->ivm, 4);
	pulse(self->ivm, 6);

	for (i = 0; i < 2; i++) {
		irqchip_get(self->ivm, KVM_IRQCHIP_PIC_MASTER + i, &chip[i]);
		irqchip_set(to, &chip[i]);
	}
	for (i = 0; i < 2; i++) {
		irqchip_get(to, KVM_IRQCHIP_PIC_MASTER + i, &got);
		TEST_ASSERT(!memcmp(&got.chip.pic, &chip[i].chip.pic, sizeof(got.chip.pic)),
			    "PIC %d differs", i);
	}

	TEST_ASSERT_EQ(read_isr(cpu, MASTER_CMD), BIT(3));
	cpu_take_irqs(cpu);
	/* 6 comes before 3 in the rotated order, the slave's 10 as well. */
	cpu_expect_log(cpu, vector_of(6));
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(10));
	irq_line(to, 10, 0);
	cpu_outb(cpu, SLAVE_CMD, OCW2_EOI);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
	cpu_outb(cpu, MASTER_CMD, OCW2_EOI);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, vector_of(4));
	irq_vm_free(to);
}

TEST_F(pic, state_fields)
{
	struct irq_cpu *cpu = self->cpu;
	struct kvm_irqchip chip;

	cpu_outb(cpu, MASTER_CMD, OCW2_SET_LOWEST(4));
	cpu_outb(cpu, MASTER_DATA, 0x80);
	cpu_outb(cpu, ELCR_MASTER, BIT(6));
	irq_line(self->ivm, 6, 1);
	irq_line(self->ivm, 3, 1);
	cpu_take_irqs(cpu);
	cpu_outb(cpu, MASTER_CMD, OCW3_READ_ISR);

	irqchip_get(self->ivm, KVM_IRQCHIP_PIC_MASTER, &chip);
	TEST_ASSERT_EQ(chip.chip.pic.irq_base, BASE);
	TEST_ASSERT_EQ(chip.chip.pic.imr, 0x80);
	TEST_ASSERT_EQ(chip.chip.pic.isr, BIT(6));
	TEST_ASSERT_EQ(chip.chip.pic.irr, BIT(6) | BIT(3));
	TEST_ASSERT_EQ(chip.chip.pic.last_irr, BIT(6) | BIT(3));
	TEST_ASSERT_EQ(chip.chip.pic.priority_add, 5);
	TEST_ASSERT_EQ(chip.chip.pic.elcr, BIT(6));
	TEST_ASSERT_EQ(chip.chip.pic.elcr_mask, 0xf8);
	TEST_ASSERT_EQ(chip.chip.pic.read_reg_select, 1);
	TEST_ASSERT_EQ(chip.chip.pic.init_state, 0);
	TEST_ASSERT_EQ(chip.chip.pic.init4, 1);
	TEST_ASSERT_EQ(chip.chip.pic.auto_eoi, 0);
	TEST_ASSERT_EQ(chip.chip.pic.special_fully_nested_mode, 0);
	irqchip_get(self->ivm, KVM_IRQCHIP_PIC_SLAVE, &chip);
	TEST_ASSERT_EQ(chip.chip.pic.irq_base, SLAVE_BASE);
	TEST_ASSERT_EQ(chip.chip.pic.elcr_mask, 0xde);
}

/* A PIC may be in the middle of its four words when it is saved. */
TEST_F(pic, restore_during_initialization)
{
	struct irq_vm *to = irq_vm_create(1, IRQCHIP_FULL, false);
	struct kvm_irqchip chip;

	cpu_outb(self->cpu, MASTER_CMD, ICW1_INIT);
	cpu_outb(self->cpu, MASTER_DATA, 0x90);
	irqchip_get(self->ivm, KVM_IRQCHIP_PIC_MASTER, &chip);
	irqchip_set(to, &chip);
	cpu_outb(&to->cpu[0], MASTER_DATA, BIT(2));
	cpu_outb(&to->cpu[0], MASTER_DATA, ICW4_8086 | ICW4_AUTO_EOI);
	pulse(to, 6);
	cpu_take_irqs(&to->cpu[0]);
	cpu_expect_log(&to->cpu[0], 0x96);
	TEST_ASSERT_EQ(read_isr(&to->cpu[0], MASTER_CMD), 0);
	irq_vm_free(to);
}

/* State that no PIC can be in is harmless. */
TEST_F(pic, hostile_state)
{
	struct kvm_irqchip chip;
	int id, i;

	for (id = KVM_IRQCHIP_PIC_MASTER; id <= KVM_IRQCHIP_PIC_SLAVE; id++) {
		memset(&chip, 0xff, sizeof(chip));
		chip.chip_id = id;
		chip.chip.pic.imr = 0;
		chip.chip.pic.isr = 0;
		irqchip_set(self->ivm, &chip);
	}
	for (i = 0; i < 16; i++)
		irq_line(self->ivm, i, i & 1);
	cpu_outb(self->cpu, MASTER_CMD, OCW3_POLL);
	cpu_inb(self->cpu, MASTER_CMD);
	cpu_outb(self->cpu, SLAVE_CMD, OCW2_ROTATE_EOI);
	cpu_outb(self->cpu, MASTER_CMD, OCW2_EOI);
	cpu_outb(self->cpu, SLAVE_CMD, ICW1_INIT);
	cpu_outb(self->cpu, MASTER_CMD, ICW1_INIT);
}

TEST_HARNESS_MAIN
