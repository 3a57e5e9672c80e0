// SPDX-License-Identifier: GPL-2.0
/*
 * The 8254 and the speaker's port: counters and their modes, latches, ticks
 * through the PIC and the I/O APIC, reinjection, NMI watchdog, save and
 * restore.
 */
#include "cpu_thread.h"
#include "harness.h"

#define COUNTER(n)		(0x40 + (n))
#define CONTROL			0x43
#define SPEAKER			0x61

#define CONTROL_COUNTER(n)	((n) << 6)
#define CONTROL_WORD		0x30	/* both bytes, the low one first */
#define CONTROL_MODE(n)		((n) << 1)
#define CONTROL_LATCH		0x00
#define READ_BACK		0xc0
#define READ_BACK_STATUS	0xe0
#define READ_BACK_OF(n)		(2 << (n))

#define SPEAKER_GATE		BIT(0)
#define SPEAKER_DATA		BIT(1)
#define SPEAKER_OUT		BIT(5)

#define PIT_HZ			1193181
/* 10 ms */
#define COUNT_100HZ		(PIT_HZ / 100)
#define PERIOD_NS		(COUNT_100HZ * 1000000000ull / PIT_HZ)

#define PIC_BASE		0x40
#define VECTOR			0x71
/* Longer than any test has to wait, in cycles of any TSC. */
#define LONG_TIME		40000000000ull
/* How long the timer is moved from CPU to CPU, at most. */
#define MOVES_NS		20000000000ull

FIXTURE(pit) {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;
};

static void create_pit(struct irq_vm *ivm, u32 flags)
{
	struct kvm_pit_config config = { .flags = flags };

	vm_ioctl(ivm->vm, KVM_CREATE_PIT2, &config);
}

FIXTURE_SETUP(pit)
{
	self->ivm = irq_vm_create(2, IRQCHIP_FULL, false);
	self->cpu = &self->ivm->cpu[0];
	create_pit(self->ivm, KVM_PIT_SPEAKER_DUMMY);
}

FIXTURE_TEARDOWN(pit)
{
	irq_vm_free(self->ivm);
}

static void get_pit(struct irq_vm *ivm, struct kvm_pit_state2 *state)
{
	memset(state, 0xa5, sizeof(*state));
	vm_ioctl(ivm->vm, KVM_GET_PIT2, state);
}

static void set_pit(struct irq_vm *ivm, struct kvm_pit_state2 *state)
{
	vm_ioctl(ivm->vm, KVM_SET_PIT2, state);
}

static void set_reinject(struct irq_vm *ivm, bool on)
{
	struct kvm_reinject_control control = { .pit_reinject = on };

	vm_ioctl(ivm->vm, KVM_REINJECT_CONTROL, &control);
}

static void program(struct irq_cpu *cpu, int counter, int mode, u16 count)
{
	cpu_outb(cpu, CONTROL, CONTROL_COUNTER(counter) | CONTROL_WORD |
			       CONTROL_MODE(mode));
	cpu_outb(cpu, COUNTER(counter), count & 0xff);
	cpu_outb(cpu, COUNTER(counter), count >> 8);
}

static u16 read_word(struct irq_cpu *cpu, int counter)
{
	u16 low = cpu_inb(cpu, COUNTER(counter));

	return low | cpu_inb(cpu, COUNTER(counter)) << 8;
}

static u16 count(struct irq_cpu *cpu, int counter)
{
	cpu_outb(cpu, CONTROL, CONTROL_COUNTER(counter) | CONTROL_LATCH);
	return read_word(cpu, counter);
}

/* GSI 0 reaches the guest through the PIC alone. */
static void route_to_pic(struct irq_cpu *cpu)
{
	cpu_apic_write(cpu, APIC_LVT0, APIC_LVT_EXTINT);
	cpu->guest->eoi = EOI_PIC;
	cpu->guest->pic_base = PIC_BASE;
	cpu_outb(cpu, 0x20, 0x11);
	cpu_outb(cpu, 0x21, PIC_BASE);
	cpu_outb(cpu, 0x21, 0x04);
	cpu_outb(cpu, 0x21, 0x01);
	cpu_outb(cpu, 0x21, 0xfe);
}

/* ... and here through the I/O APIC. */
static void route_to_ioapic(struct irq_vm *ivm)
{
	cpu_apic_write(&ivm->cpu[0], APIC_LVT0, APIC_LVT_MASKED);
	ioapic_set_rte(ivm, 0, RTE_DEST(0) | VECTOR);
}

/* All that came since @start are there, and not one that is not due. */
static void expect_all_ticks(struct irq_cpu *cpu, u64 start)
{
	u64 due = (now_ns() - start) / PERIOD_NS;
	u32 nr = cpu_wait_irqs(cpu, due, LONG_TIME);
	u64 most = (now_ns() - start) / PERIOD_NS + 1;

	TEST_ASSERT(nr >= due, "%u of %lu ticks came", nr, due);
	TEST_ASSERT(nr <= most, "%u ticks came, %lu were due", nr, most);
}

TEST_F(pit, power_on)
{
	struct kvm_pit_state2 state;
	int i;

	get_pit(self->ivm, &state);
	TEST_ASSERT_EQ(state.flags, 0);
	for (i = 0; i < 3; i++) {
		TEST_ASSERT_EQ(state.channels[i].mode, 0xff);
		TEST_ASSERT_EQ(state.channels[i].count, 0x10000);
		TEST_ASSERT_EQ(state.channels[i].gate, i != 2);
	}
	for (i = 0; i < ARRAY_SIZE(state.reserved); i++)
		TEST_ASSERT_EQ(state.reserved[i], 0);
}

TEST_F(pit, control_words)
{
	struct kvm_pit_state2 state;
	int counter, mode;

	for (counter = 0; counter < 3; counter++) {
		for (mode = 0; mode < 8; mode++) {
			program(self->cpu, counter, mode, 0x1234 + mode);
			get_pit(self->ivm, &state);
			/* Modes 6 and 7 are 2 and 3. */
			TEST_ASSERT_EQ(state.channels[counter].mode,
				       mode > 5 ? mode - 4 : mode);
			TEST_ASSERT_EQ(state.channels[counter].count, 0x1234 + mode);
			TEST_ASSERT_EQ(state.channels[counter].rw_mode, 3);
		}
		program(self->cpu, counter, 0, 0);
		get_pit(self->ivm, &state);
		TEST_ASSERT_EQ(state.channels[counter].count, 0x10000);
	}
}

TEST_F(pit, counts_down)
{
	u64 start, ticks;
	u16 first, second;

	program(self->cpu, 2, 2, 0);
	start = now_ns();
	first = count(self->cpu, 2);
	usleep(5000);
	second = count(self->cpu, 2);
	ticks = (now_ns() - start) * PIT_HZ / 1000000000;

	TEST_ASSERT((u16)(first - second) >= 5000 * (u64)PIT_HZ / 1000000 ||
		    ticks > 0xffff, "%u, 5 ms later %u", first, second);
	TEST_ASSERT((u16)(first - second) <= ticks, "%u, %lu ticks later %u",
		    first, ticks, second);
}

TEST_F(pit, latched_count_stays)
{
	u16 latched, later;

	program(self->cpu, 2, 2, 0);
	cpu_outb(self->cpu, CONTROL, CONTROL_COUNTER(2) | CONTROL_LATCH);
	usleep(2000);
	cpu_outb(self->cpu, CONTROL, CONTROL_COUNTER(2) | CONTROL_LATCH);
	latched = read_word(self->cpu, 2);
	later = count(self->cpu, 2);
	TEST_ASSERT((u16)(latched - later) >= 2000 * (u64)PIT_HZ / 1000000,
		    "latched %#x, now %#x", latched, later);
}

TEST_F(pit, read_back)
{
	struct kvm_pit_state2 state;

	program(self->cpu, 1, 2, 0);
	program(self->cpu, 2, 3, 0);
	cpu_outb(self->cpu, CONTROL, READ_BACK | READ_BACK_OF(1) | READ_BACK_OF(2));
	get_pit(self->ivm, &state);
	TEST_ASSERT_EQ(state.channels[0].status_latched, 0);
	TEST_ASSERT_EQ(state.channels[1].status_latched, 1);
	TEST_ASSERT_EQ(state.channels[2].count_latched, 3);
	/* The status comes first. */
	TEST_ASSERT_EQ(cpu_inb(self->cpu, COUNTER(1)) & 0x7f,
		       CONTROL_WORD | CONTROL_MODE(2));
	TEST_ASSERT_EQ(cpu_inb(self->cpu, COUNTER(2)) & 0x7f,
		       CONTROL_WORD | CONTROL_MODE(3));
	TEST_ASSERT_EQ(read_word(self->cpu, 1), state.channels[1].latched_count);
	TEST_ASSERT_EQ(read_word(self->cpu, 2), state.channels[2].latched_count);
}

TEST_F(pit, output_of_a_one_shot)
{
	program(self->cpu, 2, 0, 0xffff);
	TEST_ASSERT_EQ(cpu_inb(self->cpu, SPEAKER) & SPEAKER_OUT, 0);
	usleep(60000);
	TEST_ASSERT_EQ(cpu_inb(self->cpu, SPEAKER) & SPEAKER_OUT, SPEAKER_OUT);
	cpu_outb(self->cpu, CONTROL, READ_BACK_STATUS | READ_BACK_OF(2));
	TEST_ASSERT_EQ(cpu_inb(self->cpu, COUNTER(2)), 0x80 | CONTROL_WORD);
}

TEST_F(pit, speaker)
{
	struct kvm_pit_state2 state;

	cpu_outb(self->cpu, SPEAKER, 0xff);
	TEST_ASSERT_EQ(cpu_inb(self->cpu, SPEAKER) & 0xcf, SPEAKER_GATE | SPEAKER_DATA);
	get_pit(self->ivm, &state);
	TEST_ASSERT_EQ(state.flags, KVM_PIT_FLAGS_SPEAKER_DATA_ON);
	TEST_ASSERT_EQ(state.channels[2].gate, 1);
	cpu_outb(self->cpu, SPEAKER, SPEAKER_GATE);
	TEST_ASSERT_EQ(cpu_inb(self->cpu, SPEAKER) & 0xcf, SPEAKER_GATE);
	/* The ports behind it are somebody else's. */
	TEST_ASSERT_EQ(cpu_inb(self->cpu, SPEAKER + 1), 0xff);
	TEST_ASSERT_EQ(cpu_inb(self->cpu, SPEAKER + 3), 0xff);
}

TEST_F(pit, gate_starts_over)
{
	struct kvm_pit_state2 before, after;
	int mode;

	for (mode = 0; mode < 6; mode++) {
		program(self->cpu, 2, mode, 0x8000);
		cpu_outb(self->cpu, SPEAKER, 0);
		get_pit(self->ivm, &before);
		usleep(1000);
		cpu_outb(self->cpu, SPEAKER, SPEAKER_GATE);
		get_pit(self->ivm, &after);
		TEST_ASSERT((after.channels[2].count_load_time !=
			     before.channels[2].count_load_time) ==
			    (mode != 0 && mode != 4), "mode %d", mode);
	}
}

TEST_F(pit, ticks_through_the_pic)
{
	u64 start;

	route_to_pic(self->cpu);
	start = now_ns();
	program(self->cpu, 0, 2, COUNT_100HZ);
	cpu_wait_irqs(self->cpu, 10, LONG_TIME);
	expect_all_ticks(self->cpu, start);
	TEST_ASSERT_EQ(self->cpu->guest->log[0], PIC_BASE);
	TEST_ASSERT_EQ(self->cpu->guest->log[9], PIC_BASE);
}

TEST_F(pit, ticks_through_the_ioapic)
{
	u64 start;

	route_to_ioapic(self->ivm);
	start = now_ns();
	program(self->cpu, 0, 3, COUNT_100HZ);
	cpu_wait_irqs(self->cpu, 10, LONG_TIME);
	expect_all_ticks(self->cpu, start);
	TEST_ASSERT_EQ(self->cpu->guest->log[0], VECTOR);
}

TEST_F(pit, ticks_that_the_guest_missed_are_reinjected)
{
	u64 start;

	route_to_pic(self->cpu);
	start = now_ns();
	program(self->cpu, 0, 2, COUNT_100HZ);
	usleep(300000);
	expect_all_ticks(self->cpu, start);
	usleep(200000);
	expect_all_ticks(self->cpu, start);
}

TEST_F(pit, ticks_reinjected_through_the_ioapic)
{
	u64 start;

	route_to_ioapic(self->ivm);
	start = now_ns();
	program(self->cpu, 0, 2, COUNT_100HZ);
	usleep(300000);
	expect_all_ticks(self->cpu, start);
}

TEST_F(pit, without_reinjection_missed_ticks_are_lost)
{
	u64 start, ticks;
	u32 nr;

	set_reinject(self->ivm, false);
	route_to_pic(self->cpu);
	start = now_ns();
	program(self->cpu, 0, 2, COUNT_100HZ);
	usleep(300000);
	nr = cpu_wait_irqs(self->cpu, 5, LONG_TIME);
	ticks = (now_ns() - start) / PERIOD_NS;
	TEST_ASSERT(nr >= 5 && nr + 25 < ticks + 2, "%u of %lu ticks", nr, ticks);

	/* Once it is on again, from there on none is. */
	set_reinject(self->ivm, true);
	cpu_clear_log(self->cpu);
	start = now_ns();
	program(self->cpu, 0, 2, COUNT_100HZ);
	usleep(100000);
	expect_all_ticks(self->cpu, start);
}

TEST_F(pit, unmasking_forgets_missed_ticks)
{
	u64 start, ticks;
	u32 nr;

	route_to_pic(self->cpu);
	start = now_ns();
	program(self->cpu, 0, 2, COUNT_100HZ);
	cpu_outb(self->cpu, 0x21, 0xff);
	usleep(300000);
	cpu_outb(self->cpu, 0x21, 0xfe);
	nr = cpu_wait_irqs(self->cpu, 3, LONG_TIME);
	ticks = (now_ns() - start) / PERIOD_NS;
	TEST_ASSERT(nr >= 3 && nr + 25 < ticks + 3, "%u of %lu ticks", nr, ticks);
}

TEST_F(pit, one_shot_ticks_once)
{
	static const int modes[] = { 0, 1, 4 };
	int i;

	route_to_pic(self->cpu);
	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		program(self->cpu, 0, modes[i], COUNT_100HZ);
		cpu_wait_irqs(self->cpu, 1, LONG_TIME);
		usleep(50000);
		cpu_take_irqs(self->cpu);
		cpu_expect_log(self->cpu, PIC_BASE);
	}
	/* Mode 5 would be started by the gate, which is wired to high. */
	program(self->cpu, 0, 5, COUNT_100HZ);
	usleep(50000);
	cpu_take_irqs(self->cpu);
	cpu_expect_no_irqs(self->cpu);
}

TEST_F(pit, a_tick_wakes_from_halt)
{
	route_to_pic(self->cpu);
	program(self->cpu, 0, 0, COUNT_100HZ);
	cpu_halt(self->cpu);
	cpu_expect_log(self->cpu, PIC_BASE);
}

TEST_F(pit, nmi_watchdog)
{
	u64 deadline = now_ns() + 20000000000ull;
	int i;

	for (i = 0; i < 2; i++)
		cpu_apic_write(&self->ivm->cpu[i], APIC_LVT0, APIC_DM_NMI);
	program(self->cpu, 0, 0, COUNT_100HZ);
	for (i = 0; i < 2; i++) {
		while (!cpu_take_irqs(&self->ivm->cpu[i]) && now_ns() < deadline)
			usleep(1000);
		cpu_expect_log(&self->ivm->cpu[i], NMI_VECTOR);
	}
	/* With LINT0 masked, none. */
	for (i = 0; i < 2; i++)
		cpu_apic_write(&self->ivm->cpu[i], APIC_LVT0, APIC_LVT_MASKED);
	program(self->cpu, 0, 0, COUNT_100HZ);
	usleep(50000);
	for (i = 0; i < 2; i++) {
		cpu_take_irqs(&self->ivm->cpu[i]);
		cpu_expect_no_irqs(&self->ivm->cpu[i]);
	}
}

TEST_F(pit, hpet_takes_over)
{
	struct kvm_pit_state2 state;
	u64 start;
	int i;

	route_to_pic(self->cpu);
	program(self->cpu, 0, 2, COUNT_100HZ);
	cpu_wait_irqs(self->cpu, 1, LONG_TIME);
	get_pit(self->ivm, &state);
	state.flags = KVM_PIT_FLAGS_HPET_LEGACY;
	set_pit(self->ivm, &state);
	/* The last tick may be on its way still, in the PIT's thread. */
	for (i = 0; i < 3; i++) {
		usleep(100000);
		cpu_clear_log(self->cpu);
		cpu_take_irqs(self->cpu);
	}
	cpu_expect_no_irqs(self->cpu);

	get_pit(self->ivm, &state);
	TEST_ASSERT_EQ(state.flags, KVM_PIT_FLAGS_HPET_LEGACY);
	TEST_ASSERT_EQ(state.channels[0].mode, 2);
	state.flags = 0;
	start = now_ns();
	set_pit(self->ivm, &state);
	usleep(50000);
	expect_all_ticks(self->cpu, start);
}

TEST_F(pit, state_round_trip)
{
	struct kvm_pit_state2 state, again;
	struct irq_vm *other = irq_vm_create(1, IRQCHIP_FULL, false);
	u64 start;
	int i;

	create_pit(other, KVM_PIT_SPEAKER_DUMMY);
	program(self->cpu, 0, 2, COUNT_100HZ);
	program(self->cpu, 2, 3, 0x4321);
	cpu_outb(self->cpu, SPEAKER, SPEAKER_GATE | SPEAKER_DATA);
	cpu_outb(self->cpu, CONTROL, READ_BACK | READ_BACK_OF(2));
	/* Half of a count. */
	cpu_outb(self->cpu, COUNTER(1), 0x55);
	get_pit(self->ivm, &state);

	route_to_pic(&other->cpu[0]);
	start = now_ns();
	set_pit(other, &state);
	get_pit(other, &again);
	for (i = 0; i < 3; i++) {
		if (i) {
			TEST_ASSERT(again.channels[i].count_load_time >= (s64)start,
				    "counter %d is not loaded anew", i);
			again.channels[i].count_load_time =
				state.channels[i].count_load_time;
		}
		TEST_ASSERT(!memcmp(&state.channels[i], &again.channels[i],
				    sizeof(state.channels[i])), "counter %d", i);
	}
	TEST_ASSERT_EQ(again.flags, state.flags);
	usleep(50000);
	expect_all_ticks(&other->cpu[0], start);
	irq_vm_free(other);
}

TEST_F(pit, old_ioctls_leave_the_flags)
{
	struct kvm_pit_state2 state2;
	struct kvm_pit_state state;

	cpu_outb(self->cpu, SPEAKER, SPEAKER_DATA);
	vm_ioctl(self->ivm->vm, KVM_GET_PIT, &state);
	state.channels[2].count = 0x777;
	vm_ioctl(self->ivm->vm, KVM_SET_PIT, &state);
	get_pit(self->ivm, &state2);
	TEST_ASSERT_EQ(state2.flags, KVM_PIT_FLAGS_SPEAKER_DATA_ON);
	TEST_ASSERT_EQ(state2.channels[2].count, 0x777);
}

/* Restored counts may be zero, and are divided by. */
TEST_F(pit, restored_counts_of_zero)
{
	struct kvm_pit_state2 state;
	int mode, i;

	for (mode = 0; mode < 8; mode++) {
		get_pit(self->ivm, &state);
		for (i = 0; i < 3; i++) {
			memset(&state.channels[i], 0, sizeof(state.channels[i]));
			state.channels[i].mode = mode;
			state.channels[i].rw_mode = 3;
			state.channels[i].read_state = 3;
			state.channels[i].gate = 1;
		}
		set_pit(self->ivm, &state);
		cpu_outb(self->cpu, CONTROL, READ_BACK | READ_BACK_OF(0) |
			 READ_BACK_OF(1) | READ_BACK_OF(2));
		for (i = 0; i < 3; i++) {
			read_word(self->cpu, i);
			count(self->cpu, i);
		}
		cpu_inb(self->cpu, SPEAKER);
		get_pit(self->ivm, &state);
		for (i = 0; i < 3; i++)
			TEST_ASSERT_EQ(state.channels[i].count, 0x10000);
	}
}

TEST_F(pit, short_periods_are_limited)
{
	u64 start, ticks;
	u32 nr;

	route_to_pic(self->cpu);
	start = now_ns();
	program(self->cpu, 0, 2, 1);
	nr = cpu_wait_irqs(self->cpu, 50, LONG_TIME);
	/* By default 200 us; 1 tick of the counter is less than 1 us. */
	ticks = (now_ns() - start) / 200000 + 2;
	TEST_ASSERT(nr <= ticks, "%u ticks, at most %lu were due", nr, ticks);
	program(self->cpu, 0, 0, 0xffff);
}

TEST(without_speaker)
{
	struct irq_vm *ivm = irq_vm_create(1, IRQCHIP_FULL, false);

	create_pit(ivm, 0);
	TEST_ASSERT_EQ(cpu_inb(&ivm->cpu[0], SPEAKER), 0xff);
	program(&ivm->cpu[0], 0, 2, COUNT_100HZ);
	irq_vm_free(ivm);
}

TEST(without_pit)
{
	struct irq_vm *ivm = irq_vm_create(1, IRQCHIP_FULL, false);

	TEST_ASSERT_EQ(cpu_inb(&ivm->cpu[0], COUNTER(0)), 0xff);
	TEST_ASSERT_EQ(cpu_inb(&ivm->cpu[0], SPEAKER), 0xff);
	irq_vm_free(ivm);
}

/* There is nothing behind the last counter. */
TEST_F(pit, control_port_is_not_read)
{
	int i;

	for (i = 0; i < 3; i++)
		program(self->cpu, i, 4, 0x1234);
	for (i = 0; i < 8; i++) {
		cpu_in(self->cpu, CONTROL, 1);
		/* Up to it, too: an access belongs to the port it begins at. */
		cpu_in(self->cpu, COUNTER(2), 2);
		cpu_in(self->cpu, COUNTER(0), 4);
	}
	/* That was not for user space, and what goes beyond it is. */
	TEST_ASSERT_EQ(self->cpu->nr_pio, 0);
	cpu_in(self->cpu, CONTROL, 2);
	TEST_ASSERT_EQ(self->cpu->nr_pio, 1);
}

/*
 * The timer follows vCPU 0 from one CPU to the next.  If it was stopped in the
 * meantime it must not run on there.
 */
TEST_F(pit, timer_follows_vcpu_0)
{
	struct kvm_pit_state2 state;
	struct cpu_thread thread;
	struct kvm_irqchip pic;
	u64 start = now_ns();
	int round, i;

	/* Every tick is seen as a request of the PIC's, which nobody takes. */
	set_reinject(self->ivm, false);
	cpu_outb(self->cpu, 0x21, 0xff);
	program(self->cpu, 0, 2, 300);
	get_pit(self->ivm, &state);
	cpu_thread_start(&thread, self->cpu, guest_spin_until, ~0u);
	/* On a kernel that checks a lot, fewer rounds: the harness waits for a minute. */
	for (round = 0; round < 200 && now_ns() - start < MOVES_NS; round++) {
		for (i = 0; i < 10; i++) {
			state.flags = 0;
			set_pit(self->ivm, &state);
			cpu_thread_move(&thread);
			usleep(10 * i);
			state.flags = KVM_PIT_FLAGS_HPET_LEGACY;
			set_pit(self->ivm, &state);
		}
		irqchip_get(self->ivm, KVM_IRQCHIP_PIC_MASTER, &pic);
		pic.chip.pic.irr &= ~1;
		irqchip_set(self->ivm, &pic);
		usleep(1000);
		irqchip_get(self->ivm, KVM_IRQCHIP_PIC_MASTER, &pic);
		TEST_ASSERT(!(pic.chip.pic.irr & 1), "round %d: it ticks on", round);
	}
	cpu_thread_stop(&thread);
	cpu_thread_join(&thread);
}

/* A VM that goes while its PIT ticks. */
TEST(goes_while_it_ticks)
{
	int i;

	for (i = 0; i < 20; i++) {
		struct irq_vm *ivm = irq_vm_create(1, IRQCHIP_FULL, false);

		create_pit(ivm, KVM_PIT_SPEAKER_DUMMY);
		route_to_pic(&ivm->cpu[0]);
		set_reinject(ivm, i & 1);
		program(&ivm->cpu[0], 0, 2, 300);
		cpu_wait_irqs(&ivm->cpu[0], 3, LONG_TIME);
		irq_vm_free(ivm);
	}
}

TEST_HARNESS_MAIN
