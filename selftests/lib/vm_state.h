/* SPDX-License-Identifier: GPL-2.0 */
/*
 * All state of a virtual machine of irq_vm.h but its memory, saved and restored
 * by the ioctls in the order in which QEMU calls them.
 */
#ifndef FERRIC_SELFTESTS_VM_STATE_H
#define FERRIC_SELFTESTS_VM_STATE_H

#include "irq_vm.h"

struct vcpu_state {
	struct kvm_lapic_state lapic;
	u64 apic_base;
	u64 tsc_deadline;
	/*
	 * The difference to the host's TSC, so that the guest's goes on while
	 * it is moved: what it measures can then be late, but never early.
	 */
	u64 tsc_offset;
	struct kvm_x86_state *x86;	/* the other MSRs among it */
};

struct vm_state {
	int nr_cpus;
	struct vcpu_state cpu[IRQ_MAX_CPUS];
	struct kvm_irqchip chip[KVM_NR_IRQCHIPS];
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
};

/* No vCPU runs.  The VM has the full irqchip and a PIT. */
void vm_state_save(struct irq_vm *ivm, struct vm_state *state);
void vm_state_restore(struct irq_vm *ivm, struct vm_state *state);
/* Of what vm_state_save() has allocated. */
void vm_state_free(struct vm_state *state);

#endif /* FERRIC_SELFTESTS_VM_STATE_H */
