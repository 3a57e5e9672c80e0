// SPDX-License-Identifier: GPL-2.0
/*
 * The guest of the IPI storm, see ipi_storm_guest.h.
 */
#include <linux/kvm_para.h>

#include "hv_call.h"
#include "ipi_storm_guest.h"
#include "irq_vm.h"
#include "random.h"
#include "tcg.h"

#define MSR_GS_BASE		0xc0000101

/* Hops of a token in a round, and those that one of them does more. */
#define ROUND_HOPS		64
#define TAIL_HOPS		64
/* The first round and some later ones are that one's alone. */
#define QUIET_HOPS		600
#define QUIET_ONE_IN		64
/* For a stack of 20 KiB. */
#define MAX_DEPTH		16

struct storm storm;

static struct percpu *this_cpu(void)
{
	struct percpu *cpu;

	asm volatile("mov %%gs:0, %0" : "=r"(cpu));
	return cpu;
}

static bool guest_may_skip_eoi(const struct percpu *cpu)
{
	return cpu->pv_eoi && READ_ONCE(*cpu->pv_eoi);
}

static bool guest_skips_eoi(struct percpu *cpu)
{
	u32 skip = 0;

	if (cpu->pv_eoi)
		asm volatile("xchgl %0, %1" : "+r"(skip), "+m"(*cpu->pv_eoi) : : "memory");
	cpu->skipped_eois += !!skip;
	return skip;
}

static u32 guest_eoi_msr(void)
{
	return storm.mode == X2APIC ? X2APIC_MSR(APIC_EOI) : HV_X64_MSR_EOI;
}

static void guest_write_eoi(void)
{
	if (storm.mode == XAPIC)
		xapic_write_reg(APIC_EOI, 0);
	else
		wrmsr(guest_eoi_msr(), 0);
}

/* The instructions that do an EOI while interrupts are enabled. */
extern const char guest_open_eoi_store[], guest_open_eoi_wrmsr[];

static noinline void guest_write_open_eoi(void)
{
	if (storm.mode == XAPIC)
		asm volatile("sti; guest_open_eoi_store: movl $0, (%0)"
			     : : "r"(APIC_DEFAULT_GPA + APIC_EOI) : "memory");
	else
		asm volatile("sti; guest_open_eoi_wrmsr: wrmsr"
			     : : "c"(guest_eoi_msr()), "a"(0), "d"(0) : "memory");
}

static void guest_eoi(struct percpu *cpu)
{
	if (!guest_skips_eoi(cpu))
		guest_write_eoi();
}

static void guest_write_icr(u32 low, u32 dest)
{
	switch (storm.mode) {
	case XAPIC:
		xapic_write_reg(APIC_ICR2, SET_APIC_DEST_FIELD(dest));
		xapic_write_reg(APIC_ICR, low);
		break;
	case X2APIC:
		/* WRMSR of an x2APIC register does not order earlier stores. */
		asm volatile("mfence; lfence" : : : "memory");
		wrmsr(X2APIC_MSR(APIC_ICR), (u64)dest << 32 | low);
		break;
	default:
		wrmsr(HV_X64_MSR_ICR, (u64)SET_APIC_DEST_FIELD((u64)dest) << 32 | low);
		break;
	}
}

static bool guest_is_in_service(u32 vector)
{
	u32 reg = APIC_ISR + vector / 32 * 0x10;
	u32 isr = storm.mode == X2APIC ? rdmsr(X2APIC_MSR(reg)) : xapic_read_reg(reg);

	return isr & BIT(vector % 32);
}

static void guest_write_tpr(u32 tpr)
{
	switch (storm.mode) {
	case XAPIC:
		xapic_write_reg(APIC_TASKPRI, tpr);
		break;
	case X2APIC:
		wrmsr(X2APIC_MSR(APIC_TASKPRI), tpr);
		break;
	default:
		wrmsr(HV_X64_MSR_TPR, tpr);
		break;
	}
}

/* As many of @wished as one logical destination holds, and @to at least. */
static u32 logical_receivers(u32 wished, u32 to)
{
	u32 half = GENMASK(HALF - 1, 0) << (to < HALF ? 0 : HALF);

	return (storm.mode == X2APIC ? wished & half : wished) | BIT(to);
}

static u32 logical_dest(u32 receivers)
{
	u32 ids = receivers >> HALF;

	/* Flat logical IDs are the vCPUs' bits. */
	if (storm.mode != X2APIC || !ids)
		return receivers;
	return SECOND_HALF_ID / 16 << 16 | ids << SECOND_HALF_ID % 16;
}

static void guest_pv_ipi(u32 receivers, u32 vector, u64 random)
{
	u32 first = vcpu_id(__builtin_ctz(receivers));
	u64 bits[2] = { 0 };
	u32 i, id;

	/* From some ID on that is not beyond the first receiver's. */
	first -= random % (first % 64 + 1);
	for (i = 0; i < NR_VCPUS; i++) {
		if (!(receivers & BIT(i)))
			continue;
		id = vcpu_id(i) - first;
		bits[id / 64] |= BIT_ULL(id % 64);
	}
	GUEST_ASSERT_EQ(kvm_hypercall(KVM_HC_SEND_IPI, bits[0], bits[1], first, vector),
			__builtin_popcount(receivers));
}

static void guest_hv_ipi_ex(struct percpu *cpu, u32 receivers, u32 vector)
{
	u64 low = receivers & GENMASK(HALF - 1, 0);
	u64 high = (u64)(receivers >> HALF) << (SECOND_HALF_ID % 64);
	u64 control = HVCALL_SEND_IPI_EX;
	u32 banks = 0;

	cpu->hv.vector = vector;
	cpu->hv.format = HV_ALL;
	cpu->hv.valid_banks = 0;
	if (receivers != ALL_VCPUS) {
		cpu->hv.format = HV_SPARSE_4K;
		cpu->hv.valid_banks = !!low | !!high << 1;
		if (low)
			cpu->hv.bank[banks++] = low;
		if (high)
			cpu->hv.bank[banks++] = high;
	}
	control |= (u64)banks << HV_HYPERCALL_VARHEAD_OFFSET;
	GUEST_ASSERT_EQ(guest_hv_call(control, cpu->hv_gpa, 0), 0);
}

static void guest_count(struct percpu *cpu, struct token *token, u32 receivers)
{
	u64 *sent = cpu->sent[token->kind];

	cpu->messages[token->kind]++;
	if (token->kind == LOWEST_PRIORITY) {
		sent[0]++;
		token->sent++;
		return;
	}
	token->sent += __builtin_popcount(receivers);
	for (; receivers; receivers &= receivers - 1)
		sent[__builtin_ctz(receivers)]++;
}

static void guest_send(struct percpu *cpu, u32 index, u64 random)
{
	struct token *token = &storm.token[index];
	u32 vector = TOKEN_VECTOR + index, icr = APIC_INT_ASSERT | vector;
	u32 wished = random & ALL_VCPUS, to = random >> 8 & (NR_VCPUS - 1);
	u32 me = cpu->index, dest = 0, receivers;

	token->kind = storm.kinds[(random >> 16 & 0xffff) % storm.nr_kinds];
	switch (token->kind) {
	case UNICAST:
		receivers = BIT(to);
		dest = vcpu_id(to);
		break;
	case LOWEST_PRIORITY:
		icr |= APIC_DM_LOWEST;
		fallthrough;
	case MULTICAST:
		receivers = logical_receivers(wished, to);
		dest = logical_dest(receivers);
		icr |= APIC_DEST_LOGICAL;
		break;
	case BROADCAST:
		receivers = ALL_VCPUS;
		dest = storm.mode == X2APIC ? 0xffffffff : 0xff;
		break;
	case ALL_BUT_SELF:
		receivers = ALL_VCPUS & ~BIT(me);
		icr |= APIC_DEST_ALLBUT;
		break;
	case ALL_WITH_SELF:
		receivers = ALL_VCPUS;
		icr |= APIC_DEST_ALLINC;
		break;
	case SELF:
	case SELF_IPI:
		receivers = BIT(me);
		icr |= APIC_DEST_SELF;
		break;
	case HV_IPI:
		/* Virtual processors up to 63. */
		to %= HALF;
		receivers = (wished & GENMASK(HALF - 1, 0)) | BIT(to);
		break;
	default:
		receivers = wished | BIT(to);
		break;
	}

	token->hops++;
	token->sender = me;
	guest_count(cpu, token, receivers);
	WRITE_ONCE(token->pending, receivers);

	switch (token->kind) {
	case SELF_IPI:
		asm volatile("mfence; lfence" : : : "memory");
		wrmsr(X2APIC_MSR(APIC_SELF_IPI), vector);
		break;
	case PV_IPI:
		guest_pv_ipi(receivers, vector, random >> 32);
		break;
	case HV_IPI:
		GUEST_ASSERT_EQ(guest_hv_call(HVCALL_SEND_IPI | HV_HYPERCALL_FAST_BIT,
					      vector, receivers), 0);
		break;
	case HV_IPI_EX:
		guest_hv_ipi_ex(cpu, receivers, vector);
		break;
	default:
		guest_write_icr(icr, dest);
		break;
	}
}

/* All tokens are here. */
static void guest_begin_round(struct percpu *cpu)
{
	u32 order = random_next(&cpu->random);
	bool quiet = storm.rounds % QUIET_ONE_IN == 0;
	u64 sent = 0;
	u32 i, nth;

	for (i = 0; i < NR_TOKENS; i++) {
		nth = (i + order) % NR_TOKENS;
		if (quiet)
			storm.token[i].hops_left = nth ? 0 : QUIET_HOPS;
		else
			/* The last ones go on with less and less company. */
			storm.token[i].hops_left = ROUND_HOPS + TAIL_HOPS / (nth + 1);
		sent += storm.token[i].sent;
	}
	if (sent >= storm.wanted) {
		guest_write_icr(APIC_DEST_ALLINC | APIC_INT_ASSERT | STOP_VECTOR, 0);
		return;
	}
	WRITE_ONCE(storm.rounds, storm.rounds + 1);
	WRITE_ONCE(storm.parked, 0);
	__sync_fetch_and_or(&cpu->work, GENMASK(NR_TOKENS - 1, 0));
}

/*
 * The second delivery comes at any time until the vCPU's next exit, so that there
 * is no other one in between.  An EOI that is skipped is no exit: interrupts may
 * be enabled again.  But then the second one's may not be skipped, as that of the
 * first one was, and no local APIC has it in service.
 */
static bool guest_is_repeated(struct percpu *cpu, const struct ex_regs *regs)
{
	if (!storm.may_repeat)
		return false;
	if (is_repeated_by_processor(regs))
		return true;
	if (regs->vector != cpu->last_vector)
		return false;
	/* In service until that instruction has ended. */
	if (regs->rip == (u64)guest_open_eoi_store || regs->rip == (u64)guest_open_eoi_wrmsr)
		return true;
	return !guest_may_skip_eoi(cpu) && !guest_is_in_service(regs->vector);
}

void guest_token_handler(struct ex_regs *regs)
{
	struct percpu *cpu = this_cpu();
	struct token *token = &storm.token[regs->vector - TOKEN_VECTOR];
	u32 me = cpu->index, before, others;

	if (guest_is_repeated(cpu, regs)) {
		cpu->repeated++;
		return;
	}
	cpu->last_vector = regs->vector;

	cpu->received[token->kind][token->sender]++;
	if (token->kind == LOWEST_PRIORITY) {
		before = __sync_lock_test_and_set(&token->pending, 0);
		others = 0;
	} else {
		before = __sync_fetch_and_and(&token->pending, ~BIT(me));
		others = before & ~BIT(me);
	}
	if (!(before & BIT(me))) {
		cpu->unexpected++;
		cpu->unexpected_vector = regs->vector;
	} else if (!others) {
		__sync_fetch_and_or(&cpu->work, BIT(token - storm.token));
	}

	if (guest_skips_eoi(cpu))
		return;
	/* What waits comes at the EOI, not at an exit of its own. */
	if (++cpu->depth < MAX_DEPTH)
		guest_write_open_eoi();
	else
		guest_write_eoi();
	cli();
	cpu->depth--;
}

void guest_stop_handler(struct ex_regs *regs)
{
	WRITE_ONCE(this_cpu()->stop, true);
	guest_eoi(this_cpu());
}

void guest_stray_handler(struct ex_regs *regs)
{
	struct percpu *cpu = this_cpu();

	cpu->unexpected++;
	cpu->unexpected_vector = regs->vector;
	guest_eoi(cpu);
}

static void guest_spin(u32 loops)
{
	while (loops--)
		asm volatile("" : : : "memory");
}

/* Until there is something to do; mostly asleep. */
static void guest_idle(struct percpu *cpu, u64 random)
{
	u32 loops = random & 0xfff;

	if (!(random >> 32 & 3)) {
		while (loops-- && !READ_ONCE(cpu->work))
			asm volatile("" : : : "memory");
		return;
	}
	cli();
	if (!READ_ONCE(cpu->work) && !READ_ONCE(cpu->stop)) {
		cpu->halts++;
		safe_halt();
	}
	sti_nop();
}

static void guest_send_all(struct percpu *cpu, u32 work)
{
	for (; work; work &= work - 1) {
		u32 index = __builtin_ctz(work);

		if (storm.token[index].hops_left) {
			storm.token[index].hops_left--;
			guest_send(cpu, index, random_next(&cpu->random));
		} else if (__sync_add_and_fetch(&storm.parked, 1) == NR_TOKENS) {
			guest_begin_round(cpu);
		}
	}
}

static void guest_enable_apic(struct percpu *cpu)
{
	if (storm.mode == X2APIC) {
		x2apic_enable();
	} else {
		xapic_enable();
		xapic_write_reg(APIC_DFR, APIC_DFR_FLAT);
		xapic_write_reg(APIC_LDR, SET_APIC_DEST_FIELD((u32)BIT(cpu->index)));
	}
	if (storm.mode == HYPERV) {
		wrmsr(HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
		if (cpu->pv_eoi)
			wrmsr(HV_X64_MSR_VP_ASSIST_PAGE,
			      cpu->pv_eoi_gpa | HV_X64_MSR_VP_ASSIST_PAGE_ENABLE);
	} else if (cpu->pv_eoi) {
		wrmsr(MSR_KVM_PV_EOI_EN, cpu->pv_eoi_gpa | KVM_MSR_ENABLED);
	}
}

void guest_code(u32 index)
{
	struct percpu *cpu = &storm.cpu[index];
	u64 random;
	u32 work;

	cpu->self = cpu;
	cpu->index = index;
	wrmsr(MSR_GS_BASE, (u64)cpu);
	guest_enable_apic(cpu);

	__sync_add_and_fetch(&storm.ready, 1);
	while (READ_ONCE(storm.ready) < NR_VCPUS)
		cpu_relax();

	if (!index)
		guest_begin_round(cpu);
	sti_nop();
	while (!READ_ONCE(cpu->stop)) {
		random = random_next(&cpu->random);
		work = __sync_lock_test_and_set(&cpu->work, 0);
		if (!work) {
			guest_idle(cpu, random);
		} else if (random >> 32 & 7) {
			guest_send_all(cpu, work);
		} else if (random >> 32 & 0x38) {
			/* Holds back what comes meanwhile, by RFLAGS or by TPR. */
			cli();
			guest_send_all(cpu, work);
			guest_spin(random & 0xfff);
			sti_nop();
		} else {
			guest_write_tpr(TOKEN_VECTOR | 0xf | (random & 0x10));
			guest_send_all(cpu, work);
			guest_spin(random & 0xfff);
			guest_write_tpr(0);
		}
	}
	cli();
	GUEST_DONE();
}
