// SPDX-License-Identifier: GPL-2.0
/*
 * The guest of exit_cost: the accesses, and the loops that time them.
 */
#include "exit_cost_guest.h"

/* Long enough for a vCPU that was woken to be blocked again. */
#define SETTLE_TICKS		100000

void op_nothing(u64 a, u64 b)
{
}

void op_cpuid(u64 leaf, u64 unused)
{
	u32 eax, ebx, ecx, edx;

	cpuid(leaf, &eax, &ebx, &ecx, &edx);
}

void op_inb(u64 port, u64 unused)
{
	u8 val;

	asm volatile("inb %w1, %0" : "=a"(val) : "d"(port) : "memory");
}

void op_outb(u64 port, u64 val)
{
	asm volatile("outb %b0, %w1" : : "a"(val), "d"(port) : "memory");
}

void op_read32(u64 addr, u64 unused)
{
	READ_ONCE(*(u32 *)addr);
}

void op_write32(u64 addr, u64 val)
{
	WRITE_ONCE(*(u32 *)addr, val);
}

void op_rdmsr(u64 msr, u64 unused)
{
	rdmsr(msr);
}

void op_wrmsr(u64 msr, u64 val)
{
	wrmsr(msr, val);
}

void op_get_cr8(u64 unused, u64 unused2)
{
	get_cr8();
}

void op_set_cr8(u64 val, u64 unused)
{
	set_cr8(val);
}

void op_tsc_deadline(u64 ticks, u64 unused)
{
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + ticks);
}

void guest_eoi_xapic(u64 unused, u64 unused2)
{
	xapic_write_reg(APIC_EOI, 0);
}

void guest_eoi_x2apic(u64 unused, u64 unused2)
{
	x2apic_write_reg(APIC_EOI, 0);
}

static void guest_take_one(void)
{
	asm volatile("sti; nop; nop; cli" : : : "memory");
}

static u64 guest_time(struct meter *m)
{
	u64 start = rdtsc();

	m->op(m->a, m->b);
	return rdtsc() - start;
}

u64 guest_measure(u64 meter, u64 unused, u64 unused2)
{
	struct meter *m = (void *)meter;
	int i;

	for (i = 0; i < NR_ROUNDS; i++)
		m->cost[0][i] = guest_time(m);
	return 0;
}

u64 guest_measure_once(u64 meter, u64 unused, u64 unused2)
{
	return guest_time((void *)meter);
}

/* How long it takes to get the interrupt that is pending. */
u64 guest_measure_take(u64 unused, u64 unused2, u64 unused3)
{
	u64 start = rdtsc();

	guest_take_one();
	return rdtsc() - start;
}

/* The round's interrupt has come; once, or the round has to be repeated. */
static bool guest_took_one(struct meter *m, u8 vector)
{
	struct guest_cpu *cpu = m->receiver;
	u32 nr = READ_ONCE(cpu->nr_irqs);

	GUEST_ASSERT_EQ(cpu->log[0], vector);
	if (nr == 2 && cpu->log[1] == vector && m->doubled < MAX_DOUBLED) {
		m->doubled++;
		return false;
	}
	GUEST_ASSERT_EQ(nr, 1);
	return true;
}

/* An interrupt that the vCPU sends to itself: sending, taking, ending it. */
u64 guest_measure_self(u64 meter, u64 unused, u64 unused2)
{
	struct meter *m = (void *)meter;
	u64 t[4];
	int i = 0;

	while (i < NR_ROUNDS) {
		m->receiver->nr_irqs = 0;
		t[0] = rdtsc();
		m->op(m->a, m->b);
		t[1] = rdtsc();
		guest_take_one();
		t[2] = rdtsc();
		m->eoi(0, 0);
		t[3] = rdtsc();
		if (!guest_took_one(m, VECTOR))
			continue;
		m->cost[0][i] = t[1] - t[0];
		m->cost[1][i] = t[2] - t[1];
		m->cost[2][i] = t[3] - t[2];
		i++;
	}
	return 0;
}

/* Arming the timer, halting and being woken, without the time in between. */
u64 guest_measure_timer(u64 meter, u64 unused, u64 unused2)
{
	struct meter *m = (void *)meter;
	u64 start, armed, end;
	int i = 0;

	while (i < NR_ROUNDS) {
		m->receiver->nr_irqs = 0;
		start = rdtsc();
		m->op(m->a, m->b);
		armed = rdtsc();
		safe_halt();
		cli();
		end = rdtsc();
		m->eoi(0, 0);
		if (!guest_took_one(m, TIMER_VECTOR))
			continue;
		GUEST_ASSERT(end - start > TIMER_TICKS);
		m->cost[0][i] = armed - start;
		m->cost[1][i] = end - start - TIMER_TICKS;
		i++;
	}
	return 0;
}

/* An IPI to a vCPU that halts; only what the sender does. */
u64 guest_measure_wake(u64 meter, u64 unused, u64 unused2)
{
	struct meter *m = (void *)meter;
	u64 start;
	u32 before;
	int i;

	for (i = 0; i < NR_ROUNDS; i++) {
		before = READ_ONCE(m->receiver->nr_irqs);
		m->cost[0][i] = guest_time(m);
		while (READ_ONCE(m->receiver->nr_irqs) == before)
			cpu_relax();
		start = rdtsc();
		while (rdtsc() - start < SETTLE_TICKS)
			cpu_relax();
	}
	WRITE_ONCE(m->stop, true);
	m->op(m->a, m->b);
	return 0;
}

u64 guest_halt_until_stop(u64 meter, u64 unused, u64 unused2)
{
	struct meter *m = (void *)meter;

	while (!READ_ONCE(m->stop)) {
		safe_halt();
		cli();
	}
	return 0;
}
