// SPDX-License-Identifier: GPL-2.0
/*
 * What KVM does for guests of Xen with the in-kernel irqchip: polling for event
 * channels and the timer of a vCPU.
 */
#include "irq_vm.h"
#include "harness.h"

#define XEN_HYPERCALL_MSR	0x40000200
#define HYPERVISOR_SCHED_OP	29
#define SCHEDOP_POLL		3
#define TIMER_PORT		13
/* Canonical, and never mapped in the guest. */
#define NOWHERE			0x7fff12340000ull
#define MS			1000000ull	/* in ns */

struct sched_poll {
	u64 ports;
	u32 nr_ports;
	u64 timeout;
};

FIXTURE(xen) {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;
};

FIXTURE_SETUP(xen)
{
	const int wanted = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL |
			   KVM_XEN_HVM_CONFIG_EVTCHN_SEND;
	struct kvm_xen_hvm_config config = {
		.flags = wanted,
		.msr = XEN_HYPERCALL_MSR,
	};

	if ((kvm_check_cap(KVM_CAP_XEN_HVM) & wanted) != wanted)
		SKIP(return, "this KVM knows no event channels");

	self->ivm = irq_vm_create(1, IRQCHIP_FULL, true);
	self->cpu = &self->ivm->cpu[0];
	vm_ioctl(self->ivm->vm, KVM_XEN_HVM_CONFIG, &config);
}

FIXTURE_TEARDOWN(xen)
{
	irq_vm_free(self->ivm);
}

static u64 guest_poll(u64 poll_gva, u64 count, u64 unused)
{
	u64 ret = 0;

	while (count--)
		ret = __xen_hypercall(HYPERVISOR_SCHED_OP, SCHEDOP_POLL, (void *)poll_gva);
	return ret;
}

/* Objects that the kernel has allocated by kmalloc() of that size. */
static u64 kmalloc_objects(int size)
{
	char line[512], name[64], suffix[16];
	u64 objects, sum = 0;
	FILE *f;

	snprintf(suffix, sizeof(suffix), "-%d", size);
	f = fopen("/proc/slabinfo", "r");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63s %lu", name, &objects) != 2 ||
		    strncmp(name, "kmalloc", 7) ||
		    strlen(name) < strlen(suffix) ||
		    strcmp(name + strlen(name) - strlen(suffix), suffix))
			continue;
		sum += objects;
	}
	fclose(f);
	return sum;
}

#define NR_POLLS		4000

/* Each poll for several ports takes memory, which each way out gives back. */
TEST_F(xen, failed_polls_leak_nothing)
{
	struct sched_poll *poll;
	u32 *ports;
	gva_t gva;
	u64 before, after;
	int round;

	gva = vm_alloc_pages(self->ivm->vm, 2);
	poll = addr_gva2hva(self->ivm->vm, gva);
	ports = addr_gva2hva(self->ivm->vm, gva + PAGE_SIZE);

	/* More than there may be at once. */
	*poll = (struct sched_poll) { .ports = gva + PAGE_SIZE, .nr_ports = 129 };
	TEST_ASSERT_EQ(cpu_call(self->cpu, guest_poll, gva, 1, 0), (u64)-EINVAL);

	for (round = 0; round < 2; round++) {
		memset(ports, 0xff, PAGE_SIZE);
		*poll = (struct sched_poll) {
			.ports = round ? gva + PAGE_SIZE : NOWHERE,
			.nr_ports = 128,
		};
		before = kmalloc_objects(512);
		TEST_ASSERT_EQ(cpu_call(self->cpu, guest_poll, gva, NR_POLLS, 0),
			       round ? (u64)-EINVAL : (u64)-EFAULT);
		after = kmalloc_objects(512);
		/* KASAN keeps what was freed, but finds leaks by itself. */
		if (access("/sys/kernel/debug/kmemleak", F_OK))
			TEST_ASSERT(before && after < before + NR_POLLS / 2,
				    "way out %d: %lu objects, after %d polls %lu",
				    round, before, NR_POLLS, after);
	}
}

static void set_timer(struct irq_cpu *cpu, u32 port, u64 expires)
{
	struct kvm_xen_vcpu_attr attr = {
		.type = KVM_XEN_VCPU_ATTR_TYPE_TIMER,
		.u.timer.port = port,
		.u.timer.priority = KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL,
		.u.timer.expires_ns = expires,
	};

	vcpu_ioctl(cpu->vcpu, KVM_XEN_VCPU_SET_ATTR, &attr);
}

static u64 timer_expires(struct irq_cpu *cpu)
{
	struct kvm_xen_vcpu_attr attr = { .type = KVM_XEN_VCPU_ATTR_TYPE_TIMER };

	vcpu_ioctl(cpu->vcpu, KVM_XEN_VCPU_GET_ATTR, &attr);
	return attr.u.timer.expires_ns;
}

static u64 vm_clock_ns(struct irq_vm *ivm)
{
	struct kvm_clock_data data;

	vm_ioctl(ivm->vm, KVM_GET_CLOCK, &data);
	return data.clock;
}

/* Where event channels are, which a timer that expires sets one of. */
static void set_up_event_channels(struct irq_vm *ivm)
{
	gva_t gva = vm_alloc_pages(ivm->vm, 2);
	struct kvm_xen_hvm_attr lm = {
		.type = KVM_XEN_ATTR_TYPE_LONG_MODE,
		.u.long_mode = 1,
	};
	struct kvm_xen_hvm_attr shared_info = {
		.type = KVM_XEN_ATTR_TYPE_SHARED_INFO,
		.u.shared_info.gfn = addr_gva2gpa(ivm->vm, gva) / PAGE_SIZE,
	};
	struct kvm_xen_vcpu_attr vcpu_info = {
		.type = KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO,
		.u.gpa = addr_gva2gpa(ivm->vm, gva) + PAGE_SIZE,
	};

	memset(addr_gva2hva(ivm->vm, gva), 0, 2 * PAGE_SIZE);
	vm_ioctl(ivm->vm, KVM_XEN_HVM_SET_ATTR, &lm);
	vm_ioctl(ivm->vm, KVM_XEN_HVM_SET_ATTR, &shared_info);
	vcpu_ioctl(ivm->cpu[0].vcpu, KVM_XEN_VCPU_SET_ATTR, &vcpu_info);
}

/* The timer is set while it runs, at other times and with other ports. */
TEST_F(xen, timer_set_again)
{
	struct irq_cpu *cpu = self->cpu;
	int i;

	if (!access("/proc/lockdep", F_OK))
		SKIP(return, "lockdep complains of a lock that KVM's callback takes");
	set_up_event_channels(self->ivm);
	for (i = 0; i < 300; i++) {
		set_timer(cpu, TIMER_PORT + i % 3,
			  vm_clock_ns(self->ivm) + (1 + i * 37 % 100) * MS / 10);
		if (i % 50 == 49)
			usleep(1000);
	}
	set_timer(cpu, TIMER_PORT, vm_clock_ns(self->ivm) + 20 * MS);
	for (i = 0; i < 2000 && timer_expires(cpu); i++) {
		usleep(10000);
		cpu_rdtsc(cpu);
	}
	TEST_ASSERT(!timer_expires(cpu), "it has not expired");
	/* Stopped for good, and gone with the VM while it runs. */
	set_timer(cpu, 0, 0);
	set_timer(cpu, TIMER_PORT, vm_clock_ns(self->ivm) + 5 * MS);
}

TEST_HARNESS_MAIN
