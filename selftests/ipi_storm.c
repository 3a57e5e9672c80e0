// SPDX-License-Identifier: GPL-2.0
/*
 * Millions of IPIs of all kinds between 8 vCPUs that halt, are preempted and
 * migrate: every one arrives, once, at the vCPUs it was sent to and at no other.
 *
 * The sender counts by (kind, sender, receiver), the receiver's interrupt handler
 * counts the same, and the two must agree in the end.  The guest's part, and why
 * none can be lost unseen, is in ipi_storm_guest.h.
 *
 * Meanwhile threads of the host compete with the vCPUs for the CPUs, move both
 * from CPU to CPU, and interrupt KVM_RUN by signals.
 */
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include "cpu_thread.h"
#include "hyperv.h"
#include "ipi_storm_guest.h"
#include "kselftest.h"
#include "random.h"
#include "tcg.h"

#define DEFAULT_IPIS		100000
#define DEFAULT_STALL_SECS	60
#define NS			1000000000ul

#define DISTURB_SIGNAL		SIGUSR1
/* Every 2 ms on the average a thread is moved, or each fourth time interrupted. */
#define DISTURB_US		2000
#define SIGNAL_ONE_IN		4
/* Those that compete with the vCPUs run for as long, and sleep 20 times that. */
#define NR_COMPETITORS		2
#define NR_THREADS		(NR_VCPUS + NR_COMPETITORS)
#define COMPETE_US		500

static const char * const mode_names[] = {
	[XAPIC] = "xapic",
	[X2APIC] = "x2apic",
	[HYPERV] = "hyperv",
};

static const char * const kind_names[] = {
	[UNICAST] = "unicast",
	[MULTICAST] = "multicast",
	[LOWEST_PRIORITY] = "lowest-priority",
	[BROADCAST] = "broadcast",
	[ALL_BUT_SELF] = "all-but-self",
	[ALL_WITH_SELF] = "all-with-self",
	[SELF] = "self",
	[SELF_IPI] = "self-ipi",
	[PV_IPI] = "pv-ipi",
	[HV_IPI] = "hv-ipi",
	[HV_IPI_EX] = "hv-ipi-ex",
};

/* The first are the vCPUs', the others compete with them. */
struct storm_thread {
	struct cpu_thread t;
	struct kvm_vcpu *vcpu;
	u32 *pv_eoi;		/* the guest's, to look at; or NULL */
	u64 interrupted;	/* returns of KVM_RUN for a signal */
	u64 preempted;		/* involuntary context switches */
};

static struct storm_thread threads[NR_THREADS];
static u32 nr_done;
static bool stop_disturbing;
static bool stalled;
static u64 nr_moves;
/* No thread ends before it is left alone. */
static pthread_barrier_t left_alone;

/* What may hold back an IPI that has not come. */
static void print_vcpu(const struct storm_thread *t)
{
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	struct kvm_regs regs;
	const u32 *reg = (const u32 *)lapic.regs;
	int i, index = t - threads;

	vcpu_ioctl(t->vcpu, KVM_GET_LAPIC, &lapic);
	vcpu_events_get(t->vcpu, &events);
	vcpu_mp_state_get(t->vcpu, &mp);
	vcpu_regs_get(t->vcpu, &regs);
	ksft_print_msg("vCPU %d: MP state %u, RIP %#llx, RFLAGS %#llx, injected %d (%#x)\n",
		       index, mp.mp_state, regs.rip, regs.rflags,
		       events.interrupt.injected, events.interrupt.nr);
	ksft_print_msg("vCPU %d: TPR %#x, PPR %#x, PV EOI %d\n", index,
		       reg[APIC_TASKPRI / 4], reg[APIC_PROCPRI / 4],
		       t->pv_eoi ? (int)READ_ONCE(*t->pv_eoi) : -1);
	for (i = 0; i < 8; i++) {
		u32 isr = reg[APIC_ISR / 4 + 4 * i], irr = reg[APIC_IRR / 4 + 4 * i];

		if (isr | irr)
			ksft_print_msg("vCPU %d: from vector %#x on: ISR %#x, IRR %#x\n",
				       index, 32 * i, isr, irr);
	}
}

static void *run_vcpu(void *arg)
{
	struct storm_thread *t = arg;
	struct rusage usage;
	struct ucall uc;

	while (__vcpu_run(t->vcpu)) {
		TEST_ASSERT(errno == EINTR, "KVM_RUN: errno %d", errno);
		t->interrupted++;
		if (READ_ONCE(stalled))
			print_vcpu(t);
	}
	TEST_ASSERT_KVM_EXIT_REASON(t->vcpu, KVM_EXIT_IO);
	switch (get_ucall(t->vcpu, &uc)) {
	case UCALL_DONE:
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
		break;
	default:
		TEST_FAIL("unexpected ucall %lu", uc.cmd);
	}
	getrusage(RUSAGE_THREAD, &usage);
	t->preempted = usage.ru_nivcsw;
	__sync_add_and_fetch(&nr_done, 1);
	pthread_barrier_wait(&left_alone);
	return NULL;
}

static void ignore_signal(int signal)
{
}

static void *disturb(void *arg)
{
	const struct storm *s = arg;
	u64 random = 1;

	while (!READ_ONCE(stop_disturbing)) {
		struct cpu_thread *t = &threads[random_below(&random, NR_THREADS)].t;

		if (random_below(&random, SIGNAL_ONE_IN)) {
			cpu_thread_move(t);
			nr_moves++;
		} else if (READ_ONCE(s->parked) < NR_TOKENS / 2) {
			/* Later in a round it would hide a wake-up that is missing. */
			pthread_kill(t->thread, DISTURB_SIGNAL);
		}
		usleep(random_below(&random, 2 * DISTURB_US));
	}
	pthread_barrier_wait(&left_alone);
	return NULL;
}

static void *compete(void *arg)
{
	u64 random = (u64)arg;

	while (!READ_ONCE(stop_disturbing)) {
		u64 end = now_ns() + 1000 * random_below(&random, 2 * COMPETE_US);

		while (now_ns() < end)
			;
		usleep(random_below(&random, 40 * COMPETE_US));
	}
	pthread_barrier_wait(&left_alone);
	return NULL;
}

static u64 sum(const u64 counts[NR_KINDS][NR_VCPUS])
{
	u64 total = 0;
	int kind, i;

	for (kind = 0; kind < NR_KINDS; kind++)
		for (i = 0; i < NR_VCPUS; i++)
			total += READ_ONCE(counts[kind][i]);
	return total;
}

static u64 count_arrivals(const struct storm *s)
{
	u64 total = 0;
	int i;

	for (i = 0; i < NR_VCPUS; i++)
		total += sum(s->cpu[i].received);
	return total;
}

static void print_token(const struct storm *s, int i)
{
	const struct token *token = &s->token[i];

	ksft_print_msg("token %d: vector %#x, %s from vCPU %u, hop %lu, not seen by vCPUs %#x\n",
		       i, TOKEN_VECTOR + i, kind_names[token->kind],
		       token->sender, token->hops, token->pending);
}

/* Compare what was sent with what came, by receiver; returns the number of faults. */
static int check_pairs(const struct storm *s, enum ipi_kind kind)
{
	int from, to, faults = 0;

	for (from = 0; from < NR_VCPUS; from++) {
		const u64 *sent = s->cpu[from].sent[kind];
		u64 lowest = 0;

		for (to = 0; to < NR_VCPUS; to++) {
			u64 received = s->cpu[to].received[kind][from];

			lowest += received;
			if (kind == LOWEST_PRIORITY || sent[to] == received)
				continue;
			ksft_print_msg("%s, vCPU %d to %d: %lu sent, %lu received\n",
				       kind_names[kind], from, to, sent[to], received);
			faults++;
		}
		if (kind == LOWEST_PRIORITY && sent[0] != lowest) {
			ksft_print_msg("%s, vCPU %d: %lu sent, %lu received\n",
				       kind_names[kind], from, sent[0], lowest);
			faults++;
		}
	}
	return faults;
}

/* By kind: how many messages were sent, how many arrivals were due, and came. */
static int check_kind(const struct storm *s, enum ipi_kind kind)
{
	u64 messages = 0, sent = 0, received = 0;
	int i, j;

	for (i = 0; i < NR_VCPUS; i++) {
		messages += s->cpu[i].messages[kind];
		for (j = 0; j < NR_VCPUS; j++) {
			sent += s->cpu[i].sent[kind][j];
			received += s->cpu[i].received[kind][j];
		}
	}
	ksft_print_msg("%-15s %9lu messages %9lu sent %9lu received\n",
		       kind_names[kind], messages, sent, received);
	return check_pairs(s, kind) + !messages;
}

static int check_disturbances(void)
{
	u64 interrupted = 0, preempted = 0;
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		interrupted += threads[i].interrupted;
		preempted += threads[i].preempted;
	}
	ksft_print_msg("%lu moves, %lu preemptions, %lu returns for signals\n",
		       nr_moves, preempted, interrupted);
	return !nr_moves + !preempted + !interrupted;
}

static int check(const struct storm *s)
{
	u64 arrived = count_arrivals(s), halts = 0, repeated = 0, skipped = 0;
	int i, faults = 0;

	for (i = 0; i < s->nr_kinds; i++)
		faults += check_kind(s, s->kinds[i]);

	for (i = 0; i < NR_VCPUS; i++) {
		halts += s->cpu[i].halts;
		repeated += s->cpu[i].repeated;
		skipped += s->cpu[i].skipped_eois;
		if (!s->cpu[i].unexpected)
			continue;
		ksft_print_msg("vCPU %d: %lu unexpected, vector %#x the last\n", i,
			       s->cpu[i].unexpected, s->cpu[i].unexpected_vector);
		if (s->cpu[i].unexpected_vector - TOKEN_VECTOR < NR_TOKENS)
			print_token(s, s->cpu[i].unexpected_vector - TOKEN_VECTOR);
		faults++;
	}
	ksft_print_msg("%lu arrived in %lu rounds, %lu halts, %lu EOIs skipped\n",
		       arrived, s->rounds, halts, skipped);
	if (repeated)
		ksft_print_msg("%lu delivered twice by the processor\n", repeated);
	if (repeated > most_repeated_by_processor(arrived))
		faults++;
	if (arrived < s->wanted)
		faults++;
	return faults + !halts;
}

static void choose_kinds(enum storm_mode mode, const char *only)
{
	enum ipi_kind kind;

	for (kind = 0; kind < NR_KINDS; kind++) {
		if (kind == SELF_IPI && mode != X2APIC)
			continue;
		if (kind == PV_IPI && (mode == HYPERV || !kvm_cpu_has(X86_FEATURE_KVM_PV_SEND_IPI)))
			continue;
		if ((kind == HV_IPI || kind == HV_IPI_EX) && mode != HYPERV)
			continue;
		if (!only || !strcmp(only, kind_names[kind]))
			storm.kinds[storm.nr_kinds++] = kind;
	}
}

static struct kvm_vm *create_vm(u64 seed)
{
	struct kvm_vm *vm = vm_create(NR_VCPUS);
	gva_t cpu_gva, page;
	struct storm *s;
	int i;

	/* To sleep, not to look for what comes. */
	vm_enable_cap(vm, KVM_CAP_HALT_POLL, 0);
	for (i = 0; i < NR_VCPUS; i++) {
		threads[i].vcpu = vm_vcpu_add(vm, vcpu_id(i), guest_code);
		vcpu_args_set(threads[i].vcpu, 1, i);
		if (storm.mode == HYPERV) {
			vcpu_set_hv_cpuid(threads[i].vcpu);
			vcpu_set_msr(threads[i].vcpu, HV_X64_MSR_VP_INDEX, vcpu_id(i));
		}
	}
	virt_pg_map(vm, APIC_DEFAULT_GPA, APIC_DEFAULT_GPA);
	sync_global_to_guest(vm, storm);
	s = addr_gva2hva(vm, (gva_t)&storm);
	for (i = 0; i < NR_VCPUS; i++) {
		cpu_gva = (gva_t)&storm.cpu[i];
		s->cpu[i].random = (seed << 8) + i;
		s->cpu[i].hv_gpa = addr_gva2gpa(vm, cpu_gva + offsetof(struct percpu, hv));
		/* Not all, so that some do no EOI but by the register. */
		if (i % 4 == 3)
			continue;
		page = vm_alloc_page(vm);
		threads[i].pv_eoi = addr_gva2hva(vm, page);
		s->cpu[i].pv_eoi = (u32 *)page;
		s->cpu[i].pv_eoi_gpa = addr_gva2gpa(vm, page);
	}
	for (i = 0x20; i < 0x100; i++)
		vm_install_exception_handler(vm, i, guest_stray_handler);
	for (i = 0; i < NR_TOKENS; i++)
		vm_install_exception_handler(vm, TOKEN_VECTOR + i, guest_token_handler);
	vm_install_exception_handler(vm, STOP_VECTOR, guest_stop_handler);
	return vm;
}

/* When each token was last seen to move. */
struct watch {
	u64 hops[NR_TOKENS];
	u64 since[NR_TOKENS];
	u64 moved;		/* the last of them */
	u64 printed;
	u64 arrived;		/* then */
};

/*
 * What is left pending, and whether a signal, which makes a vCPU look once more,
 * is enough for it to come: then it was a wake-up that is missing.
 */
static void print_stalled(const struct storm *s)
{
	int i;

	WRITE_ONCE(stalled, true);
	for (i = 0; i < NR_VCPUS; i++) {
		pthread_kill(threads[i].t.thread, DISTURB_SIGNAL);
		usleep(200000);
	}
	sleep(1);
	for (i = 0; i < NR_TOKENS; i++)
		if (READ_ONCE(s->token[i].pending))
			print_token(s, i);
}

static void watch_tokens(struct watch *w, const struct storm *s, u64 stall_ns)
{
	u64 now = now_ns();
	int i, faults = 0;

	for (i = 0; i < NR_TOKENS; i++) {
		const struct token *token = &s->token[i];
		u64 hops = READ_ONCE(token->hops);

		if (hops != w->hops[i])
			w->moved = now;
		/* One that waits for the next round is not in flight. */
		if (hops != w->hops[i] || !READ_ONCE(token->pending)) {
			w->hops[i] = hops;
			w->since[i] = now;
		} else if (now - w->since[i] > stall_ns) {
			print_token(s, i);
			faults++;
		}
	}
	if (!faults && now - w->moved <= stall_ns)
		return;
	check(s);
	print_stalled(s);
	ksft_test_result_fail("%s stalled\n", mode_names[s->mode]);
	/* The vCPU threads sleep for good. */
	ksft_exit_fail();
}

static void watch_progress(struct watch *w, const struct storm *s)
{
	u64 now = now_ns(), arrived;

	if (now - w->printed < 5 * NS)
		return;
	arrived = count_arrivals(s);
	ksft_print_msg("%s: %lu of %lu, %lu per second\n", mode_names[s->mode],
		       arrived, s->wanted, (arrived - w->arrived) * NS / (now - w->printed));
	w->printed = now;
	w->arrived = arrived;
}

static void run_storm(enum storm_mode mode, u64 ipis, u64 seed, const char *only, int stall_secs)
{
	pthread_t disturber;
	u64 start = now_ns();
	struct watch w = { .printed = start, .moved = start };
	struct kvm_vm *vm;
	struct storm *s;
	int i;

	memset(&storm, 0, sizeof(storm));
	memset(threads, 0, sizeof(threads));
	storm.mode = mode;
	storm.wanted = ipis;
	storm.may_repeat = is_tcg();
	choose_kinds(mode, only);
	if (!storm.nr_kinds) {
		ksft_test_result_skip("%s\n", mode_names[mode]);
		return;
	}
	nr_done = 0;
	nr_moves = 0;
	stop_disturbing = false;
	vm = create_vm(seed);
	s = addr_gva2hva(vm, (gva_t)&storm);

	pthread_barrier_init(&left_alone, NULL, NR_THREADS + 1);
	for (i = 0; i < NR_THREADS; i++)
		TEST_ASSERT(!pthread_create(&threads[i].t.thread, NULL,
					    i < NR_VCPUS ? run_vcpu : compete,
					    &threads[i]), "cannot start a thread");
	TEST_ASSERT(!pthread_create(&disturber, NULL, disturb, s), "cannot start a thread");

	while (READ_ONCE(nr_done) < NR_VCPUS) {
		usleep(20000);
		watch_tokens(&w, s, stall_secs * NS);
		watch_progress(&w, s);
	}
	WRITE_ONCE(stop_disturbing, true);
	pthread_join(disturber, NULL);
	for (i = 0; i < NR_THREADS; i++)
		cpu_thread_join(&threads[i].t);
	pthread_barrier_destroy(&left_alone);

	ksft_print_msg("%s: %.1f s\n", mode_names[mode], (double)(now_ns() - start) / NS);
	ksft_test_result(!(check(s) + check_disturbances()), "%s\n", mode_names[mode]);
	kvm_vm_free(vm);
}

static void usage(const char *name)
{
	fprintf(stderr,
		"%s [-n arrivals] [-r seed] [-s seconds without one] [-t xapic|x2apic|hyperv] [-k kind]\n",
		name);
	exit(KSFT_FAIL);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = ignore_signal };
	u64 ipis = DEFAULT_IPIS, seed = 0;
	int stall_secs = DEFAULT_STALL_SECS;
	const char *only_mode = NULL, *only_kind = NULL;
	enum storm_mode mode;
	int opt;

	while ((opt = getopt(argc, argv, "k:n:r:s:t:")) != -1) {
		switch (opt) {
		case 'k':
			only_kind = optarg;
			break;
		case 'n':
			ipis = strtoull(optarg, NULL, 0);
			break;
		case 'r':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 's':
			stall_secs = atoi_positive("seconds", optarg);
			break;
		case 't':
			only_mode = optarg;
			break;
		default:
			usage(argv[0]);
		}
	}
	/* Enough that every kind has its turn. */
	if (ipis < 1000)
		usage(argv[0]);

	TEST_ASSERT(!sigaction(DISTURB_SIGNAL, &action, NULL), "cannot catch a signal");

	ksft_print_header();
	ksft_set_plan(NR_MODES);
	for (mode = 0; mode < NR_MODES; mode++) {
		if (only_mode && strcmp(only_mode, mode_names[mode])) {
			ksft_test_result_skip("%s\n", mode_names[mode]);
			continue;
		}
		run_storm(mode, only_mode ? ipis : DIV_ROUND_UP(ipis, NR_MODES),
			  seed, only_kind, stall_secs);
	}
	ksft_finished();
}
