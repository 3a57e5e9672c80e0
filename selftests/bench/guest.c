// SPDX-License-Identifier: GPL-2.0
/*
 * The guest of bench: loops that count rounds of an operation.
 */
#include "bench.h"
#include "hv_call.h"

/* Long enough for a target that was woken to be blocked again. */
#define SETTLE_TICKS		200000
#define SETTLE_TICKS_EACH	60000
#define DELAY_LOOPS		20000

void op_pv_ipi(u64 to, u64 vector)
{
	u32 number = to;

	kvm_hypercall(KVM_HC_SEND_IPI, number < 64 ? BIT_ULL(number) - 1 : ~0ull, 0,
		      to >> 32, vector);
}

void op_hv_ipi(u64 mask, u64 vector)
{
	GUEST_ASSERT_EQ(guest_hv_call(HVCALL_SEND_IPI | HV_HYPERCALL_FAST_BIT, vector, mask), 0);
}

void op_hv_ipi_ex(u64 number, u64 vector)
{
	u64 control = HVCALL_SEND_IPI_EX | HV_HYPERCALL_FAST_BIT;
	u64 input[12] = { 0 };
	u32 banks = number ? number / 64 + 1 : 0;
	u32 i;

	/* The mask of banks, then the banks. */
	input[0] = BIT_ULL(banks) - 1;
	for (i = 1; i <= number; i++)
		input[1 + i / 64] |= BIT_ULL(i % 64);
	hyperv_write_xmm_input(input, ARRAY_SIZE(input) / 2);
	control |= (u64)banks << HV_HYPERCALL_VARHEAD_OFFSET;
	GUEST_ASSERT_EQ(guest_hv_call(control, vector, number ? HV_SPARSE_4K : HV_ALL), 0);
}

u64 bench_op(u64 meter, u64 unused, u64 unused2)
{
	struct bench_meter *m = (void *)meter;
	int i;

	for (i = 0; i < NR_BATCH; i++) {
		count_begin();
		m->op(m->a, m->b);
		count_end();
		m->count[i] = count_read();
		m->b += m->step;
	}
	return 0;
}

/* The round's interrupts have come; once each, or it has to be repeated. */
static bool got(struct bench_meter *m, u32 arrived)
{
	if (arrived == m->expected)
		return true;
	GUEST_ASSERT(arrived > m->expected);
	GUEST_ASSERT(m->repeated < MAX_DOUBLED);
	m->repeated++;
	return false;
}

static void take_one(void)
{
	asm volatile("sti; nop; nop; cli" : : : "memory");
}

/* An interrupt that the vCPU sends to itself: until it is there. */
u64 bench_self(u64 meter, u64 unused, u64 unused2)
{
	struct bench_meter *m = (void *)meter;
	int i = 0;

	while (i < NR_BATCH) {
		m->arrived = 0;
		count_begin();
		m->op(m->a, m->b);
		take_one();
		count_end();
		m->count[i] = count_read();
		m->eoi(0, 0);
		i += got(m, m->arrived);
	}
	return 0;
}

/* The EOI of one. */
u64 bench_eoi(u64 meter, u64 unused, u64 unused2)
{
	struct bench_meter *m = (void *)meter;
	int i = 0;

	while (i < NR_BATCH) {
		m->arrived = 0;
		m->op(m->a, m->b);
		take_one();
		count_begin();
		m->eoi(0, 0);
		count_end();
		m->count[i] = count_read();
		i += got(m, m->arrived);
	}
	return 0;
}

/* Without PAUSE, at which the emulator goes on with another processor. */
static void delay(void)
{
	int i;

	for (i = 0; i < DELAY_LOOPS; i++)
		asm volatile("" : : : "memory");
}

/* Until a round may begin, between two ticks of the host. */
static void wait_for_phase(struct bench_meter *m)
{
	while (m->period && (rdtsc() - m->phase) % m->period > m->period / 16)
		delay();
}

/* Arming the timer, halting, and being woken by its interrupt. */
u64 bench_timer(u64 meter, u64 unused, u64 unused2)
{
	struct bench_meter *m = (void *)meter;
	u64 start;
	int i = 0;

	while (i < NR_BATCH) {
		m->arrived = 0;
		wait_for_phase(m);
		start = rdtsc();
		count_begin();
		m->op(m->a, m->b);
		safe_halt();
		cli();
		m->count[i] = count_read();
		GUEST_ASSERT(rdtsc() - start > m->ticks);
		m->eoi(0, 0);
		i += got(m, m->arrived);
	}
	return 0;
}

/*
 * The last interrupt of a round ends it, on whatever vCPU.  Who runs may have it
 * while the sender is still on its way back into the guest, which is to be counted
 * whole: how far the sender is by then is up to the emulator.
 */
void bench_on_irq(u8 vector)
{
	struct bench_meter *m = (void *)this_guest_cpu()->args[0];

	if (__sync_add_and_fetch(&m->arrived, 1) != m->expected || m->until_eoi)
		return;
	while (m->spin && !READ_ONCE(m->sent))
		cpu_relax();
	count_end();
	WRITE_ONCE(m->ended, true);
}

/* Until the targets are blocked again, and the next round may begin. */
static void settle(struct bench_meter *m)
{
	u64 start = rdtsc();

	while (rdtsc() - start < SETTLE_TICKS + SETTLE_TICKS_EACH * m->expected)
		cpu_relax();
	wait_for_phase(m);
}

/* Sending to targets, until the last of them has it. */
u64 bench_send(u64 meter, u64 unused, u64 unused2)
{
	struct bench_meter *m = (void *)meter;
	struct count count;
	int i = 0;

	settle(m);
	while (i < NR_BATCH) {
		m->arrived = 0;
		m->ended = false;
		m->sent = false;
		count_begin();
		m->op(m->a, m->b);
		WRITE_ONCE(m->sent, true);
		while (!READ_ONCE(m->ended))
			cpu_relax();
		count = count_read();
		settle(m);
		m->count[i] = count;
		i += got(m, READ_ONCE(m->arrived));
	}
	WRITE_ONCE(m->stop, true);
	if (!m->spin)
		m->op(m->a, m->b);
	return 0;
}

u64 bench_target(u64 meter, u64 unused, u64 unused2)
{
	struct bench_meter *m = (void *)meter;
	struct guest_cpu *cpu = this_guest_cpu();
	u32 seen = 0;

	__sync_add_and_fetch(&m->ready, 1);
	if (!m->spin) {
		while (!READ_ONCE(m->stop)) {
			safe_halt();
			cli();
		}
		return 0;
	}
	sti();
	/* No PAUSE: the emulator would go on with another processor. */
	while (!READ_ONCE(m->stop)) {
		if (!m->until_eoi || READ_ONCE(cpu->nr_irqs) == seen || !READ_ONCE(m->sent))
			continue;
		count_end();
		seen = READ_ONCE(cpu->nr_irqs);
		WRITE_ONCE(m->ended, true);
	}
	cli();
	return 0;
}
