// SPDX-License-Identifier: GPL-2.0
/*
 * The VMs of bench. vCPUs that only have to be there, and never run, have no
 * memory in the guest: of them there can be any number.
 */
#include "bench.h"
#include "hyperv.h"

/* Several grace periods, and what KVM does a second later (static keys). */
#define SETTLE_US		1500000

u32 nr_host_cpus(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN);
}

static void do_ioctl(int fd, unsigned long cmd, void *argument)
{
	TEST_ASSERT(!ioctl(fd, cmd, argument), "ioctl %#lx: %s", cmd, strerror(errno));
}

static void set_msr(int fd, u32 index, u64 value)
{
	struct {
		struct kvm_msrs header;
		struct kvm_msr_entry entry;
	} msrs = {
		.header.nmsrs = 1,
		.entry = { .index = index, .data = value },
	};

	TEST_ASSERT(ioctl(fd, KVM_SET_MSRS, &msrs) == 1, "KVM_SET_MSRS: MSR %#x", index);
}

int idle_vcpu_create(int vm_fd, u32 id, bool x2apic)
{
	int fd = ioctl(vm_fd, KVM_CREATE_VCPU, (unsigned long)id);

	TEST_ASSERT(fd >= 0, "KVM_CREATE_VCPU %u: %s", id, strerror(errno));
	if (x2apic)
		do_ioctl(fd, KVM_SET_CPUID2, (void *)kvm_get_supported_cpuid());
	return fd;
}

/* What the BIOS and the kernel of a guest do on each of its CPUs. */
void idle_vcpu_enable(int fd, bool x2apic)
{
	struct kvm_lapic_state state;

	if (x2apic) {
		set_msr(fd, MSR_IA32_APICBASE, APIC_DEFAULT_GPA | MSR_IA32_APICBASE_ENABLE |
			MSR_IA32_APICBASE_EXTD);
		set_msr(fd, X2APIC_MSR(APIC_SPIV), APIC_SPIV_APIC_ENABLED | APIC_SPURIOUS_VECTOR);
		return;
	}
	do_ioctl(fd, KVM_GET_LAPIC, &state);
	state_set_reg(&state, APIC_SPIV, APIC_SPIV_APIC_ENABLED | APIC_SPURIOUS_VECTOR);
	do_ioctl(fd, KVM_SET_LAPIC, &state);
}

/* The first seven get a bit each of the flat logical destination. */
static void set_flat_id(int fd, u32 number)
{
	struct kvm_lapic_state state;

	do_ioctl(fd, KVM_GET_LAPIC, &state);
	state_set_reg(&state, APIC_LDR, number < 7 ? BIT(24 + number) : 0);
	do_ioctl(fd, KVM_SET_LAPIC, &state);
}

static void add_targets(struct machine *m)
{
	const struct shape *shape = m->shape;
	u32 i;

	for (i = 1; i < shape->runnable; i++) {
		struct irq_cpu *cpu = irq_vm_add_cpu(m->ivm, shape->first_id + i - 1);

		cpu_enable_apic(cpu, shape->x2apic);
		cpu->guest->on_irq = bench_on_irq;
	}
	m->idle = calloc(shape->idle, sizeof(*m->idle));
	TEST_ASSERT(m->idle || !shape->idle, "out of memory");
	for (i = 0; i < shape->idle; i++) {
		struct kvm_mp_state runnable = { KVM_MP_STATE_RUNNABLE };

		m->idle[i] = idle_vcpu_create(m->ivm->vm->fd, shape->first_id + i, shape->x2apic);
		do_ioctl(m->idle[i], KVM_SET_MP_STATE, &runnable);
		idle_vcpu_enable(m->idle[i], shape->x2apic);
		if (!shape->x2apic)
			set_flat_id(m->idle[i], i);
	}
}

static int fd_of(struct machine *m, u32 number)
{
	if (number < m->shape->runnable)
		return m->ivm->cpu[number].vcpu->fd;
	return m->idle[number - m->shape->runnable];
}

struct machine *machine_create(enum provider provider, const struct shape *shape)
{
	u32 i, nr = shape->runnable + shape->idle;
	struct machine *m = calloc(1, sizeof(*m));
	int lock;

	TEST_ASSERT(m, "out of memory");
	m->shape = shape;
	kvm_set_files_rlimit(2 * nr);
	lock = provider_begin(provider);
	m->ivm = irq_vm_create_empty(IRQCHIP_FULL);
	provider_end(lock);
	m->cpu = irq_vm_add_cpu(m->ivm, 0);
	if (shape->hyperv)
		vcpu_set_hv_cpuid(m->cpu->vcpu);
	cpu_enable_apic(m->cpu, shape->x2apic);
	m->cpu->guest->on_irq = bench_on_irq;
	add_targets(m);

	m->meter_gva = vm_alloc(m->ivm->vm, sizeof(*m->meter), KVM_UTIL_MIN_VADDR);
	m->meter = addr_gva2hva(m->ivm->vm, m->meter_gva);
	m->initial = calloc(nr, sizeof(*m->initial));
	TEST_ASSERT(m->initial, "out of memory");
	for (i = 0; i < nr; i++)
		do_ioctl(fd_of(m, i), KVM_GET_LAPIC, &m->initial[i]);
	usleep(SETTLE_US);
	return m;
}

void machine_free(struct machine *m)
{
	u32 i;

	for (i = 0; i < m->shape->idle; i++)
		kvm_close(m->idle[i]);
	irq_vm_free(m->ivm);
	free(m->idle);
	free(m->initial);
	free(m);
}

void machine_reset(struct machine *m)
{
	u32 i;

	for (i = 0; i < m->shape->runnable + m->shape->idle; i++) {
		do_ioctl(fd_of(m, i), KVM_SET_LAPIC, &m->initial[i]);
		if (i < m->shape->runnable)
			cpu_clear_log(&m->ivm->cpu[i]);
	}
}

bool machine_has_pending(struct machine *m, u32 targets, int number)
{
	struct kvm_lapic_state state;
	u32 i;
	int j, pending;

	for (i = 1; i < m->shape->runnable + m->shape->idle; i++) {
		do_ioctl(fd_of(m, i), KVM_GET_LAPIC, &state);
		for (j = 0, pending = 0; j < 8; j++)
			pending += __builtin_popcount(state_reg(&state, APIC_IRR + 0x10 * j));
		if (pending != (i <= targets ? number : 0)) {
			ksft_print_msg("target %u: %d pending\n", i, pending);
			return false;
		}
	}
	return true;
}
