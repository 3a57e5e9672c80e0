// SPDX-License-Identifier: GPL-2.0
/*
 * Prints the frequency of this machine's TSC in kHz.
 *
 * QEMU's TCG shows the host's TSC to the guest. A guest that has to find out
 * its frequency by itself, against emulated timers on a busy host, can be wrong
 * by a factor of a hundred; scripts/vm tells it instead.
 */
#include <linux/types.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

struct sample {
	__u64 ns;
	__u64 tsc;
};

/* The tightest of many readings: one that nothing came in between of. */
static struct sample take(void)
{
	struct sample best = { 0, 0 };
	__u64 width = ~(__u64)0;

	for (int i = 0; i < 1000; i++) {
		struct timespec t;
		__u64 before = __rdtsc(), after;

		clock_gettime(CLOCK_MONOTONIC_RAW, &t);
		after = __rdtsc();
		if (after - before < width) {
			width = after - before;
			best.ns = t.tv_sec * 1000000000ull + t.tv_nsec;
			best.tsc = before + width / 2;
		}
	}
	return best;
}

int main(void)
{
	const struct timespec pause = { .tv_nsec = 50000000 };
	struct sample a = take(), b;

	nanosleep(&pause, NULL);
	b = take();
	printf("%llu\n", (unsigned long long)((b.tsc - a.tsc) * 1000000.0 / (b.ns - a.ns)));
	return 0;
}
