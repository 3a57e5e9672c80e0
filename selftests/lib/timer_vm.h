/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A virtual machine of irq_vm.h for tests of the local APIC's timer.
 */
#ifndef FERRIC_SELFTESTS_TIMER_VM_H
#define FERRIC_SELFTESTS_TIMER_VM_H

#include "irq_vm.h"

#define DIVIDE_BY_1		0xb
#define MS			1000000ull	/* in ns */

/* The default period of the APIC's clock is 1 ns. */
#define COUNT(ns)		((u32)(ns))

static inline u64 to_cycles(u64 ns)
{
	return ns * guest_tsc_khz / 1000000;
}

/* One vCPU, whose timer runs at the clock's rate. */
static inline struct irq_vm *timer_vm_create(bool x2apic, bool tsc_deadline)
{
	struct irq_vm *ivm = irq_vm_create_empty(IRQCHIP_FULL);
	struct irq_cpu *cpu = irq_vm_add_cpu(ivm, 0);

	/* KVM emulates the deadline mode, even if this machine has none. */
	vcpu_set_or_clear_cpuid_feature(cpu->vcpu, X86_FEATURE_TSC_DEADLINE_TIMER,
					tsc_deadline);
	cpu_enable_apic(cpu, x2apic);
	cpu_apic_write(cpu, APIC_LVT0, APIC_LVT_MASKED);
	cpu_apic_write(cpu, APIC_TDCR, DIVIDE_BY_1);
	return ivm;
}

/* In @ns from now on the guest's TSC; returns when. */
static inline u64 set_deadline(struct irq_cpu *cpu, u64 ns)
{
	u64 deadline = cpu_rdtsc(cpu) + to_cycles(ns);

	cpu_wrmsr(cpu, MSR_TSC_DEADLINE, deadline);
	return deadline;
}

#endif /* FERRIC_SELFTESTS_TIMER_VM_H */
