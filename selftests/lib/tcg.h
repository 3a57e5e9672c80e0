/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What QEMU's emulation of a processor does that no processor may.
 */
#ifndef FERRIC_SELFTESTS_TCG_H
#define FERRIC_SELFTESTS_TCG_H

#include <string.h>

#include "processor.h"

/* Is this machine's processor QEMU's emulation? */
static inline bool is_tcg(void)
{
	u32 eax, ebx, ecx, edx;

	cpuid(0x40000000, &eax, &ebx, &ecx, &edx);
	return !memcmp(&ebx, "TCGT", 4);
}

/*
 * No local APIC can interrupt a vCPU that masks interrupts.  If the interrupted
 * RFLAGS say that it did, then the processor has delivered an injected interrupt
 * twice, the second time on entry to the handler.  QEMU's TCG does that now and
 * then, as its VMRUN leaves the vector in exception_index; it is no arrival.
 * The guest's handler asks.
 *
 * It is then if the processor's thread is kicked before the vCPU's next exit, which
 * is mostly at once.  A guest whose EOI is no exit may be interrupted later, too,
 * with interrupts enabled: see ipi_storm_guest.c.  To see many of them, let the
 * outer QEMU stop and continue (QMP) every few milliseconds.
 */
static inline bool is_repeated_by_processor(const struct ex_regs *regs)
{
	return !(regs->rflags & X86_EFLAGS_IF);
}

/*
 * Only TCG may.  How often depends on what else a VMRUN is to do, and on what else
 * the host of the processor's threads does: one in a million to one in 400 were seen.
 * More than that, and it is the handler's way to tell that is wrong.
 */
static inline u64 most_repeated_by_processor(u64 arrivals)
{
	return is_tcg() ? 2 + arrivals / 100 : 0;
}

/*
 * A processor that is a thread of its host's may stand still between the two
 * clocks that KVM reads in a row when it starts a TSC-deadline timer, which is
 * early by that time then.  How many may be.
 */
static inline u64 most_early_timers(u64 expiries)
{
	return is_tcg() ? 1 + expiries / 1000 : 0;
}

#endif /* FERRIC_SELFTESTS_TCG_H */
