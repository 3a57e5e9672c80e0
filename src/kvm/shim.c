// SPDX-License-Identifier: GPL-2.0
/*
 * The C half of the border between ferric and KVM; see shim.h.
 *
 * Nothing here decides anything.  A function that needs an argument for its
 * safety (a context, a lock) states it on the Rust side, where it is called.
 */
#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/kthread.h>
#include <linux/kvm_host.h>
#include <linux/moduleparam.h>
#include <linux/rcupdate.h>
#include <linux/string.h>

#include <asm/apic.h>
#include <asm/smp.h>

#include "cpuid.h"
#include "hyperv.h"
#include "i8254.h"
#include "ioapic.h"
#include "irq.h"
#include "smm.h"
#include "trace.h"
#include "x86.h"

#include "shim.h"

struct ferric_keys ferric_keys = {
	.stats = STATIC_KEY_FALSE_INIT,
};

static int ferric_stats_set(const char *val, const struct kernel_param *kp)
{
	bool on;
	int r;

	r = kstrtobool(val, &on);
	if (r)
		return r;

	if (on)
		static_branch_enable(&ferric_keys.stats);
	else
		static_branch_disable(&ferric_keys.stats);
	return 0;
}

static int ferric_stats_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%c\n",
			  static_key_enabled(&ferric_keys.stats) ? 'Y' : 'N');
}

static const struct kernel_param_ops ferric_stats_ops = {
	.set = ferric_stats_set,
	.get = ferric_stats_get,
};

module_param_cb(stats, &ferric_stats_ops, NULL, 0644);
MODULE_PARM_DESC(stats, "Count what each VM's irqchip delivers, see debugfs ferric/ (default: N)");

static bool attach_all = true;

static int ferric_attach_set(const char *val, const struct kernel_param *kp)
{
	if (sysfs_streq(val, "all"))
		WRITE_ONCE(attach_all, true);
	else if (sysfs_streq(val, "optin"))
		WRITE_ONCE(attach_all, false);
	else
		return -EINVAL;
	return 0;
}

static int ferric_attach_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n",
			  READ_ONCE(attach_all) ? "all" : "optin");
}

static const struct kernel_param_ops ferric_attach_ops = {
	.set = ferric_attach_set,
	.get = ferric_attach_get,
};

module_param_cb(attach, &ferric_attach_ops, NULL, 0644);
MODULE_PARM_DESC(attach, "Which new VMs get ferric's irqchip: all or optin (default: all)");

static bool ferric_wanted(struct kvm *kvm)
{
	return READ_ONCE(attach_all);
}

/* As the version registers say: without and with an EOI register. */
#define FERRIC_IOAPIC_82093AA	0x11
#define FERRIC_IOAPIC_WITH_EOI	0x20

static unsigned int ioapic_version = FERRIC_IOAPIC_82093AA;

static int ferric_ioapic_version_set(const char *val, const struct kernel_param *kp)
{
	unsigned int version;
	int r;

	r = kstrtouint(val, 0, &version);
	if (r)
		return r;
	if (version != FERRIC_IOAPIC_82093AA && version != FERRIC_IOAPIC_WITH_EOI)
		return -EINVAL;
	WRITE_ONCE(ioapic_version, version);
	return 0;
}

static int ferric_ioapic_version_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%#x\n", READ_ONCE(ioapic_version));
}

static const struct kernel_param_ops ferric_ioapic_version_ops = {
	.set = ferric_ioapic_version_set,
	.get = ferric_ioapic_version_get,
};

module_param_cb(ioapic_version, &ferric_ioapic_version_ops, NULL, 0644);
MODULE_PARM_DESC(ioapic_version, "Of new VMs: 0x11, as KVM's, or 0x20, with an EOI register and directed EOI (default: 0x11)");

static struct kvm_irqchip_provider ferric_provider = {
	.name = "ferric",
	.owner = THIS_MODULE,
	.abi = KVM_IRQCHIP_ABI,
	.lapic_size = sizeof(struct kvm_lapic),
	.wanted = ferric_wanted,
};

int ferric_register(const struct kvm_irqchip_ops *ops)
{
	ferric_provider.ops = ops;
	return kvm_register_irqchip_provider(&ferric_provider);
}

void ferric_unregister(void)
{
	kvm_unregister_irqchip_provider(&ferric_provider);
}

/* The VM. */

/*
 * With an EOI register in the I/O APIC the local APICs may offer to suppress
 * the broadcast of EOIs, and then do; KVM_CAP_X2APIC_API can still say no.
 */
bool ferric_choose_directed_eoi(struct kvm *kvm)
{
	if (READ_ONCE(ioapic_version) != FERRIC_IOAPIC_WITH_EOI)
		return false;

	if (kvm->arch.suppress_eoi_broadcast_mode ==
	    KVM_SUPPRESS_EOI_BROADCAST_QUIRKED)
		kvm->arch.suppress_eoi_broadcast_mode =
			KVM_SUPPRESS_EOI_BROADCAST_ENABLED;
	return true;
}

void ferric_vm_fields(struct kvm *kvm, struct ferric_vm_fields *fields)
{
	*fields = (struct ferric_vm_fields) {
		.apic_map_dirty = &kvm->arch.apic_map_dirty.counter,
		.vapics_in_nmi_mode = &kvm->arch.vapics_in_nmi_mode.counter,
		.apic_bus_cycle_ns = &kvm->arch.apic_bus_cycle_ns,
		.x2apic_format = &kvm->arch.x2apic_format,
		.x2apic_broadcast_quirk_disabled =
			&kvm->arch.x2apic_broadcast_quirk_disabled,
	};
}

void ferric_set_vm_data(struct kvm *kvm, void *data)
{
	kvm->arch.irqchip_data = data;
}

static int ferric_dev_read(struct kvm_vcpu *vcpu, struct kvm_io_device *dev,
			   gpa_t addr, int len, void *val)
{
	struct ferric_io_device *io =
		container_of(dev, struct ferric_io_device, dev);

	return ferric_io_read(io->vm, vcpu, io->kind, addr, len, val);
}

static int ferric_dev_write(struct kvm_vcpu *vcpu, struct kvm_io_device *dev,
			    gpa_t addr, int len, const void *val)
{
	struct ferric_io_device *io =
		container_of(dev, struct ferric_io_device, dev);

	return ferric_io_write(io->vm, vcpu, io->kind, addr, len, val);
}

static const struct kvm_io_device_ops ferric_io_ops = {
	.read = ferric_dev_read,
	.write = ferric_dev_write,
};

static const struct {
	enum kvm_bus bus;
	gpa_t addr;
	int len;
} ferric_io_range[FERRIC_IO_COUNT] = {
	[FERRIC_IO_PIC_MASTER] = { KVM_PIO_BUS, 0x20, 2 },
	[FERRIC_IO_PIC_SLAVE] = { KVM_PIO_BUS, 0xa0, 2 },
	[FERRIC_IO_ELCR] = { KVM_PIO_BUS, 0x4d0, 2 },
	[FERRIC_IO_IOAPIC] = { KVM_MMIO_BUS, IOAPIC_DEFAULT_BASE_ADDRESS,
			       IOAPIC_MEM_LENGTH },
	[FERRIC_IO_PIT] = { KVM_PIO_BUS, KVM_PIT_BASE_ADDRESS,
			    KVM_PIT_MEM_LENGTH },
	/* As many as KVM's own takes; only the first one answers. */
	[FERRIC_IO_SPEAKER] = { KVM_PIO_BUS, KVM_SPEAKER_BASE_ADDRESS, 4 },
};

int ferric_io_register(struct kvm *kvm, struct ferric_io_device *io)
{
	int r;

	kvm_iodevice_init(&io->dev, &ferric_io_ops);
	mutex_lock(&kvm->slots_lock);
	r = kvm_io_bus_register_dev(kvm, ferric_io_range[io->kind].bus,
				    ferric_io_range[io->kind].addr,
				    ferric_io_range[io->kind].len, &io->dev);
	mutex_unlock(&kvm->slots_lock);
	return r;
}

void ferric_io_unregister(struct kvm *kvm, struct ferric_io_device *io)
{
	mutex_lock(&kvm->slots_lock);
	kvm_io_bus_unregister_dev(kvm, ferric_io_range[io->kind].bus, &io->dev);
	mutex_unlock(&kvm->slots_lock);
}

unsigned int ferric_online_vcpus(struct kvm *kvm)
{
	return atomic_read(&kvm->online_vcpus);
}

struct kvm_lapic *ferric_lapic_by_index(struct kvm *kvm, unsigned int index)
{
	struct kvm_vcpu *vcpu = kvm_get_vcpu(kvm, index);

	return vcpu ? vcpu->arch.apic : NULL;
}

u32 ferric_suppress_eoi_broadcast_mode(struct kvm *kvm)
{
	switch (kvm->arch.suppress_eoi_broadcast_mode) {
	case KVM_SUPPRESS_EOI_BROADCAST_ENABLED:
		return FERRIC_SUPPRESS_EOI_BROADCAST_ENABLED;
	case KVM_SUPPRESS_EOI_BROADCAST_DISABLED:
		return FERRIC_SUPPRESS_EOI_BROADCAST_DISABLED;
	default:
		return FERRIC_SUPPRESS_EOI_BROADCAST_QUIRKED;
	}
}

bool ferric_apicv_activated(struct kvm *kvm)
{
	return kvm_apicv_activated(kvm);
}

/* Settled when the VM is created. */
bool ferric_may_be_accelerated(struct kvm *kvm)
{
	return !(READ_ONCE(kvm->arch.apicv_inhibit_reasons) &
		 BIT(APICV_INHIBIT_REASON_DISABLED));
}

bool ferric_has_quirk_lapic_mmio_hole(struct kvm *kvm)
{
	return kvm_check_has_quirk(kvm, KVM_X86_QUIRK_LAPIC_MMIO_HOLE);
}

bool ferric_has_quirk_lint0_reenabled(struct kvm *kvm)
{
	return kvm_check_has_quirk(kvm, KVM_X86_QUIRK_LINT0_REENABLED);
}

bool ferric_vector_hashing(void)
{
	return kvm_vector_hashing_enabled();
}

static void ferric_set_inhibit(struct kvm *kvm, enum kvm_apicv_inhibit reason,
			       bool set)
{
	if (set)
		kvm_set_apicv_inhibit(kvm, reason);
	else
		kvm_clear_apicv_inhibit(kvm, reason);
}

void ferric_set_map_inhibits(struct kvm *kvm, bool phys_aliased,
			     bool logical_aliased, bool id_modified)
{
	ferric_set_inhibit(kvm, APICV_INHIBIT_REASON_PHYSICAL_ID_ALIASED,
			   phys_aliased);
	ferric_set_inhibit(kvm, APICV_INHIBIT_REASON_LOGICAL_ID_ALIASED,
			   logical_aliased);
	ferric_set_inhibit(kvm, APICV_INHIBIT_REASON_APIC_ID_MODIFIED,
			   id_modified);
}

void ferric_scan_ioapic_request(struct kvm *kvm)
{
	kvm_make_scan_ioapic_request(kvm);
}

void ferric_scan_ioapic_request_mask(struct kvm *kvm, unsigned long *vcpus)
{
	kvm_make_scan_ioapic_request_mask(kvm, vcpus);
}

bool ferric_has_ack_notifier(struct kvm *kvm, unsigned int chip,
			     unsigned int pin)
{
	return kvm_irq_has_notifier(kvm, chip, pin);
}

void ferric_notify_acked(struct kvm *kvm, unsigned int chip, unsigned int pin)
{
	kvm_notify_acked_irq(kvm, chip, pin);
}

bool ferric_notify_resampler(struct kvm *kvm, unsigned int chip,
			     unsigned int pin)
{
	return kvm_notify_irqfd_resampler(kvm, chip, pin);
}

void ferric_fire_mask_notifiers(struct kvm *kvm, unsigned int chip,
				unsigned int pin, bool mask)
{
	kvm_fire_mask_notifiers(kvm, chip, pin, mask);
}

/* The vCPU. */

static void **ferric_hyperv(struct kvm_vcpu *vcpu)
{
#ifdef CONFIG_KVM_HYPERV
	return (void **)&vcpu->arch.hyperv;
#else
	static void *none;

	return &none;
#endif
}

void ferric_vcpu_fields(struct kvm_vcpu *vcpu, struct ferric_vcpu_fields *f)
{
	struct kvm_vcpu_arch *arch = &vcpu->arch;

	BUILD_BUG_ON(FERRIC_REQ_EVENT != (KVM_REQ_EVENT & KVM_REQUEST_MASK));
	/* For those that are kept as offsets. */
	BUILD_BUG_ON(sizeof(struct kvm_vcpu) > U16_MAX);
	*f = (struct ferric_vcpu_fields) {
		.apic_base = &arch->apic_base,
		.ioapic_handled_vectors = arch->ioapic_handled_vectors,
		.apic_attention = &arch->apic_attention,
		.apic_arb_prio = &arch->apic_arb_prio,
		.pending_ioapic_eoi = &arch->pending_ioapic_eoi,
		.highest_stale_pending_ioapic_eoi =
			&arch->highest_stale_pending_ioapic_eoi,
		.pv_eoi_msr = &arch->pv_eoi.msr_val,
		.l1_tsc_offset = &arch->l1_tsc_offset,
		.l1_tsc_scaling_ratio = &arch->l1_tsc_scaling_ratio,
		.virtual_tsc_khz = &arch->virtual_tsc_khz,
		.pv_unhalted = &arch->pv.pv_unhalted,
		.tpr_access_reporting = &arch->tpr_access_reporting,
		.vcpu_idx = &vcpu->vcpu_idx,
		.pending_external_vector = &arch->pending_external_vector,
		.hyperv = ferric_hyperv(vcpu),
		.vcpu_id = vcpu->vcpu_id,
	};
}

struct kvm *ferric_vcpu_kvm(struct kvm_vcpu *vcpu)
{
	return vcpu->kvm;
}

void ferric_copy_registers(u32 *to, const u32 *from)
{
	const u64 *source = (const u64 *)from;
	u64 *dest = (u64 *)to;
	int i;

	/* Others may write a register meanwhile, and shall be seen whole. */
#pragma GCC unroll 16
	for (i = 0; i < sizeof(struct kvm_lapic_state) / sizeof(u64); i++)
		WRITE_ONCE(dest[i], READ_ONCE(source[i]));
}

void ferric_request_event(struct kvm_vcpu *vcpu)
{
	kvm_make_request(KVM_REQ_EVENT, vcpu);
}

void ferric_request_unblock(struct kvm_vcpu *vcpu)
{
	kvm_make_request(KVM_REQ_UNBLOCK, vcpu);
}

void ferric_request_scan_ioapic(struct kvm_vcpu *vcpu)
{
	kvm_make_request(KVM_REQ_SCAN_IOAPIC, vcpu);
}

void ferric_request_ioapic_eoi_exit(struct kvm_vcpu *vcpu)
{
	kvm_make_request(KVM_REQ_IOAPIC_EOI_EXIT, vcpu);
}

void ferric_kick(struct kvm_vcpu *vcpu)
{
	kvm_vcpu_kick(vcpu);
}

/* Used with interrupts off. */
static DEFINE_PER_CPU(struct cpumask, ferric_kick_mask);

/* The vCPUs' CPUs that @cpu_of() names are interrupted at once; -1 for none. */
static __always_inline void
ferric_interrupt_cpus(struct kvm_vcpu **vcpus, unsigned int count,
		      int (*cpu_of)(struct kvm_vcpu *vcpu), int vector)
{
	struct cpumask *mask;
	unsigned long flags;
	unsigned int i;
	int cpu;

	local_irq_save(flags);
	mask = this_cpu_ptr(&ferric_kick_mask);
	cpumask_clear(mask);
	for (i = 0; i < count; i++) {
		cpu = cpu_of(vcpus[i]);
		if ((unsigned int)cpu < nr_cpu_ids && cpu_online(cpu))
			cpumask_set_cpu(cpu, mask);
	}
	if (!cpumask_empty(mask))
		__apic_send_IPI_mask(mask, vector);
	local_irq_restore(flags);
}

/*
 * What kvm_vcpu_kick() does, but for the interrupt.  A vCPU that migrates after
 * its CPU was read has left the guest in between, see there.
 */
static int ferric_kicked_cpu(struct kvm_vcpu *vcpu)
{
	int cpu;

	if (kvm_vcpu_wake_up(vcpu) ||
	    kvm_vcpu_exiting_guest_mode(vcpu) != IN_GUEST_MODE)
		return -1;

	cpu = READ_ONCE(vcpu->cpu);
	return cpu == smp_processor_id() ? -1 : cpu;
}

void ferric_kick_many(struct kvm_vcpu **vcpus, unsigned int count)
{
	if (count == 1)
		kvm_vcpu_kick(vcpus[0]);
	else
		ferric_interrupt_cpus(vcpus, count, ferric_kicked_cpu,
				      RESCHEDULE_VECTOR);
}

/*
 * As kvm_vcpu_trigger_posted_interrupt(), see there: a notification that comes
 * after the vCPU has left the guest does no harm.
 */
static int ferric_notified_cpu(struct kvm_vcpu *vcpu)
{
	if (READ_ONCE(vcpu->mode) != IN_GUEST_MODE) {
		kvm_vcpu_wake_up(vcpu);
		return -1;
	}

	return vcpu == kvm_get_running_vcpu() ? -1 : READ_ONCE(vcpu->cpu);
}

void ferric_notify(struct kvm_vcpu *vcpu)
{
	int cpu = ferric_notified_cpu(vcpu);

	if (cpu >= 0)
		__apic_send_IPI_mask(get_cpu_mask(cpu), POSTED_INTR_VECTOR);
}

void ferric_notify_many(struct kvm_vcpu **vcpus, unsigned int count)
{
	if (count == 1)
		ferric_notify(vcpus[0]);
	else
		ferric_interrupt_cpus(vcpus, count, ferric_notified_cpu,
				      POSTED_INTR_VECTOR);
}

void ferric_report_tpr_access(struct kvm_vcpu *vcpu, bool write)
{
	kvm_make_request(KVM_REQ_REPORT_TPR_ACCESS, vcpu);
	vcpu->run->tpr_access.rip = kvm_rip_read(vcpu);
	vcpu->run->tpr_access.is_write = write;
}

bool ferric_is_bsp(struct kvm_vcpu *vcpu)
{
	return kvm_vcpu_is_reset_bsp(vcpu);
}

bool ferric_cpuid_is_intel_compatible(struct kvm_vcpu *vcpu)
{
	return guest_cpuid_is_intel_compatible(vcpu);
}

bool ferric_has_x2apic_cpuid(struct kvm_vcpu *vcpu)
{
	return guest_cpu_cap_has(vcpu, X86_FEATURE_X2APIC);
}

u64 ferric_reserved_gpa_bits(struct kvm_vcpu *vcpu)
{
	return kvm_vcpu_reserved_gpa_bits_raw(vcpu);
}

bool ferric_is_running_vcpu(struct kvm_vcpu *vcpu)
{
	return kvm_get_running_vcpu() == vcpu;
}

bool ferric_wants_to_run(struct kvm_vcpu *vcpu)
{
	return vcpu->wants_to_run;
}

void ferric_inject_nmi(struct kvm_vcpu *vcpu)
{
	kvm_inject_nmi(vcpu);
}

bool ferric_inject_smi(struct kvm_vcpu *vcpu)
{
	return !kvm_inject_smi(vcpu);
}

bool ferric_synic_has_vector(struct kvm_vcpu *vcpu, int vector)
{
	return kvm_hv_synic_has_vector(vcpu, vector);
}

bool ferric_synic_auto_eoi(struct kvm_vcpu *vcpu, int vector)
{
	return kvm_hv_synic_auto_eoi_set(vcpu, vector);
}

void ferric_synic_send_eoi(struct kvm_vcpu *vcpu, int vector)
{
	kvm_hv_synic_send_eoi(vcpu, vector);
}

/* The local APIC's tie to KVM's acceleration code. */

void ferric_deliver_interrupt(struct kvm_lapic *apic, int delivery_mode,
			      int trig_mode, int vector)
{
	if (kvm_x86_ops.deliver_provided_interrupt)
		kvm_x86_ops.deliver_provided_interrupt(apic, delivery_mode,
						       trig_mode, vector);
	else
		kvm_x86_ops.deliver_interrupt(apic, delivery_mode, trig_mode,
					      vector);
}

bool ferric_has_sync_pir_to_irr(void)
{
	return kvm_x86_ops.sync_pir_to_irr;
}

int ferric_sync_pir_to_irr(struct kvm_vcpu *vcpu)
{
	return kvm_x86_ops.sync_pir_to_irr(vcpu);
}

void ferric_hwapic_isr_update(struct kvm_vcpu *vcpu, int vector)
{
	if (kvm_x86_ops.hwapic_isr_update)
		kvm_x86_ops.hwapic_isr_update(vcpu, vector);
}

void ferric_apicv_pre_state_restore(struct kvm_vcpu *vcpu)
{
	if (kvm_x86_ops.apicv_pre_state_restore)
		kvm_x86_ops.apicv_pre_state_restore(vcpu);
}

void ferric_apicv_post_state_restore(struct kvm_vcpu *vcpu)
{
	if (kvm_x86_ops.apicv_post_state_restore)
		kvm_x86_ops.apicv_post_state_restore(vcpu);
}

void ferric_update_cr8_intercept(struct kvm_vcpu *vcpu, int tpr, int max_irr)
{
	if (kvm_x86_ops.update_cr8_intercept)
		kvm_x86_ops.update_cr8_intercept(vcpu, tpr, max_irr);
}

bool ferric_x2apic_icr_is_split(void)
{
	return kvm_x86_ops.x2apic_icr_is_split;
}

u32 ferric_pi_destination(unsigned int cpu)
{
	u32 id = cpu_physical_id(cpu);

	return x2apic_mode ? id : (id << 8) & 0xff00;
}

void ferric_pi_wakeup_self(void)
{
	__apic_send_IPI_self(POSTED_INTR_WAKEUP_VECTOR);
}

void ferric_wake_up(struct kvm_vcpu *vcpu)
{
	kvm_vcpu_wake_up(vcpu);
}

bool ferric_post_as_hardware(struct pi_desc *desc, u8 vector)
{
	struct ferric_notification notification;
	unsigned int cpu;

	if (!ferric_pi_post_as_hardware(desc, vector, &notification))
		return false;

	for_each_online_cpu(cpu) {
		if (ferric_pi_destination(cpu) == notification.destination) {
			__apic_send_IPI_mask(cpumask_of(cpu),
					     notification.vector);
			return true;
		}
	}
	WARN_ONCE(1, "ferric: notification for NDST %#x, where no CPU is\n",
		  notification.destination);
	return true;
}
EXPORT_SYMBOL_GPL(ferric_post_as_hardware);

void ferric_synchronize_rcu(void)
{
	synchronize_rcu();
}

void ferric_set_version(struct kvm_vcpu *vcpu)
{
	kvm_apic_set_version(vcpu);
}

void ferric_set_sw_enabled(struct kvm_lapic *apic, bool enabled)
{
	kvm_lapic_set_sw_enabled(apic, enabled);
}

/* The static key that lapic.h's inlines look at counts disabled APICs. */
void ferric_hw_enable_changed(struct kvm_vcpu *vcpu, bool enabled)
{
	vcpu->arch.cpuid_dynamic_bits_dirty = true;

	if (enabled) {
		static_branch_slow_dec_deferred(&apic_hw_disabled);
		/* Async page faults may have waited for an APIC. */
		kvm_make_request(KVM_REQ_APF_READY, vcpu);
	} else {
		static_branch_inc(&apic_hw_disabled.key);
	}
}

void ferric_apic_mode_changed(struct kvm_vcpu *vcpu)
{
	kvm_make_request(KVM_REQ_APICV_UPDATE, vcpu);
	if (kvm_x86_ops.set_virtual_apic_mode)
		kvm_x86_ops.set_virtual_apic_mode(vcpu);
}

void ferric_inhibit_base_modified(struct kvm *kvm)
{
	kvm_set_apicv_inhibit(kvm, APICV_INHIBIT_REASON_APIC_BASE_MODIFIED);
}

/* Guest memory shared with the guest. */

int ferric_read_pv_eoi(struct kvm_vcpu *vcpu, u8 *value)
{
	return kvm_read_guest_cached(vcpu->kvm, &vcpu->arch.pv_eoi.data, value,
				     sizeof(*value));
}

int ferric_write_pv_eoi(struct kvm_vcpu *vcpu, u8 value)
{
	return kvm_write_guest_cached(vcpu->kvm, &vcpu->arch.pv_eoi.data,
				      &value, sizeof(value));
}

int ferric_map_pv_eoi(struct kvm_vcpu *vcpu, u64 address, unsigned long len)
{
	struct gfn_to_hva_cache *ghc = &vcpu->arch.pv_eoi.data;

	/* The cache of Hyper-V's assist page serves both ways to enable it. */
	if (address == ghc->gpa && len <= ghc->len)
		len = ghc->len;

	return kvm_gfn_to_hva_cache_init(vcpu->kvm, ghc, address, len);
}

int ferric_map_vapic(struct kvm_lapic *apic, u64 address)
{
	return kvm_gfn_to_hva_cache_init(apic->vcpu->kvm, &apic->vapic_cache,
					 address, sizeof(u32));
}

int ferric_read_vapic(struct kvm_lapic *apic, u32 *value)
{
	return kvm_read_guest_cached(apic->vcpu->kvm, &apic->vapic_cache,
				     value, sizeof(*value));
}

int ferric_write_vapic(struct kvm_lapic *apic, u32 value)
{
	return kvm_write_guest_cached(apic->vcpu->kvm, &apic->vapic_cache,
				      &value, sizeof(value));
}

/* Time. */

s64 ferric_now_ns(void)
{
	return ktime_get();
}

/* Without a call if it runs at the host's rate, as it mostly does. */
static __always_inline u64 ferric_read_l1_tsc(struct kvm_vcpu *vcpu, u64 tsc)
{
	if (likely(vcpu->arch.l1_tsc_scaling_ratio ==
		   kvm_caps.default_tsc_scaling_ratio))
		return vcpu->arch.l1_tsc_offset + tsc;
	return kvm_read_l1_tsc(vcpu, tsc);
}

u64 ferric_l1_tsc(struct kvm_vcpu *vcpu)
{
	return ferric_read_l1_tsc(vcpu, rdtsc());
}

struct ferric_clocks ferric_clocks(struct kvm_vcpu *vcpu)
{
	struct ferric_clocks clocks;
	unsigned long flags;

	local_irq_save(flags);
	clocks.now = ktime_get();
	clocks.l1_tsc = rdtsc();
	local_irq_restore(flags);

	clocks.l1_tsc = ferric_read_l1_tsc(vcpu, clocks.l1_tsc);
	return clocks;
}

bool ferric_has_hv_timer(void)
{
	return kvm_x86_ops.set_hv_timer;
}

bool ferric_tsc_is_scaled(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.tsc_scaling_ratio !=
	       kvm_caps.default_tsc_scaling_ratio;
}

void ferric_delay_cycles(u64 cycles)
{
	__delay(cycles);
}

void ferric_delay_ns(u32 ns)
{
	ndelay(ns);
}

u32 ferric_min_timer_period_us(void)
{
	return READ_ONCE(min_timer_period_us);
}

void ferric_timer_restart(struct kvm_lapic *apic)
{
	hrtimer_start_expires(&apic->lapic_timer.timer, HRTIMER_MODE_ABS_HARD);
}

void ferric_timer_set_expires(struct hrtimer *timer, s64 expires_ns)
{
	hrtimer_set_expires(timer, expires_ns);
}

bool ferric_can_post_timer(struct kvm_vcpu *vcpu)
{
	return kvm_can_post_timer_interrupt(vcpu);
}

bool ferric_can_use_hv_timer(struct kvm_vcpu *vcpu)
{
	return kvm_can_use_hv_timer(vcpu);
}

bool ferric_in_guest_mode(struct kvm_vcpu *vcpu)
{
	return vcpu->mode == IN_GUEST_MODE;
}

int ferric_set_hv_timer(struct kvm_vcpu *vcpu, u64 tsc, bool *expired)
{
	return kvm_x86_ops.set_hv_timer(vcpu, tsc, expired);
}

void ferric_cancel_hv_timer(struct kvm_vcpu *vcpu)
{
	kvm_x86_ops.cancel_hv_timer(vcpu);
}

void ferric_preempt_disable(void)
{
	preempt_disable();
}

void ferric_preempt_enable(void)
{
	preempt_enable();
}

/* KVM's trace events. */

void ferric_trace_apic_read(u32 reg, u64 value)
{
	trace_kvm_apic_read(reg, value);
}

void ferric_trace_apic_write(u32 reg, u64 value)
{
	trace_kvm_apic_write(reg, value);
}

void ferric_trace_apic_ipi(u32 icr_low, u32 dest_id)
{
	trace_kvm_apic_ipi(icr_low, dest_id);
}

void ferric_trace_posted(u32 vcpu_id, u16 delivery_mode, u16 trig_mode,
			 u8 vector)
{
	trace_kvm_apicv_accept_irq(vcpu_id, delivery_mode, trig_mode, vector);
}

void ferric_trace_accept_irq(u32 vcpu_id, u16 delivery_mode, u16 trig_mode,
			     u8 vector)
{
	trace_kvm_apic_accept_irq(vcpu_id, delivery_mode, trig_mode, vector);
}

void ferric_trace_eoi(struct kvm_lapic *apic, int vector)
{
	trace_kvm_eoi(apic, vector);
}

void ferric_trace_pv_eoi(struct kvm_lapic *apic, int vector)
{
	trace_kvm_pv_eoi(apic, vector);
}

void ferric_trace_ioapic_set_irq(u64 entry, int pin, bool coalesced)
{
	trace_kvm_ioapic_set_irq(entry, pin, coalesced);
}

void ferric_trace_ioapic_delayed_eoi(u64 entry)
{
	trace_kvm_ioapic_delayed_eoi_inj(entry);
}

void ferric_trace_pic_set_irq(u8 chip, u8 pin, u8 elcr, u8 imr, bool coalesced)
{
	trace_kvm_pic_set_irq(chip, pin, elcr, imr, coalesced);
}

void ferric_trace_hv_timer_state(u32 vcpu_id, bool in_use)
{
	trace_kvm_hv_timer_state(vcpu_id, in_use);
}

void ferric_trace_wait_lapic_expire(u32 vcpu_id, s64 delta)
{
	trace_kvm_wait_lapic_expire(vcpu_id, delta);
}

/* The delayed injection. */

static void ferric_delayed_work_fn(struct work_struct *work)
{
	struct ferric_delayed_work *w =
		container_of(work, struct ferric_delayed_work, work.work);

	ferric_delayed_eoi_work(w->vm);
}

void ferric_delayed_work_init(struct ferric_delayed_work *work, void *vm)
{
	work->vm = vm;
	INIT_DELAYED_WORK(&work->work, ferric_delayed_work_fn);
}

void ferric_delayed_work_schedule(struct ferric_delayed_work *work)
{
	schedule_delayed_work(&work->work, HZ / 100);
}

void ferric_delayed_work_cancel(struct ferric_delayed_work *work)
{
	cancel_delayed_work_sync(&work->work);
}

/* The PIT. */

struct ferric_pit_host {
	struct kvm *kvm;
	void *pit;
	struct hrtimer timer;
	struct kthread_worker *worker;
	struct kthread_work expired;
	struct kvm_irq_ack_notifier ack_notifier;
	struct kvm_irq_mask_notifier mask_notifier;
};

static enum hrtimer_restart ferric_pit_timer_fn(struct hrtimer *timer)
{
	struct ferric_pit_host *host =
		container_of(timer, struct ferric_pit_host, timer);
	s64 period = ferric_pit_expired(host->pit);

	kthread_queue_work(host->worker, &host->expired);
	if (!period)
		return HRTIMER_NORESTART;

	hrtimer_add_expires_ns(timer, period);
	return HRTIMER_RESTART;
}

static void ferric_pit_work_fn(struct kthread_work *work)
{
	struct ferric_pit_host *host =
		container_of(work, struct ferric_pit_host, expired);

	ferric_pit_inject(host->pit);
}

static void ferric_pit_ack_fn(struct kvm_irq_ack_notifier *notifier)
{
	struct ferric_pit_host *host =
		container_of(notifier, struct ferric_pit_host, ack_notifier);

	if (ferric_pit_acknowledged(host->pit))
		kthread_queue_work(host->worker, &host->expired);
}

static void ferric_pit_mask_fn(struct kvm_irq_mask_notifier *notifier,
			       bool masked)
{
	struct ferric_pit_host *host =
		container_of(notifier, struct ferric_pit_host, mask_notifier);

	if (!masked)
		ferric_pit_unmasked(host->pit);
}

int ferric_pit_host_create(struct kvm *kvm, void *pit,
			   struct ferric_pit_host **hostp)
{
	struct ferric_pit_host *host;
	int r;

	host = kzalloc_obj(*host, GFP_KERNEL_ACCOUNT);
	if (!host)
		return -ENOMEM;

	host->worker = kthread_run_worker(0, "kvm-pit/%d",
					  task_tgid_vnr(current));
	if (IS_ERR(host->worker)) {
		r = PTR_ERR(host->worker);
		kfree(host);
		return r;
	}

	host->kvm = kvm;
	host->pit = pit;
	kthread_init_work(&host->expired, ferric_pit_work_fn);
	hrtimer_setup(&host->timer, ferric_pit_timer_fn, CLOCK_MONOTONIC,
		      HRTIMER_MODE_ABS);
	host->ack_notifier.irq_acked = ferric_pit_ack_fn;
	host->mask_notifier.func = ferric_pit_mask_fn;
	*hostp = host;
	return 0;
}

void ferric_pit_host_destroy(struct ferric_pit_host *host)
{
	hrtimer_cancel(&host->timer);
	kthread_destroy_worker(host->worker);
	kfree(host);
}

s64 ferric_pit_timer_remaining(struct ferric_pit_host *host)
{
	return ktime_to_ns(hrtimer_get_remaining(&host->timer));
}

void ferric_pit_timer_start(struct ferric_pit_host *host, s64 first_ns)
{
	hrtimer_start(&host->timer, ktime_add_ns(ktime_get(), first_ns),
		      HRTIMER_MODE_ABS);
}

void ferric_pit_timer_stop(struct ferric_pit_host *host)
{
	hrtimer_cancel(&host->timer);
	kthread_flush_work(&host->expired);
}

void ferric_pit_timer_migrate(struct ferric_pit_host *host)
{
	if (hrtimer_cancel(&host->timer))
		hrtimer_start_expires(&host->timer, HRTIMER_MODE_ABS);
}

void ferric_pit_set_notifiers(struct ferric_pit_host *host, bool on)
{
	ferric_set_inhibit(host->kvm, APICV_INHIBIT_REASON_PIT_REINJ, on);
	if (on) {
		kvm_register_irq_ack_notifier(host->kvm, &host->ack_notifier);
		kvm_register_irq_mask_notifier(host->kvm, 0,
					       &host->mask_notifier);
	} else {
		kvm_unregister_irq_ack_notifier(host->kvm, &host->ack_notifier);
		kvm_unregister_irq_mask_notifier(host->kvm, 0,
						 &host->mask_notifier);
	}
}

void ferric_pit_pulse(struct kvm *kvm)
{
	kvm_set_irq(kvm, KVM_PIT_IRQ_SOURCE_ID, 0, 1, false);
	kvm_set_irq(kvm, KVM_PIT_IRQ_SOURCE_ID, 0, 0, false);
}

void ferric_log_pit_period(s64 requested_ns, s64 limit_ns)
{
	pr_info_ratelimited("i8254: requested period of %lld ns limited to %lld ns\n",
			    requested_ns, limit_ns);
}

void ferric_kvfree_rcu(void *memory)
{
	kvfree_rcu_mightsleep(memory);
}

/* The local APIC's registers in memory. */

static int ferric_apic_read(struct kvm_vcpu *vcpu, struct kvm_io_device *dev,
			    gpa_t addr, int len, void *val)
{
	return ferric_lapic_mmio_read(container_of(dev, struct kvm_lapic, dev),
				      addr, len, val);
}

static int ferric_apic_write(struct kvm_vcpu *vcpu, struct kvm_io_device *dev,
			     gpa_t addr, int len, const void *val)
{
	return ferric_lapic_mmio_write(container_of(dev, struct kvm_lapic, dev),
				       addr, len, val);
}

const struct kvm_io_device_ops ferric_lapic_mmio_ops = {
	.read = ferric_apic_read,
	.write = ferric_apic_write,
};
