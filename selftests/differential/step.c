// SPDX-License-Identifier: GPL-2.0
/*
 * Steps of the differential test: chosen at random, with a liking for what
 * means something, and written down.
 */
#include <string.h>

#include "hyperv.h"
#include "step.h"

#define DELIVERY_MODE(value)	((value) >> 8 & 7)
#define DM_SMI			2
#define DM_INIT			5
#define DM_SIPI			6

/* Far enough not to come while a sequence runs. */
#define TMICT_NEVER		0xf0000000ull
#define DEADLINE_NEVER		BIT_ULL(62)

static const char * const names[NR_OPS] = {
	[OP_MACHINE] = "machine",
	[OP_MMIO_READ] = "mmio-read",
	[OP_MMIO_WRITE] = "mmio-write",
	[OP_RDMSR] = "rdmsr",
	[OP_WRMSR] = "wrmsr",
	[OP_IN] = "in",
	[OP_OUT] = "out",
	[OP_GET_CR8] = "get-cr8",
	[OP_SET_CR8] = "set-cr8",
	[OP_TAKE] = "take",
	[OP_PV_EOI] = "pv-eoi",
	[OP_VAPIC_TPR] = "vapic-tpr",
	[OP_PV_IPI] = "pv-ipi",
	[OP_HV_IPI] = "hv-ipi",
	[OP_LINE] = "line",
	[OP_MSI] = "msi",
	[OP_IRQFD] = "irqfd",
	[OP_ROUTES] = "routes",
	[OP_HOST_WRMSR] = "host-wrmsr",
	[OP_SET_LAPIC] = "set-lapic",
	[OP_SET_IRQCHIP] = "set-irqchip",
	[OP_SET_PIT] = "set-pit",
	[OP_SET_PAGE] = "set-page",
	[OP_MIGRATE] = "migrate",
	[OP_RESTORE] = "restore",
	[OP_TIMER] = "timer",
};

/* How often each is chosen. */
static const u8 weights[NR_OPS] = {
	[OP_MMIO_READ] = 8,
	[OP_MMIO_WRITE] = 16,
	[OP_RDMSR] = 6,
	[OP_WRMSR] = 14,
	[OP_IN] = 5,
	[OP_OUT] = 8,
	[OP_GET_CR8] = 1,
	[OP_SET_CR8] = 3,
	[OP_TAKE] = 9,
	[OP_PV_EOI] = 2,
	[OP_VAPIC_TPR] = 1,
	[OP_PV_IPI] = 2,
	[OP_HV_IPI] = 1,
	[OP_LINE] = 9,
	[OP_MSI] = 5,
	[OP_IRQFD] = 3,
	[OP_ROUTES] = 1,
	[OP_HOST_WRMSR] = 1,
	[OP_SET_LAPIC] = 3,
	[OP_SET_IRQCHIP] = 3,
	[OP_SET_PIT] = 1,
	[OP_SET_PAGE] = 1,
	[OP_MIGRATE] = 1,
	[OP_RESTORE] = 1,
	[OP_TIMER] = 1,
};

#define pick(state, ...) ({						\
	static const u64 __all[] = { __VA_ARGS__ };			\
									\
	__all[random_below(state, ARRAY_SIZE(__all))];			\
})

bool is_reset(u32 value)
{
	u32 mode = DELIVERY_MODE(value);

	return mode == DM_SMI || mode == DM_INIT || mode == DM_SIPI;
}

u32 without_reset(u32 value)
{
	return is_reset(value) ? value & ~0x700u : value;
}

static u64 any_value(u64 *state)
{
	switch (random_below(state, 6)) {
	case 0:
		return random_next(state);
	case 1:
		return (u32)random_next(state);
	case 2:
		return random_below(state, 256);
	case 3:
		return BIT_ULL(random_below(state, 32));
	case 4:
		return pick(state, 0, 1, 0xff, 0xffff, 0xffffffff, ~0ull);
	default:
		return random_below(state, 4);
	}
}

static u32 any_vector(u64 *state)
{
	/* Few, so that they meet; and now and then one that is not valid. */
	if (!random_below(state, 8))
		return random_below(state, 256);
	return pick(state, 0x20, 0x31, 0x32, 0x41, 0x5f, 0x80, 0xe0, 0xff);
}

static u32 any_destination(u64 *state)
{
	return pick(state, 0, 1, 2, 0, 1, 2, 3, 4, 7, 0xff, 0x10, 0x11, 0x12, 0x21);
}

/* A message as an ICR, an LVT or half a redirection table entry has it. */
static u32 any_message(u64 *state)
{
	u32 value = any_vector(state);

	if (!random_below(state, 3))
		value |= random_below(state, 8) << 8;
	if (!random_below(state, 3))
		value |= BIT(11);
	if (random_below(state, 4))
		value |= BIT(14);
	if (!random_below(state, 3))
		value |= BIT(15);
	if (!random_below(state, 16))
		value |= (u32)random_next(state) & 0xfff3f000;
	return value;
}

static u32 any_register(u64 *state)
{
	u32 reg = random_below(state, 0x100) << 4;

	if (!random_below(state, 16))
		return reg == APIC_TMCCT ? APIC_TMICT : reg;
	/*
	 * Not the timer's current count: it differs, and the emulator gives
	 * what was read last where the guest reads what cannot be read.
	 */
	return pick(state, APIC_ID, APIC_LVR, APIC_TASKPRI, APIC_TASKPRI,
		    APIC_ARBPRI, APIC_PROCPRI, APIC_EOI, APIC_EOI, APIC_EOI,
		    APIC_LDR, APIC_DFR, APIC_SPIV, APIC_SPIV, APIC_ISR,
		    APIC_ISR + 0x10, APIC_TMR + 0x20, APIC_IRR + 0x10, APIC_ESR,
		    0x2f0, APIC_ICR, APIC_ICR, APIC_ICR, APIC_ICR2, APIC_LVTT,
		    APIC_LVTTHMR, APIC_LVTPC, APIC_LVT0, APIC_LVT1, APIC_LVTERR,
		    APIC_TMICT, APIC_TDCR, APIC_SELF_IPI);
}

/* What to write to a register of the local APIC. */
static u64 register_value(u64 *state, u32 reg, bool x2apic)
{
	u64 value;

	switch (reg) {
	case APIC_ICR:
		value = any_message(state);
		if (is_reset(value) && !random_below(state, 4))
			value |= APIC_DEST_ALLBUT;
		else
			value = without_reset(value);
		if (!is_reset(value) && !random_below(state, 3))
			value |= random_below(state, 4) << 18;
		if (x2apic)
			value |= (u64)any_destination(state) << 32;
		return value;
	case APIC_ICR2:
	case APIC_LDR:
		return (u64)any_destination(state) << 24;
	case APIC_ID:
		return random_below(state, 4) ? (u64)any_destination(state) << 24 :
						any_value(state);
	case APIC_DFR:
		return random_below(state, 2) ? APIC_DFR_FLAT : APIC_DFR_CLUSTER;
	case APIC_SPIV:
		/* On, mostly. */
		value = any_vector(state) | (random_below(state, 8) ? BIT(8) : 0);
		return value | (random_below(state, 8) ? 0 : BIT(12));
	case 0x2f0:
	case APIC_LVTT ... APIC_LVTERR:
		value = without_reset(any_message(state));
		if (!random_below(state, 3))
			value |= APIC_LVT_MASKED;
		if (reg == APIC_LVTT)
			value |= random_below(state, 4) << 17;
		return value;
	case APIC_TMICT:
		return random_below(state, 2) ? TMICT_NEVER | random_below(state, 1 << 28) : 0;
	case APIC_TASKPRI:
		return random_below(state, 2) ? 0 : random_below(state, 0x100);
	case APIC_SELF_IPI:
		return any_vector(state);
	case APIC_EOI:
		return random_below(state, 8) ? 0 : any_value(state);
	default:
		return without_reset(any_value(state));
	}
}

static void apic_base(u64 *state, struct step *step)
{
	step->a = MSR_IA32_APICBASE;
	step->b = pick(state, 0xfee00800, 0xfee00c00, 0xfee00000, 0xfee00400,
		       0xfee00900, 0xfee00d00, 0xfee00100, 0xfed00800, 0xfee00801);
}

static void mmio(u64 *state, struct step *step)
{
	if (random_below(state, 3)) {
		u32 reg = any_register(state);

		step->a = APIC_DEFAULT_GPA + reg;
		step->b = register_value(state, reg, false);
	} else {
		u32 reg = pick(state, IOAPIC_REGSEL, IOAPIC_WINDOW, IOAPIC_WINDOW, 0x40);

		step->a = IOAPIC_GPA + reg;
		if (reg == IOAPIC_REGSEL)
			step->b = random_below(state, 8) ? random_below(state, 0x42) :
							   any_value(state);
		else if (random_below(state, 3))
			step->b = without_reset(any_message(state)) & ~(u32)RTE_MASKED;
		else
			step->b = (u64)any_destination(state) << 24 |
				  (random_below(state, 2) ? RTE_MASKED : 0);
	}
	step->width = 4;
	if (!random_below(state, 10)) {
		step->width = pick(state, 1, 2, 4, 8);
		step->a += random_below(state, 17 - step->width);
		step->b = without_reset(step->b);
	}
	/* Within the page, so that there is one access. */
	if ((step->a & 0xfff) + step->width > 0x1000)
		step->a = (step->a & ~0xfffull) + 0x1000 - step->width;
}

static void hyperv_msr(u64 *state, struct step *step)
{
	step->a = pick(state, HV_X64_MSR_EOI, HV_X64_MSR_EOI, HV_X64_MSR_ICR,
		       HV_X64_MSR_TPR, HV_X64_MSR_SINT0, HV_X64_MSR_SINT0 + 1,
		       HV_X64_MSR_SINT0 + 15);
	switch (step->a) {
	case HV_X64_MSR_EOI:
		step->b = 0;
		break;
	case HV_X64_MSR_ICR:
		step->b = register_value(state, APIC_ICR, false) |
			  (u64)any_destination(state) << 56;
		break;
	case HV_X64_MSR_TPR:
		step->b = register_value(state, APIC_TASKPRI, false);
		break;
	default:
		/* Bit 16: masked, 17: automatic EOI. */
		step->b = any_vector(state) | random_below(state, 4) << 16;
		break;
	}
}

static void msr(u64 *state, struct step *step)
{
	u32 reg = any_register(state);

	step->a = X2APIC_MSR(reg);
	step->b = register_value(state, reg, true);
	switch (random_below(state, 14)) {
	case 0:
		apic_base(state, step);
		break;
	case 3:
		hyperv_msr(state, step);
		break;
	case 1:
		step->a = MSR_TSC_DEADLINE;
		step->b = random_below(state, 2) ? DEADLINE_NEVER : 0;
		break;
	case 2:
		step->a = APIC_BASE_MSR + random_below(state, 0x100);
		step->b = without_reset(step->b) | (step->b & ~0xffffffffull);
		if (step->a == X2APIC_MSR(APIC_TMICT) || step->a == X2APIC_MSR(APIC_TMCCT))
			step->a = X2APIC_MSR(APIC_TDCR);
		break;
	}
}

static void port(u64 *state, struct step *step)
{
	step->a = pick(state, 0x20, 0x21, 0xa0, 0xa1, 0x20, 0x21, 0xa0, 0xa1,
		       0x4d0, 0x4d1, 0x41, 0x42, 0x43, 0x61, 0x40, 0x22, 0x60, 0x4d2);
	step->width = random_below(state, 12) ? 1 : pick(state, 1, 2, 4);
	step->b = any_value(state);
	if (step->a < 0x30 || (step->a >= 0xa0 && step->a < 0xa2))
		step->b = pick(state, 0x11, 0x13, 0x19, 0x10, 0x20, 0x60, 0x61, 0x63,
			       0xa0, 0xc1, 0xe2, 0x80, 0x00, 0x0a, 0x0b, 0x0c, 0x48,
			       0x68, 0x40, 0x70, 0x01, 0x03, 0x04, 0x02, 0x09, 0xff);
	/* Counter 0 would tick in its own time. */
	if (step->a == 0x43 && !(step->b & 0xc0))
		step->b = (step->b & 0xf1) | 0x0a;
}

static void msi(u64 *state, struct step *step)
{
	step->a = MSI_ADDR(any_destination(state));
	if (!random_below(state, 3))
		step->a |= MSI_ADDR_LOGICAL;
	if (!random_below(state, 3))
		step->a |= MSI_ADDR_REDIR_HINT;
	step->b = random_below(state, 6) ? 0 : any_value(state) & 0xffffff00;
	step->c = any_message(state) & 0xffff;
}

/* KVM refuses what it does not know; that both do is one of the tests. */
struct step step_machine(u64 *state)
{
	struct step step = { .op = OP_MACHINE };

	if (!random_below(state, 3))
		step.a |= MACHINE_SPLIT;
	if (!random_below(state, 3))
		step.a |= MACHINE_HYPERV;
	if (!random_below(state, 3))
		step.a |= random_below(state, 16) << 8;
	return step;
}

struct step step_random(u64 *state)
{
	struct step step = { .cpu = random_below(state, NR_CPUS_OF_VM) };
	u32 sum = 0, at;

	for (at = 0; at < NR_OPS; at++)
		sum += weights[at];
	sum = random_below(state, sum);
	while (sum >= weights[step.op])
		sum -= weights[step.op++];

	switch (step.op) {
	case OP_MMIO_READ:
	case OP_MMIO_WRITE:
		mmio(state, &step);
		break;
	case OP_RDMSR:
	case OP_WRMSR:
		msr(state, &step);
		break;
	case OP_IN:
	case OP_OUT:
		port(state, &step);
		break;
	case OP_SET_CR8:
		step.b = random_below(state, 16);
		break;
	case OP_LINE:
		/* Not 0, which is the PIT's. */
		step.a = 1 + random_below(state, 23);
		step.b = random_below(state, 2);
		break;
	case OP_MSI:
		msi(state, &step);
		break;
	case OP_IRQFD:
		step.a = random_below(state, NR_IRQFDS);
		break;
	case OP_ROUTES:
		step.a = random_next(state);
		break;
	case OP_HOST_WRMSR:
		if (random_below(state, 2)) {
			apic_base(state, &step);
		} else {
			step.a = MSR_TSC_DEADLINE;
			step.b = random_below(state, 2) ? DEADLINE_NEVER : 0;
		}
		break;
	case OP_SET_LAPIC:
		step.a = any_register(state) & 0x3f0;
		step.b = register_value(state, step.a, false);
		break;
	case OP_SET_IRQCHIP:
		step.a = random_below(state, 3);
		step.b = random_below(state, step.a == KVM_IRQCHIP_IOAPIC ? 216 / 4 : 16 / 4) * 4;
		step.c = step.a == KVM_IRQCHIP_IOAPIC ? without_reset(any_message(state)) :
							any_value(state);
		break;
	case OP_SET_PIT:
		step.a = random_below(state, 2 * sizeof(struct kvm_pit_channel_state) / 4 + 1) * 4;
		step.b = any_value(state);
		break;
	case OP_VAPIC_TPR:
		/* The rest would be lost at the next exit but one. */
		step.b = random_below(state, 0x10) << 4;
		break;
	case OP_PV_IPI:
		step.a = random_below(state, 16);
		step.b = random_below(state, 2);
		step.c = (without_reset(any_message(state)) & 0xfff) | random_below(state, 4) << 32;
		break;
	case OP_HV_IPI:
		step.a = random_below(state, 16);
		step.c = any_vector(state);
		break;
	case OP_SET_PAGE:
		step.a = random_below(state, NR_PAGES);
		step.b = random_below(state, 4);
		break;
	case OP_MIGRATE:
		step.a = random_below(state, 24);
		break;
	case OP_RESTORE:
		apic_base(state, &step);
		step.a = random_below(state, 6);
		break;
	case OP_TIMER:
		step.a = any_vector(state) | (random_below(state, 4) ? 0 : APIC_LVT_MASKED);
		step.b = 1 + random_below(state, 100);
		break;
	}
	return step;
}

void step_print(FILE *file, const struct step *step)
{
	fprintf(file, "%s %u %u %#lx %#lx %#lx\n", names[step->op], step->cpu,
		step->width, step->a, step->b, step->c);
}

bool step_parse(const char *line, struct step *step)
{
	char name[32];
	u32 op;

	memset(step, 0, sizeof(*step));
	if (sscanf(line, "%31s %u %u %lx %lx %lx", name, &step->cpu, &step->width,
		   &step->a, &step->b, &step->c) != 6)
		return false;
	for (op = 0; op < NR_OPS; op++) {
		if (!strcmp(name, names[op])) {
			step->op = op;
			return step->cpu < NR_CPUS_OF_VM;
		}
	}
	return false;
}
