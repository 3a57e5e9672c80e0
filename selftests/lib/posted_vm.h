/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A virtual machine on an Intel processor, and a device behind an IOMMU that
 * posts the device's interrupts: selftests/fake_iommu, if its module is loaded.
 */
#ifndef FERRIC_SELFTESTS_POSTED_VM_H
#define FERRIC_SELFTESTS_POSTED_VM_H

#include "../fake_iommu/fake_iommu.h"
#include "irq_vm.h"
#include "provider.h"

struct posted_vm {
	struct irq_vm *ivm;
	struct irq_cpu *cpu;		/* TARGET */
	struct irq_cpu *other;		/* OTHER, which does not run by itself */
	struct kvm_irq_routing *routes;
	int eventfd;			/* with an irqfd for GSI */
	int device;			/* not connected yet; -1: there is none */
};

#define GSI			24
#define TARGET			1	/* the vCPU that is posted to */
#define OTHER			2
#define NR_VCPUS		3

struct posted_vm posted_vm_create(enum provider provider);
void posted_vm_free(struct posted_vm *pvm);

/* The GSI's only route; there is none if @data is 0. */
void posted_vm_route(struct posted_vm *pvm, u32 addr, u32 data);

/*
 * Has KVM inject all interrupts of the VM as on a processor without APICv, or
 * not: SynIC's AutoEOI, on the other vCPU, wants it.
 */
void posted_vm_inhibit_apicv(struct posted_vm *pvm, bool inhibit);

/* -1 if there is none. */
int device_open(void);
/* Its MSI may bypass the host, to the irqfd of @eventfd. */
void device_connect(int device, int eventfd);
/* It interrupts. */
enum fake_iommu_fired device_fire(int device);
struct fake_iommu_state device_state(int device);

/* How often the host's interrupt of that name in /proc/interrupts has come. */
u64 host_interrupts(const char *name);

/* The caller's or another thread, to the CPU number @index that the caller had. */
void pin_thread(pthread_t thread, int index);

#endif /* FERRIC_SELFTESTS_POSTED_VM_H */
