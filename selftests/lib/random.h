/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A sequence of numbers from a seed (splitmix64), for host and guest.
 */
#ifndef FERRIC_SELFTESTS_RANDOM_H
#define FERRIC_SELFTESTS_RANDOM_H

#include <linux/types.h>

static inline u64 random_next(u64 *state)
{
	u64 z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static inline u64 random_below(u64 *state, u64 limit)
{
	return random_next(state) % limit;
}

#endif /* FERRIC_SELFTESTS_RANDOM_H */
