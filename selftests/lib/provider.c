// SPDX-License-Identifier: GPL-2.0
/*
 * The choice of provider.h, by a parameter of the module.
 */
#include <sys/file.h>

#include "provider.h"
#include "test_util.h"

#define PARAMETER		"/sys/module/ferric/parameters/attach"
#define USE_COUNT		"/sys/module/ferric/refcnt"

bool ferric_is_loaded(void)
{
	return !access(PARAMETER, F_OK);
}

long ferric_use_count(void)
{
	FILE *file = fopen(USE_COUNT, "r");
	long number = -1;

	if (!file)
		return -1;
	if (fscanf(file, "%ld", &number) != 1)
		number = -1;
	fclose(file);
	return number;
}

/* The choice that provider_end() brings back. */
static char before[16];

int provider_begin(enum provider provider)
{
	const char *choice = provider == PROVIDER_FERRIC ? "all" : "optin";
	ssize_t length;
	int fd;

	if (!ferric_is_loaded()) {
		TEST_ASSERT_EQ(provider, PROVIDER_KVM);
		return -1;
	}
	fd = open(PARAMETER, O_RDWR);
	TEST_ASSERT(fd >= 0 && !flock(fd, LOCK_EX), "cannot lock " PARAMETER);
	length = pread(fd, before, sizeof(before) - 1, 0);
	TEST_ASSERT(length > 0, "cannot read " PARAMETER);
	before[length] = '\0';
	TEST_ASSERT(write(fd, choice, strlen(choice)) > 0, "cannot write to " PARAMETER);
	return fd;
}

void provider_end(int lock)
{
	if (lock < 0)
		return;
	TEST_ASSERT(pwrite(lock, before, strlen(before), 0) > 0,
		    "cannot write to " PARAMETER);
	close(lock);
}
