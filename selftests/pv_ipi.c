// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_HC_SEND_IPI: an IPI to those of 128 APIC IDs whose bits the guest sets,
 * from any ID on. All of it is the guest's choice, and none of it is an index
 * until it was compared with what there is.
 */
#include "irq_vm.h"
#include "harness.h"

#define NR_VCPUS		4
#define ALL			0xfu
#define VECTOR			0x51

FIXTURE(pv_ipi) {
	struct irq_vm *ivm;
};

FIXTURE_VARIANT(pv_ipi) {
	bool x2apic;
};

FIXTURE_VARIANT_ADD(pv_ipi, xapic) {
	.x2apic = false,
};

FIXTURE_VARIANT_ADD(pv_ipi, x2apic) {
	.x2apic = true,
};

FIXTURE_SETUP(pv_ipi)
{
	self->ivm = irq_vm_create(NR_VCPUS, IRQCHIP_FULL, variant->x2apic);
}

FIXTURE_TEARDOWN(pv_ipi)
{
	irq_vm_free(self->ivm);
}

struct bitmap {
	u64 low;
	u64 high;
};

static u64 guest_send(u64 bitmap_gva, u64 min, u64 icr)
{
	struct bitmap *b = (void *)bitmap_gva;

	return kvm_hypercall(KVM_HC_SEND_IPI, b->low, b->high, min, icr);
}

/* The number of vCPUs that took it, or a negative errno. */
static s64 send(struct irq_vm *ivm, u64 low, u64 high, u32 min, u64 icr)
{
	static gva_t gva;
	static struct irq_vm *owner;
	struct bitmap *b;

	if (owner != ivm) {
		owner = ivm;
		gva = vm_alloc_page(ivm->vm);
	}
	b = addr_gva2hva(ivm->vm, gva);
	*b = (struct bitmap) { low, high };
	return cpu_call(&ivm->cpu[0], guest_send, gva, min, icr);
}

/* Bit n: vCPU number n has the vector pending. Leaves nothing pending. */
static u32 receivers(struct irq_vm *ivm)
{
	u32 mask = 0;
	int i;

	for (i = 0; i < ivm->nr_cpus; i++) {
		if (lapic_vector(&ivm->cpu[i], APIC_IRR, VECTOR))
			mask |= BIT(i);
		cpu_take_irqs(&ivm->cpu[i]);
		cpu_clear_log(&ivm->cpu[i]);
	}
	return mask;
}

TEST_F(pv_ipi, goes_to_those_whose_bits_are_set)
{
	u32 mask, min;

	for (mask = 0; mask < BIT(NR_VCPUS); mask++) {
		TEST_ASSERT_EQ(send(self->ivm, mask, 0, 0, VECTOR),
			       __builtin_popcount(mask));
		TEST_ASSERT_EQ(receivers(self->ivm), mask);
	}
	/* Bits count from the first ID, 64 in each of two words. */
	for (min = 1; min < NR_VCPUS; min++) {
		TEST_ASSERT_EQ(send(self->ivm, 1, 0, min, VECTOR), 1);
		TEST_ASSERT_EQ(receivers(self->ivm), BIT(min));
	}
	TEST_ASSERT_EQ(send(self->ivm, 0, ~0ull, 0, VECTOR), 0);
	TEST_ASSERT_EQ(receivers(self->ivm), 0);
}

TEST_F(pv_ipi, nmi)
{
	TEST_ASSERT_EQ(send(self->ivm, BIT(2), 0, 0, APIC_DM_NMI), 1);
	cpu_rdtsc(&self->ivm->cpu[2]);
	cpu_expect_log(&self->ivm->cpu[2], NMI_VECTOR);
	cpu_expect_no_irqs(&self->ivm->cpu[1]);
}

TEST_F(pv_ipi, ids_that_nobody_has)
{
	static const u32 firsts[] = {
		NR_VCPUS, 63, 64, 127, 128, 191, 192, 193, 254, 255, 256, 257,
		4094, 4095, 4096, 0x7fffffff, 0x80000000, 0xffffff00,
		0xffffffc0, 0xffffffc1, 0xffffffff,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(firsts); i++) {
		/* The IDs of the second word may have wrapped. */
		u32 second = firsts[i] + 64;
		u32 wanted = second < NR_VCPUS ? ALL & (ALL << second) : 0;
		s64 sent = send(self->ivm, ~0ull, ~0ull, firsts[i], VECTOR);
		u32 got = receivers(self->ivm);

		TEST_ASSERT(got == wanted && sent == __builtin_popcount(wanted),
			    "from %#x: wanted vCPUs %#x, got %#x, told %ld",
			    firsts[i], wanted, got, sent);
	}
}

TEST_F(pv_ipi, only_plain_destinations)
{
	const s64 invalid = -KVM_EINVAL;

	TEST_ASSERT_EQ(send(self->ivm, 1, 0, 0, APIC_DEST_LOGICAL | VECTOR), invalid);
	TEST_ASSERT_EQ(send(self->ivm, 1, 0, 0, APIC_DEST_SELF | VECTOR), invalid);
	TEST_ASSERT_EQ(send(self->ivm, 1, 0, 0, APIC_DEST_ALLINC | VECTOR), invalid);
	TEST_ASSERT_EQ(send(self->ivm, 1, 0, 0, APIC_DEST_ALLBUT | VECTOR), invalid);
	TEST_ASSERT_EQ(receivers(self->ivm), 0);
}

TEST_F(pv_ipi, any_arguments)
{
	u64 random = 0x9e3779b97f4a7c15ull;
	int i;

	for (i = 0; i < 2000; i++) {
		u64 words[3];
		int j;

		for (j = 0; j < ARRAY_SIZE(words); j++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			/* From all widths, and all from the upper end, too. */
			words[j] = random >> (random & 63);
			words[j] = random & BIT(20) ? ~words[j] : words[j];
		}
		TEST_ASSERT(send(self->ivm, words[0], words[1], words[2], VECTOR) <= NR_VCPUS,
			    "%#lx %#lx from %#x", words[0], words[1], (u32)words[2]);
	}
	receivers(self->ivm);
}

/*
 * Two local APICs of one ID: then there is no table that the hypercall could
 * look into, as in the time before the first vCPU is set up.
 */
TEST(without_a_table_of_ids)
{
	struct irq_vm *ivm = irq_vm_create(2, IRQCHIP_FULL, false);

	cpu_apic_write(&ivm->cpu[1], APIC_ID, 0);
	TEST_ASSERT_EQ(send(ivm, 1, 0, 0, VECTOR), -KVM_EOPNOTSUPP);
	TEST_ASSERT_EQ(receivers(ivm), 0);
	cpu_apic_write(&ivm->cpu[1], APIC_ID, 1 << 24);
	TEST_ASSERT_EQ(send(ivm, 2, 0, 0, VECTOR), 1);
	TEST_ASSERT_EQ(receivers(ivm), BIT(1));
	irq_vm_free(ivm);
}

TEST(with_the_only_local_apic_disabled)
{
	struct irq_vm *ivm = irq_vm_create(1, IRQCHIP_SPLIT, false);
	struct irq_cpu *cpu = &ivm->cpu[0];
	u64 base = cpu_rdmsr(cpu, MSR_IA32_APICBASE);

	cpu_wrmsr(cpu, MSR_IA32_APICBASE, base & ~(u64)MSR_IA32_APICBASE_ENABLE);
	TEST_ASSERT_EQ(send(ivm, ~0ull, ~0ull, 0, VECTOR), 0);
	irq_vm_free(ivm);
}

TEST_HARNESS_MAIN
