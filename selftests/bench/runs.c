// SPDX-License-Identifier: GPL-2.0
/*
 * How bench counts a batch of rounds, by kind of operation; and what each round
 * must have done, since a number is worth nothing if the path was another one.
 */
#include <pthread.h>
#include <sched.h>

#include "bench.h"
#include "cpu_thread.h"
#include "hyperv.h"

#define LOW_VECTOR		0x25
#define GSI_LEVEL		17
#define GSI_MSI			19
#define TDCR_DIV_1		0xb
/* In this time grace periods are over, and what they began. */
#define SETTLE_US		160000
#define NR_IOCTLS		4
/* Of the kernel's timer interrupt. */
#define TICK_NS			4000000ull

static void eoi_at(struct irq_cpu *cpu, bool yes)
{
	if (yes)
		cpu->guest->eoi = cpu->x2apic ? EOI_X2APIC : EOI_XAPIC;
	else
		cpu->guest->eoi = EOI_NONE;
}

void prepare(struct machine *m, const struct operation *o)
{
	struct bench_meter *meter = m->meter;
	u32 i;

	machine_reset(m);
	memset(meter, 0, sizeof(*meter));
	meter->op = o->op;
	meter->a = o->a;
	meter->b = o->b;
	meter->eoi = m->shape->x2apic ? guest_eoi_x2apic : guest_eoi_xapic;
	meter->expected = 1;
	eoi_at(m->cpu, false);
	for (i = 1; i < m->shape->runnable; i++)
		eoi_at(&m->ivm->cpu[i], true);
	if (!m->shape->x2apic)
		cpu_apic_write(m->cpu, APIC_ICR2, o->icr2);
}

static bool call(struct machine *m, guest_fn_t fn)
{
	cpu_call(m->cpu, fn, m->meter_gva, 0, 0);
	if (m->meter->repeated)
		ksft_print_msg("%u rounds were repeated\n", m->meter->repeated);
	return true;
}

bool run_op(struct machine *m, const struct operation *o)
{
	return call(m, bench_op);
}

/*
 * To vCPUs that are not in KVM_RUN: the sender's part. Each round has a vector of
 * its own, so that all of them are seen, and none meets one that is pending.
 */
bool run_to_stopped(struct machine *m, const struct operation *o)
{
	m->meter->step = 1;
	call(m, bench_op);
	return machine_has_pending(m, o->targets, NR_BATCH);
}

static void enable_hypercalls(struct machine *m, bool enable)
{
	cpu_wrmsr(m->cpu, HV_X64_MSR_GUEST_OS_ID, enable ? HYPERV_LINUX_OS_ID : 0);
}

bool run_hv_to_stopped(struct machine *m, const struct operation *o)
{
	bool ok;

	enable_hypercalls(m, true);
	ok = run_to_stopped(m, o);
	enable_hypercalls(m, false);
	return ok;
}

/* vCPUs that take interrupts, on the other CPUs of the host. */
struct targets {
	struct machine *m;
	u32 number;
	struct target {
		struct machine *m;
		u32 index;
		pthread_t thread;
	} target[IRQ_MAX_CPUS];
};

static void *target_thread(void *arg)
{
	struct sched_param first = { .sched_priority = 1 };
	struct target *t = arg;

	pin_self_to_cpu(1 + (t->index - 1) % (nr_host_cpus() - 1));
	/*
	 * What the fair scheduler does depends on what every thread has done before.
	 * One that does not halt leaves room for the kernel's own.
	 */
	if (!t->m->meter->spin)
		TEST_ASSERT(!sched_setscheduler(0, SCHED_FIFO, &first),
			    "cannot become a real-time thread: %s", strerror(errno));
	cpu_call(&t->m->ivm->cpu[t->index], bench_target, t->m->meter_gva, 0, 0);
	return NULL;
}

static void targets_start(struct targets *ts, struct machine *m, u32 number, bool spin)
{
	u64 halted;
	u32 i;

	m->meter->spin = spin;
	m->meter->expected = number;
	ts->number = number;
	for (i = 0; i < number; i++) {
		ts->target[i] = (struct target) { .m = m, .index = i + 1 };
		TEST_ASSERT(!pthread_create(&ts->target[i].thread, NULL, target_thread,
					    &ts->target[i]), "cannot start a vCPU thread");
	}
	do {
		usleep(1000);
		halted = 0;
		for (i = 1; !spin && i <= number; i++)
			halted += vcpu_get_stat(m->ivm->cpu[i].vcpu, blocking);
	} while (READ_ONCE(m->meter->ready) < number || (!spin && halted < number));
}

static void targets_end(struct targets *ts)
{
	u32 i;

	for (i = 0; i < ts->number; i++)
		pthread_join(ts->target[i].thread, NULL);
}

/* Each has taken those of the rounds, and if it halts the one that ended the loop. */
static bool targets_took(struct targets *ts, struct machine *m)
{
	u32 i, nr, least = NR_BATCH + m->meter->repeated + !m->meter->spin;

	for (i = 1; i <= ts->number; i++) {
		nr = m->ivm->cpu[i].guest->nr_irqs;
		/* A repeated round's was doubled at one of them at least. */
		if (nr < least || nr > least + MAX_DOUBLED) {
			ksft_print_msg("target %u: %u interrupts\n", i, nr);
			return false;
		}
	}
	return true;
}

/*
 * Where several CPUs work, a round begins at one time between two ticks: the
 * emulator lets a CPU run until the next timer is due at most.  And so does one of
 * the guest's timer, which costs more where the tick is the next to be due.
 */
static void wait_for_phase(void)
{
	u64 next = (now_ns() / TICK_NS + 1) * TICK_NS + TICK_NS / 4;
	struct timespec time = { .tv_sec = next / 1000000000, .tv_nsec = next % 1000000000 };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

/* The same for rounds that a guest begins.  That time is in its past. */
static void set_phase(struct machine *m)
{
	u64 since = (now_ns() + TICK_NS - TICK_NS / 4) % TICK_NS;

	m->meter->period = TICK_NS * guest_tsc_khz / 1000000;
	m->meter->phase = cpu_rdtsc(m->cpu) - since * guest_tsc_khz / 1000000;
}

static bool run_to_targets(struct machine *m, const struct operation *o, bool spin)
{
	struct targets ts;

	if (o->targets > 1 && !spin)
		set_phase(m);
	targets_start(&ts, m, o->targets, spin);
	call(m, bench_send);
	targets_end(&ts);
	return targets_took(&ts, m);
}

bool run_to_halted(struct machine *m, const struct operation *o)
{
	return run_to_targets(m, o, false);
}

bool run_to_running(struct machine *m, const struct operation *o)
{
	return run_to_targets(m, o, true);
}

bool run_hv_to_halted(struct machine *m, const struct operation *o)
{
	bool ok;

	enable_hypercalls(m, true);
	ok = run_to_halted(m, o);
	enable_hypercalls(m, false);
	return ok;
}

static bool nothing_left(struct machine *m)
{
	return lapic_count(m->cpu, APIC_IRR) == 0 && lapic_count(m->cpu, APIC_ISR) == 0;
}

bool run_self(struct machine *m, const struct operation *o)
{
	return call(m, bench_self) && nothing_left(m);
}

bool run_eoi(struct machine *m, const struct operation *o)
{
	return call(m, bench_eoi) && nothing_left(m);
}

/* A write to a register, of a value that it does not have before. */
bool run_register(struct machine *m, const struct operation *o)
{
	u32 reg = m->shape->x2apic ? (o->a - APIC_BASE_MSR) << 4 : o->a - APIC_DEFAULT_GPA;
	u32 before = lapic_reg(m->cpu, reg);

	call(m, bench_op);
	return before != o->b && lapic_reg(m->cpu, reg) == o->b;
}

/*
 * SVM intercepts CR8 only while TPR holds an interrupt back; with VMX's TPR shadow
 * there is no exit then, either.
 */
bool run_cr8(struct machine *m, const struct operation *o)
{
	u64 exits;

	cpu_set_cr8(m->cpu, o->a);
	cpu_send_ipi(m->cpu, APIC_DEST_SELF | APIC_INT_ASSERT | LOW_VECTOR, 0);
	exits = vcpu_get_stat(m->cpu->vcpu, exits);
	call(m, bench_op);
	exits = vcpu_get_stat(m->cpu->vcpu, exits) - exits;
	return (exits >= NR_BATCH || host_cpu_is_intel) &&
	       lapic_vector(m->cpu, APIC_IRR, LOW_VECTOR);
}

bool run_arm_deadline(struct machine *m, const struct operation *o)
{
	cpu_apic_write(m->cpu, APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | TIMER_VECTOR);
	call(m, bench_op);
	return cpu_rdmsr(m->cpu, MSR_TSC_DEADLINE) == o->b;
}

/* KVM's APIC timer counts ns. */
bool run_fire(struct machine *m, const struct operation *o)
{
	struct bench_meter *meter = m->meter;
	u32 lvtt = TIMER_VECTOR;

	meter->ticks = TIMER_TICKS * guest_tsc_khz / 1000000;
	if (o->op == op_tsc_deadline) {
		meter->a = meter->ticks;
		lvtt |= APIC_LVT_TIMER_TSCDEADLINE;
	}
	cpu_apic_write(m->cpu, APIC_TDCR, TDCR_DIV_1);
	cpu_apic_write(m->cpu, APIC_LVTT, lvtt);
	set_phase(m);
	return call(m, bench_timer) && nothing_left(m);
}

/* An MSI to a vCPU that is not in KVM_RUN, and takes it after the round. */
static bool run_msi(struct machine *m, bool (*send)(struct machine *m, int fd), int fd)
{
	struct irq_cpu *target = &m->ivm->cpu[1];
	bool ok;
	int i = 0;

	target->guest->on_irq = NULL;
	while (i < NR_BATCH) {
		count_begin();
		ok = send(m, fd);
		count_end();
		m->meter->count[i] = count_read();
		if (!ok || lapic_count(target, APIC_IRR) != 1)
			break;
		cpu_take_irqs(target);
		if (target->guest->nr_irqs < 1 || target->guest->log[0] != VECTOR)
			break;
		cpu_clear_log(target);
		i++;
	}
	target->guest->on_irq = bench_on_irq;
	return i == NR_BATCH;
}

static bool send_by_ioctl(struct machine *m, int unused)
{
	return signal_msi(m->ivm, MSI_ADDR(1), 0, VECTOR) == 1;
}

static bool send_by_eventfd(struct machine *m, int fd)
{
	eventfd_signal(fd);
	return true;
}

bool run_signal_msi(struct machine *m, const struct operation *o)
{
	return run_msi(m, send_by_ioctl, -1);
}

static void set_routes(struct machine *m)
{
	struct kvm_irq_routing *routes = routing_create();

	routing_add_pin(routes, GSI_LEVEL, KVM_IRQCHIP_IOAPIC, GSI_LEVEL);
	routing_add_msi(routes, GSI_MSI, MSI_ADDR(1), 0, VECTOR);
	routing_commit(m->ivm, routes);
	free(routes);
}

static int irqfd_create(struct machine *m, u32 gsi, int resamplefd)
{
	int fd = eventfd(0, 0);

	TEST_ASSERT(fd >= 0, "cannot create an eventfd");
	set_routes(m);
	TEST_ASSERT_EQ(irqfd_assign(m->ivm, fd, gsi, resamplefd), 0);
	return fd;
}

bool run_irqfd_msi(struct machine *m, const struct operation *o)
{
	int fd = irqfd_create(m, GSI_MSI, -1);
	bool ok = run_msi(m, send_by_eventfd, fd);

	kvm_close(fd);
	return ok;
}

/*
 * Rounds that begin with a write to an eventfd and end in the target. This thread
 * lets the worker run that carries it out, if there is one on its CPU; it does not
 * sleep, since that would be in the count.
 */
static bool run_eventfd(struct machine *m, int fd, int resamplefd)
{
	struct bench_meter *meter = m->meter;
	int i = 0;

	while (i < NR_BATCH) {
		wait_for_phase();
		meter->arrived = 0;
		meter->ended = false;
		meter->sent = false;
		count_begin();
		eventfd_signal(fd);
		if (resamplefd >= 0)
			sched_yield();
		WRITE_ONCE(meter->sent, true);
		while (!READ_ONCE(meter->ended))
			cpu_relax();
		meter->count[i] = count_read();
		if (resamplefd >= 0 && eventfd_take(resamplefd, 0) != 1)
			return false;
		if (READ_ONCE(meter->arrived) > 1)
			meter->repeated++;
		else
			i++;
		if (meter->repeated > MAX_DOUBLED)
			return false;
	}
	/* A target that halts again has to be woken to see it. */
	wait_for_phase();
	WRITE_ONCE(meter->stop, true);
	if (!meter->spin)
		eventfd_signal(fd);
	return true;
}

bool run_irqfd_msi_to_halted(struct machine *m, const struct operation *o)
{
	int fd = irqfd_create(m, GSI_MSI, -1);
	struct targets ts;
	bool ok;

	targets_start(&ts, m, 1, false);
	ok = run_eventfd(m, fd, -1);
	targets_end(&ts);
	kvm_close(fd);
	return ok && targets_took(&ts, m);
}

/* It is a level that stays until the EOI, which is told. */
static bool resamples(struct machine *m, int fd, int resamplefd)
{
	struct irq_cpu *target = &m->ivm->cpu[1];
	bool ok;

	eventfd_signal(fd);
	ok = lapic_wait_irr(target, VECTOR) &&
	     (ioapic_rte(m->ivm, GSI_LEVEL) & RTE_REMOTE_IRR) && !eventfd_take(resamplefd, 0);
	target->guest->on_irq = NULL;
	cpu_take_irqs(target);
	target->guest->on_irq = bench_on_irq;
	cpu_clear_log(target);
	return ok && eventfd_take(resamplefd, 0) == 1 &&
	       !(ioapic_rte(m->ivm, GSI_LEVEL) & RTE_REMOTE_IRR);
}

/* Level assert, the target's EOI, and the resample eventfd that it signals. */
bool run_resample(struct machine *m, const struct operation *o)
{
	int resamplefd = eventfd(0, EFD_NONBLOCK);
	int fd = irqfd_create(m, GSI_LEVEL, resamplefd);
	struct targets ts;
	bool ok;

	ioapic_set_rte(m->ivm, GSI_LEVEL, RTE_DEST(1) | RTE_LEVEL | VECTOR);
	if (!resamples(m, fd, resamplefd))
		return false;
	m->meter->until_eoi = true;
	targets_start(&ts, m, 1, true);
	ok = run_eventfd(m, fd, resamplefd);
	targets_end(&ts);
	ioapic_set_rte(m->ivm, GSI_LEVEL, RTE_MASKED);
	kvm_close(fd);
	kvm_close(resamplefd);
	return ok && targets_took(&ts, m);
}

/*
 * A round is the mean of four, for the map of destinations that KVM makes anew at
 * each KVM_SET_LAPIC takes objects of a slab's, whose counts go around in four.
 */
static bool run_lapic_ioctl(struct machine *m, unsigned long cmd)
{
	struct kvm_lapic_state state = m->initial[0], after;
	struct count *sum, count;
	int i, n, r;

	for (i = 0; i < NR_BATCH; i++) {
		sum = &m->meter->count[i];
		memset(sum, 0, sizeof(*sum));
		for (n = 0; n < NR_IOCTLS; n++) {
			/* What it leaves to RCU costs more if there is some already. */
			usleep(SETTLE_US);
			wait_for_phase();
			count_begin();
			r = ioctl(m->cpu->vcpu->fd, cmd, &state);
			count_end();
			count = count_read();
			sum->total += count.total;
			sum->own += count.own;
			if (r)
				return false;
		}
		sum->total /= NR_IOCTLS;
		sum->own /= NR_IOCTLS;
	}
	lapic_get(m->cpu, &after);
	return !memcmp(&state, &m->initial[0], sizeof(state)) &&
	       !memcmp(&after, &m->initial[0], sizeof(after));
}

bool run_get_lapic(struct machine *m, const struct operation *o)
{
	return run_lapic_ioctl(m, KVM_GET_LAPIC);
}

bool run_set_lapic(struct machine *m, const struct operation *o)
{
	return run_lapic_ioctl(m, KVM_SET_LAPIC);
}
