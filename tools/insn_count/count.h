/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What counts the instructions of a machine's kernel, whatever emulates the
 * machine: qemu.c and bochs/ tell it what is executed.
 *
 * The machine's user space, or a guest in the machine, makes a mark by a NOP with
 * a displacement that nothing else uses (selftests/bench/count.h); it does nothing
 * where nobody counts.  RDI is the argument, RAX the answer.
 *
 * An instruction is the kernel's if its address is in the upper half and it is no
 * guest's.  What several processors execute between the marks is added up, so that
 * an IPI's cost is the sender's and the receiver's; a guest that polls is not in it.
 */
#ifndef FERRIC_COUNT_H
#define FERRIC_COUNT_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* NOPL disp32(%rax) with this in the upper half of the displacement. */
#define MARK_MAGIC		0xfe5c
#define MARK_LENGTH		7

/* Between marks? */
extern bool count_is_armed;

/* With the name of a file for the profile, or none; false if out of memory. */
bool count_start(const char *profile);
/* How often each block was executed between marks: address, length, count. */
void count_finish(void);

/* A mark, by its displacement.  True if it has an answer. */
bool count_mark(uint32_t displacement, uint64_t argument, uint64_t *answer);

/* Before so many instructions of the kernel's are executed, if it is armed. */
void count_instructions(unsigned int cpu, uint64_t address, uint64_t number);

/* By whoever runs the machine. */
uint64_t read_stack_pointer(unsigned int cpu);
bool read_stack(unsigned int cpu, uint64_t address, uint64_t *value);

#ifdef __cplusplus
}
#endif

#endif /* FERRIC_COUNT_H */
