// SPDX-License-Identifier: GPL-2.0
/*
 * Saves and restores in the differential test.  KVM's own local APIC wants its
 * ioctls in one order, ferric's takes them in any: this is the difference that
 * the test knows of.  Of the chips the order is the same for both.
 */
#include "machine.h"

#define NR_CHIP_PARTS		4
#define NR_APIC_PARTS		3

enum chip_part {
	PART_LAPICS,
	PART_IOAPIC,
	PART_PICS,
	PART_PIT,
};

static void restore_chip(struct machine *m, enum chip_part part)
{
	struct kvm_pit_state2 pit;
	struct kvm_irqchip chip;
	int i;

	switch (part) {
	case PART_LAPICS:
		for (i = 0; i < NR_CPUS_OF_VM; i++) {
			struct kvm_lapic_state state;

			lapic_get(&m->ivm->cpu[i], &state);
			lapic_set(&m->ivm->cpu[i], &state);
		}
		break;
	case PART_IOAPIC:
		irqchip_get(m->ivm, KVM_IRQCHIP_IOAPIC, &chip);
		irqchip_set(m->ivm, &chip);
		break;
	case PART_PICS:
		for (i = 0; i < 2; i++) {
			irqchip_get(m->ivm, i, &chip);
			irqchip_set(m->ivm, &chip);
		}
		break;
	case PART_PIT:
		vm_ioctl(m->ivm->vm, KVM_GET_PIT2, &pit);
		vm_ioctl(m->ivm->vm, KVM_SET_PIT2, &pit);
		break;
	}
}

/* Takes the next of @left parts, of which @order says in which order they come. */
static u32 next_part(u32 *parts, u32 *left, u32 *order)
{
	u32 at = *order % *left, part = parts[at];

	*order /= *left;
	parts[at] = parts[--*left];
	return part;
}

void restore_chips(struct machine *m, u32 order)
{
	u32 parts[NR_CHIP_PARTS] = { PART_LAPICS, PART_IOAPIC, PART_PICS, PART_PIT };
	u32 left = NR_CHIP_PARTS;

	while (left)
		restore_chip(m, next_part(parts, &left, &order));
	/* A timer that expires at once: ferric saves it, KVM does not. */
	for (left = 0; left < NR_CPUS_OF_VM; left++)
		run_once(&m->ivm->cpu[left]);
}

/*
 * Does the mode know the ID of that state?  In xAPIC mode only user space can set
 * the lower bits, and then the registers may look like those of x2APIC mode.
 */
static bool is_plausible(u64 base, const struct kvm_lapic_state *state)
{
	return base & X2APIC_ENABLE || !(state_reg(state, APIC_ID) << 8);
}

/*
 * An ID that the mode takes, without a look at the registers: ferric delivers a
 * timer that has expired when they are saved, in case that nobody runs the vCPU.
 */
static u32 reset_id(struct machine *m, struct irq_cpu *cpu)
{
	u64 base = vcpu_get_msr(cpu->vcpu, MSR_IA32_APICBASE);
	u32 id = cpu->vcpu->id;

	if (base & X2APIC_ENABLE &&
	    MACHINE_X2APIC_API(m->flags) & KVM_X2APIC_API_USE_32BIT_IDS)
		return id;
	return id << 24;
}

/*
 * All of a vCPU's APIC is restored onto one that was reset, and was in another
 * mode perhaps.  Returns what says whether that mode takes the registers at all:
 * if not, they have to come after the mode, on ferric, too.
 */
int restore_apic(struct machine *m, u32 index, u32 order, u64 base_before)
{
	struct irq_cpu *cpu = &m->ivm->cpu[index];
	u32 parts[NR_APIC_PARTS] = { 0, 1, 2 }, left = NR_APIC_PARTS;
	struct kvm_lapic_state state, copy, reset = {};
	u64 base, deadline;
	bool any_order;
	int refused;

	run_once(cpu);
	get_apic_msrs(cpu, &base, &deadline);
	lapic_get(cpu, &state);

	set_msr(cpu, MSR_IA32_APICBASE, base_before);
	state_set_reg(&reset, APIC_ID, reset_id(m, cpu));
	copy = state;
	refused = __vcpu_ioctl(cpu->vcpu, KVM_SET_LAPIC, &copy);
	any_order = m->any_order && !refused && is_plausible(base, &state);
	__vcpu_ioctl(cpu->vcpu, KVM_SET_LAPIC, &reset);
	set_msr(cpu, MSR_TSC_DEADLINE, 0);
	run_once(cpu);

	while (left) {
		u32 part = any_order ? next_part(parts, &left, &order) :
				       NR_APIC_PARTS - left--;

		switch (part) {
		case 0:
			set_msr(cpu, MSR_IA32_APICBASE, base);
			break;
		case 1:
			copy = state;
			__vcpu_ioctl(cpu->vcpu, KVM_SET_LAPIC, &copy);
			break;
		case 2:
			set_msr(cpu, MSR_TSC_DEADLINE, deadline);
			break;
		}
	}
	run_once(cpu);
	return refused;
}
