// SPDX-License-Identifier: GPL-2.0
/*
 * The threads of cpu_thread.h.
 */
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "cpu_thread.h"

#define PATIENCE_NS		20000000000ull
#define ROUNDS_NS		1000000000ull
#define MIN_ROUNDS		20

/* Guest side. */
static bool is_over(const struct guest_cpu *cpu, u64 until)
{
	return READ_ONCE(cpu->stop) || READ_ONCE(cpu->nr_irqs) >= until;
}

u64 guest_halt_until(u64 until, u64 cpu_gva, u64 unused)
{
	struct guest_cpu *cpu = (void *)cpu_gva;

	while (!is_over(cpu, until)) {
		safe_halt();
		cli();
	}
	return 0;
}

u64 guest_spin_until(u64 until, u64 cpu_gva, u64 unused)
{
	struct guest_cpu *cpu = (void *)cpu_gva;

	sti();
	while (!is_over(cpu, until))
		cpu_relax();
	cli();
	return 0;
}

/* Host side. */
static void *run(void *arg)
{
	struct cpu_thread *t = arg;

	cpu_call(t->cpu, t->fn, t->arg, t->cpu->guest_gva, 0);
	WRITE_ONCE(t->done, true);
	return NULL;
}

void cpu_thread_start(struct cpu_thread *t, struct irq_cpu *cpu, guest_fn_t fn,
		      u64 arg)
{
	*t = (struct cpu_thread){ .cpu = cpu, .fn = fn, .arg = arg };
	cpu->guest->stop = false;
	TEST_ASSERT(!pthread_create(&t->thread, NULL, run, t),
		    "cannot start a thread");
}

void cpu_thread_stop(struct cpu_thread *t)
{
	WRITE_ONCE(t->cpu->guest->stop, true);
}

void cpu_thread_join(struct cpu_thread *t)
{
	pthread_join(t->thread, NULL);
}

void cpu_thread_move(struct cpu_thread *t)
{
	cpu_set_t allowed, one;

	TEST_ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
	TEST_ASSERT(CPU_COUNT(&allowed) > 1, "there is one CPU only");
	do {
		t->host_cpu = (t->host_cpu + 1) % CPU_SETSIZE;
	} while (!CPU_ISSET(t->host_cpu, &allowed));
	CPU_ZERO(&one);
	CPU_SET(t->host_cpu, &one);
	/* The thread may have ended meanwhile. */
	TEST_ASSERT(!pthread_setaffinity_np(t->thread, sizeof(one), &one) ||
		    READ_ONCE(t->done), "cannot move to CPU %d", t->host_cpu);
}

u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

struct rounds rounds_begin(u32 max)
{
	u32 factor = getenv("FULL") ? 20 : 1;

	return (struct rounds){
		.max = factor * max,
		.end = now_ns() + factor * ROUNDS_NS,
	};
}

bool rounds_next(struct rounds *r)
{
	if (r->nr >= r->max || (r->nr >= MIN_ROUNDS && now_ns() > r->end))
		return false;
	r->nr++;
	return true;
}

u64 poll_end(void)
{
	return now_ns() + PATIENCE_NS;
}

bool poll_is_over(u64 end)
{
	return now_ns() > end;
}

bool cpu_poll_irqs(struct irq_cpu *cpu, u32 nr)
{
	return poll_until(READ_ONCE(cpu->guest->nr_irqs) >= nr);
}
