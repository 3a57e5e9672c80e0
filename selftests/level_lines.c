// SPDX-License-Identifier: GPL-2.0
/*
 * Level-triggered lines of the I/O APIC do not get lost or stuck: when they are
 * raised while their interrupt ends, while the pin is masked or unmasked, while
 * its trigger mode changes and the vCPU runs; as an assigned device drives
 * them, masked from the interrupt to its EOI; and with GSIs that are not the
 * numbers of their pins.
 */
#include "cpu_thread.h"
#include "irq_vm.h"
#include "harness.h"

#define PATIENCE_MS		20000
#define PIN			20
#define GSI			20	/* on PIN alone */
#define VECTOR			0x51
#define ENTRY			(RTE_LEVEL | RTE_DEST(1) | VECTOR)

/* In the guest's memory, for its interrupt handler and the host. */
static struct device {
	u32 raised;	/* requests that the device has made */
	u32 served;	/* and the guest has seen */
	u32 needless;	/* interrupts without a request */
} device;

FIXTURE(level) {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;		/* vCPU 1: takes them */
};

FIXTURE_SETUP(level)
{
	self->ivm = irq_vm_create(2, IRQCHIP_FULL, false);
	self->cpu = &self->ivm->cpu[1];
}

FIXTURE_TEARDOWN(level)
{
	irq_vm_free(self->ivm);
}

/* User space's view, which the guest's accesses do not disturb. */
static struct kvm_ioapic_state saved_ioapic(struct irq_vm *ivm)
{
	struct kvm_irqchip chip;

	irqchip_get(ivm, KVM_IRQCHIP_IOAPIC, &chip);
	return chip.chip.ioapic;
}

static bool is_pin_high(struct irq_vm *ivm, int pin)
{
	return saved_ioapic(ivm).irr & BIT(pin);
}

/* The last interrupt of a line that is low has ended. */
static bool poll_ended(struct irq_vm *ivm, int pin)
{
	return poll_until(!(saved_ioapic(ivm).redirtbl[pin].bits & RTE_REMOTE_IRR));
}

static u32 nr_irqs(const struct irq_cpu *cpu)
{
	return READ_ONCE(cpu->guest->nr_irqs);
}

/*
 * The line falls and rises again at any time from the begin of the interrupt's
 * handler to after its EOI.  As long as it is high there is always one more
 * interrupt, and if a rise is lost there is none.
 *
 * Assigned devices share the line: all of them are told of an EOI, before it is
 * complete, which takes a while.
 */
#define NR_RAISES		1000
#define NR_SHARERS		64

TEST_F(level, raised_while_the_interrupt_ends)
{
	struct rounds rounds = rounds_begin(NR_RAISES);
	struct irq_vm *ivm = self->ivm;
	int fds[NR_SHARERS], resample = kvm_new_eventfd(), i;
	struct cpu_thread thread;
	u32 seen, wait;
	u64 end;

	for (i = 0; i < NR_SHARERS; i++) {
		fds[i] = kvm_new_eventfd();
		TEST_ASSERT_EQ(irqfd_assign(ivm, fds[i], GSI, resample), 0);
	}
	ioapic_set_rte(ivm, PIN, ENTRY);
	cpu_thread_start(&thread, self->cpu, guest_spin_until, ~0u);
	irq_line(ivm, GSI, 1);
	while (rounds_next(&rounds)) {
		seen = nr_irqs(self->cpu);
		end = poll_end();
		while (nr_irqs(self->cpu) == seen)
			TEST_ASSERT(!poll_is_over(end), "rise %u lost", rounds.nr);
		/* No pause, which takes long in an emulator. */
		for (wait = 0; wait < rounds.nr % 64 * 100; wait++)
			barrier();
		irq_line(ivm, GSI, 0);
		irq_line(ivm, GSI, 1);
		seen = nr_irqs(self->cpu);
		TEST_ASSERT(cpu_poll_irqs(self->cpu, seen + 1), "rise %u lost", rounds.nr);
	}
	irq_line(ivm, GSI, 0);
	TEST_ASSERT(poll_ended(ivm, PIN), "the last one has not ended");
	cpu_thread_stop(&thread);
	cpu_thread_join(&thread);
	for (i = 0; i < NR_SHARERS; i++)
		close(fds[i]);
	close(resample);
}

/* Masks and unmasks the pin for as long as it takes. */
static u64 guest_toggle_mask(u64 pin, u64 cpu_gva, u64 unused)
{
	struct guest_cpu *cpu = (void *)cpu_gva;
	u64 rte = ENTRY;

	WRITE_ONCE(*(u32 *)(IOAPIC_GPA + IOAPIC_REGSEL), IOAPIC_REG_RTE(pin));
	while (!READ_ONCE(cpu->stop)) {
		rte ^= RTE_MASKED;
		WRITE_ONCE(*(u32 *)(IOAPIC_GPA + IOAPIC_WINDOW), rte);
	}
	return 0;
}

#define NR_UNMASKS		300

TEST_F(level, raised_while_the_pin_is_masked_and_unmasked)
{
	struct rounds rounds = rounds_begin(NR_UNMASKS);
	struct cpu_thread thread, masker;
	struct irq_vm *ivm = self->ivm;
	u32 seen;

	ioapic_set_rte(ivm, PIN, ENTRY);
	cpu_thread_start(&thread, self->cpu, guest_spin_until, ~0u);
	cpu_thread_start(&masker, &ivm->cpu[0], guest_toggle_mask, PIN);
	while (rounds_next(&rounds)) {
		seen = nr_irqs(self->cpu);
		irq_line(ivm, GSI, 1);
		TEST_ASSERT(cpu_poll_irqs(self->cpu, seen + 1), "rise %u lost", rounds.nr);
		irq_line(ivm, GSI, 0);
		TEST_ASSERT(poll_ended(ivm, PIN), "number %u has not ended", rounds.nr);
	}
	cpu_thread_stop(&masker);
	cpu_thread_join(&masker);
	cpu_thread_stop(&thread);
	cpu_thread_join(&thread);
}

/*
 * The pin is edge-triggered and level-triggered by turns, and its vCPU, which
 * has to report the EOIs of the one kind only, never leaves the guest for it.
 */
#define NR_MODES		100

TEST_F(level, trigger_mode_changes_while_the_vcpu_runs)
{
	struct rounds rounds = rounds_begin(NR_MODES);
	struct irq_vm *ivm = self->ivm;
	struct cpu_thread thread;
	u32 seen;

	cpu_thread_start(&thread, self->cpu, guest_spin_until, ~0u);
	while (rounds_next(&rounds)) {
		bool is_level = rounds.nr & 1;

		ioapic_set_rte(ivm, PIN, is_level ? ENTRY : ENTRY & ~RTE_LEVEL);
		seen = nr_irqs(self->cpu);
		irq_line(ivm, GSI, 1);
		TEST_ASSERT(cpu_poll_irqs(self->cpu, seen + 1), "number %u lost", rounds.nr);
		if (is_level)
			/* Nobody has lowered it, so the EOI brings it again. */
			TEST_ASSERT(cpu_poll_irqs(self->cpu, seen + 2),
				    "EOI %u not reported", rounds.nr);
		irq_line(ivm, GSI, 0);
		TEST_ASSERT(poll_ended(ivm, PIN), "number %u has not ended", rounds.nr);
		if (!is_level)
			TEST_ASSERT_EQ(nr_irqs(self->cpu), seen + 1);
	}
	cpu_thread_stop(&thread);
	cpu_thread_join(&thread);
}

/*
 * An assigned device, as VFIO does it: an interrupt of the device masks its
 * line and signals the irqfd; the guest's EOI signals the resample eventfd,
 * which unmasks the line, and if the device still asks all that comes again.
 */
FIXTURE(assigned) {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;
	struct device *device;
	int fd;
	int resample;
};

FIXTURE_VARIANT(assigned) {
	u64 polarity;
	u32 burst;
};

FIXTURE_VARIANT_ADD(assigned, high_active) {
	.polarity = 0,
	.burst = 1,
};

FIXTURE_VARIANT_ADD(assigned, low_active) {
	.polarity = RTE_LOW_ACTIVE,
	.burst = 1,
};

/* The device asks faster than the guest can serve it. */
FIXTURE_VARIANT_ADD(assigned, surge) {
	.polarity = RTE_LOW_ACTIVE,
	.burst = 10000,
};

FIXTURE_SETUP(assigned)
{
	self->ivm = irq_vm_create(2, IRQCHIP_FULL, false);
	self->cpu = &self->ivm->cpu[1];
	self->device = addr_gva2hva(self->ivm->vm, (gva_t)&device);
	self->fd = kvm_new_eventfd();
	self->resample = kvm_new_eventfd();
	TEST_ASSERT_EQ(irqfd_assign(self->ivm, self->fd, GSI, self->resample), 0);
	ioapic_set_rte(self->ivm, PIN, ENTRY | variant->polarity);
}

FIXTURE_TEARDOWN(assigned)
{
	irq_vm_free(self->ivm);
	close(self->fd);
	close(self->resample);
}

/* The driver: it serves all requests that are there. */
static void guest_serve(u8 vector)
{
	u32 raised = READ_ONCE(device.raised);

	if (READ_ONCE(device.served) == raised)
		WRITE_ONCE(device.needless, device.needless + 1);
	WRITE_ONCE(device.served, raised);
}

#define NR_REQUESTS		500

TEST_F(assigned, line_masked_until_the_eoi)
{
	struct rounds rounds = rounds_begin(NR_REQUESTS);
	struct device *dev = self->device;
	bool asks = true, masked = false;
	struct cpu_thread thread;
	u32 signals = 0;

	self->cpu->guest->on_irq = guest_serve;
	cpu_thread_start(&thread, self->cpu, guest_spin_until, ~0u);
	while (asks || READ_ONCE(dev->served) != dev->raised) {
		u32 open = dev->raised - READ_ONCE(dev->served);

		if (asks && open < variant->burst)
			WRITE_ONCE(dev->raised, dev->raised + 1);
		if (!masked && READ_ONCE(dev->served) != dev->raised) {
			masked = true;
			asks = rounds_next(&rounds);
			signals++;
			eventfd_signal(self->fd);
		}
		if (masked && asks && open < variant->burst) {
			masked = !eventfd_take(self->resample, 0);
		} else if (masked) {
			/* Nothing to do but to wait for the EOI. */
			masked = !eventfd_take(self->resample, PATIENCE_MS);
			TEST_ASSERT(!masked, "EOI %u lost, %u of %u requests served",
				    signals, READ_ONCE(dev->served), dev->raised);
		}
	}
	TEST_ASSERT(!masked || eventfd_take(self->resample, PATIENCE_MS),
		    "the last EOI is lost");
	cpu_thread_stop(&thread);
	cpu_thread_join(&thread);
	TEST_ASSERT_EQ(dev->needless, 0);
	TEST_ASSERT_EQ(self->cpu->guest->nr_irqs, signals);
}

/* A driver may mask its pin before the EOI; the device must hear of that. */
TEST_F(assigned, eoi_of_a_masked_pin_is_reported)
{
	struct irq_vm *ivm = self->ivm;
	struct irq_cpu *cpu = self->cpu;
	int round;

	cpu->guest->eoi = EOI_NONE;
	for (round = 0; round < 3; round++) {
		eventfd_signal(self->fd);
		TEST_ASSERT(lapic_wait_irr(cpu, VECTOR), "not delivered");
		cpu_take_irqs(cpu);
		cpu_expect_log(cpu, VECTOR);
		ioapic_set_rte(ivm, PIN, ENTRY | variant->polarity | RTE_MASKED);
		TEST_ASSERT_EQ(eventfd_take(self->resample, 0), 0);
		cpu_apic_write(cpu, APIC_EOI, 0);
		TEST_ASSERT_EQ(eventfd_take(self->resample, PATIENCE_MS), 1);
		TEST_ASSERT(!(ioapic_rte(ivm, PIN) & RTE_REMOTE_IRR),
			    "remote IRR after EOI");

		/* It still asks: kept for the unmask, when it is asked again. */
		eventfd_signal(self->fd);
		TEST_ASSERT(poll_until(is_pin_high(ivm, PIN)), "the line is not high");
		TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 0);
		ioapic_set_rte(ivm, PIN, ENTRY | variant->polarity);
		TEST_ASSERT_EQ(eventfd_take(self->resample, PATIENCE_MS), 1);
	}
}

/* Pin and GSI count in opposite directions, so none is on its own number. */
#define GSI_OF(pin)		(100 + IOAPIC_PINS - (pin))
#define VECTOR_OF(pin)		(0x40 + (pin))

FIXTURE(pins) {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;
};

FIXTURE_SETUP(pins)
{
	struct kvm_irq_routing *r = routing_create();
	int pin;

	self->ivm = irq_vm_create(2, IRQCHIP_FULL, false);
	self->cpu = &self->ivm->cpu[1];
	self->cpu->guest->eoi = EOI_NONE;
	for (pin = 0; pin < IOAPIC_PINS; pin++)
		routing_add_pin(r, GSI_OF(pin), KVM_IRQCHIP_IOAPIC, pin);
	routing_commit(self->ivm, r);
	free(r);
}

FIXTURE_TEARDOWN(pins)
{
	irq_vm_free(self->ivm);
}

/* Sets the entry of a pin, masked; returns the entry without the mask. */
static u64 mask_pin(struct irq_vm *ivm, int pin)
{
	u64 rte = RTE_LEVEL | RTE_DEST(1) | VECTOR_OF(pin);

	ioapic_set_rte(ivm, pin, RTE_MASKED | rte);
	return rte;
}

TEST_F(pins, each_is_delivered_on_unmask)
{
	struct irq_vm *ivm = self->ivm;
	struct irq_cpu *cpu = self->cpu;
	int pin;

	for (pin = 0; pin < IOAPIC_PINS; pin++) {
		u64 rte = mask_pin(ivm, pin);

		TEST_ASSERT_EQ(irq_line(ivm, GSI_OF(pin), 1), -1);
		TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 0);
		ioapic_set_rte(ivm, pin, rte);
		TEST_ASSERT(lapic_vector(cpu, APIC_IRR, VECTOR_OF(pin)),
			    "pin %d: lost on unmask", pin);
		cpu_take_irqs(cpu);
		cpu_expect_log(cpu, VECTOR_OF(pin));
		irq_line(ivm, GSI_OF(pin), 0);
		cpu_apic_write(cpu, APIC_EOI, 0);
		TEST_ASSERT(!(ioapic_rte(ivm, pin) & RTE_REMOTE_IRR),
			    "pin %d: remote IRR after EOI", pin);
		TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 0);
	}
}

TEST_F(pins, each_is_resampled)
{
	struct irq_vm *ivm = self->ivm;
	struct irq_cpu *cpu = self->cpu;
	int pin;

	for (pin = 0; pin < IOAPIC_PINS; pin++) {
		int fd = kvm_new_eventfd(), resample = kvm_new_eventfd();
		u64 rte = mask_pin(ivm, pin);

		TEST_ASSERT_EQ(irqfd_assign(ivm, fd, GSI_OF(pin), resample), 0);
		eventfd_signal(fd);
		TEST_ASSERT(poll_until(is_pin_high(ivm, pin)), "pin %d is not high", pin);
		/* On unmask its owner is asked ... */
		ioapic_set_rte(ivm, pin, rte);
		TEST_ASSERT(eventfd_take(resample, PATIENCE_MS) == 1,
			    "pin %d: not resampled on unmask", pin);
		eventfd_signal(fd);
		TEST_ASSERT(lapic_wait_irr(cpu, VECTOR_OF(pin)),
			    "pin %d: not delivered", pin);
		cpu_take_irqs(cpu);
		cpu_expect_log(cpu, VECTOR_OF(pin));
		/* ... and at the EOI. */
		cpu_apic_write(cpu, APIC_EOI, 0);
		TEST_ASSERT(eventfd_take(resample, PATIENCE_MS) == 1,
			    "pin %d: not resampled at the EOI", pin);
		TEST_ASSERT_EQ(lapic_count(cpu, APIC_IRR), 0);
		close(fd);
		close(resample);
	}
}

/*
 * A guest that never makes its device let go: the interrupt comes again at
 * every EOI, 10000 times at once and then delayed, so that the guest gets to do
 * something else; and the VM goes away with the delayed one outstanding.
 */
#define STORM			10010

/*
 * Lasts until so many have come, and until nothing came though interrupts were
 * on, but for three times as many at most; returns how often that was.
 */
static u64 guest_storm(u64 count, u64 cpu_gva, u64 cycles)
{
	struct guest_cpu *cpu = (void *)cpu_gva;
	u64 start = rdtsc(), quiet = 0;
	u32 before, nr = 0;

	while ((nr < count || !quiet) && nr < 3 * count && rdtsc() - start < cycles) {
		before = nr;
		asm volatile("sti; nop; nop; cli" : : : "memory");
		nr = READ_ONCE(cpu->nr_irqs);
		quiet += nr == before;
	}
	return quiet;
}

TEST_F_TIMEOUT(level, stuck_line_lets_the_guest_go_on, 300)
{
	u64 cycles = (u64)guest_tsc_khz * 280000, quiet;
	struct irq_cpu *cpu = self->cpu;

	/* Or it would never come to the cli. */
	cpu->guest->stop_after = 3 * STORM;
	ioapic_set_rte(self->ivm, PIN, ENTRY);
	irq_line(self->ivm, GSI, 1);
	quiet = cpu_call(cpu, guest_storm, STORM, cpu->guest_gva, cycles);
	TEST_ASSERT(cpu->guest->nr_irqs >= STORM, "stopped after %u",
		    cpu->guest->nr_irqs);
	/* A busy host may miss the delay, but not every time. */
	TEST_ASSERT(quiet > 0, "the guest gets to nothing else");
}

TEST_HARNESS_MAIN
