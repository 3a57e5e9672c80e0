// SPDX-License-Identifier: GPL-2.0
/*
 * The machines of the differential test.
 */
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>

#include "hyperv.h"
#include "machine.h"

#define PIT_FIRST_COUNTER	1	/* that a test changes */
/* Enough for a timer to expire on a busy host. */
#define TIMER_US		4000
/* So slow that large counts outlast a sequence on the slowest host. */
#define BUS_CYCLE_NS		1000
#define WORKER_US		3000

struct msrs {
	struct kvm_msrs header;
	struct kvm_msr_entry entries[2];
};

void get_apic_msrs(struct irq_cpu *cpu, u64 *base, u64 *deadline)
{
	struct msrs msrs = {
		.header.nmsrs = 2,
		.entries = { { .index = MSR_IA32_APICBASE }, { .index = MSR_TSC_DEADLINE } },
	};

	TEST_ASSERT_EQ(__vcpu_ioctl(cpu->vcpu, KVM_GET_MSRS, &msrs.header), 2);
	*base = msrs.entries[0].data;
	*deadline = msrs.entries[1].data;
}

int set_msr(struct irq_cpu *cpu, u32 index, u64 value)
{
	struct msrs msrs = {
		.header.nmsrs = 1,
		.entries = { { .index = index, .data = value } },
	};

	return __vcpu_ioctl(cpu->vcpu, KVM_SET_MSRS, &msrs.header);
}

/* SynIC's interrupt sources that the guest's MSR accesses change, mostly. */
static u32 pick_sint(u64 *state)
{
	static const u8 sints[] = { 0, 1, 15, 2 };

	return sints[random_below(state, ARRAY_SIZE(sints))];
}

static void routing_add_sint(struct kvm_irq_routing *routes, u32 gsi, u32 cpu, u32 sint)
{
	struct kvm_irq_routing_entry *e;

	/* The library has no such route: as any other, and changed then. */
	routing_add_msi(routes, gsi, 0, 0, 0);
	e = &routes->entries[routes->nr - 1];
	e->type = KVM_IRQ_ROUTING_HV_SINT;
	e->u.hv_sint.vcpu = cpu;
	e->u.hv_sint.sint = sint;
}

/* An exit that KVM handles itself: only then it delivers a timer's interrupt. */
static u64 guest_nothing(u64 a, u64 b, u64 c)
{
	u32 eax, ebx, ecx, edx;

	cpuid(0, &eax, &ebx, &ecx, &edx);
	return 0;
}

void run_once(struct irq_cpu *cpu)
{
	cpu_call(cpu, guest_nothing, 0, 0, 0);
}

static void add_route(struct machine *m, struct kvm_irq_routing *routes, u32 gsi,
		      u64 *state)
{
	u32 kind = random_below(state, 6);

	/* There are no chips to route to. */
	if (m->flags & MACHINE_SPLIT && kind < 4)
		kind = 4;
	switch (kind) {
	case 0:
		routing_add_pin(routes, gsi, KVM_IRQCHIP_PIC_MASTER,
				random_below(state, 8));
		break;
	case 1:
		routing_add_pin(routes, gsi, KVM_IRQCHIP_PIC_SLAVE,
				random_below(state, 8));
		break;
	case 2:
	case 3:
		routing_add_pin(routes, gsi, KVM_IRQCHIP_IOAPIC,
				random_below(state, IOAPIC_PINS));
		break;
	case 4:
		if (m->flags & MACHINE_HYPERV) {
			routing_add_sint(routes, gsi, random_below(state, NR_CPUS_OF_VM),
					 pick_sint(state));
			break;
		}
		fallthrough;
	default:
		routing_add_msi(routes, gsi,
				MSI_ADDR(random_below(state, 4)) |
				(random_below(state, 2) ? MSI_ADDR_LOGICAL : 0),
				0, 0x20 + random_below(state, 0xe0));
	}
}

/* GSI 0 has no route: the PIT's ticks come in their own time. */
static void set_routes(struct machine *m, u64 seed)
{
	struct kvm_irq_routing *routes = routing_create();
	u32 gsi;

	for (gsi = 1; gsi < IOAPIC_PINS; gsi++) {
		if (seed || m->flags & MACHINE_SPLIT)
			add_route(m, routes, gsi, &seed);
		else
			routing_add_line(routes, gsi);
	}
	routing_commit(m->ivm, routes);
	free(routes);
}

static void create_cpu(struct machine *m, u32 id)
{
	struct irq_cpu *cpu = irq_vm_add_cpu(m->ivm, id);

	if (m->flags & MACHINE_HYPERV)
		vcpu_set_hv_cpuid(cpu->vcpu);
	cpu_enable_apic(cpu, false);
}

void machine_create(struct machine *m, u32 flags, bool any_order)
{
	struct kvm_pit_config config = { .flags = KVM_PIT_SPEAKER_DUMMY };
	bool split = flags & MACHINE_SPLIT;
	struct irq_vm *ivm = irq_vm_create_empty(split ? IRQCHIP_SPLIT : IRQCHIP_FULL);
	int i;

	memset(m, 0, sizeof(*m));
	m->ivm = ivm;
	m->flags = flags;
	m->any_order = any_order;
	vm_enable_cap(ivm->vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS, BUS_CYCLE_NS);
	__vm_enable_cap(ivm->vm, KVM_CAP_X2APIC_API, MACHINE_X2APIC_API(flags));
	for (i = 0; i < NR_CPUS_OF_VM; i++)
		create_cpu(m, i);
	paravirt_create(m);
	if (!split)
		vm_ioctl(ivm->vm, KVM_CREATE_PIT2, &config);
	irq_vm_map_mmio(ivm, 0xfed00000);
	set_routes(m, 0);
	m->resamplefd = eventfd(0, EFD_NONBLOCK);
	for (i = 0; i < NR_IRQFDS; i++) {
		m->irqfd[i] = eventfd(0, 0);
		TEST_ASSERT_EQ(irqfd_assign(ivm, m->irqfd[i], FIRST_IRQFD_GSI + i,
					    i == RESAMPLE_IRQFD && !split ?
						    m->resamplefd : -1), 0);
	}
	for (i = 0; i < NR_CPUS_OF_VM; i++) {
		ivm->cpu[i].guest->eoi = EOI_NONE;
		/* A level line and an automatic EOI come again and again. */
		ivm->cpu[i].guest->stop_after = MAX_LOG;
		vcpu_regs_get(ivm->cpu[i].vcpu, &m->regs[i]);
		vcpu_sregs_get(ivm->cpu[i].vcpu, &m->sregs[i]);
	}
}

void machine_destroy(struct machine *m)
{
	int i;

	irq_vm_free(m->ivm);
	for (i = 0; i < NR_IRQFDS; i++)
		close(m->irqfd[i]);
	close(m->resamplefd);
}

/*
 * The guest would take the vectors of exceptions for exceptions.  Those that a
 * PIC gives are among them if its base is, or if it is so high that its last
 * lines are beyond 0xff; ICW2 does not allow that, KVM_SET_IRQCHIP does.
 */
static bool may_take(const struct snapshot *s, u32 cpu)
{
	int i;

	for (i = 0; i < 2 && s->has_chips; i++) {
		u8 base = s->chip[i].chip.pic.irq_base;

		if (base < 0x20 || base > 0xf8)
			return false;
	}
	return !(state_reg(&s->lapic[cpu], APIC_IRR) & 0xffff0000);
}

/*
 * User space does it: a guest that writes CR8 while KVM waits for an interrupt
 * window makes QEMU's TCG abort (helper_write_crN() calls cpu_interrupt()
 * without its lock).  lapic_access has the guest's writes.
 */
static void write_cr8(struct irq_cpu *cpu, u64 value)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(cpu->vcpu, &sregs);
	sregs.cr8 = value;
	vcpu_sregs_set(cpu->vcpu, &sregs);
}

static u64 take(struct irq_cpu *cpu, struct result *result)
{
	struct guest_cpu *guest = cpu->guest;

	cpu_take_irqs(cpu);
	result->nr_irqs = guest->nr_irqs;
	memcpy(result->log, guest->log, min_t(u32, guest->nr_irqs, MAX_LOG));
	cpu_clear_log(cpu);
	return 0;
}

static int set_lapic(struct machine *m, u32 index, u32 reg, u32 value)
{
	struct irq_cpu *cpu = &m->ivm->cpu[index];
	struct kvm_lapic_state state;

	lapic_get(cpu, &state);
	state_set_reg(&state, reg, value);
	return __vcpu_ioctl(cpu->vcpu, KVM_SET_LAPIC, &state) ? -errno : 0;
}

static int set_chip(struct machine *m, u32 id, u32 offset, u32 value)
{
	struct kvm_irqchip chip;

	if (m->flags & MACHINE_SPLIT)
		return 0;
	irqchip_get(m->ivm, id, &chip);
	memcpy(&chip.chip.dummy[offset], &value, sizeof(value));
	return __vm_ioctl(m->ivm->vm, KVM_SET_IRQCHIP, &chip) ? -errno : 0;
}

/* Past the end of the counters: the speaker's flag. */
static int set_pit(struct machine *m, u32 offset, u32 value)
{
	struct kvm_pit_state2 state;
	void *counters = &state.channels[PIT_FIRST_COUNTER];

	if (m->flags & MACHINE_SPLIT)
		return 0;
	vm_ioctl(m->ivm->vm, KVM_GET_PIT2, &state);
	if (offset < 2 * sizeof(state.channels[0]))
		memcpy(counters + offset, &value, sizeof(value));
	else
		state.flags = value & KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	return __vm_ioctl(m->ivm->vm, KVM_SET_PIT2, &state) ? -errno : 0;
}

/* After SMI, INIT or SIPI: back to waiting for a call. */
static void recover(struct machine *m)
{
	int i;

	for (i = 0; i < NR_CPUS_OF_VM; i++) {
		struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
		struct kvm_vcpu *vcpu = m->ivm->cpu[i].vcpu;
		struct kvm_sregs sregs = m->sregs[i], now;
		struct kvm_vcpu_events events;
		struct kvm_mp_state state;

		/* This is where KVM acts on an INIT. */
		vcpu_mp_state_get(vcpu, &state);
		vcpu_sregs_get(vcpu, &now);
		sregs.apic_base = now.apic_base;
		sregs.cr8 = now.cr8;
		vcpu_sregs_set(vcpu, &sregs);
		vcpu_regs_set(vcpu, &m->regs[i]);
		vcpu_mp_state_set(vcpu, &runnable);
		vcpu_events_get(vcpu, &events);
		events.smi.pending = 0;
		events.smi.smm = 0;
		events.smi.latched_init = 0;
		events.flags |= KVM_VCPUEVENT_VALID_SMM;
		vcpu_events_set(vcpu, &events);
	}
}

/*
 * A worker of the kernel's does it, which must not find the routes of the next
 * step.  Taking an irqfd away waits for it; but also lowers the line of one
 * that resamples.
 */
static void signal_irqfd(struct machine *m, u32 number)
{
	struct kvm_irqfd irqfd = {
		.fd = m->irqfd[number],
		.gsi = FIRST_IRQFD_GSI + number,
		.flags = KVM_IRQFD_FLAG_DEASSIGN,
	};

	eventfd_signal(irqfd.fd);
	if (number == RESAMPLE_IRQFD) {
		usleep(WORKER_US);
		return;
	}
	vm_ioctl(m->ivm->vm, KVM_IRQFD, &irqfd);
	TEST_ASSERT_EQ(irqfd_assign(m->ivm, irqfd.fd, irqfd.gsi, -1), 0);
}

static u64 timer(struct irq_cpu *cpu, u64 lvtt, u64 count)
{
	/* A count that stays would start again in KVM_SET_LAPIC. */
	const u32 regs[] = { APIC_TDCR, APIC_LVTT, APIC_TMICT, APIC_TMICT };
	const u64 values[] = { 0xb, lvtt, count, 0 };
	u64 base, deadline;
	int i;

	get_apic_msrs(cpu, &base, &deadline);
	for (i = 0; i < ARRAY_SIZE(regs); i++) {
		if (i == ARRAY_SIZE(regs) - 1)
			usleep(TIMER_US);
		if (base & MSR_IA32_APICBASE_EXTD)
			cpu_wrmsr_safe(cpu, X2APIC_MSR(regs[i]), values[i]);
		else
			cpu_mmio_write(cpu, APIC_DEFAULT_GPA + regs[i], 4, values[i]);
	}
	return 0;
}

/* Reads that depend on the time give only what does not. */
static u32 timeless(u16 port, u32 value)
{
	if (port >= 0x40 && port <= 0x42)
		return 0;
	/* The output of counter 2, and the refresh clock. */
	return port == 0x61 ? value & ~0x30 : value;
}

void machine_do(struct machine *m, const struct step *step,
		const struct snapshot *before, struct result *result)
{
	struct irq_cpu *cpu = &m->ivm->cpu[step->cpu];
	u64 value = 0;

	memset(result, 0, sizeof(*result));
	switch (step->op) {
	case OP_MMIO_READ:
		value = cpu_mmio_read(cpu, step->a, step->width);
		break;
	case OP_MMIO_WRITE:
		cpu_mmio_write(cpu, step->a, step->width, step->b);
		if (is_reset(step->b))
			recover(m);
		break;
	case OP_RDMSR:
		result->fault = cpu_rdmsr_safe(cpu, step->a, &value);
		if (result->fault)
			value = 0;
		break;
	case OP_WRMSR:
		result->fault = cpu_wrmsr_safe(cpu, step->a, step->b);
		if (is_reset(step->b))
			recover(m);
		break;
	case OP_IN:
		value = timeless(step->a, cpu_in(cpu, step->a, step->width));
		break;
	case OP_OUT:
		cpu_out(cpu, step->a, step->width, step->b);
		break;
	case OP_GET_CR8:
		value = cpu_get_cr8(cpu);
		break;
	case OP_SET_CR8:
		write_cr8(cpu, step->b);
		break;
	case OP_TAKE:
		if (may_take(before, step->cpu))
			value = take(cpu, result);
		break;
	case OP_LINE:
		value = irq_line(m->ivm, step->a, step->b);
		break;
	case OP_MSI:
		value = signal_msi(m->ivm, step->a, step->b, step->c);
		if (is_reset(step->c))
			recover(m);
		break;
	case OP_IRQFD:
		signal_irqfd(m, step->a);
		break;
	case OP_ROUTES:
		set_routes(m, step->a);
		break;
	case OP_HOST_WRMSR:
		/* Nothing that waits for other ioctls to come; OP_RESTORE does. */
		run_once(cpu);
		value = set_msr(cpu, step->a, step->b);
		run_once(cpu);
		break;
	case OP_SET_LAPIC:
		value = set_lapic(m, step->cpu, step->a, step->b);
		/* A timer that expires at once: ferric saves it, KVM does not. */
		run_once(cpu);
		break;
	case OP_SET_IRQCHIP:
		value = set_chip(m, step->a, step->b, step->c);
		break;
	case OP_SET_PIT:
		value = set_pit(m, step->a, step->b);
		break;
	case OP_MIGRATE:
		if (!(m->flags & MACHINE_SPLIT))
			restore_chips(m, step->a);
		break;
	case OP_RESTORE:
		value = restore_apic(m, step->cpu, step->a, step->b);
		break;
	case OP_TIMER:
		value = timer(cpu, step->a, step->b);
		break;
	case OP_MACHINE:
		break;
	default:
		value = paravirt_do(m, step);
		break;
	}
	result->value = value;
	result->nr_mmio = cpu->nr_mmio;
	result->nr_pio = cpu->nr_pio;
	result->nr_eoi = cpu->nr_ioapic_eoi;
	result->resampled = eventfd_take(m->resamplefd, 0);
}

void machine_look(struct machine *m, struct snapshot *s)
{
	int i;

	memset(s, 0, sizeof(*s));
	for (i = 0; i < NR_CPUS_OF_VM; i++) {
		struct irq_cpu *cpu = &m->ivm->cpu[i];

		vcpu_mp_state_get(cpu->vcpu, &s->mp_state[i]);
		lapic_get(cpu, &s->lapic[i]);
		state_set_reg(&s->lapic[i], APIC_TMCCT, 0);
		vcpu_events_get(cpu->vcpu, &s->events[i]);
		get_apic_msrs(cpu, &s->base[i], &s->deadline[i]);
	}
	paravirt_look(m, s);
	s->has_chips = !(m->flags & MACHINE_SPLIT);
	if (!s->has_chips)
		return;
	for (i = 0; i < KVM_NR_IRQCHIPS; i++)
		irqchip_get(m->ivm, i, &s->chip[i]);
	vm_ioctl(m->ivm->vm, KVM_GET_PIT2, &s->pit);
	for (i = 0; i < ARRAY_SIZE(s->pit.channels); i++) {
		s->pit.channels[i].count_load_time = 0;
		s->pit.channels[i].latched_count = 0;
		s->pit.channels[i].status = 0;
	}
}

/*
 * Differences, in words.
 */
struct text {
	char *at;
	size_t left;
};

static void say(struct text *text, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text->at, text->left, format, args);
	va_end(args);
	n = min_t(size_t, n, text->left ? text->left - 1 : 0);
	text->at += n;
	text->left -= n;
}

#define say_if_different(text, what, x, y) do {				\
	u64 __x = (x), __y = (y);					\
									\
	if (__x != __y)							\
		say(text, "%s %#lx, %#lx; ", what, __x, __y);		\
} while (0)

void result_difference(const struct result *a, const struct result *b,
		       char *buffer, size_t size)
{
	struct text text = { buffer, size };
	u32 i;

	buffer[0] = 0;
	say_if_different(&text, "value", a->value, b->value);
	say_if_different(&text, "fault", a->fault, b->fault);
	say_if_different(&text, "resampled", a->resampled, b->resampled);
	say_if_different(&text, "MMIO exits", a->nr_mmio, b->nr_mmio);
	say_if_different(&text, "port exits", a->nr_pio, b->nr_pio);
	say_if_different(&text, "EOI exits", a->nr_eoi, b->nr_eoi);
	say_if_different(&text, "interrupts", a->nr_irqs, b->nr_irqs);
	for (i = 0; i < MAX_LOG; i++)
		say_if_different(&text, "vector taken", a->log[i], b->log[i]);
}

static void say_bytes(struct text *text, const char *what, u32 index,
		      const void *a, const void *b, size_t size)
{
	const u8 *x = a, *y = b;
	size_t i;

	for (i = 0; i < size; i++) {
		if (x[i] != y[i])
			say(text, "%s %u byte %#zx: %#x, %#x; ", what, index, i,
			    x[i], y[i]);
	}
}

void snapshot_difference(const struct snapshot *a, const struct snapshot *b,
			 char *buffer, size_t size)
{
	struct text text = { buffer, size };
	u32 i, reg;

	buffer[0] = 0;
	if (!memcmp(a, b, sizeof(*a)))
		return;
	for (i = 0; i < NR_CPUS_OF_VM; i++) {
		for (reg = 0; reg < sizeof(a->lapic[i]); reg += 4) {
			u32 x = state_reg(&a->lapic[i], reg);
			u32 y = state_reg(&b->lapic[i], reg);

			if (x != y)
				say(&text, "APIC %u register %#x: %#x, %#x; ", i,
				    reg, x, y);
		}
		say_bytes(&text, "events", i, &a->events[i], &b->events[i],
			  sizeof(a->events[i]));
		say_if_different(&text, "mp_state", a->mp_state[i].mp_state,
				 b->mp_state[i].mp_state);
		say_if_different(&text, "IA32_APIC_BASE", a->base[i], b->base[i]);
		say_if_different(&text, "TSC deadline", a->deadline[i], b->deadline[i]);
		say_if_different(&text, "PV EOI flag", a->flag[i], b->flag[i]);
		say_if_different(&text, "VAPIC word", a->vapic[i], b->vapic[i]);
	}
	for (i = 0; i < KVM_NR_IRQCHIPS; i++)
		say_bytes(&text, "chip", i, &a->chip[i].chip, &b->chip[i].chip,
			  sizeof(a->chip[i].chip));
	say_bytes(&text, "PIT", 0, &a->pit, &b->pit, sizeof(a->pit));
}
