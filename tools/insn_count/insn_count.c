// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin of QEMU's that counts the instructions of a guest's kernel, all of
 * them and those of chosen functions with what they call, between two marks
 * that the guest makes.
 *
 * The guest, or a guest of its own, makes a mark by a NOP with a displacement
 * that nothing else uses (selftests/bench/count.h); it does nothing where this
 * is not loaded.  RDI is the argument, RAX the answer.
 *
 * An instruction is the kernel's if its address is in the upper half.  What
 * several processors execute between the marks is added up, so that an IPI's
 * cost is the sender's and the receiver's; a guest that polls is not in it.
 *
 * The argument profile=FILE writes, at the end, how often each block of
 * instructions was executed between marks: address, length, count.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_plugin.h"

__attribute__((visibility("default"))) int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/* NOPL disp32(%rax) with this in the upper half of the displacement. */
#define MARK_MAGIC		0xfe5c
enum mark {
	MARK_HELLO = 1,		/* answers MARK_MAGIC */
	MARK_ENTRY,		/* counts the function at RDI for itself */
	MARK_BEGIN,
	MARK_END,
	MARK_TOTAL,		/* answers the kernel's instructions */
	MARK_OWN,		/* answers those of the chosen functions */
};

#define NR_ENTRIES		4096	/* a power of two */
#define NR_BLOCKS		65536	/* a power of two */
#define NR_CALLS		16

/*
 * A chosen function that is being executed.  With all processors in one thread
 * QEMU takes the number of the one that translates for that of the one that
 * executes (gen_cpu_index()), so that calls are told by their stacks.
 */
struct call {
	uint64_t return_address;	/* 0: unused */
	uint64_t stack;			/* after it has returned */
};

/* Instructions that are executed together. */
struct block {
	uint64_t address, length, executed;
};

static bool armed;			/* between marks? */
static uint64_t total, own;		/* since the first mark */
static struct call calls[NR_CALLS];
static unsigned int nr_calls;
static uint64_t entries[NR_ENTRIES];
static unsigned int nr_entries;
static struct block *blocks;
static char *profile;
static struct g_byte_array *buffer;
static struct qemu_plugin_register *rax, *rdi, *rsp;

static uint64_t hash(uint64_t address)
{
	return (address * 0x9e3779b97f4a7c15ull) >> 40;
}

static uint64_t read_register(struct qemu_plugin_register *reg)
{
	uint64_t value = 0;

	g_byte_array_set_size(buffer, 0);
	qemu_plugin_read_register(reg, buffer);
	memcpy(&value, buffer->data, buffer->len < 8 ? buffer->len : 8);
	return value;
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

static void count_block(const struct block *block)
{
	struct block *slot = &blocks[hash(block->address) % NR_BLOCKS];

	while (slot->address &&
	       (slot->address != block->address || slot->length != block->length)) {
		if (++slot == &blocks[NR_BLOCKS])
			slot = blocks;
	}
	slot->address = block->address;
	slot->length = block->length;
	slot->executed++;
}

static void begin(void)
{
	total = 0;
	own = 0;
	nr_calls = 0;
	memset(calls, 0, sizeof(calls));
	armed = true;
}

static void at_mark(unsigned int index, void *data)
{
	uint64_t answer = 0;

	switch ((enum mark)(uintptr_t)data) {
	case MARK_HELLO:
		answer = MARK_MAGIC;
		break;
	case MARK_ENTRY:
		add_entry(read_register(rdi));
		return;
	case MARK_BEGIN:
		begin();
		return;
	case MARK_END:
		armed = false;
		return;
	case MARK_TOTAL:
		answer = total;
		break;
	case MARK_OWN:
		answer = own;
		break;
	default:
		return;
	}
	g_byte_array_set_size(buffer, 0);
	g_byte_array_append(buffer, (uint8_t *)&answer, sizeof(answer));
	qemu_plugin_write_register(rax, buffer);
}

static bool enter(uint64_t stack)
{
	struct call *call = calls;

	g_byte_array_set_size(buffer, 0);
	if (!qemu_plugin_read_memory_vaddr(stack, buffer, 8) || buffer->len != 8)
		return false;
	while (call->return_address) {
		if (++call == &calls[NR_CALLS])
			return false;
	}
	memcpy(&call->return_address, buffer->data, 8);
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

/* Before a block of the kernel's is executed. */
static void at_block(unsigned int index, void *data)
{
	struct block *block = data;
	bool entry;

	if (!armed)
		return;
	entry = is_entry(block->address);
	if (entry || nr_calls) {
		uint64_t stack = read_register(rsp);

		if (in_call(block->address, stack) || (entry && enter(stack)))
			own += block->length;
	}
	total += block->length;
	if (profile)
		count_block(block);
}

static bool is_mark(const struct qemu_plugin_insn *insn, uint32_t *mark)
{
	uint8_t bytes[7];

	if (qemu_plugin_insn_size(insn) != sizeof(bytes) ||
	    qemu_plugin_insn_data(insn, bytes, sizeof(bytes)) != sizeof(bytes) ||
	    memcmp(bytes, "\x0f\x1f\x80", 3))
		return false;
	memcpy(mark, bytes + 3, sizeof(*mark));
	if (*mark >> 16 != MARK_MAGIC)
		return false;
	*mark &= 0xffff;
	return true;
}

static void at_translation(struct qemu_plugin_tb *tb, void *unused)
{
	size_t i, n = qemu_plugin_tb_n_insns(tb);
	struct block *block;
	uint32_t mark;

	if (!(qemu_plugin_tb_vaddr(tb) >> 63)) {
		for (i = 0; i < n; i++) {
			struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

			if (!is_mark(insn, &mark))
				continue;
			qemu_plugin_register_vcpu_insn_exec_cb(insn, at_mark,
							       QEMU_PLUGIN_CB_RW_REGS,
							       (void *)(uintptr_t)mark);
		}
		return;
	}
	/* For as long as the block may be executed, so for good. */
	block = calloc(1, sizeof(*block));
	if (!block)
		abort();
	block->address = qemu_plugin_tb_vaddr(tb);
	block->length = n;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, at_block, QEMU_PLUGIN_CB_R_REGS, block);
}

static void at_start(unsigned int index, void *unused)
{
	struct g_array *regs = qemu_plugin_get_registers();
	unsigned int i;

	for (i = 0; i < regs->len; i++) {
		const struct qemu_plugin_reg_descriptor *reg = &regs->data[i];

		if (!strcmp(reg->name, "rax"))
			rax = reg->handle;
		else if (!strcmp(reg->name, "rdi"))
			rdi = reg->handle;
		else if (!strcmp(reg->name, "rsp"))
			rsp = reg->handle;
	}
	g_array_free(regs, 1);
	if (!rax || !rdi || !rsp) {
		fputs("insn_count: QEMU does not tell the registers\n", stderr);
		abort();
	}
}

static void at_exit(void *unused)
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

int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv)
{
	int i;

	for (i = 0; i < argc; i++) {
		if (strncmp(argv[i], "profile=", 8)) {
			fprintf(stderr, "insn_count: unknown argument: %s\n", argv[i]);
			return -1;
		}
		profile = strdup(argv[i] + 8);
	}
	buffer = g_byte_array_new();
	blocks = calloc(NR_BLOCKS, sizeof(*blocks));
	if (!blocks)
		return -1;
	qemu_plugin_register_vcpu_init_cb(id, at_start, NULL);
	qemu_plugin_register_vcpu_tb_trans_cb(id, at_translation, NULL);
	qemu_plugin_register_atexit_cb(id, at_exit, NULL);
	return 0;
}
