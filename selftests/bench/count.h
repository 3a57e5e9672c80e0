/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The marks of tools/insn_count, for user space and for guest code: NOPs, where
 * that is not loaded.
 */
#ifndef FERRIC_SELFTESTS_BENCH_COUNT_H
#define FERRIC_SELFTESTS_BENCH_COUNT_H

#include <stdbool.h>

#define MARK_MAGIC		0xfe5c
#define MARK_HELLO		1	/* answers MARK_MAGIC */
#define MARK_ENTRY		2	/* counts the function at that address for itself */
#define MARK_BEGIN		3
#define MARK_END		4
#define MARK_TOTAL		5	/* answers the kernel's instructions */
#define MARK_OWN		6	/* answers those of the chosen functions */

/* NOPL disp32(%rax), with the mark as the displacement. */
#define count_mark(mark, argument) ({					\
	unsigned long __answer;						\
									\
	asm volatile(".byte 0x0f, 0x1f, 0x80\n\t"			\
		     ".long %c[value]"					\
		     : "=a"(__answer)					\
		     : [value] "i"(MARK_MAGIC << 16 | (mark)),		\
		       "a"(0ul), "D"(argument)				\
		     : "memory");					\
	__answer;							\
})

/* What was counted between the last two marks. */
struct count {
	unsigned long total;
	unsigned long own;
};

static inline bool count_works(void)
{
	return count_mark(MARK_HELLO, 0ul) == MARK_MAGIC;
}

static inline void count_function(unsigned long address)
{
	count_mark(MARK_ENTRY, address);
}

static inline void count_begin(void)
{
	count_mark(MARK_BEGIN, 0ul);
}

static inline void count_end(void)
{
	count_mark(MARK_END, 0ul);
}

static inline struct count count_read(void)
{
	return (struct count) {
		.total = count_mark(MARK_TOTAL, 0ul),
		.own = count_mark(MARK_OWN, 0ul),
	};
}

#endif /* FERRIC_SELFTESTS_BENCH_COUNT_H */
