// SPDX-License-Identifier: GPL-2.0
/*
 * What operations of the irqchip cost in instructions, in VMs that KVM's own
 * irqchip serves and in VMs that ferric serves, side by side in one run:
 *
 *   bench FUNCTIONS [NAME...]
 *
 * Counted are the kernel's instructions on all CPUs, from the operation's start
 * to its end (total), and those of them that the irqchip executes (own): what is
 * done in the functions that the file FUNCTIONS names, and in ferric's, with all
 * that they call. Both providers are entered through the same functions of KVM's,
 * so that the shares compare; scripts/bench says which these are.
 *
 * It takes an emulator that counts (tools/insn_count); all is skipped without one.
 * BENCH_ONLY in the environment, kvm or ferric, leaves out the other one's VMs, for
 * a profile. For every operation and provider a line is printed:
 *
 *   count NAME PROVIDER ROUNDS TOTAL-MINIMUM TOTAL-MIDDLE OWN-MINIMUM OWN-MIDDLE
 *
 * with the mean of the middle half. Where the scheduler or RCU has a choice, rounds are
 * of two or three kinds, and the median is now of one, now of another. For boot it is
 * the minimum again: what is above that is a slab that one round takes and the next
 * one finds. And for the memory of a VM and of a vCPU: bytes NAME PROVIDER BYTES.
 */
#include "bench.h"
#include "kselftest.h"

#define NR_PROVIDERS		2
#define MAX_ROUNDS		(NR_MORE_BATCHES * NR_COUNTED)
#define NR_MEMORY_ROUNDS	3
#define MAX_NAMES		4096
/* Until nothing is left of the machine's own start, e.g. timers. */
#define SETTLE_SECONDS		30

static const char * const provider_names[NR_PROVIDERS] = {
	[PROVIDER_KVM] = "kvm",
	[PROVIDER_FERRIC] = "ferric",
};

struct samples {
	u32 number;
	u64 total[MAX_ROUNDS];
	u64 own[MAX_ROUNDS];
};

/* Those that are counted. */
static u32 first_provider = PROVIDER_KVM, nr_providers = 1;
static char **chosen;
static int nr_chosen;

static bool is_chosen(const char *name)
{
	int i;

	for (i = 0; i < nr_chosen; i++) {
		if (!strncmp(name, chosen[i], strlen(chosen[i])))
			return true;
	}
	return !nr_chosen;
}

static int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static void add_sample(struct samples *s, const struct count *count)
{
	s->total[s->number] = count->total;
	s->own[s->number++] = count->own;
}

/* Sorts them; returns the mean of the middle half. */
static u64 middle(u64 *values, u32 number)
{
	u32 i, quarter = number / 4, nr = number - 2 * quarter;
	u64 sum = 0;

	qsort(values, number, sizeof(u64), compare);
	for (i = quarter; i < quarter + nr; i++)
		sum += values[i];
	return (sum + nr / 2) / nr;
}

static void print_samples(const char *name, enum provider provider, struct samples *s,
			  bool is_least)
{
	u64 total = middle(s->total, s->number), own = middle(s->own, s->number);

	printf("count %s %s %u %lu %lu %lu %lu\n", name, provider_names[provider], s->number,
	       s->total[0], is_least ? s->total[0] : total,
	       s->own[0], is_least ? s->own[0] : own);
}

/*
 * Several threads of the host's that run at a time meet in many ways; and the host's
 * timers have their own time.
 */
static int nr_batches(const struct operation *o)
{
	bool has_receivers = o->run == run_to_running || o->run == run_to_halted ||
			     o->run == run_hv_to_halted;

	if ((has_receivers && o->targets > 1) || o->run == run_resample || o->run == run_fire)
		return NR_MORE_BATCHES;
	return NR_BATCHES;
}

static void count_operation(struct machine **machines, const struct operation *o)
{
	static struct samples samples[NR_PROVIDERS];
	bool ok = true;
	u32 p;
	int batch, i;

	memset(samples, 0, sizeof(samples));
	for (batch = 0; batch < nr_batches(o) && ok; batch++) {
		for (p = first_provider; p < nr_providers && ok; p++) {
			prepare(machines[p], o);
			ok = o->run(machines[p], o);
			/* Nothing is left over for the other one, such as a timer. */
			lapic_set(machines[p]->cpu, machines[p]->initial);
			for (i = NR_FIRST; i < NR_BATCH; i++)
				add_sample(&samples[p], &machines[p]->meter->count[i]);
			if (!ok)
				ksft_print_msg("%s: not what was expected, %s\n", o->name,
					       provider_names[p]);
		}
	}
	for (p = first_provider; p < nr_providers && ok; p++)
		print_samples(o->name, p, &samples[p], false);
	ksft_test_result(ok, "%s\n", o->name);
}

static bool needs_more_cpus(const struct operation *o)
{
	u32 needed = o->run == run_to_running ? o->targets + 1 : 2;

	return nr_host_cpus() < needed;
}

static void count_operations(u32 shape)
{
	struct machine *machines[NR_PROVIDERS] = { NULL };
	u32 i, p;

	for (i = 0; i < nr_operations; i++) {
		const struct operation *o = &operations[i];

		if (o->shape != shape || !is_chosen(o->name))
			continue;
		if (needs_more_cpus(o)) {
			ksft_test_result_skip("%s: too few CPUs\n", o->name);
			continue;
		}
		for (p = first_provider; p < nr_providers; p++) {
			if (!machines[p])
				machines[p] = machine_create(p, &shapes[shape]);
		}
		count_operation(machines, o);
	}
	for (p = first_provider; p < nr_providers; p++) {
		if (machines[p])
			machine_free(machines[p]);
	}
}

static void count_boots(const struct boot *boot)
{
	static struct samples creates[NR_PROVIDERS], maps[NR_PROVIDERS];
	struct count create, map;
	struct aside aside;
	char name[32];
	bool ok = true;
	u32 p, round, i;

	memset(creates, 0, sizeof(creates));
	memset(maps, 0, sizeof(maps));
	aside_create(&aside);
	/* The first round fills caches. */
	for (round = 0; round <= boot->rounds; round++) {
		for (p = first_provider; p < nr_providers; p++) {
			for (i = 0; i < (p == PROVIDER_FERRIC ? boot->ferrics : 1); i++) {
				aside_grow(&aside);
				ok = count_boot(p, boot->vcpus, &create, &map) && ok;
				if (!round)
					continue;
				add_sample(&creates[p], &create);
				add_sample(&maps[p], &map);
			}
		}
	}
	aside_free(&aside);
	for (p = first_provider; p < nr_providers && ok; p++) {
		snprintf(name, sizeof(name), "boot_create_%u", boot->vcpus);
		print_samples(name, p, &creates[p], true);
		snprintf(name, sizeof(name), "boot_map_%u", boot->vcpus);
		print_samples(name, p, &maps[p], true);
	}
	ksft_test_result(ok, "boot_%u\n", boot->vcpus);
}

static void measure(void)
{
	u64 vm[NR_PROVIDERS][NR_MEMORY_ROUNDS], vcpu[NR_PROVIDERS][NR_MEMORY_ROUNDS];
	long vm_bytes, vcpu_bytes;
	u32 p, round;

	/* The first round fills caches. */
	for (round = 0; round <= NR_MEMORY_ROUNDS; round++) {
		for (p = first_provider; p < nr_providers; p++) {
			measure_memory(p, &vm_bytes, &vcpu_bytes);
			if (!round)
				continue;
			vm[p][round - 1] = vm_bytes;
			vcpu[p][round - 1] = vcpu_bytes;
		}
	}
	for (p = first_provider; p < nr_providers; p++) {
		qsort(vm[p], NR_MEMORY_ROUNDS, sizeof(u64), compare);
		qsort(vcpu[p], NR_MEMORY_ROUNDS, sizeof(u64), compare);
		printf("bytes memory_vm %s %lu\n", provider_names[p], vm[p][NR_MEMORY_ROUNDS / 2]);
		printf("bytes memory_vcpu %s %lu\n", provider_names[p],
		       vcpu[p][NR_MEMORY_ROUNDS / 2]);
	}
	ksft_test_result_pass("memory\n");
}

static void choose_providers(void)
{
	const char *only = getenv("BENCH_ONLY");

	if (ferric_is_loaded())
		nr_providers = NR_PROVIDERS;
	if (!only)
		return;
	while (strcmp(only, provider_names[first_provider])) {
		if (++first_provider == nr_providers)
			ksft_exit_fail_msg("BENCH_ONLY=%s: there is none\n", only);
	}
	nr_providers = first_provider + 1;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char * const *)a, *(char * const *)b);
}

static u32 read_names(const char *path, char **names)
{
	FILE *file = fopen(path, "r");
	char line[256];
	u32 number = 0;

	TEST_ASSERT(file, "cannot open %s", path);
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		TEST_ASSERT(number < MAX_NAMES, "too many functions");
		names[number++] = strdup(line);
	}
	fclose(file);
	qsort(names, number, sizeof(*names), compare_names);
	return number;
}

/*
 * The functions whose names are in the file, as far as the compiler has left them
 * in KVM's modules, and all of ferric's; returns how many.
 */
static u32 choose_functions(const char *path)
{
	char **names = calloc(MAX_NAMES, sizeof(*names)), *name, *key;
	char line[1024], symbol[768], module[64], type;
	u32 nr_names, found = 0;
	unsigned long address;
	FILE *file;

	TEST_ASSERT(names, "out of memory");
	nr_names = read_names(path, names);
	file = fopen("/proc/kallsyms", "r");
	TEST_ASSERT(file, "cannot open /proc/kallsyms");
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx %c %767s [%63[^]]]", &address, &type, symbol, module) != 4 ||
		    (type != 't' && type != 'T'))
			continue;
		if (strcmp(module, "ferric")) {
			/* Parts of one that the compiler has split have a suffix. */
			symbol[strcspn(symbol, ".")] = '\0';
			name = symbol;
			key = bsearch(&name, names, nr_names, sizeof(*names), compare_names);
			if (strncmp(module, "kvm", 3) || !key)
				continue;
		}
		count_function(address);
		found++;
	}
	fclose(file);
	return found;
}

int main(int argc, char **argv)
{
	u32 i, plan = 0, shape;

	ksft_print_header();
	if (!count_works())
		ksft_exit_skip("this machine does not count instructions (scripts/bench)\n");
	if (argc < 2)
		ksft_exit_fail_msg("usage: bench FUNCTIONS [NAME...]\n");
	chosen = argv + 2;
	nr_chosen = argc - 2;
	choose_providers();
	ksft_print_msg("%u functions\n", choose_functions(argv[1]));

	for (i = 0; i < nr_operations; i++)
		plan += is_chosen(operations[i].name);
	if (is_chosen("boot"))
		plan += nr_boots;
	plan += is_chosen("memory");
	ksft_set_plan(plan);
	sleep(SETTLE_SECONDS);
	for (shape = 0; shape < nr_shapes; shape++) {
		pin_self_to_cpu(0);
		count_operations(shape);
	}
	for (i = 0; i < nr_boots && is_chosen("boot"); i++)
		count_boots(&boots[i]);
	if (is_chosen("memory"))
		measure();
	ksft_finished();
}
