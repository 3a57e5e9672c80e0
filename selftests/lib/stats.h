/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What ferric counts of a VM, in debugfs.  Only while it is told to count.
 */
#ifndef FERRIC_SELFTESTS_STATS_H
#define FERRIC_SELFTESTS_STATS_H

#include <limits.h>

#include "kvm_util.h"

struct stats {
	char path[PATH_MAX];	/* of the VM's counters */
	char before[2];		/* of the module's parameter */
};

/* Has ferric count, for the VM that this process has created last. */
struct stats stats_begin(void);
void stats_end(struct stats *stats);
u64 stats_counter(const struct stats *stats, const char *name);

#endif /* FERRIC_SELFTESTS_STATS_H */
