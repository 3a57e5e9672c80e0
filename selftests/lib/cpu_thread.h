/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A vCPU of irq_vm.h in a thread of its own, for what two of them, or a vCPU
 * and the host, do at the same time.
 */
#ifndef FERRIC_SELFTESTS_CPU_THREAD_H
#define FERRIC_SELFTESTS_CPU_THREAD_H

#include <pthread.h>

#include "irq_vm.h"

struct cpu_thread {
	struct irq_cpu *cpu;
	pthread_t thread;
	guest_fn_t fn;
	u64 arg;
	bool done;	/* the call has returned */
	int host_cpu;	/* that cpu_thread_move() moved it to last */
};

/*
 * One guest call in a thread: @fn gets @arg and the guest's address of its
 * struct guest_cpu.
 */
void cpu_thread_start(struct cpu_thread *t, struct irq_cpu *cpu, guest_fn_t fn,
		      u64 arg);
/* Sets guest->stop. */
void cpu_thread_stop(struct cpu_thread *t);
void cpu_thread_join(struct cpu_thread *t);
/* Moves it to the next of the CPUs that the caller may run on, of at least two. */
void cpu_thread_move(struct cpu_thread *t);

/*
 * Guest functions that last until @until interrupts are in the log, or they are
 * told to stop: asleep (so that one more has to come to end it), or awake with
 * interrupts on.
 */
u64 guest_halt_until(u64 until, u64 cpu_gva, u64 unused);
u64 guest_spin_until(u64 until, u64 cpu_gva, u64 unused);

/*
 * What goes wrong by chance only is tried often: @max times, but for a second at
 * most; with run --full twenty times as often and as long.
 */
struct rounds {
	u32 nr;			/* that have begun */
	u32 max;
	u64 end;
};

struct rounds rounds_begin(u32 max);
bool rounds_next(struct rounds *r);

/* Polls until it holds. False after 20 seconds. */
#define poll_until(condition) ({					\
	u64 __end = poll_end();						\
	bool __holds;							\
									\
	while (!(__holds = (condition)) && !poll_is_over(__end))	\
		usleep(50);						\
	__holds;							\
})
u64 now_ns(void);
u64 poll_end(void);
bool poll_is_over(u64 end);

/* Until the log of a vCPU that runs holds @nr. */
bool cpu_poll_irqs(struct irq_cpu *cpu, u32 nr);

#endif /* FERRIC_SELFTESTS_CPU_THREAD_H */
