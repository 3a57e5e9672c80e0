// SPDX-License-Identifier: GPL-2.0
/*
 * What a local APIC has accepted stays pending until its vCPU takes it: while
 * the APIC is disabled, by its software or its global enable bit, also in the
 * very moment that it is; behind a raised TPR; and on the way to sleep.  Only
 * INIT takes it away.
 */
#include "cpu_thread.h"
#include "irq_vm.h"
#include "harness.h"

#define BELOW			0x51
#define IN_SERVICE		0x61
#define ABOVE			0x91

FIXTURE(pending) {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;		/* vCPU 1 */
	struct irq_cpu *other;		/* vCPU 0, the sender */
};

FIXTURE_VARIANT(pending) {
	bool x2apic;
};

FIXTURE_VARIANT_ADD(pending, xapic) {
	.x2apic = false,
};

FIXTURE_VARIANT_ADD(pending, x2apic) {
	.x2apic = true,
};

FIXTURE_SETUP(pending)
{
	self->ivm = irq_vm_create(2, IRQCHIP_FULL, variant->x2apic);
	self->cpu = &self->ivm->cpu[1];
	self->other = &self->ivm->cpu[0];
	self->cpu->guest->eoi = EOI_NONE;
}

FIXTURE_TEARDOWN(pending)
{
	irq_vm_free(self->ivm);
}

static void send(struct irq_cpu *from, struct irq_cpu *to, u8 vector)
{
	cpu_send_ipi(from, APIC_INT_ASSERT | vector, to->vcpu->id);
}

static void eoi(struct irq_cpu *cpu)
{
	cpu_apic_write(cpu, APIC_EOI, 0);
}

/* One in service, one pending of a lower class and one of a higher. */
static void make_pending(struct irq_cpu *from, struct irq_cpu *to)
{
	send(from, to, IN_SERVICE);
	cpu_take_irqs(to);
	cpu_expect_log(to, IN_SERVICE);
	send(from, to, BELOW);
	send(from, to, ABOVE);
}

static void expect_held(struct irq_cpu *cpu)
{
	TEST_ASSERT(lapic_vector(cpu, APIC_IRR, BELOW), "the lower one is lost");
	TEST_ASSERT(lapic_vector(cpu, APIC_IRR, ABOVE), "the higher one is lost");
	TEST_ASSERT(lapic_vector(cpu, APIC_ISR, IN_SERVICE), "not in service");
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 2);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 1);
}

/* Both are taken in their turn, and nothing is left. */
static void expect_all_taken(struct irq_cpu *cpu)
{
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, ABOVE);
	eoi(cpu);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
	eoi(cpu);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, BELOW);
	eoi(cpu);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 0);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 0);
}

TEST_F(pending, kept_while_disabled_by_software)
{
	struct irq_cpu *cpu = self->cpu;
	int i;

	make_pending(self->other, cpu);
	for (i = 0; i < 4; i++) {
		cpu_apic_write(cpu, APIC_SPIV, APIC_SPURIOUS_VECTOR);
		expect_held(cpu);
		cpu_apic_write(cpu, APIC_SPIV,
			       APIC_SPIV_APIC_ENABLED | APIC_SPURIOUS_VECTOR);
		expect_held(cpu);
	}
	expect_all_taken(cpu);

	/* Disabled it accepts no more, but it gives away what it has. */
	make_pending(self->other, cpu);
	cpu_apic_write(cpu, APIC_SPIV, APIC_SPURIOUS_VECTOR);
	expect_all_taken(cpu);
}

TEST_F(pending, kept_while_disabled_in_the_base)
{
	struct irq_cpu *cpu = self->cpu;
	u64 base;

	make_pending(self->other, cpu);
	base = cpu_rdmsr(cpu, MSR_IA32_APICBASE);
	base &= ~(u64)(MSR_IA32_APICBASE_ENABLE | MSR_IA32_APICBASE_EXTD);
	cpu_wrmsr(cpu, MSR_IA32_APICBASE, base);
	expect_held(cpu);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
	cpu_enable_apic(cpu, variant->x2apic);
	cpu->guest->eoi = EOI_NONE;
	expect_held(cpu);
	/*
	 * Nothing makes the vCPU look at them: it does when the next comes, which
	 * coalesces here.  No guest can tell, for processors lose them.
	 */
	send(self->other, cpu, ABOVE);
	expect_all_taken(cpu);
}

/* Registers that a guest can change, in either mode. */
static void make_dirty(struct irq_cpu *cpu)
{
	u32 reg;

	for (reg = APIC_LVTT; reg <= APIC_LVTERR; reg += 0x10)
		cpu_apic_write(cpu, reg, 0x77);
	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_PERIODIC | 0x77);
	cpu_apic_write(cpu, APIC_TDCR, 0xa);
	cpu_apic_write(cpu, APIC_TMICT, ~0u);
	cpu_apic_write(cpu, APIC_TASKPRI, 0x50);
	cpu_send_ipi(cpu, APIC_INT_ASSERT | APIC_DEST_LOGICAL | 0x99, 8);
	if (!cpu->x2apic) {
		cpu_apic_write(cpu, APIC_LDR, 0x40000000);
		cpu_apic_write(cpu, APIC_DFR, APIC_DFR_CLUSTER);
	}
}

static void send_init(struct irq_cpu *from, struct irq_cpu *to)
{
	cpu_send_ipi(from, APIC_DM_INIT | APIC_INT_ASSERT, to->vcpu->id);
	TEST_ASSERT_EQ(cpu_mp_state(to), KVM_MP_STATE_INIT_RECEIVED);
}

/*
 * INIT leaves nothing: as that of a vCPU which has never run.  But for the upper
 * half of ICR, which KVM forgets in x2APIC mode on AMD's CPUs.
 */
TEST_F(pending, dropped_by_init)
{
	struct irq_vm *fresh = irq_vm_create(2, IRQCHIP_FULL, variant->x2apic);
	struct kvm_lapic_state was, is;
	struct irq_cpu *cpu = self->cpu;
	u32 reg;

	cpu_send_ipi(self->other, APIC_INT_LEVELTRIG | APIC_INT_ASSERT | 0x41, 1);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x41);
	make_pending(self->other, cpu);
	make_dirty(cpu);
	TEST_ASSERT(lapic_count(cpu, APIC_IRR) >= 2, "nothing is pending");
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 2);

	send_init(self->other, cpu);
	send_init(&fresh->cpu[0], &fresh->cpu[1]);
	lapic_get(&fresh->cpu[1], &was);
	lapic_get(cpu, &is);
	for (reg = 0; reg < 0x400; reg += 0x10) {
		if (reg == APIC_ICR2 && variant->x2apic)
			continue;
		TEST_ASSERT(state_reg(&was, reg) == state_reg(&is, reg),
			    "%#x: %#x after INIT, not %#x", reg,
			    state_reg(&is, reg), state_reg(&was, reg));
	}
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 0);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 0);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_TMR), 0);
	irq_vm_free(fresh);
}

/*
 * An interrupt ends while TPR is too high for the next, and then TPR falls,
 * with nothing in between that would make the host look.
 */
static u64 guest_eoi_below_tpr(u64 x2apic, u64 by_register, u64 unused)
{
	if (!by_register)
		set_cr8(IN_SERVICE >> 4);
	else if (x2apic)
		wrmsr(X2APIC_MSR(APIC_TASKPRI), IN_SERVICE);
	else
		xapic_write_reg(APIC_TASKPRI, IN_SERVICE);

	if (x2apic)
		wrmsr(X2APIC_MSR(APIC_EOI), 0);
	else
		xapic_write_reg(APIC_EOI, 0);

	if (!by_register)
		set_cr8(0);
	else if (x2apic)
		wrmsr(X2APIC_MSR(APIC_TASKPRI), 0);
	else
		xapic_write_reg(APIC_TASKPRI, 0);

	asm volatile("sti; nop; nop; nop; nop; cli" : : : "memory");
	return 0;
}

TEST_F(pending, taken_when_tpr_falls_after_an_eoi)
{
	struct irq_cpu *cpu = self->cpu;
	int by_register;

	for (by_register = 0; by_register < 2; by_register++) {
		send(self->other, cpu, IN_SERVICE);
		cpu_take_irqs(cpu);
		cpu_expect_log(cpu, IN_SERVICE);
		send(self->other, cpu, BELOW);
		send(self->other, cpu, BELOW - 0x10);

		cpu_call(cpu, guest_eoi_below_tpr, cpu->x2apic, by_register, 0);
		cpu_expect_log(cpu, BELOW);
		eoi(cpu);
		cpu_take_irqs(cpu);
		cpu_expect_log(cpu, BELOW - 0x10);
		eoi(cpu);
	}
}

static void write_tpr(struct irq_cpu *cpu, bool by_register, u8 tpr)
{
	if (by_register)
		cpu_apic_write(cpu, APIC_TASKPRI, tpr);
	else
		cpu_set_cr8(cpu, tpr >> 4);
}

/* On VMX the CPU keeps TPR, and exits only if it falls below what is pending. */
TEST_F(pending, tpr_that_changed_before_it_came)
{
	struct irq_cpu *cpu = self->cpu;
	int by_register;

	for (by_register = 0; by_register < 2; by_register++) {
		write_tpr(cpu, by_register, IN_SERVICE & 0xf0);
		/* The local APIC has to compute PPR while TPR is high. */
		TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_PROCPRI), IN_SERVICE & 0xf0);
		write_tpr(cpu, by_register, 0);
		send(self->other, cpu, BELOW);
		cpu_take_irqs(cpu);
		cpu_expect_log(cpu, BELOW);
		eoi(cpu);

		write_tpr(cpu, by_register, IN_SERVICE & 0xf0);
		send(self->other, cpu, BELOW);
		cpu_take_irqs(cpu);
		cpu_expect_no_irqs(cpu);
		write_tpr(cpu, by_register, 0);
		cpu_take_irqs(cpu);
		cpu_expect_log(cpu, BELOW);
		eoi(cpu);
	}
}

/*
 * IPIs one at a time, each as soon as the one before has been taken: its receiver
 * is about to sleep.  Returns how many were taken.
 */
static u64 guest_send_to_sleeper(u64 count, u64 receiver_gva, u64 cycles)
{
	struct guest_cpu *receiver = (void *)receiver_gva;
	u64 sent, start, wait;

	for (sent = 1; sent <= count; sent++) {
		x2apic_write_reg(APIC_ICR, 1ull << 32 | APIC_INT_ASSERT | ABOVE);
		start = rdtsc();
		while (READ_ONCE(receiver->nr_irqs) < sent) {
			if (rdtsc() - start > cycles)
				return sent - 1;
		}
		/* Not always in the same moment of its way to HLT. */
		for (wait = 0; wait < sent % 64 * 50; wait++)
			barrier();
	}
	return count;
}

/* Sends each to itself, and then sleeps.  Returns how many have come. */
static u64 guest_send_to_itself(u64 count, u64 cpu_gva, u64 unused)
{
	struct guest_cpu *cpu = (void *)cpu_gva;

	while (READ_ONCE(cpu->nr_irqs) < count) {
		if (count & 1)
			x2apic_write_reg(APIC_SELF_IPI, ABOVE);
		else
			x2apic_write_reg(APIC_ICR, APIC_DEST_SELF |
					 APIC_INT_ASSERT | ABOVE);
		safe_halt();
		cli();
	}
	return cpu->nr_irqs;
}

#define NR_WAKES		300

TEST(ipi_wakes_whoever_goes_to_sleep)
{
	struct irq_vm *ivm = irq_vm_create(2, IRQCHIP_FULL, true);
	u32 count = rounds_begin(NR_WAKES).max;
	struct irq_cpu *cpu = &ivm->cpu[1];
	struct cpu_thread thread;
	u64 taken;

	cpu_thread_start(&thread, cpu, guest_halt_until, count);
	taken = cpu_call(&ivm->cpu[0], guest_send_to_sleeper, count,
			 cpu->guest_gva, (u64)guest_tsc_khz * 20000);
	TEST_ASSERT(taken == count, "asleep after %lu", taken);
	cpu_thread_join(&thread);
	irq_vm_free(ivm);
}

TEST(ipi_to_itself_keeps_a_vcpu_awake)
{
	struct irq_vm *ivm = irq_vm_create(1, IRQCHIP_FULL, true);
	u32 count = rounds_begin(NR_WAKES).max, last = count + 1;
	struct irq_cpu *cpu = &ivm->cpu[0];
	struct cpu_thread thread;
	bool awake;

	/* An even and an odd number: by either register. */
	for (; count <= last; count++) {
		cpu_clear_log(cpu);
		cpu_thread_start(&thread, cpu, guest_send_to_itself, count);
		awake = cpu_poll_irqs(cpu, count);
		TEST_ASSERT(awake, "asleep after %u", READ_ONCE(cpu->guest->nr_irqs));
		cpu_thread_join(&thread);
	}
	irq_vm_free(ivm);
}

/* Disables and enables its APIC, with interrupts on. */
static u64 guest_toggle_enable(u64 x2apic, u64 cpu_gva, u64 unused)
{
	struct guest_cpu *cpu = (void *)cpu_gva;
	u32 spiv = APIC_SPURIOUS_VECTOR;

	sti();
	while (!READ_ONCE(cpu->stop)) {
		spiv ^= APIC_SPIV_APIC_ENABLED;
		if (x2apic)
			wrmsr(X2APIC_MSR(APIC_SPIV), spiv);
		else
			xapic_write_reg(APIC_SPIV, spiv);
	}
	cli();
	return 0;
}

#define NR_MESSAGES		1000

/* Whether it is accepted is chance; but what is accepted arrives. */
TEST_F(pending, kept_if_accepted_just_before_the_apic_is_disabled)
{
	struct irq_cpu *cpu = self->cpu;
	struct rounds rounds = rounds_begin(NR_MESSAGES);
	u32 accepted = 0, refused = 0;
	struct cpu_thread thread;

	cpu->guest->eoi = variant->x2apic ? EOI_X2APIC : EOI_XAPIC;
	cpu_thread_start(&thread, cpu, guest_toggle_enable, variant->x2apic);
	while (!accepted || !refused || rounds_next(&rounds)) {
		if (!signal_msi(self->ivm, MSI_ADDR(1), 0, ABOVE)) {
			refused++;
			continue;
		}
		accepted++;
		TEST_ASSERT(cpu_poll_irqs(cpu, accepted), "number %u lost", accepted);
	}
	cpu_thread_stop(&thread);
	cpu_thread_join(&thread);
	TEST_ASSERT_EQ(cpu->guest->nr_irqs, accepted);
	cpu_take_irqs(cpu);
	TEST_ASSERT_EQ(cpu->guest->nr_irqs, accepted);
}

TEST_HARNESS_MAIN
