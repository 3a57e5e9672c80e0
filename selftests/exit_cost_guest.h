/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the guest of exit_cost does and measures.  Times are TSC ticks.
 */
#ifndef FERRIC_SELFTESTS_EXIT_COST_GUEST_H
#define FERRIC_SELFTESTS_EXIT_COST_GUEST_H

#include "irq_vm.h"

/* What comes first fills caches, e.g. KVM's of guest memory, and is left out. */
#define NR_WARMUP		16
/* Odd, so that the median is one of them. */
#define NR_SAMPLES		101
#define NR_ROUNDS		(NR_WARMUP + NR_SAMPLES)
#define NR_COLUMNS		3

/* What guest_measure_self() expects, and guest_measure_timer(). */
#define VECTOR			0x61
#define TIMER_VECTOR		0x71

/* Far enough for the vCPU to be blocked before. */
#define TIMER_TICKS		300000

/*
 * QEMU's TCG delivers an interrupt that VMRUN injects a second time if its time
 * slice ends right there (helper_vmrun() leaves CPUState.exception_index set).
 * Such a round is repeated, and more than a few of them are a failure.
 */
#define MAX_DOUBLED		8

typedef void (*op_t)(u64 a, u64 b);

/* Shared by guest and host. */
struct meter {
	op_t op;
	u64 a, b;
	op_t eoi;
	struct guest_cpu *receiver;	/* guest virtual address */
	bool stop;
	u32 doubled;
	u64 cost[NR_COLUMNS][NR_ROUNDS];
};

/* Accesses to measure, and the two ways to end an interrupt. */
void op_nothing(u64 a, u64 b);
void op_cpuid(u64 leaf, u64 unused);
void op_inb(u64 port, u64 unused);
void op_outb(u64 port, u64 val);
void op_read32(u64 addr, u64 unused);
void op_write32(u64 addr, u64 val);
void op_rdmsr(u64 msr, u64 unused);
void op_wrmsr(u64 msr, u64 val);
void op_get_cr8(u64 unused, u64 unused2);
void op_set_cr8(u64 val, u64 unused);
void op_tsc_deadline(u64 ticks, u64 unused);
void guest_eoi_xapic(u64 unused, u64 unused2);
void guest_eoi_x2apic(u64 unused, u64 unused2);

/* To be run by cpu_call(); the first argument is the meter. */
u64 guest_measure(u64 meter, u64 unused, u64 unused2);
u64 guest_measure_once(u64 meter, u64 unused, u64 unused2);
u64 guest_measure_take(u64 unused, u64 unused2, u64 unused3);
u64 guest_measure_self(u64 meter, u64 unused, u64 unused2);
u64 guest_measure_timer(u64 meter, u64 unused, u64 unused2);
u64 guest_measure_wake(u64 meter, u64 unused, u64 unused2);
u64 guest_halt_until_stop(u64 meter, u64 unused, u64 unused2);

#endif /* FERRIC_SELFTESTS_EXIT_COST_GUEST_H */
