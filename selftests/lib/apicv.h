/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Whether the processor has part of the local APIC, by Intel's APICv or AMD's
 * AVIC.  What it has it does as the manual says, which is not always what KVM
 * does that emulates it, and nobody hears of it.
 */
#ifndef FERRIC_SELFTESTS_APICV_H
#define FERRIC_SELFTESTS_APICV_H

#include "processor.h"

static inline bool apicv_is_on(void)
{
	if (host_cpu_is_amd)
		return get_kvm_amd_param_bool("avic");
	return get_kvm_intel_param_bool("enable_apicv");
}

#endif /* FERRIC_SELFTESTS_APICV_H */
