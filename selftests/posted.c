// SPDX-License-Identifier: GPL-2.0
/*
 * Posted interrupts of an Intel processor with APICv: to vCPUs that run, sleep,
 * wait for a processor or go from one of these to the next.
 *
 * KVM's own senders know the vCPU, and neither heed nor need all that is in its
 * posted-interrupt descriptor.  Devices do, behind an IOMMU that posts; here
 * fake_iommu stands for both, so that these tests need it, and ferric for what
 * it does to the descriptor.  The VM may be on KVM's own irqchip all the same.
 */
#include "apicv.h"
#include "cpu_thread.h"
#include "harness.h"
#include "posted_vm.h"
#include "random.h"
#include "stats.h"

#define VECTOR			0x51

/* Vectors of the host (arch/x86/include/asm/irq_vectors.h). */
#define POSTED_INTR_VECTOR	0xf2
#define WAKEUP_VECTOR		0xf1

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
	if (host_cpu_is_amd || !apicv_is_on())
		SKIP(return, "KVM does not use APICv");
	if (access(FAKE_IOMMU_PATH, F_OK))
		SKIP(return, "no " FAKE_IOMMU_PATH);
	self->pvm = posted_vm_create(variant->provider);
}

FIXTURE_TEARDOWN(posted)
{
	posted_vm_free(&self->pvm);
}

/*
 * The descriptor in each phase of the vCPU.
 */
static bool is_asleep(int device)
{
	struct fake_iommu_state state = device_state(device);

	return PI_NV(state.control) == WAKEUP_VECTOR && !(state.control & PI_SN);
}

TEST_F(posted, wake_a_halted_vcpu)
{
	struct posted_vm *pvm = &self->pvm;
	struct cpu_thread thread;
	const bool counts = variant->provider == PROVIDER_FERRIC;
	struct stats stats;
	const u32 nr = 40;
	u64 wakeups;
	u32 i;

	if (counts)
		stats = stats_begin();
	posted_vm_route(pvm, MSI_ADDR(TARGET), VECTOR);
	device_connect(pvm->device, pvm->eventfd);
	cpu_thread_start(&thread, pvm->cpu, guest_halt_until, nr);
	wakeups = host_interrupts("PIW");
	for (i = 1; i <= nr; i++) {
		TEST_ASSERT(poll_until(is_asleep(pvm->device)), "not asleep");
		/* On another CPU than it sleeps on, if it stays there. */
		pin_thread(pthread_self(), i & 1);
		TEST_ASSERT_EQ(device_fire(pvm->device), FIRED_AND_NOTIFIED);
		TEST_ASSERT(cpu_poll_irqs(pvm->cpu, i), "number %u did not wake it", i);
	}
	cpu_thread_join(&thread);
	TEST_ASSERT_EQ(PI_NV(device_state(pvm->device).control), POSTED_INTR_VECTOR);
	wakeups = host_interrupts("PIW") - wakeups;
	printf("# %u interrupts, %lu wake-up vectors\n", nr, wakeups);
	TEST_ASSERT(wakeups >= nr, "%lu wake-up vectors for %u interrupts", wakeups, nr);
	if (counts) {
		/* By each of them, and by nothing else. */
		TEST_ASSERT_EQ(stats_counter(&stats, "posted_wakeup"), nr);
		stats_end(&stats);
	}
}

TEST_F(posted, silent_while_the_vcpu_is_not_loaded)
{
	struct posted_vm *pvm = &self->pvm;
	struct fake_iommu_state state;
	u64 notified;
	u32 i;

	posted_vm_route(pvm, MSI_ADDR(TARGET), VECTOR);
	device_connect(pvm->device, pvm->eventfd);
	for (i = 0; i < 20; i++) {
		pin_thread(pthread_self(), i & 1);
		cpu_rdtsc(pvm->cpu);
		notified = host_interrupts("PIN") + host_interrupts("PIW");
		state = device_state(pvm->device);
		TEST_ASSERT(state.posted && state.vector == VECTOR &&
			    (state.control & (PI_SN | PI_ON)) == PI_SN,
			    "posted %u, vector %#x, control %#llx", state.posted,
			    state.vector, state.control);
		TEST_ASSERT_EQ(device_fire(pvm->device), FIRED_SILENTLY);
		TEST_ASSERT_EQ(device_fire(pvm->device), FIRED_SILENTLY);
		state = device_state(pvm->device);
		TEST_ASSERT(state.pir[VECTOR / 64] == BIT_ULL(VECTOR % 64) &&
			    !(state.control & PI_ON), "not in PIR, or not suppressed");
		TEST_ASSERT_EQ(host_interrupts("PIN") + host_interrupts("PIW"), notified);

		/* By the entry, or by those who save the state. */
		if (i & 2) {
			TEST_ASSERT(lapic_vector(pvm->cpu, APIC_IRR, VECTOR), "not in IRR");
			TEST_ASSERT_EQ(device_state(pvm->device).pir[VECTOR / 64], 0);
		}
		cpu_take_irqs(pvm->cpu);
		cpu_expect_log(pvm->cpu, VECTOR);
		TEST_ASSERT_EQ(device_state(pvm->device).pir[VECTOR / 64], 0);
	}
}

/* NDST of the vCPU that runs on the CPU of that index. */
static u32 ndst_on(int device, struct cpu_thread *thread, int index)
{
	struct fake_iommu_state state = {};

	pin_thread(thread->thread, index);
	/* Until it is loaded there, and nothing is on its way any more. */
	TEST_ASSERT(poll_until(!((state = device_state(device)).control & (PI_SN | PI_ON))),
		    "control %#llx", state.control);
	TEST_ASSERT_EQ(PI_NV(state.control), POSTED_INTR_VECTOR);
	return PI_NDST(state.control);
}

TEST_F(posted, notified_where_the_vcpu_runs)
{
	struct posted_vm *pvm = &self->pvm;
	struct cpu_thread thread;
	u32 first, second, i;

	posted_vm_route(pvm, MSI_ADDR(TARGET), VECTOR);
	device_connect(pvm->device, pvm->eventfd);
	cpu_thread_start(&thread, pvm->cpu, guest_spin_until, 21);
	device_fire(pvm->device);
	TEST_ASSERT(cpu_poll_irqs(pvm->cpu, 1), "does not run");
	first = ndst_on(pvm->device, &thread, 0);
	second = ndst_on(pvm->device, &thread, 1);
	TEST_ASSERT(first != second, "NDST %#x on both CPUs", first);
	for (i = 2; i <= 21; i++) {
		TEST_ASSERT_EQ(ndst_on(pvm->device, &thread, i & 1), i & 1 ? second : first);
		device_fire(pvm->device);
		TEST_ASSERT(cpu_poll_irqs(pvm->cpu, i), "number %u lost", i);
	}
	cpu_thread_join(&thread);
}

/*
 * From phase to phase while the device goes on: nobody but the device may tell
 * the vCPU, so that what is lost is waited for in vain.
 */

/* Guest side: waits for every other one asleep, for the rest awake. */
static u64 guest_halt_and_spin(u64 unused, u64 cpu_gva, u64 unused2)
{
	struct guest_cpu *cpu = (void *)cpu_gva;

	while (!READ_ONCE(cpu->stop)) {
		u32 nr = READ_ONCE(cpu->nr_irqs);

		if (nr & 1) {
			safe_halt();
		} else {
			sti();
			while (READ_ONCE(cpu->nr_irqs) == nr && !READ_ONCE(cpu->stop))
				cpu_relax();
		}
		cli();
	}
	return 0;
}

struct disturber {
	struct posted_vm *pvm;
	struct cpu_thread *thread;
	u32 period_us;
	bool stop;
};

static void *move(void *arg)
{
	struct disturber *d = arg;

	while (!READ_ONCE(d->stop)) {
		cpu_thread_move(d->thread);
		usleep(d->period_us);
	}
	return NULL;
}

/* Wants a CPU as much as the vCPU's thread does. */
static void *burn(void *arg)
{
	struct disturber *d = arg;

	while (!READ_ONCE(d->stop))
		cpu_relax();
	return NULL;
}

static void *toggle_apicv(void *arg)
{
	struct disturber *d = arg;
	bool inhibit = false;

	while (!READ_ONCE(d->stop)) {
		inhibit = !inhibit;
		posted_vm_inhibit_apicv(d->pvm, inhibit);
		usleep(d->period_us);
	}
	return NULL;
}

static void post_meanwhile(struct posted_vm *pvm, u32 period_us,
			   void *(*disturb)(void *), void *(*disturb_too)(void *))
{
	struct disturber d = { .pvm = pvm, .period_us = period_us };
	u32 fired[FIRED_SILENTLY + 1] = {};
	struct rounds r = rounds_begin(400);
	struct cpu_thread thread;
	pthread_t disturber[2];
	u64 random = 1;
	u32 delay;

	d.thread = &thread;
	cpu_thread_start(&thread, pvm->cpu, guest_halt_and_spin, 0);
	pthread_create(&disturber[0], NULL, disturb, &d);
	if (disturb_too)
		pthread_create(&disturber[1], NULL, disturb_too, &d);
	while (rounds_next(&r)) {
		for (delay = random_below(&random, 2000); delay; delay--)
			cpu_relax();
		fired[device_fire(pvm->device)]++;
		TEST_ASSERT(cpu_poll_irqs(pvm->cpu, r.nr), "number %u lost", r.nr);
	}
	WRITE_ONCE(d.stop, true);
	pthread_join(disturber[0], NULL);
	if (disturb_too)
		pthread_join(disturber[1], NULL);
	cpu_thread_stop(&thread);
	device_fire(pvm->device);
	cpu_thread_join(&thread);
	printf("# %u remapped, %u posted with a notification, %u without\n",
	       fired[FIRED_REMAPPED], fired[FIRED_AND_NOTIFIED], fired[FIRED_SILENTLY]);
	TEST_ASSERT_EQ(fired[FIRED_REMAPPED], 0);
}

TEST_F(posted, while_the_vcpu_moves)
{
	struct posted_vm *pvm = &self->pvm;

	posted_vm_route(pvm, MSI_ADDR(TARGET), VECTOR);
	device_connect(pvm->device, pvm->eventfd);
	post_meanwhile(pvm, 1500, move, NULL);
}

TEST_F(posted, while_the_vcpu_moves_and_is_preempted)
{
	struct posted_vm *pvm = &self->pvm;

	posted_vm_route(pvm, MSI_ADDR(TARGET), VECTOR);
	device_connect(pvm->device, pvm->eventfd);
	post_meanwhile(pvm, 7000, move, burn);
}

TEST_F(posted, while_apicv_is_inhibited_and_not)
{
	struct posted_vm *pvm = &self->pvm;

	posted_vm_route(pvm, MSI_ADDR(TARGET), VECTOR);
	device_connect(pvm->device, pvm->eventfd);
	post_meanwhile(pvm, 2000, toggle_apicv, NULL);
}

TEST_F(posted, pending_when_apicv_is_inhibited_or_not)
{
	struct posted_vm *pvm = &self->pvm;
	bool inhibit;
	int i;

	posted_vm_route(pvm, MSI_ADDR(TARGET), VECTOR);
	device_connect(pvm->device, pvm->eventfd);
	for (i = 0; i < 4; i++) {
		inhibit = !(i & 1);
		cpu_rdtsc(pvm->cpu);
		TEST_ASSERT_EQ(device_fire(pvm->device), FIRED_SILENTLY);
		/* By software: into IRR or into PIR, as APICv was. */
		TEST_ASSERT_EQ(signal_msi(pvm->ivm, MSI_ADDR(TARGET), 0, VECTOR + 0x10), 1);
		posted_vm_inhibit_apicv(pvm, inhibit);
		cpu_take_irqs(pvm->cpu);
		cpu_expect_log(pvm->cpu, VECTOR + 0x10, VECTOR);

		/* Nothing of APICv is needed to be suppressed and delivered. */
		TEST_ASSERT_EQ(device_fire(pvm->device), FIRED_SILENTLY);
		cpu_take_irqs(pvm->cpu);
		cpu_expect_log(pvm->cpu, VECTOR);
	}
}

/*
 * The VM's first device: until then nobody posts but KVM, and the descriptor of a
 * vCPU that sleeps does not say so.
 */
TEST_F(posted, first_device_while_the_vcpu_sleeps)
{
	struct posted_vm *pvm = &self->pvm;
	struct cpu_thread thread;
	const u32 nr = 20;
	u32 i;

	posted_vm_route(pvm, MSI_ADDR(TARGET), VECTOR);
	cpu_thread_start(&thread, pvm->cpu, guest_halt_until, 2 * nr);
	for (i = 0; i < nr; i++) {
		TEST_ASSERT(poll_until(vcpu_get_stat(pvm->cpu->vcpu, blocking)),
			    "not asleep");
		/* Soon after it began, or in the middle. */
		usleep(i & 1 ? 0 : 2000);
		device_connect(pvm->device, pvm->eventfd);
		if (i & 2)
			TEST_ASSERT(poll_until(is_asleep(pvm->device)), "asleep as before");
		TEST_ASSERT(device_fire(pvm->device) != FIRED_REMAPPED, "remapped");
		TEST_ASSERT(cpu_poll_irqs(pvm->cpu, 2 * i + 1), "round %u: lost", i);

		/* The last device is gone; asleep once more. */
		close(pvm->device);
		pvm->device = device_open();
		eventfd_signal(pvm->eventfd);
		TEST_ASSERT(cpu_poll_irqs(pvm->cpu, 2 * i + 2), "round %u: lost", i);
	}
	cpu_thread_join(&thread);
}

/*
 * Which routes are postable.
 */
#define expect_remapped(pvm)		__expect_remapped(pvm, __LINE__)
#define expect_posted(pvm, cpu, vector)	__expect_posted(pvm, cpu, vector, __LINE__)

static void __expect_remapped(struct posted_vm *pvm, int line)
{
	TEST_ASSERT(!device_state(pvm->device).posted, "line %d: still posted", line);
	TEST_ASSERT_EQ(device_fire(pvm->device), FIRED_REMAPPED);
}

/* To that vCPU, which has been in KVM_RUN and is not now. */
static void __expect_posted(struct posted_vm *pvm, struct irq_cpu *cpu, u8 vector,
			    int line)
{
	struct fake_iommu_state state = device_state(pvm->device);

	TEST_ASSERT(state.posted && state.vector == vector,
		    "line %d: posted: %u, vector %#x instead of %#x", line,
		    state.posted, state.vector, vector);
	TEST_ASSERT_EQ(device_fire(pvm->device), FIRED_SILENTLY);
	cpu_take_irqs(cpu);
	__cpu_expect_log(cpu, &vector, 1, line);
}

TEST_F(posted, mode_follows_the_route)
{
	struct posted_vm *pvm = &self->pvm;
	const u32 two = MSI_ADDR(BIT(TARGET) | BIT(OTHER)) | MSI_ADDR_LOGICAL;
	struct irq_vm *ivm = pvm->ivm;
	int i;

	/* No route yet. */
	device_connect(pvm->device, pvm->eventfd);
	expect_remapped(pvm);
	/* Only now is it worth while to suppress notifications. */
	for (i = 0; i < NR_VCPUS; i++)
		cpu_rdtsc(&ivm->cpu[i]);
	for (i = 0; i < 2; i++) {
		posted_vm_route(pvm, MSI_ADDR(TARGET), VECTOR);
		expect_posted(pvm, pvm->cpu, VECTOR);
		posted_vm_route(pvm, MSI_ADDR(OTHER), VECTOR + 1);
		expect_posted(pvm, pvm->other, VECTOR + 1);

		/* Two targets. */
		posted_vm_route(pvm, two, VECTOR);
		expect_remapped(pvm);
		TEST_ASSERT(lapic_wait_irr(pvm->cpu, VECTOR), "not delivered");
		TEST_ASSERT(lapic_wait_irr(pvm->other, VECTOR), "not delivered");
		cpu_take_irqs(pvm->cpu);
		cpu_expect_log(pvm->cpu, VECTOR);
		cpu_take_irqs(pvm->other);
		cpu_expect_log(pvm->other, VECTOR);

		/* One of two: its vector says which, and so it can be posted. */
		posted_vm_route(pvm, two, MSI_DATA_DM(1) | VECTOR);
		TEST_ASSERT(device_state(pvm->device).posted, "remapped");
		TEST_ASSERT_EQ(device_fire(pvm->device), FIRED_SILENTLY);
		TEST_ASSERT_EQ(lapic_count(pvm->cpu, APIC_IRR) +
			       lapic_count(pvm->other, APIC_IRR), 1);
		cpu_take_irqs(pvm->cpu);
		cpu_take_irqs(pvm->other);
		TEST_ASSERT_EQ(pvm->cpu->guest->nr_irqs + pvm->other->guest->nr_irqs, 1);
		cpu_clear_log(pvm->cpu);
		cpu_clear_log(pvm->other);

		/* Nothing that PIR could hold. */
		posted_vm_route(pvm, MSI_ADDR(TARGET), MSI_DATA_DM(4) | VECTOR);
		expect_remapped(pvm);
		TEST_ASSERT(poll_until((cpu_rdtsc(pvm->cpu), pvm->cpu->guest->nr_irqs)),
			    "no NMI");
		cpu_expect_log(pvm->cpu, NMI_VECTOR);

		/* Posted, and then masked. */
		posted_vm_route(pvm, MSI_ADDR(TARGET), VECTOR);
		expect_posted(pvm, pvm->cpu, VECTOR);
		posted_vm_route(pvm, 0, 0);
		expect_remapped(pvm);
	}

	/* The irqfd goes, and comes. */
	posted_vm_route(pvm, MSI_ADDR(TARGET), VECTOR);
	expect_posted(pvm, pvm->cpu, VECTOR);
	kvm_deassign_irqfd(ivm->vm, GSI, pvm->eventfd);
	TEST_ASSERT(poll_until(!device_state(pvm->device).posted), "still posted");
	expect_remapped(pvm);
	eventfd_take(pvm->eventfd, 0);
	TEST_ASSERT_EQ(irqfd_assign(ivm, pvm->eventfd, GSI, -1), 0);
	expect_posted(pvm, pvm->cpu, VECTOR);

	for (i = 0; i < NR_VCPUS; i++) {
		cpu_take_irqs(&ivm->cpu[i]);
		cpu_expect_no_irqs(&ivm->cpu[i]);
	}
}

/*
 * What is posted when the vCPU is given another state, or is gone.
 */
TEST_F(posted, forgotten_by_a_restore_and_by_init)
{
	struct posted_vm *pvm = &self->pvm;
	struct kvm_lapic_state saved;
	const u32 init = APIC_DEST_PHYSICAL | APIC_DM_INIT | APIC_INT_ASSERT;

	posted_vm_route(pvm, MSI_ADDR(TARGET), VECTOR);
	device_connect(pvm->device, pvm->eventfd);
	cpu_rdtsc(pvm->cpu);
	lapic_get(pvm->cpu, &saved);
	TEST_ASSERT_EQ(device_fire(pvm->device), FIRED_SILENTLY);
	lapic_set(pvm->cpu, &saved);
	TEST_ASSERT_EQ(device_state(pvm->device).pir[VECTOR / 64], 0);
	TEST_ASSERT_EQ(lapic_count(pvm->cpu, APIC_IRR), 0);
	cpu_take_irqs(pvm->cpu);
	cpu_expect_no_irqs(pvm->cpu);

	/* One that is restored as pending, beside one that comes after it. */
	TEST_ASSERT_EQ(device_fire(pvm->device), FIRED_SILENTLY);
	lapic_get(pvm->cpu, &saved);
	lapic_set(pvm->cpu, &saved);
	posted_vm_route(pvm, MSI_ADDR(TARGET), VECTOR + 1);
	TEST_ASSERT_EQ(device_fire(pvm->device), FIRED_SILENTLY);
	cpu_take_irqs(pvm->cpu);
	cpu_expect_log(pvm->cpu, VECTOR + 1, VECTOR);

	TEST_ASSERT_EQ(device_fire(pvm->device), FIRED_SILENTLY);
	cpu_send_ipi(&pvm->ivm->cpu[0], init, TARGET);
	TEST_ASSERT_EQ(cpu_mp_state(pvm->cpu), KVM_MP_STATE_INIT_RECEIVED);
	TEST_ASSERT_EQ(device_state(pvm->device).pir[VECTOR / 64], 0);
	TEST_ASSERT_EQ(lapic_count(pvm->cpu, APIC_IRR), 0);
}

TEST_F(posted, pending_when_the_vm_goes)
{
	struct posted_vm *pvm = &self->pvm;

	posted_vm_route(pvm, MSI_ADDR(TARGET), VECTOR);
	device_connect(pvm->device, pvm->eventfd);
	cpu_rdtsc(pvm->cpu);
	TEST_ASSERT_EQ(device_fire(pvm->device), FIRED_SILENTLY);
	irq_vm_free(pvm->ivm);
	pvm->ivm = NULL;
	/* The device does not know. */
	TEST_ASSERT(poll_until(!device_state(pvm->device).posted), "still posted");
	expect_remapped(pvm);
}

TEST_HARNESS_MAIN
