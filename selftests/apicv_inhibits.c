// SPDX-License-Identifier: GPL-2.0
/*
 * KVM inhibits APICv for all vCPUs of a VM while one of them is debugged with
 * interrupts blocked, has an automatic EOI of Hyper-V's, or another APIC ID than
 * the one it was created with; and allows it again when that is over.  Here this
 * happens at random, beside two vCPUs that send each other IPIs, get MSIs and
 * timer interrupts, halt, and read all registers of their APICs: nothing is lost,
 * no register is another's, and the state can be saved and restored at any time.
 *
 * Without APICv all of it has to hold as well, and little is inhibited.
 */
#include <stdlib.h>

#include "cpu_thread.h"
#include "hyperv.h"
#include "irq_vm.h"
#include "random.h"
#include "harness.h"

#define NR_WORKERS		2
#define IDLE			2	/* the vCPU by which APICv is inhibited */
#define NR_REGS			64
#define PERIOD			2000000	/* of the timer, in APIC bus cycles */
#define SECONDS			3
#define SECONDS_IN_FULL		600

#define SINT_AUTO_EOI		(BIT_ULL(17) | 0xf1)
#define SINT_MASKED		(BIT_ULL(16) | 0xf1)

enum { IPI, MSI, TIMER, NR_KINDS };

static const u8 vectors[NR_KINDS] = { 0x51, 0x61, 0x71 };
static const char *const names[NR_KINDS] = { "IPI", "MSI", "timer interrupt" };

/* What a register has to read as. */
enum rule { FAULTS, ANY, EXACT };

struct worker {
	u64 arrived[NR_KINDS];
	u64 ipis;		/* that it has sent to the other */
	u64 looks;		/* at all registers */
	u32 rule[NR_REGS];
	u32 value[NR_REGS];
	/* The first register that read as it must not. */
	bool wrong;
	u32 wrong_reg;
	u64 wrong_value;
	u8 wrong_fault;
};

struct load {
	bool x2apic;
	struct worker worker[NR_WORKERS];
};

/* Guest side. */
static struct load *load;

static void guest_count(u8 vector)
{
	struct worker *w = &load->worker[this_guest_cpu()->index];
	int kind;

	for (kind = 0; kind < NR_KINDS; kind++) {
		if (vectors[kind] == vector)
			WRITE_ONCE(w->arrived[kind], w->arrived[kind] + 1);
	}
}

static void guest_check(struct worker *w, u32 index)
{
	u64 value = 0;
	u8 fault = 0;

	if (load->x2apic)
		fault = rdmsr_safe(APIC_BASE_MSR + index, &value);
	else if (w->rule[index] != FAULTS)
		value = xapic_read_reg(index << 4);
	else
		return;

	if (w->rule[index] == FAULTS ? fault == GP_VECTOR :
	    !fault && (w->rule[index] == ANY || value == w->value[index]))
		return;
	if (w->wrong)
		return;
	w->wrong_reg = index << 4;
	w->wrong_value = value;
	w->wrong_fault = fault;
	WRITE_ONCE(w->wrong, true);
}

static u64 guest_work(u64 load_gva, u64 me, u64 unused)
{
	struct load *l = (void *)load_gva;
	struct worker *w = &l->worker[me], *other = &l->worker[!me];
	u32 i;

	load = l;
	for (;;) {
		for (i = 0; i < NR_REGS; i++)
			guest_check(w, i);
		WRITE_ONCE(w->looks, w->looks + 1);

		/* One at a time, or they would coalesce. */
		if (READ_ONCE(other->arrived[IPI]) == w->ipis) {
			WRITE_ONCE(w->ipis, w->ipis + 1);
			if (l->x2apic) {
				x2apic_write_reg(APIC_ICR, (u64)!me << 32 |
						 APIC_INT_ASSERT | vectors[IPI]);
			} else {
				xapic_write_reg(APIC_ICR2, !me << 24);
				xapic_write_reg(APIC_ICR, APIC_INT_ASSERT | vectors[IPI]);
			}
		}
		if (w->looks & 1)
			safe_halt();
		else
			sti_nop();
		cli();
	}
	return 0;
}

/* Host side. */
struct machine {
	struct irq_vm *ivm;
	struct load *load;
	pthread_t thread[NR_WORKERS];
	bool block_irq, auto_eoi, other_id;
	u64 seed;
};

FIXTURE(inhibits) {
	struct machine machine;
};

FIXTURE_VARIANT(inhibits) {
	bool x2apic;
};

FIXTURE_VARIANT_ADD(inhibits, xapic) {
	.x2apic = false,
};

FIXTURE_VARIANT_ADD(inhibits, x2apic) {
	.x2apic = true,
};

static void expect_register(struct worker *w, u32 reg, enum rule rule, u32 value)
{
	w->rule[reg >> 4] = rule;
	w->value[reg >> 4] = value;
}

/* What is as in @state, what is known to be zero, and what nobody knows. */
static void expect_registers(struct worker *w, const struct kvm_lapic_state *state,
			     bool x2apic, u32 id)
{
	static const u32 fixed[] = {
		APIC_LVR, APIC_TASKPRI, APIC_LDR, APIC_SPIV, APIC_LVTT, APIC_LVTTHMR,
		APIC_LVTPC, APIC_LVT0, APIC_LVT1, APIC_LVTERR, APIC_TMICT, APIC_TDCR,
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(fixed); i++)
		expect_register(w, fixed[i], EXACT, state_reg(state, fixed[i]));
	expect_register(w, APIC_ID, EXACT, x2apic ? id : id << 24);
	expect_register(w, APIC_PROCPRI, EXACT, 0);
	for (i = 0; i < 8; i++) {
		/* Interrupts are off, out of any handler. */
		expect_register(w, APIC_ISR + 0x10 * i, EXACT, 0);
		expect_register(w, APIC_TMR + 0x10 * i, EXACT, 0);
		expect_register(w, APIC_IRR + 0x10 * i, ANY, 0);
	}
	expect_register(w, APIC_ESR, EXACT, 0);
	expect_register(w, APIC_ICR, ANY, 0);
	expect_register(w, APIC_TMCCT, ANY, 0);
	if (!x2apic) {
		expect_register(w, APIC_DFR, EXACT, APIC_DFR_FLAT);
		expect_register(w, APIC_ICR2, ANY, 0);
	}
}

static void *run_vcpu(void *cpu)
{
	TEST_ASSERT(!cpu_resume(cpu), "the guest has returned");
	return NULL;
}

static void start_worker(struct irq_cpu *cpu, pthread_t *thread)
{
	TEST_ASSERT(!pthread_create(thread, NULL, run_vcpu, cpu), "cannot start a thread");
}

static void stop_worker(struct irq_cpu *cpu, pthread_t thread)
{
	cpu_stop(cpu, thread);
	pthread_join(thread, NULL);
}

FIXTURE_SETUP(inhibits)
{
	struct machine *m = &self->machine;
	struct irq_vm *ivm = irq_vm_create(NR_WORKERS + 1, IRQCHIP_FULL, variant->x2apic);
	gva_t gva = vm_alloc(ivm->vm, sizeof(struct load), KVM_UTIL_MIN_VADDR);
	struct kvm_lapic_state state;
	int i;

	m->ivm = ivm;
	m->seed = 1;
	m->load = addr_gva2hva(ivm->vm, gva);
	m->load->x2apic = variant->x2apic;
	vcpu_enable_cap(ivm->cpu[IDLE].vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
	for (i = 0; i < NR_WORKERS; i++) {
		struct irq_cpu *cpu = &ivm->cpu[i];

		cpu->guest->on_irq = guest_count;
		cpu_apic_write(cpu, APIC_TDCR, 0xb);
		cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_PERIODIC | vectors[TIMER]);
		cpu_apic_write(cpu, APIC_TMICT, PERIOD);
		lapic_get(cpu, &state);
		expect_registers(&m->load->worker[i], &state, variant->x2apic, i);
		cpu_begin_call(cpu, guest_work, gva, i, 0);
	}
	for (i = 0; i < NR_WORKERS; i++)
		start_worker(&ivm->cpu[i], &m->thread[i]);
}

FIXTURE_TEARDOWN(inhibits)
{
	struct machine *m = &self->machine;
	int i;

	for (i = 0; i < NR_WORKERS; i++)
		stop_worker(&m->ivm->cpu[i], m->thread[i]);
	irq_vm_free(m->ivm);
}

static void toggle(struct machine *m, bool x2apic)
{
	struct irq_cpu *idle = &m->ivm->cpu[IDLE];
	struct kvm_guest_debug debug = {};

	switch (random_below(&m->seed, x2apic ? 2 : 3)) {
	case 0:
		m->block_irq = !m->block_irq;
		if (m->block_irq)
			debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_BLOCKIRQ;
		vcpu_guest_debug_set(idle->vcpu, &debug);
		break;
	case 1:
		m->auto_eoi = !m->auto_eoi;
		vcpu_set_msr(idle->vcpu, HV_X64_MSR_SINT0 + 1,
			     m->auto_eoi ? SINT_AUTO_EOI : SINT_MASKED);
		break;
	case 2:
		m->other_id = !m->other_id;
		cpu_apic_write(idle, APIC_ID, (m->other_id ? 9 : IDLE) << 24);
		break;
	}
}

/* One more of each kind arrives at each vCPU. */
static void expect_arrivals(struct machine *m)
{
	u64 before[NR_WORKERS][NR_KINDS];
	int i, kind;

	for (i = 0; i < NR_WORKERS; i++) {
		for (kind = 0; kind < NR_KINDS; kind++)
			before[i][kind] = READ_ONCE(m->load->worker[i].arrived[kind]);
		signal_msi(m->ivm, MSI_ADDR(i), 0, vectors[MSI]);
	}
	for (i = 0; i < NR_WORKERS; i++) {
		for (kind = 0; kind < NR_KINDS; kind++) {
			const u64 *arrived = &m->load->worker[i].arrived[kind];

			TEST_ASSERT(poll_until(READ_ONCE(*arrived) > before[i][kind]),
				    "vCPU %d has not got a %s: %lu so far", i,
				    names[kind], before[i][kind]);
		}
	}
}

/* A saved state is complete, and as good as the one that it replaces. */
static void save_and_restore(struct irq_cpu *cpu)
{
	struct kvm_lapic_state state, again;
	int word, kind;

	lapic_get(cpu, &state);
	lapic_set(cpu, &state);
	lapic_get(cpu, &again);
	for (word = 0; word < 8; word++) {
		u32 irr = state_reg(&state, APIC_IRR + 0x10 * word);
		u32 isr = state_reg(&state, APIC_ISR + 0x10 * word), known = 0;

		for (kind = 0; kind < NR_KINDS; kind++) {
			if (vectors[kind] / 32 == word)
				known |= BIT(vectors[kind] % 32);
		}
		/* The timer goes on. */
		TEST_ASSERT_EQ(irr & ~state_reg(&again, APIC_IRR + 0x10 * word), 0);
		TEST_ASSERT_EQ(isr, state_reg(&again, APIC_ISR + 0x10 * word));
		TEST_ASSERT_EQ((irr | isr) & ~known, 0);
	}
}

/* All are stopped: what one sends between the two would be replaced as well. */
static void stop_and_save(struct machine *m)
{
	int i;

	for (i = 0; i < NR_WORKERS; i++)
		stop_worker(&m->ivm->cpu[i], m->thread[i]);
	for (i = 0; i < NR_WORKERS; i++)
		save_and_restore(&m->ivm->cpu[i]);
	for (i = 0; i < NR_WORKERS; i++)
		start_worker(&m->ivm->cpu[i], &m->thread[i]);
}

TEST_F_TIMEOUT(inhibits, nothing_is_lost, SECONDS_IN_FULL + 120)
{
	struct machine *m = &self->machine;
	u64 end = now_ns() + (getenv("FULL") ? SECONDS_IN_FULL : SECONDS) * 1000000000ull;
	u64 toggles = 0, saves = 0;
	int i;

	while (now_ns() < end) {
		toggle(m, variant->x2apic);
		toggles++;
		if (!random_below(&m->seed, 4)) {
			stop_and_save(m);
			saves++;
		}
		/* Sometimes the next one comes while all is under way. */
		if (random_below(&m->seed, 4))
			expect_arrivals(m);
		for (i = 0; i < NR_WORKERS; i++) {
			const struct worker *w = &m->load->worker[i];

			TEST_ASSERT(!READ_ONCE(w->wrong),
				    "vCPU %d reads %#lx from register %#x, fault %u; expected %#x",
				    i, w->wrong_value, w->wrong_reg, w->wrong_fault,
				    w->value[w->wrong_reg >> 4]);
		}
	}
	for (i = 0; i < NR_WORKERS; i++) {
		const struct worker *w = &m->load->worker[i];

		ksft_print_msg("vCPU %d: %lu IPIs, %lu MSIs, %lu timer interrupts, %lu looks\n",
			       i, w->arrived[IPI], w->arrived[MSI], w->arrived[TIMER], w->looks);
	}
	ksft_print_msg("%lu changes of what inhibits APICv, %lu times saved and restored\n",
		       toggles, saves);
}

TEST_HARNESS_MAIN
