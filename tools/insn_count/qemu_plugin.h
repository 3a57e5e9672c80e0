/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What insn_count needs of QEMU's interface for plugins (qemu/qemu-plugin.h),
 * which Debian packages without its header, and of GLib, which QEMU is linked
 * with.  The functions are QEMU's own; its documentation is there.
 */
#ifndef FERRIC_QEMU_PLUGIN_H
#define FERRIC_QEMU_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* That of QEMU 11.1, which loads no older ones. */
#define QEMU_PLUGIN_VERSION	7

struct qemu_info;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_register;

struct qemu_plugin_reg_descriptor {
	struct qemu_plugin_register *handle;
	const char *name;
	const char *feature;
	bool is_readonly;
};

enum qemu_plugin_cb_flags {
	QEMU_PLUGIN_CB_NO_REGS,
	QEMU_PLUGIN_CB_R_REGS,
	QEMU_PLUGIN_CB_RW_REGS,
};

/* GLib's GArray, here only of registers, and GByteArray. */
struct g_array {
	struct qemu_plugin_reg_descriptor *data;
	unsigned int len;
};

struct g_byte_array {
	uint8_t *data;
	unsigned int len;
};

struct g_byte_array *g_byte_array_new(void);
struct g_byte_array *g_byte_array_append(struct g_byte_array *array, const uint8_t *data,
					 unsigned int len);
struct g_byte_array *g_byte_array_set_size(struct g_byte_array *array, unsigned int length);
char *g_array_free(struct g_array *array, int free_segment);

__attribute__((visibility("default")))
int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv);

void qemu_plugin_register_vcpu_init_cb(uint64_t id, void (*cb)(unsigned int vcpu, void *data),
				       void *data);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id,
					   void (*cb)(struct qemu_plugin_tb *tb, void *data),
					   void *data);
void qemu_plugin_register_atexit_cb(uint64_t id, void (*cb)(void *data), void *data);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
					  void (*cb)(unsigned int vcpu, void *data),
					  enum qemu_plugin_cb_flags flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
					    void (*cb)(unsigned int vcpu, void *data),
					    enum qemu_plugin_cb_flags flags, void *data);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t idx);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *dest, size_t len);

struct g_array *qemu_plugin_get_registers(void);
bool qemu_plugin_read_register(struct qemu_plugin_register *handle, struct g_byte_array *buf);
bool qemu_plugin_write_register(struct qemu_plugin_register *handle, struct g_byte_array *buf);
bool qemu_plugin_read_memory_vaddr(uint64_t addr, struct g_byte_array *data, size_t len);

#endif /* FERRIC_QEMU_PLUGIN_H */
