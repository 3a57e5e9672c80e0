/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What KVM's lapic.c needs of the kernel, as far as one thread in user space
 * can tell: time stands still until it is set, a timer is a number, a request
 * to a vCPU is a line in a log, and there is no other CPU.
 */
#ifndef FERRIC_REFERENCE_KERNEL_H
#define FERRIC_REFERENCE_KERNEL_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef u64 gpa_t;
typedef s64 ktime_t;

#define CONFIG_X86_64			1
#define CONFIG_KVM_IOAPIC		1
#define KBUILD_MODNAME			"reference"

#define __always_inline			inline
#define __maybe_unused			__attribute__((unused))
#define __read_mostly
#define __user
#define fallthrough			__attribute__((fallthrough))
#define likely(x)			(x)
#define unlikely(x)			(x)
#define READ_ONCE(x)			(x)
#define EXPORT_SYMBOL_FOR_KVM_INTERNAL(symbol)
#define module_param(name, type, mode)
#define module_param_named(name, variable, type, mode)

/* A warning is an answer to compare as well: see reference_warnings. */
extern u64 reference_warnings;
#define WARN_ON(x)			({ bool _x = !!(x); reference_warnings += _x; _x; })
#define WARN_ON_ONCE(x)			WARN_ON(x)
#define WARN_ONCE(x, ...)		WARN_ON(x)
#define KVM_BUG_ON(x, kvm)		WARN_ON(x)
#define BUG_ON(x)			do { if (x) abort(); } while (0)
#define pr_info(...)
#define pr_info_once(...)
#define pr_info_ratelimited(...)
#define printk(...)

#define BIT(n)				(1UL << (n))
#define GENMASK_ULL(high, low)		((~0ULL << (low)) & (~0ULL >> (63 - (high))))
#define BITS_PER_LONG			64
#define BITS_TO_LONGS(n)		(((n) + 63) / 64)
#define DECLARE_BITMAP(name, bits)	unsigned long name[BITS_TO_LONGS(bits)]
#define min(a, b)			({ typeof(a) _a = (a); typeof(b) _b = (b); _a < _b ? _a : _b; })
#define max(a, b)			({ typeof(a) _a = (a); typeof(b) _b = (b); _a > _b ? _a : _b; })
#define min_t(type, a, b)		min((type)(a), (type)(b))
#define abs(x)				({ s64 _x = (x); _x < 0 ? -_x : _x; })
#define container_of(p, type, member)	((type *)((char *)(p) - offsetof(type, member)))
#define IS_ALIGNED(x, n)		(((x) & ((n) - 1)) == 0)
#define IS_ERR(p)			false
#define PTR_ERR(p)			0
#define PAGE_SIZE			4096
#define HZ				1

#define __fls(x)			(31 - __builtin_clz((u32)(x)))
#define ffs(x)				__builtin_ffs(x)
#define hweight32(x)			__builtin_popcount(x)
#define hweight16(x)			__builtin_popcount((u16)(x))
#define is_power_of_2(n)		((n) && !((n) & ((n) - 1)))
#define array_index_nospec(index, size)	((index) < (size) ? (index) : 0)
#define for_each_set_bit(bit, map, size) \
	for ((bit) = 0; (bit) < (size); (bit)++) if (test_bit((bit), (map)))

static inline void set_bit(long n, void *map)
{
	((u32 *)map)[n / 32] |= 1u << (n % 32);
}

static inline void clear_bit(long n, void *map)
{
	((u32 *)map)[n / 32] &= ~(1u << (n % 32));
}

static inline bool test_bit(long n, const void *map)
{
	return ((const u32 *)map)[n / 32] >> (n % 32) & 1;
}

static inline bool test_and_set_bit(long n, void *map)
{
	bool old = test_bit(n, map);

	set_bit(n, map);
	return old;
}

static inline bool test_and_clear_bit(long n, void *map)
{
	bool old = test_bit(n, map);

	clear_bit(n, map);
	return old;
}

#define __set_bit			set_bit
#define __clear_bit			clear_bit
#define __test_and_set_bit		test_and_set_bit
#define __test_and_clear_bit		test_and_clear_bit

static inline unsigned long find_nth_bit(const unsigned long *map,
					 unsigned long size, unsigned long n)
{
	unsigned long bit;

	for_each_set_bit(bit, map, size)
		if (!n--)
			return bit;
	return size;
}

#define find_first_bit(map, size)	find_nth_bit(map, size, 0)

#define try_cmpxchg(p, old, new)	(*(p) = (new), true)
#define smp_wmb()
#define smp_rmb()
typedef struct { int counter; } atomic_t;
#define atomic_read(v)			((v)->counter)
#define atomic_read_acquire(v)		((v)->counter)
#define atomic_set(v, i)		((v)->counter = (i))
#define atomic_set_release(v, i)	((v)->counter = (i))
#define atomic_inc(v)			((v)->counter++)
#define atomic_dec(v)			((v)->counter--)
#define atomic_cmpxchg_acquire(v, old, new) \
	({ int _v = (v)->counter; if (_v == (old)) (v)->counter = (new); _v; })
#define atomic_cmpxchg_release		atomic_cmpxchg_acquire

struct mutex { int unused; };
struct rcu_head { int unused; };
#define mutex_lock(lock)
#define mutex_unlock(lock)
#define guard(name)			guard_##name
#define guard_mutex(lock)		((void)(lock))
#define lockdep_is_held(lock)		true
#define preempt_disable()
#define preempt_enable()
#define preemptible()			false
#define local_irq_save(flags)		((void)((flags) = 0))
#define local_irq_restore(flags)	((void)(flags))
#define cond_resched()
#define rcu_read_lock()
#define rcu_read_unlock()
#define rcu_dereference(p)		(p)
#define rcu_dereference_protected(p, c)	(p)
#define rcu_assign_pointer(p, v)	((p) = (v))

#define GFP_KERNEL_ACCOUNT		0
#define kzalloc_obj(obj, gfp)		calloc(1, sizeof(obj))
#define kvzalloc(size, gfp)		calloc(1, size)
#define get_zeroed_page(gfp)		((unsigned long)calloc(1, PAGE_SIZE))
#define free_page(page)			free((void *)(page))
#define kfree(p)			free(p)
#define kvfree(p)			free(p)
#define kvfree_rcu(p, rcu)		free(p)

/* A branch that is never patched looks at the state itself. */
struct static_key { int enabled; };
struct static_key_false_deferred { struct static_key key; };
#define DECLARE_STATIC_KEY_FALSE(name)	extern struct static_key name
#define DEFINE_STATIC_KEY_FALSE(name)	struct static_key name = { 1 }
#define DEFINE_STATIC_KEY_DEFERRED_FALSE(name, delay) \
	struct static_key_false_deferred name = { { 1 } }
#define static_branch_unlikely(k)	true
#define static_branch_inc(k)
#define static_branch_dec(k)
#define static_branch_slow_dec_deferred(k)
#define static_key_deferred_flush(k)

/* Time */

extern s64 reference_now;
#define ktime_get()			reference_now
#define rdtsc()				((u64)reference_now * 2)
#define ktime_sub(a, b)			((a) - (b))
#define ktime_to_ns(t)			((s64)(t))
#define ktime_add_ns(t, ns)		((s64)((u64)(t) + (u64)(ns)))
#define ktime_sub_ns(t, ns)		((s64)((u64)(t) - (u64)(ns)))
#define ktime_before(a, b)		((s64)(a) < (s64)(b))
#define ktime_after(a, b)		((s64)(a) > (s64)(b))
#define div64_u64(a, b)			((u64)(a) / (u64)(b))
#define do_div(n, base) \
	({ u32 _base = (base), _rest = (n) % _base; (n) /= _base; _rest; })
#define mul_u64_u32_div(a, mul, div)	((u64)((unsigned __int128)(a) * (mul) / (div)))

enum hrtimer_restart { HRTIMER_NORESTART, HRTIMER_RESTART };
struct hrtimer {
	bool armed;
	s64 expires;
};

#define CLOCK_MONOTONIC			0
#define HRTIMER_MODE_ABS_HARD		0
#define hrtimer_setup(timer, fn, clock, mode)	((void)(fn))
#define hrtimer_start(timer, time, mode) \
	((timer)->armed = true, (timer)->expires = (time))
#define hrtimer_start_expires(timer, mode)	((timer)->armed = true)
#define hrtimer_set_expires(timer, time)	((timer)->expires = (time))
#define hrtimer_cancel(timer)		({ bool _a = (timer)->armed; (timer)->armed = false; _a; })

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
