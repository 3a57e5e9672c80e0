// SPDX-License-Identifier: GPL-2.0
/*
 * The plugin of QEMU's that counts instructions (count.h).
 *
 * The argument profile=FILE writes, at the end, how often each block of
 * instructions was executed between marks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "count.h"
#include "qemu_plugin.h"

__attribute__((visibility("default"))) int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/* Instructions that are executed together. */
struct block {
	uint64_t address, length;
};

static struct g_byte_array *buffer;
static struct qemu_plugin_register *rax, *rdi, *rsp;

static uint64_t read_register(struct qemu_plugin_register *reg)
{
	uint64_t value = 0;

	g_byte_array_set_size(buffer, 0);
	qemu_plugin_read_register(reg, buffer);
	memcpy(&value, buffer->data, buffer->len < 8 ? buffer->len : 8);
	return value;
}

uint64_t read_stack_pointer(unsigned int cpu)
{
	return read_register(rsp);
}

bool read_stack(unsigned int cpu, uint64_t address, uint64_t *value)
{
	g_byte_array_set_size(buffer, 0);
	if (!qemu_plugin_read_memory_vaddr(address, buffer, 8) || buffer->len != 8)
		return false;
	memcpy(value, buffer->data, 8);
	return true;
}

static void at_mark(unsigned int index, void *data)
{
	uint64_t answer;

	if (!count_mark((uintptr_t)data, read_register(rdi), &answer))
		return;
	g_byte_array_set_size(buffer, 0);
	g_byte_array_append(buffer, (uint8_t *)&answer, sizeof(answer));
	qemu_plugin_write_register(rax, buffer);
}

/* Before a block of the kernel's is executed. */
static void at_block(unsigned int index, void *data)
{
	const struct block *block = data;

	if (count_is_armed)
		count_instructions(index, block->address, block->length);
}

static bool is_mark(const struct qemu_plugin_insn *insn, uint32_t *mark)
{
	uint8_t bytes[MARK_LENGTH];

	if (qemu_plugin_insn_size(insn) != sizeof(bytes) ||
	    qemu_plugin_insn_data(insn, bytes, sizeof(bytes)) != sizeof(bytes) ||
	    memcmp(bytes, "\x0f\x1f\x80", 3))
		return false;
	memcpy(mark, bytes + 3, sizeof(*mark));
	return *mark >> 16 == MARK_MAGIC;
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
	block = malloc(sizeof(*block));
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
	count_finish();
}

int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv)
{
	const char *profile = NULL;
	int i;

	for (i = 0; i < argc; i++) {
		if (strncmp(argv[i], "profile=", 8)) {
			fprintf(stderr, "insn_count: unknown argument: %s\n", argv[i]);
			return -1;
		}
		profile = argv[i] + 8;
	}
	buffer = g_byte_array_new();
	if (!count_start(profile))
		return -1;
	qemu_plugin_register_vcpu_init_cb(id, at_start, NULL);
	qemu_plugin_register_vcpu_tb_trans_cb(id, at_translation, NULL);
	qemu_plugin_register_atexit_cb(id, at_exit, NULL);
	return 0;
}
