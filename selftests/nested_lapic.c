// SPDX-License-Identifier: GPL-2.0
/*
 * The local APIC of a vCPU that runs a guest of its own (L2): what L2 reaches is
 * the vCPU's local APIC, never the processor's; and what user space does to the
 * vCPU meanwhile breaks nothing.
 */
#include "irq_vm.h"
#include "svm_util.h"
#include "harness.h"

#define VECTOR			0x51
#define VECTOR2			0x61
/* Unlike the APIC IDs of the processors that the test runs on. */
#define VCPU_ID			77

#define NR_MSRS			0x100

struct sweep {
	u64 val[NR_MSRS];
	u8 fault[NR_MSRS];
};

/* What the host and the guest share. */
struct nested {
	gva_t svm;		/* struct svm_test_data */
	gva_t stack;		/* the end of L2's */
	void (*l2)(void);
	u64 intercept;		/* of the VMCB, besides VMRUN and VMMCALL */
	u32 int_ctl;
	bool leave_gif_clear;
	u64 exit_code;
	u64 l2_result;
	struct sweep sweep;
};

FIXTURE(nested) {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;
	struct nested *n;	/* the host's mapping */
	gva_t n_gva;
};

FIXTURE_SETUP(nested)
{
	gva_t svm_gva;

	if (!kvm_cpu_has(X86_FEATURE_SVM))
		SKIP(return, "there is no SVM");

	self->ivm = irq_vm_create_empty(IRQCHIP_FULL);
	self->cpu = irq_vm_add_cpu(self->ivm, VCPU_ID);
	cpu_enable_apic(self->cpu, true);
	self->n_gva = vm_alloc(self->ivm->vm, sizeof(*self->n), KVM_UTIL_MIN_VADDR);
	self->n = addr_gva2hva(self->ivm->vm, self->n_gva);
	memset(self->n, 0, sizeof(*self->n));
	vcpu_alloc_svm(self->ivm->vm, &svm_gva);
	self->n->svm = svm_gva;
	self->n->stack = vm_alloc_page(self->ivm->vm) + PAGE_SIZE;
}

FIXTURE_TEARDOWN(nested)
{
	irq_vm_free(self->ivm);
}

/* In L1 and L2. */
static struct nested *guest_nested;

static u64 guest_run_l2(u64 gva, u64 unused, u64 unused2)
{
	struct nested *n = (void *)gva;
	struct svm_test_data *svm = (void *)n->svm;

	guest_nested = n;
	generic_svm_setup(svm, n->l2, (void *)n->stack);
	svm->vmcb->control.intercept |= n->intercept;
	svm->vmcb->control.int_ctl = n->int_ctl;
	run_guest(svm->vmcb, svm->vmcb_gpa);
	n->exit_code = svm->vmcb->control.exit_code;
	if (!n->leave_gif_clear)
		stgi();
	return 0;
}

static void begin_l2(struct irq_cpu *cpu, gva_t n_gva, struct nested *n, void (*l2)(void))
{
	n->l2 = l2;
	cpu_begin_call(cpu, guest_run_l2, n_gva, 0, 0);
}

/*
 * x2APIC's MSRs.  A processor that virtualizes them lets a guest read and write
 * them by itself, which is right only for as long as it does virtualize them:
 * not in L2, not in xAPIC mode, not when something inhibits it.  In an MSR that
 * is let through by mistake the guest finds another APIC's register, or #GP.
 */
static void guest_sweep_into(struct sweep *s)
{
	u32 i;

	for (i = 0; i < NR_MSRS; i++)
		s->fault[i] = rdmsr_safe(APIC_BASE_MSR + i, &s->val[i]);
}

static u64 guest_sweep(u64 gva, u64 unused, u64 unused2)
{
	guest_sweep_into(&((struct nested *)gva)->sweep);
	return 0;
}

static void l2_sweep(void)
{
	int i;

	for (i = 0; i < 3; i++) {
		guest_sweep_into(&guest_nested->sweep);
		guest_pause();
	}
	vmmcall();
}

static void expect_x2apic(const struct sweep *s, const char *where)
{
	static const u32 regs[] = {
		APIC_ID, APIC_LVR, APIC_TASKPRI, APIC_PROCPRI, APIC_LDR, APIC_SPIV,
		APIC_ISR, APIC_TMR, APIC_IRR, APIC_ESR, APIC_ICR, APIC_LVTT,
		APIC_LVT0, APIC_LVT1, APIC_LVTERR, APIC_TMICT, APIC_TMCCT, APIC_TDCR,
	};
	int i, nr_faults = 0;

	for (i = 0; i < ARRAY_SIZE(regs); i++)
		TEST_ASSERT(!s->fault[regs[i] >> 4], "%s: RDMSR %#x: vector %u",
			    where, X2APIC_MSR(regs[i]), s->fault[regs[i] >> 4]);
	for (i = 0; i < NR_MSRS; i++)
		nr_faults += s->fault[i] == GP_VECTOR;
	/* ISR, TMR and IRR have eight each; there are two LVT entries more. */
	TEST_ASSERT(nr_faults == NR_MSRS - (int)ARRAY_SIZE(regs) - 3 * 7 - 2,
		    "%s: %d of %d faulted", where, nr_faults, NR_MSRS);
	TEST_ASSERT_EQ(s->val[APIC_ID >> 4], VCPU_ID);
	TEST_ASSERT_EQ(s->val[APIC_LVR >> 4], 0x50014);
	TEST_ASSERT_EQ(s->val[APIC_LDR >> 4], VCPU_ID >> 4 << 16 | BIT(VCPU_ID & 0xf));
	TEST_ASSERT_EQ(s->val[APIC_SPIV >> 4], APIC_SPIV_APIC_ENABLED | APIC_SPURIOUS_VECTOR);
}

static void expect_all_fault(const struct sweep *s, const char *where)
{
	int i;

	for (i = 0; i < NR_MSRS; i++)
		TEST_ASSERT(s->fault[i] == GP_VECTOR, "%s: RDMSR %#x: vector %u",
			    where, APIC_BASE_MSR + i, s->fault[i]);
}

/* One of the reasons for which APICv and AVIC are out of use. */
static void set_inhibit(struct kvm_vcpu *vcpu, bool on)
{
	struct kvm_guest_debug debug = {
		.control = on ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_BLOCKIRQ : 0,
	};

	vcpu_ioctl(vcpu, KVM_SET_GUEST_DEBUG, &debug);
}

TEST_F(nested, x2apic_msrs)
{
	struct irq_cpu *cpu = self->cpu;
	struct sweep *s = &self->n->sweep;
	int round;

	cpu_call(cpu, guest_sweep, self->n_gva, 0, 0);
	expect_x2apic(s, "in L1, before");

	for (round = 0; round < 2; round++) {
		/*
		 * Inhibited while L2 runs; and the other way round, with a
		 * bitmap of L1's, which lets L2 have all MSRs.
		 */
		self->n->intercept = round ? BIT_ULL(INTERCEPT_MSR_PROT) : 0;
		begin_l2(cpu, self->n_gva, self->n, l2_sweep);
		cpu_end_call(cpu);
		expect_x2apic(s, "in L2, first");
		set_inhibit(cpu->vcpu, !round);
		cpu_end_call(cpu);
		expect_x2apic(s, "in L2, second");
		set_inhibit(cpu->vcpu, round);
		cpu_end_call(cpu);
		expect_x2apic(s, "in L2, third");
		set_inhibit(cpu->vcpu, !round);
		cpu_end_call(cpu);
		TEST_ASSERT_EQ(self->n->exit_code, SVM_EXIT_VMMCALL);
		cpu_call(cpu, guest_sweep, self->n_gva, 0, 0);
		expect_x2apic(s, "in L1, after");
		set_inhibit(cpu->vcpu, false);
	}
	cpu_call(cpu, guest_sweep, self->n_gva, 0, 0);
	expect_x2apic(s, "in L1, at the end");
}

TEST_F(nested, x2apic_msrs_in_xapic_mode)
{
	struct irq_cpu *cpu = self->cpu;
	struct sweep *s = &self->n->sweep;
	u64 base;
	int round;

	/* Back and forth, by the guest and by user space. */
	for (round = 0; round < 4; round++) {
		base = cpu_rdmsr(cpu, MSR_IA32_APICBASE);
		if (round & 1) {
			vcpu_set_msr(cpu->vcpu, MSR_IA32_APICBASE, base & ~X2APIC_ENABLE);
			cpu->x2apic = false;
		} else {
			cpu_enable_apic(cpu, false);
		}
		cpu_call(cpu, guest_sweep, self->n_gva, 0, 0);
		expect_all_fault(s, "in L1");
		begin_l2(cpu, self->n_gva, self->n, l2_sweep);
		cpu_end_call(cpu);
		expect_all_fault(s, "in L2");
		set_inhibit(cpu->vcpu, true);
		cpu_end_call(cpu);
		set_inhibit(cpu->vcpu, false);
		cpu_end_call(cpu);
		expect_all_fault(s, "in L2, later");
		cpu_end_call(cpu);
		cpu_call(cpu, guest_sweep, self->n_gva, 0, 0);
		expect_all_fault(s, "in L1, after");
		cpu_enable_apic(cpu, true);
	}
	cpu_call(cpu, guest_sweep, self->n_gva, 0, 0);
	expect_x2apic(s, "in L1, at the end");
}

static void l2_write_tpr(void)
{
	guest_nested->l2_result = wrmsr_safe(X2APIC_MSR(APIC_TASKPRI), 0x50);
	vmmcall();
}

TEST_F(nested, x2apic_write)
{
	begin_l2(self->cpu, self->n_gva, self->n, l2_write_tpr);
	cpu_end_call(self->cpu);
	TEST_ASSERT_EQ(self->n->l2_result, 0);
	TEST_ASSERT_EQ(lapic_reg(self->cpu, APIC_TASKPRI), 0x50);
	TEST_ASSERT_EQ(cpu_get_cr8(self->cpu), 5);
}

/* CR8 of L2 is L1's, or L2's own, but never that of the processor. */
static void l2_cr8(void)
{
	u64 start = rdtsc();

	set_cr8(15);
	/* The host's interrupts are not held up. */
	while (rdtsc() - start < guest_nested->l2_result)
		cpu_relax();
	guest_nested->l2_result = get_cr8();
	vmmcall();
}

TEST_F(nested, cr8)
{
	struct irq_cpu *cpu = self->cpu;

	cpu_set_cr8(cpu, 2);
	self->n->l2_result = guest_tsc_khz * 100ull;
	self->n->int_ctl = V_INTR_MASKING_MASK;
	begin_l2(cpu, self->n_gva, self->n, l2_cr8);
	cpu_end_call(cpu);
	TEST_ASSERT_EQ(self->n->l2_result, 15);
	TEST_ASSERT_EQ(cpu_get_cr8(cpu), 2);
	TEST_ASSERT_EQ(lapic_reg(cpu, APIC_TASKPRI), 0x20);

	self->n->l2_result = guest_tsc_khz * 100ull;
	self->n->int_ctl = 0;
	begin_l2(cpu, self->n_gva, self->n, l2_cr8);
	cpu_end_call(cpu);
	TEST_ASSERT_EQ(self->n->l2_result, 15);
	TEST_ASSERT_EQ(cpu_get_cr8(cpu), 15);
	TEST_ASSERT_EQ(lapic_reg(cpu, APIC_TASKPRI), 0xf0);
}

static void inject_irq(struct kvm_vcpu *vcpu, u8 vector)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	events.interrupt.injected = 1;
	events.interrupt.nr = vector;
	events.interrupt.soft = 0;
	vcpu_events_set(vcpu, &events);
}

/* User space injects what the vCPU could not take at that moment. */
static u64 guest_clgi(u64 unused, u64 unused2, u64 unused3)
{
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	clgi();
	guest_pause();
	stgi();
	return 0;
}

TEST_F(nested, irq_injected_with_gif_clear)
{
	struct irq_cpu *cpu = self->cpu;

	cpu_begin_call(cpu, guest_clgi, 0, 0, 0);
	cpu_end_call(cpu);
	inject_irq(cpu->vcpu, VECTOR);
	cpu_end_call(cpu);
	cpu_expect_log(cpu, VECTOR);
}

static void l2_pause(void)
{
	sti();
	asm volatile("nop");
	guest_pause();
	asm volatile("nop");
	cli();
	vmmcall();
}

/*
 * An INIT that waits makes KVM_GET_MP_STATE leave L2, for which it has to write
 * to the VMCB in the guest's memory.
 */
TEST_F(nested, mp_state_with_init_pending)
{
	struct irq_cpu *cpu = self->cpu;

	self->n->intercept = BIT_ULL(INTERCEPT_INIT);
	self->n->leave_gif_clear = true;
	begin_l2(cpu, self->n_gva, self->n, l2_pause);
	cpu_end_call(cpu);
	TEST_ASSERT_EQ(signal_msi(self->ivm, MSI_ADDR(VCPU_ID), 0,
				  MSI_DATA_DM(5)), 1);
	TEST_ASSERT_EQ(cpu_mp_state(cpu), KVM_MP_STATE_RUNNABLE);
	cpu_end_call(cpu);
	TEST_ASSERT_EQ(self->n->exit_code, SVM_EXIT_INIT);
}

/*
 * What cannot be by the architecture, a halted vCPU with an event half injected,
 * is no reason to leave KVM_RUN when it is woken in L2.
 */
TEST_F(nested, woken_with_an_event_injected)
{
	struct kvm_mp_state halted = { .mp_state = KVM_MP_STATE_HALTED };
	struct irq_cpu *cpu = self->cpu;

	cpu->guest->eoi = EOI_NONE;
	self->n->intercept = BIT_ULL(INTERCEPT_INTR);
	begin_l2(cpu, self->n_gva, self->n, l2_pause);
	cpu_end_call(cpu);
	inject_irq(cpu->vcpu, VECTOR);
	TEST_ASSERT_EQ(signal_msi(self->ivm, MSI_ADDR(VCPU_ID), 0, VECTOR2), 1);
	vcpu_mp_state_set(cpu->vcpu, &halted);
	cpu_end_call(cpu);
	/* The first is L2's, the second makes it exit to L1. */
	cpu_expect_log(cpu, VECTOR);
	TEST_ASSERT_EQ(self->n->exit_code, SVM_EXIT_INTR);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, VECTOR2);
}

TEST_HARNESS_MAIN
