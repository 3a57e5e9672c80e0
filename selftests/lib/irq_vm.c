// SPDX-License-Identifier: GPL-2.0
/*
 * The virtual machine of irq_vm.h: guest loop, interrupt log, state.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>

#include "cpu_thread.h"
#include "irq_vm.h"
#include "tcg.h"

#define UCALL_PORT		0x1000
/* A vCPU that waits for a call says so here: a ucall takes three ioctls. */
#define IDLE_PORT		0x1001
#define STOP_SIGNAL		SIGUSR1
#define XEN_HYPERCALL_MSR	0x40000200

/*
 * Guest side.
 */
static void guest_irq(struct ex_regs *regs)
{
	struct guest_cpu *cpu = this_guest_cpu();
	u8 vector = regs->vector;
	u32 nr = cpu->nr_irqs;

	if (nr < IRQ_LOG_SIZE) {
		cpu->log[nr] = vector;
		cpu->tsc[nr] = rdtsc();
	}
	WRITE_ONCE(cpu->nr_irqs, nr + 1);
	if (cpu->stop_after && nr + 1 >= cpu->stop_after)
		regs->rflags &= ~X86_EFLAGS_IF;

	if (vector == NMI_VECTOR)
		return;

	if (cpu->on_irq)
		cpu->on_irq(vector);
	if (cpu->rearm_left) {
		cpu->rearm_left--;
		wrmsr(MSR_TSC_DEADLINE, rdtsc() + cpu->rearm_cycles);
	}

	switch (cpu->eoi) {
	case EOI_XAPIC:
		xapic_write_reg(APIC_EOI, 0);
		break;
	case EOI_X2APIC:
		wrmsr(APIC_BASE_MSR + (APIC_EOI >> 4), 0);
		break;
	case EOI_PIC:
		if ((u8)(vector - cpu->pic_base) >= PIC_PINS)
			guest_out8(0xa0, 0x20);
		guest_out8(0x20, 0x20);
		break;
	default:
		break;
	}
}

void guest_pause(void)
{
	guest_out8(IDLE_PORT, 0);
}

static void guest_main(void)
{
	struct guest_cpu *cpu = this_guest_cpu();

	for (;;) {
		guest_pause();
		cpu->ret = cpu->fn(cpu->args[0], cpu->args[1], cpu->args[2]);
		cpu->nr_calls++;
	}
}

/*
 * Creation.
 */
static enum irqchip_mode next_irqchip_mode;

void __wrap_vm_create_irqchip(struct kvm_vm *vm)
{
	switch (next_irqchip_mode) {
	case IRQCHIP_FULL:
		vm_ioctl(vm, KVM_CREATE_IRQCHIP, NULL);
		break;
	case IRQCHIP_SPLIT:
		vm_enable_cap(vm, KVM_CAP_SPLIT_IRQCHIP, IOAPIC_PINS);
		break;
	case IRQCHIP_NONE:
		return;
	}
	vm->has_irqchip = true;
}

struct irq_vm *irq_vm_create_empty(enum irqchip_mode mode)
{
	struct irq_vm *ivm = calloc(1, sizeof(*ivm));
	int vector;

	TEST_ASSERT(ivm, "out of memory");
	ivm->mode = mode;
	next_irqchip_mode = mode;
	ivm->vm = vm_create(IRQ_MAX_CPUS);
	next_irqchip_mode = IRQCHIP_FULL;

	vm_install_exception_handler(ivm->vm, NMI_VECTOR, guest_irq);
	for (vector = 32; vector < 256; vector++)
		vm_install_exception_handler(ivm->vm, vector, guest_irq);

	irq_vm_map_mmio(ivm, APIC_DEFAULT_GPA);
	irq_vm_map_mmio(ivm, IOAPIC_GPA);
	return ivm;
}

struct irq_cpu *irq_vm_add_cpu(struct irq_vm *ivm, u32 id)
{
	struct irq_cpu *cpu = &ivm->cpu[ivm->nr_cpus];
	struct kvm_sregs sregs;

	TEST_ASSERT(ivm->nr_cpus < IRQ_MAX_CPUS, "too many vCPUs");
	ivm->nr_cpus++;

	cpu->ivm = ivm;
	cpu->vcpu = vm_vcpu_add(ivm->vm, id, guest_main);
	cpu->guest_gva = vm_alloc(ivm->vm, sizeof(*cpu->guest), KVM_UTIL_MIN_VADDR);
	cpu->guest = addr_gva2hva(ivm->vm, cpu->guest_gva);
	memset(cpu->guest, 0, sizeof(*cpu->guest));
	cpu->guest->self = (void *)cpu->guest_gva;
	cpu->guest->index = ivm->nr_cpus - 1;
	cpu->guest->pic_base = 32;

	vcpu_sregs_get(cpu->vcpu, &sregs);
	sregs.gs.base = cpu->guest_gva;
	vcpu_sregs_set(cpu->vcpu, &sregs);
	return cpu;
}

struct irq_vm *irq_vm_create(int nr_cpus, enum irqchip_mode mode, bool x2apic)
{
	struct irq_vm *ivm = irq_vm_create_empty(mode);
	int i;

	for (i = 0; i < nr_cpus; i++)
		cpu_enable_apic(irq_vm_add_cpu(ivm, i), x2apic);
	return ivm;
}

void irq_vm_recreate(struct irq_vm *ivm)
{
	u32 ids[IRQ_MAX_CPUS];
	int i;

	for (i = 0; i < ivm->nr_cpus; i++)
		ids[i] = ivm->cpu[i].vcpu->id;
	kvm_vm_release(ivm->vm);
	next_irqchip_mode = ivm->mode;
	kvm_vm_restart(ivm->vm);
	next_irqchip_mode = IRQCHIP_FULL;
	for (i = 0; i < ivm->nr_cpus; i++)
		ivm->cpu[i].vcpu = vm_vcpu_recreate(ivm->vm, ids[i]);
}

void irq_vm_free(struct irq_vm *ivm)
{
	kvm_vm_free(ivm->vm);
	free(ivm);
}

struct irq_vm *irq_vm_keep_static_keys(void)
{
	struct irq_vm *ivm = irq_vm_create_empty(IRQCHIP_FULL);
	struct irq_cpu *cpu = irq_vm_add_cpu(ivm, 0);
	struct kvm_xen_hvm_config xen = {
		.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL,
		.msr = XEN_HYPERCALL_MSR,
	};

	if (kvm_check_cap(KVM_CAP_XEN_HVM))
		vm_ioctl(ivm->vm, KVM_XEN_HVM_CONFIG, &xen);
	vcpu_set_msr(cpu->vcpu, MSR_IA32_APICBASE, 0);
	/* By software it is disabled after a reset. */
	irq_vm_add_cpu(ivm, 1);
	return ivm;
}

void irq_vm_outlive_tests(void)
{
	int null;

	if (!is_tcg())
		return;
	prctl(PR_SET_PDEATHSIG, 0);
	/* Nobody shall wait for the end of its output. */
	null = open("/dev/null", O_RDWR);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	for (;;)
		pause();
}

void irq_vm_map_mmio(struct irq_vm *ivm, gpa_t gpa)
{
	virt_pg_map(ivm->vm, gpa, gpa);
}

/*
 * Running.
 */
static void handle_port_io(struct irq_cpu *cpu)
{
	struct kvm_run *run = cpu->vcpu->run;
	void *data = (u8 *)run + run->io.data_offset;
	u32 val = 0;

	cpu->nr_pio++;
	/* Nothing is there: reads float high. */
	if (run->io.direction == KVM_EXIT_IO_IN) {
		memset(data, 0xff, run->io.size * run->io.count);
	} else if (cpu->ivm->port_written) {
		memcpy(&val, data, run->io.size);
		cpu->ivm->port_written(cpu, run->io.port, val);
	}
}

bool cpu_resume(struct irq_cpu *cpu)
{
	struct kvm_vcpu *vcpu = cpu->vcpu;
	struct kvm_run *run = vcpu->run;
	struct ucall uc;

	for (;;) {
		if (__vcpu_run(vcpu)) {
			TEST_ASSERT(errno == EINTR, KVM_IOCTL_ERROR(KVM_RUN, -1));
			if (!READ_ONCE(run->immediate_exit))
				continue;
			WRITE_ONCE(run->immediate_exit, 0);
			return false;
		}
		assert_on_unhandled_exception(vcpu);

		switch (run->exit_reason) {
		case KVM_EXIT_IO:
			if (run->io.port == IDLE_PORT)
				return true;
			if (run->io.port != UCALL_PORT) {
				handle_port_io(cpu);
				break;
			}
			switch (get_ucall(vcpu, &uc)) {
			case UCALL_ABORT:
				REPORT_GUEST_ASSERT(uc);
				break;
			default:
				TEST_FAIL("unexpected ucall %lu", uc.cmd);
			}
			break;
		case KVM_EXIT_IOAPIC_EOI:
			if (cpu->nr_ioapic_eoi < IRQ_LOG_SIZE)
				cpu->ioapic_eoi[cpu->nr_ioapic_eoi] = run->eoi.vector;
			cpu->nr_ioapic_eoi++;
			break;
		case KVM_EXIT_MMIO:
			cpu->nr_mmio++;
			cpu->mmio_addr = run->mmio.phys_addr;
			if (!run->mmio.is_write)
				memset(run->mmio.data, 0xff, run->mmio.len);
			break;
		case KVM_EXIT_TPR_ACCESS:
			cpu->nr_tpr_access++;
			cpu->tpr_rip = run->tpr_access.rip;
			break;
		case KVM_EXIT_HYPERV:
			/* The SynIC's MSRs have changed: nobody here minds. */
			break;
		case KVM_EXIT_SET_TPR:
			cpu->nr_set_tpr++;
			break;
		case KVM_EXIT_IRQ_WINDOW_OPEN:
			cpu->nr_irq_window++;
			run->request_interrupt_window = 0;
			break;
		default:
			TEST_FAIL("vCPU %u: unexpected exit %u (%s)", vcpu->id,
				  run->exit_reason,
				  exit_reason_str(run->exit_reason));
		}
	}
}

void cpu_begin_call(struct irq_cpu *cpu, guest_fn_t fn, u64 a, u64 b, u64 c)
{
	cpu->guest->fn = fn;
	cpu->guest->args[0] = a;
	cpu->guest->args[1] = b;
	cpu->guest->args[2] = c;
	/* A stop that came too late for the last one. */
	WRITE_ONCE(cpu->vcpu->run->immediate_exit, 0);
	if (!cpu->started) {
		/* Up to the loop's first call to the host. */
		cpu->started = true;
		cpu_resume(cpu);
	}
}

u64 cpu_end_call(struct irq_cpu *cpu)
{
	TEST_ASSERT(cpu_resume(cpu), "stopped in a call");
	return cpu->guest->ret;
}

u64 cpu_call(struct irq_cpu *cpu, guest_fn_t fn, u64 a, u64 b, u64 c)
{
	u32 nr_calls;
	u64 ret;

	cpu_begin_call(cpu, fn, a, b, c);
	nr_calls = READ_ONCE(cpu->guest->nr_calls);
	ret = cpu_end_call(cpu);
	/* The same exit once more would pass for the next call's end. */
	TEST_ASSERT(READ_ONCE(cpu->guest->nr_calls) == nr_calls + 1,
		    "vCPU %u: the guest has made %u calls for one", cpu->vcpu->id,
		    READ_ONCE(cpu->guest->nr_calls) - nr_calls);
	return ret;
}

/* The signal is for KVM_RUN to return. */
static void ignore_signal(int signal)
{
}

void cpu_stop(struct irq_cpu *cpu, pthread_t thread)
{
	struct sigaction action = { .sa_handler = ignore_signal };

	TEST_ASSERT(!sigaction(STOP_SIGNAL, &action, NULL), "cannot catch a signal");
	/* For a thread that is not in KVM_RUN now. */
	WRITE_ONCE(cpu->vcpu->run->immediate_exit, 1);
	TEST_ASSERT(!pthread_kill(thread, STOP_SIGNAL), "cannot signal a vCPU");
}

/*
 * State.
 */
void lapic_get(struct irq_cpu *cpu, struct kvm_lapic_state *state)
{
	vcpu_ioctl(cpu->vcpu, KVM_GET_LAPIC, state);
}

void lapic_set(struct irq_cpu *cpu, struct kvm_lapic_state *state)
{
	vcpu_ioctl(cpu->vcpu, KVM_SET_LAPIC, state);
}

u32 lapic_reg(struct irq_cpu *cpu, u32 reg)
{
	struct kvm_lapic_state state;

	lapic_get(cpu, &state);
	return state_reg(&state, reg);
}

bool lapic_vector(struct irq_cpu *cpu, u32 base, u8 vector)
{
	u32 bits = lapic_reg(cpu, base + APIC_VECTOR_TO_REG_OFFSET(vector));

	return bits & BIT(APIC_VECTOR_TO_BIT_NUMBER(vector));
}

int lapic_count(struct irq_cpu *cpu, u32 base)
{
	struct kvm_lapic_state state;
	int i, count = 0;

	lapic_get(cpu, &state);
	for (i = 0; i < 8; i++)
		count += __builtin_popcount(state_reg(&state, base + 0x10 * i));
	return count;
}

bool lapic_wait_irr(struct irq_cpu *cpu, u8 vector)
{
	return poll_until(lapic_vector(cpu, APIC_IRR, vector));
}

u32 cpu_mp_state(struct irq_cpu *cpu)
{
	struct kvm_mp_state state;

	vcpu_mp_state_get(cpu->vcpu, &state);
	return state.mp_state;
}

u32 ioapic_read(struct irq_vm *ivm, u8 reg)
{
	cpu_mmio_write(&ivm->cpu[0], IOAPIC_GPA + IOAPIC_REGSEL, 4, reg);
	return cpu_mmio_read(&ivm->cpu[0], IOAPIC_GPA + IOAPIC_WINDOW, 4);
}

void ioapic_write(struct irq_vm *ivm, u8 reg, u32 val)
{
	cpu_mmio_write(&ivm->cpu[0], IOAPIC_GPA + IOAPIC_REGSEL, 4, reg);
	cpu_mmio_write(&ivm->cpu[0], IOAPIC_GPA + IOAPIC_WINDOW, 4, val);
}

u64 ioapic_rte(struct irq_vm *ivm, int pin)
{
	return ioapic_read(ivm, IOAPIC_REG_RTE(pin)) |
	       (u64)ioapic_read(ivm, IOAPIC_REG_RTE(pin) + 1) << 32;
}

void ioapic_set_rte(struct irq_vm *ivm, int pin, u64 rte)
{
	/* The upper half first, so that nothing goes to the old destination. */
	ioapic_write(ivm, IOAPIC_REG_RTE(pin) + 1, rte >> 32);
	ioapic_write(ivm, IOAPIC_REG_RTE(pin), rte);
}

void irqchip_get(struct irq_vm *ivm, u32 id, struct kvm_irqchip *chip)
{
	memset(chip, 0, sizeof(*chip));
	chip->chip_id = id;
	vm_ioctl(ivm->vm, KVM_GET_IRQCHIP, chip);
}

void irqchip_set(struct irq_vm *ivm, struct kvm_irqchip *chip)
{
	vm_ioctl(ivm->vm, KVM_SET_IRQCHIP, chip);
}
