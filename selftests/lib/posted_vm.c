// SPDX-License-Identifier: GPL-2.0
/*
 * The VM and the device of posted_vm.h.
 */
#include <sched.h>
#include <sys/ioctl.h>

#include "hyperv.h"
#include "posted_vm.h"

#define SINT_VECTOR		0x91
#define HV_SINT_MASKED		BIT(16)
#define HV_SINT_AUTO_EOI	BIT(17)

struct posted_vm posted_vm_create(enum provider provider)
{
	struct posted_vm pvm;
	int lock;

	lock = provider_begin(provider);
	pvm.ivm = irq_vm_create(NR_VCPUS, IRQCHIP_FULL, true);
	provider_end(lock);
	pvm.cpu = &pvm.ivm->cpu[TARGET];
	pvm.other = &pvm.ivm->cpu[OTHER];
	pvm.routes = routing_create();
	pvm.eventfd = kvm_new_eventfd();
	TEST_ASSERT_EQ(irqfd_assign(pvm.ivm, pvm.eventfd, GSI, -1), 0);
	pvm.device = device_open();

	vcpu_enable_cap(pvm.other->vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
	vcpu_set_msr(pvm.other->vcpu, HV_X64_MSR_SCONTROL, 1);
	return pvm;
}

void posted_vm_free(struct posted_vm *pvm)
{
	if (pvm->device >= 0)
		close(pvm->device);
	if (pvm->ivm)
		irq_vm_free(pvm->ivm);
	free(pvm->routes);
	close(pvm->eventfd);
}

void posted_vm_route(struct posted_vm *pvm, u32 addr, u32 data)
{
	pvm->routes->nr = 0;
	if (data)
		routing_add_msi(pvm->routes, GSI, addr, 0, data);
	routing_commit(pvm->ivm, pvm->routes);
}

void posted_vm_inhibit_apicv(struct posted_vm *pvm, bool inhibit)
{
	vcpu_set_msr(pvm->other->vcpu, HV_X64_MSR_SINT0,
		     inhibit ? HV_SINT_AUTO_EOI | SINT_VECTOR : HV_SINT_MASKED);
}

int device_open(void)
{
	int device = open(FAKE_IOMMU_PATH, O_RDWR);

	TEST_ASSERT(device >= 0 || errno == ENOENT, "cannot open " FAKE_IOMMU_PATH);
	return device;
}

void device_connect(int device, int eventfd)
{
	TEST_ASSERT(!ioctl(device, FAKE_IOMMU_CONNECT, &eventfd),
		    "cannot connect a device: %s", strerror(errno));
}

enum fake_iommu_fired device_fire(int device)
{
	int fired = ioctl(device, FAKE_IOMMU_FIRE);

	TEST_ASSERT(fired >= 0, "a device cannot interrupt: %s", strerror(errno));
	return fired;
}

struct fake_iommu_state device_state(int device)
{
	struct fake_iommu_state state;

	TEST_ASSERT(!ioctl(device, FAKE_IOMMU_STATE, &state),
		    "cannot read an IRTE: %s", strerror(errno));
	return state;
}

u64 host_interrupts(const char *name)
{
	FILE *file = fopen("/proc/interrupts", "r");
	size_t size = 0, length = strlen(name);
	char *line = NULL, *at, *end;
	u64 sum = 0, count;

	TEST_ASSERT(file, "no /proc/interrupts");
	while (getline(&line, &size, file) > 0) {
		at = line + strspn(line, " ");
		if (strncmp(at, name, length) || at[length] != ':')
			continue;
		/* A number for each CPU, and then what it is. */
		for (at += length + 1; count = strtoull(at, &end, 10), end != at; at = end)
			sum += count;
	}
	free(line);
	fclose(file);
	return sum;
}

void pin_thread(pthread_t thread, int index)
{
	static cpu_set_t allowed;
	cpu_set_t one;
	int cpu;

	if (!CPU_COUNT(&allowed))
		TEST_ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
	TEST_ASSERT(CPU_COUNT(&allowed) > index, "there are too few CPUs");
	for (cpu = 0; !CPU_ISSET(cpu, &allowed) || index--; cpu++)
		;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	TEST_ASSERT_EQ(pthread_setaffinity_np(thread, sizeof(one), &one), 0);
}
