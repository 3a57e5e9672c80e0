/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the differential test does to a machine, one step at a time; as numbers,
 * so that a sequence can be made from a seed, written down and shortened.
 */
#ifndef FERRIC_SELFTESTS_DIFFERENTIAL_STEP_H
#define FERRIC_SELFTESTS_DIFFERENTIAL_STEP_H

#include <linux/types.h>
#include <stdbool.h>
#include <stdio.h>

#include "irq_vm.h"

#define NR_CPUS_OF_VM		3
#define NR_IRQFDS		4
#define FIRST_IRQFD_GSI		10
/* The last of the irqfds listens to EOIs. */
#define RESAMPLE_IRQFD		(NR_IRQFDS - 1)

enum op {
	/* The guest's; cpu does it. */
	OP_MMIO_READ,		/* a: address */
	OP_MMIO_WRITE,		/* a: address, b: value */
	OP_RDMSR,		/* a: MSR */
	OP_WRMSR,		/* a: MSR, b: value */
	OP_IN,			/* a: port */
	OP_OUT,			/* a: port, b: value */
	OP_GET_CR8,
	OP_TAKE,		/* interrupts on for a moment */
	/* The host's. */
	OP_LINE,		/* a: GSI, b: level */
	OP_MSI,			/* a: address, b: its upper half, c: data */
	OP_IRQFD,		/* a: number */
	OP_ROUTES,		/* a: seed of the table */
	OP_SET_CR8,		/* b: value */
	OP_HOST_WRMSR,		/* a: MSR, b: value */
	OP_SET_LAPIC,		/* a: offset, b: value of a register to change */
	OP_SET_IRQCHIP,		/* a: chip, b: offset, c: value to change */
	OP_SET_PIT,		/* a: offset, b: value to change */
	OP_MIGRATE,		/* all state, saved and restored; a: order */
	OP_TIMER,		/* a: LVTT, b: initial count; waits until it is over */
	NR_OPS
};

struct step {
	u32 op;
	u32 cpu;
	u32 width;
	u64 a, b, c;
};

/* A sequence of numbers from a seed (splitmix64). */
static inline u64 random_next(u64 *state)
{
	u64 z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static inline u64 random_below(u64 *state, u64 limit)
{
	return random_next(state) % limit;
}

struct step step_random(u64 *state);

/*
 * A delivery mode that would take a vCPU away from the test's guest is
 * replaced: SMI, INIT and SIPI.
 */
u32 without_reset(u32 value);
bool is_reset(u32 value);

/* One line of text each. */
void step_print(FILE *file, const struct step *step);
bool step_parse(const char *line, struct step *step);

#endif /* FERRIC_SELFTESTS_DIFFERENTIAL_STEP_H */
