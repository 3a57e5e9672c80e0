// SPDX-License-Identifier: GPL-2.0
/*
 * The memory that the kernel uses: pages, and of those that are slabs only the
 * objects that are allocated.
 */
#include <glob.h>

#include "bench.h"

#define SETTLE_US		1000000
/* Objects, those that there is room for, size, pages of a slab, slabs. */
#define SLABINFO_LINE \
	"%*s %ld %ld %ld %*d %ld : tunables %*d %*d %*d : slabdata %*d %ld"

/* Without objects that are free, but kept at hand by a CPU. */
static void shrink_slabs(void)
{
	glob_t caches;
	FILE *file;
	u64 i;

	TEST_ASSERT(!glob("/sys/kernel/slab/*/shrink", 0, NULL, &caches),
		    "no slabs in /sys/kernel/slab");
	for (i = 0; i < caches.gl_pathc; i++) {
		file = fopen(caches.gl_pathv[i], "w");
		TEST_ASSERT(file, "cannot open %s", caches.gl_pathv[i]);
		fputs("1", file);
		fclose(file);
	}
	globfree(&caches);
}

/* In bytes, with the pages that are on the lists of the CPUs. */
static long free_pages(void)
{
	char line[256];
	long pages = 0, number;
	FILE *file;

	/* Each CPU's own counters into the sum. */
	file = fopen("/proc/sys/vm/stat_refresh", "r");
	TEST_ASSERT(file, "cannot open /proc/sys/vm/stat_refresh");
	while (fgets(line, sizeof(line), file))
		;
	fclose(file);
	file = fopen("/proc/zoneinfo", "r");
	TEST_ASSERT(file, "cannot open /proc/zoneinfo");
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, " nr_free_pages %ld", &number) == 1 ||
		    sscanf(line, " count: %ld", &number) == 1)
			pages += number;
	}
	fclose(file);
	return pages * getpagesize();
}

/* In bytes: what is free within the pages of slabs. */
static long free_in_slabs(void)
{
	long objects, all, size, pages_each, slabs, bytes = 0;
	char line[512];
	FILE *file = fopen("/proc/slabinfo", "r");

	TEST_ASSERT(file, "cannot open /proc/slabinfo");
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, SLABINFO_LINE,
			   &objects, &all, &size, &pages_each, &slabs) != 5)
			continue;
		bytes += slabs * pages_each * getpagesize() - objects * size;
	}
	fclose(file);
	return bytes;
}

/* Of two values the difference means something. */
long memory_free(void)
{
	/* What RCU is to free has to be handed over to it first. */
	shrink_slabs();
	usleep(SETTLE_US);
	shrink_slabs();
	return free_pages() + free_in_slabs();
}
