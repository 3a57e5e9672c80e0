// SPDX-License-Identifier: GPL-2.0
/*
 * Stands for an IOMMU with interrupt posting and for devices behind it, where
 * there is none.  To KVM it is one: a device's MSI is an irq whose chip has
 * irq_set_vcpu_affinity(), and a producer for irqbypass.  What the hardware does
 * to posted-interrupt descriptors, ferric does in its place.
 *
 * KVM offers irqfds to producers if enable_device_posted_irqs is true, which it
 * has made false for want of an IOMMU.  The module makes it true while it is
 * loaded; its address comes from /proc/kallsyms, since KVM doesn't export it to
 * modules like this one.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/eventfd.h>
#include <linux/fs.h>
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/irqbypass.h>
#include <linux/kallsyms.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include <asm/irq_remapping.h>
#include <asm/posted_intr.h>

#include "fake_iommu.h"
#include "shim.h"

struct fake_device {
	/* Held while it is connected. */
	struct mutex lock;
	bool connected;
	unsigned int irq;
	struct eventfd_ctx *eventfd;
	struct irq_bypass_producer producer;

	/*
	 * The IRTE.  Whoever changes it has waited, as for the invalidation of
	 * the IOMMU's cache, until no interrupt goes by the one before.
	 */
	raw_spinlock_t irte_lock;
	bool posted;
	struct intel_iommu_pi_data irte;
};

static unsigned long address;
module_param_named(enable_device_posted_irqs, address, ulong, 0444);
MODULE_PARM_DESC(enable_device_posted_irqs, "Address of KVM's variable of that name");

static bool enabled_before;

static int fake_set_vcpu_affinity(struct irq_data *data, void *info)
{
	struct fake_device *device = irq_data_get_irq_chip_data(data);

	guard(raw_spinlock_irqsave)(&device->irte_lock);
	device->posted = info;
	if (info)
		device->irte = *(struct intel_iommu_pi_data *)info;
	return 0;
}

/* The device is nothing but its MSI, which nothing has to mask. */
static void fake_mask(struct irq_data *data)
{
}

static struct irq_chip fake_chip = {
	.name = "fake-iommu",
	.irq_mask = fake_mask,
	.irq_unmask = fake_mask,
	.irq_set_vcpu_affinity = fake_set_vcpu_affinity,
};

static int fake_connect(struct fake_device *device, int fd)
{
	int irq, r;

	guard(mutex)(&device->lock);
	if (device->connected)
		return -EBUSY;

	device->eventfd = eventfd_ctx_fdget(fd);
	if (IS_ERR(device->eventfd))
		return PTR_ERR(device->eventfd);

	irq = irq_alloc_desc(NUMA_NO_NODE);
	if (irq < 0) {
		r = irq;
		goto put;
	}
	irq_set_chip_and_handler(irq, &fake_chip, handle_simple_irq);
	irq_set_chip_data(irq, device);
	device->irq = irq;

	r = irq_bypass_register_producer(&device->producer, device->eventfd,
					 irq);
	if (r)
		goto free;
	device->connected = true;
	return 0;

free:
	irq_free_desc(irq);
put:
	eventfd_ctx_put(device->eventfd);
	return r;
}

static enum fake_iommu_fired fake_post(struct fake_device *device)
{
	guard(raw_spinlock_irqsave)(&device->irte_lock);
	if (!device->posted)
		return FIRED_REMAPPED;
	return ferric_post_as_hardware(phys_to_virt(device->irte.pi_desc_addr),
				       device->irte.vector) ?
	       FIRED_AND_NOTIFIED : FIRED_SILENTLY;
}

static long fake_fire(struct fake_device *device)
{
	enum fake_iommu_fired fired;

	/* Stays connected until the last user of the file is gone. */
	scoped_guard(mutex, &device->lock) {
		if (!device->connected)
			return -ENOTCONN;
	}

	fired = fake_post(device);
	if (fired == FIRED_REMAPPED)
		eventfd_signal(device->eventfd);
	return fired;
}

static int fake_state(struct fake_device *device,
		      struct fake_iommu_state __user *to)
{
	struct fake_iommu_state state = {};
	const struct pi_desc *desc;
	int i;

	scoped_guard(raw_spinlock_irqsave, &device->irte_lock) {
		state.posted = device->posted;
		if (!device->posted)
			break;
		desc = phys_to_virt(device->irte.pi_desc_addr);
		state.vector = device->irte.vector;
		state.control = READ_ONCE(desc->control);
		for (i = 0; i < NR_PIR_WORDS; i++)
			state.pir[i] = READ_ONCE(desc->pir[i]);
	}
	return copy_to_user(to, &state, sizeof(state)) ? -EFAULT : 0;
}

static long fake_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct fake_device *device = file->private_data;
	s32 fd;

	switch (cmd) {
	case FAKE_IOMMU_CONNECT:
		if (get_user(fd, (s32 __user *)arg))
			return -EFAULT;
		return fake_connect(device, fd);
	case FAKE_IOMMU_FIRE:
		return fake_fire(device);
	case FAKE_IOMMU_STATE:
		return fake_state(device, (void __user *)arg);
	default:
		return -ENOTTY;
	}
}

static int fake_open(struct inode *inode, struct file *file)
{
	struct fake_device *device;

	device = kzalloc_obj(*device, GFP_KERNEL);
	if (!device)
		return -ENOMEM;
	mutex_init(&device->lock);
	raw_spin_lock_init(&device->irte_lock);
	file->private_data = device;
	return 0;
}

static int fake_release(struct inode *inode, struct file *file)
{
	struct fake_device *device = file->private_data;

	if (device->connected) {
		irq_bypass_unregister_producer(&device->producer);
		WARN_ON(device->posted);
		irq_free_desc(device->irq);
		eventfd_ctx_put(device->eventfd);
	}
	kfree(device);
	return 0;
}

static const struct file_operations fake_fops = {
	.owner = THIS_MODULE,
	.open = fake_open,
	.release = fake_release,
	.unlocked_ioctl = fake_ioctl,
};

static struct miscdevice fake_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "fake_iommu",
	.fops = &fake_fops,
};

/* Is that KVM's variable and nothing else? */
static bool __init fake_address_is_right(void)
{
	char name[KSYM_SYMBOL_LEN];

	if (!address)
		return false;
	sprint_symbol(name, address);
	return str_has_prefix(name, "enable_device_posted_irqs+0x0/") &&
	       strstr(name, "[kvm]");
}

static int __init fake_init(void)
{
	bool *enabled = (bool *)address;
	int r;

	if (!fake_address_is_right()) {
		pr_err("enable_device_posted_irqs is not at %#lx\n", address);
		return -EINVAL;
	}

	enabled_before = READ_ONCE(*enabled);
	WRITE_ONCE(*enabled, true);
	r = misc_register(&fake_misc);
	if (r)
		WRITE_ONCE(*enabled, enabled_before);
	return r;
}
module_init(fake_init);

static void __exit fake_exit(void)
{
	misc_deregister(&fake_misc);
	WRITE_ONCE(*(bool *)address, enabled_before);
}
module_exit(fake_exit);

MODULE_DESCRIPTION("IOMMU with interrupt posting, for ferric's tests");
MODULE_LICENSE("GPL");
