// SPDX-License-Identifier: GPL-2.0
/*
 * Counts the instructions of a kernel, all of them and those of chosen functions
 * with what they call, between two marks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "count.h"

enum mark {
	MARK_HELLO = 1,		/* answers MARK_MAGIC */
	MARK_ENTRY,		/* counts the function at RDI for itself */
	MARK_BEGIN,
	MARK_END,
	MARK_TOTAL,		/* answers the kernel's instructions */
	MARK_OWN,		/* answers those of the chosen functions */
};

#define NR_ENTRIES		4096	/* a power of two */
#define NR_BLOCKS		262144	/* a power of two */
#define NR_CALLS		16

/*
 * A chosen function that is being executed.  Calls are told by their stacks: a
 * thread may move to another processor, and with all processors in one thread
 * QEMU takes the number of the one that translates for that of the one that
 * executes (gen_cpu_index()).
 */
struct call {
	uint64_t return_address;	/* 0: unused */
	uint64_t stack;			/* after it has returned */
};

/* Instructions that are executed together. */
struct block {
	uint64_t address, length, executed;
};

bool count_is_armed;

static uint64_t total, own;		/* since the first mark */
static struct call calls[NR_CALLS];
static unsigned int nr_calls;
static uint64_t entries[NR_ENTRIES];
static unsigned int nr_entries;
static struct block *blocks;
static unsigned int nr_blocks;
static char *profile;

static uint64_t hash(uint64_t address)
{
	return (address * 0x9e3779b97f4a7c15ull) >> 40;
}

static bool is_entry(uint64_t address)
{
	uint64_t i;

	for (i = hash(address) % NR_ENTRIES; entries[i]; i = (i + 1) % NR_ENTRIES) {
		if (entries[i] == address)
			return true;
	}
	return false;
}

static void add_entry(uint64_t address)
{
	uint64_t i;

	if (!address || is_entry(address) || nr_entries == NR_ENTRIES / 2)
		return;
	for (i = hash(address) % NR_ENTRIES; entries[i]; i = (i + 1) % NR_ENTRIES)
		;
	entries[i] = address;
	nr_entries++;
}

static void count_block(uint64_t address, uint64_t length)
{
	struct block *slot = &blocks[hash(address) % NR_BLOCKS];

	while (slot->address && (slot->address != address || slot->length != length)) {
		if (++slot == &blocks[NR_BLOCKS])
			slot = blocks;
	}
	if (!slot->address && ++nr_blocks == NR_BLOCKS) {
		fputs("insn_count: too many blocks for a profile\n", stderr);
		abort();
	}
	slot->address = address;
	slot->length = length;
	slot->executed++;
}

static void begin(void)
{
	total = 0;
	own = 0;
	nr_calls = 0;
	memset(calls, 0, sizeof(calls));
	count_is_armed = true;
}

bool count_mark(uint32_t displacement, uint64_t argument, uint64_t *answer)
{
	if (displacement >> 16 != MARK_MAGIC)
		return false;
	switch ((enum mark)(displacement & 0xffff)) {
	case MARK_HELLO:
		*answer = MARK_MAGIC;
		return true;
	case MARK_ENTRY:
		add_entry(argument);
		break;
	case MARK_BEGIN:
		begin();
		break;
	case MARK_END:
		count_is_armed = false;
		break;
	case MARK_TOTAL:
		*answer = total;
		return true;
	case MARK_OWN:
		*answer = own;
		return true;
	}
	return false;
}

static bool enter(unsigned int cpu, uint64_t stack)
{
	struct call *call = calls;
	uint64_t return_address;

	if (!read_stack(cpu, stack, &return_address))
		return false;
	while (call->return_address) {
		if (++call == &calls[NR_CALLS])
			return false;
	}
	call->return_address = return_address;
	call->stack = stack + 8;
	nr_calls++;
	return true;
}

/* Are two addresses on the same kernel stack, or on none that is known? */
static bool same_stack(uint64_t a, uint64_t b)
{
	return (a ^ b) < 0x4000;
}

/*
 * Is one of the chosen functions in progress on this stack?  Another processor,
 * and an interrupt that has a stack of its own, are not in it.
 */
static bool in_call(uint64_t address, uint64_t stack)
{
	struct call *call;

	for (call = calls; call < &calls[NR_CALLS]; call++) {
		if (!call->return_address || !same_stack(stack, call->stack))
			continue;
		if (address == call->return_address && stack == call->stack) {
			call->return_address = 0;
			nr_calls--;
			return false;
		}
		return true;
	}
	return false;
}

void count_instructions(unsigned int cpu, uint64_t address, uint64_t number)
{
	bool entry = is_entry(address);

	if (entry || nr_calls) {
		uint64_t stack = read_stack_pointer(cpu);

		if (in_call(address, stack) || (entry && enter(cpu, stack)))
			own += number;
	}
	total += number;
	if (profile)
		count_block(address, number);
}

bool count_start(const char *file)
{
	if (!file)
		return true;
	profile = strdup(file);
	blocks = calloc(NR_BLOCKS, sizeof(*blocks));
	return profile && blocks;
}

void count_finish(void)
{
	FILE *file;
	size_t i;

	if (!profile)
		return;
	file = fopen(profile, "w");
	if (!file) {
		perror(profile);
		return;
	}
	for (i = 0; i < NR_BLOCKS; i++) {
		if (blocks[i].executed)
			fprintf(file, "%lx %lu %lu\n", blocks[i].address,
				blocks[i].length, blocks[i].executed);
	}
	fclose(file);
}
