// SPDX-License-Identifier: GPL-2.0
/*
 * The end of a VM whose chips still have something to do on their own: a thread,
 * a work or a timer that reaches for vCPUs must not find them gone.
 *
 * A VM of many vCPUs takes long enough to destroy for that to happen.
 */
#include <sched.h>

#include "cpu_thread.h"
#include "harness.h"

#define NR_IDLE			300
#define NR_VCPUS		8
#define PIN			20
#define VECTOR			0x51
#define PATIENCE		(guest_tsc_khz * 80000ull)	/* in cycles */

static struct irq_vm *create_big_vm(void)
{
	struct irq_vm *ivm = irq_vm_create_empty(IRQCHIP_FULL);
	unsigned long id;

	irq_vm_add_cpu(ivm, 0);
	/* The VM keeps them. */
	for (id = 1; id <= NR_IDLE; id++)
		kvm_close(ioctl(ivm->vm->fd, KVM_CREATE_VCPU, id));
	cpu_enable_apic(&ivm->cpu[0], true);
	return ivm;
}

FIXTURE(big) {
	struct irq_vm *ivm;
};

FIXTURE_SETUP(big)
{
	self->ivm = create_big_vm();
}

/* The tests have let it go. */
FIXTURE_TEARDOWN(big)
{
	/* For what comes too late. */
	usleep(20000);
}

/* Lets a VM go at once: nothing but what refers to it. Returns how long it took. */
static u64 destroy(struct irq_vm *ivm)
{
	int size = ioctl(ivm->vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	struct kvm_vcpu *vcpu = ivm->cpu[0].vcpu;
	u64 start = now_ns();

	kvm_munmap(vcpu->run, size);
	kvm_close(vcpu->stats.fd);
	kvm_close(vcpu->fd);
	kvm_close(ivm->vm->stats.fd);
	kvm_close(ivm->vm->fd);
	return now_ns() - start;
}

/*
 * Nothing else runs on a CPU for some time: a work that is queued there waits.
 */
struct hog {
	int cpu;
	u64 ns;
};

static void *hog_cpu(void *arg)
{
	struct sched_param param = { .sched_priority = 1 };
	struct hog *hog = arg;
	u64 end;

	pin_self_to_cpu(hog->cpu);
	TEST_ASSERT(!sched_setscheduler(0, SCHED_FIFO, &param), "no real-time priority");
	end = now_ns() + hog->ns;
	while (now_ns() < end)
		cpu_relax();
	return NULL;
}

/*
 * A guest that never makes its device let go: the interrupt comes again at every
 * EOI, 10000 times at once, and the next one 10 ms later, from a work.
 */
#define STORM			10000
#define STORM_PATIENCE		(guest_tsc_khz * 250000ull)

TEST_F_TIMEOUT(big, delayed_eoi, 300)
{
	struct cpu_thread self_thread = { .thread = pthread_self() };
	struct irq_vm *ivm = self->ivm;
	struct hog hog = {};
	pthread_t thread;
	cpu_set_t all;

	/* The work runs when half of the VM is gone. */
	hog.ns = destroy(create_big_vm()) / 2;

	/* The work is queued on one CPU, and the VM goes on another. */
	TEST_ASSERT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
	cpu_thread_move(&self_thread);
	hog.cpu = self_thread.host_cpu;

	ioapic_set_rte(ivm, PIN, RTE_DEST(0) | RTE_LEVEL | VECTOR);
	irq_line(ivm, PIN, 1);
	TEST_ASSERT_EQ(cpu_wait_irqs(&ivm->cpu[0], STORM, STORM_PATIENCE), STORM);

	/* Not before: it would keep the vCPU from running. */
	pthread_create(&thread, NULL, hog_cpu, &hog);
	TEST_ASSERT_EQ(sched_setaffinity(0, sizeof(all), &all), 0);
	cpu_thread_move(&self_thread);
	destroy(ivm);
	pthread_join(thread, NULL);
}

/* The PIT's thread brings each tick to all local APICs that want it as an NMI. */
TEST_F(big, pit_ticks)
{
	struct kvm_reinject_control control = { .pit_reinject = 0 };
	struct kvm_pit_config config = { .flags = 0 };
	struct irq_vm *ivm = self->ivm;
	struct irq_cpu *cpu = &ivm->cpu[0];

	vm_ioctl(ivm->vm, KVM_CREATE_PIT2, &config);
	vm_ioctl(ivm->vm, KVM_REINJECT_CONTROL, &control);
	cpu_apic_write(cpu, APIC_LVT0, APIC_DM_NMI);
	/* Counter 0, periodic, as often as KVM lets it. */
	cpu_outb(cpu, 0x43, 0x34);
	cpu_outb(cpu, 0x40, 100);
	cpu_outb(cpu, 0x40, 0);
	TEST_ASSERT(cpu_wait_irqs(cpu, 3, PATIENCE) >= 3, "it does not tick");
	destroy(ivm);
}

/* The local APICs' own timers. */
TEST(lapic_timers)
{
	struct irq_vm *ivm = irq_vm_create(NR_VCPUS, IRQCHIP_FULL, true);
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		cpu_apic_write(&ivm->cpu[i], APIC_LVTT, APIC_LVT_TIMER_PERIODIC | VECTOR);
		cpu_apic_write(&ivm->cpu[i], APIC_TMICT, 200000);
	}
	TEST_ASSERT(cpu_wait_irqs(&ivm->cpu[0], 3, PATIENCE) >= 3, "it does not tick");
	irq_vm_free(ivm);
}

TEST_HARNESS_MAIN
