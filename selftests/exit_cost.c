// SPDX-License-Identifier: GPL-2.0
/*
 * What accesses to the irqchip cost: TSC ticks from before to after the access,
 * in the guest for what the guest does, in user space for ioctls.
 *
 * In a machine whose TSC counts instructions (QEMU's -icount shift=0) the
 * numbers are instructions executed, the hypervisor's included, and the same
 * in every run; scripts/exit-cost compares kernels by them.  Anywhere else they
 * are times, of which nothing is demanded.  What the test does demand is that
 * each access had its effect and, unless hardware virtualizes the APIC, that
 * it exited as often as it is said to: a number is worth nothing if the path
 * was another one.
 *
 * For every number a line "cost NAME MINIMUM MEDIAN" is printed.
 */
#include <pthread.h>
#include <sched.h>

#include "apicv.h"
#include "exit_cost_guest.h"
#include "kselftest.h"

#define LOW_VECTOR		0x25
#define PIC_BASE		0x90
#define PIC_LINE		5

#define PIC_MASTER_CMD		0x20
#define PIC_MASTER_DATA		0x21
/* A port that nobody serves: the POST code's. */
#define USER_PORT		0x80

#define GSI_EDGE		16
#define GSI_LEVEL		17
#define GSI_PIC			18
#define GSI_MSI			19

#define TDCR_DIV_1		0xb
#define TIMER_NEVER		0x7fffffff
/* Several ticks of the host, i.e. a grace period. */
#define SETTLE_US		30000

enum mode { XAPIC, X2APIC, NO_IRQCHIP, NR_MODES };

struct bench {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;		/* whose accesses are measured */
	struct irq_cpu *target;		/* who gets what cpu sends; not running */
	struct meter *meter;
	gva_t meter_gva;
	struct kvm_lapic_state initial[2];
};

struct row {
	const char *names[NR_COLUMNS];	/* one for every number */
	enum mode mode;
	u32 exits;			/* of the measured vCPU, per round */
	bool (*run)(struct bench *b, const struct row *row);
	op_t op;
	u64 args[2];
	bool (*effect)(struct bench *b, const struct row *row);
};

/*
 * Host side: kinds of rows.
 */
static void prepare(struct bench *b, const struct row *row)
{
	struct meter *m = b->meter;

	m->op = row->op;
	m->a = row->args[0];
	m->b = row->args[1];
	m->eoi = row->mode == XAPIC ? guest_eoi_xapic : guest_eoi_x2apic;
	m->receiver = (void *)b->cpu->guest_gva;
	m->stop = false;
	m->doubled = 0;
	memset(m->cost, 0, sizeof(m->cost));

	if (row->mode == NO_IRQCHIP)
		return;
	lapic_set(b->cpu, &b->initial[0]);
	lapic_set(b->target, &b->initial[1]);
	b->cpu->guest->eoi = EOI_NONE;
	b->target->guest->eoi = row->mode == XAPIC ? EOI_XAPIC : EOI_X2APIC;
	cpu_clear_log(b->cpu);
	cpu_clear_log(b->target);
}

static bool run_op(struct bench *b, const struct row *row)
{
	cpu_call(b->cpu, guest_measure, b->meter_gva, 0, 0);
	return true;
}

static bool run_deadline(struct bench *b, const struct row *row)
{
	cpu_apic_write(b->cpu, APIC_LVTT, APIC_LVT_MASKED |
		       APIC_LVT_TIMER_TSCDEADLINE | TIMER_VECTOR);
	return run_op(b, row);
}

static bool run_rte(struct bench *b, const struct row *row)
{
	ioapic_write(b->ivm, IOAPIC_REG_RTE(GSI_EDGE) + 1, 0);
	cpu_mmio_write(b->cpu, IOAPIC_GPA + IOAPIC_REGSEL, 4,
		       IOAPIC_REG_RTE(GSI_EDGE));
	return run_op(b, row);
}

static bool run_self(struct bench *b, const struct row *row)
{
	cpu_call(b->cpu, guest_measure_self, b->meter_gva, 0, 0);
	return lapic_count(b->cpu, APIC_IRR) == 0 &&
	       lapic_count(b->cpu, APIC_ISR) == 0;
}

/* KVM intercepts CR8 only while TPR holds an interrupt back. */
static bool run_cr8_intercepted(struct bench *b, const struct row *row)
{
	cpu_set_cr8(b->cpu, 0xf);
	cpu_send_ipi(b->cpu, APIC_DEST_SELF | APIC_INT_ASSERT | LOW_VECTOR, 0);
	cpu_call(b->cpu, guest_measure, b->meter_gva, 0, 0);
	return lapic_vector(b->cpu, APIC_IRR, LOW_VECTOR);
}

static bool run_timer(struct bench *b, const struct row *row)
{
	u32 lvtt = TIMER_VECTOR;

	if (row->op == op_tsc_deadline)
		lvtt |= APIC_LVT_TIMER_TSCDEADLINE;
	cpu_apic_write(b->cpu, APIC_TDCR, TDCR_DIV_1);
	cpu_apic_write(b->cpu, APIC_LVTT, lvtt);
	cpu_call(b->cpu, guest_measure_timer, b->meter_gva, 0, 0);
	return true;
}

static void set_destination(struct bench *b, const struct row *row)
{
	if (row->mode == XAPIC)
		cpu_apic_write(b->cpu, APIC_ICR2, SET_APIC_DEST_FIELD(1));
}

static bool run_to_target(struct bench *b, const struct row *row)
{
	set_destination(b, row);
	return run_op(b, row);
}

/* The vCPU has taken so many, give or take those that the emulator doubled. */
static bool took(struct bench *b, struct irq_cpu *cpu, u32 nr)
{
	u32 taken = cpu->guest->nr_irqs;

	if (taken > nr && taken <= nr + MAX_DOUBLED) {
		b->meter->doubled = taken - nr;
		return true;
	}
	return taken == nr;
}

static void *halted_vcpu(void *arg)
{
	struct bench *b = arg;

	pin_self_to_cpu(1);
	cpu_call(b->target, guest_halt_until_stop, b->meter_gva, 0, 0);
	return NULL;
}

static bool run_wake(struct bench *b, const struct row *row)
{
	pthread_t thread;
	u32 halted;

	set_destination(b, row);
	b->meter->receiver = (void *)b->target->guest_gva;
	TEST_ASSERT(!pthread_create(&thread, NULL, halted_vcpu, b),
		    "cannot start a vCPU thread");
	do {
		usleep(1000);
		halted = vcpu_get_stat(b->target->vcpu, blocking);
	} while (!halted);
	cpu_call(b->cpu, guest_measure_wake, b->meter_gva, 0, 0);
	pthread_join(thread, NULL);
	/* With the one that ends the loop. */
	return took(b, b->target, NR_ROUNDS + 1);
}

static bool run_signal_msi(struct bench *b, const struct row *row)
{
	int i, r;

	for (i = 0; i < NR_ROUNDS; i++) {
		u64 start = rdtsc();

		r = signal_msi(b->ivm, MSI_ADDR(1), 0, VECTOR);
		b->meter->cost[0][i] = rdtsc() - start;
		if (r != 1)
			return false;
	}
	return true;
}

static bool run_irqfd_msi(struct bench *b, const struct row *row)
{
	int fd = eventfd(0, 0);
	int i;

	TEST_ASSERT(fd >= 0, "cannot create an eventfd");
	TEST_ASSERT_EQ(irqfd_assign(b->ivm, fd, GSI_MSI, -1), 0);
	for (i = 0; i < NR_ROUNDS; i++) {
		u64 start = rdtsc();

		eventfd_signal(fd);
		b->meter->cost[0][i] = rdtsc() - start;
	}
	close(fd);
	return true;
}

static bool run_ioapic_edge(struct bench *b, const struct row *row)
{
	int i, r;

	ioapic_set_rte(b->ivm, GSI_EDGE, RTE_DEST(1) | VECTOR);
	for (i = 0; i < NR_ROUNDS; i++) {
		u64 start = rdtsc(), high;

		r = irq_line(b->ivm, GSI_EDGE, 1);
		high = rdtsc();
		irq_line(b->ivm, GSI_EDGE, 0);
		b->meter->cost[1][i] = rdtsc() - high;
		b->meter->cost[0][i] = high - start;
		if (r != 1)
			return false;
	}
	ioapic_set_rte(b->ivm, GSI_EDGE, RTE_MASKED);
	return true;
}

/* Raise, take, lower, end; the measured vCPU is also the destination. */
static bool run_ioapic_level(struct bench *b, const struct row *row)
{
	int i;

	ioapic_set_rte(b->ivm, GSI_LEVEL, RTE_DEST(0) | RTE_LEVEL | VECTOR);
	b->meter->op = b->meter->eoi;
	for (i = 0; i < NR_ROUNDS; i++) {
		u64 start = rdtsc();

		irq_line(b->ivm, GSI_LEVEL, 1);
		b->meter->cost[0][i] = rdtsc() - start;
		b->meter->cost[1][i] = cpu_call(b->cpu, guest_measure_take, 0, 0, 0);
		if (!(ioapic_rte(b->ivm, GSI_LEVEL) & RTE_REMOTE_IRR))
			return false;
		irq_line(b->ivm, GSI_LEVEL, 0);
		b->meter->cost[2][i] = cpu_call(b->cpu, guest_measure_once,
						b->meter_gva, 0, 0);
		if (ioapic_rte(b->ivm, GSI_LEVEL) & RTE_REMOTE_IRR)
			return false;
	}
	ioapic_set_rte(b->ivm, GSI_LEVEL, RTE_MASKED);
	return took(b, b->cpu, NR_ROUNDS);
}

static void pic_init(struct irq_cpu *cpu, u8 unmasked)
{
	cpu_outb(cpu, PIC_MASTER_CMD, 0x11);
	cpu_outb(cpu, PIC_MASTER_DATA, PIC_BASE);
	cpu_outb(cpu, PIC_MASTER_DATA, 0x04);
	cpu_outb(cpu, PIC_MASTER_DATA, 0x01);
	cpu_outb(cpu, PIC_MASTER_DATA, ~unmasked);
}

static bool run_pic(struct bench *b, const struct row *row)
{
	int i;

	cpu_apic_write(b->cpu, APIC_LVT0, APIC_LVT_EXTINT);
	pic_init(b->cpu, BIT(PIC_LINE));
	for (i = 0; i < NR_ROUNDS; i++) {
		u64 start = rdtsc();

		irq_line(b->ivm, GSI_PIC, 1);
		b->meter->cost[0][i] = rdtsc() - start;
		b->meter->cost[1][i] = cpu_call(b->cpu, guest_measure_take, 0, 0, 0);
		irq_line(b->ivm, GSI_PIC, 0);
		/* A non-specific EOI. */
		b->meter->cost[2][i] = cpu_call(b->cpu, guest_measure_once,
						b->meter_gva, 0, 0);
	}
	pic_init(b->cpu, 0);
	return took(b, b->cpu, NR_ROUNDS) && b->cpu->guest->log[0] == PIC_BASE + PIC_LINE;
}

/*
 * KVM_SET_LAPIC leaves work to RCU, and what queueing it costs depends on what
 * is queued already: let grace periods pass before each call.
 */
static u64 time_ioctl(int fd, unsigned long cmd, void *arg)
{
	u64 start, end;
	int r;

	usleep(SETTLE_US);
	start = rdtsc();
	r = ioctl(fd, cmd, arg);
	end = rdtsc();
	TEST_ASSERT(!r, "ioctl %#lx: %s", cmd, strerror(errno));
	return end - start;
}

static bool run_get_set_lapic(struct bench *b, const struct row *row)
{
	struct kvm_lapic_state state;
	int i;

	for (i = 0; i < NR_ROUNDS; i++) {
		b->meter->cost[0][i] = time_ioctl(b->cpu->vcpu->fd, KVM_GET_LAPIC, &state);
		b->meter->cost[1][i] = time_ioctl(b->cpu->vcpu->fd, KVM_SET_LAPIC, &state);
	}
	return !memcmp(&state, &b->initial[0], sizeof(state));
}

static bool run_get_set_irqchip(struct bench *b, const struct row *row)
{
	struct kvm_irqchip chip = { .chip_id = row->args[0] };
	struct kvm_irqchip again;
	int i;

	for (i = 0; i < NR_ROUNDS; i++) {
		b->meter->cost[0][i] = time_ioctl(b->ivm->vm->fd, KVM_GET_IRQCHIP, &chip);
		b->meter->cost[1][i] = time_ioctl(b->ivm->vm->fd, KVM_SET_IRQCHIP, &chip);
	}
	irqchip_get(b->ivm, chip.chip_id, &again);
	return !memcmp(&chip, &again, sizeof(chip));
}

/*
 * Host side: what an access must have done.
 */
static bool sets_apic_register(struct bench *b, const struct row *row)
{
	u32 reg = row->mode == XAPIC ? row->args[0] - APIC_DEFAULT_GPA :
				       (row->args[0] - APIC_BASE_MSR) << 4;

	return lapic_reg(b->cpu, reg) == row->args[1];
}

static bool sets_cr8(struct bench *b, const struct row *row)
{
	return lapic_reg(b->cpu, APIC_TASKPRI) == row->args[0] << 4;
}

static bool sends_to_target(struct bench *b, const struct row *row)
{
	return lapic_vector(b->target, APIC_IRR, VECTOR);
}

static bool sets_deadline(struct bench *b, const struct row *row)
{
	return cpu_rdmsr(b->cpu, MSR_TSC_DEADLINE) == row->args[1];
}

static bool sets_pic_mask(struct bench *b, const struct row *row)
{
	return cpu_inb(b->cpu, PIC_MASTER_DATA) == row->args[1];
}

static bool sets_rte(struct bench *b, const struct row *row)
{
	return ioapic_read(b->ivm, IOAPIC_REG_RTE(GSI_EDGE)) == row->args[1];
}

#define XAPIC_REG(reg)		(APIC_DEFAULT_GPA + (reg))
#define SELF			(APIC_DEST_SELF | APIC_INT_ASSERT | VECTOR)
#define FIXED			(APIC_INT_ASSERT | VECTOR)
/* Further than any run takes. */
#define DEADLINE_NEVER		BIT_ULL(60)

static const struct row rows[] = {
	/* What each number contains: two RDTSCs and a call. */
	{ { "nothing" }, XAPIC, 0, run_op, op_nothing },
	{ { "cpuid" }, XAPIC, 1, run_op, op_cpuid },
	{ { "cpuid_no_irqchip" }, NO_IRQCHIP, 1, run_op, op_cpuid },
	{ { "port_to_user_space" }, XAPIC, 1, run_op, op_outb, { USER_PORT } },

	{ { "cr8_read" }, XAPIC, 0, run_op, op_get_cr8 },
	{ { "cr8_write" }, XAPIC, 0, run_op, op_set_cr8, { 3 }, sets_cr8 },
	{ { "cr8_write_intercepted" }, XAPIC, 1, run_cr8_intercepted,
	  op_set_cr8, { 0xf }, sets_cr8 },

	{ { "xapic_tpr_read" }, XAPIC, 1, run_op,
	  op_read32, { XAPIC_REG(APIC_TASKPRI) } },
	{ { "xapic_tpr_write" }, XAPIC, 1, run_op,
	  op_write32, { XAPIC_REG(APIC_TASKPRI), 0x20 }, sets_apic_register },
	{ { "xapic_lvt_write" }, XAPIC, 1, run_op,
	  op_write32, { XAPIC_REG(APIC_LVTTHMR), APIC_LVT_MASKED | 0x55 },
	  sets_apic_register },
	{ { "xapic_tmict_write" }, XAPIC, 1, run_op,
	  op_write32, { XAPIC_REG(APIC_TMICT), TIMER_NEVER },
	  sets_apic_register },
	{ { "xapic_tmcct_read" }, XAPIC, 1, run_op,
	  op_read32, { XAPIC_REG(APIC_TMCCT) } },
	{ { "xapic_icr_self", "xapic_self_inject", "xapic_eoi" }, XAPIC, 3,
	  run_self, op_write32, { XAPIC_REG(APIC_ICR), SELF } },
	{ { "xapic_icr_stopped" }, XAPIC, 1, run_to_target,
	  op_write32, { XAPIC_REG(APIC_ICR), FIXED }, sends_to_target },
	{ { "xapic_icr_halted" }, XAPIC, 1, run_wake,
	  op_write32, { XAPIC_REG(APIC_ICR), FIXED } },
	{ { "xapic_timer_arm", "xapic_timer_hlt" }, XAPIC, 2, run_timer,
	  op_write32, { XAPIC_REG(APIC_TMICT), TIMER_TICKS } },

	{ { "x2apic_tpr_read" }, X2APIC, 1, run_op,
	  op_rdmsr, { X2APIC_MSR(APIC_TASKPRI) } },
	{ { "x2apic_tpr_write" }, X2APIC, 1, run_op,
	  op_wrmsr, { X2APIC_MSR(APIC_TASKPRI), 0x20 }, sets_apic_register },
	{ { "x2apic_lvt_write" }, X2APIC, 1, run_op,
	  op_wrmsr, { X2APIC_MSR(APIC_LVTTHMR), APIC_LVT_MASKED | 0x55 },
	  sets_apic_register },
	{ { "x2apic_tmict_write" }, X2APIC, 1, run_op,
	  op_wrmsr, { X2APIC_MSR(APIC_TMICT), TIMER_NEVER },
	  sets_apic_register },
	{ { "x2apic_tmcct_read" }, X2APIC, 1, run_op,
	  op_rdmsr, { X2APIC_MSR(APIC_TMCCT) } },
	{ { "tsc_deadline_write" }, X2APIC, 1, run_deadline,
	  op_wrmsr, { MSR_TSC_DEADLINE, DEADLINE_NEVER }, sets_deadline },
	{ { "x2apic_icr_self", "x2apic_self_inject", "x2apic_eoi" }, X2APIC, 3,
	  run_self, op_wrmsr, { X2APIC_MSR(APIC_ICR), SELF } },
	{ { "x2apic_self_ipi", "x2apic_self_ipi_inject", "x2apic_self_ipi_eoi" },
	  X2APIC, 3, run_self, op_wrmsr, { X2APIC_MSR(APIC_SELF_IPI), VECTOR } },
	{ { "x2apic_icr_stopped" }, X2APIC, 1, run_to_target,
	  op_wrmsr, { X2APIC_MSR(APIC_ICR), 1ull << 32 | FIXED },
	  sends_to_target },
	{ { "x2apic_icr_halted" }, X2APIC, 1, run_wake,
	  op_wrmsr, { X2APIC_MSR(APIC_ICR), 1ull << 32 | FIXED } },
	{ { "x2apic_timer_arm", "x2apic_timer_hlt" }, X2APIC, 2, run_timer,
	  op_wrmsr, { X2APIC_MSR(APIC_TMICT), TIMER_TICKS } },
	{ { "tsc_deadline_arm", "tsc_deadline_hlt" }, X2APIC, 2, run_timer,
	  op_tsc_deadline, { TIMER_TICKS } },

	{ { "ioapic_read" }, XAPIC, 1, run_rte,
	  op_read32, { IOAPIC_GPA + IOAPIC_WINDOW } },
	{ { "ioapic_rte_write" }, XAPIC, 1, run_rte,
	  op_write32, { IOAPIC_GPA + IOAPIC_WINDOW, RTE_MASKED | VECTOR },
	  sets_rte },
	{ { "ioapic_level_raise", "ioapic_level_inject", "ioapic_level_eoi" },
	  XAPIC, 2, run_ioapic_level },
	{ { "pic_imr_read" }, XAPIC, 1, run_op, op_inb, { PIC_MASTER_DATA } },
	{ { "pic_imr_write" }, XAPIC, 1, run_op,
	  op_outb, { PIC_MASTER_DATA, 0xfb }, sets_pic_mask },
	{ { "pic_raise", "pic_inject", "pic_eoi" }, XAPIC, 2, run_pic,
	  op_outb, { PIC_MASTER_CMD, 0x20 } },

	{ { "signal_msi" }, X2APIC, 0, run_signal_msi, .effect = sends_to_target },
	{ { "irqfd_msi" }, X2APIC, 0, run_irqfd_msi, .effect = sends_to_target },
	{ { "ioapic_edge_raise", "ioapic_edge_lower" }, X2APIC, 0,
	  run_ioapic_edge, .effect = sends_to_target },
	{ { "get_lapic", "set_lapic" }, X2APIC, 0, run_get_set_lapic },
	{ { "get_ioapic", "set_ioapic" }, X2APIC, 0, run_get_set_irqchip,
	  NULL, { KVM_IRQCHIP_IOAPIC } },
	{ { "get_pic", "set_pic" }, X2APIC, 0, run_get_set_irqchip,
	  NULL, { KVM_IRQCHIP_PIC_MASTER } },
};

static void bench_create(struct bench *b, enum mode mode)
{
	struct kvm_irq_routing *routes;

	if (mode == NO_IRQCHIP) {
		b->ivm = irq_vm_create_empty(IRQCHIP_NONE);
		irq_vm_add_cpu(b->ivm, 0);
	} else {
		b->ivm = irq_vm_create(2, IRQCHIP_FULL, mode == X2APIC);
	}
	b->cpu = &b->ivm->cpu[0];
	b->target = &b->ivm->cpu[1];
	b->meter_gva = vm_alloc(b->ivm->vm, sizeof(*b->meter), KVM_UTIL_MIN_VADDR);
	b->meter = addr_gva2hva(b->ivm->vm, b->meter_gva);
	if (mode == NO_IRQCHIP)
		return;

	routes = routing_create();
	routing_add_pin(routes, GSI_EDGE, KVM_IRQCHIP_IOAPIC, GSI_EDGE);
	routing_add_pin(routes, GSI_LEVEL, KVM_IRQCHIP_IOAPIC, GSI_LEVEL);
	routing_add_pin(routes, GSI_PIC, KVM_IRQCHIP_PIC_MASTER, PIC_LINE);
	routing_add_msi(routes, GSI_MSI, MSI_ADDR(1), 0, VECTOR);
	routing_commit(b->ivm, routes);
	free(routes);

	pic_init(b->cpu, 0);
	lapic_get(b->cpu, &b->initial[0]);
	lapic_get(b->target, &b->initial[1]);
}

static int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static void print_costs(struct bench *b, const struct row *row)
{
	int i;

	for (i = 0; i < NR_COLUMNS && row->names[i]; i++) {
		u64 *cost = &b->meter->cost[i][NR_WARMUP];

		qsort(cost, NR_SAMPLES, sizeof(*cost), compare);
		printf("cost %s %lu %lu\n", row->names[i], cost[0],
		       cost[NR_SAMPLES / 2]);
	}
}

static void run_row(struct bench *b, const struct row *row)
{
	bool ok, few = false;
	u64 exits;

	prepare(b, row);
	exits = vcpu_get_stat(b->cpu->vcpu, exits);
	ok = row->run(b, row);
	exits = vcpu_get_stat(b->cpu->vcpu, exits) - exits;
	if (row->effect)
		ok = row->effect(b, row) && ok;

	/* The host's own interrupts are exits as well. */
	if (!apicv_is_on())
		few = exits < (u64)row->exits * NR_ROUNDS;
	if (few)
		ksft_print_msg("%s: %lu exits in %d rounds\n", row->names[0],
			       exits, NR_ROUNDS);
	else if (ok)
		print_costs(b, row);
	if (b->meter->doubled)
		ksft_print_msg("%s: %u interrupts came twice\n", row->names[0],
			       b->meter->doubled);
	ksft_test_result(ok && !few, "%s\n", row->names[0]);
}

static bool two_cpus(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	return !sched_getaffinity(0, sizeof(set), &set) &&
	       CPU_ISSET(0, &set) && CPU_ISSET(1, &set);
}

int main(void)
{
	static struct bench benches[NR_MODES];
	bool two = two_cpus();
	int i;

	ksft_print_header();
	ksft_set_plan(ARRAY_SIZE(rows));
	pin_self_to_any_cpu();
	if (two)
		pin_self_to_cpu(0);
	for (i = 0; i < NR_MODES; i++)
		bench_create(&benches[i], i);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];

		/* Sender and receiver would take turns on one CPU. */
		if (row->run == run_wake && !two)
			ksft_test_result_skip("%s: needs CPUs 0 and 1\n",
					      row->names[0]);
		else
			run_row(&benches[row->mode], row);
	}
	for (i = 0; i < NR_MODES; i++)
		irq_vm_free(benches[i].ivm);
	ksft_finished();
}
