/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of the ioctls' errnos share.
 */
#ifndef SELFTEST_FERRIC_IRQ_IOCTL_H
#define SELFTEST_FERRIC_IRQ_IOCTL_H

#include "irq_vm.h"

#define expect_errno(wanted, call) ({					\
	int __wanted = (wanted), __ret, __errno;			\
									\
	errno = 0;							\
	__ret = (call);							\
	__errno = errno;						\
	TEST_ASSERT(__ret == -1 && __errno == __wanted,			\
		    "line %d: %s: wanted errno %d (%s), got %d, errno %d (%s)", \
		    __LINE__, #call, __wanted, strerror(__wanted), __ret, \
		    __errno, strerror(__errno));			\
})

#define expect_ok(call) ({						\
	int __ret;							\
									\
	errno = 0;							\
	__ret = (call);							\
	TEST_ASSERT(__ret >= 0, "line %d: %s: errno %d (%s)", __LINE__,	\
		    #call, errno, strerror(errno));			\
	__ret;								\
})

#define NOWHERE			((void *)8)	/* never mapped */

/* All three ways for a VM to be, without memory: no guest runs here. */
static inline struct kvm_vm *vm_with(enum irqchip_mode mode)
{
	struct kvm_vm *vm = vm_create_barebones();

	if (mode == IRQCHIP_FULL)
		vm_ioctl(vm, KVM_CREATE_IRQCHIP, NULL);
	else if (mode == IRQCHIP_SPLIT)
		vm_enable_cap(vm, KVM_CAP_SPLIT_IRQCHIP, IOAPIC_PINS);
	return vm;
}

#endif
