// SPDX-License-Identifier: GPL-2.0
/*
 * What a guest that knows of KVM or of Hyper-V does in the differential test:
 * EOIs and TPR by memory, and IPIs by hypercall.
 */
#include <linux/kvm_para.h>

#include "hyperv.h"
#include "machine.h"

/* In the page of a vCPU. Hyper-V's assist page begins with its flag, too. */
#define FLAG_OFFSET		0
#define VAPIC_OFFSET		0x800
/* An address that no memory is at. */
#define NOWHERE			0xd0000000ull

static gpa_t page_gpa(struct machine *m, u32 index)
{
	return addr_gva2gpa(m->ivm->vm, m->page[index]);
}

static u32 *page_word(struct machine *m, u32 index, u32 offset)
{
	return addr_gva2hva(m->ivm->vm, m->page[index]) + offset;
}

static void hyperv_create(struct machine *m)
{
	gva_t hypercalls = vm_alloc_page(m->ivm->vm);
	int i;

	for (i = 0; i < NR_CPUS_OF_VM; i++) {
		struct irq_cpu *cpu = &m->ivm->cpu[i];

		vcpu_enable_cap(cpu->vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
		/* A guest's write would be for user space to look at. */
		vcpu_set_msr(cpu->vcpu, HV_X64_MSR_SCONTROL, 1);
		cpu_wrmsr(cpu, HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
		cpu_wrmsr(cpu, HV_X64_MSR_HYPERCALL,
			  addr_gva2gpa(m->ivm->vm, hypercalls) | 1);
	}
}

void paravirt_create(struct machine *m)
{
	int i;

	for (i = 0; i < NR_CPUS_OF_VM; i++)
		m->page[i] = vm_alloc_page(m->ivm->vm);
	if (m->flags & MACHINE_HYPERV)
		hyperv_create(m);
}

static u64 guest_pv_eoi(u64 flag, u64 b, u64 c)
{
	u32 zero = 0;

	asm volatile("xchgl %0, (%1)" : "+r"(zero) : "r"(flag) : "memory");
	return zero;
}

static u64 guest_write_vapic(u64 word, u64 tpr, u64 c)
{
	u32 before = READ_ONCE(*(u32 *)word);

	WRITE_ONCE(*(u8 *)word, tpr);
	return before;
}

static int set_vapic(struct irq_cpu *cpu, gpa_t word)
{
	struct kvm_vapic_addr vapic = { .vapic_addr = word };

	return __vcpu_ioctl(cpu->vcpu, KVM_SET_VAPIC_ADDR, &vapic) ? -errno : 0;
}

static u64 guest_pv_ipi(u64 low, u64 high, u64 icr_and_min)
{
	return kvm_hypercall(KVM_HC_SEND_IPI, low, high, icr_and_min >> 32,
			     (u32)icr_and_min);
}

static u64 guest_hv_ipi(u64 vector, u64 mask, u64 c)
{
	u64 status;
	u8 fault = __hyperv_hypercall(HVCALL_SEND_IPI | HV_HYPERCALL_FAST_BIT,
				      vector, mask, &status);

	return fault ? ~0ull : status;
}

static s64 set_page(struct machine *m, const struct step *step)
{
	struct irq_cpu *cpu = &m->ivm->cpu[step->cpu];
	/* There, nowhere, at an odd address, or not at all. */
	const u64 wheres[] = { page_gpa(m, step->cpu), NOWHERE, page_gpa(m, step->cpu) + 2, 0 };
	u64 where = wheres[step->b % ARRAY_SIZE(wheres)];
	s64 ret;

	switch (step->a) {
	case PAGE_PV_EOI:
		return set_msr(cpu, MSR_KVM_PV_EOI_EN, where ? where | KVM_MSR_ENABLED : 0);
	case PAGE_VAPIC:
		ret = set_vapic(cpu, where ? where + VAPIC_OFFSET : 0);
		set_vapic(cpu, 0);
		return ret;
	default:
		return set_msr(cpu, HV_X64_MSR_VP_ASSIST_PAGE,
			       where ? (where & ~0xfffull) | 1 : 0);
	}
}

s64 paravirt_do(struct machine *m, const struct step *step)
{
	struct irq_cpu *cpu = &m->ivm->cpu[step->cpu];
	gva_t page = m->page[step->cpu];
	struct kvm_vcpu_events events;
	s64 ret;

	switch (step->op) {
	case OP_PV_EOI:
		return cpu_call(cpu, guest_pv_eoi, page + FLAG_OFFSET, 0, 0);
	case OP_VAPIC_TPR:
		/*
		 * For this step only: if the guest also wrote TPR itself, who
		 * wins would depend on interrupts of the host.
		 */
		set_vapic(cpu, page_gpa(m, step->cpu) + VAPIC_OFFSET);
		/* Without a request for events the word is not written. */
		vcpu_events_get(cpu->vcpu, &events);
		vcpu_events_set(cpu->vcpu, &events);
		ret = cpu_call(cpu, guest_write_vapic, page + VAPIC_OFFSET, step->b, 0);
		set_vapic(cpu, 0);
		return ret;
	case OP_PV_IPI:
		return cpu_call(cpu, guest_pv_ipi, step->a, step->b, step->c);
	case OP_HV_IPI:
		if (!(m->flags & MACHINE_HYPERV))
			return 0;
		return cpu_call(cpu, guest_hv_ipi, step->c, step->a, 0);
	case OP_SET_PAGE:
		return set_page(m, step);
	default:
		TEST_FAIL("step %u", step->op);
		return 0;
	}
}

void paravirt_look(struct machine *m, struct snapshot *s)
{
	int i;

	for (i = 0; i < NR_CPUS_OF_VM; i++) {
		s->flag[i] = *page_word(m, i, FLAG_OFFSET);
		s->vapic[i] = *page_word(m, i, VAPIC_OFFSET);
	}
}
