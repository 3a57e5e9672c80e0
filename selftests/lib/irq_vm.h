/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A virtual machine for irqchip tests, whose guest executes one access at a
 * time on the host's behalf.
 *
 * A test is a linear host program: "write this register on vCPU 0, raise that
 * line, let vCPU 1 take its interrupts, look at the log".  Each vCPU waits in
 * a loop for a guest function to call; interrupts are off except inside
 * cpu_take_irqs(), cpu_wait_irqs() and cpu_halt(), so what is delivered, when,
 * and to whom is decided by the test alone.  All of it runs in one host
 * thread unless the test starts more.
 */
#ifndef FERRIC_SELFTESTS_IRQ_VM_H
#define FERRIC_SELFTESTS_IRQ_VM_H

#include <pthread.h>

#include "apic.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

/* The x2APIC MSR of a register, by its xAPIC offset. */
#define X2APIC_MSR(reg)		(APIC_BASE_MSR + ((reg) >> 4))

/* Registers that the library's apic.h does not name. */
#define APIC_ARBPRI		0x90
#define APIC_LDR		0xd0
#define APIC_DFR		0xe0
#define APIC_TMR		0x180
#define APIC_ESR		0x280
#define APIC_LVTTHMR		0x330
#define APIC_LVTPC		0x340
#define APIC_LVT0		0x350
#define APIC_LVT1		0x360
#define APIC_LVTERR		0x370

#define APIC_DFR_FLAT		0xffffffffu
#define APIC_DFR_CLUSTER	0x0fffffffu
#define APIC_LVT_EXTINT		0x700
#define APIC_SPURIOUS_VECTOR	0xff

#define MSR_TSC_DEADLINE	0x6e0

#define IOAPIC_GPA		0xfec00000ull
#define IOAPIC_REGSEL		0x00
#define IOAPIC_WINDOW		0x10
#define IOAPIC_REG_ID		0x00
#define IOAPIC_REG_VERSION	0x01
#define IOAPIC_REG_ARB		0x02
#define IOAPIC_REG_RTE(pin)	(0x10 + 2 * (pin))
#define IOAPIC_PINS		24
#define PIC_PINS		8	/* of each of the two */

/* Fields of a redirection table entry. */
#define RTE_DM(mode)		((u64)(mode) << 8)
#define RTE_LOWEST		RTE_DM(1)
#define RTE_SMI			RTE_DM(2)
#define RTE_NMI			RTE_DM(4)
#define RTE_INIT		RTE_DM(5)
#define RTE_EXTINT		RTE_DM(7)
#define RTE_LOGICAL		BIT_ULL(11)
#define RTE_STATUS		BIT_ULL(12)
#define RTE_LOW_ACTIVE		BIT_ULL(13)
#define RTE_REMOTE_IRR		BIT_ULL(14)
#define RTE_LEVEL		BIT_ULL(15)
#define RTE_MASKED		BIT_ULL(16)
#define RTE_DEST(id)		((u64)(id) << 56)

/* MSI address and data (SDM volume 3, "Message Signalled Interrupts"). */
#define MSI_ADDR(dest)		(0xfee00000u | ((dest) & 0xff) << 12)
#define MSI_ADDR_LOGICAL	BIT(2)
#define MSI_ADDR_REDIR_HINT	BIT(3)
/* Bits 31:8 of the destination, with KVM_X2APIC_API_USE_32BIT_IDS. */
#define MSI_ADDR_HI(dest)	((u32)(dest) & 0xffffff00u)
#define MSI_DATA_DM(mode)	((mode) << 8)
#define MSI_DATA_LEVEL		BIT(15)

#define IRQ_MAX_CPUS		17
#define IRQ_LOG_SIZE		512

enum irqchip_mode {
	IRQCHIP_FULL,		/* KVM_CREATE_IRQCHIP */
	IRQCHIP_SPLIT,		/* KVM_CAP_SPLIT_IRQCHIP, 24 pins */
	IRQCHIP_NONE,
};

/* How the guest's interrupt handler ends an interrupt. */
enum irq_eoi {
	EOI_NONE,
	EOI_XAPIC,
	EOI_X2APIC,
	EOI_PIC,		/* non-specific, to the slave too for its IRQs */
};

typedef u64 (*guest_fn_t)(u64 a, u64 b, u64 c);

/*
 * What a vCPU and the host share.  The guest finds its own by the base of GS.
 */
struct guest_cpu {
	struct guest_cpu *self;	/* guest virtual address; must be first */
	guest_fn_t fn;
	u64 args[3];
	u64 ret;
	u32 nr_calls;
	u64 fault;		/* vector that the last MSR access raised, or 0 */

	u32 index;		/* in irq_vm */
	u32 eoi;		/* enum irq_eoi */
	u8 pic_base;		/* vector of IRQ 0, for EOI_PIC */
	u32 rearm_left;		/* the handler writes the TSC deadline so often */
	u64 rearm_cycles;
	void (*on_irq)(u8 vector);	/* the handler calls it before the EOI */

	bool stop;		/* for a guest function that goes on until then */
	u32 stop_after;		/* so many, interrupts go off; 0: never */
	u32 nr_irqs;		/* since cpu_clear_log(), may exceed the log */
	u8 log[IRQ_LOG_SIZE];	/* vectors in order of arrival */
	u64 tsc[IRQ_LOG_SIZE];	/* when each came */
};

/* Guest side: the vCPU that executes this. */
static inline struct guest_cpu *this_guest_cpu(void)
{
	struct guest_cpu *cpu;

	asm volatile("mov %%gs:0, %0" : "=r"(cpu));
	return cpu;
}

/* Guest side: accesses to ports. */
static inline void guest_out8(u16 port, u8 val)
{
	asm volatile("outb %0, %1" : : "a"(val), "Nd"(port) : "memory");
}

static inline u8 guest_in8(u16 port)
{
	u8 val;

	asm volatile("inb %1, %0" : "=a"(val) : "Nd"(port) : "memory");
	return val;
}

struct irq_vm;

struct irq_cpu {
	struct irq_vm *ivm;
	struct kvm_vcpu *vcpu;
	struct guest_cpu *guest;	/* the host's mapping */
	gva_t guest_gva;
	bool started;
	bool x2apic;			/* mode that cpu_apic_read() uses */

	/* Exits to user space that are not for a guest call. */
	u32 nr_ioapic_eoi;
	u8 ioapic_eoi[IRQ_LOG_SIZE];
	u32 nr_pio;
	u32 nr_mmio;
	u64 mmio_addr;
	u32 nr_tpr_access;
	u64 tpr_rip;
	u32 nr_irq_window;
	u32 nr_set_tpr;
};

struct irq_vm {
	struct kvm_vm *vm;
	enum irqchip_mode mode;
	int nr_cpus;
	struct irq_cpu cpu[IRQ_MAX_CPUS];
	/* Told of what the guest writes to ports; in the vCPU's thread. */
	void (*port_written)(struct irq_cpu *cpu, u16 port, u32 val);
};

/*
 * Create a VM with vCPUs 0 to nr_cpus - 1.  With x2apic they are in x2APIC
 * mode, else in xAPIC mode; software-enabled, with the handler ending
 * interrupts at the local APIC in both cases.
 */
struct irq_vm *irq_vm_create(int nr_cpus, enum irqchip_mode mode, bool x2apic);
/* The VM without vCPUs, for what must be set up before the first. */
struct irq_vm *irq_vm_create_empty(enum irqchip_mode mode);
/* Add a vCPU, as it comes out of reset; it first runs in cpu_call(). */
struct irq_cpu *irq_vm_add_cpu(struct irq_vm *ivm, u32 id);
/*
 * Replace the VM by a new one with the same memory and as many vCPUs, which
 * have to be given their state.
 */
void irq_vm_recreate(struct irq_vm *ivm);
void irq_vm_free(struct irq_vm *ivm);
/* What the linker puts in place of the library's vm_create_irqchip(). */
void __wrap_vm_create_irqchip(struct kvm_vm *vm);

/*
 * A VM that does nothing but keep KVM's static keys on, those that count VMs,
 * Xen's VMs and disabled local APICs.  Where QEMU emulates the CPUs, one of them may go on
 * with an instruction that another has patched, and trap: between the end of the
 * old translation and the store there is time for a new one.  So tests that
 * would turn the keys on and off all the time have this VM beside their own.
 */
struct irq_vm *irq_vm_keep_static_keys(void);
/*
 * For the process that has it, when the tests are over: its end turns the keys off,
 * while others are about to end, too.  Where QEMU emulates the CPUs this does not
 * return; the machine is switched off with that VM in it.
 */
void irq_vm_outlive_tests(void);

/* Put the local APIC into xAPIC or x2APIC mode, software-enabled. */
void cpu_enable_apic(struct irq_cpu *cpu, bool x2apic);

/* Call a guest function on the vCPU and return what it returns. */
u64 cpu_call(struct irq_cpu *cpu, guest_fn_t fn, u64 a, u64 b, u64 c);
/*
 * The same in parts.  In between a test may run the vCPU by itself, for exits
 * that cpu_call() does not know; and a guest function that calls guest_pause()
 * makes cpu_end_call() return early, so that it has to be called once more.
 */
void cpu_begin_call(struct irq_cpu *cpu, guest_fn_t fn, u64 a, u64 b, u64 c);
u64 cpu_end_call(struct irq_cpu *cpu);
void guest_pause(void);
/*
 * For a call in a thread of its own: runs the vCPU until the function has
 * returned, and is then true, or until another thread has stopped it.
 */
bool cpu_resume(struct irq_cpu *cpu);
/* Makes cpu_resume() in @thread return, with the guest's last access complete. */
void cpu_stop(struct irq_cpu *cpu, pthread_t thread);

/* Access guest physical addresses below 4G that irq_vm_map_mmio() mapped. */
void irq_vm_map_mmio(struct irq_vm *ivm, gpa_t gpa);
u64 cpu_mmio_read(struct irq_cpu *cpu, gpa_t gpa, int width);
void cpu_mmio_write(struct irq_cpu *cpu, gpa_t gpa, int width, u64 val);
u32 cpu_in(struct irq_cpu *cpu, u16 port, int width);
void cpu_out(struct irq_cpu *cpu, u16 port, int width, u32 val);
u8 cpu_inb(struct irq_cpu *cpu, u16 port);
void cpu_outb(struct irq_cpu *cpu, u16 port, u8 val);

/* 0 or the vector of the exception that was raised. */
u8 cpu_rdmsr_safe(struct irq_cpu *cpu, u32 msr, u64 *val);
u8 cpu_wrmsr_safe(struct irq_cpu *cpu, u32 msr, u64 val);
u64 cpu_rdmsr(struct irq_cpu *cpu, u32 msr);
void cpu_wrmsr(struct irq_cpu *cpu, u32 msr, u64 val);

/* Local APIC registers by their offset, as MMIO or as MSR. */
u64 cpu_apic_read(struct irq_cpu *cpu, u32 reg);
void cpu_apic_write(struct irq_cpu *cpu, u32 reg, u64 val);
void cpu_send_ipi(struct irq_cpu *cpu, u32 icr_low, u32 dest);
u64 cpu_get_cr8(struct irq_cpu *cpu);
void cpu_set_cr8(struct irq_cpu *cpu, u64 val);
u64 cpu_rdtsc(struct irq_cpu *cpu);

/* Open a window with interrupts on; returns how many arrived in it. */
u32 cpu_take_irqs(struct irq_cpu *cpu);
/* Interrupts on until the log holds @nr, for @cycles at most. */
u32 cpu_wait_irqs(struct irq_cpu *cpu, u32 nr, u64 cycles);
/* sti; hlt; cli.  Returns when an interrupt has come. */
u32 cpu_halt(struct irq_cpu *cpu);
/*
 * Makes KVM look at the vCPU's events when it runs next.  An interrupt is no
 * reason for that where the processor has the local APIC.
 */
void cpu_make_event(struct irq_cpu *cpu);
void cpu_clear_log(struct irq_cpu *cpu);
/* The log holds exactly these vectors, in this order; and is cleared. */
#define cpu_expect_log(cpu, ...) ({					\
	const u8 __vectors[] = { __VA_ARGS__ };				\
									\
	__cpu_expect_log(cpu, __vectors, sizeof(__vectors), __LINE__);	\
})
#define cpu_expect_no_irqs(cpu)	__cpu_expect_log(cpu, NULL, 0, __LINE__)
void __cpu_expect_log(struct irq_cpu *cpu, const u8 *vectors, u32 nr, int line);

/* State as user space sees it; does not run the vCPU. */
void lapic_get(struct irq_cpu *cpu, struct kvm_lapic_state *state);
void lapic_set(struct irq_cpu *cpu, struct kvm_lapic_state *state);
u32 lapic_reg(struct irq_cpu *cpu, u32 reg);
bool lapic_vector(struct irq_cpu *cpu, u32 base, u8 vector);
static inline u32 state_reg(const struct kvm_lapic_state *state, u32 reg)
{
	return *(const u32 *)&state->regs[reg];
}

static inline void state_set_reg(struct kvm_lapic_state *state, u32 reg, u32 val)
{
	*(u32 *)&state->regs[reg] = val;
}

/* Number of vectors in the 256-bit register at @base. */
int lapic_count(struct irq_cpu *cpu, u32 base);
/* Poll, for what KVM delivers from a worker. False after 20 seconds. */
bool lapic_wait_irr(struct irq_cpu *cpu, u8 vector);
u32 cpu_mp_state(struct irq_cpu *cpu);

/* The I/O APIC, through the guest's MMIO on cpu 0 and through the ioctl. */
u32 ioapic_read(struct irq_vm *ivm, u8 reg);
void ioapic_write(struct irq_vm *ivm, u8 reg, u32 val);
u64 ioapic_rte(struct irq_vm *ivm, int pin);
void ioapic_set_rte(struct irq_vm *ivm, int pin, u64 rte);
void irqchip_get(struct irq_vm *ivm, u32 id, struct kvm_irqchip *chip);
void irqchip_set(struct irq_vm *ivm, struct kvm_irqchip *chip);

/* KVM_IRQ_LINE_STATUS; returns the status. */
int irq_line(struct irq_vm *ivm, u32 gsi, int level);
/* KVM_SIGNAL_MSI; returns how many vCPUs took it, or -errno. */
int signal_msi(struct irq_vm *ivm, u32 addr_lo, u32 addr_hi, u32 data);

/* A routing table that grows: one KVM_SET_GSI_ROUTING by routing_commit(). */
struct kvm_irq_routing *routing_create(void);
void routing_add_msi(struct kvm_irq_routing *r, u32 gsi, u32 addr_lo,
		     u32 addr_hi, u32 data);
void routing_add_pin(struct kvm_irq_routing *r, u32 gsi, u32 chip, u32 pin);
/* A line of a PC: the I/O APIC's, and below 16 the PIC's as well. */
void routing_add_line(struct kvm_irq_routing *r, u32 gsi);
void routing_commit(struct irq_vm *ivm, struct kvm_irq_routing *r);

int irqfd_assign(struct irq_vm *ivm, int fd, u32 gsi, int resamplefd);
void eventfd_signal(int fd);
/* What the eventfd holds (and is then 0); waits up to @timeout_ms for one. */
u64 eventfd_take(int fd, int timeout_ms);

#endif /* FERRIC_SELFTESTS_IRQ_VM_H */
