// SPDX-License-Identifier: GPL-2.0
/*
 * A virtual machine under interrupt load moves between KVM's irqchip and
 * ferric's, back and forth: saved by the ioctls, restored into a new VM on the
 * same memory, it goes on where it was.  No interrupt is lost or comes twice,
 * timers expire on time, ticks of the PIT are made up for.
 *
 * The load is that of migration_guest.h.  It is stopped anywhere, like QEMU
 * does it, by a signal; then the devices send some more, for an interrupt that
 * comes while no vCPU runs has to be in the saved state.
 */
#include <getopt.h>
#include <time.h>

#include "kselftest.h"
#include "migration_guest.h"
#include "provider.h"
#include "random.h"
#include "tcg.h"
#include "vm_state.h"

#define DEFAULT_ROUND_TRIPS	4
/* How long to wait for what must come. */
#define PATIENCE_NS		(60000 * MS)
/* In that time the guest misses ticks of the PIT, to be made up for. */
#define MISSED_US		(3 * PIT_PERIOD_NS / 1000)
#define POLL_US			500
/* Less than that times the VM runs on when all is well. */
#define MAX_POLLS		20
/* Nobody sends any more: what comes within that time is one too many. */
#define QUIET_US		20000
#define DIVIDE_BY_1		0xb
/* The output of the PIT's counter 0, as a rate generator. */
#define PIT_HZ			1193181
#define PIT_COUNT		(PIT_HZ / 25)
#define PIT_PERIOD_NS		(PIT_COUNT * 1000 * MS / PIT_HZ)

#define MAX_SOURCES		(NR_VCPUS * NR_VCPUS + NR_DEVICES + NR_VCPUS + 1)

enum trigger { PULSE, LINE, MESSAGE, EVENT };

static const struct {
	const char *name;
	u32 gsi;
	enum trigger trigger;
} devices[NR_DEVICES] = {
	[EDGE] = { "edge line", EDGE_GSI, PULSE },
	[LEVEL_A] = { "shared level line, first device", LEVEL_GSI, LINE },
	[LEVEL_B] = { "shared level line, second device", LEVEL_GSI, LINE },
	[MASKED] = { "level line masked until served", MASKED_GSI, LINE },
	[PIC_EDGE] = { "PIC, edge", PIC_EDGE_GSI, PULSE },
	[PIC_LEVEL] = { "PIC, level", PIC_LEVEL_GSI, LINE },
	[MSI] = { "MSI", 0, MESSAGE },
	[IRQFD] = { "MSI of an irqfd", IRQFD_GSI, EVENT },
};

/* Something that counts interrupts. */
struct source {
	char name[48];
	const struct channel *channel;	/* NULL: of ticks */
	const u64 *count;
	u64 base;			/* of the count, when the VM was restored */
	u64 pending;			/* ticks in the state that was restored */
	u64 surplus;			/* ticks of the VMs before that were not due */
	bool slow;			/* not each time that the VM runs */
};

struct migration {
	struct irq_vm *ivm;
	enum provider provider;
	struct load *load;
	gva_t load_gva;
	u64 seed;
	int irqfd;
	/* Of devices and their lines: the vCPUs' threads release them. */
	pthread_mutex_t lock;
	pthread_t threads[NR_VCPUS];
	/* When the timers of this VM were started: not before, and not after. */
	u64 started_from, started_by;
	u32 nr_sources;
	struct source sources[MAX_SOURCES];
	struct source *pit, *periodic;
};

/* The hook of irq_vm.h has no argument for it. */
static struct migration *current;

static const char * const provider_names[] = {
	[PROVIDER_KVM] = "kvm",
	[PROVIDER_FERRIC] = "ferric",
};

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/*
 * Devices.
 */
static bool line_is_high(const struct load *load, u32 gsi)
{
	enum device device;

	for (device = 0; device < NR_DEVICES; device++) {
		if (devices[device].gsi == gsi && load->asserted[device])
			return true;
	}
	return false;
}

static void acknowledge(struct irq_cpu *cpu, u16 port, u32 device)
{
	struct migration *m = current;

	TEST_ASSERT(port == ACK_PORT && device < NR_DEVICES,
		    "the guest wrote %u to port %#x", device, port);
	pthread_mutex_lock(&m->lock);
	WRITE_ONCE(m->load->asserted[device], false);
	if (!line_is_high(m->load, devices[device].gsi))
		irq_line(m->ivm, devices[device].gsi, 0);
	pthread_mutex_unlock(&m->lock);
}

static void send_from(struct migration *m, enum device device)
{
	struct channel *channel = &m->load->device[device];
	u32 gsi = devices[device].gsi;

	pthread_mutex_lock(&m->lock);
	if (m->load->asserted[device] || channel->sent != READ_ONCE(channel->received))
		goto out;
	WRITE_ONCE(channel->sent, channel->sent + 1);
	switch (devices[device].trigger) {
	case PULSE:
		irq_line(m->ivm, gsi, 1);
		irq_line(m->ivm, gsi, 0);
		break;
	case LINE:
		WRITE_ONCE(m->load->asserted[device], true);
		irq_line(m->ivm, gsi, 1);
		break;
	case MESSAGE:
		TEST_ASSERT_EQ(signal_msi(m->ivm, MSI_ADDR(MSI_CPU), 0, MSI_VECTOR), 1);
		break;
	case EVENT:
		eventfd_signal(m->irqfd);
		break;
	}
out:
	pthread_mutex_unlock(&m->lock);
}

static void send_from_all(struct migration *m)
{
	enum device device;

	for (device = 0; device < NR_DEVICES; device++)
		send_from(m, device);
}

/*
 * Virtual machines.
 */

/* What is the host's, and no part of the saved state. */
static void connect_devices(struct migration *m)
{
	struct kvm_pit_config config = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct kvm_irq_routing *routes = routing_create();
	u32 gsi;

	vm_ioctl(m->ivm->vm, KVM_CREATE_PIT2, &config);
	for (gsi = 0; gsi < IOAPIC_PINS; gsi++)
		routing_add_line(routes, gsi);
	routing_add_msi(routes, IRQFD_GSI, MSI_ADDR(IRQFD_CPU), 0, IRQFD_VECTOR);
	routing_commit(m->ivm, routes);
	free(routes);
	TEST_ASSERT_EQ(irqfd_assign(m->ivm, m->irqfd, IRQFD_GSI, -1), 0);
}

static void set_up_chips(struct migration *m)
{
	static const struct {
		u16 port;
		u8 val;
	} pic[] = {
		{ 0x20, 0x11 }, { 0x21, PIC_BASE }, { 0x21, 0x04 }, { 0x21, 0x01 },
		{ 0xa0, 0x11 }, { 0xa1, PIC_BASE + 8 }, { 0xa1, 0x02 }, { 0xa1, 0x01 },
		/* The cascade is on line 2. */
		{ 0x21, (u8)~(BIT(PIC_EDGE_GSI) | BIT(2)) },
		{ 0xa1, (u8)~BIT(PIC_LEVEL_GSI - 8) },
		{ 0x4d1, BIT(PIC_LEVEL_GSI - 8) },
		/* Counter 0, both bytes, mode 2. */
		{ 0x43, 0x34 }, { 0x40, PIT_COUNT & 0xff }, { 0x40, PIT_COUNT >> 8 },
	};
	struct irq_vm *ivm = m->ivm;
	int i;

	for (i = 0; i < ARRAY_SIZE(pic); i++)
		cpu_outb(&ivm->cpu[0], pic[i].port, pic[i].val);
	ioapic_set_rte(ivm, EDGE_GSI, RTE_DEST(EDGE_CPU) | EDGE_VECTOR);
	ioapic_set_rte(ivm, LEVEL_GSI, RTE_DEST(LEVEL_CPU) | RTE_LEVEL | LEVEL_VECTOR);
	ioapic_set_rte(ivm, MASKED_GSI, RTE_DEST(MASKED_CPU) | RTE_LEVEL | MASKED_VECTOR);
	ioapic_set_rte(ivm, PIT_GSI, RTE_DEST(PIT_CPU) | PIT_VECTOR);
}

static void set_up_cpu(struct irq_cpu *cpu, u32 index)
{
	static const u32 modes[NR_VCPUS] = {
		[PERIODIC_CPU] = APIC_LVT_TIMER_PERIODIC,
		[ONE_SHOT_CPU] = APIC_LVT_TIMER_ONESHOT,
		[DEADLINE_CPU] = APIC_LVT_TIMER_TSCDEADLINE,
		[SLOW_CPU] = APIC_LVT_TIMER_ONESHOT,
	};

	cpu_apic_write(cpu, APIC_LVT0, index == PIC_CPU ? APIC_LVT_EXTINT : APIC_LVT_MASKED);
	cpu_apic_write(cpu, APIC_TDCR, DIVIDE_BY_1);
	cpu_apic_write(cpu, APIC_LVTT, modes[index] | TIMER_VECTOR);
	if (index == PERIODIC_CPU)
		cpu_apic_write(cpu, APIC_TMICT, PERIOD_NS);
}

static void create_vm(struct migration *m, bool x2apic)
{
	int lock = provider_begin(m->provider);
	struct irq_vm *ivm;
	int i, vector;

	ivm = irq_vm_create_empty(IRQCHIP_FULL);
	provider_end(lock);
	m->ivm = ivm;
	m->started_from = now_ns();
	connect_devices(m);
	for (i = 0; i < NR_VCPUS; i++)
		cpu_enable_apic(irq_vm_add_cpu(ivm, i), x2apic);
	ivm->port_written = acknowledge;

	m->load_gva = vm_alloc(ivm->vm, sizeof(*m->load), KVM_UTIL_MIN_VADDR);
	m->load = addr_gva2hva(ivm->vm, m->load_gva);
	memset(m->load, 0, sizeof(*m->load));
	m->load->x2apic = x2apic;
	m->load->tsc_khz = guest_tsc_khz;
	m->load->patience = PATIENCE_NS / MS * guest_tsc_khz;
	for (i = 0; i < NR_VCPUS; i++)
		m->load->seed[i] = random_next(&m->seed);
	for (vector = 0x20; vector < 0x100; vector++)
		vm_install_exception_handler(ivm->vm, vector, guest_interrupt);

	for (i = 0; i < NR_VCPUS; i++)
		set_up_cpu(&ivm->cpu[i], i);
	set_up_chips(m);
	for (i = 0; i < NR_VCPUS; i++)
		cpu_begin_call(&ivm->cpu[i], guest_load, m->load_gva, 0, 0);
	m->started_by = now_ns();
}

/* Is it in IRR, or in service? */
static bool has_vector(const struct kvm_lapic_state *lapic, u8 vector)
{
	const u32 word = APIC_VECTOR_TO_REG_OFFSET(vector);
	u32 bits = state_reg(lapic, APIC_IRR + word) | state_reg(lapic, APIC_ISR + word);

	return bits & BIT(APIC_VECTOR_TO_BIT_NUMBER(vector));
}

/*
 * Ticks that there was no time for; the timers run by the same clock.  That of
 * the local APIC was anywhere in its period when it was restored.
 */
static u64 ticks_not_due(const struct migration *m, const struct source *source)
{
	bool is_pit = source == m->pit;
	u64 due = (now_ns() - m->started_from) / (is_pit ? PIT_PERIOD_NS : PERIOD_NS);
	u64 ticks = *source->count - source->base;

	due += source->pending + !is_pit;
	return ticks > due ? ticks - due : 0;
}

/* Before it is restored: what in it is no fault of the destination's. */
static void look_at_state(struct migration *m, const struct vm_state *state)
{
	u32 i;

	m->periodic->surplus += ticks_not_due(m, m->periodic);
	m->pit->surplus += ticks_not_due(m, m->pit);
	for (i = 0; i < m->nr_sources; i++) {
		m->sources[i].base = *m->sources[i].count;
		m->sources[i].pending = 0;
	}
	m->pit->pending = has_vector(&state->cpu[PIT_CPU].lapic, PIT_VECTOR);
	m->periodic->pending = has_vector(&state->cpu[PERIODIC_CPU].lapic, TIMER_VECTOR);
	for (i = 0; i < NR_VCPUS; i++) {
		const struct kvm_lapic_state *lapic = &state->cpu[i].lapic;

		/* A timer that is over will be taken for one that is due. */
		m->load->timer[i].may_repeat = has_vector(lapic, TIMER_VECTOR) &&
					       state_reg(lapic, APIC_TMICT) &&
					       !state_reg(lapic, APIC_TMCCT);
	}
}

/* Timers go on from where they were; returns the number of those that do not. */
static int check_timers(struct migration *m, const struct vm_state *state)
{
	int faults = 0;
	u32 i;

	for (i = 0; i < NR_VCPUS; i++) {
		u32 before = state_reg(&state->cpu[i].lapic, APIC_TMCCT);
		u32 after = lapic_reg(&m->ivm->cpu[i], APIC_TMCCT);
		u64 deadline = vcpu_get_msr(m->ivm->cpu[i].vcpu, MSR_TSC_DEADLINE);

		/* A periodic one may have had its turn since. */
		if ((i != PERIODIC_CPU && after > before) ||
		    deadline != state->cpu[i].tsc_deadline) {
			ksft_print_msg("timer of vCPU %u: %u, then %u; deadline %#lx, then %#lx\n",
				       i, before, after, state->cpu[i].tsc_deadline,
				       deadline);
			faults++;
		}
	}
	return faults;
}

/* Returns the number of faults. */
static int move_vm(struct migration *m, enum provider to)
{
	long users = ferric_use_count();
	struct vm_state *state = malloc(sizeof(*state));
	int lock, faults;

	TEST_ASSERT(state, "out of memory");
	/* Waits until what was signalled is delivered. */
	kvm_deassign_irqfd(m->ivm->vm, IRQFD_GSI, m->irqfd);
	vm_state_save(m->ivm, state);
	look_at_state(m, state);

	lock = provider_begin(to);
	irq_vm_recreate(m->ivm);
	/* Each VM of ferric's has a reference on the module. */
	if (ferric_is_loaded())
		TEST_ASSERT_EQ(ferric_use_count() - users, (long)to - (long)m->provider);
	provider_end(lock);
	m->provider = to;

	connect_devices(m);
	m->started_from = now_ns();
	vm_state_restore(m->ivm, state);
	m->started_by = now_ns();
	faults = check_timers(m, state);
	vm_state_free(state);
	free(state);
	return faults;
}

/*
 * Accounts.
 */
static struct source *add_source(struct migration *m, const u64 *count,
				 const struct channel *channel)
{
	struct source *source = &m->sources[m->nr_sources++];

	memset(source, 0, sizeof(*source));
	source->channel = channel;
	source->count = channel ? &channel->received : count;
	return source;
}

static void add_sources(struct migration *m)
{
	struct load *load = m->load;
	u32 i, to;

	m->nr_sources = 0;
	for (i = 0; i < NR_VCPUS; i++) {
		for (to = 0; to < NR_VCPUS; to++)
			sprintf(add_source(m, NULL, &load->ipi[i][to])->name,
				"IPI of vCPU %u to %u", i, to);
	}
	for (i = 0; i < NR_DEVICES; i++)
		sprintf(add_source(m, NULL, &load->device[i])->name, "%s", devices[i].name);
	for (i = 0; i < NR_VCPUS; i++) {
		struct source *source;

		if (i == PERIODIC_CPU)
			continue;
		source = add_source(m, NULL, &load->timer[i].expiry);
		sprintf(source->name, "%s timer of vCPU %u",
			i == DEADLINE_CPU ? "TSC-deadline" : "one-shot", i);
		source->slow = i == SLOW_CPU;
	}
	m->periodic = add_source(m, &load->periodic_ticks, NULL);
	sprintf(m->periodic->name, "periodic timer");
	m->pit = add_source(m, &load->pit_ticks, NULL);
	sprintf(m->pit->name, "PIT");
}

/* Says what is wrong; returns how much is. */
static int check(struct migration *m)
{
	const struct load *load = m->load;
	u64 arrivals = 0;
	int faults = 0;
	u32 i;

	for (i = 0; i < m->nr_sources; i++) {
		const struct channel *channel = m->sources[i].channel;

		arrivals += *m->sources[i].count;
		if (channel && channel->repeated) {
			ksft_print_msg("%s: %lu sent, %lu received, %lu too many\n",
				       m->sources[i].name, channel->sent,
				       channel->received, channel->repeated);
			faults++;
		}
	}
	for (i = 0; i < NR_VCPUS; i++) {
		const struct timer *timer = &load->timer[i];

		if (timer->early > most_early_timers(timer->expiry.received) || timer->late) {
			ksft_print_msg("timer of vCPU %u: %lu late of %lu\n", i, timer->late,
				       timer->expiry.received);
			faults++;
		}
	}
	if (load->spurious) {
		ksft_print_msg("%lu interrupts without a reason\n", load->spurious);
		faults++;
	}
	/*
	 * More of them than of IPIs alone: an interrupt of the PIC is injected
	 * while one of the local APIC's waits for an interrupt window.
	 */
	if (load->doubled > most_repeated_by_processor(arrivals)) {
		ksft_print_msg("%lu delivered twice by the processor\n", load->doubled);
		faults++;
	}
	return faults;
}

/*
 * The PIT may give one too many, once in a long while: if the guest is faster
 * than the thread that injects, that one finds the request for a tick which it
 * has injected already, and the guest's acknowledgment of it.
 */
static int check_ticks(const struct migration *m, const struct source *source)
{
	u64 surplus = source->surplus + ticks_not_due(m, source);

	if (surplus <= (source == m->pit ? 1 + *source->count / 1000 : 0))
		return 0;
	ksft_print_msg("%s: %lu ticks, %lu more than were due\n", source->name,
		       *source->count, surplus);
	return 1;
}

/* What has had no interrupt yet since the VM was restored, or NULL. */
static const char *stands_still(const struct migration *m)
{
	u32 i;

	for (i = 0; i < m->nr_sources; i++) {
		const struct source *source = &m->sources[i];

		if (!source->slow && READ_ONCE(*source->count) <= source->base + source->pending)
			return source->name;
	}
	return NULL;
}

/*
 * NULL once all ticks of the PIT have come that were due by now.  Two are one
 * if the first came while that of the saved state was still pending.
 */
static const char *owes_ticks(const struct migration *m)
{
	u64 due = (now_ns() - m->started_by) / PIT_PERIOD_NS;

	return READ_ONCE(*m->pit->count) + m->pit->pending < m->pit->base + due ?
	       m->pit->name : NULL;
}

/* What was sent and has not come, or NULL. */
static const char *is_short_of(const struct migration *m)
{
	u32 i;

	for (i = 0; i < m->nr_sources; i++) {
		const struct channel *channel = m->sources[i].channel;

		if (channel && READ_ONCE(channel->received) != READ_ONCE(channel->sent))
			return m->sources[i].name;
	}
	return NULL;
}

/*
 * Running.
 */
static void *run_vcpu(void *cpu)
{
	TEST_ASSERT(!cpu_resume(cpu), "the guest has returned");
	return NULL;
}

/* Until @waits is content; devices send, unless the guest drains. */
static const char *wait_while(struct migration *m,
			      const char *(*waits)(const struct migration *m))
{
	u64 give_up = now_ns() + PATIENCE_NS;
	const char *missing;

	while ((missing = waits(m)) && now_ns() < give_up) {
		if (!m->load->draining)
			send_from_all(m);
		usleep(POLL_US);
	}
	return missing;
}

static const char *load_for_a_while(struct migration *m)
{
	u32 polls = random_below(&m->seed, MAX_POLLS);
	const char *missing;

	m->load->draining = false;
	missing = wait_while(m, stands_still);
	if (missing)
		return missing;
	/* A busy guest may not come to it on a slow machine. */
	m->load->draining = true;
	missing = wait_while(m, owes_ticks);
	m->load->draining = false;
	do {
		send_from_all(m);
		usleep(random_below(&m->seed, POLL_US));
	} while (polls--);
	return missing;
}

static const char *drain(struct migration *m)
{
	const char *missing;

	m->load->draining = true;
	missing = wait_while(m, is_short_of);
	usleep(QUIET_US);
	return missing;
}

/* Runs the VM and stops it.  Returns the number of faults. */
static int run(struct migration *m, const char *(*until)(struct migration *m))
{
	const char *missing;
	int i;

	for (i = 0; i < NR_VCPUS; i++)
		TEST_ASSERT(!pthread_create(&m->threads[i], NULL, run_vcpu, &m->ivm->cpu[i]),
			    "cannot start a thread");
	missing = until(m);
	for (i = 0; i < NR_VCPUS; i++)
		cpu_stop(&m->ivm->cpu[i], m->threads[i]);
	for (i = 0; i < NR_VCPUS; i++)
		pthread_join(m->threads[i], NULL);

	if (missing)
		ksft_print_msg("%s: lost\n", missing);
	return !!missing + check_ticks(m, m->pit) + check_ticks(m, m->periodic) + check(m);
}

static void report(const struct migration *m, u32 moves, u64 start)
{
	const struct load *load = m->load;
	u64 arrivals = 0, again = 0;
	u32 i;

	for (i = 0; i < m->nr_sources; i++)
		arrivals += *m->sources[i].count;
	for (i = 0; i < NR_VCPUS; i++) {
		const struct timer *timer = &load->timer[i];

		again += timer->again;
		if (timer->early)
			ksft_print_msg("timer of vCPU %u: %lu of %lu early, by %lu us at most\n",
				       i, timer->early, timer->expiry.received,
				       timer->earliest * 1000 / guest_tsc_khz);
	}
	ksft_print_msg("%u moves in %lu ms: %lu interrupts, %lu halts, %lu one-shot timers again\n",
		       moves, (u64)((now_ns() - start) / MS), arrivals, load->halts, again);
	if (load->doubled)
		ksft_print_msg("%lu delivered twice by the processor\n", load->doubled);
}

static bool migrate(bool x2apic, enum provider from, enum provider to, u32 round_trips, u64 seed)
{
	struct migration *m = calloc(1, sizeof(*m));
	u64 start = now_ns();
	int faults;
	u32 i, moves;

	TEST_ASSERT(m, "out of memory");
	current = m;
	m->provider = from;
	m->seed = seed;
	m->irqfd = kvm_new_eventfd();
	pthread_mutex_init(&m->lock, NULL);
	create_vm(m, x2apic);
	add_sources(m);

	faults = run(m, load_for_a_while);
	for (moves = 0; moves < 2 * round_trips && !faults; moves++) {
		enum provider next = moves % 2 ? from : to;

		/* Timers expire as well while nobody runs. */
		for (i = 0; i < NR_DEVICES; i++) {
			if (random_below(&m->seed, 8))
				send_from(m, i);
		}
		usleep(random_below(&m->seed, 3000));
		faults = move_vm(m, next);
		if (!random_below(&m->seed, 4))
			usleep(MISSED_US);
		faults += run(m, load_for_a_while);
		if (faults)
			ksft_print_msg("after move %u, to %s\n", moves + 1,
				       provider_names[next]);
	}
	if (!faults)
		faults = run(m, drain);
	report(m, moves, start);

	irq_vm_free(m->ivm);
	close(m->irqfd);
	free(m);
	return !faults;
}

static void usage(const char *name)
{
	fprintf(stderr, "%s [-n ROUND_TRIPS] [-s SEED]\n"
		"Round trips are %u by default between KVM's irqchip and ferric's, and a third\n"
		"of that number, each, between two VMs on the same one.\n",
		name, DEFAULT_ROUND_TRIPS);
	exit(KSFT_FAIL);
}

int main(int argc, char **argv)
{
	static const struct {
		enum provider from, to;
	} ways[] = {
		{ PROVIDER_KVM, PROVIDER_KVM },
		{ PROVIDER_FERRIC, PROVIDER_FERRIC },
		{ PROVIDER_KVM, PROVIDER_FERRIC },
	};
	u32 round_trips = DEFAULT_ROUND_TRIPS;
	u64 seed = 1;
	int opt, x2apic, i;

	while ((opt = getopt(argc, argv, "n:s:")) != -1) {
		switch (opt) {
		case 'n':
			round_trips = atoi_positive("round trips", optarg);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		default:
			usage(argv[0]);
		}
	}

	ksft_print_header();
	ksft_set_plan(2 * ARRAY_SIZE(ways));
	for (x2apic = 0; x2apic < 2; x2apic++) {
		for (i = 0; i < ARRAY_SIZE(ways); i++) {
			enum provider from = ways[i].from, to = ways[i].to;
			const char *mode = x2apic ? "x2apic" : "xapic";

			if (to == PROVIDER_FERRIC && !ferric_is_loaded()) {
				ksft_test_result_skip("%s.%s_%s\n", mode, provider_names[from],
						      provider_names[to]);
				continue;
			}
			ksft_test_result(migrate(x2apic, from, to, from == to ?
						 DIV_ROUND_UP(round_trips, 3) : round_trips, seed),
					 "%s.%s_%s\n", mode, provider_names[from],
					 provider_names[to]);
		}
	}
	ksft_finished();
}
