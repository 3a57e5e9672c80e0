// SPDX-License-Identifier: GPL-2.0
/*
 * The local APIC's timer: one-shot, periodic and TSC-deadline, its counts and
 * dividers, what stops it, and that it goes on after save and restore.
 *
 * A virtual timer may be late by any time that the host pleases, so lateness
 * is no failure here; being early, firing twice or not at all is.
 */
#include <time.h>

#include "apicv.h"
#include "timer_vm.h"
#include "harness.h"

#define VECTOR			0x51
/* How long to wait for what must come. */
#define PATIENCE		(20000 * MS)
/* How long to look for what must not come. */
#define A_WHILE			(20 * MS)
/* Time enough to do something before it has passed; see start_in_time(). */
#define SOON			(100 * MS)

/*
 * The kernel converts between TSC and time by a measured frequency, which in
 * an emulator can be some percent off.
 */
#define EARLY_PERCENT		10

FIXTURE(timer) {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;
};

FIXTURE_VARIANT(timer) {
	bool x2apic;
};

FIXTURE_VARIANT_ADD(timer, xapic) {
	.x2apic = false,
};

FIXTURE_VARIANT_ADD(timer, x2apic) {
	.x2apic = true,
};

FIXTURE_SETUP(timer)
{
	self->ivm = timer_vm_create(variant->x2apic, true);
	self->cpu = &self->ivm->cpu[0];
}

FIXTURE_TEARDOWN(timer)
{
	irq_vm_free(self->ivm);
}

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static u64 guest_timed_write(u64 msr_or_gpa, u64 val, u64 is_msr)
{
	u64 start = rdtsc();

	if (is_msr)
		wrmsr(msr_or_gpa, val);
	else
		WRITE_ONCE(*(u32 *)msr_or_gpa, val);
	return start;
}

/* Returns the guest's TSC from just before the timer was started. */
static u64 start_count(struct irq_cpu *cpu, u32 count)
{
	u64 where = cpu->x2apic ? APIC_BASE_MSR + (APIC_TMICT >> 4) :
				  APIC_DEFAULT_GPA + APIC_TMICT;

	return cpu_call(cpu, guest_timed_write, where, count, cpu->x2apic);
}

static void expect_irqs(struct irq_cpu *cpu, u32 nr)
{
	u32 got = cpu_wait_irqs(cpu, nr, to_cycles(PATIENCE));

	TEST_ASSERT(got >= nr, "%u of %u timer interrupts came", got, nr);
}

static void expect_quiet_for(struct irq_cpu *cpu, u64 ns)
{
	u32 before = cpu->guest->nr_irqs;
	u32 after = cpu_wait_irqs(cpu, ~0u, to_cycles(ns));

	TEST_ASSERT(after == before, "%u interrupts too many", after - before);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 0);
}

static void expect_quiet(struct irq_cpu *cpu)
{
	expect_quiet_for(cpu, A_WHILE);
}

static void expect_not_before(struct irq_cpu *cpu, u32 index, u64 start, u64 ns)
{
	u64 elapsed = cpu->guest->tsc[index] - start;
	u64 least = to_cycles(ns) / 100 * (100 - EARLY_PERCENT);

	TEST_ASSERT(elapsed >= least, "interrupt %u after %lu cycles, not %lu",
		    index, elapsed, to_cycles(ns));
}

TEST_F(timer, one_shot)
{
	struct irq_cpu *cpu = self->cpu;
	u64 start;

	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_ONESHOT | VECTOR);
	start = start_count(cpu, COUNT(3 * MS));
	expect_irqs(cpu, 1);
	expect_not_before(cpu, 0, start, 3 * MS);
	expect_quiet(cpu);
	cpu_expect_log(cpu, VECTOR);
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_TMCCT), 0);
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_TMICT), COUNT(3 * MS));

	/* A new count starts it again, before its end as well. */
	start_count(cpu, ~0u);
	start = start_count(cpu, COUNT(2 * MS));
	expect_irqs(cpu, 1);
	expect_not_before(cpu, 0, start, 2 * MS);
	expect_quiet(cpu);
	cpu_expect_log(cpu, VECTOR);
}

TEST_F(timer, periodic)
{
	struct irq_cpu *cpu = self->cpu;
	const u64 period = 5 * MS;
	u64 start;
	int i;

	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_PERIODIC | VECTOR);
	start = start_count(cpu, COUNT(period));
	expect_irqs(cpu, 10);
	/* Ticks that were missed are not made up for: none is ever early. */
	for (i = 0; i < 10; i++) {
		TEST_ASSERT_EQ(cpu->guest->log[i], VECTOR);
		expect_not_before(cpu, i, start, (i + 1) * period);
	}
	start_count(cpu, 0);
	cpu_take_irqs(cpu);
	cpu_clear_log(cpu);
	expect_quiet(cpu);
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_TMCCT), 0);
}

TEST_F(timer, count_runs_down)
{
	struct irq_cpu *cpu = self->cpu;
	u32 first = 0, last, i;

	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_ONESHOT | VECTOR);
	/* By 128: nine minutes. */
	cpu_apic_write(cpu, APIC_TDCR, 0xa);
	start_count(cpu, ~0u);
	for (i = 0, last = ~0u; i < 200; i++) {
		u32 count = cpu_apic_read(cpu, APIC_TMCCT);

		TEST_ASSERT(count && count <= last, "from %u to %u", last, count);
		last = count;
		if (!i)
			first = count;
	}
	TEST_ASSERT(last < first, "stuck at %u", last);
	/* What is saved is where it stands now. */
	TEST_ASSERT(lapic_reg(cpu, APIC_TMCCT) < last, "saved count is old");
	TEST_ASSERT_EQ(lapic_reg(cpu, APIC_TMICT), ~0u);
}

/* Count and TSC at the begin and the end of a wait, the TSC on both sides. */
static struct {
	u64 before[2];
	u64 after[2];
	u32 count[2];
} rate;

static u64 guest_measure_rate(u64 x2apic, u64 cycles, u64 unused)
{
	u64 start;
	int i;

	for (i = 0; i < 2; i++) {
		rate.before[i] = rdtsc();
		rate.count[i] = x2apic ? rdmsr(APIC_BASE_MSR + (APIC_TMCCT >> 4)) :
					 xapic_read_reg(APIC_TMCCT);
		rate.after[i] = rdtsc();
		start = rdtsc();
		while (!i && rdtsc() - start < cycles)
			cpu_relax();
	}
	return 0;
}

/* The count runs down by one in @ns nanoseconds. */
static void expect_rate(struct irq_cpu *cpu, u64 ns)
{
	u64 cycles, shortest, longest;

	cpu_call(cpu, guest_measure_rate, cpu->x2apic, to_cycles(3 * MS), 0);
	sync_global_from_guest(cpu->ivm->vm, rate);
	cycles = to_cycles((rate.count[0] - rate.count[1]) * ns);
	shortest = rate.before[1] - rate.after[0];
	longest = rate.after[1] - rate.before[0];
	shortest = shortest / 100 * (100 - EARLY_PERCENT);
	longest = longest / 100 * (100 + EARLY_PERCENT) + to_cycles(2 * ns);
	TEST_ASSERT(cycles >= shortest && cycles <= longest,
		    "%lu ns: from %u to %u, or %lu cycles, in %lu to %lu cycles",
		    ns, rate.count[0], rate.count[1], cycles, shortest, longest);
}

TEST_F(timer, dividers)
{
	static const u8 tdcr[] = { 0xb, 0x0, 0x1, 0x2, 0x3, 0x8, 0x9, 0xa };
	struct irq_cpu *cpu = self->cpu;
	int i;

	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_ONESHOT | VECTOR);
	for (i = 0; i < ARRAY_SIZE(tdcr); i++) {
		cpu_apic_write(cpu, APIC_TDCR, tdcr[i]);
		start_count(cpu, ~0u);
		expect_rate(cpu, 1ull << i);
	}
}

TEST_F(timer, divider_changes_while_it_runs)
{
	struct irq_cpu *cpu = self->cpu;
	u32 before, after;
	u64 start;

	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_ONESHOT | VECTOR);
	start_count(cpu, ~0u);
	before = cpu_apic_read(cpu, APIC_TMCCT);
	cpu_apic_write(cpu, APIC_TDCR, 0x3);
	after = cpu_apic_read(cpu, APIC_TMCCT);
	/* The count goes on from where it is, at the new pace. */
	TEST_ASSERT(after <= before && after > before / 2,
		    "jumped from %u to %u", before, after);
	expect_rate(cpu, 16);

	/* The end comes sooner or later accordingly. */
	cpu_apic_write(cpu, APIC_TDCR, 0xa);
	start = start_count(cpu, COUNT(1000 * MS));
	cpu_apic_write(cpu, APIC_TDCR, DIVIDE_BY_1);
	before = cpu_apic_read(cpu, APIC_TMCCT);
	TEST_ASSERT(before > COUNT(500 * MS), "jumped to %u", before);
	start_count(cpu, COUNT(2 * MS));
	cpu_apic_write(cpu, APIC_TDCR, 0x1);
	expect_irqs(cpu, 1);
	expect_not_before(cpu, 0, start, 2 * MS);
	cpu_expect_log(cpu, VECTOR);
}

TEST_F(timer, masked)
{
	struct irq_cpu *cpu = self->cpu;

	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_MASKED | APIC_LVT_TIMER_ONESHOT | VECTOR);
	start_count(cpu, ~0u);
	TEST_ASSERT(cpu_apic_read(cpu, APIC_TMCCT) > 0, "a masked timer counts");
	start_count(cpu, COUNT(2 * MS));
	expect_quiet(cpu);
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_TMCCT), 0);

	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_MASKED | APIC_LVT_TIMER_PERIODIC | VECTOR);
	start_count(cpu, COUNT(2 * MS));
	expect_quiet(cpu);
	/* Unmasked while it runs, it goes on. */
	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_PERIODIC | VECTOR);
	expect_irqs(cpu, 2);
	/* Disabling the APIC masks it, too. */
	cpu_apic_write(cpu, APIC_SPIV, APIC_SPURIOUS_VECTOR);
	cpu_take_irqs(cpu);
	cpu_clear_log(cpu);
	expect_quiet(cpu);
}

/*
 * Start the timer in the mode of @lvtt, to end in SOON, and do something to it
 * before that: on a busy host it takes several attempts to be that fast.
 */
static void start_in_time(struct irq_cpu *cpu, u32 lvtt,
			  void (*act)(struct irq_cpu *cpu))
{
	int i;

	for (i = 0; i < 100; i++) {
		u64 end;

		cpu_apic_write(cpu, APIC_LVTT, lvtt);
		if (lvtt & APIC_LVT_TIMER_TSCDEADLINE)
			end = set_deadline(cpu, SOON);
		else
			end = start_count(cpu, COUNT(SOON)) + to_cycles(SOON);
		act(cpu);
		if (cpu_rdtsc(cpu) < end - to_cycles(SOON) / 100 * EARLY_PERCENT)
			return;
		/* Too late: let what has come or will come pass. */
		cpu_wait_irqs(cpu, ~0u, to_cycles(2 * SOON));
		cpu_clear_log(cpu);
	}
	TEST_FAIL("this host is too slow");
}

static void change_vector(struct irq_cpu *cpu)
{
	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_ONESHOT | 0x77);
}

TEST_F(timer, vector_is_that_of_the_moment)
{
	struct irq_cpu *cpu = self->cpu;

	start_in_time(cpu, APIC_LVT_TIMER_ONESHOT | VECTOR, change_vector);
	expect_irqs(cpu, 1);
	cpu_expect_log(cpu, 0x77);
}

TEST_F(timer, wakes_from_halt)
{
	struct irq_cpu *cpu = self->cpu;
	u64 start;

	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_ONESHOT | VECTOR);
	start = start_count(cpu, COUNT(10 * MS));
	cpu_halt(cpu);
	expect_not_before(cpu, 0, start, 10 * MS);
	cpu_expect_log(cpu, VECTOR);

	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_PERIODIC | VECTOR);
	start_count(cpu, COUNT(5 * MS));
	cpu_halt(cpu);
	cpu_halt(cpu);
	cpu_halt(cpu);
	start_count(cpu, 0);
	TEST_ASSERT(cpu->guest->nr_irqs >= 3, "woken by nothing");
}

static void clear_deadline(struct irq_cpu *cpu)
{
	cpu_wrmsr(cpu, MSR_TSC_DEADLINE, 0);
}

TEST_F(timer, deadline)
{
	struct irq_cpu *cpu = self->cpu;
	u64 deadline;

	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | VECTOR);
	TEST_ASSERT_EQ(cpu_rdmsr(cpu, MSR_TSC_DEADLINE), 0);
	deadline = set_deadline(cpu, PATIENCE);
	TEST_ASSERT_EQ(cpu_rdmsr(cpu, MSR_TSC_DEADLINE), deadline);
	deadline = set_deadline(cpu, 30 * MS);
	expect_irqs(cpu, 1);
	/* KVM wakes up early and waits, for as long as it thinks is right. */
	TEST_ASSERT(cpu->guest->tsc[0] + to_cycles(MS / 10) >= deadline,
		    "early by %lu cycles", deadline - cpu->guest->tsc[0]);
	TEST_ASSERT_EQ(cpu_rdmsr(cpu, MSR_TSC_DEADLINE), 0);
	expect_quiet(cpu);
	cpu_expect_log(cpu, VECTOR);

	/* In the past: at once. */
	cpu_wrmsr(cpu, MSR_TSC_DEADLINE, 1);
	cpu_take_irqs(cpu);
	expect_irqs(cpu, 1);
	cpu_expect_log(cpu, VECTOR);

	/* Zero disarms, and a new one replaces the old. */
	start_in_time(cpu, APIC_LVT_TIMER_TSCDEADLINE | VECTOR, clear_deadline);
	expect_quiet_for(cpu, 2 * SOON);
	set_deadline(cpu, PATIENCE);
	set_deadline(cpu, 2 * MS);
	expect_irqs(cpu, 1);
	expect_quiet(cpu);
	cpu_expect_log(cpu, VECTOR);

	/* The count registers are dead, though a processor keeps what it stores. */
	cpu_apic_write(cpu, APIC_TMICT, COUNT(MS));
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_TMICT),
		       apicv_is_on() && !variant->x2apic ? COUNT(MS) : 0);
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_TMCCT), 0);
	expect_quiet(cpu);

	/* From halt. */
	set_deadline(cpu, 10 * MS);
	cpu_halt(cpu);
	cpu_expect_log(cpu, VECTOR);
}

#define NR_REARMS		1000

TEST_F(timer, deadline_rearmed_in_the_handler)
{
	struct irq_cpu *cpu = self->cpu;
	u32 i;

	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | VECTOR);
	cpu->guest->rearm_left = NR_REARMS;
	cpu->guest->rearm_cycles = to_cycles(MS / 20);
	set_deadline(cpu, MS / 20);
	TEST_ASSERT(cpu_wait_irqs(cpu, NR_REARMS + 1, to_cycles(PATIENCE)) ==
		    NR_REARMS + 1, "stopped after %u", cpu->guest->nr_irqs);
	expect_quiet(cpu);
	TEST_ASSERT_EQ(cpu->guest->rearm_left, 0);
	for (i = 1; i < IRQ_LOG_SIZE; i++) {
		u64 delta = cpu->guest->tsc[i] - cpu->guest->tsc[i - 1];

		TEST_ASSERT(delta >= cpu->guest->rearm_cycles - to_cycles(MS / 100),
			    "number %u came %lu cycles after the last", i, delta);
	}

	/* With a deadline that has passed by the time it is written. */
	cpu_clear_log(cpu);
	cpu->guest->rearm_cycles = 0;
	cpu->guest->rearm_left = NR_REARMS;
	cpu_wrmsr(cpu, MSR_TSC_DEADLINE, 1);
	TEST_ASSERT(cpu_wait_irqs(cpu, NR_REARMS + 1, to_cycles(PATIENCE)) ==
		    NR_REARMS + 1, "stopped after %u", cpu->guest->nr_irqs);
}

static void change_to_deadline(struct irq_cpu *cpu)
{
	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | VECTOR);
}

static void change_to_one_shot(struct irq_cpu *cpu)
{
	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_ONESHOT | VECTOR);
}

TEST_F(timer, mode_changes_disarm)
{
	struct irq_cpu *cpu = self->cpu;

	/* Between counting and deadline, in both directions. */
	start_in_time(cpu, APIC_LVT_TIMER_ONESHOT | VECTOR, change_to_deadline);
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_TMICT), 0);
	expect_quiet_for(cpu, 2 * SOON);

	start_in_time(cpu, APIC_LVT_TIMER_TSCDEADLINE | VECTOR, change_to_one_shot);
	TEST_ASSERT_EQ(cpu_rdmsr(cpu, MSR_TSC_DEADLINE), 0);
	expect_quiet_for(cpu, 2 * SOON);

	/* A deadline in another mode is dropped, not kept for later. */
	set_deadline(cpu, MS);
	TEST_ASSERT_EQ(cpu_rdmsr(cpu, MSR_TSC_DEADLINE), 0);
	change_to_deadline(cpu);
	expect_quiet(cpu);
}

TEST(no_deadline_mode_without_cpuid)
{
	struct irq_vm *ivm = timer_vm_create(false, false);
	struct irq_cpu *cpu = &ivm->cpu[0];

	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | VECTOR);
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_LVTT), VECTOR);
	start_count(cpu, COUNT(MS));
	expect_irqs(cpu, 1);
	cpu_expect_log(cpu, VECTOR);
	irq_vm_free(ivm);
}

/*
 * Save here, restore there; returns when. *left is what was left of the count
 * in ns; if it is not 0 before, the state is changed to have that much left.
 */
static u64 move_timer(struct irq_cpu *from, struct irq_cpu *to, u64 *left)
{
	struct kvm_lapic_state state;
	u64 when;

	lapic_get(from, &state);
	if (*left) {
		TEST_ASSERT(state_reg(&state, APIC_TMCCT) > 0, "it has stopped");
		state_set_reg(&state, APIC_TMCCT, COUNT(*left));
	}
	*left = state_reg(&state, APIC_TMCCT);
	vcpu_set_msr(to->vcpu, MSR_IA32_APICBASE,
		     vcpu_get_msr(from->vcpu, MSR_IA32_APICBASE));
	to->x2apic = from->x2apic;
	to->guest->eoi = from->guest->eoi;
	when = now_ns();
	lapic_set(to, &state);
	return when;
}

TEST_F(timer, restored_one_shot)
{
	struct irq_vm *ivm2 = timer_vm_create(false, true);
	struct irq_cpu *to = &ivm2->cpu[0];
	u64 when, left = 100 * MS, elapsed;

	cpu_apic_write(self->cpu, APIC_LVTT, APIC_LVT_TIMER_ONESHOT | VECTOR);
	start_count(self->cpu, ~0u);
	when = move_timer(self->cpu, to, &left);
	expect_irqs(to, 1);
	elapsed = now_ns() - when;
	TEST_ASSERT(elapsed >= left / 100 * (100 - EARLY_PERCENT),
		    "after %lu ns, with %lu left", elapsed, left);
	expect_quiet(to);
	cpu_expect_log(to, VECTOR);
	irq_vm_free(ivm2);
}

/* One that has ended before it was saved does not start again. */
TEST_F(timer, restored_one_shot_that_has_ended)
{
	struct irq_vm *ivm2 = timer_vm_create(false, true);
	u64 left = 0;

	cpu_apic_write(self->cpu, APIC_LVTT, APIC_LVT_TIMER_ONESHOT | VECTOR);
	start_count(self->cpu, COUNT(MS));
	expect_irqs(self->cpu, 1);
	cpu_take_irqs(self->cpu);
	move_timer(self->cpu, &ivm2->cpu[0], &left);
	TEST_ASSERT_EQ(left, 0);
	/* KVM cannot tell "ended" from "about to": at most one more. */
	TEST_ASSERT(cpu_wait_irqs(&ivm2->cpu[0], 2, to_cycles(A_WHILE)) <= 1,
		    "it runs");
	irq_vm_free(ivm2);
}

TEST_F(timer, restored_periodic)
{
	struct irq_vm *ivm2 = timer_vm_create(false, true);
	struct irq_cpu *to = &ivm2->cpu[0];
	const u64 period = 50 * MS;
	u64 when, left = 0, elapsed;

	cpu_apic_write(self->cpu, APIC_LVTT, APIC_LVT_TIMER_PERIODIC | VECTOR);
	start_count(self->cpu, COUNT(period));
	expect_irqs(self->cpu, 1);
	when = move_timer(self->cpu, to, &left);
	expect_irqs(to, 3);
	elapsed = now_ns() - when;
	TEST_ASSERT(elapsed >= (left + 2 * period) / 100 * (100 - EARLY_PERCENT),
		    "three ticks in %lu ns, with %lu left of the first",
		    elapsed, left);
	irq_vm_free(ivm2);
}

TEST_F(timer, restored_deadline)
{
	struct irq_vm *ivm2 = timer_vm_create(false, true);
	struct irq_cpu *to = &ivm2->cpu[0];
	u64 left = 0, deadline;

	cpu_apic_write(self->cpu, APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | VECTOR);
	set_deadline(self->cpu, PATIENCE);
	move_timer(self->cpu, to, &left);
	TEST_ASSERT_EQ(left, 0);
	/* The order that works: the local APIC, then the MSR. */
	deadline = vcpu_get_msr(to->vcpu, MSR_IA32_TSC) + to_cycles(PATIENCE);
	vcpu_set_msr(to->vcpu, MSR_TSC_DEADLINE, deadline);
	TEST_ASSERT_EQ(vcpu_get_msr(to->vcpu, MSR_TSC_DEADLINE), deadline);
	deadline = vcpu_get_msr(to->vcpu, MSR_IA32_TSC) + to_cycles(20 * MS);
	vcpu_set_msr(to->vcpu, MSR_TSC_DEADLINE, deadline);
	expect_irqs(to, 1);
	TEST_ASSERT(to->guest->tsc[0] + to_cycles(MS / 10) >= deadline,
		    "early by %lu cycles", deadline - to->guest->tsc[0]);
	expect_quiet(to);
	cpu_expect_log(to, VECTOR);
	irq_vm_free(ivm2);
}

/* Restoring a stopped timer stops the one that runs. */
TEST_F(timer, restore_stops_it)
{
	struct kvm_lapic_state state;

	cpu_apic_write(self->cpu, APIC_LVTT, APIC_LVT_TIMER_PERIODIC | VECTOR);
	lapic_get(self->cpu, &state);
	start_count(self->cpu, COUNT(5 * MS));
	expect_irqs(self->cpu, 1);
	lapic_set(self->cpu, &state);
	cpu_clear_log(self->cpu);
	expect_quiet(self->cpu);
	TEST_ASSERT_EQ(cpu_apic_read(self->cpu, APIC_TMICT), 0);
}

TEST(bus_clock)
{
	struct irq_vm *ivm;
	struct irq_cpu *cpu;

	if (!kvm_has_cap(KVM_CAP_X86_APIC_BUS_CYCLES_NS))
		SKIP(return, "this KVM has a fixed bus clock");

	ivm = irq_vm_create_empty(IRQCHIP_FULL);
	vm_enable_cap(ivm->vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS, 40);
	cpu = irq_vm_add_cpu(ivm, 0);
	cpu_enable_apic(cpu, true);
	cpu_apic_write(cpu, APIC_TDCR, DIVIDE_BY_1);
	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_ONESHOT | VECTOR);
	start_count(cpu, ~0u);
	expect_rate(cpu, 40);
	cpu_apic_write(cpu, APIC_TDCR, 0x0);
	expect_rate(cpu, 80);
	irq_vm_free(ivm);
}

TEST_HARNESS_MAIN
