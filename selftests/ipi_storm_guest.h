/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest of the IPI storm: vCPUs that pass tokens to each other.
 *
 * A token is one interrupt vector. Whoever holds it sends it on, by an IPI of a
 * kind and to receivers that are chosen at random; the last of them to see it
 * holds it next. So a vector is in flight once at a time: two IPIs can never
 * coalesce into one, and a single lost IPI stops its token for good.
 *
 * Tokens go around in rounds. At a round's beginning all are under way, and
 * vCPUs always have something to take; towards its end less and less are, then
 * one alone, and all others sleep: nobody else wakes a vCPU that an IPI has
 * failed to wake. Some rounds are one token's from the beginning.
 */
#ifndef FERRIC_SELFTESTS_IPI_STORM_GUEST_H
#define FERRIC_SELFTESTS_IPI_STORM_GUEST_H

#include "processor.h"

#define NR_VCPUS		8
#define ALL_VCPUS		(BIT(NR_VCPUS) - 1)
/*
 * Two clusters of x2APIC's, two words of KVM_HC_SEND_IPI's bitmap and two banks
 * of Hyper-V's sets: the second half of the vCPUs has IDs beyond 64.
 */
#define HALF			(NR_VCPUS / 2)
#define SECOND_HALF_ID		66

#define NR_TOKENS		32
#define TOKEN_VECTOR		0x40
#define STOP_VECTOR		0xe0

enum storm_mode { XAPIC, X2APIC, HYPERV, NR_MODES };

enum ipi_kind {
	UNICAST,		/* physical */
	MULTICAST,		/* logical */
	LOWEST_PRIORITY,	/* logical, one of several takes it */
	BROADCAST,		/* physical */
	ALL_BUT_SELF,
	ALL_WITH_SELF,
	SELF,
	SELF_IPI,		/* x2APIC's register */
	PV_IPI,			/* KVM_HC_SEND_IPI */
	HV_IPI,			/* HvCallSendSyntheticClusterIpi */
	HV_IPI_EX,
	NR_KINDS
};

/* Only its holder writes it, except for pending. */
struct token {
	u32 pending;		/* receivers that may yet see it */
	u32 sender;
	enum ipi_kind kind;
	u32 hops_left;		/* in this round */
	u64 hops;
	u64 sent;		/* arrivals that were due */
} __aligned(64);

/* HvCallSendSyntheticClusterIpiEx's input. */
struct hv_ipi_ex {
	u32 vector;
	u32 reserved;
	u64 format;
	u64 valid_banks;
	u64 bank[2];
} __aligned(64);

struct percpu {
	struct percpu *self;
	u32 index;
	u32 work;		/* tokens to send on */
	u32 depth;		/* of interrupts within interrupts */
	u32 last_vector;	/* that was delivered */
	bool stop;
	u64 random;
	u32 *pv_eoi;		/* that an EOI may be skipped; or NULL */
	u64 pv_eoi_gpa;
	struct hv_ipi_ex hv;
	u64 hv_gpa;

	/* A message of lowest priority may go to any: it is counted to vCPU 0. */
	u64 sent[NR_KINDS][NR_VCPUS];		/* by receiver */
	u64 messages[NR_KINDS];
	u64 received[NR_KINDS][NR_VCPUS];	/* by sender */
	u64 unexpected;		/* not addressed to this vCPU, or twice */
	u32 unexpected_vector;	/* the last */
	u64 repeated;		/* delivered by the processor alone, see tcg.h */
	u64 halts;
	u64 skipped_eois;
} __aligned(64);

/* Shared by guest and host; the host goes through addr_gva2hva(). */
struct storm {
	enum storm_mode mode;
	u32 nr_kinds;
	u8 kinds[NR_KINDS];	/* that are sent */
	bool may_repeat;	/* an interrupt, by the processor, see tcg.h */
	u64 wanted;		/* arrivals */
	u64 rounds;
	u32 ready;
	u32 parked;		/* tokens that have ended their round */
	struct token token[NR_TOKENS];
	struct percpu cpu[NR_VCPUS];
};

extern struct storm storm;

static inline u32 vcpu_id(u32 index)
{
	return index < HALF ? index : SECOND_HALF_ID + index - HALF;
}

void guest_code(u32 index);
void guest_token_handler(struct ex_regs *regs);
void guest_stop_handler(struct ex_regs *regs);
void guest_stray_handler(struct ex_regs *regs);

#endif /* FERRIC_SELFTESTS_IPI_STORM_GUEST_H */
