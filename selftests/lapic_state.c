// SPDX-License-Identifier: GPL-2.0
/*
 * The local APIC's registers: what they read and write in xAPIC and x2APIC
 * mode, how IRR, ISR, TPR and PPR decide what a vCPU takes next, and that all
 * of it survives KVM_GET_LAPIC and KVM_SET_LAPIC.
 */
#include "apicv.h"
#include "irq_vm.h"
#include "harness.h"
#include "provider.h"

#define LVT_BITS		0x110ffu	/* mask, delivery status, vector */
#define LVT_MODE_BITS		0x00700u
#define LINT_BITS		0x0e000u	/* polarity, remote IRR, trigger */
#define LVT_TIMER_MODE_BITS	0x20000u
#define LVT_TIMER_DEADLINE_BIT	0x40000u

/*
 * On AMD's CPUs TPR goes through VMCB.V_TPR, which is CR8: KVM loses the low
 * four bits at the next exit.
 */
static u32 tpr_value(u32 tpr)
{
	return host_cpu_is_amd ? tpr & 0xf0 : tpr;
}

FIXTURE(lapic) {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;		/* vCPU 0 */
	struct irq_cpu *other;		/* vCPU 1, the sender */
};

FIXTURE_VARIANT(lapic) {
	bool x2apic;
};

FIXTURE_VARIANT_ADD(lapic, xapic) {
	.x2apic = false,
};

FIXTURE_VARIANT_ADD(lapic, x2apic) {
	.x2apic = true,
};

FIXTURE_SETUP(lapic)
{
	self->ivm = irq_vm_create(2, IRQCHIP_FULL, variant->x2apic);
	self->cpu = &self->ivm->cpu[0];
	self->other = &self->ivm->cpu[1];
	/* What the PIC sends is another test's matter. */
	cpu_apic_write(self->cpu, APIC_LVT0, APIC_LVT_MASKED);
}

FIXTURE_TEARDOWN(lapic)
{
	irq_vm_free(self->ivm);
}

static void send(struct irq_cpu *from, struct irq_cpu *to, u8 vector)
{
	cpu_send_ipi(from, APIC_INT_ASSERT | vector, to->vcpu->id);
}

static void eoi(struct irq_cpu *cpu)
{
	cpu_apic_write(cpu, APIC_EOI, 0);
}

static void move_state(struct irq_cpu *from, struct irq_cpu *to)
{
	struct kvm_lapic_state state;

	lapic_get(from, &state);
	vcpu_set_msr(to->vcpu, MSR_IA32_APICBASE,
		     vcpu_get_msr(from->vcpu, MSR_IA32_APICBASE));
	lapic_set(to, &state);
	to->x2apic = from->x2apic;
	to->guest->eoi = from->guest->eoi;
}

TEST(reset_values)
{
	struct irq_vm *ivm = irq_vm_create_empty(IRQCHIP_FULL);
	struct kvm_lapic_state state;
	int id, i;

	for (id = 0; id < 2; id++) {
		lapic_get(irq_vm_add_cpu(ivm, id), &state);
		TEST_ASSERT_EQ(state_reg(&state, APIC_ID), (u32)id << 24);
		/* Version 0x14, six LVT entries. */
		TEST_ASSERT_EQ(state_reg(&state, APIC_LVR), 0x50014u);
		TEST_ASSERT_EQ(state_reg(&state, APIC_TASKPRI), 0u);
		TEST_ASSERT_EQ(state_reg(&state, APIC_PROCPRI), 0u);
		TEST_ASSERT_EQ(state_reg(&state, APIC_LDR), 0u);
		TEST_ASSERT_EQ(state_reg(&state, APIC_DFR), APIC_DFR_FLAT);
		TEST_ASSERT_EQ(state_reg(&state, APIC_SPIV), 0xffu);
		TEST_ASSERT_EQ(state_reg(&state, APIC_ESR), 0u);
		TEST_ASSERT_EQ(state_reg(&state, APIC_ICR), 0u);
		TEST_ASSERT_EQ(state_reg(&state, APIC_ICR2), 0u);
		for (i = APIC_LVTT; i <= APIC_LVTERR; i += 0x10) {
			/* The BSP's LINT0 takes the PIC, as firmware wants it. */
			u32 wanted = i == APIC_LVT0 && !id ? APIC_LVT_EXTINT :
							     APIC_LVT_MASKED;

			TEST_ASSERT(state_reg(&state, i) == wanted,
				    "LVT at %#x is %#x", i, state_reg(&state, i));
		}
		TEST_ASSERT_EQ(state_reg(&state, APIC_TMICT), 0u);
		TEST_ASSERT_EQ(state_reg(&state, APIC_TMCCT), 0u);
		TEST_ASSERT_EQ(state_reg(&state, APIC_TDCR), 0u);
		for (i = 0; i < 0x80; i += 0x10) {
			TEST_ASSERT_EQ(state_reg(&state, APIC_ISR + i), 0u);
			TEST_ASSERT_EQ(state_reg(&state, APIC_TMR + i), 0u);
			TEST_ASSERT_EQ(state_reg(&state, APIC_IRR + i), 0u);
		}
	}
	irq_vm_free(ivm);
}

TEST(version_in_split_mode)
{
	struct irq_vm *ivm = irq_vm_create(1, IRQCHIP_SPLIT, false);

	/* Directed EOI is offered where the I/O APIC may have an EOI register. */
	TEST_ASSERT_EQ(cpu_apic_read(&ivm->cpu[0], APIC_LVR), 0x1050014u);
	irq_vm_free(ivm);
}

/* Bits that can be written, found by writing all ones and all zeroes. */
TEST_F(lapic, writable_bits)
{
	struct {
		u32 reg;
		u32 mask;
	} regs[] = {
		{ APIC_TASKPRI, tpr_value(0xff) },
		{ APIC_SPIV, 0x3ff },
		{ APIC_LVTTHMR, LVT_BITS | LVT_MODE_BITS },
		{ APIC_LVTPC, LVT_BITS | LVT_MODE_BITS },
		{ APIC_LVT0, LVT_BITS | LVT_MODE_BITS | LINT_BITS },
		{ APIC_LVT1, LVT_BITS | LVT_MODE_BITS | LINT_BITS },
		{ APIC_LVTERR, LVT_BITS },
		{ APIC_LVTT, LVT_BITS | LVT_TIMER_MODE_BITS },
		{ APIC_TDCR, 0xb },
		{ APIC_TMICT, ~0u },
	};
	int i;

	if (vcpu_cpuid_has(self->cpu->vcpu, X86_FEATURE_TSC_DEADLINE_TIMER))
		regs[7].mask |= LVT_TIMER_DEADLINE_BIT;

	for (i = 0; i < ARRAY_SIZE(regs); i++) {
		u32 reg = regs[i].reg, before = cpu_apic_read(self->cpu, reg), got;
		u32 ones = 0xffffffff;

		/* KVM takes no offence at the other bits, the processor does. */
		if (reg == APIC_TASKPRI && variant->x2apic && processor_has_x2apic_tpr()) {
			TEST_ASSERT_EQ(cpu_wrmsr_safe(self->cpu, X2APIC_MSR(reg), 0x100),
				       GP_VECTOR);
			ones = 0xff;
		}
		cpu_apic_write(self->cpu, reg, ones);
		got = cpu_apic_read(self->cpu, reg);
		TEST_ASSERT(got == regs[i].mask, "%#x: wanted %#x, got %#x",
			    reg, regs[i].mask, got);
		TEST_ASSERT_EQ(lapic_reg(self->cpu, reg), got);
		cpu_apic_write(self->cpu, reg, 0);
		got = cpu_apic_read(self->cpu, reg);
		/* Disabling the APIC by SPIV masks the LVT for good. */
		TEST_ASSERT(got == 0 || got == APIC_LVT_MASKED,
			    "%#x: not zero but %#x", reg, got);
		cpu_apic_write(self->cpu, reg, before);
	}
	cpu_expect_no_irqs(self->cpu);
}

TEST_F(lapic, id_ldr_dfr)
{
	struct irq_cpu *cpu = self->other;

	if (variant->x2apic) {
		TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_ID), 1);
		TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_LDR), BIT(1));
		TEST_ASSERT_EQ(cpu_wrmsr_safe(cpu, X2APIC_MSR(APIC_LDR), 0), GP_VECTOR);
		return;
	}
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_ID), 1 << 24);
	cpu_apic_write(cpu, APIC_ID, 0x07ffffff);
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_ID), 7 << 24);
	cpu_apic_write(cpu, APIC_LDR, 0xffffffff);
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_LDR), 0xff000000u);
	cpu_apic_write(cpu, APIC_DFR, 0);
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_DFR), APIC_DFR_CLUSTER);
	cpu_apic_write(cpu, APIC_DFR, 0xf0000000);
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_DFR), APIC_DFR_FLAT);
}

TEST_F(lapic, icr_read_back)
{
	u32 low = APIC_INT_ASSERT | 0x51;

	cpu_send_ipi(self->cpu, low, 1);
	if (variant->x2apic) {
		TEST_ASSERT_EQ(cpu_apic_read(self->cpu, APIC_ICR), 1ull << 32 | low);
	} else {
		TEST_ASSERT_EQ(cpu_apic_read(self->cpu, APIC_ICR), low);
		TEST_ASSERT_EQ(cpu_apic_read(self->cpu, APIC_ICR2), 1 << 24);
		/* Only bits 31:24 exist. */
		cpu_apic_write(self->cpu, APIC_ICR2, 0xffffffff);
		TEST_ASSERT_EQ(cpu_apic_read(self->cpu, APIC_ICR2), 0xff000000u);
		cpu_apic_write(self->cpu, APIC_ICR2, 1 << 24);
	}
	TEST_ASSERT_EQ(lapic_reg(self->cpu, APIC_ICR), low);
	TEST_ASSERT_EQ(lapic_reg(self->cpu, APIC_ICR2), variant->x2apic ? 1 : 1 << 24);

	/* Delivery is complete when the write is: the busy bit reads zero. */
	cpu_send_ipi(self->cpu, low | APIC_ICR_BUSY, 1);
	TEST_ASSERT_EQ((u32)cpu_apic_read(self->cpu, APIC_ICR), low);
}

TEST_F(lapic, irr_isr_tmr)
{
	struct irq_cpu *cpu = self->cpu;

	cpu->guest->eoi = EOI_NONE;
	send(self->other, cpu, 0x51);
	cpu_expect_no_irqs(cpu);
	TEST_ASSERT(lapic_vector(cpu, APIC_IRR, 0x51), "not in IRR");
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 1);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 0);
	/* The guest sees the same bits. */
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_IRR + 0x20), BIT(0x11));

	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x51);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 0);
	TEST_ASSERT(lapic_vector(cpu, APIC_ISR, 0x51), "not in ISR");
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_ISR + 0x20), BIT(0x11));
	TEST_ASSERT(!lapic_vector(cpu, APIC_TMR, 0x51), "edge sets no TMR bit");

	eoi(cpu);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 0);

	/* The trigger mode is recorded at acceptance, and stays until the next. */
	cpu_send_ipi(self->other, APIC_INT_LEVELTRIG | APIC_INT_ASSERT | 0x51, 0);
	TEST_ASSERT(lapic_vector(cpu, APIC_TMR, 0x51), "level sets the TMR bit");
	cpu_take_irqs(cpu);
	eoi(cpu);
	TEST_ASSERT(lapic_vector(cpu, APIC_TMR, 0x51), "EOI leaves TMR alone");
	send(self->other, cpu, 0x51);
	TEST_ASSERT(!lapic_vector(cpu, APIC_TMR, 0x51), "edge clears the TMR bit");
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x51, 0x51);

	/* Deassertion of a level-triggered message delivers nothing. */
	eoi(cpu);
	cpu_send_ipi(self->other, APIC_INT_LEVELTRIG | 0x52, 0);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 0);
}

/* One in service, one pending: the third of a vector is lost, the second not. */
TEST_F(lapic, one_pending_behind_one_in_service)
{
	struct irq_cpu *cpu = self->cpu;

	cpu->guest->eoi = EOI_NONE;
	send(self->other, cpu, 0x51);
	send(self->other, cpu, 0x51);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x51);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 0);

	send(self->other, cpu, 0x51);
	send(self->other, cpu, 0x51);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 1);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
	eoi(cpu);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x51);
	eoi(cpu);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 0);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
}

TEST_F(lapic, tpr_gates_by_class)
{
	struct irq_cpu *cpu = self->cpu;

	cpu_apic_write(cpu, APIC_TASKPRI, 0x50);
	TEST_ASSERT_EQ(cpu_get_cr8(cpu), 5);
	send(self->other, cpu, 0x41);
	send(self->other, cpu, 0x5f);
	send(self->other, cpu, 0x60);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x60);

	/* The low half of TPR gates nothing. */
	cpu_apic_write(cpu, APIC_TASKPRI, 0x4f);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x5f);

	cpu_set_cr8(cpu, 3);
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_TASKPRI), 0x30);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x41);

	cpu_set_cr8(cpu, 15);
	send(self->other, cpu, 0xff);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
	cpu_set_cr8(cpu, 14);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0xff);
}

static void expect_ppr(struct irq_cpu *cpu, u32 ppr)
{
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_PROCPRI), ppr);
	TEST_ASSERT_EQ(lapic_reg(cpu, APIC_PROCPRI), ppr);
}

TEST_F(lapic, ppr_is_the_higher_of_tpr_and_isr)
{
	struct irq_cpu *cpu = self->cpu;

	cpu->guest->eoi = EOI_NONE;
	expect_ppr(cpu, 0);
	cpu_apic_write(cpu, APIC_TASKPRI, 0x35);
	expect_ppr(cpu, tpr_value(0x35));
	send(self->other, cpu, 0x4b);
	cpu_take_irqs(cpu);
	/* The class of the vector in service, without its low half ... */
	expect_ppr(cpu, 0x40);
	/* ... unless TPR's class is as high: then all of TPR. */
	cpu_apic_write(cpu, APIC_TASKPRI, 0x47);
	expect_ppr(cpu, tpr_value(0x47));
	cpu_apic_write(cpu, APIC_TASKPRI, 0x52);
	expect_ppr(cpu, tpr_value(0x52));
	cpu_apic_write(cpu, APIC_TASKPRI, 0x00);
	expect_ppr(cpu, 0x40);
	eoi(cpu);
	expect_ppr(cpu, 0);
	cpu_expect_log(cpu, 0x4b);
}

TEST_F(lapic, eoi_ends_the_highest_in_service)
{
	struct irq_cpu *cpu = self->cpu;

	cpu->guest->eoi = EOI_NONE;
	send(self->other, cpu, 0x41);
	cpu_take_irqs(cpu);
	send(self->other, cpu, 0x4f);	/* same class: has to wait */
	send(self->other, cpu, 0x61);
	cpu_take_irqs(cpu);
	send(self->other, cpu, 0x81);
	send(self->other, cpu, 0x71);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x41, 0x61, 0x81);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 3);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 2);

	eoi(cpu);
	TEST_ASSERT(!lapic_vector(cpu, APIC_ISR, 0x81), "0x81 still in service");
	expect_ppr(cpu, 0x60);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x71);

	eoi(cpu);
	eoi(cpu);
	expect_ppr(cpu, 0x40);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
	eoi(cpu);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x4f);
	eoi(cpu);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 0);
	/* With nothing in service it does nothing. */
	eoi(cpu);
	expect_ppr(cpu, 0);
}

TEST_F(lapic, all_vectors_in_order)
{
	struct irq_cpu *cpu = self->cpu;
	u8 wanted[224];
	int i, v;

	for (v = 32, i = 0; v < 256; v++, i++) {
		send(self->other, cpu, 32 + (i * 37) % 224);
		wanted[i] = 255 - i;
	}
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 224);
	while (lapic_count(cpu, APIC_IRR))
		TEST_ASSERT(cpu_take_irqs(cpu), "pending but not taken");
	__cpu_expect_log(cpu, wanted, sizeof(wanted), __LINE__);
}

TEST_F(lapic, software_disable)
{
	struct irq_cpu *cpu = self->cpu;
	u32 reg;

	for (reg = APIC_LVTT; reg <= APIC_LVTERR; reg += 0x10)
		cpu_apic_write(cpu, reg, 0x77);
	send(self->other, cpu, 0x51);
	cpu_apic_write(cpu, APIC_SPIV, APIC_SPURIOUS_VECTOR);

	/* What was pending is held, what comes now is refused. */
	TEST_ASSERT(lapic_vector(cpu, APIC_IRR, 0x51), "0x51 lost");
	send(self->other, cpu, 0x61);
	TEST_ASSERT(!lapic_vector(cpu, APIC_IRR, 0x61), "0x61 accepted");

	/* The LVT is masked, and cannot be unmasked. */
	for (reg = APIC_LVTT; reg <= APIC_LVTERR; reg += 0x10) {
		TEST_ASSERT_EQ(cpu_apic_read(cpu, reg), APIC_LVT_MASKED | 0x77);
		cpu_apic_write(cpu, reg, 0x78);
		TEST_ASSERT_EQ(cpu_apic_read(cpu, reg), APIC_LVT_MASKED | 0x78);
	}

	cpu_apic_write(cpu, APIC_SPIV, APIC_SPIV_APIC_ENABLED | 0x3f);
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_SPIV), APIC_SPIV_APIC_ENABLED | 0x3f);
	for (reg = APIC_LVTT; reg <= APIC_LVTERR; reg += 0x10)
		TEST_ASSERT_EQ(cpu_apic_read(cpu, reg), APIC_LVT_MASKED | 0x78);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x51);
}

TEST_F(lapic, esr)
{
	TEST_ASSERT_EQ(cpu_apic_read(self->cpu, APIC_ESR), 0);
	cpu_apic_write(self->cpu, APIC_ESR, 0);
	TEST_ASSERT_EQ(cpu_apic_read(self->cpu, APIC_ESR), 0);
	if (variant->x2apic)
		TEST_ASSERT_EQ(cpu_wrmsr_safe(self->cpu, X2APIC_MSR(APIC_ESR), 1),
			       GP_VECTOR);
	else if (!apicv_is_on())
		cpu_apic_write(self->cpu, APIC_ESR, ~0u);
	/*
	 * With APICv the processor stores what is written before KVM hears of it,
	 * which leaves it there: the register would read as that.
	 */
	TEST_ASSERT_EQ(cpu_apic_read(self->cpu, APIC_ESR), 0);
}

TEST_F(lapic, self_ipi)
{
	struct irq_cpu *cpu = self->cpu;
	u64 unused;

	cpu_apic_write(cpu, APIC_ICR, APIC_DEST_SELF | APIC_INT_ASSERT | 0x51);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x51);

	if (!variant->x2apic) {
		/* No such register. */
		cpu_apic_write(cpu, APIC_SELF_IPI, 0x61);
		TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 0);
		return;
	}
	cpu_apic_write(cpu, APIC_SELF_IPI, 0x61);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x61);
	TEST_ASSERT_EQ(cpu_wrmsr_safe(cpu, X2APIC_MSR(APIC_SELF_IPI), 0x161), GP_VECTOR);
	TEST_ASSERT_EQ(cpu_rdmsr_safe(cpu, X2APIC_MSR(APIC_SELF_IPI), &unused), GP_VECTOR);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 0);
	TEST_ASSERT_EQ(lapic_count(self->other, APIC_IRR), 0);
}

/*
 * Vectors below 16 are errors, and an error may be told by an interrupt, whose
 * vector may be below 16 too.
 */
TEST_F(lapic, illegal_vectors)
{
	struct irq_cpu *cpu = self->cpu;
	u32 vector;

	for (vector = 0; vector < 16; vector++) {
		cpu_apic_write(cpu, APIC_LVTERR, vector);
		send(self->other, cpu, vector);
		cpu_send_ipi(cpu, APIC_INT_ASSERT | APIC_DEST_SELF | vector, 0);
		if (variant->x2apic)
			cpu_apic_write(cpu, APIC_SELF_IPI, vector);
		signal_msi(self->ivm, MSI_ADDR(0), 0, vector);
		cpu_apic_write(cpu, APIC_LVTT, vector);
		cpu_apic_write(cpu, APIC_TMICT, 1);
		cpu_take_irqs(cpu);
		cpu_expect_no_irqs(cpu);
		TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_ESR), 0);
	}
	send(self->other, cpu, 0x51);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x51);
}

TEST_F(lapic, mode_transitions)
{
	struct irq_cpu *cpu = self->cpu;
	u64 base = cpu_rdmsr(cpu, MSR_IA32_APICBASE);
	u64 xapic = (base | MSR_IA32_APICBASE_ENABLE) & ~X2APIC_ENABLE;
	u64 x2apic = xapic | X2APIC_ENABLE;
	u64 disabled = xapic & ~(u64)MSR_IA32_APICBASE_ENABLE;

	TEST_ASSERT_EQ(base, variant->x2apic ? x2apic : xapic);
	TEST_ASSERT_EQ(cpu_wrmsr_safe(cpu, MSR_IA32_APICBASE, base | 1), GP_VECTOR);
	TEST_ASSERT_EQ(cpu_wrmsr_safe(cpu, MSR_IA32_APICBASE, base | BIT(9)), GP_VECTOR);
	TEST_ASSERT_EQ(cpu_wrmsr_safe(cpu, MSR_IA32_APICBASE, disabled | X2APIC_ENABLE),
		       GP_VECTOR);
	TEST_ASSERT_EQ(cpu_wrmsr_safe(cpu, MSR_IA32_APICBASE, base | 1ull << 63),
		       GP_VECTOR);

	if (variant->x2apic) {
		TEST_ASSERT_EQ(cpu_wrmsr_safe(cpu, MSR_IA32_APICBASE, xapic), GP_VECTOR);
		cpu_wrmsr(cpu, MSR_IA32_APICBASE, disabled);
	} else {
		cpu_wrmsr(cpu, MSR_IA32_APICBASE, x2apic);
		cpu_wrmsr(cpu, MSR_IA32_APICBASE, disabled);
	}
	TEST_ASSERT_EQ(cpu_wrmsr_safe(cpu, MSR_IA32_APICBASE, x2apic), GP_VECTOR);
	TEST_ASSERT_EQ(cpu_rdmsr(cpu, MSR_IA32_APICBASE), disabled);

	/* Disabled, it takes no interrupt and answers no MSR. */
	send(self->other, cpu, 0x51);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 0);
	TEST_ASSERT_EQ(cpu_wrmsr_safe(cpu, X2APIC_MSR(APIC_TASKPRI), 0), GP_VECTOR);

	cpu_wrmsr(cpu, MSR_IA32_APICBASE, xapic);
	TEST_ASSERT_EQ(cpu_wrmsr_safe(cpu, X2APIC_MSR(APIC_TASKPRI), 0), GP_VECTOR);
	TEST_ASSERT_EQ(cpu_mmio_read(cpu, APIC_DEFAULT_GPA + APIC_ID, 4), 0);
	cpu_wrmsr(cpu, MSR_IA32_APICBASE, x2apic);
	TEST_ASSERT_EQ(cpu_rdmsr(cpu, X2APIC_MSR(APIC_LDR)), 1);
	/*
	 * In x2APIC mode the page reads as all ones, and takes no writes.  With
	 * APICv it is the memory that KVM has put there for xAPIC mode.
	 */
	if (!apicv_is_on())
		TEST_ASSERT_EQ(cpu_mmio_read(cpu, APIC_DEFAULT_GPA + APIC_LVR, 4), ~0u);
	cpu_mmio_write(cpu, APIC_DEFAULT_GPA + APIC_TASKPRI, 4, 0x70);
	TEST_ASSERT_EQ(cpu_rdmsr(cpu, X2APIC_MSR(APIC_TASKPRI)), 0);
}

TEST_F(lapic, state_round_trip)
{
	struct irq_vm *ivm2 = irq_vm_create(2, IRQCHIP_FULL, false);
	struct irq_cpu *from = self->cpu, *to = &ivm2->cpu[0];
	struct kvm_lapic_state saved, got;
	u32 reg;

	from->guest->eoi = EOI_NONE;
	send(self->other, from, 0x31);
	cpu_take_irqs(from);
	cpu_send_ipi(self->other, APIC_INT_LEVELTRIG | APIC_INT_ASSERT | 0x91, 0);
	cpu_take_irqs(from);
	send(self->other, from, 0x32);
	send(self->other, from, 0xa1);
	send(self->other, from, 0xf7);
	cpu_apic_write(from, APIC_TASKPRI, 0xc3);
	cpu_apic_write(from, APIC_LVTTHMR, 0x33);
	cpu_apic_write(from, APIC_LVT1, 0x400);
	cpu_apic_write(from, APIC_LVTERR, 0xfe);
	cpu_apic_write(from, APIC_TDCR, 0xb);
	cpu_send_ipi(from, APIC_INT_ASSERT | 0x55, 1);
	if (!variant->x2apic) {
		cpu_apic_write(from, APIC_LDR, 0x04000000);
		cpu_apic_write(from, APIC_DFR, 0);
	}

	lapic_get(from, &saved);
	move_state(from, to);
	lapic_get(to, &got);
	for (reg = 0; reg < 0x400; reg += 0x10) {
		/* KVM saves what it was when it last looked. */
		if (reg == APIC_PROCPRI && !ferric_is_loaded())
			continue;
		TEST_ASSERT(state_reg(&saved, reg) == state_reg(&got, reg),
			    "%#x: saved %#x, restored %#x", reg,
			    state_reg(&saved, reg), state_reg(&got, reg));
	}

	/* And it goes on where it was. */
	cpu_take_irqs(to);
	cpu_expect_log(to, 0xf7);
	cpu_apic_write(to, APIC_TASKPRI, 0);
	eoi(to);
	cpu_take_irqs(to);
	cpu_expect_log(to, 0xa1);
	eoi(to);
	eoi(to);
	TEST_ASSERT(!lapic_vector(to, APIC_ISR, 0x91), "0x91 still in service");
	cpu_take_irqs(to);
	cpu_expect_no_irqs(to);
	eoi(to);
	cpu_take_irqs(to);
	cpu_expect_log(to, 0x32);
	irq_vm_free(ivm2);
}

TEST_F(lapic, restored_interrupt_wakes_from_halt)
{
	struct irq_vm *ivm2 = irq_vm_create(2, IRQCHIP_FULL, false);

	send(self->other, self->cpu, 0x51);
	move_state(self->cpu, &ivm2->cpu[0]);
	cpu_halt(&ivm2->cpu[0]);
	cpu_expect_log(&ivm2->cpu[0], 0x51);
	irq_vm_free(ivm2);
}

/* A state without an interrupt takes away the one that was pending. */
TEST_F(lapic, restored_state_replaces_pending)
{
	struct kvm_lapic_state state;

	lapic_get(self->cpu, &state);
	send(self->other, self->cpu, 0x51);
	lapic_set(self->cpu, &state);
	cpu_take_irqs(self->cpu);
	cpu_expect_no_irqs(self->cpu);

	/* The hidden copies of the highest bits must follow, too. */
	self->cpu->guest->eoi = EOI_NONE;
	send(self->other, self->cpu, 0x51);
	cpu_take_irqs(self->cpu);
	cpu_expect_log(self->cpu, 0x51);
	lapic_set(self->cpu, &state);
	send(self->other, self->cpu, 0x41);
	cpu_take_irqs(self->cpu);
	cpu_expect_log(self->cpu, 0x41);
	eoi(self->cpu);
	TEST_ASSERT_EQ(lapic_count(self->cpu, APIC_ISR), 0);
}

TEST(cmci_entry)
{
	struct irq_vm *ivm = irq_vm_create_empty(IRQCHIP_FULL);
	struct irq_cpu *cpu = irq_vm_add_cpu(ivm, 0);
	u64 supported = 0, mcg_cap, val;

	kvm_ioctl(ivm->vm->kvm_fd, KVM_X86_GET_MCE_CAP_SUPPORTED, &supported);
	if (!(supported & BIT(10))) {
		irq_vm_free(ivm);
		SKIP(return, "this KVM does not offer CMCI");
	}
	/* Without a bank there is no machine check to set up. */
	mcg_cap = supported | 1;
	vcpu_ioctl(cpu->vcpu, KVM_X86_SETUP_MCE, &mcg_cap);
	cpu_enable_apic(cpu, true);
	TEST_ASSERT_EQ(cpu_apic_read(cpu, APIC_LVR), 0x60014);
	TEST_ASSERT_EQ(cpu_rdmsr_safe(cpu, X2APIC_MSR(APIC_LVTCMCI), &val), 0);
	TEST_ASSERT_EQ(val, APIC_LVT_MASKED);
	irq_vm_free(ivm);
}

TEST_HARNESS_MAIN
