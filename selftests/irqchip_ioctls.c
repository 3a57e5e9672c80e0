// SPDX-License-Identifier: GPL-2.0
/*
 * Every irqchip ioctl of a VM in the wrong order, with wrong sizes, indexes and
 * flags returns the errno of Documentation/virt/kvm/api.rst, and where that is
 * silent the one that KVM's own irqchip has always returned.
 */
#include "irq_ioctl.h"
#include "harness.h"

#define TOO_HIGH_GSI		KVM_MAX_IRQ_ROUTES

static int create_pit2(struct kvm_vm *vm)
{
	struct kvm_pit_config config = { .flags = 0 };

	return __vm_ioctl(vm, KVM_CREATE_PIT2, &config);
}

TEST(create_irqchip)
{
	struct kvm_vm *vm;

	vm = vm_with(IRQCHIP_FULL);
	expect_errno(EEXIST, __vm_ioctl(vm, KVM_CREATE_IRQCHIP, NULL));
	expect_errno(EEXIST, __vm_enable_cap(vm, KVM_CAP_SPLIT_IRQCHIP, 24));
	__vm_vcpu_add(vm, 0);
	expect_errno(EEXIST, __vm_ioctl(vm, KVM_CREATE_IRQCHIP, NULL));
	kvm_vm_free(vm);

	vm = vm_with(IRQCHIP_SPLIT);
	expect_errno(EEXIST, __vm_ioctl(vm, KVM_CREATE_IRQCHIP, NULL));
	expect_errno(EEXIST, __vm_enable_cap(vm, KVM_CAP_SPLIT_IRQCHIP, 24));
	kvm_vm_free(vm);

	vm = vm_with(IRQCHIP_NONE);
	__vm_vcpu_add(vm, 0);
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_CREATE_IRQCHIP, NULL));
	expect_errno(EEXIST, __vm_enable_cap(vm, KVM_CAP_SPLIT_IRQCHIP, 24));
	kvm_vm_free(vm);
}

TEST(split_irqchip_args)
{
	struct kvm_vm *vm = vm_with(IRQCHIP_NONE);
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_SPLIT_IRQCHIP,
		.args = { 24 },
	};

	expect_errno(EINVAL, __vm_enable_cap(vm, KVM_CAP_SPLIT_IRQCHIP,
					     KVM_MAX_IRQ_ROUTES + 1));
	expect_errno(EINVAL, __vm_enable_cap(vm, KVM_CAP_SPLIT_IRQCHIP, ~0ull));
	cap.flags = 1;
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_ENABLE_CAP, &cap));
	/* A refused attempt leaves no irqchip behind. */
	expect_errno(ENXIO, _kvm_irq_line(vm, 0, 1));
	expect_ok(__vm_enable_cap(vm, KVM_CAP_SPLIT_IRQCHIP, KVM_MAX_IRQ_ROUTES));
	kvm_vm_free(vm);

	vm = vm_with(IRQCHIP_NONE);
	expect_ok(__vm_enable_cap(vm, KVM_CAP_SPLIT_IRQCHIP, 0));
	kvm_vm_free(vm);
}

TEST(get_and_set_irqchip)
{
	static const enum irqchip_mode without[] = { IRQCHIP_NONE, IRQCHIP_SPLIT };
	struct kvm_irqchip chip = {};
	struct kvm_vm *vm;
	u32 id;
	int i;

	for (i = 0; i < ARRAY_SIZE(without); i++) {
		vm = vm_with(without[i]);
		for (id = 0; id < 4; id++) {
			chip.chip_id = id;
			expect_errno(ENXIO, __vm_ioctl(vm, KVM_GET_IRQCHIP, &chip));
			expect_errno(ENXIO, __vm_ioctl(vm, KVM_SET_IRQCHIP, &chip));
		}
		kvm_vm_free(vm);
	}

	vm = vm_with(IRQCHIP_FULL);
	for (id = 0; id < 3; id++) {
		chip.chip_id = id;
		expect_ok(__vm_ioctl(vm, KVM_GET_IRQCHIP, &chip));
		TEST_ASSERT_EQ(chip.chip_id, id);
		expect_ok(__vm_ioctl(vm, KVM_SET_IRQCHIP, &chip));
	}
	chip.chip_id = 3;
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_GET_IRQCHIP, &chip));
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_SET_IRQCHIP, &chip));
	chip.chip_id = ~0u;
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_GET_IRQCHIP, &chip));
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_SET_IRQCHIP, &chip));
	expect_errno(EFAULT, ioctl(vm->fd, KVM_GET_IRQCHIP, NOWHERE));
	expect_errno(EFAULT, ioctl(vm->fd, KVM_SET_IRQCHIP, NOWHERE));
	kvm_vm_free(vm);
}

/* The size is part of an ioctl's number: another size is another ioctl. */
TEST(wrong_sizes)
{
	static const unsigned int vm_ioctls[] = {
		KVM_CREATE_IRQCHIP, KVM_GET_IRQCHIP, KVM_SET_IRQCHIP,
		KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS, KVM_SET_GSI_ROUTING,
		KVM_SIGNAL_MSI, KVM_IRQFD, KVM_CREATE_PIT2, KVM_GET_PIT2,
		KVM_SET_PIT2, KVM_REINJECT_CONTROL,
	};
	static const unsigned int vcpu_ioctls[] = {
		KVM_GET_LAPIC, KVM_SET_LAPIC, KVM_INTERRUPT,
		KVM_SET_VAPIC_ADDR, KVM_TPR_ACCESS_REPORTING,
		KVM_GET_MP_STATE, KVM_SET_MP_STATE,
	};
	struct kvm_vm *vm = vm_with(IRQCHIP_FULL);
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, 0);
	u8 buffer[16384] = {};
	unsigned int i, cmd;
	int delta;

	for (delta = -1; delta <= 1; delta += 2) {
		for (i = 0; i < ARRAY_SIZE(vm_ioctls); i++) {
			cmd = vm_ioctls[i];
			if (!_IOC_SIZE(cmd) && delta < 0)
				continue;
			cmd = _IOC(_IOC_DIR(cmd), _IOC_TYPE(cmd), _IOC_NR(cmd),
				   _IOC_SIZE(cmd) + delta);
			expect_errno(ENOTTY, ioctl(vm->fd, cmd, buffer));
		}
		for (i = 0; i < ARRAY_SIZE(vcpu_ioctls); i++) {
			cmd = vcpu_ioctls[i];
			cmd = _IOC(_IOC_DIR(cmd), _IOC_TYPE(cmd), _IOC_NR(cmd),
				   _IOC_SIZE(cmd) + delta);
			/* A vCPU has no unlocked ioctls of other sizes. */
			expect_errno(EINVAL, ioctl(vcpu->fd, cmd, buffer));
		}
	}
	kvm_vm_free(vm);
}

TEST(irq_line_ioctls)
{
	struct kvm_irq_level irq = { .level = 1 };
	struct kvm_vm *vm;

	vm = vm_with(IRQCHIP_NONE);
	expect_errno(ENXIO, __vm_ioctl(vm, KVM_IRQ_LINE, &irq));
	expect_errno(ENXIO, __vm_ioctl(vm, KVM_IRQ_LINE_STATUS, &irq));
	kvm_vm_free(vm);

	/* No default routes in split mode: nobody gets it, which is no error. */
	vm = vm_with(IRQCHIP_SPLIT);
	expect_ok(__vm_ioctl(vm, KVM_IRQ_LINE_STATUS, &irq));
	TEST_ASSERT_EQ(irq.status, -1);
	kvm_vm_free(vm);

	vm = vm_with(IRQCHIP_FULL);
	for (irq.irq = 24; irq.irq; irq.irq <<= 1) {
		u32 gsi = irq.irq;

		expect_ok(__vm_ioctl(vm, KVM_IRQ_LINE_STATUS, &irq));
		TEST_ASSERT(irq.status == -1, "gsi %u: status %d", gsi, irq.status);
		irq.irq = gsi;
		expect_ok(__vm_ioctl(vm, KVM_IRQ_LINE, &irq));
		irq.irq = gsi;
	}
	expect_errno(EFAULT, ioctl(vm->fd, KVM_IRQ_LINE, NOWHERE));
	expect_errno(EFAULT, ioctl(vm->fd, KVM_IRQ_LINE_STATUS, NOWHERE));
	kvm_vm_free(vm);
}

static int set_one_route(struct kvm_vm *vm, u32 gsi, u32 type, u32 flags,
			 u32 chip, u32 pin)
{
	struct kvm_irq_routing *r = routing_create();

	r->nr = 1;
	r->entries[0].gsi = gsi;
	r->entries[0].type = type;
	r->entries[0].flags = flags;
	r->entries[0].u.irqchip.irqchip = chip;
	r->entries[0].u.irqchip.pin = pin;
	/* This frees the table, which leaves errno alone. */
	return _kvm_gsi_routing_write(vm, r);
}

TEST(gsi_routing_entries)
{
	const u32 pin_type = KVM_IRQ_ROUTING_IRQCHIP;
	const u32 msi_type = KVM_IRQ_ROUTING_MSI;
	struct kvm_vm *vm;

	vm = vm_with(IRQCHIP_NONE);
	expect_errno(EINVAL, set_one_route(vm, 0, msi_type, 0, 0, 0));
	kvm_vm_free(vm);

	vm = vm_with(IRQCHIP_SPLIT);
	expect_errno(EINVAL, set_one_route(vm, 0, pin_type, 0, KVM_IRQCHIP_IOAPIC, 0));
	expect_errno(EINVAL, set_one_route(vm, 0, pin_type, 0, KVM_IRQCHIP_PIC_MASTER, 0));
	expect_ok(set_one_route(vm, 0, msi_type, 0, 0, 0));
	kvm_vm_free(vm);

	vm = vm_with(IRQCHIP_FULL);
	expect_ok(set_one_route(vm, 0, pin_type, 0, KVM_IRQCHIP_IOAPIC, 23));
	expect_errno(EINVAL, set_one_route(vm, 0, pin_type, 0, KVM_IRQCHIP_IOAPIC, 24));
	expect_errno(EINVAL, set_one_route(vm, 0, pin_type, 0, KVM_IRQCHIP_IOAPIC, ~0u));
	expect_ok(set_one_route(vm, 0, pin_type, 0, KVM_IRQCHIP_PIC_MASTER, 7));
	expect_errno(EINVAL, set_one_route(vm, 0, pin_type, 0, KVM_IRQCHIP_PIC_MASTER, 8));
	expect_ok(set_one_route(vm, 0, pin_type, 0, KVM_IRQCHIP_PIC_SLAVE, 7));
	expect_errno(EINVAL, set_one_route(vm, 0, pin_type, 0, KVM_IRQCHIP_PIC_SLAVE, 8));
	/* pin + 8 must not wrap into range. */
	expect_errno(EINVAL, set_one_route(vm, 0, pin_type, 0, KVM_IRQCHIP_PIC_SLAVE, ~0u - 7));
	expect_errno(EINVAL, set_one_route(vm, 0, pin_type, 0, 3, 0));
	expect_errno(EINVAL, set_one_route(vm, 0, pin_type, 0, ~0u, 0));
	expect_errno(EINVAL, set_one_route(vm, 0, pin_type, 1, KVM_IRQCHIP_IOAPIC, 0));
	expect_errno(EINVAL, set_one_route(vm, 0, 0, 0, 0, 0));
	expect_errno(EINVAL, set_one_route(vm, 0, 99, 0, 0, 0));
	expect_errno(EINVAL, set_one_route(vm, 0, msi_type, 2, 0, 0));
	expect_ok(set_one_route(vm, 0, msi_type, KVM_MSI_VALID_DEVID, 0, 0));
	expect_ok(set_one_route(vm, TOO_HIGH_GSI - 1, msi_type, 0, 0, 0));
	expect_errno(EINVAL, set_one_route(vm, TOO_HIGH_GSI, msi_type, 0, 0, 0));
	expect_errno(EINVAL, set_one_route(vm, ~0u, msi_type, 0, 0, 0));
	kvm_vm_free(vm);
}

TEST(gsi_routing_tables)
{
	struct kvm_vm *vm = vm_with(IRQCHIP_FULL);
	struct kvm_irq_routing *r = routing_create();
	struct kvm_irq_routing empty = {};
	u8 *page;
	u32 i;

	/* One GSI on both kinds of chip, but on each only once. */
	routing_add_pin(r, 5, KVM_IRQCHIP_IOAPIC, 5);
	routing_add_pin(r, 5, KVM_IRQCHIP_PIC_MASTER, 5);
	expect_ok(__vm_ioctl(vm, KVM_SET_GSI_ROUTING, r));
	routing_add_pin(r, 5, KVM_IRQCHIP_IOAPIC, 6);
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_SET_GSI_ROUTING, r));

	/* An MSI has its GSI for itself, in either order. */
	r->nr = 0;
	routing_add_pin(r, 5, KVM_IRQCHIP_IOAPIC, 5);
	routing_add_msi(r, 5, MSI_ADDR(0), 0, 0x40);
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_SET_GSI_ROUTING, r));
	r->nr = 0;
	routing_add_msi(r, 5, MSI_ADDR(0), 0, 0x40);
	routing_add_pin(r, 5, KVM_IRQCHIP_IOAPIC, 5);
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_SET_GSI_ROUTING, r));
	r->nr = 0;
	routing_add_msi(r, 5, MSI_ADDR(0), 0, 0x40);
	routing_add_msi(r, 5, MSI_ADDR(0), 0, 0x41);
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_SET_GSI_ROUTING, r));

	r->nr = 1;
	r->flags = 1;
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_SET_GSI_ROUTING, r));
	r->flags = 0;

	/* As many as there may be, one more, and none. */
	r->nr = 0;
	for (i = 0; i < KVM_MAX_IRQ_ROUTES; i++)
		routing_add_msi(r, i, MSI_ADDR(0), 0, 0x40);
	expect_ok(__vm_ioctl(vm, KVM_SET_GSI_ROUTING, r));
	r->nr = KVM_MAX_IRQ_ROUTES + 1;
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_SET_GSI_ROUTING, r));
	r->nr = ~0u;
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_SET_GSI_ROUTING, r));
	expect_ok(__vm_ioctl(vm, KVM_SET_GSI_ROUTING, &empty));

	/* Entries that run off the end of what is mapped. */
	page = kvm_mmap(2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1);
	kvm_munmap(page + PAGE_SIZE, PAGE_SIZE);
	empty.nr = 1;
	memcpy(page + PAGE_SIZE - sizeof(empty), &empty, sizeof(empty));
	expect_errno(EFAULT, ioctl(vm->fd, KVM_SET_GSI_ROUTING,
				   page + PAGE_SIZE - sizeof(empty)));
	expect_errno(EFAULT, ioctl(vm->fd, KVM_SET_GSI_ROUTING, NOWHERE));
	free(r);
	kvm_vm_free(vm);
}

TEST(signal_msi_ioctl)
{
	struct kvm_msi msi = { .address_lo = MSI_ADDR(0), .data = 0x40 };
	struct kvm_vm *vm;

	vm = vm_with(IRQCHIP_NONE);
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_SIGNAL_MSI, &msi));
	kvm_vm_free(vm);

	vm = vm_with(IRQCHIP_SPLIT);
	/* No vCPU yet: "not delivered" is the return value -1. */
	expect_errno(EPERM, __vm_ioctl(vm, KVM_SIGNAL_MSI, &msi));
	__vm_vcpu_add(vm, 0);
	/* The local APIC is disabled by software after reset. */
	TEST_ASSERT_EQ(__vm_ioctl(vm, KVM_SIGNAL_MSI, &msi), 0);
	msi.flags = KVM_MSI_VALID_DEVID;
	TEST_ASSERT_EQ(__vm_ioctl(vm, KVM_SIGNAL_MSI, &msi), 0);
	msi.flags = 2;
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_SIGNAL_MSI, &msi));
	msi.flags = 0;
	/* The upper address means nothing in the short format ... */
	msi.address_hi = 0xff;
	TEST_ASSERT_EQ(__vm_ioctl(vm, KVM_SIGNAL_MSI, &msi), 0);
	/* ... and has reserved bits in the long one. */
	vm_enable_cap(vm, KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS);
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_SIGNAL_MSI, &msi));
	expect_errno(EFAULT, ioctl(vm->fd, KVM_SIGNAL_MSI, NOWHERE));
	kvm_vm_free(vm);
}

TEST(gsi_routing_x2apic_format)
{
	struct kvm_vm *vm = vm_with(IRQCHIP_SPLIT);
	struct kvm_irq_routing *r = routing_create();

	routing_add_msi(r, 0, MSI_ADDR(0), 0x1, 0x40);
	expect_ok(__vm_ioctl(vm, KVM_SET_GSI_ROUTING, r));
	vm_enable_cap(vm, KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS);
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_SET_GSI_ROUTING, r));
	r->entries[0].u.msi.address_hi = 0x100;
	expect_ok(__vm_ioctl(vm, KVM_SET_GSI_ROUTING, r));
	free(r);
	kvm_vm_free(vm);
}

TEST(irqfd)
{
	struct kvm_irqfd irqfd = { .gsi = 4, .resamplefd = -1 };
	int event = kvm_new_eventfd(), resample = kvm_new_eventfd();
	int null = open("/dev/null", O_RDWR);
	struct kvm_vm *vm;

	vm = vm_with(IRQCHIP_NONE);
	irqfd.fd = event;
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_IRQFD, &irqfd));
	kvm_vm_free(vm);

	vm = vm_with(IRQCHIP_SPLIT);
	expect_ok(__vm_ioctl(vm, KVM_IRQFD, &irqfd));
	irqfd.flags = KVM_IRQFD_FLAG_RESAMPLE;
	irqfd.resamplefd = resample;
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_IRQFD, &irqfd));
	kvm_vm_free(vm);

	vm = vm_with(IRQCHIP_FULL);
	irqfd.flags = 4;
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_IRQFD, &irqfd));
	irqfd.flags = ~0u;
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_IRQFD, &irqfd));
	irqfd.flags = 0;
	irqfd.fd = -1;
	expect_errno(EBADF, __vm_ioctl(vm, KVM_IRQFD, &irqfd));
	irqfd.fd = null;
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_IRQFD, &irqfd));
	irqfd.fd = event;
	irqfd.flags = KVM_IRQFD_FLAG_RESAMPLE;
	irqfd.resamplefd = -1;
	expect_errno(EBADF, __vm_ioctl(vm, KVM_IRQFD, &irqfd));
	irqfd.resamplefd = null;
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_IRQFD, &irqfd));
	irqfd.resamplefd = resample;
	expect_ok(__vm_ioctl(vm, KVM_IRQFD, &irqfd));
	irqfd.flags = 0;
	expect_errno(EBUSY, __vm_ioctl(vm, KVM_IRQFD, &irqfd));
	irqfd.flags = KVM_IRQFD_FLAG_DEASSIGN;
	expect_ok(__vm_ioctl(vm, KVM_IRQFD, &irqfd));
	/* What is not there is gone already. */
	expect_ok(__vm_ioctl(vm, KVM_IRQFD, &irqfd));
	irqfd.fd = -1;
	expect_errno(EBADF, __vm_ioctl(vm, KVM_IRQFD, &irqfd));
	irqfd.fd = null;
	expect_errno(EINVAL, __vm_ioctl(vm, KVM_IRQFD, &irqfd));

	/* A GSI without a route, however high: nothing happens. */
	irqfd.fd = event;
	irqfd.flags = 0;
	for (irqfd.gsi = 24; irqfd.gsi; irqfd.gsi <<= 1) {
		irqfd.flags = 0;
		expect_ok(__vm_ioctl(vm, KVM_IRQFD, &irqfd));
		eventfd_signal(event);
		irqfd.flags = KVM_IRQFD_FLAG_DEASSIGN;
		expect_ok(__vm_ioctl(vm, KVM_IRQFD, &irqfd));
	}
	expect_errno(EFAULT, ioctl(vm->fd, KVM_IRQFD, NOWHERE));
	kvm_vm_free(vm);
	close(event);
	close(resample);
	close(null);
}

TEST(pit)
{
	static const enum irqchip_mode without[] = { IRQCHIP_NONE, IRQCHIP_SPLIT };
	struct kvm_reinject_control control = { .pit_reinject = 1 };
	struct kvm_pit_state2 state2 = {};
	struct kvm_pit_state state = {};
	struct kvm_vm *vm;
	int i;

	for (i = 0; i < ARRAY_SIZE(without); i++) {
		vm = vm_with(without[i]);
		expect_errno(ENOENT, create_pit2(vm));
		expect_errno(ENOENT, __vm_ioctl(vm, KVM_CREATE_PIT, NULL));
		kvm_vm_free(vm);
	}

	vm = vm_with(IRQCHIP_FULL);
	expect_errno(ENXIO, __vm_ioctl(vm, KVM_GET_PIT, &state));
	expect_errno(ENXIO, __vm_ioctl(vm, KVM_SET_PIT, &state));
	expect_errno(ENXIO, __vm_ioctl(vm, KVM_GET_PIT2, &state2));
	expect_errno(ENXIO, __vm_ioctl(vm, KVM_SET_PIT2, &state2));
	expect_errno(ENXIO, __vm_ioctl(vm, KVM_REINJECT_CONTROL, &control));
	expect_errno(EFAULT, ioctl(vm->fd, KVM_CREATE_PIT2, NOWHERE));
	expect_ok(create_pit2(vm));
	expect_errno(EEXIST, create_pit2(vm));
	expect_errno(EEXIST, __vm_ioctl(vm, KVM_CREATE_PIT, NULL));
	expect_ok(__vm_ioctl(vm, KVM_GET_PIT2, &state2));
	expect_ok(__vm_ioctl(vm, KVM_SET_PIT2, &state2));
	expect_ok(__vm_ioctl(vm, KVM_GET_PIT, &state));
	expect_ok(__vm_ioctl(vm, KVM_SET_PIT, &state));
	expect_ok(__vm_ioctl(vm, KVM_REINJECT_CONTROL, &control));
	/* Counts of zero mean 65536, and must not become a division by zero. */
	memset(&state2, 0, sizeof(state2));
	state2.channels[0].mode = 2;
	expect_ok(__vm_ioctl(vm, KVM_SET_PIT2, &state2));
	expect_ok(__vm_ioctl(vm, KVM_GET_PIT2, &state2));
	expect_errno(EFAULT, ioctl(vm->fd, KVM_SET_PIT2, NOWHERE));
	expect_errno(EFAULT, ioctl(vm->fd, KVM_GET_PIT2, NOWHERE));
	kvm_vm_free(vm);
}

TEST(x2apic_api)
{
	const u64 enable = KVM_X2APIC_ENABLE_SUPPRESS_EOI_BROADCAST;
	const u64 disable = KVM_X2APIC_DISABLE_SUPPRESS_EOI_BROADCAST;
	struct kvm_vm *vm;
	u64 bit;

	vm = vm_with(IRQCHIP_FULL);
	for (bit = 16; bit; bit <<= 1)
		expect_errno(EINVAL, __vm_enable_cap(vm, KVM_CAP_X2APIC_API, bit));
	expect_errno(EINVAL, __vm_enable_cap(vm, KVM_CAP_X2APIC_API, enable));
	expect_errno(EINVAL, __vm_enable_cap(vm, KVM_CAP_X2APIC_API, enable | disable));
	expect_ok(__vm_enable_cap(vm, KVM_CAP_X2APIC_API, disable));
	expect_ok(__vm_enable_cap(vm, KVM_CAP_X2APIC_API, 0));
	kvm_vm_free(vm);

	vm = vm_with(IRQCHIP_NONE);
	expect_errno(EINVAL, __vm_enable_cap(vm, KVM_CAP_X2APIC_API, enable));
	kvm_vm_free(vm);

	vm = vm_with(IRQCHIP_SPLIT);
	expect_errno(EINVAL, __vm_enable_cap(vm, KVM_CAP_X2APIC_API, enable | disable));
	expect_ok(__vm_enable_cap(vm, KVM_CAP_X2APIC_API, enable));
	kvm_vm_free(vm);
}

TEST(apic_bus_cycles)
{
	const u32 cap = KVM_CAP_X86_APIC_BUS_CYCLES_NS;
	struct kvm_vm *vm;

	vm = vm_with(IRQCHIP_NONE);
	expect_errno(ENXIO, __vm_enable_cap(vm, cap, 40));
	kvm_vm_free(vm);

	vm = vm_with(IRQCHIP_FULL);
	expect_errno(EINVAL, __vm_enable_cap(vm, cap, 0));
	expect_errno(EINVAL, __vm_enable_cap(vm, cap, ~0ull));
	expect_errno(EINVAL, __vm_enable_cap(vm, cap, 1ull << 32));
	expect_ok(__vm_enable_cap(vm, cap, 40));
	__vm_vcpu_add(vm, 0);
	expect_errno(EINVAL, __vm_enable_cap(vm, cap, 40));
	kvm_vm_free(vm);
}

TEST(enable_cap_unknown)
{
	struct kvm_vm *vm = vm_with(IRQCHIP_FULL);

	expect_errno(EINVAL, __vm_enable_cap(vm, 0x7fffffff, 0));
	expect_errno(EINVAL, __vm_enable_cap(vm, KVM_CAP_IRQCHIP, 0));
	expect_errno(EFAULT, ioctl(vm->fd, KVM_ENABLE_CAP, NOWHERE));
	kvm_vm_free(vm);
}

TEST(boot_cpu_and_vcpu_ids)
{
	struct kvm_vm *vm = vm_with(IRQCHIP_FULL);
	unsigned long max = vm_check_cap(vm, KVM_CAP_MAX_VCPU_ID);

	expect_errno(EINVAL, ioctl(vm->fd, KVM_CREATE_VCPU, max));
	expect_errno(EINVAL, ioctl(vm->fd, KVM_CREATE_VCPU, ~0u));
	expect_errno(EINVAL, ioctl(vm->fd, KVM_SET_BOOT_CPU_ID, max + 1));
	expect_ok(ioctl(vm->fd, KVM_SET_BOOT_CPU_ID, 1ul));
	expect_ok(ioctl(vm->fd, KVM_CREATE_VCPU, max - 1));
	expect_errno(EEXIST, ioctl(vm->fd, KVM_CREATE_VCPU, max - 1));
	expect_errno(EBUSY, ioctl(vm->fd, KVM_SET_BOOT_CPU_ID, 0ul));
	kvm_vm_free(vm);
}

/* Whatever a VM has and has not, it can be destroyed with lines high. */
TEST(destroy_with_work_pending)
{
	static const enum irqchip_mode modes[] = {
		IRQCHIP_FULL, IRQCHIP_SPLIT, IRQCHIP_NONE
	};
	int i, round, gsi;

	for (round = 0; round < 5; round++) {
		for (i = 0; i < ARRAY_SIZE(modes); i++) {
			struct kvm_vm *vm = vm_with(modes[i]);
			int fd = kvm_new_eventfd();

			if (round & 1)
				__vm_vcpu_add(vm, 0);
			if (modes[i] != IRQCHIP_NONE) {
				for (gsi = 0; gsi < 32; gsi++)
					_kvm_irq_line(vm, gsi, 1);
				kvm_assign_irqfd(vm, 4, fd);
				eventfd_signal(fd);
			}
			kvm_vm_free(vm);
			close(fd);
		}
	}
}

TEST_HARNESS_MAIN
