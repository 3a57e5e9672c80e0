/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What KVM's lapic.c needs beyond base.h: a request to a vCPU is a line in a
 * log.
 */
#ifndef FERRIC_REFERENCE_KERNEL_H
#define FERRIC_REFERENCE_KERNEL_H

#include "base.h"

/* The APIC's registers, as asm/apic.h has them */

#include "apicdef.h"

#define MSR_IA32_APICBASE_BSP		(1 << 8)
#define MSR_IA32_APICBASE_ENABLE	(1 << 11)
#define MSR_IA32_APICBASE_BASE		(0xfffff << 12)
#define MAX_APIC_VECTOR			256
#define APIC_VECTORS_PER_REG		32
#define APIC_VECTOR_TO_BIT_NUMBER(v)	((unsigned int)(v) % 32)
#define APIC_VECTOR_TO_REG_OFFSET(v)	((unsigned int)(v) / 32 * 0x10)
#define apic_get_reg(regs, reg)		(*(u32 *)((regs) + (reg)))
#define apic_set_reg(regs, reg, val)	(*(u32 *)((regs) + (reg)) = (val))
#define apic_get_reg64(regs, reg)	(*(u64 *)((regs) + (reg)))
#define apic_set_reg64(regs, reg, val)	(*(u64 *)((regs) + (reg)) = (val))
#define apic_bit(fn, vec, map) \
	fn(APIC_VECTOR_TO_BIT_NUMBER(vec), (map) + APIC_VECTOR_TO_REG_OFFSET(vec))
#define apic_test_vector(vec, map)	apic_bit(test_bit, vec, map)
#define apic_set_vector(vec, map)	apic_bit(set_bit, vec, map)
#define apic_clear_vector(vec, map)	apic_bit(clear_bit, vec, map)

static inline int apic_find_highest_vector(void *map)
{
	int vec;

	for (vec = 255; vec >= 0 && !apic_test_vector(vec, map); vec--)
		;
	return vec;
}

/* KVM */

struct kvm;
struct kvm_vcpu;
struct kvm_lapic;

struct kvm_lapic_state { char regs[0x400]; };
struct kvm_lapic_irq {
	u32 vector;
	u16 delivery_mode;
	u16 dest_mode;
	bool level;
	u16 trig_mode;
	u32 shorthand;
	u32 dest_id;
	bool msi_redir_hint;
};

enum kvm_apic_logical_mode {
	KVM_APIC_MODE_SW_DISABLED,
	KVM_APIC_MODE_XAPIC_CLUSTER,
	KVM_APIC_MODE_XAPIC_FLAT,
	KVM_APIC_MODE_X2APIC,
	KVM_APIC_MODE_MAP_DISABLED,
};

struct kvm_apic_map {
	struct rcu_head rcu;
	enum kvm_apic_logical_mode logical_mode;
	u32 max_apic_id;
	union {
		struct kvm_lapic *xapic_flat_map[8];
		struct kvm_lapic *xapic_cluster_map[16][4];
	};
	struct kvm_lapic *phys_map[];
};

struct kvm_io_device { int unused; };
struct kvm_io_device_ops {
	int (*read)(struct kvm_vcpu *vcpu, struct kvm_io_device *dev, gpa_t addr,
		    int len, void *val);
	int (*write)(struct kvm_vcpu *vcpu, struct kvm_io_device *dev, gpa_t addr,
		     int len, const void *val);
};

#define kvm_iodevice_init(dev, ops)	((void)(ops))

struct gfn_to_hva_cache {
	u64 gpa;
	unsigned long len;
};

#define KVM_MAX_VCPUS			64
#define KVM_MAX_VCPU_IDS		4096
struct rtc_status {
	DECLARE_BITMAP(map, KVM_MAX_VCPU_IDS);
	u8 vectors[KVM_MAX_VCPU_IDS];
};

enum {
	KVM_SUPPRESS_EOI_BROADCAST_QUIRKED,
	KVM_SUPPRESS_EOI_BROADCAST_ENABLED,
	KVM_SUPPRESS_EOI_BROADCAST_DISABLED,
};

enum {
	APICV_INHIBIT_REASON_PHYSICAL_ID_ALIASED,
	APICV_INHIBIT_REASON_LOGICAL_ID_ALIASED,
	APICV_INHIBIT_REASON_APIC_ID_MODIFIED,
	APICV_INHIBIT_REASON_APIC_BASE_MODIFIED,
};

struct kvm_run {
	struct {
		u64 rip;
		u32 is_write;
	} tpr_access;
};

struct kvm_vcpu {
	struct kvm *kvm;
	int vcpu_id;
	int vcpu_idx;
	int mode;
	bool wants_to_run;
	struct kvm_run *run;
	struct {
		u64 apic_base;
		struct kvm_lapic *apic;
		DECLARE_BITMAP(ioapic_handled_vectors, 256);
		unsigned long apic_attention;
		s32 apic_arb_prio;
		int mp_state;
		bool tpr_access_reporting;
		bool cpuid_dynamic_bits_dirty;
		u64 mcg_cap;
		u64 tsc_scaling_ratio;
		u32 virtual_tsc_khz;
		int pending_ioapic_eoi;
		int highest_stale_pending_ioapic_eoi;
		struct {
			u64 msr_val;
			struct gfn_to_hva_cache data;
		} pv_eoi;
		struct { bool pv_unhalted; } pv;
	} arch;

	/* What the rest of KVM would know. */
	struct kvm_run run_page;
	bool has_smm;
	bool is_intel;
	bool can_post;
	bool has_hv_timer;
	bool hv_timer_armed;
	u64 hv_timer_deadline;
	int synic_vector;
	bool synic_auto_eoi;
	bool pv_eoi_writable;
	bool pv_eoi_readable;
	u8 pv_eoi_byte;
	u32 vapic_word;
};

struct kvm {
	struct {
		int suppress_eoi_broadcast_mode;
		bool x2apic_format;
		bool x2apic_broadcast_quirk_disabled;
		atomic_t apic_map_dirty;
		struct mutex apic_map_lock;
		struct kvm_apic_map *apic_map;
		u64 apic_bus_cycle_ns;
		atomic_t vapics_in_nmi_mode;
		bool disabled_lapic_found;
		bool apic_access_memslot_enabled;
		bool apic_access_memslot_inhibited;
	} arch;
	struct mutex slots_lock;
	bool is_split;
	bool lint0_quirk;
	bool shadows_tpr;
	u64 inhibits;
	unsigned long vcpus;
	struct kvm_vcpu *vcpu[KVM_MAX_VCPUS];
};

#define IN_GUEST_MODE			1
#define MCG_CMCI_P			BIT(10)
#define NR_PIR_WORDS			4
#define KVM_MSR_ENABLED			1
#define KVM_PV_EOI_ENABLED		1
#define KVM_PV_EOI_DISABLED		0
#define KVM_APIC_CHECK_VAPIC		0
#define KVM_APIC_PV_EOI_PENDING		1
#define KVM_EINVAL			EINVAL
#define APIC_ACCESS_PAGE_PRIVATE_MEMSLOT	0
#define IOAPIC_EDGE_TRIG		0
#define IOAPIC_LEVEL_TRIG		1

enum { KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_INIT_RECEIVED };
enum { KVM_X86_QUIRK_LINT0_REENABLED, KVM_X86_QUIRK_LAPIC_MMIO_HOLE };

/* In the order of the Rust side's. */
enum reference_event {
	KVM_REQ_EVENT,
	KVM_REQ_UNBLOCK,
	KVM_REQ_SCAN_IOAPIC,
	KVM_REQ_IOAPIC_EOI_EXIT,
	KVM_REQ_APF_READY,
	KVM_REQ_REPORT_TPR_ACCESS,
	KVM_REQ_APICV_UPDATE,
	EVENT_KICK,
	EVENT_DELIVER,
	EVENT_ISR,
	EVENT_CR8,
	EVENT_PRE_RESTORE,
	EVENT_POST_RESTORE,
	EVENT_NMI,
	EVENT_SMI,
	EVENT_SYNIC_EOI,
	EVENT_IOAPIC_EOI,
	EVENT_RTC_RESTORE,
	EVENT_DELAY_CYCLES,
	EVENT_DELAY_NS,
	EVENT_SENT,
	EVENT_SENT_FAST,
};

void reference_event(enum reference_event event, u64 a, u64 b);
#define kvm_make_request(request, vcpu) \
	reference_event(request, (request) == KVM_REQ_IOAPIC_EOI_EXIT ? \
			(vcpu)->arch.pending_ioapic_eoi : 0, 0)
#define kvm_vcpu_kick(vcpu)		reference_event(EVENT_KICK, 0, 0)
#define kvm_inject_nmi(vcpu)		reference_event(EVENT_NMI, 0, 0)
#define kvm_inject_smi(vcpu) \
	(reference_event(EVENT_SMI, 0, 0), (vcpu)->has_smm ? 0 : -ENOTTY)
#define kvm_hv_synic_send_eoi(vcpu, v)	reference_event(EVENT_SYNIC_EOI, v, 0)
#define kvm_ioapic_update_eoi(vcpu, v, trigger) \
	reference_event(EVENT_IOAPIC_EOI, v, trigger)
#define kvm_rtc_eoi_tracking_restore_one(vcpu) \
	reference_event(EVENT_RTC_RESTORE, 0, 0)
#define __delay(cycles)			reference_event(EVENT_DELAY_CYCLES, cycles, 0)
#define ndelay(ns)			reference_event(EVENT_DELAY_NS, ns, 0)
#define kvm_xen_sw_enable_lapic(vcpu)
#define kvm_make_scan_ioapic_request(kvm)

#define kvm_for_each_vcpu(i, v, kvm) \
	for ((i) = 0; (i) < (kvm)->vcpus && ((v) = (kvm)->vcpu[i], true); (i)++)
#define kvm_get_vcpu(kvm, i)		((kvm)->vcpu[i])
#define kvm_get_running_vcpu()		vcpu
#define irqchip_in_kernel(kvm)		true
#define irqchip_split(kvm)		((kvm)->is_split)
#define ioapic_in_kernel(kvm)		(!(kvm)->is_split)
#define kvm_set_apicv_inhibit(kvm, reason)	((kvm)->inhibits |= BIT(reason))
#define kvm_clear_apicv_inhibit(kvm, reason)	((kvm)->inhibits &= ~BIT(reason))
#define kvm_check_has_quirk(kvm, quirk) \
	((quirk) == KVM_X86_QUIRK_LINT0_REENABLED && (kvm)->lint0_quirk)
#define kvm_vcpu_is_reset_bsp(vcpu)	((vcpu)->vcpu_id == 0)
#define kvm_vcpu_is_bsp(vcpu)		((vcpu)->vcpu_id == 0)
#define kvm_vcpu_reserved_gpa_bits_raw(vcpu)	(~(BIT(40) - 1))
#define guest_cpu_cap_has(vcpu, feature)	true
#define guest_cpuid_is_intel_compatible(vcpu)	((vcpu)->is_intel)
#define kvm_hv_synic_has_vector(vcpu, v)	((vcpu)->synic_vector == (v))
#define kvm_hv_synic_auto_eoi_set(vcpu, v) \
	((vcpu)->synic_auto_eoi && (vcpu)->synic_vector == (v))
#define pi_inject_timer			(vcpu->can_post)
#define kvm_mwait_in_guest(kvm)		false
#define kvm_hlt_in_guest(kvm)		true
#define kvm_read_l1_tsc(vcpu, tsc)	((tsc) + 77)
#define nsec_to_cycles(vcpu, ns)	((u64)(ns) * 2)
#define kvm_rip_read(vcpu)		0
#define kvm_vcpu_is_blocking(vcpu)	false
#define is_smm(vcpu)			false
#define is_guest_mode(vcpu)		false
#define kvm_check_nested_events(vcpu)	0
#define kvm_vcpu_reset(vcpu, init_event)
#define kvm_set_mp_state(vcpu, state)	((vcpu)->arch.mp_state = (state))
#define kvm_vcpu_srcu_read_lock(vcpu)
#define kvm_vcpu_srcu_read_unlock(vcpu)
#define __x86_set_memory_region(kvm, id, gpa, size)	NULL
#define pi_harvest_pir(pir, pir_vals)	false
#define kvm_gfn_to_hva_cache_init(kvm, cache, addr, length) \
	((cache)->gpa = (addr), (cache)->len = (length), 0)

/* The PV EOI byte and the VAPIC word of the only vCPU that has either. */
#define kvm_read_guest_cached(kvm, cache, data, len) \
	reference_guest_memory(vcpu, data, len, false)
#define kvm_write_guest_cached(kvm, cache, data, len) \
	reference_guest_memory(vcpu, data, len, true)
int reference_guest_memory(struct kvm_vcpu *vcpu, void *data, size_t len, bool write);

extern struct { u64 default_tsc_scaling_ratio; } kvm_caps;
extern unsigned int min_timer_period_us;
extern bool enable_apicv;

/* The vendor module */
extern struct {
	int (*set_hv_timer)(struct kvm_vcpu *vcpu, u64 deadline, bool *expired);
	int (*sync_pir_to_irr)(struct kvm_vcpu *vcpu);
	void *(*alloc_apic_backing_page)(struct kvm_vcpu *vcpu);
	bool update_cr8_intercept;
	bool x2apic_icr_is_split;
} kvm_x86_ops;

int vendor_set_hv_timer(struct kvm_vcpu *vcpu, u64 deadline, bool *expired);
void vendor_deliver_interrupt(struct kvm_lapic *apic, int mode, int trigger, int vector);
#define kvm_x86_call(op)		vendor_##op
#define vendor_sync_pir_to_irr(vcpu)	(-1)
#define vendor_alloc_apic_backing_page(vcpu)	NULL
#define vendor_cancel_hv_timer(vcpu)	((vcpu)->hv_timer_armed = false)
#define vendor_hwapic_isr_update(vcpu, v)	reference_event(EVENT_ISR, v, 0)
#define vendor_update_cr8_intercept(vcpu, tpr, irr) \
	reference_event(EVENT_CR8, tpr, irr)
#define vendor_apicv_pre_state_restore(vcpu) \
	reference_event(EVENT_PRE_RESTORE, 0, 0)
#define vendor_apicv_post_state_restore(vcpu) \
	reference_event(EVENT_POST_RESTORE, 0, 0)
#define vendor_set_virtual_apic_mode(vcpu)
#define vendor_vcpu_deliver_sipi_vector(vcpu, v)	((void)(v))
#define vendor_apic_init_signal_blocked(vcpu)	false

#define trace_kvm_apic_accept_irq(...)
#define trace_kvm_apic_ipi(...)
#define trace_kvm_apic_read(...)
#define trace_kvm_apic_write(...)
#define trace_kvm_eoi(...)
#define trace_kvm_hv_timer_state(...)
#define trace_kvm_pv_eoi(...)
#define trace_kvm_wait_lapic_expire(...)

#endif
