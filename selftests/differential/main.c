// SPDX-License-Identifier: GPL-2.0
/*
 * KVM's own irqchip against ferric's, in one kernel: two virtual machines, one
 * on each, go through the same random steps.  After each step what it gave back
 * and all state that user space can get must be equal.
 *
 * A sequence that shows a difference is run again, shortened as far as it still
 * shows one, and printed as lines that the test takes as input.  The sequences
 * in files named on the command line are run first.
 *
 * What depends on time is left out: counts of running timers, and ticks.  SMI,
 * INIT and SIPI come by MSI from user space, and from a guest to all others.
 */
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "kselftest.h"
#include "machine.h"
#include "provider.h"
#include "step.h"

#define MAX_STEPS		5000
#define MAX_JOBS		64
/* What runs in a worker of the kernel's gets that long to be done. */
#define SETTLE_US		1000
#define SETTLE_TRIES		50
/* A difference has to come again to be one: the host's time is no part of it. */
#define CONFIRMATIONS		2
/* What does not come again is told, and may happen once in so many steps. */
#define MAY_HAPPEN		100000
/* Between two lines that say how far it is, in seconds. */
#define PROGRESS		20
/* Of a sequence, in seconds; some take two, on a debug kernel a minute. */
#define TIME_LIMIT		300

/* How a sequence went; the process that runs it shares this with its parent. */
struct outcome {
	u32 done;		/* steps */
	bool different;
	char text[1024];
};

static struct outcome *outcome;
/* State is compared after every so many steps. */
static u32 look_every = 1;
static bool has_ferric;

/* Not static: the guest gets the program's data as its own, and has little room. */
static void *allocate(size_t size)
{
	void *memory = calloc(1, size);

	TEST_ASSERT(memory, "out of memory");
	return memory;
}

static void share_outcome(void)
{
	outcome = mmap(NULL, sizeof(*outcome), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(outcome != MAP_FAILED, "cannot share memory");
}

static void create(struct machine *m, u32 flags, enum provider provider)
{
	int lock = provider_begin(has_ferric ? provider : PROVIDER_KVM);

	machine_create(m, flags, has_ferric && provider == PROVIDER_FERRIC);
	provider_end(lock);
}

/* In a process of its own: a VM belongs to the one that has made it. */
static void keep_static_keys(void)
{
	int lock;

	fflush(stdout);
	if (fork())
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* The terminal's, when the shell that has started this ends. */
	signal(SIGHUP, SIG_IGN);
	lock = provider_begin(PROVIDER_KVM);
	irq_vm_keep_static_keys();
	provider_end(lock);
	irq_vm_outlive_tests();
	for (;;)
		pause();
}

/* The choice does what it says: each VM of ferric's has a reference on it. */
static void check_choice(void)
{
	struct machine *m = allocate(sizeof(*m));
	int i;

	for (i = 0; i < 2; i++) {
		int lock = provider_begin(i ? PROVIDER_FERRIC : PROVIDER_KVM);
		long before = ferric_use_count();

		machine_create(m, 0, false);
		TEST_ASSERT_EQ(ferric_use_count() - before, i);
		machine_destroy(m);
		provider_end(lock);
	}
	free(m);
}

static void look_until_equal(struct machine *machines, struct snapshot *snapshots)
{
	int tries = SETTLE_TRIES;

	for (;;) {
		machine_look(&machines[0], &snapshots[0]);
		machine_look(&machines[1], &snapshots[1]);
		if (!memcmp(&snapshots[0], &snapshots[1], sizeof(*snapshots)) || !tries--)
			return;
		usleep(SETTLE_US);
	}
}

/* In a process of its own: a guest that gives up ends it. */
static void run_here(const struct step *steps, u32 nr)
{
	struct snapshot *snapshots = allocate(2 * sizeof(*snapshots));
	struct machine *machines = allocate(2 * sizeof(*machines));
	u32 flags = nr && steps[0].op == OP_MACHINE ? steps[0].a : 0;
	struct result results[2];
	bool look;
	u32 i;

	create(&machines[0], flags, PROVIDER_KVM);
	create(&machines[1], flags, PROVIDER_FERRIC);
	look_until_equal(machines, snapshots);
	for (i = 0; i < nr; i++) {
		machine_do(&machines[0], &steps[i], &snapshots[0], &results[0]);
		machine_do(&machines[1], &steps[i], &snapshots[0], &results[1]);
		look = i % look_every == 0 || i + 1 == nr || steps[i + 1].op == OP_TAKE;
		if (look)
			look_until_equal(machines, snapshots);
		result_difference(&results[0], &results[1], outcome->text,
				  sizeof(outcome->text));
		if (look && !outcome->text[0])
			snapshot_difference(&snapshots[0], &snapshots[1],
					    outcome->text, sizeof(outcome->text));
		if (outcome->text[0]) {
			outcome->different = true;
			break;
		}
		outcome->done++;
	}
	machine_destroy(&machines[0]);
	machine_destroy(&machines[1]);
	free(machines);
	free(snapshots);
}

/* True if both machines did the same. */
static bool run(const struct step *steps, u32 nr)
{
	pid_t child;
	int status;

	memset(outcome, 0, sizeof(*outcome));
	fflush(stdout);
	child = fork();
	if (!child) {
		/* A vCPU that does not come back is a difference, too. */
		alarm(TIME_LIMIT);
		run_here(steps, nr);
		_exit(0);
	}
	TEST_ASSERT(child > 0 && waitpid(child, &status, 0) == child, "cannot fork");
	if (status && !outcome->different) {
		outcome->different = true;
		snprintf(outcome->text, sizeof(outcome->text),
			 "the machines ended with status %#x", status);
	}
	return !outcome->different;
}

/*
 * The same difference each time, at the very step from now on.  On a busy host a
 * timer may expire in the middle of a step of one machine only.
 */
static bool confirm(const struct step *steps, u32 nr)
{
	struct outcome first;
	int i;

	look_every = 1;
	for (i = 0; i < CONFIRMATIONS; i++) {
		if (run(steps, nr))
			return false;
		if (!i)
			first = *outcome;
		else if (outcome->done != first.done || strcmp(outcome->text, first.text))
			return false;
	}
	return true;
}

/* Leaves out what is not needed for the difference; returns how many are left. */
static u32 shrink(struct step *steps, u32 nr)
{
	struct step *fewer = allocate(nr * sizeof(*fewer));
	u32 chunk, at;

	if (outcome->done + 1 < nr)
		nr = outcome->done + 1;
	for (chunk = (nr + 1) / 2; chunk; chunk /= 2) {
		for (at = 0; at < nr; ) {
			u32 gone = min_t(u32, chunk, nr - at);

			memcpy(fewer, steps, at * sizeof(*steps));
			memcpy(fewer + at, steps + at + gone,
			       (nr - at - gone) * sizeof(*steps));
			if (nr == gone || run(fewer, nr - gone)) {
				at += gone;
				continue;
			}
			nr -= gone;
			memcpy(steps, fewer, nr * sizeof(*steps));
		}
		ksft_print_msg("shortened to %u steps\n", nr);
	}
	free(fewer);
	run(steps, nr);
	return nr;
}

static void report(struct step *steps, u32 nr)
{
	u32 i;

	ksft_print_msg("step %u: KVM's and ferric's %s\n", outcome->done + 1,
		       outcome->text);
	nr = shrink(steps, nr);
	ksft_print_msg("KVM's and ferric's %s\n", outcome->text);
	ksft_print_msg("after these steps, to be given as a file:\n");
	for (i = 0; i < nr; i++)
		step_print(stdout, &steps[i]);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static bool run_case(const char *path)
{
	struct step *steps = allocate(MAX_STEPS * sizeof(*steps));
	FILE *file = fopen(path, "r");
	bool equal;
	char line[256];
	u32 nr = 0;

	if (!file)
		ksft_exit_fail_msg("cannot open %s\n", path);
	while (fgets(line, sizeof(line), file)) {
		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (nr == MAX_STEPS || !step_parse(line, &steps[nr++]))
			ksft_exit_fail_msg("%s: not a step: %s", path, line);
	}
	fclose(file);
	equal = run(steps, nr);
	if (!equal)
		ksft_print_msg("%s, step %u: KVM's and ferric's %s\n", path,
			       outcome->done + 1, outcome->text);
	free(steps);
	return equal;
}

/* Random sequences until @steps are done or @seconds are over. */
static bool fuzz(u64 seed, u64 steps, double seconds, u32 length)
{
	struct step *sequence = allocate(length * sizeof(*sequence));
	double start = now(), said = start;
	u64 done = 0, unconfirmed = 0;
	u32 every = look_every;
	u64 number;

	for (number = 0; done < steps && now() - start < seconds; number++) {
		u64 state = seed * 0x10000 + number;
		u32 i;

		sequence[0] = step_machine(&state);
		for (i = 1; i < length; i++)
			sequence[i] = step_random(&state);
		if (!run(sequence, length)) {
			ksft_print_msg("sequence %lu, step %u: KVM's and ferric's %s\n",
				       number, outcome->done + 1, outcome->text);
			step_print(stdout, &sequence[outcome->done]);
			if (confirm(sequence, length)) {
				ksft_print_msg("seed %lu, sequence %lu\n", seed, number);
				report(sequence, length);
				return false;
			}
			look_every = every;
			unconfirmed++;
		}
		done += length;
		if (now() - said > PROGRESS) {
			said = now();
			ksft_print_msg("seed %lu: %lu steps, %.0f per second\n",
				       seed, done, done / (said - start));
		}
	}
	ksft_print_msg("seed %lu: %lu steps in %.0f s, %lu differences did not come again\n",
		       seed, done, now() - start, unconfirmed);
	free(sequence);
	return unconfirmed <= 1 + done / MAY_HAPPEN;
}

/* One of the processes that fuzz_all() starts. */
static void start_fuzz(u64 seed, u64 steps, double seconds, u32 length)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	TEST_ASSERT(child >= 0, "cannot fork");
	if (!child) {
		bool ok;

		share_outcome();
		ok = fuzz(seed, steps, seconds, length);
		fflush(stdout);
		_exit(!ok);
	}
}

/* The same for @seeds seeds, in a process each, @jobs of them at a time. */
static bool fuzz_all(u64 seed, u64 steps, double seconds, u32 length, u32 seeds, u32 jobs)
{
	bool ok = true;
	int status;
	u32 i;

	for (i = 0; i < seeds + jobs; i++) {
		if (i >= jobs && i - jobs < seeds) {
			TEST_ASSERT(wait(&status) > 0, "lost a process");
			ok = ok && !status;
		}
		if (i < seeds)
			start_fuzz(seed + i, steps / seeds, seconds, length);
	}
	return ok;
}

static void show_usage(void)
{
	fprintf(stderr,
		"usage: differential [-s SEED] [-n STEPS] [-t SECONDS] [-l LENGTH] [-k N] [-m SEEDS] [-j JOBS]\n"
		"                    [file...]\n"
		"-n is 20000 by default; with -t it has no limit. LENGTH of a sequence: 2500.\n"
		"-k N compares the state after each N steps only, and what steps give back always.\n"
		"The steps are shared by SEEDS seeds (one for each job), from SEED on, JOBS (1) at a time.\n");
	exit(KSFT_FAIL);
}

int main(int argc, char **argv)
{
	u64 seed = 1, steps = 0;
	double seconds = 0;
	u32 length = 2500, jobs = 1, seeds = 0;
	int c;

	while ((c = getopt(argc, argv, "s:n:t:l:k:m:j:")) != -1) {
		switch (c) {
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'n':
			steps = strtoull(optarg, NULL, 0);
			break;
		case 't':
			seconds = strtod(optarg, NULL);
			break;
		case 'l':
			length = strtoul(optarg, NULL, 0);
			break;
		case 'm':
			seeds = strtoul(optarg, NULL, 0);
			break;
		case 'j':
			jobs = strtoul(optarg, NULL, 0);
			break;
		case 'k':
			look_every = strtoul(optarg, NULL, 0);
			break;
		default:
			show_usage();
		}
	}
	if (!length || length > MAX_STEPS || !look_every || !jobs || jobs > MAX_JOBS)
		show_usage();
	if (!steps)
		steps = seconds ? ~0ull : 20000;
	if (!seconds)
		seconds = 1e9;

	setvbuf(stdout, NULL, _IOLBF, 0);
	ksft_print_header();
	ksft_set_plan(argc - optind + 1);
	has_ferric = ferric_is_loaded();
	keep_static_keys();
	if (has_ferric)
		check_choice();
	else
		ksft_print_msg("without ferric: KVM's irqchip against itself\n");
	share_outcome();

	for (; optind < argc; optind++)
		ksft_test_result(run_case(argv[optind]), "%s\n", argv[optind]);
	ksft_test_result(fuzz_all(seed, steps, seconds, length, seeds ?: jobs, jobs),
			 "random_steps\n");
	ksft_finished();
}
