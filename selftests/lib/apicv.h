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

/* In x2APIC mode the processor has TPR's MSR, if nothing else: VMX has that alone. */
static inline bool processor_has_x2apic_tpr(void)
{
	return host_cpu_is_intel || apicv_is_on();
}

#endif /* FERRIC_SELFTESTS_APICV_H */
