// SPDX-License-Identifier: GPL-2.0
/*
 * What a VM of many vCPUs costs: the work when its vCPUs are created and when
 * each enables its local APIC, for which a map of destinations is kept; and the
 * memory. None of the vCPUs runs.
 */
#include "bench.h"
#include "irq_ioctl.h"

#define SETTLE_US		100000
#define NR_VMS			32
#define NR_VCPUS		255
#define VECTOR_TO_LAST		0x55

const struct boot boots[] = {
	{ 16, 15, 1 }, { 64, 9, 1 }, { 255, 5, 2 }, { 1024, 2, 3 },
};

const u32 nr_boots = ARRAY_SIZE(boots);

static struct kvm_vm *vm_create_for(enum provider provider)
{
	int lock = provider_begin(provider);
	struct kvm_vm *vm = vm_with(IRQCHIP_FULL);

	provider_end(lock);
	vm_enable_cap(vm, KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS);
	return vm;
}

static void vcpus_create(struct kvm_vm *vm, int *fds, u32 number)
{
	u32 i;

	for (i = 0; i < number; i++)
		fds[i] = idle_vcpu_create(vm->fd, i, false);
}

static void vcpus_enable(const int *fds, u32 number)
{
	u32 i;

	for (i = 0; i < number; i++)
		idle_vcpu_enable(fds[i], true);
}

static void vcpus_prepare(const int *fds, u32 number)
{
	u32 i;

	for (i = 0; i < number; i++)
		TEST_ASSERT(!ioctl(fds[i], KVM_SET_CPUID2, kvm_get_supported_cpuid()),
			    "KVM_SET_CPUID2: %s", strerror(errno));
}

static void vcpus_close(int *fds, u32 number)
{
	u32 i;

	for (i = 0; i < number; i++)
		kvm_close(fds[i]);
	free(fds);
}

static int *fds_alloc(u32 number)
{
	int *fds = calloc(number, sizeof(*fds));

	TEST_ASSERT(fds, "out of memory");
	kvm_set_files_rlimit(number);
	return fds;
}

/* The vCPU that was the last to come is found by its x2APIC ID, and it alone. */
static bool last_is_reached(struct kvm_vm *vm, const int *fds, u32 number)
{
	struct kvm_msi msi = {
		.address_lo = MSI_ADDR(number - 1),
		.address_hi = MSI_ADDR_HI(number - 1),
		.data = VECTOR_TO_LAST,
	};
	struct kvm_lapic_state state;

	if (ioctl(vm->fd, KVM_SIGNAL_MSI, &msi) != 1 ||
	    ioctl(fds[number - 1], KVM_GET_LAPIC, &state))
		return false;
	return state_reg(&state, APIC_IRR + APIC_VECTOR_TO_REG_OFFSET(VECTOR_TO_LAST)) ==
	       BIT(APIC_VECTOR_TO_BIT_NUMBER(VECTOR_TO_LAST));
}

bool count_boot(enum provider provider, u32 vcpus, struct count *create, struct count *map)
{
	struct kvm_vm *vm = vm_create_for(provider);
	int *fds = fds_alloc(vcpus);
	bool ok;

	usleep(SETTLE_US);
	count_begin();
	vcpus_create(vm, fds, vcpus);
	count_end();
	*create = count_read();
	vcpus_prepare(fds, vcpus);
	usleep(SETTLE_US);
	count_begin();
	vcpus_enable(fds, vcpus);
	count_end();
	*map = count_read();
	ok = last_is_reached(vm, fds, vcpus);
	vcpus_close(fds, vcpus);
	kvm_vm_free(vm);
	return ok;
}

void aside_create(struct aside *aside)
{
	aside->vm = vm_create_for(PROVIDER_KVM);
	aside->number = 0;
}

void aside_grow(struct aside *aside)
{
	u32 i = aside->number++;

	TEST_ASSERT(i < ARRAY_SIZE(aside->fds), "too many vCPUs");
	aside->fds[i] = idle_vcpu_create(aside->vm->fd, i, true);
}

void aside_free(struct aside *aside)
{
	u32 i;

	for (i = 0; i < aside->number; i++)
		kvm_close(aside->fds[i]);
	kvm_vm_free(aside->vm);
}

void measure_memory(enum provider provider, long *vm_bytes, long *vcpu_bytes)
{
	struct kvm_vm *vms[NR_VMS];
	int *fds = fds_alloc(NR_VCPUS);
	long before = memory_free(), after;
	int i;

	for (i = 0; i < NR_VMS; i++)
		vms[i] = vm_create_for(provider);
	after = memory_free();
	*vm_bytes = (before - after) / NR_VMS;
	vcpus_create(vms[0], fds, NR_VCPUS);
	vcpus_prepare(fds, NR_VCPUS);
	vcpus_enable(fds, NR_VCPUS);
	*vcpu_bytes = (after - memory_free()) / NR_VCPUS;
	vcpus_close(fds, NR_VCPUS);
	for (i = 0; i < NR_VMS; i++)
		kvm_vm_free(vms[i]);
}
