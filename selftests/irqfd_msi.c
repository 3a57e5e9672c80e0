// SPDX-License-Identifier: GPL-2.0
/*
 * MSIs from irqfds, to vCPUs that run and vCPUs that sleep, while their routes
 * change; and the split irqchip, where user space has the I/O APIC: EOI exits
 * for level-triggered messages and interrupts from its own PIC.
 */
#include <pthread.h>

#include "cpu_thread.h"
#include "irq_vm.h"
#include "harness.h"

#define NR_VCPUS			4
#define VECTOR			0x51
#define NO_EOI_EXITS		0
#define PATIENCE_US		20000000

FIXTURE(msi) {
	struct irq_vm *ivm;
	struct kvm_irq_routing *routes;
	int fd;
};

FIXTURE_VARIANT(msi) {
	enum irqchip_mode mode;
	bool x2apic;
};

FIXTURE_VARIANT_ADD(msi, full_xapic) {
	.mode = IRQCHIP_FULL,
	.x2apic = false,
};

FIXTURE_VARIANT_ADD(msi, full_x2apic) {
	.mode = IRQCHIP_FULL,
	.x2apic = true,
};

FIXTURE_VARIANT_ADD(msi, split_xapic) {
	.mode = IRQCHIP_SPLIT,
	.x2apic = false,
};

FIXTURE_VARIANT_ADD(msi, split_x2apic) {
	.mode = IRQCHIP_SPLIT,
	.x2apic = true,
};

FIXTURE_SETUP(msi)
{
	self->ivm = irq_vm_create(NR_VCPUS, variant->mode, variant->x2apic);
	self->routes = routing_create();
	self->fd = kvm_new_eventfd();
}

FIXTURE_TEARDOWN(msi)
{
	irq_vm_free(self->ivm);
	free(self->routes);
	close(self->fd);
}

static void route(struct irq_vm *ivm, struct kvm_irq_routing *r, u32 gsi,
		  u32 dest, u32 vector)
{
	r->nr = 0;
	routing_add_msi(r, gsi, MSI_ADDR(dest), 0, vector);
	routing_commit(ivm, r);
}

TEST_F(msi, to_each_vcpu)
{
	u32 id;

	TEST_ASSERT_EQ(irqfd_assign(self->ivm, self->fd, 24, -1), 0);
	for (id = 0; id < NR_VCPUS; id++) {
		struct irq_cpu *cpu = &self->ivm->cpu[id];

		route(self->ivm, self->routes, 24, id, VECTOR + id);
		eventfd_signal(self->fd);
		TEST_ASSERT(lapic_wait_irr(cpu, VECTOR + id), "not delivered");
		cpu_take_irqs(cpu);
		cpu_expect_log(cpu, VECTOR + id);
	}
}

TEST_F(msi, many_gsis)
{
	struct irq_cpu *cpu = &self->ivm->cpu[1];
	int fds[64], i;

	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = kvm_new_eventfd();
		routing_add_msi(self->routes, 100 + 60 * i, MSI_ADDR(1), 0, 0x40 + i);
	}
	routing_commit(self->ivm, self->routes);
	for (i = 0; i < ARRAY_SIZE(fds); i++)
		TEST_ASSERT_EQ(irqfd_assign(self->ivm, fds[i], 100 + 60 * i, -1), 0);
	for (i = 0; i < ARRAY_SIZE(fds); i++)
		eventfd_signal(fds[i]);
	for (i = 0; i < ARRAY_SIZE(fds); i++)
		TEST_ASSERT(lapic_wait_irr(cpu, 0x40 + i), "number %d not delivered", i);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), ARRAY_SIZE(fds));
	for (i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

/* An irqfd follows its GSI to wherever that goes. */
TEST_F(msi, routes_change)
{
	struct irq_vm *ivm = self->ivm;

	TEST_ASSERT_EQ(irqfd_assign(ivm, self->fd, 24, -1), 0);
	/* No route yet: the signal is gone. */
	eventfd_signal(self->fd);
	route(ivm, self->routes, 24, 1, VECTOR);
	eventfd_signal(self->fd);
	TEST_ASSERT(lapic_wait_irr(&ivm->cpu[1], VECTOR), "not delivered");
	/* What is pending stays where it is. */
	route(ivm, self->routes, 24, 2, VECTOR + 1);
	eventfd_signal(self->fd);
	TEST_ASSERT(lapic_wait_irr(&ivm->cpu[2], VECTOR + 1), "not delivered");
	TEST_ASSERT_EQ(lapic_count(&ivm->cpu[1], APIC_IRR), 1);
	cpu_take_irqs(&ivm->cpu[1]);
	cpu_expect_log(&ivm->cpu[1], VECTOR);

	/* Gone, and back again. */
	self->routes->nr = 0;
	routing_commit(ivm, self->routes);
	eventfd_signal(self->fd);
	route(ivm, self->routes, 24, 3, VECTOR);
	eventfd_signal(self->fd);
	TEST_ASSERT(lapic_wait_irr(&ivm->cpu[3], VECTOR), "not delivered");
	TEST_ASSERT_EQ(lapic_count(&ivm->cpu[1], APIC_IRR), 0);
	TEST_ASSERT_EQ(lapic_count(&ivm->cpu[2], APIC_IRR), 1);

	/* Deassigned, it sends nothing. */
	kvm_deassign_irqfd(ivm->vm, 24, self->fd);
	eventfd_signal(self->fd);
	cpu_take_irqs(&ivm->cpu[3]);
	usleep(20000);
	TEST_ASSERT_EQ(lapic_count(&ivm->cpu[3], APIC_IRR), 0);
}

/* One message at a time: sent, then waited for, none may be missing. */
#define NR_MESSAGES		500

static void send_to_thread(struct irq_vm *ivm, struct kvm_irq_routing *r, int fd,
			   guest_fn_t receive)
{
	struct irq_cpu *cpu = &ivm->cpu[1];
	struct cpu_thread thread;
	int i;

	route(ivm, r, 24, 1, VECTOR);
	TEST_ASSERT_EQ(irqfd_assign(ivm, fd, 24, -1), 0);
	cpu_thread_start(&thread, cpu, receive, NR_MESSAGES);
	for (i = 1; i <= NR_MESSAGES; i++) {
		/* Every other one by the ioctl. */
		if (i & 1)
			eventfd_signal(fd);
		else
			TEST_ASSERT_EQ(signal_msi(ivm, MSI_ADDR(1), 0, VECTOR), 1);
		TEST_ASSERT(cpu_poll_irqs(cpu, i), "message %d lost", i);
	}
	cpu_thread_join(&thread);
	TEST_ASSERT_EQ(cpu->guest->nr_irqs, NR_MESSAGES);
}

TEST_F(msi, to_a_halted_vcpu)
{
	send_to_thread(self->ivm, self->routes, self->fd, guest_halt_until);
}

TEST_F(msi, to_a_running_vcpu)
{
	send_to_thread(self->ivm, self->routes, self->fd, guest_spin_until);
}

/*
 * The route moves from vCPU to vCPU and the vector with it while messages are
 * sent: each arrives, at the old place or at the new one.
 */
struct storm {
	struct irq_vm *ivm;
	struct kvm_irq_routing *routes;
	bool stop;
};

static void *reroute(void *arg)
{
	struct storm *s = arg;
	u32 n = 0;

	while (!READ_ONCE(s->stop)) {
		n++;
		route(s->ivm, s->routes, 24, 1 + n % 3, VECTOR + n % 7);
	}
	return NULL;
}

static u64 sum_irqs(struct irq_vm *ivm)
{
	u64 sum = 0;
	int i;

	for (i = 1; i < NR_VCPUS; i++)
		sum += READ_ONCE(ivm->cpu[i].guest->nr_irqs);
	return sum;
}

TEST_F(msi, routes_change_under_load)
{
	struct irq_vm *ivm = self->ivm;
	struct storm storm = { .ivm = ivm, .routes = self->routes };
	struct cpu_thread thread[NR_VCPUS];
	pthread_t rerouter;
	int i, j;

	route(ivm, self->routes, 24, 1, VECTOR);
	TEST_ASSERT_EQ(irqfd_assign(ivm, self->fd, 24, -1), 0);
	for (i = 1; i < NR_VCPUS; i++)
		cpu_thread_start(&thread[i], &ivm->cpu[i], guest_halt_until, ~0u);
	pthread_create(&rerouter, NULL, reroute, &storm);

	for (i = 1; i <= NR_MESSAGES; i++) {
		eventfd_signal(self->fd);
		for (j = 0; j < PATIENCE_US / 50 && sum_irqs(ivm) < i; j++)
			usleep(50);
		TEST_ASSERT(sum_irqs(ivm) == i, "%lu of %d arrived", sum_irqs(ivm), i);
	}
	WRITE_ONCE(storm.stop, true);
	pthread_join(rerouter, NULL);
	for (i = 1; i < NR_VCPUS; i++) {
		cpu_thread_stop(&thread[i]);
		signal_msi(ivm, MSI_ADDR(i), 0, VECTOR);
		cpu_thread_join(&thread[i]);
	}
}

/*
 * A deassignment takes its time, in which the route changes and signals come on:
 * none of them goes by the route that was, and after it none goes anywhere.
 */
struct deassigner {
	struct irq_vm *ivm;
	int fd;
	bool stop;
};

static void *deassign(void *arg)
{
	struct deassigner *d = arg;

	kvm_deassign_irqfd(d->ivm->vm, 24, d->fd);
	return NULL;
}

static void *signal_on(void *arg)
{
	struct deassigner *d = arg;

	while (!READ_ONCE(d->stop))
		eventfd_signal(d->fd);
	return NULL;
}

TEST_F(msi, deassigned_while_the_route_changes)
{
	struct deassigner d = { .ivm = self->ivm, .fd = self->fd };
	struct irq_vm *ivm = self->ivm;
	pthread_t signaller, deassigner;
	int round, i;

	pthread_create(&signaller, NULL, signal_on, &d);
	for (round = 0; round < 40; round++) {
		route(ivm, self->routes, 24, 1, VECTOR);
		TEST_ASSERT_EQ(irqfd_assign(ivm, self->fd, 24, -1), 0);
		TEST_ASSERT(lapic_wait_irr(&ivm->cpu[1], VECTOR), "not delivered");
		pthread_create(&deassigner, NULL, deassign, &d);
		route(ivm, self->routes, 24, 2, VECTOR + 1);
		cpu_take_irqs(&ivm->cpu[1]);
		for (i = 0; i < 20; i++)
			TEST_ASSERT_EQ(lapic_count(&ivm->cpu[1], APIC_IRR), 0);
		pthread_join(deassigner, NULL);
		cpu_take_irqs(&ivm->cpu[2]);
		for (i = 0; i < 5; i++)
			TEST_ASSERT_EQ(lapic_count(&ivm->cpu[1], APIC_IRR) +
				       lapic_count(&ivm->cpu[2], APIC_IRR), 0);
	}
	WRITE_ONCE(d.stop, true);
	pthread_join(signaller, NULL);
}

/* A line cannot be lowered in a message: nothing is sent for level 0. */
TEST_F(msi, irq_line_on_an_msi_route)
{
	route(self->ivm, self->routes, 24, 1, VECTOR);
	TEST_ASSERT_EQ(irq_line(self->ivm, 24, 0), -1);
	TEST_ASSERT_EQ(lapic_count(&self->ivm->cpu[1], APIC_IRR), 0);
	TEST_ASSERT_EQ(irq_line(self->ivm, 24, 1), 1);
	TEST_ASSERT(lapic_vector(&self->ivm->cpu[1], APIC_IRR, VECTOR), "not delivered");
	/* There is no line that would have to fall first. */
	cpu_take_irqs(&self->ivm->cpu[1]);
	TEST_ASSERT_EQ(irq_line(self->ivm, 24, 1), 1);
}

/*
 * Split irqchip: the pins that KVM_CAP_SPLIT_IRQCHIP reserved are GSIs whose
 * MSI routes stand for the redirection table of user space's I/O APIC.
 */

FIXTURE(split) {
	struct irq_vm *ivm;
	struct kvm_irq_routing *routes;
};

FIXTURE_VARIANT(split) {
	bool x2apic;
};

FIXTURE_VARIANT_ADD(split, xapic) {
	.x2apic = false,
};

FIXTURE_VARIANT_ADD(split, x2apic) {
	.x2apic = true,
};

FIXTURE_SETUP(split)
{
	int i;

	self->ivm = irq_vm_create(2, IRQCHIP_SPLIT, variant->x2apic);
	self->routes = routing_create();
	for (i = 0; i < 2; i++)
		self->ivm->cpu[i].guest->eoi = EOI_NONE;
}

FIXTURE_TEARDOWN(split)
{
	irq_vm_free(self->ivm);
	free(self->routes);
}

static void expect_eoi_exit(struct irq_cpu *cpu, u8 vector)
{
	/* The exit comes with the EOI, or at the next entry. */
	cpu_apic_write(cpu, APIC_EOI, 0);
	cpu_rdtsc(cpu);
	TEST_ASSERT(cpu->nr_ioapic_eoi == 1 && cpu->ioapic_eoi[0] == vector,
		    "vector %#x: %u EOI exits, the first for %#x", vector,
		    cpu->nr_ioapic_eoi, cpu->ioapic_eoi[0]);
	cpu->nr_ioapic_eoi = 0;
}

static void expect_no_eoi_exit(struct irq_cpu *cpu)
{
	cpu_apic_write(cpu, APIC_EOI, 0);
	cpu_rdtsc(cpu);
	TEST_ASSERT_EQ(cpu->nr_ioapic_eoi, NO_EOI_EXITS);
}

TEST_F(split, eoi_exit_for_level)
{
	struct irq_cpu *cpu = &self->ivm->cpu[0];

	routing_add_msi(self->routes, 4, MSI_ADDR(0), 0, MSI_DATA_LEVEL | VECTOR);
	routing_add_msi(self->routes, 5, MSI_ADDR(0), 0, VECTOR + 1);
	routing_commit(self->ivm, self->routes);

	irq_line(self->ivm, 4, 1);
	TEST_ASSERT(lapic_vector(cpu, APIC_TMR, VECTOR), "no TMR bit");
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, VECTOR);
	expect_eoi_exit(cpu, VECTOR);

	irq_line(self->ivm, 5, 1);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, VECTOR + 1);
	expect_no_eoi_exit(cpu);
}

TEST_F(split, eoi_exit_only_for_reserved_pins)
{
	struct irq_cpu *cpu = &self->ivm->cpu[0];

	/* A level-triggered MSI of a device has no pin that waits. */
	routing_add_msi(self->routes, IOAPIC_PINS, MSI_ADDR(0), 0,
			MSI_DATA_LEVEL | VECTOR);
	routing_commit(self->ivm, self->routes);
	irq_line(self->ivm, IOAPIC_PINS, 1);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, VECTOR);
	expect_no_eoi_exit(cpu);
}

TEST_F(split, eoi_exit_after_the_route_changed)
{
	struct irq_cpu *cpu0 = &self->ivm->cpu[0];
	struct irq_cpu *cpu1 = &self->ivm->cpu[1];

	routing_add_msi(self->routes, 4, MSI_ADDR(0), 0, MSI_DATA_LEVEL | VECTOR);
	routing_commit(self->ivm, self->routes);
	irq_line(self->ivm, 4, 1);
	cpu_take_irqs(cpu0);
	cpu_expect_log(cpu0, VECTOR);

	/* In service at the old destination: its EOI still has to be heard. */
	self->routes->nr = 0;
	routing_add_msi(self->routes, 4, MSI_ADDR(1), 0, MSI_DATA_LEVEL | VECTOR);
	routing_commit(self->ivm, self->routes);
	expect_eoi_exit(cpu0, VECTOR);

	irq_line(self->ivm, 4, 1);
	cpu_take_irqs(cpu1);
	cpu_expect_log(cpu1, VECTOR);
	expect_eoi_exit(cpu1, VECTOR);

	/* And no more from the old one, which has nothing of that pin. */
	cpu_send_ipi(cpu0, APIC_INT_ASSERT | APIC_DEST_SELF | VECTOR, 0);
	cpu_take_irqs(cpu0);
	cpu_expect_log(cpu0, VECTOR);
	expect_no_eoi_exit(cpu0);
}

TEST_F(split, eoi_exits_nest)
{
	struct irq_cpu *cpu = &self->ivm->cpu[0];

	routing_add_msi(self->routes, 4, MSI_ADDR(0), 0, MSI_DATA_LEVEL | 0x41);
	routing_add_msi(self->routes, 5, MSI_ADDR(0), 0, MSI_DATA_LEVEL | 0x61);
	routing_commit(self->ivm, self->routes);
	irq_line(self->ivm, 4, 1);
	cpu_take_irqs(cpu);
	irq_line(self->ivm, 5, 1);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x41, 0x61);
	expect_eoi_exit(cpu, 0x61);
	expect_eoi_exit(cpu, 0x41);
}

/*
 * With Suppress EOI Broadcast the guest tells the I/O APIC itself.  KVM offers
 * the bit in split mode but acts on it only if user space has said so.
 */
TEST(suppress_eoi_broadcast)
{
	static const u64 flags[] = {
		0,
		KVM_X2APIC_ENABLE_SUPPRESS_EOI_BROADCAST,
		KVM_X2APIC_DISABLE_SUPPRESS_EOI_BROADCAST,
	};
	const u32 directed_eoi = BIT(12);
	int i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		struct irq_vm *ivm = irq_vm_create_empty(IRQCHIP_SPLIT);
		struct kvm_irq_routing *r = routing_create();
		struct irq_cpu *cpu;
		u32 spiv;

		if (flags[i])
			vm_enable_cap(ivm->vm, KVM_CAP_X2APIC_API, flags[i]);
		cpu = irq_vm_add_cpu(ivm, 0);
		cpu_enable_apic(cpu, true);
		cpu->guest->eoi = EOI_NONE;
		routing_add_msi(r, 4, MSI_ADDR(0), 0, MSI_DATA_LEVEL | VECTOR);
		routing_commit(ivm, r);

		spiv = cpu_apic_read(cpu, APIC_SPIV);
		cpu_apic_write(cpu, APIC_SPIV, spiv | directed_eoi);
		TEST_ASSERT_EQ(!!(cpu_apic_read(cpu, APIC_SPIV) & directed_eoi),
			       flags[i] != KVM_X2APIC_DISABLE_SUPPRESS_EOI_BROADCAST);

		irq_line(ivm, 4, 1);
		cpu_take_irqs(cpu);
		if (flags[i] == KVM_X2APIC_ENABLE_SUPPRESS_EOI_BROADCAST)
			expect_no_eoi_exit(cpu);
		else
			expect_eoi_exit(cpu, VECTOR);
		irq_vm_free(ivm);
		free(r);
	}
}

/* User space has the PIC: KVM_INTERRUPT when the vCPU can take one. */
TEST(userspace_pic)
{
	struct irq_vm *ivm = irq_vm_create(1, IRQCHIP_SPLIT, false);
	struct irq_cpu *cpu = &ivm->cpu[0];
	struct kvm_interrupt irq = { .irq = 0x38 };

	cpu->guest->eoi = EOI_NONE;
	cpu_apic_write(cpu, APIC_LVT0, APIC_LVT_EXTINT);
	vcpu_ioctl(cpu->vcpu, KVM_INTERRUPT, &irq);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x38);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 0);

	/* It is the PIC's; the local APIC's own comes after it. */
	cpu_send_ipi(cpu, APIC_INT_ASSERT | APIC_DEST_SELF | 0xf1, 0);
	vcpu_ioctl(cpu->vcpu, KVM_INTERRUPT, &irq);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x38, 0xf1);
	/* And it is heard when that has nothing. */
	vcpu_ioctl(cpu->vcpu, KVM_INTERRUPT, &irq);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, 0x38);

	/* The exit that tells when the window opens. */
	cpu->vcpu->run->request_interrupt_window = 1;
	cpu_rdtsc(cpu);
	TEST_ASSERT_EQ(cpu->nr_irq_window, 0);
	cpu_take_irqs(cpu);
	TEST_ASSERT_EQ(cpu->nr_irq_window, 1);

	/* With LINT0 masked there is no window for it, and no delivery. */
	cpu_apic_write(cpu, APIC_EOI, 0);
	cpu_apic_write(cpu, APIC_LVT0, APIC_LVT_MASKED);
	vcpu_ioctl(cpu->vcpu, KVM_INTERRUPT, &irq);
	cpu_take_irqs(cpu);
	cpu_expect_no_irqs(cpu);
	irq_vm_free(ivm);
}

TEST_HARNESS_MAIN
