// SPDX-License-Identifier: GPL-2.0
/*
 * What an interrupt to a vCPU that runs costs in exits: none on a processor with
 * APICv, whoever sends it.  The same where APICv is inhibited, which shows that
 * they are counted.
 */
#include "apicv.h"
#include "cpu_thread.h"
#include "harness.h"
#include "posted_vm.h"

#define VECTOR			0x51

FIXTURE(posted) {
	struct posted_vm pvm;
};

FIXTURE_VARIANT(posted) {
	enum provider provider;
};

FIXTURE_VARIANT_ADD(posted, ferric) {
	.provider = PROVIDER_FERRIC,
};

FIXTURE_VARIANT_ADD(posted, kvm) {
	.provider = PROVIDER_KVM,
};

FIXTURE_SETUP(posted)
{
	if (host_cpu_is_amd)
		SKIP(return, "not an Intel processor");
	if (variant->provider == PROVIDER_FERRIC && !ferric_is_loaded())
		SKIP(return, "ferric is not loaded");
	self->pvm = posted_vm_create(variant->provider);
}

FIXTURE_TEARDOWN(posted)
{
	posted_vm_free(&self->pvm);
}

/* Does not sleep: what it waits for is to come at once. */
static bool spin_until_irqs(struct irq_cpu *cpu, u32 nr)
{
	u64 end = poll_end();

	while (READ_ONCE(cpu->guest->nr_irqs) < nr) {
		if (poll_is_over(end))
			return false;
	}
	return true;
}

enum sender {
	BY_IRQFD,
	BY_MSI,
	BY_IPI,
	BY_DEVICE,
};

static const char * const sender_name[] = { "irqfd", "MSI", "IPI", "device" };

#define NR_POSTS		400
#define GUEST_PATIENCE		50000000	/* rounds of a loop */

/* Guest side: IPIs, one at a time, to the vCPU of @other; how many arrived. */
static u64 guest_send_ipis(u64 nr, u64 other_gva, u64 icr)
{
	struct guest_cpu *other = (void *)other_gva;
	u32 before = READ_ONCE(other->nr_irqs);
	u64 i, patience;

	for (i = 0; i < nr; i++) {
		wrmsr(X2APIC_MSR(APIC_ICR), icr);
		for (patience = 0; READ_ONCE(other->nr_irqs) == before + i; patience++) {
			if (patience == GUEST_PATIENCE)
				return i;
			cpu_relax();
		}
	}
	return nr;
}

/* Guest side: sleeps for the first, and is awake for the rest. */
static u64 guest_halt_then_spin(u64 until, u64 cpu_gva, u64 unused)
{
	safe_halt();
	return guest_spin_until(until, cpu_gva, 0);
}

static void send_all(struct posted_vm *pvm, enum sender by, u32 nr)
{
	u32 before = READ_ONCE(pvm->cpu->guest->nr_irqs);
	u64 icr = APIC_DEST_PHYSICAL | APIC_DM_FIXED | VECTOR | (u64)TARGET << 32;
	u32 i;

	if (by == BY_IPI) {
		TEST_ASSERT_EQ(cpu_call(&pvm->ivm->cpu[0], guest_send_ipis, nr,
					pvm->cpu->guest_gva, icr), nr);
		return;
	}
	for (i = 1; i <= nr; i++) {
		switch (by) {
		case BY_IRQFD:
			eventfd_signal(pvm->eventfd);
			break;
		case BY_MSI:
			TEST_ASSERT_EQ(signal_msi(pvm->ivm, MSI_ADDR(TARGET), 0, VECTOR), 1);
			break;
		default:
			TEST_ASSERT(device_fire(pvm->device) != FIRED_REMAPPED, "remapped");
		}
		TEST_ASSERT(spin_until_irqs(pvm->cpu, before + i), "by %s: number %u lost",
			    sender_name[by], i);
	}
}

/* The guest does nothing that exits, once it has been woken. */
static void count_exits(struct posted_vm *pvm, enum sender by, bool with_apicv)
{
	struct kvm_vcpu *vcpu = pvm->cpu->vcpu;
	struct cpu_thread thread;
	u64 exits, host;

	pin_thread(pthread_self(), 0);
	cpu_clear_log(pvm->cpu);
	cpu_thread_start(&thread, pvm->cpu, guest_halt_then_spin, NR_POSTS + 2);
	pin_thread(thread.thread, 1);
	TEST_ASSERT(poll_until(vcpu_get_stat(vcpu, blocking)), "not asleep");
	send_all(pvm, by, 1);

	exits = vcpu_get_stat(vcpu, exits);
	host = vcpu_get_stat(vcpu, irq_exits);
	send_all(pvm, by, NR_POSTS);
	exits = vcpu_get_stat(vcpu, exits) - exits;
	host = vcpu_get_stat(vcpu, irq_exits) - host;

	send_all(pvm, by, 1);
	cpu_thread_join(&thread);
	printf("# %u by %s, APICv %s: %lu exits, %lu of them for interrupts of the host\n",
	       NR_POSTS, sender_name[by], with_apicv ? "on" : "off", exits, host);
	/* The host has its timer ticks. */
	if (with_apicv)
		TEST_ASSERT(exits < NR_POSTS / 4, "%lu exits", exits);
	else
		TEST_ASSERT(exits >= NR_POSTS, "%lu exits", exits);
}

static void with_apicv_and_without(struct posted_vm *pvm, enum sender by)
{
	posted_vm_route(pvm, MSI_ADDR(TARGET), VECTOR);
	if (apicv_is_on()) {
		count_exits(pvm, by, true);
		posted_vm_inhibit_apicv(pvm, true);
	}
	count_exits(pvm, by, false);
}

TEST_F(posted, by_irqfd)
{
	with_apicv_and_without(&self->pvm, BY_IRQFD);
}

TEST_F(posted, by_msi)
{
	with_apicv_and_without(&self->pvm, BY_MSI);
}

TEST_F(posted, by_ipi)
{
	with_apicv_and_without(&self->pvm, BY_IPI);
}

TEST_F(posted, by_device)
{
	if (self->pvm.device < 0)
		SKIP(return, "no " FAKE_IOMMU_PATH);
	device_connect(self->pvm.device, self->pvm.eventfd);
	with_apicv_and_without(&self->pvm, BY_DEVICE);
}

#define NR_WAKES		41
#define SETTLE_US		3000

static int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

/*
 * How long it takes from sending until a vCPU that slept on another CPU takes the
 * interrupt: sent by software, which wakes it itself, or by a device, as hardware
 * does it, by the wake-up vector.  A number for who compares; nothing is demanded.
 */
static void time_wakes(struct posted_vm *pvm, enum sender by)
{
	u64 ticks[NR_WAKES], start;
	struct cpu_thread thread;
	int i;

	posted_vm_route(pvm, MSI_ADDR(TARGET), VECTOR);
	pin_thread(pthread_self(), 0);
	cpu_clear_log(pvm->cpu);
	cpu_thread_start(&thread, pvm->cpu, guest_halt_until, NR_WAKES);
	pin_thread(thread.thread, 1);
	for (i = 0; i < NR_WAKES; i++) {
		TEST_ASSERT(poll_until(vcpu_get_stat(pvm->cpu->vcpu, blocking)), "not asleep");
		usleep(SETTLE_US);
		start = rdtsc();
		send_all(pvm, by, 1);
		ticks[i] = rdtsc() - start;
	}
	cpu_thread_join(&thread);
	qsort(ticks, NR_WAKES, sizeof(*ticks), compare);
	printf("# woken by %s: %lu ticks at least, %lu the median\n", sender_name[by],
	       ticks[0], ticks[NR_WAKES / 2]);
}

TEST_F(posted, wake_by_software_and_by_hardware)
{
	if (!apicv_is_on() || self->pvm.device < 0)
		SKIP(return, "no APICv, or no " FAKE_IOMMU_PATH);
	time_wakes(&self->pvm, BY_MSI);
	device_connect(self->pvm.device, self->pvm.eventfd);
	time_wakes(&self->pvm, BY_DEVICE);
}

TEST_HARNESS_MAIN
