// SPDX-License-Identifier: GPL-2.0
/*
 * Saving and restoring the state of vm_state.h.
 */
#include "vm_state.h"

/* Takes an MSR out of the saved ones; returns its value. */
static u64 take_msr(struct kvm_x86_state *x86, u32 index)
{
	u64 value = 0;
	u32 i, left = 0;

	for (i = 0; i < x86->msrs.nmsrs; i++) {
		if (x86->msrs.entries[i].index == index)
			value = x86->msrs.entries[i].data;
		else
			x86->msrs.entries[left++] = x86->msrs.entries[i];
	}
	TEST_ASSERT(left + 1 == x86->msrs.nmsrs, "MSR %#x is not saved", index);
	x86->msrs.nmsrs = left;
	return value;
}

static void save_vcpu(struct irq_cpu *cpu, struct vcpu_state *state)
{
	state->x86 = vcpu_save_state(cpu->vcpu);
	state->apic_base = state->x86->sregs.apic_base;
	state->tsc_deadline = take_msr(state->x86, MSR_TSC_DEADLINE);
	/* The offset has it. */
	take_msr(state->x86, MSR_IA32_TSC);
	vcpu_device_attr_get(cpu->vcpu, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET,
			     &state->tsc_offset);
	lapic_get(cpu, &state->lapic);
}

void vm_state_save(struct irq_vm *ivm, struct vm_state *state)
{
	u32 i;

	memset(state, 0, sizeof(*state));
	state->nr_cpus = ivm->nr_cpus;
	for (i = 0; i < ivm->nr_cpus; i++)
		save_vcpu(&ivm->cpu[i], &state->cpu[i]);
	for (i = 0; i < KVM_NR_IRQCHIPS; i++)
		irqchip_get(ivm, i, &state->chip[i]);
	vm_ioctl(ivm->vm, KVM_GET_PIT2, &state->pit);
	vm_ioctl(ivm->vm, KVM_GET_CLOCK, &state->clock);
}

static void restore_vcpu(struct irq_cpu *cpu, struct vcpu_state *state)
{
	struct kvm_x86_state *x86 = state->x86;
	struct kvm_vcpu *vcpu = cpu->vcpu;

	vcpu_sregs_set(vcpu, &x86->sregs);
	vcpu_regs_set(vcpu, &x86->regs);
	vcpu_xsave_set(vcpu, x86->xsave);
	if (kvm_has_cap(KVM_CAP_XCRS))
		vcpu_xcrs_set(vcpu, &x86->xcrs);
	vcpu_msrs_set(vcpu, &x86->msrs);
	vcpu_events_set(vcpu, &x86->events);
	vcpu_mp_state_set(vcpu, &x86->mp_state);
	/* After the TSC, and after the mode of the timer. */
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, MSR_TSC_DEADLINE, state->tsc_deadline), 1);
	vcpu_debugregs_set(vcpu, &x86->debugregs);
}

void vm_state_restore(struct irq_vm *ivm, struct vm_state *state)
{
	struct kvm_clock_data clock = { .clock = state->clock.clock };
	u32 i;

	TEST_ASSERT_EQ(ivm->nr_cpus, state->nr_cpus);
	for (i = 0; i < ivm->nr_cpus; i++) {
		vcpu_set_msr(ivm->cpu[i].vcpu, MSR_IA32_APICBASE,
			     state->cpu[i].apic_base);
		/*
		 * Before the timer: KVM's keeps its deadline in the TSC of that
		 * moment, and if the processor has the timer (VMX's preemption
		 * timer), it expires early when the TSC is another.
		 */
		vcpu_device_attr_set(ivm->cpu[i].vcpu, KVM_VCPU_TSC_CTRL,
				     KVM_VCPU_TSC_OFFSET, &state->cpu[i].tsc_offset);
		lapic_set(&ivm->cpu[i], &state->cpu[i].lapic);
	}
	for (i = 0; i < KVM_NR_IRQCHIPS; i++)
		irqchip_set(ivm, &state->chip[i]);
	vm_ioctl(ivm->vm, KVM_SET_PIT2, &state->pit);
	for (i = 0; i < ivm->nr_cpus; i++)
		restore_vcpu(&ivm->cpu[i], &state->cpu[i]);
	vm_ioctl(ivm->vm, KVM_SET_CLOCK, &clock);
}

void vm_state_free(struct vm_state *state)
{
	int i;

	for (i = 0; i < state->nr_cpus; i++)
		kvm_x86_state_cleanup(state->cpu[i].x86);
}
