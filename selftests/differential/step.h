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
#include "random.h"

#define NR_CPUS_OF_VM		3
#define NR_IRQFDS		4
#define FIRST_IRQFD_GSI		10
/* The last of the irqfds listens to EOIs. */
#define RESAMPLE_IRQFD		(NR_IRQFDS - 1)

/* What a machine is like; see machine_create(). */
#define MACHINE_SPLIT		BIT(0)	/* I/O APIC and PIC in user space */
#define MACHINE_HYPERV		BIT(1)	/* the guest is on Hyper-V */
#define MACHINE_X2APIC_API(n)	((n) >> 8 & 0xf)

enum op {
	OP_MACHINE,		/* a: as above; as the first step only */
	/* The guest's; cpu does it. */
	OP_MMIO_READ,		/* a: address */
	OP_MMIO_WRITE,		/* a: address, b: value */
	OP_RDMSR,		/* a: MSR */
	OP_WRMSR,		/* a: MSR, b: value */
	OP_IN,			/* a: port */
	OP_OUT,			/* a: port, b: value */
	OP_GET_CR8,
	OP_TAKE,		/* interrupts on for a moment */
	OP_PV_EOI,		/* an EOI by the flag in memory, if it is set */
	OP_VAPIC_TPR,		/* b: TPR, by the VAPIC page */
	OP_PV_IPI,		/* a, b: bitmap, c: ICR and lowest ID */
	OP_HV_IPI,		/* a: bitmap, c: vector */
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
	OP_SET_PAGE,		/* a: which page of the guest's, b: is it there */
	OP_MIGRATE,		/* all state, saved and restored; a: order */
	OP_RESTORE,		/* one vCPU's APIC; a: order, b: IA32_APIC_BASE before */
	OP_TIMER,		/* a: LVTT, b: initial count; waits until it is over */
	NR_OPS
};

struct step {
	u32 op;
	u32 cpu;
	u32 width;
	u64 a, b, c;
};

/* Pages of OP_SET_PAGE. */
enum flag_page {
	PAGE_PV_EOI,		/* MSR_KVM_PV_EOI_EN */
	PAGE_VAPIC,		/* KVM_SET_VAPIC_ADDR */
	PAGE_ASSIST,		/* HV_X64_MSR_VP_ASSIST_PAGE */
	NR_PAGES
};

struct step step_random(u64 *state);
/* The step that begins a sequence. */
struct step step_machine(u64 *state);

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
