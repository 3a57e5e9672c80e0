// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts from outside: lines, messages, their routes, and irqfds.
 */
#include <poll.h>

#include "irq_vm.h"

int irq_line(struct irq_vm *ivm, u32 gsi, int level)
{
	struct kvm_irq_level irq = { .irq = gsi, .level = level };

	vm_ioctl(ivm->vm, KVM_IRQ_LINE_STATUS, &irq);
	return irq.status;
}

int signal_msi(struct irq_vm *ivm, u32 addr_lo, u32 addr_hi, u32 data)
{
	struct kvm_msi msi = {
		.address_lo = addr_lo,
		.address_hi = addr_hi,
		.data = data,
	};
	int r = __vm_ioctl(ivm->vm, KVM_SIGNAL_MSI, &msi);

	return r < 0 ? -errno : r;
}

struct kvm_irq_routing *routing_create(void)
{
	struct kvm_irq_routing *r;

	r = calloc(1, sizeof(*r) + KVM_MAX_IRQ_ROUTES * sizeof(r->entries[0]));
	TEST_ASSERT(r, "out of memory");
	return r;
}

static struct kvm_irq_routing_entry *routing_next(struct kvm_irq_routing *r)
{
	TEST_ASSERT(r->nr < KVM_MAX_IRQ_ROUTES, "too many routes");
	return &r->entries[r->nr++];
}

void routing_add_msi(struct kvm_irq_routing *r, u32 gsi, u32 addr_lo,
		     u32 addr_hi, u32 data)
{
	struct kvm_irq_routing_entry *e = routing_next(r);

	e->gsi = gsi;
	e->type = KVM_IRQ_ROUTING_MSI;
	e->u.msi.address_lo = addr_lo;
	e->u.msi.address_hi = addr_hi;
	e->u.msi.data = data;
}

void routing_add_pin(struct kvm_irq_routing *r, u32 gsi, u32 chip, u32 pin)
{
	struct kvm_irq_routing_entry *e = routing_next(r);

	e->gsi = gsi;
	e->type = KVM_IRQ_ROUTING_IRQCHIP;
	e->u.irqchip.irqchip = chip;
	e->u.irqchip.pin = pin;
}

void routing_add_line(struct kvm_irq_routing *r, u32 gsi)
{
	routing_add_pin(r, gsi, KVM_IRQCHIP_IOAPIC, gsi);
	if (gsi < 2 * PIC_PINS)
		routing_add_pin(r, gsi, gsi < PIC_PINS ? KVM_IRQCHIP_PIC_MASTER :
							 KVM_IRQCHIP_PIC_SLAVE,
				gsi % PIC_PINS);
}

void routing_commit(struct irq_vm *ivm, struct kvm_irq_routing *r)
{
	vm_ioctl(ivm->vm, KVM_SET_GSI_ROUTING, r);
}

int irqfd_assign(struct irq_vm *ivm, int fd, u32 gsi, int resamplefd)
{
	struct kvm_irqfd irqfd = {
		.fd = fd,
		.gsi = gsi,
		.flags = resamplefd >= 0 ? KVM_IRQFD_FLAG_RESAMPLE : 0,
		.resamplefd = resamplefd,
	};

	return __vm_ioctl(ivm->vm, KVM_IRQFD, &irqfd) ? -errno : 0;
}

void eventfd_signal(int fd)
{
	u64 one = 1;

	TEST_ASSERT_EQ(write(fd, &one, sizeof(one)), (ssize_t)sizeof(one));
}

u64 eventfd_take(int fd, int timeout_ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	u64 val;

	if (poll(&pfd, 1, timeout_ms) != 1)
		return 0;
	TEST_ASSERT_EQ(read(fd, &val, sizeof(val)), (ssize_t)sizeof(val));
	return val;
}
