/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A virtual machine of the differential test: what a step does to it, and all
 * that can be seen of its irqchip.
 */
#ifndef FERRIC_SELFTESTS_DIFFERENTIAL_MACHINE_H
#define FERRIC_SELFTESTS_DIFFERENTIAL_MACHINE_H

#include "irq_vm.h"
#include "step.h"

#define MAX_LOG			64

struct machine {
	struct irq_vm *ivm;
	u32 flags;		/* MACHINE_* */
	/* ferric restores in any order what KVM wants in one. */
	bool any_order;
	/* A page of each vCPU's for flags in memory, and Hyper-V's hypercalls. */
	gva_t page[NR_CPUS_OF_VM];
	int irqfd[NR_IRQFDS];
	int resamplefd;
	/* Of a vCPU that waits for a call, to undo an INIT. */
	struct kvm_regs regs[NR_CPUS_OF_VM];
	struct kvm_sregs sregs[NR_CPUS_OF_VM];
};

/* What a step gave back. */
struct result {
	s64 value;
	u64 fault;
	u64 resampled;		/* EOIs that user space was told of */
	u64 nr_mmio, nr_pio, nr_eoi;	/* exits for it */
	u64 nr_irqs;
	u8 log[MAX_LOG];
};

/* The state of the irqchip, as user space gets it; without time. */
struct snapshot {
	struct kvm_lapic_state lapic[NR_CPUS_OF_VM];
	struct kvm_vcpu_events events[NR_CPUS_OF_VM];
	struct kvm_mp_state mp_state[NR_CPUS_OF_VM];
	u64 base[NR_CPUS_OF_VM];
	u64 deadline[NR_CPUS_OF_VM];
	u32 flag[NR_CPUS_OF_VM], vapic[NR_CPUS_OF_VM];	/* in memory */
	bool has_chips;
	struct kvm_irqchip chip[KVM_NR_IRQCHIPS];
	struct kvm_pit_state2 pit;
};

/* @flags: MACHINE_*. */
void machine_create(struct machine *m, u32 flags, bool any_order);
void machine_destroy(struct machine *m);
/* @before: the state before the step. */
void machine_do(struct machine *m, const struct step *step,
		const struct snapshot *before, struct result *result);
void machine_look(struct machine *m, struct snapshot *snapshot);

/* The steps that are not about the chips; paravirt.c. */
void paravirt_create(struct machine *m);
s64 paravirt_do(struct machine *m, const struct step *step);
void paravirt_look(struct machine *m, struct snapshot *s);

/* Saves and restores; restore.c. */
void restore_chips(struct machine *m, u32 order);
int restore_apic(struct machine *m, u32 index, u32 order, u64 base_before);

void get_apic_msrs(struct irq_cpu *cpu, u64 *base, u64 *deadline);
int set_msr(struct irq_cpu *cpu, u32 index, u64 value);
/* Lets the vCPU enter the guest, which does nothing. */
void run_once(struct irq_cpu *cpu);

/* Say what differs, in at most @size bytes; empty if nothing does. */
void result_difference(const struct result *a, const struct result *b,
		       char *text, size_t size);
void snapshot_difference(const struct snapshot *a, const struct snapshot *b,
			 char *text, size_t size);

#endif /* FERRIC_SELFTESTS_DIFFERENTIAL_MACHINE_H */
