/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of bench share: machines, operations, and how rounds of one are
 * counted.
 */
#ifndef FERRIC_SELFTESTS_BENCH_H
#define FERRIC_SELFTESTS_BENCH_H

#include "count.h"
#include "exit_cost_guest.h"
#include "irq_vm.h"
#include "provider.h"

/*
 * KVM's VM and ferric's take turns with so many rounds, of which the first fill
 * caches and are left out.
 */
#define NR_BATCHES		9
/* Of what differs most from round to round. */
#define NR_MORE_BATCHES		27
#define NR_FIRST		4
#define NR_COUNTED		11
#define NR_BATCH		(NR_FIRST + NR_COUNTED)

/* Where the vectors begin of what is sent to vCPUs that do not run. */
#define FIRST_VECTOR		0x31

/* Shared by guest and host. */
struct bench_meter {
	op_t op;
	u64 a, b;
	u64 step;		/* of b, from round to round */
	u64 ticks;		/* of the TSC, in which the timer does not fire yet */
	op_t eoi;
	bool spin;		/* the targets do, instead of halting */
	bool until_eoi;		/* a round ends after the target's EOI */
	u32 expected;		/* interrupts in a round */
	u32 arrived;
	bool sent;		/* the sender is back where it came from */
	bool ended;		/* the last of them has come */
	bool stop;		/* for the targets */
	u32 ready;		/* targets that wait for interrupts */
	u64 period, phase;	/* when a round may begin, by the guest's TSC; or 0 */
	u32 repeated;		/* rounds, see MAX_DOUBLED */
	struct count count[NR_BATCH];
};

/* More operations, beside those of exit_cost_guest.h. */
#define PV_IPI_TO(first, number)	((u64)(first) << 32 | (number))
void op_pv_ipi(u64 to, u64 vector);
void op_hv_ipi(u64 mask, u64 vector);
/* To the virtual processors from 1 on, or to all there are, for 0. */
void op_hv_ipi_ex(u64 number, u64 vector);

/* Guest functions for cpu_call(), whose argument is the meter; see guest.c. */
u64 bench_op(u64 meter, u64 unused, u64 unused2);
u64 bench_self(u64 meter, u64 unused, u64 unused2);
u64 bench_eoi(u64 meter, u64 unused, u64 unused2);
u64 bench_timer(u64 meter, u64 unused, u64 unused2);
u64 bench_send(u64 meter, u64 unused, u64 unused2);
u64 bench_target(u64 meter, u64 unused, u64 unused2);
void bench_on_irq(u8 vector);

/* A VM: a vCPU that is measured, targets that can run, and targets that cannot. */
struct shape {
	bool x2apic;
	bool hyperv;
	u32 runnable;
	u32 first_id;		/* of the targets */
	u32 idle;
};

struct machine {
	const struct shape *shape;
	struct irq_vm *ivm;
	struct irq_cpu *cpu;	/* that is measured; on the host's CPU 0 */
	struct bench_meter *meter;
	gva_t meter_gva;
	int *idle;		/* file descriptors */
	struct kvm_lapic_state *initial;	/* of the runnable ones, then idle */
};

struct operation {
	const char *name;
	u32 shape;
	bool (*run)(struct machine *m, const struct operation *o);
	op_t op;
	u64 a, b;
	u32 targets;
	u32 icr2;		/* in xAPIC mode */
};

/* machine.c */
struct machine *machine_create(enum provider provider, const struct shape *shape);
void machine_free(struct machine *m);
/* As it was created, but for the guest's program. */
void machine_reset(struct machine *m);
/* Each of the first @targets has so many interrupts pending, and nobody else any. */
bool machine_has_pending(struct machine *m, u32 targets, int number);
int idle_vcpu_create(int vm_fd, u32 id, bool x2apic);
void idle_vcpu_enable(int fd, bool x2apic);
u32 nr_host_cpus(void);

/* operations.c */
extern const struct shape shapes[];
extern const u32 nr_shapes;
extern const struct operation operations[];
extern const u32 nr_operations;

/* runs.c: one batch of rounds, into the meter. */
void prepare(struct machine *m, const struct operation *o);
bool run_op(struct machine *m, const struct operation *o);
bool run_to_stopped(struct machine *m, const struct operation *o);
bool run_hv_to_stopped(struct machine *m, const struct operation *o);
bool run_to_halted(struct machine *m, const struct operation *o);
bool run_to_running(struct machine *m, const struct operation *o);
bool run_hv_to_halted(struct machine *m, const struct operation *o);
bool run_self(struct machine *m, const struct operation *o);
bool run_eoi(struct machine *m, const struct operation *o);
bool run_register(struct machine *m, const struct operation *o);
bool run_cr8(struct machine *m, const struct operation *o);
bool run_arm_deadline(struct machine *m, const struct operation *o);
bool run_fire(struct machine *m, const struct operation *o);
bool run_signal_msi(struct machine *m, const struct operation *o);
bool run_irqfd_msi(struct machine *m, const struct operation *o);
bool run_irqfd_msi_to_halted(struct machine *m, const struct operation *o);
bool run_resample(struct machine *m, const struct operation *o);
bool run_get_lapic(struct machine *m, const struct operation *o);
bool run_set_lapic(struct machine *m, const struct operation *o);

/* boot.c: the work of many vCPUs that appear, and their memory. */
struct boot {
	u32 vcpus;
	u32 rounds;
	/* Of ferric's in each: they are much shorter. */
	u32 ferrics;
};

/*
 * A VM that has one vCPU more for each boot, so that each begins at another object of
 * the kernel's slabs: at the same one all rounds may cost the page that one run more
 * needs than another.
 */
struct aside {
	struct kvm_vm *vm;
	int fds[64];
	u32 number;
};

extern const struct boot boots[];
extern const u32 nr_boots;
bool count_boot(enum provider provider, u32 vcpus, struct count *create, struct count *map);
void aside_create(struct aside *aside);
void aside_grow(struct aside *aside);
void aside_free(struct aside *aside);
void measure_memory(enum provider provider, long *vm_bytes, long *vcpu_bytes);

/* memory.c: the memory that the kernel does not use, in bytes. */
long memory_free(void);

#endif /* FERRIC_SELFTESTS_BENCH_H */
