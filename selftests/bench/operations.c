// SPDX-License-Identifier: GPL-2.0
/*
 * The operations that bench counts, grouped by the shape of the VMs they need.
 */
#include "bench.h"

enum {
	XAPIC, X2APIC, MANY, X2APIC_64, XAPIC_64, X2APIC_255, XAPIC_254,
	HYPERV_MANY, HYPERV_64, HYPERV_255,
};

const struct shape shapes[] = {
	[XAPIC] = { .runnable = 2, .first_id = 1 },
	[X2APIC] = { .x2apic = true, .runnable = 2, .first_id = 1 },
	/* First in x2APIC cluster 1: the targets. */
	[MANY] = { .x2apic = true, .runnable = 17, .first_id = 16 },
	[X2APIC_64] = { .x2apic = true, .runnable = 1, .first_id = 16, .idle = 64 },
	[XAPIC_64] = { .runnable = 1, .first_id = 1, .idle = 64 },
	[X2APIC_255] = { .x2apic = true, .runnable = 1, .first_id = 1, .idle = 255 },
	/* 0xff is everybody. */
	[XAPIC_254] = { .runnable = 1, .first_id = 1, .idle = 254 },
	[HYPERV_MANY] = { .x2apic = true, .hyperv = true, .runnable = 17, .first_id = 16 },
	[HYPERV_64] = { .x2apic = true, .hyperv = true, .runnable = 1, .first_id = 1,
			.idle = 64 },
	[HYPERV_255] = { .x2apic = true, .hyperv = true, .runnable = 1, .first_id = 1,
			 .idle = 255 },
};

const u32 nr_shapes = ARRAY_SIZE(shapes);

#define XAPIC_REG(reg)		(APIC_DEFAULT_GPA + (reg))
#define FIXED			(APIC_INT_ASSERT | VECTOR)
#define SELF			(APIC_DEST_SELF | FIXED)
/* To vCPUs that do not run, vectors count up from the first. */
#define FIRST			(APIC_INT_ASSERT | FIRST_VECTOR)
#define LOGICAL			APIC_DEST_LOGICAL
#define TO(id)			((u64)(id) << 32)
#define CLUSTER_1(mask)		(TO(1 << 16 | (mask)) | LOGICAL)
#define ICR			X2APIC_MSR(APIC_ICR)
#define MMIO_ICR		XAPIC_REG(APIC_ICR)
#define TIMER_NEVER		0x7fffffff
/* Further than any run takes. */
#define DEADLINE_NEVER		BIT_ULL(60)
#define TPR			0x20

const struct operation operations[] = {
	{ "xapic_eoi", XAPIC, run_eoi, op_write32, MMIO_ICR, SELF },
	{ "xapic_tpr_write", XAPIC, run_register, op_write32, XAPIC_REG(APIC_TASKPRI), TPR },
	{ "xapic_self_ipi", XAPIC, run_self, op_write32, MMIO_ICR, SELF },
	{ "xapic_unicast_stopped", XAPIC, run_to_stopped, op_write32, MMIO_ICR, FIRST,
	  .targets = 1, .icr2 = SET_APIC_DEST_FIELD(1) },
	{ "xapic_unicast_halted", XAPIC, run_to_halted, op_write32, MMIO_ICR, FIXED,
	  .targets = 1, .icr2 = SET_APIC_DEST_FIELD(1) },
	{ "xapic_unicast_running", XAPIC, run_to_running, op_write32, MMIO_ICR, FIXED,
	  .targets = 1, .icr2 = SET_APIC_DEST_FIELD(1) },
	{ "xapic_oneshot_arm", XAPIC, run_register, op_write32, XAPIC_REG(APIC_TMICT),
	  TIMER_NEVER },
	{ "xapic_oneshot_fire", XAPIC, run_fire, op_write32, XAPIC_REG(APIC_TMICT), TIMER_TICKS },

	{ "x2apic_eoi", X2APIC, run_eoi, op_wrmsr, ICR, SELF },
	{ "x2apic_tpr_write", X2APIC, run_register, op_wrmsr, X2APIC_MSR(APIC_TASKPRI), TPR },
	{ "cr8_write", X2APIC, run_cr8, op_set_cr8, 0xf },
	{ "x2apic_self_ipi", X2APIC, run_self, op_wrmsr, ICR, SELF },
	{ "x2apic_self_ipi_msr", X2APIC, run_self, op_wrmsr, X2APIC_MSR(APIC_SELF_IPI), VECTOR },
	{ "x2apic_unicast_stopped", X2APIC, run_to_stopped, op_wrmsr, ICR, TO(1) | FIRST,
	  .targets = 1 },
	{ "x2apic_unicast_halted", X2APIC, run_to_halted, op_wrmsr, ICR, TO(1) | FIXED,
	  .targets = 1 },
	{ "x2apic_unicast_running", X2APIC, run_to_running, op_wrmsr, ICR, TO(1) | FIXED,
	  .targets = 1 },
	{ "x2apic_oneshot_arm", X2APIC, run_register, op_wrmsr, X2APIC_MSR(APIC_TMICT),
	  TIMER_NEVER },
	{ "x2apic_oneshot_fire", X2APIC, run_fire, op_wrmsr, X2APIC_MSR(APIC_TMICT), TIMER_TICKS },
	{ "tsc_deadline_arm", X2APIC, run_arm_deadline, op_wrmsr, MSR_TSC_DEADLINE,
	  DEADLINE_NEVER },
	{ "tsc_deadline_fire", X2APIC, run_fire, op_tsc_deadline, TIMER_TICKS },
	{ "signal_msi", X2APIC, run_signal_msi },
	{ "irqfd_msi", X2APIC, run_irqfd_msi },
	{ "irqfd_msi_halted", X2APIC, run_irqfd_msi_to_halted },
	{ "level_resample", X2APIC, run_resample },
	{ "lapic_save", X2APIC, run_get_lapic },
	{ "lapic_restore", X2APIC, run_set_lapic },

	{ "x2apic_multicast_4_halted", MANY, run_to_halted, op_wrmsr, ICR,
	  CLUSTER_1(0xf) | FIXED, .targets = 4 },
	{ "x2apic_multicast_16_halted", MANY, run_to_halted, op_wrmsr, ICR,
	  CLUSTER_1(0xffff) | FIXED, .targets = 16 },
	{ "x2apic_multicast_4_running", MANY, run_to_running, op_wrmsr, ICR,
	  CLUSTER_1(0xf) | FIXED, .targets = 4 },
	{ "x2apic_all_but_self_16_halted", MANY, run_to_halted, op_wrmsr, ICR,
	  APIC_DEST_ALLBUT | FIXED, .targets = 16 },
	{ "pv_ipi_4_running", MANY, run_to_running, op_pv_ipi, PV_IPI_TO(16, 4), VECTOR,
	  .targets = 4 },
	{ "pv_ipi_16_halted", MANY, run_to_halted, op_pv_ipi, PV_IPI_TO(16, 16), VECTOR,
	  .targets = 16 },

	{ "x2apic_multicast_4", X2APIC_64, run_to_stopped, op_wrmsr, ICR,
	  CLUSTER_1(0xf) | FIRST, .targets = 4 },
	{ "x2apic_multicast_16", X2APIC_64, run_to_stopped, op_wrmsr, ICR,
	  CLUSTER_1(0xffff) | FIRST, .targets = 16 },
	{ "x2apic_all_but_self_64", X2APIC_64, run_to_stopped, op_wrmsr, ICR,
	  APIC_DEST_ALLBUT | FIRST, .targets = 64 },
	{ "x2apic_broadcast_64", X2APIC_64, run_to_stopped, op_wrmsr, ICR,
	  TO(0xffffffff) | FIRST, .targets = 64 },
	{ "pv_ipi_4", X2APIC_64, run_to_stopped, op_pv_ipi, PV_IPI_TO(16, 4), FIRST_VECTOR,
	  .targets = 4 },
	{ "pv_ipi_16", X2APIC_64, run_to_stopped, op_pv_ipi, PV_IPI_TO(16, 16), FIRST_VECTOR,
	  .targets = 16 },
	{ "pv_ipi_64", X2APIC_64, run_to_stopped, op_pv_ipi, PV_IPI_TO(16, 64), FIRST_VECTOR,
	  .targets = 64 },

	{ "xapic_multicast_4", XAPIC_64, run_to_stopped, op_write32, MMIO_ICR, LOGICAL | FIRST,
	  .targets = 4, .icr2 = SET_APIC_DEST_FIELD(0xfu) },
	/* All eight bits are a broadcast. */
	{ "xapic_multicast_7", XAPIC_64, run_to_stopped, op_write32, MMIO_ICR, LOGICAL | FIRST,
	  .targets = 7, .icr2 = SET_APIC_DEST_FIELD(0x7fu) },
	{ "xapic_all_but_self_64", XAPIC_64, run_to_stopped, op_write32, MMIO_ICR,
	  APIC_DEST_ALLBUT | FIRST, .targets = 64 },
	{ "xapic_broadcast_64", XAPIC_64, run_to_stopped, op_write32, MMIO_ICR, FIRST,
	  .targets = 64, .icr2 = SET_APIC_DEST_FIELD(0xffu) },

	{ "x2apic_all_but_self_255", X2APIC_255, run_to_stopped, op_wrmsr, ICR,
	  APIC_DEST_ALLBUT | FIRST, .targets = 255 },
	{ "x2apic_broadcast_255", X2APIC_255, run_to_stopped, op_wrmsr, ICR,
	  TO(0xffffffff) | FIRST, .targets = 255 },

	{ "xapic_all_but_self_254", XAPIC_254, run_to_stopped, op_write32, MMIO_ICR,
	  APIC_DEST_ALLBUT | FIRST, .targets = 254 },
	{ "xapic_broadcast_254", XAPIC_254, run_to_stopped, op_write32, MMIO_ICR, FIRST,
	  .targets = 254, .icr2 = SET_APIC_DEST_FIELD(0xffu) },

	{ "hyperv_ipi_16_halted", HYPERV_MANY, run_hv_to_halted, op_hv_ipi, 0x1fffe, VECTOR,
	  .targets = 16 },
	/* Its mask has 64 bits, of which one is the sender's. */
	{ "hyperv_ipi_63", HYPERV_64, run_hv_to_stopped, op_hv_ipi, ~1ull, FIRST_VECTOR,
	  .targets = 63 },
	{ "hyperv_ipi_ex_64", HYPERV_64, run_hv_to_stopped, op_hv_ipi_ex, 64, FIRST_VECTOR,
	  .targets = 64 },
	{ "hyperv_ipi_all_64", HYPERV_64, run_hv_to_stopped, op_hv_ipi_ex, 0, FIRST_VECTOR,
	  .targets = 64 },
	{ "hyperv_ipi_4", HYPERV_255, run_hv_to_stopped, op_hv_ipi, 0x1e, FIRST_VECTOR,
	  .targets = 4 },
	{ "hyperv_ipi_ex_255", HYPERV_255, run_hv_to_stopped, op_hv_ipi_ex, 255, FIRST_VECTOR,
	  .targets = 255 },
	{ "hyperv_ipi_all_255", HYPERV_255, run_hv_to_stopped, op_hv_ipi_ex, 0, FIRST_VECTOR,
	  .targets = 255 },
};

const u32 nr_operations = ARRAY_SIZE(operations);
