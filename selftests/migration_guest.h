/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest of the migration test: vCPUs that send and take interrupts of every
 * source, and count them.
 *
 * Of each source one interrupt is on its way at a time, so that no two can
 * become one: the sender counts, sends, and waits until the handler has counted
 * as well.  An interrupt that is lost stops its source for good, one too many
 * is seen at once.
 */
#ifndef FERRIC_SELFTESTS_MIGRATION_GUEST_H
#define FERRIC_SELFTESTS_MIGRATION_GUEST_H

#include "irq_vm.h"

#define NR_VCPUS		4
#define MS			1000000ull	/* in ns */
/*
 * The kernel converts between TSC and time by a measured frequency, which in
 * an emulator can be some percent off.
 */
#define EARLY_PERCENT		10

#define PIC_BASE		0x30
#define EDGE_VECTOR		0x45
#define LEVEL_VECTOR		0x55
#define MASKED_VECTOR		0x65
#define MSI_VECTOR		0x75
#define IRQFD_VECTOR		0x85
#define PIT_VECTOR		0x95
#define TIMER_VECTOR		0xa5
#define IPI_VECTOR		0xb0		/* and the sender's number */

/* vCPUs that the lines and messages go to. */
#define PIC_CPU			0
#define MASKED_CPU		1
#define MSI_CPU			1
#define PIT_CPU			1
#define EDGE_CPU		2
#define LEVEL_CPU		3
#define IRQFD_CPU		3

#define EDGE_GSI		5
#define LEVEL_GSI		10
#define MASKED_GSI		20
#define PIC_EDGE_GSI		3
#define PIC_LEVEL_GSI		11
#define IRQFD_GSI		24
#define PIT_GSI			0

/* What the host gives the guest interrupts of. */
enum device {
	EDGE,		/* a pulse, by the I/O APIC */
	LEVEL_A,	/* these two share a line */
	LEVEL_B,
	MASKED,		/* a line that is masked until its device is served */
	PIC_EDGE,
	PIC_LEVEL,
	MSI,		/* by KVM_SIGNAL_MSI */
	IRQFD,		/* MSI by eventfd */
	NR_DEVICES
};

/* A write of its number here makes a device release its line. */
#define ACK_PORT		0x2000

/* The mode of each vCPU's timer. */
#define PERIODIC_CPU		0
#define ONE_SHOT_CPU		1
#define DEADLINE_CPU		2
/* One-shot as well, and so slow that it is mostly under way. */
#define SLOW_CPU		3

#define PERIOD_NS		(10 * MS)

struct channel {
	u64 sent;
	u64 received;
	u64 repeated;		/* received without having been sent */
};

struct timer {
	struct channel expiry;
	u64 armed, due;		/* guest TSC */
	u64 early, late;	/* how often */
	u64 earliest;		/* by how much, TSC cycles */
	/*
	 * KVM_GET_LAPIC has no bit for it that a one-shot timer is over: its
	 * current count is 0 and its initial count is not.  KVM_SET_LAPIC takes
	 * that for one that is due.  The host says here that this was so.
	 */
	bool may_repeat;
	u64 again;		/* times that it did */
};

/* Shared by guest and host. */
struct load {
	bool x2apic;
	bool draining;			/* send and start no more */
	u64 tsc_khz;
	u64 patience;			/* cycles that a timer may be late */
	u64 seed[NR_VCPUS];

	struct channel ipi[NR_VCPUS][NR_VCPUS];	/* by sender and receiver */
	struct channel device[NR_DEVICES];
	bool asserted[NR_DEVICES];	/* the device's status register */
	struct timer timer[NR_VCPUS];
	u64 periodic_ticks;
	u64 pit_ticks;
	u64 spurious;			/* for no reason that the guest can find */
	u64 doubled;			/* by the processor, see tcg.h */
	u64 halts;
};

/* The handler of all vectors of the load. */
void guest_interrupt(struct ex_regs *regs);
/* Does not return.  To be called on each vCPU; the argument is the load. */
u64 guest_load(u64 load, u64 unused, u64 unused2);

#endif /* FERRIC_SELFTESTS_MIGRATION_GUEST_H */
