/* SPDX-License-Identifier: GPL-2.0 */
/*
 * /dev/fake_iommu: one open file is one device that has a single MSI, behind an
 * IOMMU that can post interrupts.
 */
#ifndef FERRIC_SELFTESTS_FAKE_IOMMU_H
#define FERRIC_SELFTESTS_FAKE_IOMMU_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define FAKE_IOMMU_PATH		"/dev/fake_iommu"

/*
 * Makes the MSI an interrupt that may bypass the host on its way to the irqfd
 * of that eventfd: once for each open file; EBUSY if it or the eventfd has done
 * so already.
 */
#define FAKE_IOMMU_CONNECT	_IOW('I', 0x80, __s32)

/* The device interrupts.  Returns what became of it. */
#define FAKE_IOMMU_FIRE		_IO('I', 0x81)

enum fake_iommu_fired {
	FIRED_REMAPPED,		/* to the host, whose handler signals the eventfd */
	FIRED_AND_NOTIFIED,	/* posted, and a notification sent */
	FIRED_SILENTLY,		/* posted, and no notification was due */
};

/* The interrupt-remapping table entry, and the descriptor that it points to. */
#define FAKE_IOMMU_STATE	_IOR('I', 0x82, struct fake_iommu_state)

struct fake_iommu_state {
	__u32 posted;		/* 0: remapped, and nothing of the rest holds */
	__u32 vector;
	__u64 control;		/* bits 319:256 of the descriptor */
	__u64 pir[4];
};

#define PI_ON			0x1
#define PI_SN			0x2
#define PI_NV(control)		((__u8)((control) >> 16))
#define PI_NDST(control)	((__u32)((control) >> 32))

#endif /* FERRIC_SELFTESTS_FAKE_IOMMU_H */
