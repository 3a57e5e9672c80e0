// SPDX-License-Identifier: GPL-2.0
/*
 * Every ioctl of a vCPU that has to do with its local APIC, in the wrong order
 * and with wrong values: errnos as for the ioctls of a VM, irqchip_ioctls.c.
 */
#include "apicv.h"
#include "irq_ioctl.h"
#include "provider.h"
#include "harness.h"

TEST(lapic_without_irqchip)
{
	struct kvm_vm *vm = vm_with(IRQCHIP_NONE);
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, 0);
	struct kvm_vapic_addr va = { .vapic_addr = 0x1000 };
	struct kvm_lapic_state state = {};
	struct kvm_mp_state mp = {};

	expect_errno(EINVAL, __vcpu_ioctl(vcpu, KVM_GET_LAPIC, &state));
	expect_errno(EINVAL, __vcpu_ioctl(vcpu, KVM_SET_LAPIC, &state));
	expect_errno(EINVAL, __vcpu_ioctl(vcpu, KVM_SET_VAPIC_ADDR, &va));
	mp.mp_state = KVM_MP_STATE_RUNNABLE;
	expect_ok(__vcpu_ioctl(vcpu, KVM_SET_MP_STATE, &mp));
	for (mp.mp_state = KVM_MP_STATE_UNINITIALIZED;
	     mp.mp_state <= KVM_MP_STATE_SIPI_RECEIVED; mp.mp_state++)
		expect_errno(EINVAL, __vcpu_ioctl(vcpu, KVM_SET_MP_STATE, &mp));
	kvm_vm_free(vm);
}

TEST(mp_state)
{
	struct kvm_vm *vm = vm_with(IRQCHIP_FULL);
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, 0);
	struct kvm_vcpu *ap = __vm_vcpu_add(vm, 1);
	struct kvm_mp_state mp = {};

	vcpu_mp_state_get(vcpu, &mp);
	TEST_ASSERT_EQ(mp.mp_state, KVM_MP_STATE_RUNNABLE);
	vcpu_mp_state_get(ap, &mp);
	TEST_ASSERT_EQ(mp.mp_state, KVM_MP_STATE_UNINITIALIZED);

	for (mp.mp_state = KVM_MP_STATE_RUNNABLE;
	     mp.mp_state <= KVM_MP_STATE_HALTED; mp.mp_state++) {
		struct kvm_mp_state got;

		expect_ok(__vcpu_ioctl(ap, KVM_SET_MP_STATE, &mp));
		vcpu_mp_state_get(ap, &got);
		TEST_ASSERT_EQ(got.mp_state, mp.mp_state);
	}
	mp.mp_state = KVM_MP_STATE_STOPPED;
	expect_errno(EINVAL, __vcpu_ioctl(ap, KVM_SET_MP_STATE, &mp));
	mp.mp_state = ~0u;
	expect_errno(EINVAL, __vcpu_ioctl(ap, KVM_SET_MP_STATE, &mp));
	expect_errno(EFAULT, ioctl(ap->fd, KVM_SET_MP_STATE, NOWHERE));
	/* The old name of "INIT received, then SIPI pending": it runs now. */
	mp.mp_state = KVM_MP_STATE_SIPI_RECEIVED;
	expect_ok(__vcpu_ioctl(ap, KVM_SET_MP_STATE, &mp));
	vcpu_mp_state_get(ap, &mp);
	TEST_ASSERT_EQ(mp.mp_state, KVM_MP_STATE_RUNNABLE);
	kvm_vm_free(vm);
}

TEST(lapic_state)
{
	struct kvm_vm *vm = vm_with(IRQCHIP_FULL);
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, 5);
	struct kvm_lapic_state state;

	vcpu_ioctl(vcpu, KVM_GET_LAPIC, &state);
	TEST_ASSERT_EQ(state_reg(&state, APIC_ID), 5u << 24);
	expect_ok(__vcpu_ioctl(vcpu, KVM_SET_LAPIC, &state));
	expect_errno(EFAULT, ioctl(vcpu->fd, KVM_GET_LAPIC, NOWHERE));
	expect_errno(EFAULT, ioctl(vcpu->fd, KVM_SET_LAPIC, NOWHERE));

	/* What no register can hold is taken as it is, and nothing breaks. */
	memset(&state, 0xff, sizeof(state));
	expect_ok(__vcpu_ioctl(vcpu, KVM_SET_LAPIC, &state));
	expect_ok(__vcpu_ioctl(vcpu, KVM_GET_LAPIC, &state));
	memset(&state, 0, sizeof(state));
	expect_ok(__vcpu_ioctl(vcpu, KVM_SET_LAPIC, &state));
	kvm_vm_free(vm);
}

TEST(lapic_state_x2apic_id)
{
	struct kvm_vm *vm = vm_with(IRQCHIP_FULL);
	struct kvm_lapic_state state;
	struct kvm_vcpu *vcpu;
	u64 base;

	vcpu = __vm_vcpu_add(vm, 5);
	vcpu_init_cpuid(vcpu, kvm_get_supported_cpuid());
	base = vcpu_get_msr(vcpu, MSR_IA32_APICBASE);
	vcpu_set_msr(vcpu, MSR_IA32_APICBASE, base | X2APIC_ENABLE);

	/* Short format: the ID sits in bits 31:24, and what is set is ignored. */
	vcpu_ioctl(vcpu, KVM_GET_LAPIC, &state);
	TEST_ASSERT_EQ(state_reg(&state, APIC_ID), 5u << 24);
	state_set_reg(&state, APIC_ID, 77);
	expect_ok(__vcpu_ioctl(vcpu, KVM_SET_LAPIC, &state));
	vcpu_ioctl(vcpu, KVM_GET_LAPIC, &state);
	TEST_ASSERT_EQ(state_reg(&state, APIC_ID), 5u << 24);

	/* 32-bit format: it must be the vCPU's. */
	vm_enable_cap(vm, KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS);
	vcpu_ioctl(vcpu, KVM_GET_LAPIC, &state);
	TEST_ASSERT_EQ(state_reg(&state, APIC_ID), 5);
	expect_ok(__vcpu_ioctl(vcpu, KVM_SET_LAPIC, &state));
	state_set_reg(&state, APIC_ID, 6);
	expect_errno(EINVAL, __vcpu_ioctl(vcpu, KVM_SET_LAPIC, &state));
	state_set_reg(&state, APIC_ID, 5u << 24);
	expect_errno(EINVAL, __vcpu_ioctl(vcpu, KVM_SET_LAPIC, &state));
	kvm_vm_free(vm);
}

TEST(vapic_and_tpr_reporting)
{
	struct irq_vm *ivm = irq_vm_create(1, IRQCHIP_FULL, false);
	struct kvm_vcpu *vcpu = ivm->cpu[0].vcpu;
	struct kvm_tpr_access_ctl tac = { .enabled = 1, .flags = 1 };
	struct kvm_vapic_addr va = {};
	/* KVM hears of no access to a processor's TPR. */
	const u32 reported = apicv_is_on() ? 0 : 2;

	expect_errno(EINVAL, __vcpu_ioctl(vcpu, KVM_TPR_ACCESS_REPORTING, &tac));
	expect_errno(EFAULT, ioctl(vcpu->fd, KVM_TPR_ACCESS_REPORTING, NOWHERE));
	tac.flags = 0;
	expect_ok(__vcpu_ioctl(vcpu, KVM_TPR_ACCESS_REPORTING, &tac));
	cpu_apic_write(&ivm->cpu[0], APIC_TASKPRI, 0x20);
	TEST_ASSERT_EQ(cpu_apic_read(&ivm->cpu[0], APIC_TASKPRI), 0x20);
	TEST_ASSERT_EQ(ivm->cpu[0].nr_tpr_access, reported);
	tac.enabled = 0;
	expect_ok(__vcpu_ioctl(vcpu, KVM_TPR_ACCESS_REPORTING, &tac));
	cpu_apic_write(&ivm->cpu[0], APIC_TASKPRI, 0);
	TEST_ASSERT_EQ(ivm->cpu[0].nr_tpr_access, reported);

	va.vapic_addr = 1ull << 40;	/* beyond the VM's memory */
	expect_errno(EINVAL, __vcpu_ioctl(vcpu, KVM_SET_VAPIC_ADDR, &va));
	va.vapic_addr = ~0ull - 1;
	expect_errno(EINVAL, __vcpu_ioctl(vcpu, KVM_SET_VAPIC_ADDR, &va));
	expect_errno(EFAULT, ioctl(vcpu->fd, KVM_SET_VAPIC_ADDR, NOWHERE));
	/* Four bytes across a page boundary: odd, allowed, and harmless. */
	va.vapic_addr = 0xffe;
	expect_ok(__vcpu_ioctl(vcpu, KVM_SET_VAPIC_ADDR, &va));
	cpu_take_irqs(&ivm->cpu[0]);
	va.vapic_addr = 0;
	expect_ok(__vcpu_ioctl(vcpu, KVM_SET_VAPIC_ADDR, &va));
	cpu_take_irqs(&ivm->cpu[0]);
	irq_vm_free(ivm);
}

/* The VAPIC word may begin at the end of a page, and end in the next. */
TEST(vapic_across_two_pages)
{
	struct irq_vm *ivm = irq_vm_create(1, IRQCHIP_FULL, false);
	struct irq_cpu *cpu = &ivm->cpu[0];
	gva_t gva = vm_alloc_pages(ivm->vm, 2);
	u8 *pages = addr_gva2hva(ivm->vm, gva);
	struct kvm_vapic_addr va = {};
	u32 first, i;

	cpu->guest->eoi = EOI_NONE;
	for (first = PAGE_SIZE - 4; first <= PAGE_SIZE; first++) {
		memset(pages, 0xa5, 2 * PAGE_SIZE);
		memset(pages + first, 0, 4);
		va.vapic_addr = addr_gva2gpa(ivm->vm, gva) + first;
		expect_ok(__vcpu_ioctl(cpu->vcpu, KVM_SET_VAPIC_ADDR, &va));
		/* The guest's half of it is TPR ... */
		pages[first] = 0x30;
		cpu_rdtsc(cpu);
		TEST_ASSERT_EQ(lapic_reg(cpu, APIC_TASKPRI), 0x30);
		/* ... KVM's what is in service and what waits. */
		signal_msi(ivm, MSI_ADDR(0), 0, 0x71);
		cpu_take_irqs(cpu);
		signal_msi(ivm, MSI_ADDR(0), 0, 0x45);
		cpu_rdtsc(cpu);
		/* It writes them at the vCPU's events. */
		cpu_make_event(cpu);
		cpu_rdtsc(cpu);
		TEST_ASSERT(pages[first] == 0x30 && pages[first + 1] == 0x70 &&
			    !pages[first + 2] && pages[first + 3] == 0x45,
			    "at %#x: %02x %02x %02x %02x", first, pages[first],
			    pages[first + 1], pages[first + 2], pages[first + 3]);
		for (i = 0; i < 2 * PAGE_SIZE; i++)
			TEST_ASSERT((i >= first && i < first + 4) || pages[i] == 0xa5,
				    "at %#x: byte %#x has changed", first, i);
		cpu_apic_write(cpu, APIC_EOI, 0);
		cpu_take_irqs(cpu);
		cpu_apic_write(cpu, APIC_EOI, 0);
		cpu_expect_log(cpu, 0x71, 0x45);
	}
	irq_vm_free(ivm);
}

TEST(interrupt)
{
	struct kvm_interrupt irq = { .irq = 0x40 };
	struct kvm_interrupt bad = { .irq = 256 };
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_with(IRQCHIP_FULL);
	vcpu = __vm_vcpu_add(vm, 0);
	expect_errno(ENXIO, __vcpu_ioctl(vcpu, KVM_INTERRUPT, &irq));
	expect_errno(EINVAL, __vcpu_ioctl(vcpu, KVM_INTERRUPT, &bad));
	expect_errno(EFAULT, ioctl(vcpu->fd, KVM_INTERRUPT, NOWHERE));
	kvm_vm_free(vm);

	vm = vm_with(IRQCHIP_SPLIT);
	vcpu = __vm_vcpu_add(vm, 0);
	expect_errno(EINVAL, __vcpu_ioctl(vcpu, KVM_INTERRUPT, &bad));
	expect_ok(__vcpu_ioctl(vcpu, KVM_INTERRUPT, &irq));
	expect_errno(EEXIST, __vcpu_ioctl(vcpu, KVM_INTERRUPT, &irq));
	kvm_vm_free(vm);

	vm = vm_with(IRQCHIP_NONE);
	vcpu = __vm_vcpu_add(vm, 0);
	expect_errno(EINVAL, __vcpu_ioctl(vcpu, KVM_INTERRUPT, &bad));
	expect_ok(__vcpu_ioctl(vcpu, KVM_INTERRUPT, &irq));
	kvm_vm_free(vm);
}

TEST(apic_base_msr)
{
	struct kvm_vm *vm = vm_with(IRQCHIP_FULL);
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, 0);
	u64 base;

	vcpu_init_cpuid(vcpu, kvm_get_supported_cpuid());
	base = vcpu_get_msr(vcpu, MSR_IA32_APICBASE);
	TEST_ASSERT_EQ(base, APIC_DEFAULT_GPA | MSR_IA32_APICBASE_ENABLE |
			     MSR_IA32_APICBASE_BSP);

	/* KVM_SET_MSRS returns how many were set. */
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, MSR_IA32_APICBASE, base | 1), 0);
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, MSR_IA32_APICBASE, base | BIT(9)), 0);
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, MSR_IA32_APICBASE, base | 1ull << 63), 0);
	/* x2APIC without enable is no mode. */
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, MSR_IA32_APICBASE,
				     APIC_DEFAULT_GPA | X2APIC_ENABLE), 0);
	TEST_ASSERT_EQ(vcpu_get_msr(vcpu, MSR_IA32_APICBASE), base);

	/* User space may go where a guest may not: x2APIC to xAPIC and back. */
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, MSR_IA32_APICBASE, base | X2APIC_ENABLE), 1);
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, MSR_IA32_APICBASE, base), 1);
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, MSR_IA32_APICBASE, APIC_DEFAULT_GPA), 1);
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, MSR_IA32_APICBASE, base | X2APIC_ENABLE), 1);
	TEST_ASSERT_EQ(vcpu_get_msr(vcpu, MSR_IA32_APICBASE), base | X2APIC_ENABLE);

	/* Without x2APIC in CPUID its bit is reserved. */
	vcpu_set_msr(vcpu, MSR_IA32_APICBASE, base);
	vcpu_clear_cpuid_feature(vcpu, X86_FEATURE_X2APIC);
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, MSR_IA32_APICBASE, base | X2APIC_ENABLE), 0);
	kvm_vm_free(vm);
}

TEST(x2apic_msrs_by_ioctl)
{
	struct kvm_vm *vm = vm_with(IRQCHIP_FULL);
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, 0);
	const u32 tpr = APIC_BASE_MSR + (APIC_TASKPRI >> 4);
	u64 base;

	vcpu_init_cpuid(vcpu, kvm_get_supported_cpuid());
	base = vcpu_get_msr(vcpu, MSR_IA32_APICBASE);
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, tpr, 0x10), 0);
	vcpu_set_msr(vcpu, MSR_IA32_APICBASE, base | X2APIC_ENABLE);
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, tpr, 0x10), 1);
	TEST_ASSERT_EQ(vcpu_get_msr(vcpu, tpr), 0x10);
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, tpr, 1ull << 32), 0);
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, APIC_BASE_MSR, 0), 0);
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, APIC_BASE_MSR + (APIC_ID >> 4), 0), 0);
	kvm_vm_free(vm);
}

TEST(tsc_deadline_msr)
{
	struct kvm_vm *vm = vm_with(IRQCHIP_FULL);
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, 0);
	struct kvm_lapic_state state;

	vcpu_init_cpuid(vcpu, kvm_get_supported_cpuid());
	vcpu_set_cpuid_feature(vcpu, X86_FEATURE_TSC_DEADLINE_TIMER);
	/*
	 * In another timer mode KVM drops it, without an error.  ferric waits
	 * for the mode; see restore_order.c.
	 */
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, MSR_TSC_DEADLINE, 1ull << 60), 1);
	TEST_ASSERT_EQ(vcpu_get_msr(vcpu, MSR_TSC_DEADLINE),
		       ferric_is_loaded() ? 1ull << 60 : 0);

	vcpu_ioctl(vcpu, KVM_GET_LAPIC, &state);
	state_set_reg(&state, APIC_SPIV, APIC_SPIV_APIC_ENABLED | 0xff);
	state_set_reg(&state, APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | 0x40);
	vcpu_ioctl(vcpu, KVM_SET_LAPIC, &state);
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, MSR_TSC_DEADLINE, 1ull << 60), 1);
	TEST_ASSERT_EQ(vcpu_get_msr(vcpu, MSR_TSC_DEADLINE), 1ull << 60);
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, MSR_TSC_DEADLINE, 0), 1);
	TEST_ASSERT_EQ(vcpu_get_msr(vcpu, MSR_TSC_DEADLINE), 0);
	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
