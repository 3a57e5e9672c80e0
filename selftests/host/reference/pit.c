// SPDX-License-Identifier: GPL-2.0
/*
 * KVM's 8254 in user space: its i8254.c, which the test copies here without its
 * #include lines, and a few functions to drive it by.
 */
#include "base.h"

u64 reference_warnings;
s64 reference_now;
static unsigned int min_timer_period_us = 200;

#define pr_debug(...)
#define BUILD_BUG_ON(x)			_Static_assert(!(x), #x)
#define NSEC_PER_SEC			1000000000L
#define mutex_init(lock)
#define mutex_is_locked(lock)		true
#define smp_mb()
#define atomic_xchg(v, i)		({ int _x = (v)->counter; (v)->counter = (i); _x; })
#define atomic_dec_if_positive(v) \
	({ int _d = (v)->counter - 1; if (_d >= 0) (v)->counter = _d; _d; })
#define hrtimer_get_remaining(timer)	((timer)->expires - reference_now)
#define hrtimer_add_expires_ns(timer, ns)	((timer)->expires += (ns))
#undef hrtimer_setup
#define hrtimer_setup(timer, fn, clock, mode)	((void)(fn))
#define HRTIMER_MODE_ABS		0

/* The uAPI */

struct kvm_pit_channel_state {
	u32 count;
	u16 latched_count;
	u8 count_latched;
	u8 status_latched;
	u8 status;
	u8 read_state;
	u8 write_state;
	u8 write_latch;
	u8 rw_mode;
	u8 mode;
	u8 bcd;
	u8 gate;
	s64 count_load_time;
};

struct kvm_pit_state {
	struct kvm_pit_channel_state channels[3];
};

struct kvm_pit_state2 {
	struct kvm_pit_channel_state channels[3];
	u32 flags;
	u32 reserved[9];
};

struct kvm_reinject_control {
	u8 pit_reinject;
	u8 reserved[31];
};

#define KVM_PIT_FLAGS_HPET_LEGACY	1
#define KVM_PIT_FLAGS_SPEAKER_DATA_ON	2
#define KVM_PIT_SPEAKER_DUMMY		1

/* KVM */

struct kvm_pit;
struct kvm_vcpu {
	struct kvm *kvm;
	int vcpu_id;
};

struct kvm {
	struct {
		struct kvm_pit *vpit;
		atomic_t vapics_in_nmi_mode;
	} arch;
	struct mutex slots_lock;
	u32 pulses;
};

struct kvm_io_device { int unused; };
struct kvm_io_device_ops {
	int (*read)(struct kvm_vcpu *vcpu, struct kvm_io_device *dev, gpa_t addr,
		    int len, void *val);
	int (*write)(struct kvm_vcpu *vcpu, struct kvm_io_device *dev, gpa_t addr,
		     int len, const void *val);
};

struct kvm_irq_ack_notifier {
	int gsi;
	void (*irq_acked)(struct kvm_irq_ack_notifier *kian);
};

struct kvm_irq_mask_notifier {
	void (*func)(struct kvm_irq_mask_notifier *kimn, bool masked);
};

struct kthread_work {
	void (*func)(struct kthread_work *work);
	bool queued;
};

struct kthread_worker { int unused; };
struct pid { int unused; };
typedef int pid_t;

#define current				NULL
#define task_tgid(task)			NULL
#define get_pid(pid)			(pid)
#define pid_vnr(pid)			0
#define put_pid(pid)			((void)(pid))
#define kthread_run_worker(flags, fmt, nr) \
	((void)(nr), (struct kthread_worker *)calloc(1, sizeof(struct kthread_worker)))
#define kthread_destroy_worker(worker)	free(worker)
#define kthread_init_work(work, fn)	((work)->func = (fn))
#define kthread_queue_work(worker, work)	((work)->queued = true)
#define ioapic_in_kernel(kvm)		true
#define kvm_set_apicv_inhibit(kvm, reason)
#define kvm_clear_apicv_inhibit(kvm, reason)
#define kvm_register_irq_ack_notifier(kvm, kian)
#define kvm_unregister_irq_ack_notifier(kvm, kian)
#define kvm_register_irq_mask_notifier(kvm, gsi, kimn)
#define kvm_unregister_irq_mask_notifier(kvm, gsi, kimn)
#define kvm_iodevice_init(dev, ops)	((void)(ops))
#define kvm_io_bus_register_dev(kvm, bus, addr, len, dev)	0
#define kvm_io_bus_unregister_dev(kvm, bus, dev)
#define kvm_for_each_vcpu(i, vcpu, kvm)	for ((i) = 0, (vcpu) = NULL; (i) < 0; )
#define kvm_apic_nmi_wd_deliver(vcpu)	((void)(vcpu))
#define KVM_PIT_IRQ_SOURCE_ID		2

/* Waiting for a work that is queued is to have it done. */
static void kthread_flush_work(struct kthread_work *work)
{
	if (work->queued) {
		work->queued = false;
		work->func(work);
	}
}

static void kvm_set_irq(struct kvm *kvm, int source, u32 gsi, int level, bool status)
{
	kvm->pulses += level;
}

#include "kvm-i8254.h"
#include "kvm-i8254.c"

struct reference_state {
	struct kvm_pit_channel_state channels[3];
	u64 flags;
	u64 timer_armed;
	u64 timer_expires;
	u64 work_queued;
	u64 pulses;
};

void reference_set_now(s64 now)
{
	reference_now = now;
}

struct kvm *reference_create(void)
{
	struct kvm *kvm = calloc(1, sizeof(*kvm));

	kvm->arch.vpit = kvm_create_pit(kvm, KVM_PIT_SPEAKER_DUMMY);
	return kvm;
}

void reference_destroy(struct kvm *kvm)
{
	kvm_free_pit(kvm);
	free(kvm);
}

void reference_write(struct kvm *kvm, u64 addr, u32 val)
{
	struct kvm_pit *pit = kvm->arch.vpit;

	if (addr == KVM_SPEAKER_BASE_ADDRESS)
		speaker_ioport_write(NULL, &pit->speaker_dev, addr, 1, &val);
	else
		pit_ioport_write(NULL, &pit->dev, addr, 1, &val);
}

/* @data keeps what it holds if nothing answers. */
void reference_read(struct kvm *kvm, u64 addr, u32 len, void *data)
{
	struct kvm_pit *pit = kvm->arch.vpit;

	if (addr == KVM_SPEAKER_BASE_ADDRESS)
		speaker_ioport_read(NULL, &pit->speaker_dev, addr, len, data);
	else
		pit_ioport_read(NULL, &pit->dev, addr, len, data);
}

/* The timer expires, if it is time. */
u32 reference_expire(struct kvm *kvm)
{
	struct hrtimer *timer = &kvm->arch.vpit->pit_state.timer;

	if (!timer->armed || timer->expires > reference_now)
		return 0;
	timer->armed = pit_timer_fn(timer) == HRTIMER_RESTART;
	return 1;
}

void reference_work(struct kvm *kvm)
{
	kthread_flush_work(&kvm->arch.vpit->expired);
}

void reference_acknowledge(struct kvm *kvm)
{
	struct kvm_kpit_state *ps = &kvm->arch.vpit->pit_state;

	if (atomic_read(&ps->reinject))
		ps->irq_ack_notifier.irq_acked(&ps->irq_ack_notifier);
}

void reference_mask(struct kvm *kvm, u32 masked)
{
	struct kvm_pit *pit = kvm->arch.vpit;

	if (atomic_read(&pit->pit_state.reinject))
		pit->mask_notifier.func(&pit->mask_notifier, masked);
}

void reference_reinject(struct kvm *kvm, u32 reinject)
{
	struct kvm_reinject_control control = { .pit_reinject = reinject };

	kvm_vm_ioctl_reinject(kvm, &control);
}

void reference_restore(struct kvm *kvm, const struct kvm_pit_state *channels)
{
	struct kvm_pit_state copy = *channels;

	kvm_vm_ioctl_set_pit(kvm, &copy);
}

void reference_restore2(struct kvm *kvm, const struct kvm_pit_state *channels, u32 flags)
{
	struct kvm_pit_state2 state = { .flags = flags };

	memcpy(state.channels, channels, sizeof(state.channels));
	kvm_vm_ioctl_set_pit2(kvm, &state);
}

void reference_look(struct kvm *kvm, struct reference_state *state)
{
	struct kvm_pit *pit = kvm->arch.vpit;
	struct kvm_pit_state2 saved;

	kvm_vm_ioctl_get_pit2(kvm, &saved);
	memcpy(state->channels, saved.channels, sizeof(saved.channels));
	state->flags = saved.flags;
	state->timer_armed = pit->pit_state.timer.armed;
	state->timer_expires = pit->pit_state.timer.expires;
	state->work_queued = pit->expired.queued;
	state->pulses = kvm->pulses;
}
