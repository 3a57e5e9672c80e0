/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What ferric's Rust code asks of KVM, as plain functions and structures.
 *
 * bindgen turns this file into src/kvm/bindings_generated.rs.  Everything here
 * wraps an inline function, a macro, a static call or a field that bindgen
 * cannot express; the logic is on the Rust side.
 */
#ifndef __FERRIC_SHIM_H
#define __FERRIC_SHIM_H

#include <linux/jump_label.h>
#include <linux/kvm_host.h>
#include <linux/tracepoint-defs.h>

#include <asm/irq_vectors.h>

#include <kvm/iodev.h>

#include "irqchip_ops.h"
#include "lapic.h"

/*
 * Fields of struct kvm_vcpu that the hot paths use, looked up once when the
 * vCPU is created; they live as long as the vCPU.
 */
struct ferric_vcpu_fields {
	u64 *apic_base;
	unsigned long *ioapic_handled_vectors;
	unsigned long *apic_attention;
	s32 *apic_arb_prio;
	int *pending_ioapic_eoi;
	int *highest_stale_pending_ioapic_eoi;
	u64 *pv_eoi_msr;
	u64 *l1_tsc_offset;
	u64 *l1_tsc_scaling_ratio;
	u32 *virtual_tsc_khz;
	bool *pv_unhalted;
	bool *tpr_access_reporting;
	int *vcpu_idx;
	int *pending_external_vector;
	void **hyperv;			/* struct kvm_vcpu_hv ** */
	u32 vcpu_id;
};

/* KVM's tracepoints, which cost a NOP while they are off. */
extern struct tracepoint __tracepoint_kvm_apic;
extern struct tracepoint __tracepoint_kvm_apic_accept_irq;
extern struct tracepoint __tracepoint_kvm_apic_ipi;
extern struct tracepoint __tracepoint_kvm_apicv_accept_irq;
extern struct tracepoint __tracepoint_kvm_eoi;
extern struct tracepoint __tracepoint_kvm_hv_timer_state;
extern struct tracepoint __tracepoint_kvm_pv_eoi;
extern struct tracepoint __tracepoint_kvm_wait_lapic_expire;

/* KVM_REQ_EVENT's bit in *requests, and a value of *mode. */
enum {
	FERRIC_REQ_EVENT = KVM_REQUEST_ARCH_BASE + 6,
	FERRIC_IN_GUEST_MODE = IN_GUEST_MODE,
	FERRIC_HF_GUEST = HF_GUEST_MASK,
};

/* Where in struct kvm what ferric_set_vm_data() stores is. */
enum {
	FERRIC_VM_DATA = offsetof(struct kvm, arch.irqchip_data),
};

/* Where in struct kvm_vcpu what senders look at is; the last one is the thread. */
enum {
	FERRIC_VCPU_REQUESTS = offsetof(struct kvm_vcpu, requests),
	FERRIC_VCPU_MODE = offsetof(struct kvm_vcpu, mode),
	FERRIC_VCPU_SLEEPER = offsetof(struct kvm_vcpu, wait.task),
	FERRIC_VCPU_HFLAGS = offsetof(struct kvm_vcpu, arch.hflags),
	FERRIC_VCPU_TSC_MULT = offsetof(struct kvm_vcpu, arch.virtual_tsc_mult),
	FERRIC_VCPU_TSC_SHIFT = offsetof(struct kvm_vcpu, arch.virtual_tsc_shift),
};

/* No VM has more vCPUs, nor higher IDs. */
enum {
	FERRIC_MAX_VCPUS = KVM_MAX_VCPUS,
	FERRIC_MAX_VCPU_IDS = KVM_MAX_VCPU_IDS,
};

/* The vectors by which a vCPU that is loaded, and one that sleeps, is notified. */
enum {
	FERRIC_POSTED_INTR_VECTOR = POSTED_INTR_VECTOR,
	FERRIC_POSTED_INTR_WAKEUP_VECTOR = POSTED_INTR_WAKEUP_VECTOR,
};

/* Flags of the op x2apic_intercepts, which bindgen cannot evaluate. */
enum {
	FERRIC_X2APIC_VIRT_MSRS = KVM_X2APIC_VIRT_MSRS,
	FERRIC_X2APIC_VIRT_INTR = KVM_X2APIC_VIRT_INTR,
	FERRIC_X2APIC_VIRT_IPI = KVM_X2APIC_VIRT_IPI,
};

/* The same for struct kvm. */
struct ferric_vm_fields {
	int *apic_map_dirty;
	int *vapics_in_nmi_mode;
	u64 *apic_bus_cycle_ns;
	bool *x2apic_format;
	bool *x2apic_broadcast_quirk_disabled;
};

/* Values of *apic_map_dirty, as in arch/x86/kvm/lapic.c. */
#define FERRIC_MAP_CLEAN		0
#define FERRIC_MAP_UPDATE_IN_PROGRESS	1
#define FERRIC_MAP_DIRTY		2

/* enum kvm_suppress_eoi_broadcast_mode, whose values KVM keeps to itself. */
#define FERRIC_SUPPRESS_EOI_BROADCAST_QUIRKED	0
#define FERRIC_SUPPRESS_EOI_BROADCAST_ENABLED	1
#define FERRIC_SUPPRESS_EOI_BROADCAST_DISABLED	2

/* An I/O device of the PIC pair, the I/O APIC or the PIT. */
enum ferric_io_kind {
	FERRIC_IO_PIC_MASTER,
	FERRIC_IO_PIC_SLAVE,
	FERRIC_IO_ELCR,
	FERRIC_IO_IOAPIC,
	FERRIC_IO_PIT,
	FERRIC_IO_SPEAKER,
	FERRIC_IO_COUNT,
};

struct ferric_io_device {
	struct kvm_io_device dev;
	void *vm;
	enum ferric_io_kind kind;
};

struct ferric_keys {
	/* Module parameter "stats": count what is delivered. */
	struct static_key_false stats;
};

extern struct ferric_keys ferric_keys;

/* Registration with KVM: -EBUSY, -EINVAL as kvm_register_irqchip_provider(). */
int ferric_register(const struct kvm_irqchip_ops *ops);
void ferric_unregister(void);

/* The VM. */
bool ferric_choose_directed_eoi(struct kvm *kvm);
void ferric_vm_fields(struct kvm *kvm, struct ferric_vm_fields *fields);
void ferric_set_vm_data(struct kvm *kvm, void *data);
int ferric_io_register(struct kvm *kvm, struct ferric_io_device *io);
void ferric_io_unregister(struct kvm *kvm, struct ferric_io_device *io);
unsigned int ferric_online_vcpus(struct kvm *kvm);
/* NULL if there is no such vCPU. */
struct kvm_lapic *ferric_lapic_by_index(struct kvm *kvm, unsigned int index);
u32 ferric_suppress_eoi_broadcast_mode(struct kvm *kvm);
bool ferric_apicv_activated(struct kvm *kvm);
bool ferric_may_be_accelerated(struct kvm *kvm);
bool ferric_has_quirk_lapic_mmio_hole(struct kvm *kvm);
bool ferric_has_quirk_lint0_reenabled(struct kvm *kvm);
bool ferric_vector_hashing(void);
void ferric_set_map_inhibits(struct kvm *kvm, bool phys_aliased,
			     bool logical_aliased, bool id_modified);
void ferric_scan_ioapic_request(struct kvm *kvm);
void ferric_scan_ioapic_request_mask(struct kvm *kvm, unsigned long *vcpus);
bool ferric_has_ack_notifier(struct kvm *kvm, unsigned int chip,
			     unsigned int pin);
void ferric_notify_acked(struct kvm *kvm, unsigned int chip, unsigned int pin);
bool ferric_notify_resampler(struct kvm *kvm, unsigned int chip,
			     unsigned int pin);
void ferric_fire_mask_notifiers(struct kvm *kvm, unsigned int chip,
				unsigned int pin, bool mask);

/* The vCPU. */
void ferric_vcpu_fields(struct kvm_vcpu *vcpu, struct ferric_vcpu_fields *f);
struct kvm *ferric_vcpu_kvm(struct kvm_vcpu *vcpu);
/* The 1 KiB of struct kvm_lapic_state. */
void ferric_copy_registers(u32 *to, const u32 *from);
void ferric_request_event(struct kvm_vcpu *vcpu);
void ferric_request_unblock(struct kvm_vcpu *vcpu);
void ferric_request_scan_ioapic(struct kvm_vcpu *vcpu);
void ferric_request_ioapic_eoi_exit(struct kvm_vcpu *vcpu);
void ferric_kick(struct kvm_vcpu *vcpu);
/* The same for several, with one interrupt for all of their CPUs. */
void ferric_kick_many(struct kvm_vcpu **vcpus, unsigned int count);
/* Makes a vCPU, or several, take what was posted to it. */
void ferric_notify(struct kvm_vcpu *vcpu);
void ferric_notify_many(struct kvm_vcpu **vcpus, unsigned int count);
void ferric_report_tpr_access(struct kvm_vcpu *vcpu, bool write);
bool ferric_is_bsp(struct kvm_vcpu *vcpu);
bool ferric_cpuid_is_intel_compatible(struct kvm_vcpu *vcpu);
bool ferric_has_x2apic_cpuid(struct kvm_vcpu *vcpu);
u64 ferric_reserved_gpa_bits(struct kvm_vcpu *vcpu);
bool ferric_is_running_vcpu(struct kvm_vcpu *vcpu);
bool ferric_wants_to_run(struct kvm_vcpu *vcpu);
void ferric_inject_nmi(struct kvm_vcpu *vcpu);
bool ferric_inject_smi(struct kvm_vcpu *vcpu);
bool ferric_synic_has_vector(struct kvm_vcpu *vcpu, int vector);
bool ferric_synic_auto_eoi(struct kvm_vcpu *vcpu, int vector);
void ferric_synic_send_eoi(struct kvm_vcpu *vcpu, int vector);

/* The local APIC's tie to KVM's acceleration code. */
void ferric_deliver_interrupt(struct kvm_lapic *apic, int delivery_mode,
			      int trig_mode, int vector);
bool ferric_has_sync_pir_to_irr(void);
int ferric_sync_pir_to_irr(struct kvm_vcpu *vcpu);
void ferric_hwapic_isr_update(struct kvm_vcpu *vcpu, int vector);
void ferric_apicv_pre_state_restore(struct kvm_vcpu *vcpu);
void ferric_apicv_post_state_restore(struct kvm_vcpu *vcpu);
void ferric_update_cr8_intercept(struct kvm_vcpu *vcpu, int tpr, int max_irr);
bool ferric_x2apic_icr_is_split(void);
/* NDST of a posted-interrupt descriptor that notifies this processor. */
u32 ferric_pi_destination(unsigned int cpu);
/* Interrupts are off; the handler runs once they are on. */
void ferric_pi_wakeup_self(void);
void ferric_wake_up(struct kvm_vcpu *vcpu);

struct ferric_notification {
	u8 vector;
	u32 destination;	/* NDST, as in the descriptor */
};

/*
 * What an IOMMU does that posts an interrupt: PIR, ON unless notifications are
 * suppressed, and the notification if one is due; true then.  Any context.  It
 * is exported for drivers of such IOMMUs as exist in software only.
 */
bool ferric_post_as_hardware(struct pi_desc *desc, u8 vector);
void ferric_synchronize_rcu(void);
void ferric_set_version(struct kvm_vcpu *vcpu);
void ferric_set_sw_enabled(struct kvm_lapic *apic, bool enabled);
void ferric_hw_enable_changed(struct kvm_vcpu *vcpu, bool enabled);
void ferric_apic_mode_changed(struct kvm_vcpu *vcpu);
void ferric_inhibit_base_modified(struct kvm *kvm);

/* Guest memory shared with the guest; srcu is held. */
int ferric_read_pv_eoi(struct kvm_vcpu *vcpu, u8 *value);
int ferric_write_pv_eoi(struct kvm_vcpu *vcpu, u8 value);
int ferric_map_pv_eoi(struct kvm_vcpu *vcpu, u64 address, unsigned long len);
int ferric_map_vapic(struct kvm_lapic *apic, u64 address);
int ferric_read_vapic(struct kvm_lapic *apic, u32 *value);
int ferric_write_vapic(struct kvm_lapic *apic, u32 value);

/* Time. */
s64 ferric_now_ns(void);
u64 ferric_l1_tsc(struct kvm_vcpu *vcpu);
/* Both, with nothing in between. */
struct ferric_clocks {
	s64 now;
	u64 l1_tsc;
};

struct ferric_clocks ferric_clocks(struct kvm_vcpu *vcpu);
bool ferric_tsc_is_scaled(struct kvm_vcpu *vcpu);
void ferric_delay_cycles(u64 cycles);
void ferric_delay_ns(u32 ns);
u32 ferric_min_timer_period_us(void);
void ferric_timer_restart(struct kvm_lapic *apic);
void ferric_timer_set_expires(struct hrtimer *timer, s64 expires_ns);
bool ferric_can_post_timer(struct kvm_vcpu *vcpu);
bool ferric_has_hv_timer(void);
bool ferric_can_use_hv_timer(struct kvm_vcpu *vcpu);
bool ferric_in_guest_mode(struct kvm_vcpu *vcpu);
int ferric_set_hv_timer(struct kvm_vcpu *vcpu, u64 tsc, bool *expired);
void ferric_cancel_hv_timer(struct kvm_vcpu *vcpu);
void ferric_preempt_disable(void);
void ferric_preempt_enable(void);

/* KVM's own trace events, so that perf and trace-cmd keep working. */
void ferric_trace_apic_read(u32 reg, u64 value);
void ferric_trace_apic_write(u32 reg, u64 value);
void ferric_trace_apic_ipi(u32 icr_low, u32 dest_id);
void ferric_trace_posted(u32 vcpu_id, u16 delivery_mode, u16 trig_mode,
			 u8 vector);
void ferric_trace_accept_irq(u32 vcpu_id, u16 delivery_mode, u16 trig_mode,
			     u8 vector);
void ferric_trace_eoi(struct kvm_lapic *apic, int vector);
void ferric_trace_pv_eoi(struct kvm_lapic *apic, int vector);
void ferric_trace_ioapic_set_irq(u64 entry, int pin, bool coalesced);
void ferric_trace_ioapic_delayed_eoi(u64 entry);
void ferric_trace_pic_set_irq(u8 chip, u8 pin, u8 elcr, u8 imr,
			      bool coalesced);
void ferric_trace_hv_timer_state(u32 vcpu_id, bool in_use);
void ferric_trace_wait_lapic_expire(u32 vcpu_id, s64 delta);

/* The delayed injection that stops an I/O APIC interrupt storm. */
struct ferric_delayed_work {
	struct delayed_work work;
	void *vm;
};

void ferric_delayed_work_init(struct ferric_delayed_work *work, void *vm);
void ferric_delayed_work_schedule(struct ferric_delayed_work *work);
void ferric_delayed_work_cancel(struct ferric_delayed_work *work);

/* The timer of the PIT, and the thread that injects its ticks. */
struct ferric_pit_host;

/* Fails as kthread_run_worker() does, or with -ENOMEM. */
int ferric_pit_host_create(struct kvm *kvm, void *pit,
			   struct ferric_pit_host **host);
void ferric_pit_host_destroy(struct ferric_pit_host *host);
s64 ferric_pit_timer_remaining(struct ferric_pit_host *host);
void ferric_pit_timer_start(struct ferric_pit_host *host, s64 first_ns);
/* Waits for the callback, and for the injection that it asked for. */
void ferric_pit_timer_stop(struct ferric_pit_host *host);
void ferric_pit_timer_migrate(struct ferric_pit_host *host);
/* Listen to EOIs and to unmasking of GSI 0, which APICv would not tell of. */
void ferric_pit_set_notifiers(struct ferric_pit_host *host, bool on);
void ferric_pit_pulse(struct kvm *kvm);
void ferric_log_pit_period(s64 requested_ns, s64 limit_ns);

/* kvfree() once every RCU reader that could see the memory is done. Sleeps. */
void ferric_kvfree_rcu(void *memory);

/* Implemented in Rust. */
int ferric_io_read(void *vm, struct kvm_vcpu *vcpu, enum ferric_io_kind kind,
		   u64 addr, int len, void *data);
int ferric_io_write(void *vm, struct kvm_vcpu *vcpu, enum ferric_io_kind kind,
		    u64 addr, int len, const void *data);
int ferric_lapic_mmio_read(struct kvm_lapic *apic, u64 addr, int len,
			   void *data);
int ferric_lapic_mmio_write(struct kvm_lapic *apic, u64 addr, int len,
			    const void *data);
void ferric_delayed_eoi_work(void *vm);
s64 ferric_pit_expired(void *pit);
void ferric_pit_inject(void *pit);
bool ferric_pit_acknowledged(void *pit);
void ferric_pit_unmasked(void *pit);
bool ferric_pi_post_as_hardware(const struct pi_desc *desc, u8 vector,
				struct ferric_notification *notification);

extern const struct kvm_io_device_ops ferric_lapic_mmio_ops;

#endif /* __FERRIC_SHIM_H */
