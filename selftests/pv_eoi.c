// SPDX-License-Identifier: GPL-2.0
/*
 * PV EOI (Documentation/virt/kvm/x86/msr.rst, MSR_KVM_EOI_EN): the guest may
 * clear a bit in its memory in place of an EOI, and may take that memory away
 * or end the arrangement while an EOI is outstanding.
 */
#include <pthread.h>

#include "apicv.h"
#include "irq_vm.h"
#include "harness.h"

#define VECTOR			0x51
#define ENABLED			1ull
#define SLOT			10
#define FLAG_GPA		0x40000000ull	/* in a slot of its own */

FIXTURE(pv_eoi) {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;
	u32 *flag;		/* the host's mapping */
};

/*
 * With APICv the processor takes the EOI, and KVM has none to offer; unless the
 * VM has another vCPU with an ID of its own choice, which inhibits APICv.
 */
static void inhibit_apicv(struct irq_cpu *other)
{
	if (!apicv_is_on())
		return;
	cpu_enable_apic(other, false);
	cpu_apic_write(other, APIC_ID, SET_APIC_DEST_FIELD(77));
}

FIXTURE_SETUP(pv_eoi)
{
	self->ivm = irq_vm_create(2, IRQCHIP_FULL, true);
	inhibit_apicv(&self->ivm->cpu[1]);
	self->cpu = &self->ivm->cpu[0];
	self->cpu->guest->eoi = EOI_NONE;
	vm_userspace_mem_region_add(self->ivm->vm, VM_MEM_SRC_ANONYMOUS,
				    FLAG_GPA, SLOT, 1, 0);
	virt_pg_map(self->ivm->vm, FLAG_GPA, FLAG_GPA);
	self->flag = addr_gpa2hva(self->ivm->vm, FLAG_GPA);
	cpu_wrmsr(self->cpu, MSR_KVM_PV_EOI_EN, FLAG_GPA | ENABLED);
}

FIXTURE_TEARDOWN(pv_eoi)
{
	irq_vm_free(self->ivm);
}

static void send(struct irq_cpu *to, u8 vector)
{
	TEST_ASSERT_EQ(signal_msi(to->ivm, MSI_ADDR(to->vcpu->id), 0, vector), 1);
}

/*
 * Takes what is pending; then says whether the EOI may be skipped, and does.
 * KVM takes the offer back at the first exit, and the host may have caused one:
 * not to be offered it once proves nothing.  And so it is one instruction that
 * asks and accepts, as in a guest's kernel: who writes what is no offer any more
 * has skipped an EOI that is due.
 */
static u64 guest_take_and_skip_eoi(u64 gva, u64 skip, u64 unused)
{
	u32 *flag = (u32 *)gva;
	bool set;

	asm volatile("sti; nop; nop; cli" : : : "memory");
	if (!skip)
		return READ_ONCE(*flag);
	asm volatile("btrl $0, %0" : "+m"(*flag), "=@ccc"(set) : : "memory");
	return set;
}

#define NR_TRIES		200

static void take_until_offered(struct irq_cpu *cpu, bool skip)
{
	int i;

	for (i = 0; i < NR_TRIES; i++) {
		send(cpu, VECTOR);
		if (cpu_call(cpu, guest_take_and_skip_eoi, FLAG_GPA, skip, 0)) {
			cpu_clear_log(cpu);
			return;
		}
		cpu_apic_write(cpu, APIC_EOI, 0);
		TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 0);
	}
	TEST_FAIL("PV EOI was never offered");
}

TEST_F(pv_eoi, skipped)
{
	struct irq_cpu *cpu = self->cpu;

	take_until_offered(cpu, true);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 0);
	/* And the next one, of lower priority, gets through. */
	send(cpu, VECTOR - 0x10);
	cpu_take_irqs(cpu);
	cpu_expect_log(cpu, VECTOR - 0x10);
}

TEST_F(pv_eoi, not_skipped)
{
	struct irq_cpu *cpu = self->cpu;

	take_until_offered(cpu, false);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 1);
	TEST_ASSERT_EQ(*self->flag, 0);
	cpu_apic_write(cpu, APIC_EOI, 0);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 0);
	cpu_rdtsc(cpu);
	TEST_ASSERT_EQ(*self->flag, 0);
}

TEST_F(pv_eoi, not_offered_if_the_eoi_matters)
{
	struct irq_cpu *cpu = self->cpu;
	int i;

	take_until_offered(cpu, true);
	ioapic_set_rte(self->ivm, 20, RTE_LEVEL | VECTOR);
	for (i = 0; i < NR_TRIES; i++) {
		/* Another one waits. */
		send(cpu, VECTOR + 0x20);
		send(cpu, VECTOR + 0x10);
		TEST_ASSERT_EQ(cpu_call(cpu, guest_take_and_skip_eoi, FLAG_GPA, true, 0), 0);
		cpu_apic_write(cpu, APIC_EOI, 0);
		cpu_take_irqs(cpu);
		cpu_apic_write(cpu, APIC_EOI, 0);
		cpu_expect_log(cpu, VECTOR + 0x20, VECTOR + 0x10);

		/* The I/O APIC has to know. */
		irq_line(self->ivm, 20, 1);
		irq_line(self->ivm, 20, 0);
		TEST_ASSERT_EQ(cpu_call(cpu, guest_take_and_skip_eoi, FLAG_GPA, true, 0), 0);
		cpu_apic_write(cpu, APIC_EOI, 0);
		cpu_expect_log(cpu, VECTOR);
	}
	TEST_ASSERT(!(ioapic_rte(self->ivm, 20) & RTE_REMOTE_IRR), "no EOI");
}

TEST_F(pv_eoi, arguments)
{
	struct irq_cpu *cpu = self->cpu;
	int bit;

	for (bit = 1; bit < 2; bit++)
		TEST_ASSERT_EQ(cpu_wrmsr_safe(cpu, MSR_KVM_PV_EOI_EN,
					      FLAG_GPA | ENABLED | BIT(bit)), GP_VECTOR);
	/* Where there is no memory. */
	TEST_ASSERT_EQ(cpu_wrmsr_safe(cpu, MSR_KVM_PV_EOI_EN, 1ull << 45 | ENABLED),
		       GP_VECTOR);
	/* At the end of it, and disabled anywhere. */
	cpu_wrmsr(cpu, MSR_KVM_PV_EOI_EN, (FLAG_GPA + PAGE_SIZE - 4) | ENABLED);
	cpu_wrmsr(cpu, MSR_KVM_PV_EOI_EN, 1ull << 45);
	cpu_wrmsr(cpu, MSR_KVM_PV_EOI_EN, 0);
}

/*
 * The memory goes while the guest runs with the flag set, which the exit then
 * cannot take back; and then the guest disables PV EOI.
 */
struct shared {
	u32 ready;
	u32 go;
};

static u64 guest_take_and_disable(u64 shared_gva, u64 unused, u64 unused2)
{
	struct shared *s = (void *)shared_gva;
	u32 set;

	/* Have all memory there, so that nothing more makes an exit. */
	WRITE_ONCE(s->ready, 0);
	asm volatile("sti; nop; nop; cli" : : : "memory");
	set = READ_ONCE(*(u32 *)FLAG_GPA);
	WRITE_ONCE(s->ready, 1);
	while (!READ_ONCE(s->go))
		cpu_relax();
	wrmsr(MSR_KVM_PV_EOI_EN, 0);
	return set;
}

struct remover {
	struct kvm_vm *vm;
	struct shared *shared;
};

static void set_memory(struct kvm_vm *vm, void *hva, u64 size)
{
	TEST_ASSERT_EQ(__vm_set_user_memory_region(vm, SLOT, 0, FLAG_GPA, size, hva), 0);
}

static void *remove_memory(void *arg)
{
	struct remover *r = arg;

	while (!READ_ONCE(r->shared->ready))
		cpu_relax();
	set_memory(r->vm, NULL, 0);
	WRITE_ONCE(r->shared->go, 1);
	return NULL;
}

TEST_F(pv_eoi, disabled_while_pending)
{
	struct irq_cpu *cpu = self->cpu;
	gva_t gva = vm_alloc_page(self->ivm->vm);
	struct remover remover = {
		.vm = self->ivm->vm,
		.shared = addr_gva2hva(self->ivm->vm, gva),
	};
	bool happened = false;
	pthread_t thread;
	int i;

	for (i = 0; i < NR_TRIES && !happened; i++) {
		*remover.shared = (struct shared) {};
		take_until_offered(cpu, true);
		pthread_create(&thread, NULL, remove_memory, &remover);
		send(cpu, VECTOR);
		/* An exit that cannot read the flag takes it for an EOI. */
		if (cpu_call(cpu, guest_take_and_disable, gva, 0, 0))
			happened = !lapic_count(cpu, APIC_ISR);
		pthread_join(thread, NULL);
		cpu_expect_log(cpu, VECTOR);

		/* The local APIC goes on without it. */
		cpu_apic_write(cpu, APIC_EOI, 0);
		TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 0);
		send(cpu, VECTOR);
		cpu_take_irqs(cpu);
		cpu_expect_log(cpu, VECTOR);
		TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 1);
		cpu_apic_write(cpu, APIC_EOI, 0);
		TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 0);

		set_memory(remover.vm, self->flag, PAGE_SIZE);
		*self->flag = 0;
		cpu_wrmsr(cpu, MSR_KVM_PV_EOI_EN, FLAG_GPA | ENABLED);
	}
	TEST_ASSERT(happened, "the memory never went in time");
}

TEST_F(pv_eoi, restored_state_has_nothing_in_service)
{
	struct irq_cpu *cpu = self->cpu;
	struct kvm_lapic_state state;

	take_until_offered(cpu, false);
	/* Nothing in service, whatever the flag says. */
	lapic_get(cpu, &state);
	memset(&state.regs[APIC_ISR], 0, 0x80);
	lapic_set(cpu, &state);
	TEST_ASSERT_EQ(cpu_call(cpu, guest_take_and_skip_eoi, FLAG_GPA, true, 0), 0);
	TEST_ASSERT_EQ(lapic_count(cpu, APIC_ISR), 0);
}

TEST_HARNESS_MAIN
