// SPDX-License-Identifier: GPL-2.0
/*
 * VMs that lack a chip, whole or in part: without any irqchip, where user space
 * has the local APICs too, and with the split one, which has no I/O APIC.
 * Whatever a guest or user space does there is an error, nothing, or user
 * space's business; no path may take it for granted that the chip is there.
 */
#include "hyperv.h"
#include "irq_ioctl.h"
#include "harness.h"

#define VECTOR			0x51
#define HV_STATUS_INVALID_INPUT	3
#define HV_GENERIC_SET_ALL	1
#define PV_EOI_ENABLED		1

static struct irq_cpu *one_cpu(enum irqchip_mode mode)
{
	struct irq_vm *ivm = irq_vm_create_empty(mode);
	struct irq_cpu *cpu = irq_vm_add_cpu(ivm, 0);

	/* For what only Hyper-V's guests have; the others do not mind. */
	vcpu_set_hv_cpuid(cpu->vcpu);
	return cpu;
}

/* HLT is user space's, which has to know what the vCPU waits for. */
static void expect_hlt_exit(struct irq_cpu *cpu)
{
	vcpu_run(cpu->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(cpu->vcpu, KVM_EXIT_HLT);
}

static u64 guest_halt_twice(u64 a, u64 b, u64 c)
{
	asm volatile("sti; hlt; hlt; cli" : : : "memory");
	return 0;
}

TEST(halts_and_is_interrupted_by_user_space)
{
	struct irq_cpu *cpu = one_cpu(IRQCHIP_NONE);
	struct kvm_interrupt irq = { .irq = VECTOR };

	cpu_begin_call(cpu, guest_halt_twice, 0, 0, 0);
	expect_hlt_exit(cpu);
	TEST_ASSERT_EQ(cpu_mp_state(cpu), KVM_MP_STATE_RUNNABLE);
	vcpu_ioctl(cpu->vcpu, KVM_INTERRUPT, &irq);
	expect_hlt_exit(cpu);
	vcpu_ioctl(cpu->vcpu, KVM_NMI, NULL);
	cpu_end_call(cpu);
	cpu_expect_log(cpu, VECTOR, NMI_VECTOR);
	irq_vm_free(cpu->ivm);
}

/*
 * CR8 is a register in kvm_run that user space's APIC looks at.  It is not the
 * real TPR, or interrupts of the host would wait for the guest.
 */
static u64 guest_spin_at_high_tpr(u64 cycles, u64 b, u64 c)
{
	u64 start = rdtsc();

	set_cr8(15);
	while (rdtsc() - start < cycles)
		cpu_relax();
	return get_cr8();
}

/* Only then may user space interrupt: Intel's CPUs refuse it otherwise. */
static u64 guest_pause_with_interrupts_on(u64 a, u64 b, u64 c)
{
	sti();
	asm volatile("nop");
	guest_pause();
	cli();
	return 0;
}

TEST(tpr_is_user_spaces)
{
	struct irq_cpu *cpu = one_cpu(IRQCHIP_NONE);
	struct kvm_run *run = cpu->vcpu->run;
	struct kvm_interrupt irq = { .irq = VECTOR };

	TEST_ASSERT_EQ(cpu_call(cpu, guest_spin_at_high_tpr,
				(u64)guest_tsc_khz * 100, 0, 0), 15);
	TEST_ASSERT_EQ(run->cr8, 15);
	TEST_ASSERT_EQ(cpu->nr_set_tpr, 0);

	/* User space is told when it falls, and may have changed it. */
	cpu_set_cr8(cpu, 3);
	TEST_ASSERT_EQ(run->cr8, 3);
	TEST_ASSERT_EQ(cpu->nr_set_tpr, 1);
	run->cr8 = 9;
	TEST_ASSERT_EQ(cpu_get_cr8(cpu), 9);

	/* Nobody but user space compares it with a vector. */
	cpu_set_cr8(cpu, 15);
	cpu_begin_call(cpu, guest_pause_with_interrupts_on, 0, 0, 0);
	cpu_end_call(cpu);
	vcpu_ioctl(cpu->vcpu, KVM_INTERRUPT, &irq);
	cpu_end_call(cpu);
	cpu_expect_log(cpu, VECTOR);
	irq_vm_free(cpu->ivm);
}

TEST(registers_are_not_there)
{
	struct irq_cpu *cpu = one_cpu(IRQCHIP_NONE);
	u64 val;
	u32 i;

	cpu_mmio_read(cpu, APIC_DEFAULT_GPA + APIC_ID, 4);
	cpu_mmio_write(cpu, APIC_DEFAULT_GPA + APIC_TASKPRI, 4, 0x20);
	cpu_mmio_read(cpu, IOAPIC_GPA, 4);
	TEST_ASSERT_EQ(cpu->nr_mmio, 3);
	TEST_ASSERT_EQ(cpu_inb(cpu, 0x21), 0xff);
	TEST_ASSERT_EQ(cpu->nr_pio, 1);

	/* In any mode: the base is a number that user space keeps here. */
	for (i = 0; i < 0x100; i++) {
		TEST_ASSERT(cpu_rdmsr_safe(cpu, APIC_BASE_MSR + i, &val) == GP_VECTOR,
			    "RDMSR %#x", APIC_BASE_MSR + i);
		TEST_ASSERT(cpu_wrmsr_safe(cpu, APIC_BASE_MSR + i, 0) == GP_VECTOR,
			    "WRMSR %#x", APIC_BASE_MSR + i);
	}
	irq_vm_free(cpu->ivm);
}

/* MSRs whose meaning is a local APIC's: whatever is written, by whomever. */
static void write_msrs_of_apics(struct irq_cpu *cpu)
{
	static const u64 values[] = { 0, 1, VECTOR, 0x10001, ~0ull };
	static const u32 msrs[] = {
		MSR_TSC_DEADLINE, MSR_KVM_PV_EOI_EN,
		HV_X64_MSR_EOI, HV_X64_MSR_ICR, HV_X64_MSR_TPR,
		HV_X64_MSR_VP_ASSIST_PAGE,
		HV_X64_MSR_SCONTROL, HV_X64_MSR_SIEFP, HV_X64_MSR_SIMP,
		HV_X64_MSR_EOM, HV_X64_MSR_SINT0, HV_X64_MSR_SINT15,
		HV_X64_MSR_STIMER0_CONFIG, HV_X64_MSR_STIMER0_COUNT,
	};
	u64 val;
	int i, j;

	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		for (j = 0; j < ARRAY_SIZE(values); j++) {
			cpu_wrmsr_safe(cpu, msrs[i], values[j]);
			cpu_rdmsr_safe(cpu, msrs[i], &val);
			_vcpu_set_msr(cpu->vcpu, msrs[i], values[j]);
			cpu_take_irqs(cpu);
		}
		_vcpu_set_msr(cpu->vcpu, msrs[i], 0);
	}
}

TEST(msrs_of_apics)
{
	struct irq_cpu *cpu = one_cpu(IRQCHIP_NONE);

	write_msrs_of_apics(cpu);
	cpu_expect_no_irqs(cpu);
	irq_vm_free(cpu->ivm);
}

/*
 * Hyper-V's interrupt controller is part of a local APIC, and a vector that is
 * written to it makes KVM look for all sources of EOIs, the I/O APIC's too.
 */
TEST(synic_without_an_ioapic)
{
	struct irq_cpu *cpu = one_cpu(IRQCHIP_NONE);
	struct kvm_enable_cap cap = { .cap = KVM_CAP_HYPERV_SYNIC2 };
	int sint;

	expect_errno(EINVAL, __vcpu_ioctl(cpu->vcpu, KVM_ENABLE_CAP, &cap));
	irq_vm_free(cpu->ivm);

	cpu = one_cpu(IRQCHIP_SPLIT);
	vcpu_enable_cap(cpu->vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
	cpu_enable_apic(cpu, true);
	for (sint = 0; sint < 16; sint++) {
		cpu_wrmsr(cpu, HV_X64_MSR_SINT0 + sint, VECTOR + sint);
		TEST_ASSERT_EQ(cpu_rdmsr(cpu, HV_X64_MSR_SINT0 + sint), VECTOR + sint);
	}
	/* The local APIC is as it was. */
	cpu_send_ipi(cpu, APIC_INT_ASSERT | APIC_DEST_SELF | VECTOR, 0);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, VECTOR);
	write_msrs_of_apics(cpu);
	irq_vm_free(cpu->ivm);
}

static u64 guest_hv_start(u64 page_gpa, u64 b, u64 c)
{
	wrmsr(HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
	wrmsr(HV_X64_MSR_HYPERCALL, page_gpa);
	return 0;
}

static u64 guest_hv_call(u64 control, u64 input, u64 output)
{
	u64 status;
	u8 vector = __hyperv_hypercall(control, input, output, &status);

	return vector ? ~0ull : status;
}

TEST(hyperv_ipi)
{
	struct irq_cpu *cpu = one_cpu(IRQCHIP_NONE);
	gva_t gva = vm_alloc_pages(cpu->ivm->vm, 2);
	u32 *input = addr_gva2hva(cpu->ivm->vm, gva);
	gpa_t gpa = addr_gva2gpa(cpu->ivm->vm, gva);

	cpu_call(cpu, guest_hv_start, gpa, 0, 0);
	memset(input, 0, PAGE_SIZE);
	input[0] = VECTOR;
	input[2] = 1;
	/* From memory and from registers, to a mask and to all. */
	TEST_ASSERT_EQ(cpu_call(cpu, guest_hv_call, HVCALL_SEND_IPI, gpa, 0),
		       HV_STATUS_INVALID_INPUT);
	TEST_ASSERT_EQ(cpu_call(cpu, guest_hv_call,
				HVCALL_SEND_IPI | HV_HYPERCALL_FAST_BIT, VECTOR, 1),
		       HV_STATUS_INVALID_INPUT);
	input[2] = HV_GENERIC_SET_ALL;
	TEST_ASSERT_EQ(cpu_call(cpu, guest_hv_call, HVCALL_SEND_IPI_EX, gpa, 0),
		       HV_STATUS_INVALID_INPUT);
	irq_vm_free(cpu->ivm);
}

static u64 guest_kvm_call(u64 nr, u64 a0, u64 a3)
{
	return kvm_hypercall(nr, a0, ~0ull, 0, a3);
}

TEST(kvm_hypercalls)
{
	struct irq_cpu *cpu = one_cpu(IRQCHIP_NONE);

	TEST_ASSERT_EQ((s64)cpu_call(cpu, guest_kvm_call, KVM_HC_SEND_IPI, 1, VECTOR),
		       -KVM_EOPNOTSUPP);
	/* To an APIC ID that nobody has. */
	TEST_ASSERT_EQ(cpu_call(cpu, guest_kvm_call, KVM_HC_KICK_CPU, 0, 0), 0);
	TEST_ASSERT_EQ(cpu_call(cpu, guest_kvm_call, KVM_HC_SCHED_YIELD, 0, 0), 0);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
	irq_vm_free(cpu->ivm);
}

/* Events of a vCPU that an APIC would bring, stuffed by user space. */
TEST(events)
{
	struct irq_cpu *cpu = one_cpu(IRQCHIP_NONE);
	struct kvm_vcpu_events events;

	vcpu_events_get(cpu->vcpu, &events);
	events.flags = KVM_VCPUEVENT_VALID_SIPI_VECTOR | KVM_VCPUEVENT_VALID_NMI_PENDING;
	events.sipi_vector = 1;
	events.nmi.pending = 1;
	vcpu_events_set(cpu->vcpu, &events);
	cpu_rdtsc(cpu);
	cpu_expect_log(cpu, NMI_VECTOR);
	vcpu_events_get(cpu->vcpu, &events);
	TEST_ASSERT_EQ(events.sipi_vector, 0);
	TEST_ASSERT_EQ(cpu_mp_state(cpu), KVM_MP_STATE_RUNNABLE);
	irq_vm_free(cpu->ivm);
}

TEST(messages)
{
	struct irq_cpu *cpu = one_cpu(IRQCHIP_NONE);
	struct kvm_irq_routing *r = routing_create();
	int fd = kvm_new_eventfd();
	u32 mode;

	for (mode = 0; mode < 8; mode++)
		TEST_ASSERT_EQ(signal_msi(cpu->ivm, MSI_ADDR(0xff), 0,
					  MSI_DATA_DM(mode) | VECTOR), -EINVAL);
	TEST_ASSERT_EQ(irqfd_assign(cpu->ivm, fd, 0, -1), -EINVAL);
	routing_add_msi(r, 0, MSI_ADDR(0), 0, VECTOR);
	expect_errno(EINVAL, __vm_ioctl(cpu->ivm->vm, KVM_SET_GSI_ROUTING, r));
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
	irq_vm_free(cpu->ivm);
	free(r);
	close(fd);
}

TEST_HARNESS_MAIN
