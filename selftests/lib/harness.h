/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kselftest harness, with patience: in an emulated machine whose host is
 * busy, half a minute is not enough for some tests that take a few seconds.
 */
#ifndef FERRIC_SELFTESTS_HARNESS_H
#define FERRIC_SELFTESTS_HARNESS_H

#include "kselftest_harness.h"

#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	90	/* seconds */

#endif /* FERRIC_SELFTESTS_HARNESS_H */
