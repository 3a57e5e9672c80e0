// SPDX-License-Identifier: GPL-2.0
/*
 * Who gets an interrupt: every destination mode and delivery mode, by an IPI,
 * an MSI and a pin of the I/O APIC, in xAPIC and x2APIC mode.
 */
#include "irq_vm.h"
#include "harness.h"

#define NR_VCPUS			4
#define ALL			0xfu
#define PIN			20	/* on the I/O APIC alone */

#define PHYSICAL		false
#define LOGICAL			true

enum delivery_mode {
	FIXED = 0,
	LOWEST = 1,
	SMI = 2,
	NMI = 4,
	INIT = 5,
	STARTUP = 6,
	EXTINT = 7,
};

enum source {
	FROM_ICR,
	FROM_MSI,
	FROM_IOAPIC,
};

FIXTURE(addressing) {
	struct irq_vm *ivm;
};

FIXTURE_VARIANT(addressing) {
	bool x2apic;
	enum source source;
};

FIXTURE_VARIANT_ADD(addressing, xapic_ipi) {
	.x2apic = false,
	.source = FROM_ICR,
};

FIXTURE_VARIANT_ADD(addressing, xapic_msi) {
	.x2apic = false,
	.source = FROM_MSI,
};

FIXTURE_VARIANT_ADD(addressing, xapic_ioapic) {
	.x2apic = false,
	.source = FROM_IOAPIC,
};

FIXTURE_VARIANT_ADD(addressing, x2apic_ipi) {
	.x2apic = true,
	.source = FROM_ICR,
};

FIXTURE_VARIANT_ADD(addressing, x2apic_msi) {
	.x2apic = true,
	.source = FROM_MSI,
};

FIXTURE_VARIANT_ADD(addressing, x2apic_ioapic) {
	.x2apic = true,
	.source = FROM_IOAPIC,
};

FIXTURE_SETUP(addressing)
{
	self->ivm = irq_vm_create(NR_VCPUS, IRQCHIP_FULL, variant->x2apic);
}

FIXTURE_TEARDOWN(addressing)
{
	irq_vm_free(self->ivm);
}

static void deliver(struct irq_vm *ivm, enum source source, u32 dest,
		    bool logical, enum delivery_mode mode, u8 vector)
{
	switch (source) {
	case FROM_ICR:
		cpu_send_ipi(&ivm->cpu[0], APIC_INT_ASSERT | mode << 8 |
			     (logical ? APIC_DEST_LOGICAL : 0) | vector, dest);
		break;
	case FROM_MSI:
		signal_msi(ivm, MSI_ADDR(dest) | (logical ? MSI_ADDR_LOGICAL : 0),
			   0, MSI_DATA_DM(mode) | vector);
		break;
	case FROM_IOAPIC:
		ioapic_set_rte(ivm, PIN, RTE_DEST(dest) | RTE_DM(mode) |
			       (logical ? RTE_LOGICAL : 0) | vector);
		irq_line(ivm, PIN, 1);
		irq_line(ivm, PIN, 0);
		break;
	}
}

/* Bit n: vCPU number n has the vector pending. Leaves nothing pending. */
static u32 receivers(struct irq_vm *ivm, u8 vector)
{
	u32 mask = 0;
	int i;

	for (i = 0; i < ivm->nr_cpus; i++) {
		struct irq_cpu *cpu = &ivm->cpu[i];

		if (!lapic_vector(cpu, APIC_IRR, vector)) {
			TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 0);
			continue;
		}
		mask |= BIT(i);
		TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 1);
		cpu_take_irqs(cpu);
		cpu_expect_log(cpu, vector);
	}
	return mask;
}

#define expect_receivers(wanted, ivm, source, dest, logical, mode, vector)	\
	__expect_receivers(wanted, ivm, source, dest, logical, mode, vector,	\
			   __LINE__)

static void __expect_receivers(u32 wanted, struct irq_vm *ivm,
			       enum source source, u32 dest, bool logical,
			       enum delivery_mode mode, u8 vector, int line)
{
	u32 got;

	deliver(ivm, source, dest, logical, mode, vector);
	got = receivers(ivm, vector);
	TEST_ASSERT(got == wanted, "line %d: to %#x: wanted vCPUs %#x, got %#x",
		    line, dest, wanted, got);
}

TEST_F(addressing, physical)
{
	u32 id;

	for (id = 0; id < NR_VCPUS; id++)
		expect_receivers(BIT(id), self->ivm, variant->source, id,
				 PHYSICAL, FIXED, 0x40 + id);
	expect_receivers(0u, self->ivm, variant->source, NR_VCPUS, PHYSICAL, FIXED, 0x50);
	expect_receivers(0u, self->ivm, variant->source, 0xfe, PHYSICAL, FIXED, 0x50);
}

TEST_F(addressing, physical_broadcast)
{
	bool wide = variant->x2apic && variant->source == FROM_ICR;

	expect_receivers(ALL, self->ivm, variant->source, wide ? ~0u : 0xff,
			 PHYSICAL, FIXED, 0x50);
	/* In an IPI of x2APIC mode 0xff is one ID among others. */
	if (wide)
		expect_receivers(0u, self->ivm, variant->source, 0xff, PHYSICAL,
				 FIXED, 0x50);
}

TEST_F(addressing, logical_flat)
{
	u32 dest;
	int i;

	/* The logical IDs of x2APIC's cluster 0 are the same bits. */
	for (i = 0; i < NR_VCPUS && !variant->x2apic; i++) {
		cpu_apic_write(&self->ivm->cpu[i], APIC_DFR, APIC_DFR_FLAT);
		cpu_apic_write(&self->ivm->cpu[i], APIC_LDR, BIT(24 + i));
	}
	for (dest = 0; dest <= ALL; dest++)
		expect_receivers(dest, self->ivm, variant->source, dest, LOGICAL,
				 FIXED, 0x50);
	expect_receivers(0u, self->ivm, variant->source, 0xf0, LOGICAL, FIXED, 0x50);
	expect_receivers(BIT(2), self->ivm, variant->source, 0x84, LOGICAL, FIXED, 0x50);
	if (variant->source != FROM_ICR || !variant->x2apic)
		expect_receivers(ALL, self->ivm, variant->source, 0xff, LOGICAL,
				 FIXED, 0x50);
}

TEST_F(addressing, lowest_priority_goes_to_one)
{
	u32 seen = 0, got;
	u8 vector;
	int i;

	for (i = 0; i < NR_VCPUS && !variant->x2apic; i++)
		cpu_apic_write(&self->ivm->cpu[i], APIC_LDR, BIT(24 + i));

	for (vector = 0x60; vector < 0x70; vector++) {
		deliver(self->ivm, variant->source, 0xe, LOGICAL, LOWEST, vector);
		got = receivers(self->ivm, vector);
		TEST_ASSERT(__builtin_popcount(got) == 1, "%#x: to vCPUs %#x",
			    vector, got);
		TEST_ASSERT(got & 0xe, "%#x: to vCPU 0, which was not meant", vector);
		seen |= got;
	}
	/* By vector or in turn, but not always the same. */
	TEST_ASSERT(__builtin_popcount(seen) > 1, "always vCPU %#x", seen);

	expect_receivers(BIT(2), self->ivm, variant->source, 2, PHYSICAL, LOWEST, 0x50);
	expect_receivers(BIT(3), self->ivm, variant->source, 8, LOGICAL, LOWEST, 0x50);
}

static u32 pending_nmis(struct irq_cpu *cpu)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(cpu->vcpu, &events);
	return events.nmi.pending;
}

TEST_F(addressing, nmi)
{
	struct irq_vm *ivm = self->ivm;
	int i;

	/* The vector of an NMI means nothing. */
	deliver(ivm, variant->source, 2, PHYSICAL, NMI, 0x77);
	for (i = 1; i < NR_VCPUS; i++) {
		TEST_ASSERT_EQ(pending_nmis(&ivm->cpu[i]), i == 2);
		TEST_ASSERT_EQ(lapic_count(&ivm->cpu[i], APIC_IRR), 0);
	}
	/* It does not wait for interrupts to be on. */
	cpu_rdtsc(&ivm->cpu[2]);
	cpu_expect_log(&ivm->cpu[2], NMI_VECTOR);

	/* Nor for the APIC to be enabled. */
	cpu_apic_write(&ivm->cpu[3], APIC_SPIV, APIC_SPURIOUS_VECTOR);
	deliver(ivm, variant->source, 3, PHYSICAL, NMI, 0);
	cpu_rdtsc(&ivm->cpu[3]);
	cpu_expect_log(&ivm->cpu[3], NMI_VECTOR);
}

TEST_F(addressing, smi)
{
	struct kvm_vcpu_events events;
	int i;

	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "this KVM has no SMM");

	deliver(self->ivm, variant->source, 2, PHYSICAL, SMI, 0);
	for (i = 1; i < NR_VCPUS; i++) {
		vcpu_events_get(self->ivm->cpu[i].vcpu, &events);
		TEST_ASSERT_EQ(events.smi.pending, i == 2);
		TEST_ASSERT_EQ(lapic_count(&self->ivm->cpu[i], APIC_IRR), 0);
	}
}

/* ExtINT is for the one who has the PIC: such a message delivers nothing. */
TEST_F(addressing, extint)
{
	expect_receivers(0u, self->ivm, variant->source, 1, PHYSICAL, EXTINT, 0x50);
}

TEST_F(addressing, init)
{
	struct irq_cpu *ap = &self->ivm->cpu[2];
	struct kvm_regs regs;

	cpu_rdtsc(ap);
	TEST_ASSERT_EQ(cpu_mp_state(ap), KVM_MP_STATE_RUNNABLE);
	deliver(self->ivm, variant->source, 2, PHYSICAL, INIT, 0);
	/* An AP waits for a SIPI then, with its APIC as after reset. */
	TEST_ASSERT_EQ(cpu_mp_state(ap), KVM_MP_STATE_INIT_RECEIVED);
	TEST_ASSERT_EQ(lapic_reg(ap, APIC_SPIV), 0xffu);
	TEST_ASSERT_EQ(cpu_mp_state(&self->ivm->cpu[1]), KVM_MP_STATE_RUNNABLE);
	TEST_ASSERT_EQ(cpu_mp_state(&self->ivm->cpu[3]), KVM_MP_STATE_RUNNABLE);
	/* INIT leaves the APIC's mode and its ID alone. */
	TEST_ASSERT_EQ(vcpu_get_msr(ap->vcpu, MSR_IA32_APICBASE),
		       APIC_DEFAULT_GPA | MSR_IA32_APICBASE_ENABLE |
		       (variant->x2apic ? X2APIC_ENABLE : 0));

	/* The BSP goes on at the reset vector; it is also the one that sends. */
	signal_msi(self->ivm, MSI_ADDR(0), 0, MSI_DATA_DM(INIT));
	TEST_ASSERT_EQ(cpu_mp_state(&self->ivm->cpu[0]), KVM_MP_STATE_RUNNABLE);
	vcpu_regs_get(self->ivm->cpu[0].vcpu, &regs);
	TEST_ASSERT_EQ(regs.rip, 0xfff0ull);
}

TEST_F(addressing, changed_while_pending)
{
	struct irq_vm *ivm = self->ivm;

	/* Once accepted it stays where it is, whatever the IDs become. */
	deliver(ivm, variant->source, 2, PHYSICAL, FIXED, 0x50);
	if (!variant->x2apic)
		cpu_apic_write(&ivm->cpu[2], APIC_ID, 9u << 24);
	else
		cpu_enable_apic(&ivm->cpu[2], true);
	TEST_ASSERT_EQ(receivers(ivm, 0x50), BIT(2));
}

/* xAPIC alone: what x2APIC mode does not have. */

FIXTURE(xapic) {
	struct irq_vm *ivm;
};

FIXTURE_VARIANT(xapic) {
	enum source source;
};

FIXTURE_VARIANT_ADD(xapic, ipi) {
	.source = FROM_ICR,
};

FIXTURE_VARIANT_ADD(xapic, msi) {
	.source = FROM_MSI,
};

FIXTURE_VARIANT_ADD(xapic, ioapic) {
	.source = FROM_IOAPIC,
};

FIXTURE_SETUP(xapic)
{
	self->ivm = irq_vm_create(NR_VCPUS, IRQCHIP_FULL, false);
}

FIXTURE_TEARDOWN(xapic)
{
	irq_vm_free(self->ivm);
}

TEST_F(xapic, logical_cluster)
{
	static const u8 ldr[NR_VCPUS] = { 0x11, 0x12, 0x21, 0x24 };
	struct irq_vm *ivm = self->ivm;
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		cpu_apic_write(&ivm->cpu[i], APIC_DFR, APIC_DFR_CLUSTER);
		cpu_apic_write(&ivm->cpu[i], APIC_LDR, (u32)ldr[i] << 24);
	}
	expect_receivers(BIT(0), ivm, variant->source, 0x11, LOGICAL, FIXED, 0x50);
	expect_receivers(BIT(1), ivm, variant->source, 0x12, LOGICAL, FIXED, 0x50);
	expect_receivers(BIT(2), ivm, variant->source, 0x21, LOGICAL, FIXED, 0x50);
	expect_receivers(BIT(3), ivm, variant->source, 0x24, LOGICAL, FIXED, 0x50);
	expect_receivers(BIT(0) | BIT(1), ivm, variant->source, 0x13, LOGICAL, FIXED, 0x50);
	expect_receivers(BIT(2) | BIT(3), ivm, variant->source, 0x2f, LOGICAL, FIXED, 0x50);
	expect_receivers(0u, ivm, variant->source, 0x22, LOGICAL, FIXED, 0x50);
	expect_receivers(0u, ivm, variant->source, 0x31, LOGICAL, FIXED, 0x50);
	expect_receivers(0u, ivm, variant->source, 0x10, LOGICAL, FIXED, 0x50);
	expect_receivers(ALL, ivm, variant->source, 0xff, LOGICAL, FIXED, 0x50);
}

/* Each APIC compares by its own model, whatever the others use. */
TEST_F(xapic, logical_flat_and_cluster_mixed)
{
	struct irq_vm *ivm = self->ivm;

	cpu_apic_write(&ivm->cpu[0], APIC_LDR, 0x01000000);
	cpu_apic_write(&ivm->cpu[1], APIC_LDR, 0x10000000);
	cpu_apic_write(&ivm->cpu[2], APIC_DFR, APIC_DFR_CLUSTER);
	cpu_apic_write(&ivm->cpu[2], APIC_LDR, 0x11000000);
	cpu_apic_write(&ivm->cpu[3], APIC_DFR, APIC_DFR_CLUSTER);
	cpu_apic_write(&ivm->cpu[3], APIC_LDR, 0x21000000);
	expect_receivers(BIT(0) | BIT(1) | BIT(2), ivm, variant->source, 0x11,
			 LOGICAL, FIXED, 0x50);
	expect_receivers(BIT(0) | BIT(3), ivm, variant->source, 0x21, LOGICAL,
			 FIXED, 0x50);
	expect_receivers(BIT(1), ivm, variant->source, 0x10, LOGICAL, FIXED, 0x50);
}

/* Several bits in one LDR, and the same bit in two. */
TEST_F(xapic, logical_aliases)
{
	struct irq_vm *ivm = self->ivm;

	cpu_apic_write(&ivm->cpu[0], APIC_LDR, 0x03000000);
	cpu_apic_write(&ivm->cpu[1], APIC_LDR, 0x02000000);
	cpu_apic_write(&ivm->cpu[2], APIC_LDR, 0x04000000);
	expect_receivers(BIT(0) | BIT(1), ivm, variant->source, 2, LOGICAL, FIXED, 0x50);
	expect_receivers(BIT(0), ivm, variant->source, 1, LOGICAL, FIXED, 0x50);
	expect_receivers(BIT(0) | BIT(2), ivm, variant->source, 5, LOGICAL, FIXED, 0x50);
}

TEST_F(xapic, id_changes)
{
	struct irq_vm *ivm = self->ivm;

	cpu_apic_write(&ivm->cpu[2], APIC_ID, 0x42000000);
	expect_receivers(0u, ivm, variant->source, 2, PHYSICAL, FIXED, 0x50);
	expect_receivers(BIT(2), ivm, variant->source, 0x42, PHYSICAL, FIXED, 0x50);
	/* Two of one ID both take what is for it. */
	cpu_apic_write(&ivm->cpu[3], APIC_ID, 0x42000000);
	expect_receivers(BIT(2) | BIT(3), ivm, variant->source, 0x42, PHYSICAL,
			 FIXED, 0x50);
	cpu_apic_write(&ivm->cpu[3], APIC_ID, 0x03000000);
	expect_receivers(BIT(3), ivm, variant->source, 3, PHYSICAL, FIXED, 0x50);
}

TEST_F(xapic, disabled_do_not_receive)
{
	struct irq_vm *ivm = self->ivm;
	u64 base = cpu_rdmsr(&ivm->cpu[3], MSR_IA32_APICBASE);

	cpu_apic_write(&ivm->cpu[2], APIC_SPIV, APIC_SPURIOUS_VECTOR);
	cpu_wrmsr(&ivm->cpu[3], MSR_IA32_APICBASE, base & ~(u64)MSR_IA32_APICBASE_ENABLE);
	expect_receivers(0u, ivm, variant->source, 2, PHYSICAL, FIXED, 0x50);
	expect_receivers(0u, ivm, variant->source, 3, PHYSICAL, FIXED, 0x50);
	expect_receivers(BIT(0) | BIT(1), ivm, variant->source, 0xff, PHYSICAL,
			 FIXED, 0x50);
	cpu_enable_apic(&ivm->cpu[2], false);
	cpu_enable_apic(&ivm->cpu[3], false);
	expect_receivers(ALL, ivm, variant->source, 0xff, PHYSICAL, FIXED, 0x50);
}

/* Modes and IDs beyond the common set-up. */

TEST(shorthands)
{
	int x2apic, sender;

	for (x2apic = 0; x2apic < 2; x2apic++) {
		struct irq_vm *ivm = irq_vm_create(NR_VCPUS, IRQCHIP_FULL, x2apic);

		for (sender = 0; sender < NR_VCPUS; sender++) {
			struct irq_cpu *cpu = &ivm->cpu[sender];
			u32 icr = APIC_INT_ASSERT | 0x50;

			/* A shorthand makes the destination meaningless. */
			cpu_send_ipi(cpu, icr | APIC_DEST_SELF, 3);
			TEST_ASSERT_EQ(receivers(ivm, 0x50), BIT(sender));
			cpu_send_ipi(cpu, icr | APIC_DEST_ALLINC, 3);
			TEST_ASSERT_EQ(receivers(ivm, 0x50), ALL);
			cpu_send_ipi(cpu, icr | APIC_DEST_ALLBUT, 3);
			TEST_ASSERT_EQ(receivers(ivm, 0x50), ALL & ~BIT(sender));
			cpu_send_ipi(cpu, icr | APIC_DEST_ALLBUT | APIC_DEST_LOGICAL, 0);
			TEST_ASSERT_EQ(receivers(ivm, 0x50), ALL & ~BIT(sender));
		}
		cpu_send_ipi(&ivm->cpu[1], APIC_INT_ASSERT | APIC_DM_NMI |
			     APIC_DEST_ALLBUT, 0);
		for (sender = 0; sender < NR_VCPUS; sender++) {
			cpu_rdtsc(&ivm->cpu[sender]);
			if (sender == 1)
				cpu_expect_no_irqs(&ivm->cpu[sender]);
			else
				cpu_expect_log(&ivm->cpu[sender], NMI_VECTOR);
		}
		irq_vm_free(ivm);
	}
}

TEST(modes_mixed)
{
	struct irq_vm *ivm = irq_vm_create(NR_VCPUS, IRQCHIP_FULL, false);
	u32 id;

	cpu_enable_apic(&ivm->cpu[2], true);
	cpu_enable_apic(&ivm->cpu[3], true);
	for (id = 0; id < NR_VCPUS; id++) {
		int sender;

		for (sender = 0; sender < NR_VCPUS; sender++) {
			cpu_send_ipi(&ivm->cpu[sender], APIC_INT_ASSERT | 0x50, id);
			TEST_ASSERT_EQ(receivers(ivm, 0x50), BIT(id));
		}
		expect_receivers(BIT(id), ivm, FROM_MSI, id, PHYSICAL, FIXED, 0x51);
		expect_receivers(BIT(id), ivm, FROM_IOAPIC, id, PHYSICAL, FIXED, 0x52);
	}
	expect_receivers(ALL, ivm, FROM_MSI, 0xff, PHYSICAL, FIXED, 0x50);
	irq_vm_free(ivm);
}

TEST(x2apic_clusters)
{
	static const u32 ids[] = { 0, 1, 16, 17, 31 };
	struct irq_vm *ivm = irq_vm_create_empty(IRQCHIP_FULL);
	int i;

	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		struct irq_cpu *cpu = irq_vm_add_cpu(ivm, ids[i]);

		cpu_enable_apic(cpu, true);
		TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_LDR),
			       (ids[i] >> 4) << 16 | BIT(ids[i] & 0xf));
	}
	expect_receivers(BIT(0) | BIT(1), ivm, FROM_ICR, 0x00003, LOGICAL, FIXED, 0x50);
	expect_receivers(BIT(2) | BIT(3), ivm, FROM_ICR, 0x10003, LOGICAL, FIXED, 0x50);
	expect_receivers(BIT(4), ivm, FROM_ICR, 0x18000, LOGICAL, FIXED, 0x50);
	expect_receivers(BIT(2) | BIT(3) | BIT(4), ivm, FROM_ICR, 0x1ffff, LOGICAL,
			 FIXED, 0x50);
	expect_receivers(0u, ivm, FROM_ICR, 0x2ffff, LOGICAL, FIXED, 0x50);
	expect_receivers(0u, ivm, FROM_ICR, 0x10000, LOGICAL, FIXED, 0x50);
	expect_receivers(0x1fu, ivm, FROM_ICR, ~0u, LOGICAL, FIXED, 0x50);
	irq_vm_free(ivm);
}

/* Somebody in xAPIC mode takes KVM off the fast way; the result is the same. */
TEST(x2apic_clusters_beside_an_xapic)
{
	static const u32 ids[] = { 0, 1, 16, 17, 31, 2 };
	struct irq_vm *ivm = irq_vm_create_empty(IRQCHIP_FULL);
	int i;

	for (i = 0; i < ARRAY_SIZE(ids); i++)
		cpu_enable_apic(irq_vm_add_cpu(ivm, ids[i]), i != 5);
	cpu_apic_write(&ivm->cpu[5], APIC_LDR, 0x80000000);

	expect_receivers(BIT(0) | BIT(1), ivm, FROM_ICR, 0x00003, LOGICAL, FIXED, 0x50);
	expect_receivers(BIT(2) | BIT(3), ivm, FROM_ICR, 0x10003, LOGICAL, FIXED, 0x50);
	expect_receivers(BIT(4), ivm, FROM_ICR, 0x18000, LOGICAL, FIXED, 0x50);
	expect_receivers(0u, ivm, FROM_ICR, 0x20003, LOGICAL, FIXED, 0x50);
	expect_receivers(BIT(5), ivm, FROM_MSI, 0x80, LOGICAL, FIXED, 0x50);
	expect_receivers(BIT(1) | BIT(5), ivm, FROM_IOAPIC, 0x82, LOGICAL, FIXED, 0x50);
	irq_vm_free(ivm);
}

TEST(ids_of_32_bits)
{
	static const u32 ids[] = { 0, 1, 300, 301 };
	struct irq_vm *ivm = irq_vm_create_empty(IRQCHIP_SPLIT);
	int i;

	vm_enable_cap(ivm->vm, KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS |
		      KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
	for (i = 0; i < ARRAY_SIZE(ids); i++)
		irq_vm_add_cpu(ivm, ids[i]);
	/* The third stays in xAPIC mode, as a vCPU does that was plugged in. */
	for (i = 0; i < ARRAY_SIZE(ids); i++)
		cpu_enable_apic(&ivm->cpu[i], i != 2);

	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		expect_receivers(BIT(i), ivm, FROM_ICR, ids[i], PHYSICAL, FIXED, 0x50);
		TEST_ASSERT_EQ(signal_msi(ivm, MSI_ADDR(ids[i]), MSI_ADDR_HI(ids[i]),
					  0x51), 1);
		TEST_ASSERT_EQ(receivers(ivm, 0x51), BIT(i));
	}
	/* Nothing is at the low byte of 301, nor at the low half of 65837. */
	expect_receivers(0u, ivm, FROM_ICR, 301 & 0xff, PHYSICAL, FIXED, 0x50);
	expect_receivers(0u, ivm, FROM_ICR, 0x10000 + 301, PHYSICAL, FIXED, 0x50);
	/* Cluster 18, bit 13. */
	expect_receivers(BIT(3), ivm, FROM_ICR, 18 << 16 | BIT(13), LOGICAL, FIXED, 0x50);
	TEST_ASSERT_EQ(cpu_apic_read(&ivm->cpu[3], APIC_ID), 301);
	TEST_ASSERT_EQ(cpu_apic_read(&ivm->cpu[3], APIC_LDR), 18 << 16 | BIT(13));
	TEST_ASSERT_EQ(lapic_reg(&ivm->cpu[3], APIC_ID), 301u);
	irq_vm_free(ivm);
}

/*
 * 0xff is everyone to a device that knows 8-bit IDs only; with the quirk off
 * it is the IDs 0 to 7 in logical mode and ID 255 in physical mode.
 */
TEST(broadcast_quirk)
{
	static const u32 ids[] = { 0, 1, 8 };
	int quirk_off;

	for (quirk_off = 0; quirk_off < 2; quirk_off++) {
		struct irq_vm *ivm = irq_vm_create_empty(IRQCHIP_SPLIT);
		int i;

		if (quirk_off)
			vm_enable_cap(ivm->vm, KVM_CAP_X2APIC_API,
				      KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
		for (i = 0; i < ARRAY_SIZE(ids); i++)
			cpu_enable_apic(irq_vm_add_cpu(ivm, ids[i]), true);

		expect_receivers(quirk_off ? 0u : 7u, ivm, FROM_MSI, 0xff,
				 PHYSICAL, FIXED, 0x50);
		expect_receivers(quirk_off ? 3u : 7u, ivm, FROM_MSI, 0xff,
				 LOGICAL, FIXED, 0x50);
		irq_vm_free(ivm);
	}
}

TEST(msi_redirection_hint)
{
	struct irq_vm *ivm = irq_vm_create(NR_VCPUS, IRQCHIP_SPLIT, true);
	u8 vector;

	for (vector = 0x60; vector < 0x68; vector++) {
		u32 got;

		TEST_ASSERT_EQ(signal_msi(ivm, MSI_ADDR(0x7) | MSI_ADDR_LOGICAL |
					  MSI_ADDR_REDIR_HINT, 0, vector), 1);
		got = receivers(ivm, vector);
		TEST_ASSERT(__builtin_popcount(got) == 1 && !(got & ~7u),
			    "%#x: to vCPUs %#x", vector, got);
	}
	irq_vm_free(ivm);
}

TEST(msi_return_value)
{
	struct irq_vm *ivm = irq_vm_create(NR_VCPUS, IRQCHIP_SPLIT, true);

	TEST_ASSERT_EQ(signal_msi(ivm, MSI_ADDR(1), 0, 0x50), 1);
	TEST_ASSERT_EQ(signal_msi(ivm, MSI_ADDR(9), 0, 0x50), 0);
	TEST_ASSERT_EQ(signal_msi(ivm, MSI_ADDR(0xe) | MSI_ADDR_LOGICAL, 0, 0x50), 3);
	TEST_ASSERT_EQ(signal_msi(ivm, MSI_ADDR(0xff), 0, 0x50), 4);
	cpu_apic_write(&ivm->cpu[1], APIC_SPIV, APIC_SPURIOUS_VECTOR);
	TEST_ASSERT_EQ(signal_msi(ivm, MSI_ADDR(1), 0, 0x50), 0);
	irq_vm_free(ivm);
}

/*
 * INIT and SIPI start an AP at the page that the SIPI names.  The library's
 * page allocator leaves out the first two pages of memory.
 */
#define SIPI_VECTOR		1
#define REPORT_PORT		0x80

static void expect_start(struct irq_cpu *ap)
{
	struct kvm_run *run = ap->vcpu->run;
	struct kvm_sregs sregs;

	vcpu_run(ap->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(ap->vcpu, KVM_EXIT_IO);
	TEST_ASSERT_EQ(run->io.port, REPORT_PORT);
	TEST_ASSERT_EQ(*((u8 *)run + run->io.data_offset), 0x5a);
	vcpu_sregs_get(ap->vcpu, &sregs);
	TEST_ASSERT_EQ(sregs.cs.selector, SIPI_VECTOR << 8);
	TEST_ASSERT_EQ(sregs.cr0 & X86_CR0_PE, 0);
}

TEST(init_sipi_starts_an_ap)
{
	/* mov $0x5a, %al; out %al, $0x80; hlt */
	static const u8 code[] = { 0xb0, 0x5a, 0xe6, REPORT_PORT, 0xf4 };
	struct kvm_mp_state wait = { .mp_state = KVM_MP_STATE_UNINITIALIZED };
	int x2apic;

	for (x2apic = 0; x2apic < 2; x2apic++) {
		struct irq_vm *ivm = irq_vm_create_empty(IRQCHIP_FULL);
		struct irq_cpu *bsp = irq_vm_add_cpu(ivm, 0);
		struct irq_cpu *ap = irq_vm_add_cpu(ivm, 1);
		struct irq_cpu *running = irq_vm_add_cpu(ivm, 2);

		memcpy(addr_gpa2hva(ivm->vm, SIPI_VECTOR << 12), code, sizeof(code));
		vcpu_mp_state_set(ap->vcpu, &wait);
		cpu_enable_apic(bsp, x2apic);
		cpu_enable_apic(running, x2apic);

		/* A SIPI without INIT is no start, neither now nor later. */
		cpu_send_ipi(bsp, APIC_DM_STARTUP | SIPI_VECTOR, 1);
		TEST_ASSERT_EQ(cpu_mp_state(ap), KVM_MP_STATE_UNINITIALIZED);
		/* And one that runs takes no notice. */
		cpu_send_ipi(bsp, APIC_DM_STARTUP | SIPI_VECTOR, 2);
		cpu_rdtsc(running);
		TEST_ASSERT_EQ(cpu_mp_state(running), KVM_MP_STATE_RUNNABLE);

		/* The deassertion that follows an INIT by the book is ignored. */
		cpu_send_ipi(bsp, APIC_DM_INIT | APIC_INT_ASSERT | APIC_INT_LEVELTRIG, 1);
		cpu_send_ipi(bsp, APIC_DM_INIT | APIC_INT_LEVELTRIG, 1);
		TEST_ASSERT_EQ(cpu_mp_state(ap), KVM_MP_STATE_INIT_RECEIVED);
		cpu_send_ipi(bsp, APIC_DM_STARTUP | SIPI_VECTOR, 1);
		/* The second SIPI of the usual two comes too late to matter. */
		TEST_ASSERT_EQ(cpu_mp_state(ap), KVM_MP_STATE_RUNNABLE);
		cpu_send_ipi(bsp, APIC_DM_STARTUP | 2, 1);
		expect_start(ap);

		/* INIT again, from where it is now. */
		cpu_send_ipi(bsp, APIC_DM_INIT | APIC_INT_ASSERT, 1);
		TEST_ASSERT_EQ(cpu_mp_state(ap), KVM_MP_STATE_INIT_RECEIVED);
		cpu_send_ipi(bsp, APIC_DM_STARTUP | SIPI_VECTOR, 1);
		expect_start(ap);
		irq_vm_free(ivm);
	}
}

TEST_HARNESS_MAIN
