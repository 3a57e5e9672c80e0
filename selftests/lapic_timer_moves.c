// SPDX-License-Identifier: GPL-2.0
/*
 * The local APIC's timer goes on when its vCPU moves: from CPU to CPU, while it
 * is set, rearmed and cancelled; through a pause and a change of kvmclock; and
 * through two snapshots in a row.
 *
 * As in lapic_timer.c, being late is no failure.
 */
#include "cpu_thread.h"
#include "timer_vm.h"
#include "harness.h"

#define VECTOR			0x51
#define PATIENCE		(20000 * MS)
#define A_WHILE			(20 * MS)
#define EARLY_PERCENT		10	/* see lapic_timer.c */
/* KVM's guess of how much earlier it has to wake up. */
#define ADVANCE			(MS / 10)

FIXTURE(moves) {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;
};

FIXTURE_VARIANT(moves) {
	guest_fn_t wait;
};

FIXTURE_VARIANT_ADD(moves, awake) {
	.wait = guest_spin_until,
};

FIXTURE_VARIANT_ADD(moves, asleep) {
	.wait = guest_halt_until,
};

FIXTURE_SETUP(moves)
{
	self->ivm = timer_vm_create(true, true);
	self->cpu = &self->ivm->cpu[0];
}

FIXTURE_TEARDOWN(moves)
{
	irq_vm_free(self->ivm);
}

/* Moves the thread from one allowed CPU to the next until its call returns. */
static void move_until_done(struct cpu_thread *t)
{
	u64 end = poll_end();

	while (!READ_ONCE(t->done)) {
		TEST_ASSERT(!poll_is_over(end), "stopped after %u interrupts",
			    READ_ONCE(t->cpu->guest->nr_irqs));
		cpu_thread_move(t);
		usleep(50);
	}
}

#define NR_REARMS		500	/* the log holds all */

TEST_F(moves, deadline_rearmed_while_its_task_moves)
{
	struct irq_cpu *cpu = self->cpu;
	struct cpu_thread thread;
	u32 i;

	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | VECTOR);
	cpu->guest->rearm_left = NR_REARMS;
	cpu->guest->rearm_cycles = to_cycles(MS / 5);
	set_deadline(cpu, MS / 5);
	cpu_thread_start(&thread, cpu, variant->wait, NR_REARMS + 1);
	move_until_done(&thread);
	cpu_thread_join(&thread);
	TEST_ASSERT_EQ(cpu->guest->nr_irqs, NR_REARMS + 1);
	for (i = 1; i <= NR_REARMS; i++) {
		u64 delta = cpu->guest->tsc[i] - cpu->guest->tsc[i - 1];

		TEST_ASSERT(delta + to_cycles(ADVANCE) >= cpu->guest->rearm_cycles,
			    "number %u came %lu cycles after the last", i, delta);
	}
}

static void expect_not_before(struct irq_cpu *cpu, u32 index, u64 start, u64 ns)
{
	u64 elapsed = cpu->guest->tsc[index] - start;

	TEST_ASSERT(elapsed >= to_cycles(ns) / 100 * (100 - EARLY_PERCENT),
		    "interrupt %u after %lu cycles, not %lu", index, elapsed,
		    to_cycles(ns));
}

#define NR_TICKS		100

TEST_F(moves, periodic_while_its_task_moves)
{
	struct irq_cpu *cpu = self->cpu;
	const u64 period = 2 * MS;
	struct cpu_thread thread;
	u64 start;
	int i;

	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_PERIODIC | VECTOR);
	start = cpu_rdtsc(cpu);
	cpu_apic_write(cpu, APIC_TMICT, COUNT(period));
	cpu_thread_start(&thread, cpu, variant->wait, NR_TICKS);
	move_until_done(&thread);
	cpu_thread_join(&thread);
	for (i = 0; i < NR_TICKS; i++)
		expect_not_before(cpu, i, start, (i + 1) * period);
}

FIXTURE(timer) {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;
};

FIXTURE_SETUP(timer)
{
	self->ivm = timer_vm_create(false, true);
	self->cpu = &self->ivm->cpu[0];
}

FIXTURE_TEARDOWN(timer)
{
	irq_vm_free(self->ivm);
}

/* Of the last interrupt, by the guest's handler. */
static u64 last_tsc;

static void guest_note_tsc(u8 vector)
{
	last_tsc = rdtsc();
}

enum verdict { RIGHT, TWICE, TOO_EARLY, NOT_CANCELLED };

/*
 * Set a deadline, and cancel it before it has passed, after, or just then.  One
 * that was cancelled must not come, least of all in the place of the next.
 */
static u64 guest_set_and_cancel(u64 rounds, u64 cpu_gva, u64 unused)
{
	struct guest_cpu *cpu = (void *)cpu_gva;
	u64 seed = 1, length = cpu->rearm_cycles, deadline, end;
	u32 before;

	while (rounds--) {
		before = READ_ONCE(cpu->nr_irqs);
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		deadline = rdtsc() + length;
		end = deadline - length + (seed >> 33) % (2 * length);
		wrmsr(MSR_TSC_DEADLINE, deadline);
		while (rdtsc() < end)
			barrier();
		wrmsr(MSR_TSC_DEADLINE, 0);
		if (rdmsr(MSR_TSC_DEADLINE))
			return NOT_CANCELLED;
		asm volatile("sti; nop; nop; cli" : : : "memory");
		if (READ_ONCE(cpu->nr_irqs) - before > 1)
			return TWICE;
		if (READ_ONCE(cpu->nr_irqs) != before &&
		    READ_ONCE(last_tsc) + length / 2 < deadline)
			return TOO_EARLY;

		/* Now and then, look if it comes all the same. */
		if (rounds % 4)
			continue;
		before = READ_ONCE(cpu->nr_irqs);
		while (rdtsc() < deadline + length)
			barrier();
		asm volatile("sti; nop; nop; cli" : : : "memory");
		if (READ_ONCE(cpu->nr_irqs) != before)
			return NOT_CANCELLED;
	}
	return RIGHT;
}

#define NR_CANCELS		500

TEST_F(timer, deadline_cancelled_while_its_task_moves)
{
	struct irq_cpu *cpu = self->cpu;
	struct cpu_thread thread;

	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | VECTOR);
	cpu->guest->on_irq = guest_note_tsc;
	cpu->guest->rearm_cycles = to_cycles(2 * ADVANCE);
	cpu_thread_start(&thread, cpu, guest_set_and_cancel,
			 rounds_begin(NR_CANCELS).max);
	move_until_done(&thread);
	cpu_thread_join(&thread);
	TEST_ASSERT(cpu->guest->ret == RIGHT, "%s after %u interrupts",
		    cpu->guest->ret == TWICE ? "twice" :
		    cpu->guest->ret == TOO_EARLY ? "early" : "not cancelled",
		    cpu->guest->nr_irqs);
	TEST_ASSERT(cpu->guest->nr_irqs, "cancelled too early, each time");

	/* And it can still be set. */
	cpu_clear_log(cpu);
	set_deadline(cpu, MS);
	TEST_ASSERT_EQ(cpu_wait_irqs(cpu, 1, to_cycles(PATIENCE)), 1);
}

#define PAUSE_US		300000

/* One tick has waited, and the next may be due; the others take their time. */
TEST_F(timer, periodic_does_not_catch_up_after_a_pause)
{
	struct irq_cpu *cpu = self->cpu;
	const u64 period = 5 * MS;
	u64 resumed;
	int i;

	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_PERIODIC | VECTOR);
	cpu_apic_write(cpu, APIC_TMICT, COUNT(period));
	TEST_ASSERT(cpu_wait_irqs(cpu, 1, to_cycles(PATIENCE)), "it does not run");
	cpu_clear_log(cpu);
	usleep(PAUSE_US);
	resumed = cpu_rdtsc(cpu);
	TEST_ASSERT(cpu_wait_irqs(cpu, 10, to_cycles(PATIENCE)) >= 10,
		    "it has stopped");
	for (i = 2; i < 10; i++)
		expect_not_before(cpu, i, resumed, (i - 1) * period);
}

TEST_F(timer, what_expires_in_a_pause_comes_once)
{
	static const u32 modes[] = {
		APIC_LVT_TIMER_ONESHOT, APIC_LVT_TIMER_TSCDEADLINE,
	};
	struct irq_cpu *cpu = self->cpu;
	int i;

	/* If it came again and again, nothing else would be done. */
	cpu->guest->stop_after = 2;
	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		cpu_apic_write(cpu, APIC_LVTT, modes[i] | VECTOR);
		if (modes[i] == APIC_LVT_TIMER_ONESHOT)
			cpu_apic_write(cpu, APIC_TMICT, COUNT(A_WHILE));
		else
			set_deadline(cpu, A_WHILE);
		usleep(PAUSE_US);
		TEST_ASSERT_EQ(cpu_wait_irqs(cpu, 1, to_cycles(PATIENCE)), 1);
		cpu_wait_irqs(cpu, 2, to_cycles(A_WHILE));
		cpu_expect_log(cpu, VECTOR);
	}
}

/*
 * A VMM that starts the vCPUs before it has restored kvmclock makes that jump
 * later on.  The APIC's timer runs by other clocks.
 */
TEST_F(timer, kvmclock_may_jump)
{
	static const s64 jumps[] = { 236000000000ll, -1000000000ll };
	struct irq_cpu *cpu = self->cpu;
	int i, deadline_mode;

	for (i = 0; i < 2 * ARRAY_SIZE(jumps); i++) {
		struct kvm_clock_data clock;
		u64 start = cpu_rdtsc(cpu);

		deadline_mode = i & 1;
		cpu_apic_write(cpu, APIC_LVTT, VECTOR |
			       (deadline_mode ? APIC_LVT_TIMER_TSCDEADLINE :
						APIC_LVT_TIMER_ONESHOT));
		if (deadline_mode)
			set_deadline(cpu, A_WHILE);
		else
			cpu_apic_write(cpu, APIC_TMICT, COUNT(A_WHILE));
		vm_ioctl(self->ivm->vm, KVM_GET_CLOCK, &clock);
		clock.flags = 0;
		clock.clock += jumps[i / 2];
		vm_ioctl(self->ivm->vm, KVM_SET_CLOCK, &clock);
		TEST_ASSERT_EQ(cpu_wait_irqs(cpu, 1, to_cycles(PATIENCE)), 1);
		expect_not_before(cpu, 0, start, A_WHILE);
		cpu_expect_log(cpu, VECTOR);
	}
}

/* A new VM with the state and the CPUID of the old one, as a VMM makes it. */
static struct irq_vm *restore(struct irq_cpu *from, bool tsc_deadline)
{
	struct irq_vm *ivm = irq_vm_create_empty(IRQCHIP_FULL);
	struct irq_cpu *to = irq_vm_add_cpu(ivm, 0);
	struct kvm_lapic_state state;

	vcpu_get_cpuid(from->vcpu);
	vcpu_init_cpuid(to->vcpu, from->vcpu->cpuid);
	if (!tsc_deadline)
		vcpu_clear_cpuid_feature(to->vcpu, X86_FEATURE_TSC_DEADLINE_TIMER);
	vcpu_set_msr(to->vcpu, MSR_IA32_APICBASE,
		     vcpu_get_msr(from->vcpu, MSR_IA32_APICBASE));
	lapic_get(from, &state);
	lapic_set(to, &state);
	to->x2apic = from->x2apic;
	to->guest->eoi = from->guest->eoi;
	return ivm;
}

static u64 guest_has_deadline_mode(u64 unused, u64 unused2, u64 unused3)
{
	return this_cpu_has(X86_FEATURE_TSC_DEADLINE_TIMER);
}

TEST_F(timer, deadline_mode_survives_two_snapshots)
{
	struct irq_vm *ivm = self->ivm, *next;
	struct irq_cpu *cpu = self->cpu;
	int i;

	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | VECTOR);
	for (i = 0; i < 2; i++) {
		next = restore(cpu, true);
		if (ivm != self->ivm)
			irq_vm_free(ivm);
		ivm = next;
		cpu = &ivm->cpu[0];
		TEST_ASSERT_EQ(lapic_reg(cpu, APIC_LVTT),
			       APIC_LVT_TIMER_TSCDEADLINE | VECTOR);
		TEST_ASSERT(cpu_call(cpu, guest_has_deadline_mode, 0, 0, 0),
			    "not in CPUID after snapshot %d", i);
		set_deadline(cpu, A_WHILE);
		TEST_ASSERT_EQ(cpu_wait_irqs(cpu, 1, to_cycles(PATIENCE)), 1);
		cpu_expect_log(cpu, VECTOR);
	}
	irq_vm_free(ivm);
}

/* CPUID decides which modes there are, not the register restored. */
TEST_F(timer, restored_deadline_mode_without_cpuid_is_one_shot)
{
	struct irq_vm *ivm;
	struct irq_cpu *cpu;
	u64 start;

	cpu_apic_write(self->cpu, APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | VECTOR);
	ivm = restore(self->cpu, false);
	cpu = &ivm->cpu[0];
	start = cpu_rdtsc(cpu);
	cpu_apic_write(cpu, APIC_TMICT, COUNT(A_WHILE));
	TEST_ASSERT_EQ(cpu_wait_irqs(cpu, 1, to_cycles(PATIENCE)), 1);
	expect_not_before(cpu, 0, start, A_WHILE);
	cpu_expect_log(cpu, VECTOR);
	irq_vm_free(ivm);
}

TEST_HARNESS_MAIN
