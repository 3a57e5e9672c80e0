// SPDX-License-Identifier: GPL-2.0
/*
 * Millions of IPIs between vCPUs that halt in between: every one arrives,
 * once, at the vCPUs it was sent to and at no other.
 *
 * Tokens go around among the vCPUs.  A token is one interrupt vector; whoever
 * holds it sends it on, the last receiver of that IPI holds it next, and a
 * vCPU without a token halts.  A vector is in flight once at a time, so two
 * IPIs can never coalesce into one, and a single lost IPI stops its token for
 * good.  The sender counts by (sender, receiver, token), the receiver's
 * interrupt handler counts the same, and the two must agree at every arrival
 * and at the end.
 */
#include <getopt.h>
#include <pthread.h>
#include <time.h>

#include "apic.h"
#include "kselftest.h"
#include "kvm_util.h"
#include "processor.h"
#include "tcg.h"
#include "test_util.h"

#define NR_VCPUS			4
#define ALL_VCPUS		(BIT(NR_VCPUS) - 1)
/* Fewer than vCPUs, so that some are always halted. */
#define NR_TOKENS		2
#define TOKEN_VECTOR		0x40
#define STOP_VECTOR		0xe0
#define DEFAULT_IPIS		60000
#define DEFAULT_STALL_SECS	60

#define APIC_LDR		0xd0
#define APIC_DFR		0xe0

#define MSR_GS_BASE		0xc0000101

enum ipi_kind { UNICAST, MULTICAST, ALL_BUT_SELF, SELF, NR_KINDS };

static const char * const kind_names[] = {
	[UNICAST] = "unicast",
	[MULTICAST] = "multicast",
	[ALL_BUT_SELF] = "all-but-self",
	[SELF] = "self",
};

/* Only its holder writes it, except for pending. */
struct token {
	u32 pending;			/* receivers that have yet to see it */
	u32 sender;
	u64 hops;
	u64 left;			/* arrivals to go */
	u64 sent[NR_VCPUS][NR_VCPUS];	/* by sender and receiver */
};

struct percpu {
	struct percpu *self;
	u32 index;
	u32 work;			/* tokens to send on */
	bool stop;
	u64 received[NR_VCPUS][NR_TOKENS];
	u64 unexpected;			/* not addressed to this vCPU, or twice */
	u64 mismatched;			/* count differs from the sender's */
	u64 repeated;			/* delivered while masked, see tcg.h */
	u64 halts;
} __aligned(64);

/* Shared by guest and host; the host goes through addr_gva2hva(). */
struct storm {
	enum ipi_kind kind;
	bool x2apic;
	u32 ready;
	u32 retired;
	struct token token[NR_TOKENS];
	struct percpu cpu[NR_VCPUS];
};

static struct storm storm;

static struct percpu *this_cpu(void)
{
	struct percpu *cpu;

	asm volatile("mov %%gs:0, %0" : "=r"(cpu));
	return cpu;
}

static void guest_eoi(void)
{
	if (storm.x2apic)
		x2apic_write_reg(APIC_EOI, 0);
	else
		xapic_write_reg(APIC_EOI, 0);
}

static void guest_write_icr(u32 low, u32 dest)
{
	if (storm.x2apic) {
		/* WRMSR of an x2APIC register does not order earlier stores. */
		asm volatile("mfence; lfence" : : : "memory");
		x2apic_write_reg(APIC_ICR, (u64)dest << 32 | low);
	} else {
		xapic_write_reg(APIC_ICR2, SET_APIC_DEST_FIELD(dest));
		xapic_write_reg(APIC_ICR, low);
	}
}

static void guest_send(struct percpu *cpu, u32 index)
{
	struct token *token = &storm.token[index];
	u32 icr = APIC_INT_ASSERT | (TOKEN_VECTOR + index);
	u32 me = cpu->index, to, receivers, dest = 0;

	if (!token->left) {
		if (__sync_add_and_fetch(&storm.retired, 1) == NR_TOKENS)
			guest_write_icr(APIC_DEST_ALLINC | APIC_INT_ASSERT |
					STOP_VECTOR, 0);
		return;
	}

	/* Any but this vCPU, in an order that does not repeat after a few. */
	to = ((u32)token->hops * 2654435761u) >> 16;
	to = (me + 1 + to % (NR_VCPUS - 1)) % NR_VCPUS;
	switch (storm.kind) {
	case UNICAST:
		receivers = BIT(to);
		dest = to;
		break;
	case MULTICAST:
		/*
		 * All others without that one.  Flat logical IDs and those of
		 * x2APIC's cluster 0 are the same bits.
		 */
		receivers = ALL_VCPUS & ~BIT(me) & ~BIT(to);
		dest = receivers;
		icr |= APIC_DEST_LOGICAL;
		break;
	case ALL_BUT_SELF:
		receivers = ALL_VCPUS & ~BIT(me);
		icr |= APIC_DEST_ALLBUT;
		break;
	default:
		receivers = BIT(me);
		icr |= APIC_DEST_SELF;
		break;
	}

	token->hops++;
	token->sender = me;
	for (to = 0; to < NR_VCPUS; to++) {
		if (!(receivers & BIT(to)))
			continue;
		token->sent[me][to]++;
		if (token->left)
			token->left--;
	}
	WRITE_ONCE(token->pending, receivers);

	if (storm.kind == SELF && storm.x2apic && token->hops % 2) {
		asm volatile("mfence; lfence" : : : "memory");
		x2apic_write_reg(APIC_SELF_IPI, TOKEN_VECTOR + index);
	} else {
		guest_write_icr(icr, dest);
	}
}

static void guest_token_handler(struct ex_regs *regs)
{
	struct percpu *cpu = this_cpu();
	u32 index = regs->vector - TOKEN_VECTOR;
	struct token *token = &storm.token[index];
	u32 me = cpu->index;
	u32 sender = token->sender;
	u32 before;

	if (is_repeated_by_processor(regs)) {
		cpu->repeated++;
		return;
	}

	cpu->received[sender][index]++;
	if (cpu->received[sender][index] != token->sent[sender][me])
		cpu->mismatched++;

	guest_eoi();

	before = __sync_fetch_and_and(&token->pending, ~BIT(me));
	if (!(before & BIT(me)))
		cpu->unexpected++;
	else if (before == BIT(me))
		cpu->work |= BIT(index);
}

static void guest_stop_handler(struct ex_regs *regs)
{
	this_cpu()->stop = true;
	guest_eoi();
}

static void guest_stray_handler(struct ex_regs *regs)
{
	this_cpu()->unexpected++;
	guest_eoi();
}

static void guest_code(u32 index)
{
	struct percpu *cpu = &storm.cpu[index];
	u32 work, i;

	cpu->self = cpu;
	cpu->index = index;
	wrmsr(MSR_GS_BASE, (u64)cpu);

	if (storm.x2apic) {
		x2apic_enable();
	} else {
		xapic_enable();
		xapic_write_reg(APIC_DFR, 0xffffffff);
		xapic_write_reg(APIC_LDR, SET_APIC_DEST_FIELD((u32)BIT(index)));
	}

	__sync_add_and_fetch(&storm.ready, 1);
	while (READ_ONCE(storm.ready) < NR_VCPUS)
		cpu_relax();

	if (!index)
		cpu->work = BIT(NR_TOKENS) - 1;

	while (!READ_ONCE(cpu->stop)) {
		work = READ_ONCE(cpu->work);
		if (!work) {
			cpu->halts++;
			safe_halt();
			cli();
			continue;
		}
		cpu->work = 0;
		for (i = 0; i < NR_TOKENS; i++)
			if (work & BIT(i))
				guest_send(cpu, i);
	}
	GUEST_DONE();
}

static u32 nr_done;

static void *vcpu_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	struct ucall uc;

	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
	switch (get_ucall(vcpu, &uc)) {
	case UCALL_DONE:
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
		break;
	default:
		TEST_FAIL("unexpected ucall %lu", uc.cmd);
	}
	__sync_add_and_fetch(&nr_done, 1);
	return NULL;
}

static u64 count_arrivals(const struct storm *s)
{
	u64 sum = 0;
	int to, from, t;

	for (to = 0; to < NR_VCPUS; to++)
		for (from = 0; from < NR_VCPUS; from++)
			for (t = 0; t < NR_TOKENS; t++)
				sum += READ_ONCE(s->cpu[to].received[from][t]);
	return sum;
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void print_stalled(const struct storm *s)
{
	int i;

	for (i = 0; i < NR_TOKENS; i++)
		ksft_print_msg("token %d: vector %#x, sent by %u, hop %lu, not seen by vCPUs %#x\n",
			       i, TOKEN_VECTOR + i, s->token[i].sender,
			       s->token[i].hops, s->token[i].pending);
	for (i = 0; i < NR_VCPUS; i++)
		ksft_print_msg("vCPU %d: halted %lu times\n", i,
			       s->cpu[i].halts);
}

/* Compare what was sent with what came; returns the number of faults. */
static int check(const struct storm *s, u64 wanted)
{
	u64 arrived = count_arrivals(s), halts = 0, repeated = 0;
	int from, to, t, faults = 0;

	for (from = 0; from < NR_VCPUS; from++) {
		for (to = 0; to < NR_VCPUS; to++) {
			u64 sent = 0, received = 0;
			bool used = s->kind == SELF ? from == to : from != to;

			for (t = 0; t < NR_TOKENS; t++) {
				sent += s->token[t].sent[from][to];
				received += s->cpu[to].received[from][t];
			}
			/* A self-IPI leaves its token where it is: vCPU 0. */
			if (s->kind == SELF && from)
				used = false;
			if (sent == received && !!sent == used)
				continue;
			ksft_print_msg("vCPU %d to %d: %lu sent, %lu received\n",
				       from, to, sent, received);
			faults++;
		}
	}

	for (to = 0; to < NR_VCPUS; to++) {
		halts += s->cpu[to].halts;
		repeated += s->cpu[to].repeated;
		if (!s->cpu[to].unexpected && !s->cpu[to].mismatched)
			continue;
		ksft_print_msg("vCPU %d: %lu unexpected, %lu with a wrong count\n",
			       to, s->cpu[to].unexpected, s->cpu[to].mismatched);
		faults++;
	}

	if (repeated)
		ksft_print_msg("%lu delivered twice by the processor\n", repeated);
	/* It is about one in a million. */
	if (repeated > most_repeated_by_processor(arrived, 100000))
		faults++;

	if (arrived < wanted) {
		ksft_print_msg("%lu of %lu arrived\n", arrived, wanted);
		faults++;
	}
	/* One vCPU acts on each arrival, all the others were or go to sleep. */
	if (halts < arrived / (2 * NR_VCPUS)) {
		ksft_print_msg("only %lu halts in %lu arrivals\n", halts, arrived);
		faults++;
	}
	ksft_print_msg("%lu arrived, %lu halts\n", arrived, halts);
	return faults;
}

static void run_storm(enum ipi_kind kind, bool x2apic, u64 ipis, int stall_secs)
{
	const char *mode = x2apic ? "x2apic" : "xapic";
	struct kvm_vcpu *vcpus[NR_VCPUS];
	pthread_t threads[NR_VCPUS];
	double start, last_print, last_move;
	u64 arrived, last = 0;
	struct storm *s;
	struct kvm_vm *vm;
	int i, vector;

	memset(&storm, 0, sizeof(storm));
	storm.kind = kind;
	storm.x2apic = x2apic;
	for (i = 0; i < NR_TOKENS; i++)
		storm.token[i].left = DIV_ROUND_UP(ipis, NR_TOKENS);
	nr_done = 0;

	vm = vm_create_with_vcpus(NR_VCPUS, guest_code, vcpus);
	virt_pg_map(vm, APIC_DEFAULT_GPA, APIC_DEFAULT_GPA);
	sync_global_to_guest(vm, storm);
	s = addr_gva2hva(vm, (gva_t)&storm);
	for (vector = 0x20; vector < 0x100; vector++)
		vm_install_exception_handler(vm, vector, guest_stray_handler);
	for (i = 0; i < NR_TOKENS; i++)
		vm_install_exception_handler(vm, TOKEN_VECTOR + i,
					     guest_token_handler);
	vm_install_exception_handler(vm, STOP_VECTOR, guest_stop_handler);

	start = seconds();
	last_print = start;
	last_move = start;
	for (i = 0; i < NR_VCPUS; i++) {
		vcpu_args_set(vcpus[i], 1, i);
		TEST_ASSERT(!pthread_create(&threads[i], NULL, vcpu_thread, vcpus[i]),
			    "cannot start a vCPU thread");
	}

	while (READ_ONCE(nr_done) < NR_VCPUS) {
		double now;

		usleep(20000);
		now = seconds();
		arrived = count_arrivals(s);
		if (arrived != last) {
			last = arrived;
			last_move = now;
		}
		if (now - last_move > stall_secs) {
			print_stalled(s);
			check(s, ipis);
			ksft_test_result_fail("%s.%s stalled\n", mode,
					      kind_names[kind]);
			/* The vCPU threads sleep for good. */
			ksft_exit_fail();
		}
		if (now - last_print > 5) {
			last_print = now;
			ksft_print_msg("%s %s: %lu of %lu, %.0f per second\n",
				       mode, kind_names[kind], arrived, ipis,
				       arrived / (now - start));
		}
	}
	for (i = 0; i < NR_VCPUS; i++)
		pthread_join(threads[i], NULL);

	ksft_print_msg("%s %s: %.1f s\n", mode, kind_names[kind],
		       seconds() - start);
	ksft_test_result(!check(s, ipis), "%s.%s\n", mode, kind_names[kind]);
	kvm_vm_free(vm);
}

static void usage(const char *name)
{
	fprintf(stderr,
		"%s [-n IPIs from one vCPU to another] [-s seconds without an arrival] [-t MODE.KIND]\n",
		name);
	exit(KSFT_FAIL);
}

int main(int argc, char **argv)
{
	u64 ipis = DEFAULT_IPIS;
	int stall_secs = DEFAULT_STALL_SECS;
	const char *only = NULL;
	enum ipi_kind kind;
	int opt, x2apic;
	char name[32];

	while ((opt = getopt(argc, argv, "n:s:t:")) != -1) {
		switch (opt) {
		case 'n':
			ipis = strtoull(optarg, NULL, 0);
			break;
		case 's':
			stall_secs = atoi_positive("seconds", optarg);
			break;
		case 't':
			only = optarg;
			break;
		default:
			usage(argv[0]);
		}
	}
	/* Enough that every pair of vCPUs has its turn. */
	if (ipis < 1000)
		usage(argv[0]);

	ksft_print_header();
	ksft_set_plan(2 * NR_KINDS);
	for (x2apic = 0; x2apic < 2; x2apic++) {
		for (kind = 0; kind < NR_KINDS; kind++) {
			snprintf(name, sizeof(name), "%s.%s",
				 x2apic ? "x2apic" : "xapic", kind_names[kind]);
			if (only && strcmp(only, name)) {
				ksft_test_result_skip("%s\n", name);
				continue;
			}
			run_storm(kind, x2apic,
				  kind == SELF ? ipis / 40 :
				  DIV_ROUND_UP(ipis, 2 * (NR_KINDS - 1)),
				  stall_secs);
		}
	}
	ksft_finished();
}
