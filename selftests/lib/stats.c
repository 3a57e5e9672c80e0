// SPDX-License-Identifier: GPL-2.0
/*
 * The counters of stats.h.
 */
#include <dirent.h>

#include "stats.h"
#include "test_util.h"

#define PARAMETER		"/sys/module/ferric/parameters/stats"
#define DEBUGFS			"/sys/kernel/debug/ferric"

static void parameter_write(const char *value)
{
	FILE *f = fopen(PARAMETER, "w");

	TEST_ASSERT(f && fputs(value, f) >= 0 && !fclose(f), "cannot write " PARAMETER);
}

/* The newest directory of this process. */
static void find_stats(char *path)
{
	long number, newest = -1;
	struct dirent *entry;
	char format[32];
	DIR *dir;

	dir = opendir(DEBUGFS);
	TEST_ASSERT(dir, "no " DEBUGFS);
	snprintf(format, sizeof(format), "vm-%d-%%ld", getpid());
	while ((entry = readdir(dir))) {
		if (sscanf(entry->d_name, format, &number) == 1 && number > newest) {
			newest = number;
			snprintf(path, PATH_MAX, DEBUGFS "/%s/stats", entry->d_name);
		}
	}
	closedir(dir);
	TEST_ASSERT(newest >= 0, "nothing of this process in " DEBUGFS);
}

struct stats stats_begin(void)
{
	struct stats stats;
	FILE *f;

	f = fopen(PARAMETER, "r");
	TEST_ASSERT(f && fgets(stats.before, sizeof(stats.before), f),
		    "cannot read " PARAMETER);
	fclose(f);
	find_stats(stats.path);
	parameter_write("Y");
	return stats;
}

void stats_end(struct stats *stats)
{
	parameter_write(stats->before);
}

u64 stats_counter(const struct stats *stats, const char *name)
{
	char line[64], got[32];
	u64 value = ~0ull, n;
	FILE *f = fopen(stats->path, "r");

	TEST_ASSERT(f, "no %s", stats->path);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%31s %lu", got, &n) == 2 && !strcmp(got, name))
			value = n;
	}
	fclose(f);
	TEST_ASSERT(value != ~0ull, "no %s in %s", name, stats->path);
	return value;
}
