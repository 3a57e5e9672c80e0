// SPDX-License-Identifier: GPL-2.0
/*
 * A local APIC is restored by several ioctls.  ferric takes them in any order,
 * and saves a timer that has expired but is not delivered yet, once.  KVM's own
 * APIC wants one order, and drops in silence what comes in another, so that most
 * tests are for ferric's.
 */
#include <time.h>

#include "irq_vm.h"
#include "provider.h"
#include "harness.h"

#define VECTOR			0x51
#define LINE_VECTOR		0x61
#define PIN			5
#define APIC_ID_OF_GUEST	0x42u
#define LDR_OF_GUEST		(4u << 24)
#define MS			1000000ull
/* A busy host is slow; nothing here depends on how long that is. */
#define PATIENCE		(20000 * MS)
/* Nobody waits for that. */
#define AN_HOUR			(3600 * 1000 * MS)
/* Far from the TSC of a new vCPU, which is near zero. */
#define TSC_OF_GUEST		BIT_ULL(45)

enum part {
	PART_CPUID,
	PART_TSC,
	PART_BASE,
	PART_LAPIC,
	PART_DEADLINE,
	NR_PARTS
};

#define NR_ORDERS		120
/* The model's own tests try all of them. */
#define ORDER_STEP		7

struct saved {
	u64 base;
	u64 tsc;
	u64 deadline;
	struct kvm_lapic_state lapic;
};

FIXTURE(restore) {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;
	u64 khz;
};

FIXTURE_VARIANT(restore) {
	bool x2apic;
};

FIXTURE_VARIANT_ADD(restore, xapic) {
	.x2apic = false,
};

FIXTURE_VARIANT_ADD(restore, x2apic) {
	.x2apic = true,
};

FIXTURE_SETUP(restore)
{
	self->ivm = irq_vm_create(1, IRQCHIP_FULL, variant->x2apic);
	self->cpu = &self->ivm->cpu[0];
	self->khz = __vcpu_ioctl(self->cpu->vcpu, KVM_GET_TSC_KHZ, NULL);
	cpu_apic_write(self->cpu, APIC_LVT0, APIC_LVT_MASKED);
	if (!variant->x2apic) {
		cpu_apic_write(self->cpu, APIC_ID, APIC_ID_OF_GUEST << 24);
		cpu_apic_write(self->cpu, APIC_LDR, LDR_OF_GUEST);
	}
}

FIXTURE_TEARDOWN(restore)
{
	irq_vm_free(self->ivm);
}

static u64 cycles(u64 ns, u64 khz)
{
	return ns * khz / 1000000;
}

static void save(struct irq_cpu *cpu, struct saved *saved)
{
	saved->base = vcpu_get_msr(cpu->vcpu, MSR_IA32_APICBASE);
	saved->deadline = vcpu_get_msr(cpu->vcpu, MSR_TSC_DEADLINE);
	saved->tsc = vcpu_get_msr(cpu->vcpu, MSR_IA32_TSC);
	lapic_get(cpu, &saved->lapic);
}

static void restore(struct irq_cpu *cpu, const struct saved *saved, enum part part)
{
	struct kvm_lapic_state lapic = saved->lapic;

	switch (part) {
	case PART_CPUID:
		vcpu_set_cpuid_feature(cpu->vcpu, X86_FEATURE_TSC_DEADLINE_TIMER);
		break;
	case PART_TSC:
		vcpu_set_msr(cpu->vcpu, MSR_IA32_TSC, saved->tsc);
		break;
	case PART_BASE:
		vcpu_set_msr(cpu->vcpu, MSR_IA32_APICBASE, saved->base);
		break;
	case PART_LAPIC:
		lapic_set(cpu, &lapic);
		break;
	default:
		vcpu_set_msr(cpu->vcpu, MSR_TSC_DEADLINE, saved->deadline);
		break;
	}
}

/* The parts in the order with that number; 0 is KVM's. */
static void order_of(int number, enum part *order)
{
	enum part left[NR_PARTS] = {
		PART_CPUID, PART_TSC, PART_BASE, PART_LAPIC, PART_DEADLINE
	};
	int i, choice;

	for (i = NR_PARTS; i; i--) {
		choice = number % i;
		number /= i;
		*order++ = left[choice];
		memmove(&left[choice], &left[choice + 1], (i - choice - 1) * sizeof(*left));
	}
}

/* A vCPU that has not run, and is not like the one that is restored to it. */
static struct irq_cpu *fresh_cpu(struct irq_vm *ivm)
{
	struct irq_cpu *cpu = irq_vm_add_cpu(ivm, 0);

	vcpu_clear_cpuid_feature(cpu->vcpu, X86_FEATURE_TSC_DEADLINE_TIMER);
	return cpu;
}

static void arm(struct irq_cpu *cpu, u64 in_cycles)
{
	vcpu_set_msr(cpu->vcpu, MSR_IA32_TSC, TSC_OF_GUEST);
	cpu_apic_write(cpu, APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | VECTOR);
	cpu_wrmsr(cpu, MSR_TSC_DEADLINE, cpu_rdtsc(cpu) + in_cycles);
}

static void sleep_ns(u64 ns)
{
	struct timespec ts = { .tv_nsec = ns };

	nanosleep(&ts, NULL);
}

static void expect_one_timer(struct irq_cpu *cpu, u64 khz)
{
	cpu_wait_irqs(cpu, 1, cycles(PATIENCE, khz));
	cpu_expect_log(cpu, VECTOR);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
}

TEST_F(restore, a_deadline_in_any_order_of_the_ioctls)
{
	struct saved saved, again;
	int number;

	arm(self->cpu, cycles(AN_HOUR, self->khz));
	save(self->cpu, &saved);
	TEST_ASSERT(saved.deadline > TSC_OF_GUEST, "a deadline of %#lx", saved.deadline);

	for (number = 0; number < NR_ORDERS; number += ORDER_STEP) {
		struct irq_vm *ivm = irq_vm_create_empty(IRQCHIP_FULL);
		struct irq_cpu *cpu = fresh_cpu(ivm);
		enum part order[NR_PARTS];
		int i;

		order_of(number, order);
		for (i = 0; i < NR_PARTS; i++)
			restore(cpu, &saved, order[i]);
		cpu->x2apic = variant->x2apic;
		cpu->guest->eoi = self->cpu->guest->eoi;

		cpu_rdtsc(cpu);
		save(cpu, &again);
		TEST_ASSERT_EQ(again.base, saved.base);
		TEST_ASSERT(again.deadline == saved.deadline,
			    "order %d: deadline %#lx, not %#lx", number,
			    again.deadline, saved.deadline);
		for (i = 0; i < sizeof(saved.lapic); i += 0x10)
			TEST_ASSERT(state_reg(&again.lapic, i) == state_reg(&saved.lapic, i),
				    "order %d, register %#x: %#x, not %#x", number, i,
				    state_reg(&again.lapic, i), state_reg(&saved.lapic, i));
		if (!ferric_is_loaded()) {
			/* This one order is KVM's. */
			irq_vm_free(ivm);
			break;
		}
		/* An hour has passed. */
		vcpu_set_msr(cpu->vcpu, MSR_IA32_TSC, saved.deadline);
		expect_one_timer(cpu, self->khz);
		irq_vm_free(ivm);
	}
}

TEST_F(restore, a_deadline_that_is_early_waits_until_the_vcpu_runs)
{
	struct saved saved;

	if (!ferric_is_loaded())
		SKIP(return, "KVM's own APIC drops it");
	arm(self->cpu, cycles(AN_HOUR, self->khz));
	save(self->cpu, &saved);
	cpu_apic_write(self->cpu, APIC_LVTT, APIC_LVT_TIMER_ONESHOT | VECTOR);
	restore(self->cpu, &saved, PART_DEADLINE);
	cpu_rdtsc(self->cpu);
	TEST_ASSERT_EQ(vcpu_get_msr(self->cpu->vcpu, MSR_TSC_DEADLINE), 0);
	restore(self->cpu, &saved, PART_LAPIC);
	TEST_ASSERT_EQ(vcpu_get_msr(self->cpu->vcpu, MSR_TSC_DEADLINE), 0);
}

TEST_F(restore, a_deadline_while_the_apic_is_disabled)
{
	struct irq_vm *ivm;
	struct irq_cpu *cpu;
	struct saved saved;

	if (!ferric_is_loaded())
		SKIP(return, "KVM's own APIC drops it");
	arm(self->cpu, cycles(AN_HOUR, self->khz));
	save(self->cpu, &saved);
	ivm = irq_vm_create_empty(IRQCHIP_FULL);
	cpu = irq_vm_add_cpu(ivm, 0);
	vcpu_set_msr(cpu->vcpu, MSR_IA32_APICBASE, saved.base & ~(MSR_IA32_APICBASE_ENABLE |
								  X2APIC_ENABLE));
	restore(cpu, &saved, PART_DEADLINE);
	restore(cpu, &saved, PART_LAPIC);
	restore(cpu, &saved, PART_BASE);
	cpu->x2apic = variant->x2apic;
	cpu_rdtsc(cpu);
	TEST_ASSERT_EQ(vcpu_get_msr(cpu->vcpu, MSR_TSC_DEADLINE), saved.deadline);
	TEST_ASSERT_EQ(lapic_reg(cpu, APIC_ID), state_reg(&saved.lapic, APIC_ID));
	irq_vm_free(ivm);
}

static bool is_requested(const struct saved *saved)
{
	return state_reg(&saved->lapic, APIC_IRR + VECTOR / 32 * 0x10) & BIT(VECTOR % 32);
}

/* What is saved of @from comes once at a new vCPU, and @from has not lost it. */
static void expect_once_after(struct irq_cpu *from, const struct saved *saved, u64 khz)
{
	struct irq_vm *ivm = irq_vm_create_empty(IRQCHIP_FULL);
	struct irq_cpu *cpu = irq_vm_add_cpu(ivm, 0);
	enum part order[NR_PARTS];
	int i;

	order_of(0, order);
	for (i = 0; i < NR_PARTS; i++)
		restore(cpu, saved, order[i]);
	cpu->x2apic = from->x2apic;
	cpu->guest->eoi = from->guest->eoi;
	expect_one_timer(cpu, khz);
	expect_one_timer(from, khz);
	irq_vm_free(ivm);
}

/*
 * VMX's preemption timer runs out only while the vCPU runs: until then the count
 * is saved as zero, and whoever restores it has an interrupt that is due.
 */
static bool cpu_has_the_timer(void)
{
	return host_cpu_is_intel && get_kvm_intel_param_bool("preemption_timer");
}

TEST_F(restore, a_count_that_has_run_out_but_is_not_delivered)
{
	const int most_sleeps = cpu_has_the_timer() ? 5 : 200;
	struct saved saved;
	int i;

	if (!ferric_is_loaded())
		SKIP(return, "KVM's own APIC does not save it");
	cpu_apic_write(self->cpu, APIC_LVTT, VECTOR);
	cpu_apic_write(self->cpu, APIC_TMICT, 20 * MS);
	/* The vCPU does not run, and the guest has its interrupts off anyway. */
	for (i = 0; i < most_sleeps && !lapic_vector(self->cpu, APIC_IRR, VECTOR); i++)
		sleep_ns(100 * MS);
	save(self->cpu, &saved);
	TEST_ASSERT(is_requested(&saved) || cpu_has_the_timer(), "not in IRR");
	expect_once_after(self->cpu, &saved, self->khz);
}

/* Whichever of the MSR and the registers is read first: one of them has it. */
TEST_F(restore, a_deadline_that_has_passed_but_is_not_delivered)
{
	struct saved before, after;

	/* A slow machine has to save it before it passes. */
	arm(self->cpu, cycles(500 * MS, self->khz));
	save(self->cpu, &before);
	TEST_ASSERT(before.deadline, "no deadline");
	sleep_ns(700 * MS);
	save(self->cpu, &after);
	TEST_ASSERT_EQ(after.deadline, before.deadline);
	TEST_ASSERT(!is_requested(&after), "in IRR, too");
	expect_once_after(self->cpu, &after, self->khz);
}

TEST_F(restore, the_guest_moves_its_tsc_beyond_the_deadline)
{
	if (!ferric_is_loaded())
		SKIP(return, "KVM's own timer does not see it");
	arm(self->cpu, cycles(AN_HOUR, self->khz));
	cpu_wrmsr(self->cpu, MSR_IA32_TSC, TSC_OF_GUEST + 2 * cycles(AN_HOUR, self->khz));
	expect_one_timer(self->cpu, self->khz);

	arm(self->cpu, cycles(AN_HOUR, self->khz));
	cpu_wrmsr(self->cpu, MSR_IA32_TSC_ADJUST,
		  cpu_rdmsr(self->cpu, MSR_IA32_TSC_ADJUST) + 2 * cycles(AN_HOUR, self->khz));
	expect_one_timer(self->cpu, self->khz);
}

/* A level line that is high, its interrupt in service, its remote IRR set. */
TEST_F(restore, a_line_that_is_high_in_any_order_of_the_chips)
{
	u64 rte = RTE_LEVEL | LINE_VECTOR |
		  RTE_DEST(variant->x2apic ? 0 : APIC_ID_OF_GUEST);
	struct kvm_irqchip chip;
	struct saved saved;
	int lapic_first;

	ioapic_set_rte(self->ivm, PIN, rte);
	self->cpu->guest->eoi = EOI_NONE;
	TEST_ASSERT(irq_line(self->ivm, PIN, 1) > 0, "nobody took the line");
	cpu_take_irqs(self->cpu);
	cpu_expect_log(self->cpu, LINE_VECTOR);
	save(self->cpu, &saved);
	irqchip_get(self->ivm, KVM_IRQCHIP_IOAPIC, &chip);
	TEST_ASSERT_EQ(chip.chip.ioapic.redirtbl[PIN].bits, rte | RTE_REMOTE_IRR);

	for (lapic_first = 0; lapic_first < 2; lapic_first++) {
		struct irq_vm *ivm = irq_vm_create_empty(IRQCHIP_FULL);
		struct irq_cpu *cpu = irq_vm_add_cpu(ivm, 0);
		struct kvm_irqchip again;

		if (!lapic_first)
			irqchip_set(ivm, &chip);
		restore(cpu, &saved, PART_BASE);
		restore(cpu, &saved, PART_LAPIC);
		if (lapic_first)
			irqchip_set(ivm, &chip);
		cpu->x2apic = variant->x2apic;
		cpu->guest->eoi = EOI_NONE;
		cpu_take_irqs(cpu);
		cpu_expect_no_irqs(cpu);

		/* It comes again at the EOI, for nobody has lowered the line. */
		cpu_apic_write(cpu, APIC_EOI, 0);
		cpu_take_irqs(cpu);
		cpu_expect_log(cpu, LINE_VECTOR);
		/* The device's own state says low: that is the end of it. */
		irq_line(ivm, PIN, 0);
		cpu_apic_write(cpu, APIC_EOI, 0);
		cpu_take_irqs(cpu);
		cpu_expect_no_irqs(cpu);
		irqchip_get(ivm, KVM_IRQCHIP_IOAPIC, &again);
		TEST_ASSERT_EQ(again.chip.ioapic.redirtbl[PIN].bits, rte);
		irq_vm_free(ivm);
	}
}

TEST_HARNESS_MAIN
