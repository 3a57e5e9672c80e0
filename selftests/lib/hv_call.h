/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Hyper-V's hypercalls, for guests on either maker's processors.
 */
#ifndef FERRIC_SELFTESTS_HV_CALL_H
#define FERRIC_SELFTESTS_HV_CALL_H

#include "hyperv.h"
#include "processor.h"

/* Formats of a sparse set of virtual processors. */
#define HV_SPARSE_4K		0
#define HV_ALL			1

/* The library's is for Intel's instruction alone. Returns the status. */
static inline u64 guest_hv_call(u64 control, u64 input, u64 output)
{
	register u64 r8 asm("r8") = output;
	u64 status;

	if (host_cpu_is_amd_compatible)
		asm volatile("vmmcall" : "=a"(status), "+c"(control), "+d"(input), "+r"(r8)
			     : : "cc", "memory", "r9", "r10", "r11");
	else
		asm volatile("vmcall" : "=a"(status), "+c"(control), "+d"(input), "+r"(r8)
			     : : "cc", "memory", "r9", "r10", "r11");
	return status;
}

#endif /* FERRIC_SELFTESTS_HV_CALL_H */
