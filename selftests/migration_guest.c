// SPDX-License-Identifier: GPL-2.0
/*
 * What the vCPUs of the migration test do.
 */
#include "migration_guest.h"
#include "random.h"
#include "tcg.h"

#define TPR_ABOVE_ALL		0xf0

/* The guest's own. */
static struct load *load;
static bool to_be_served;

static void apic_write(u32 reg, u64 val)
{
	if (load->x2apic) {
		/* WRMSR of an x2APIC register does not order earlier stores. */
		asm volatile("mfence; lfence" : : : "memory");
		x2apic_write_reg(reg, val);
	} else {
		xapic_write_reg(reg, val);
	}
}

static u64 to_cycles(u64 ns)
{
	return ns * load->tsc_khz / MS;
}

static void spin(u64 cycles)
{
	u64 start = rdtsc();

	while (rdtsc() - start < cycles)
		cpu_relax();
}

static void arrive(struct channel *channel)
{
	if (channel->received == READ_ONCE(channel->sent))
		channel->repeated++;
	else
		WRITE_ONCE(channel->received, channel->received + 1);
}

static bool is_idle(const struct channel *channel)
{
	return READ_ONCE(channel->received) == READ_ONCE(channel->sent);
}

/*
 * Interrupts.
 */

/* Serves one of the devices from @first to @last; others that wait come again. */
static void serve(enum device first, enum device last)
{
	enum device device;

	for (device = first; device <= last; device++) {
		if (!READ_ONCE(load->asserted[device]))
			continue;
		arrive(&load->device[device]);
		guest_out8(ACK_PORT, device);
		return;
	}
	load->spurious++;
}

static void mask_line(bool masked)
{
	u32 *ioapic = (u32 *)IOAPIC_GPA;

	WRITE_ONCE(ioapic[IOAPIC_REGSEL / 4], IOAPIC_REG_RTE(MASKED_GSI));
	WRITE_ONCE(ioapic[IOAPIC_WINDOW / 4],
		   RTE_LEVEL | MASKED_VECTOR | (masked ? RTE_MASKED : 0));
}

static void pic_interrupt(u32 line)
{
	switch (line) {
	case PIC_EDGE_GSI:
		arrive(&load->device[PIC_EDGE]);
		break;
	case PIC_LEVEL_GSI:
		serve(PIC_LEVEL, PIC_LEVEL);
		guest_out8(0xa0, 0x20);
		break;
	default:
		load->spurious++;
	}
	guest_out8(0x20, 0x20);
}

static void timer_interrupt(u32 me)
{
	struct timer *timer = &load->timer[me];
	u64 now = rdtsc();
	u64 least = timer->due - timer->armed;

	if (me == PERIODIC_CPU) {
		WRITE_ONCE(load->periodic_ticks, load->periodic_ticks + 1);
		return;
	}
	if (me != DEADLINE_CPU) {
		/* From here on it is over in the saved state, too. */
		apic_write(APIC_TMICT, 0);
		least = least / 100 * (100 - EARLY_PERCENT);
	}
	if (is_idle(&timer->expiry) && timer->may_repeat) {
		timer->may_repeat = false;
		timer->again++;
		return;
	}
	if (!is_idle(&timer->expiry)) {
		if (now - timer->armed < least) {
			timer->early++;
			timer->earliest = max(timer->earliest, timer->due - now);
		}
		if (now > timer->due + load->patience)
			timer->late++;
	}
	arrive(&timer->expiry);
}

void guest_interrupt(struct ex_regs *regs)
{
	u32 me = this_guest_cpu()->index;
	u32 vector = regs->vector;

	if (is_repeated_by_processor(regs)) {
		__sync_add_and_fetch(&load->doubled, 1);
		return;
	}
	if (vector >= PIC_BASE && vector < PIC_BASE + 16) {
		pic_interrupt(vector - PIC_BASE);
		return;
	}

	switch (vector) {
	case EDGE_VECTOR:
		arrive(&load->device[EDGE]);
		break;
	case LEVEL_VECTOR:
		serve(LEVEL_A, LEVEL_B);
		break;
	case MASKED_VECTOR:
		if (!READ_ONCE(load->asserted[MASKED]) || to_be_served)
			load->spurious++;
		mask_line(true);
		to_be_served = true;
		break;
	case MSI_VECTOR:
		arrive(&load->device[MSI]);
		break;
	case IRQFD_VECTOR:
		arrive(&load->device[IRQFD]);
		break;
	case PIT_VECTOR:
		WRITE_ONCE(load->pit_ticks, load->pit_ticks + 1);
		break;
	case TIMER_VECTOR:
		timer_interrupt(me);
		break;
	case IPI_VECTOR ... IPI_VECTOR + NR_VCPUS - 1:
		arrive(&load->ipi[vector - IPI_VECTOR][me]);
		break;
	default:
		load->spurious++;
	}
	apic_write(APIC_EOI, 0);
}

/*
 * What happens in between, with interrupts off.
 */
static void write_icr(u32 low, u32 dest)
{
	if (load->x2apic) {
		apic_write(APIC_ICR, (u64)dest << 32 | low);
	} else {
		apic_write(APIC_ICR2, SET_APIC_DEST_FIELD(dest));
		apic_write(APIC_ICR, low);
	}
}

static void send_to_others(u32 me)
{
	u32 to;

	for (to = 0; to < NR_VCPUS; to++) {
		if (to != me && !is_idle(&load->ipi[me][to]))
			return;
	}
	for (to = 0; to < NR_VCPUS; to++) {
		if (to != me)
			load->ipi[me][to].sent++;
	}
	write_icr(APIC_DEST_ALLBUT | APIC_INT_ASSERT | (IPI_VECTOR + me), 0);
}

static void send_to(u32 me, u32 to)
{
	struct channel *channel = &load->ipi[me][to];

	if (!is_idle(channel))
		return;
	WRITE_ONCE(channel->sent, channel->sent + 1);
	if (to == me)
		write_icr(APIC_DEST_SELF | APIC_INT_ASSERT | (IPI_VECTOR + me), 0);
	else
		write_icr(APIC_INT_ASSERT | (IPI_VECTOR + me), to);
}

static void start_timer(u32 me, u64 *seed)
{
	struct timer *timer = &load->timer[me];
	u64 ns;

	if (me == PERIODIC_CPU || !is_idle(&timer->expiry))
		return;
	if (me == SLOW_CPU)
		ns = 20 * MS + random_below(seed, 200 * MS);
	else if (!random_below(seed, 8))
		ns = random_below(seed, 30 * MS);
	else
		ns = 20000 + random_below(seed, 2 * MS);

	timer->may_repeat = false;
	timer->armed = rdtsc();
	timer->due = timer->armed + to_cycles(ns);
	WRITE_ONCE(timer->expiry.sent, timer->expiry.sent + 1);
	if (me == DEADLINE_CPU)
		wrmsr(MSR_TSC_DEADLINE, timer->due);
	else
		apic_write(APIC_TMICT, ns);
}

static void send(u32 me, u64 *seed)
{
	static u32 next[NR_VCPUS];

	if (random_below(seed, 8))
		send_to(me, next[me]++ % NR_VCPUS);
	else
		send_to_others(me);
	start_timer(me, seed);
}

static void serve_masked(void)
{
	to_be_served = false;
	arrive(&load->device[MASKED]);
	guest_out8(ACK_PORT, MASKED);
	mask_line(false);
}

/* Time in which interrupts come, or do not. */
static void pass_time(u64 *seed)
{
	u64 cycles = to_cycles(random_below(seed, MS / 10));

	switch (random_below(seed, 8)) {
	case 0:
		spin(cycles);
		break;
	case 1:
		apic_write(APIC_TASKPRI, TPR_ABOVE_ALL);
		sti();
		spin(cycles);
		cli();
		apic_write(APIC_TASKPRI, 0);
		break;
	case 2:
		sti();
		spin(cycles);
		cli();
		break;
	default:
		__sync_add_and_fetch(&load->halts, 1);
		safe_halt();
		cli();
		return;
	}
	asm volatile("sti; nop; nop; cli" : : : "memory");
}

u64 guest_load(u64 shared, u64 unused, u64 unused2)
{
	u32 me = this_guest_cpu()->index;
	u64 *seed;

	load = (struct load *)shared;
	seed = &load->seed[me];
	for (;;) {
		if (!READ_ONCE(load->draining))
			send(me, seed);
		if (me == MASKED_CPU && to_be_served && random_below(seed, 2))
			serve_masked();
		pass_time(seed);
	}
	return 0;
}
