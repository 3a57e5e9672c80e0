// SPDX-License-Identifier: GPL-2.0
/*
 * KVM's local APIC in user space: its lapic.c, which the test copies here
 * without its #include lines, and a few functions to drive it by.
 */
#include "kernel.h"

struct kvm_lapic;
static bool reference_send(struct kvm_lapic *apic, struct kvm_lapic_irq *irq, bool fast);

#include "kvm-lapic.h"
#include "kvm-lapic.c"

u64 reference_warnings;
s64 reference_now;
unsigned int min_timer_period_us;
bool enable_apicv;
typeof(kvm_caps) kvm_caps = { 1 };
typeof(kvm_x86_ops) kvm_x86_ops = {
	.set_hv_timer = vendor_set_hv_timer,
	.update_cr8_intercept = true,
};

#define MAX_EVENTS	4096
static struct event { u64 event, a, b; } events[MAX_EVENTS];
static unsigned int nr_events;

void reference_event(enum reference_event event, u64 a, u64 b)
{
	if (nr_events < MAX_EVENTS)
		events[nr_events++] = (struct event){ event, a, b };
}

/* Moves what has happened since the last call to @log. */
u32 reference_events(struct event *log)
{
	u32 nr = nr_events;

	memcpy(log, events, nr * sizeof(*log));
	nr_events = 0;
	return nr;
}

int vendor_set_hv_timer(struct kvm_vcpu *vcpu, u64 deadline, bool *expired)
{
	if (!vcpu->has_hv_timer)
		return -1;

	vcpu->hv_timer_armed = true;
	vcpu->hv_timer_deadline = deadline;
	*expired = deadline <= kvm_read_l1_tsc(vcpu, rdtsc());
	return 0;
}

void vendor_deliver_interrupt(struct kvm_lapic *apic, int mode, int trigger, int vector)
{
	reference_event(EVENT_DELIVER, mode >> 8 | !!trigger << 3, vector);
	kvm_lapic_set_irr(vector, apic);
	kvm_make_request(KVM_REQ_EVENT, apic->vcpu);
	kvm_vcpu_kick(apic->vcpu);
}

int reference_guest_memory(struct kvm_vcpu *vcpu, void *data, size_t len, bool write)
{
	bool is_pv_eoi = len == sizeof(vcpu->pv_eoi_byte);
	void *memory = is_pv_eoi ? (void *)&vcpu->pv_eoi_byte : &vcpu->vapic_word;

	if (is_pv_eoi && !(write ? vcpu->pv_eoi_writable : vcpu->pv_eoi_readable))
		return -EFAULT;

	if (write)
		memcpy(memory, data, len);
	else
		memcpy(data, memory, len);
	return 0;
}

/* What an APIC sends is compared, and delivered to itself only. */
static bool reference_send(struct kvm_lapic *apic, struct kvm_lapic_irq *irq, bool fast)
{
	u64 message = irq->vector | irq->delivery_mode | !!irq->dest_mode << 11 |
		      irq->level << 14 | !!irq->trig_mode << 15 | irq->shorthand;

	reference_event(fast ? EVENT_SENT_FAST : EVENT_SENT, message, irq->dest_id);
	if (irq->shorthand == APIC_DEST_SELF)
		kvm_apic_set_irq(apic->vcpu, irq, NULL);
	return true;
}

struct reference_config {
	u32 x2apic_format;
	u32 broadcast_quirk_disabled;
	u32 vector_hashing;
	u32 is_split;
	u32 suppress_eoi_broadcast;
	u32 lint0_quirk;
	u32 icr_is_split;
	u32 shadows_tpr;
	u32 min_timer_period_us;
	u64 bus_cycle_ns;
};

struct kvm *reference_create_vm(const struct reference_config *config)
{
	struct kvm *kvm = calloc(1, sizeof(*kvm));

	kvm->arch.x2apic_format = config->x2apic_format;
	kvm->arch.x2apic_broadcast_quirk_disabled = config->broadcast_quirk_disabled;
	kvm->arch.suppress_eoi_broadcast_mode = config->suppress_eoi_broadcast;
	kvm->arch.apic_bus_cycle_ns = config->bus_cycle_ns;
	kvm->is_split = config->is_split;
	kvm->lint0_quirk = config->lint0_quirk;
	kvm->shadows_tpr = config->shadows_tpr;
	kvm_x86_ops.x2apic_icr_is_split = config->icr_is_split;
	min_timer_period_us = config->min_timer_period_us;
	vector_hashing_enabled = config->vector_hashing;
	return kvm;
}

struct kvm_vcpu *reference_create_vcpu(struct kvm *kvm, u32 id, u32 cmci,
				       u32 timer_mode_mask)
{
	struct kvm_vcpu *vcpu = calloc(1, sizeof(*vcpu));

	vcpu->kvm = kvm;
	vcpu->vcpu_id = id;
	vcpu->vcpu_idx = kvm->vcpus;
	vcpu->run = &vcpu->run_page;
	vcpu->wants_to_run = true;
	vcpu->arch.tpr_access_reporting = true;
	vcpu->arch.tsc_scaling_ratio = kvm_caps.default_tsc_scaling_ratio;
	vcpu->arch.virtual_tsc_khz = 2000000;
	vcpu->arch.mcg_cap = cmci ? MCG_CMCI_P : 0;
	vcpu->arch.highest_stale_pending_ioapic_eoi = -1;
	vcpu->has_smm = true;
	vcpu->is_intel = true;
	vcpu->synic_vector = -1;
	vcpu->pv_eoi_readable = true;
	vcpu->pv_eoi_writable = true;

	kvm_create_lapic(vcpu);
	vcpu->arch.apic->lapic_timer.timer_advance_ns = 0;
	vcpu->arch.apic->lapic_timer.timer_mode_mask = timer_mode_mask;
	kvm->vcpu[kvm->vcpus++] = vcpu;
	kvm_lapic_reset(vcpu, false);
	nr_events = 0;
	return vcpu;
}

void reference_destroy_vm(struct kvm *kvm)
{
	struct kvm_vcpu *vcpu;
	unsigned long i;

	kvm_for_each_vcpu(i, vcpu, kvm) {
		kvm_free_lapic(vcpu);
		free(vcpu);
	}
	free(kvm->arch.apic_map);
	free(kvm);
}

/* In the order of the Rust side's. */
enum op {
	OP_NOW, OP_MMIO_READ, OP_MMIO_WRITE, OP_MSR_READ, OP_MSR_WRITE, OP_TRAP,
	OP_ICR_FAST, OP_TPR, OP_ACCEPT, OP_LVT, OP_HAS_INTERRUPT, OP_ACK,
	OP_EOI_ACCELERATED, OP_TIMER_FN, OP_DEADLINE, OP_PENDING_TIMER,
	OP_INJECT_TIMER, OP_EXPIRED_HV, OP_TO_HV, OP_TO_SW, OP_MIGRATE, OP_WAIT,
	OP_BASE, OP_UPDATE_APICV, OP_FROM_VAPIC, OP_TO_VAPIC,
	OP_COMPUTE_PPR, OP_SAVE, OP_RESTORE, OP_RESET, OP_ACCEPTS_PIC,
	OP_READABLE, OP_PENDING_EOI, OP_SUPPRESSES_EOI,
};

u64 reference_step(struct kvm_vcpu *vcpu, enum op op, u64 a, u64 b, void *data)
{
	struct kvm_lapic *apic = vcpu->arch.apic;
	struct kvm_timer *timer = &apic->lapic_timer;
	u32 ppr;

	switch (op) {
	case OP_NOW:
		reference_now = a;
		return 0;
	case OP_MMIO_READ:
		return apic_mmio_read(vcpu, &apic->dev, apic->base_address + a, b, data);
	case OP_MMIO_WRITE:
		return apic_mmio_write(vcpu, &apic->dev, apic->base_address + a, b, data);
	case OP_MSR_READ:
		return kvm_lapic_msr_read(apic, a, data);
	case OP_MSR_WRITE:
		return kvm_lapic_msr_write(apic, a, b);
	case OP_TRAP:
		kvm_lapic_set_reg(apic, a, b);
		kvm_apic_write_nodecode(vcpu, a);
		return 0;
	case OP_ICR_FAST:
		return kvm_x2apic_icr_write_fast(apic, a);
	case OP_TPR:
		if (vcpu->kvm->shadows_tpr)
			kvm_lapic_set_reg(apic, APIC_TASKPRI, a);
		else
			apic_set_tpr(apic, a);
		return 0;
	case OP_ACCEPT:
		return __apic_accept_irq(apic, a & APIC_MODE_MASK, a & APIC_VECTOR_MASK,
					 !!(a & APIC_INT_ASSERT),
					 a & APIC_INT_LEVELTRIG, NULL);
	case OP_LVT:
		return kvm_apic_local_deliver(apic, a);
	case OP_HAS_INTERRUPT:
		/* KVM would store PPR, which the model does if something is pending. */
		return apic->irr_pending ? kvm_apic_has_interrupt(vcpu) : -1;
	case OP_ACK:
		kvm_apic_ack_interrupt(vcpu, a);
		return 0;
	case OP_EOI_ACCELERATED:
		kvm_apic_set_eoi_accelerated(vcpu, a);
		return 0;
	case OP_TIMER_FN:
		timer->timer.armed = false;
		if (apic_timer_fn(&timer->timer) == HRTIMER_NORESTART)
			return 0;
		timer->timer.armed = true;
		return 1;
	case OP_DEADLINE:
		kvm_set_lapic_tscdeadline_msr(vcpu, a);
		return 0;
	case OP_PENDING_TIMER:
		return apic_has_pending_timer(vcpu);
	case OP_INJECT_TIMER:
		kvm_inject_apic_timer_irqs(vcpu);
		return 0;
	case OP_EXPIRED_HV:
		kvm_lapic_expired_hv_timer(vcpu);
		return 0;
	case OP_TO_HV:
		kvm_lapic_switch_to_hv_timer(vcpu);
		return 0;
	case OP_TO_SW:
		kvm_lapic_switch_to_sw_timer(vcpu);
		return 0;
	case OP_MIGRATE:
		__kvm_migrate_apic_timer(vcpu);
		return 0;
	case OP_WAIT:
		kvm_wait_lapic_expire(vcpu);
		return 0;
	case OP_BASE:
		return kvm_apic_set_base(vcpu, a, b);
	case OP_UPDATE_APICV:
		apic->apicv_active = a;
		kvm_apic_update_apicv(vcpu);
		return 0;
	case OP_FROM_VAPIC:
		kvm_lapic_sync_from_vapic(vcpu);
		return 0;
	case OP_TO_VAPIC:
		kvm_lapic_sync_to_vapic(vcpu);
		return 0;
	case OP_COMPUTE_PPR:
		return __apic_update_ppr(apic, &ppr);
	case OP_SAVE:
		/* Which the model does; KVM does not save it, but for a deadline's MSR. */
		if (!apic_lvtt_tscdeadline(apic) && apic_has_pending_timer(vcpu))
			kvm_inject_apic_timer_irqs(vcpu);
		return kvm_apic_get_state(vcpu, data);
	case OP_RESTORE:
		return kvm_apic_set_state(vcpu, data);
	case OP_RESET:
		kvm_lapic_reset(vcpu, a);
		return 0;
	case OP_ACCEPTS_PIC:
		return kvm_apic_accept_pic_intr(vcpu);
	case OP_READABLE:
		return kvm_lapic_readable_reg_mask(apic);
	case OP_PENDING_EOI:
		return kvm_apic_pending_eoi(vcpu, a);
	case OP_SUPPRESSES_EOI:
		return kvm_lapic_suppress_eoi_broadcast(apic);
	}
	return 0;
}

/* In the order of the Rust side's. */
enum knob {
	KNOB_HV_TIMER, KNOB_CAN_POST, KNOB_IN_GUEST, KNOB_WANTS_TO_RUN,
	KNOB_ADVANCE_NS, KNOB_TSC_SCALED, KNOB_SMM, KNOB_INTEL, KNOB_SYNIC,
	KNOB_SYNIC_AUTO_EOI, KNOB_STALE_EOI, KNOB_IOAPIC_HANDLES, KNOB_PV_EOI,
	KNOB_PV_EOI_BYTE, KNOB_PV_EOI_READABLE, KNOB_PV_EOI_WRITABLE,
	KNOB_ATTENTION, KNOB_VAPIC_ADDRESS, KNOB_VAPIC_WORD, KNOB_PROTECTED,
	KNOB_ARBITRATION,
};

void reference_set(struct kvm_vcpu *vcpu, enum knob knob, u64 value)
{
	struct kvm_lapic *apic = vcpu->arch.apic;

	switch (knob) {
	case KNOB_HV_TIMER:
		vcpu->has_hv_timer = value;
		break;
	case KNOB_CAN_POST:
		vcpu->can_post = value;
		break;
	case KNOB_IN_GUEST:
		vcpu->mode = value ? IN_GUEST_MODE : 0;
		break;
	case KNOB_WANTS_TO_RUN:
		vcpu->wants_to_run = value;
		break;
	case KNOB_ADVANCE_NS:
		apic->lapic_timer.timer_advance_ns = value;
		break;
	case KNOB_TSC_SCALED:
		vcpu->arch.tsc_scaling_ratio = kvm_caps.default_tsc_scaling_ratio + value;
		break;
	case KNOB_SMM:
		vcpu->has_smm = value;
		break;
	case KNOB_INTEL:
		vcpu->is_intel = value;
		break;
	case KNOB_SYNIC:
		vcpu->synic_vector = value;
		break;
	case KNOB_SYNIC_AUTO_EOI:
		vcpu->synic_auto_eoi = value;
		break;
	case KNOB_STALE_EOI:
		vcpu->arch.highest_stale_pending_ioapic_eoi = value;
		break;
	case KNOB_IOAPIC_HANDLES:
		set_bit(value, vcpu->arch.ioapic_handled_vectors);
		break;
	case KNOB_PV_EOI:
		vcpu->arch.pv_eoi.msr_val = value;
		break;
	case KNOB_PV_EOI_BYTE:
		vcpu->pv_eoi_byte = value;
		break;
	case KNOB_PV_EOI_READABLE:
		vcpu->pv_eoi_readable = value;
		break;
	case KNOB_PV_EOI_WRITABLE:
		vcpu->pv_eoi_writable = value;
		break;
	case KNOB_ATTENTION:
		vcpu->arch.apic_attention = value;
		break;
	case KNOB_VAPIC_ADDRESS:
		apic->vapic_addr = value;
		break;
	case KNOB_VAPIC_WORD:
		vcpu->vapic_word = value;
		break;
	case KNOB_PROTECTED:
		apic->guest_apic_protected = value;
		break;
	case KNOB_ARBITRATION:
		vcpu->arch.apic_arb_prio = value;
		break;
	}
}

/* All that there is to see, besides the register page. */
struct reference_state {
	u64 base;
	u64 base_address;
	u64 base_inhibited;
	u64 software_enabled;
	u64 irr_pending;
	u64 nmi_watchdogs;
	u64 arbitration_priority;
	u64 hrtimer_armed;
	u64 hrtimer;
	u64 hv_timer_in_use;
	u64 hv_timer_armed;
	u64 hv_timer;
	u64 tscdeadline;
	u64 advance_ns;
	u64 attention;
	u64 pv_eoi_byte;
	u64 vapic_word;
};

const u32 *reference_look(struct kvm_vcpu *vcpu, struct reference_state *state)
{
	struct kvm_lapic *apic = vcpu->arch.apic;
	struct kvm_timer *timer = &apic->lapic_timer;

	*state = (struct reference_state){
		.base = vcpu->arch.apic_base,
		.base_address = apic->base_address,
		.base_inhibited = test_bit(APICV_INHIBIT_REASON_APIC_BASE_MODIFIED,
					   &vcpu->kvm->inhibits),
		.software_enabled = apic->sw_enabled,
		.irr_pending = apic->irr_pending,
		.nmi_watchdogs = vcpu->kvm->arch.vapics_in_nmi_mode.counter,
		.arbitration_priority = (u32)vcpu->arch.apic_arb_prio,
		.hrtimer_armed = timer->timer.armed,
		.hrtimer = timer->timer.armed ? timer->timer.expires : 0,
		.hv_timer_in_use = timer->hv_timer_in_use,
		.hv_timer_armed = vcpu->hv_timer_armed,
		.hv_timer = vcpu->hv_timer_armed ? vcpu->hv_timer_deadline : 0,
		.tscdeadline = kvm_get_lapic_tscdeadline_msr(vcpu),
		.advance_ns = timer->timer_advance_ns,
		.attention = vcpu->arch.apic_attention,
		.pv_eoi_byte = vcpu->pv_eoi_byte,
		.vapic_word = vcpu->vapic_word,
	};
	return apic->regs;
}

/* Destinations */

void reference_set_identity(struct kvm_vcpu *vcpu, u64 base, u32 software_enabled,
			    u32 id, u32 ldr, u32 dfr)
{
	struct kvm_lapic *apic = vcpu->arch.apic;

	vcpu->arch.apic_base = base;
	apic->sw_enabled = software_enabled;
	kvm_lapic_set_reg(apic, APIC_ID, id);
	kvm_lapic_set_reg(apic, APIC_LDR, ldr);
	kvm_lapic_set_reg(apic, APIC_DFR, dfr);
}

/* The map's logical mode, -1 if there is no map; and the inhibits. */
s64 reference_build_map(struct kvm *kvm, u64 *inhibits)
{
	struct kvm_apic_map *map;

	kvm->arch.apic_map_dirty.counter = DIRTY;
	kvm_recalculate_apic_map(kvm);
	*inhibits = kvm->inhibits;
	map = kvm->arch.apic_map;
	return map ? (s64)map->logical_mode : -1;
}

struct reference_message {
	u32 icr;
	u32 destination;
	u32 redirection_hint;
};

/* Sets of vCPUs, by index. */
struct reference_targets {
	u64 is_fast;
	u64 by_map;
	u64 by_match;
	u64 delivered;
	u64 single;
};

void reference_resolve(struct kvm *kvm, struct kvm_vcpu *sender,
		       const struct reference_message *message,
		       struct reference_targets *targets)
{
	struct kvm_lapic_irq irq = {
		.vector = message->icr & APIC_VECTOR_MASK,
		.delivery_mode = message->icr & APIC_MODE_MASK,
		.dest_mode = message->icr & APIC_DEST_MASK,
		.level = true,
		.shorthand = message->icr & APIC_SHORT_MASK,
		.dest_id = message->destination,
		.msi_redir_hint = message->redirection_hint,
	};
	struct kvm_lapic *source = sender ? sender->arch.apic : NULL, **dst = NULL;
	struct kvm_vcpu *vcpu;
	unsigned long bitmap = 0, i;

	memset(targets, 0, sizeof(*targets));
	targets->is_fast = kvm_apic_map_get_dest_lapic(kvm, &source, &irq,
						       kvm->arch.apic_map, &dst,
						       &bitmap);
	if (targets->is_fast) {
		for_each_set_bit(i, &bitmap, 16) {
			if (dst[i])
				targets->by_map |= BIT(dst[i]->vcpu->vcpu_idx);
		}
	}

	if (!irq.shorthand && kvm_intr_is_single_vcpu(kvm, &irq, &vcpu))
		targets->single = BIT(vcpu->vcpu_idx);

	kvm_for_each_vcpu(i, vcpu, kvm) {
		memset(vcpu->arch.apic->regs + APIC_IRR, 0, 8 * 0x10);
		if (kvm_apic_present(vcpu) &&
		    kvm_apic_match_dest(vcpu, source, irq.shorthand, irq.dest_id,
					irq.dest_mode))
			targets->by_match |= BIT(i);
	}

	kvm_irq_delivery_to_apic(kvm, source, &irq);
	kvm_for_each_vcpu(i, vcpu, kvm) {
		if (apic_test_vector(irq.vector, vcpu->arch.apic->regs + APIC_IRR))
			targets->delivered |= BIT(i);
	}
	nr_events = 0;
}

/* KVM_HC_SEND_IPI of 64 vCPUs at a time. */
u64 reference_pv_ipi(struct kvm *kvm, u64 low, u64 high, u32 min)
{
	const u32 vector = 0x55;
	struct kvm_vcpu *vcpu;
	unsigned long i;
	u64 delivered = 0;

	kvm_for_each_vcpu(i, vcpu, kvm)
		memset(vcpu->arch.apic->regs + APIC_IRR, 0, 8 * 0x10);
	kvm_pv_send_ipi(kvm, low, high, min, vector, true);
	kvm_for_each_vcpu(i, vcpu, kvm) {
		if (apic_test_vector(vector, vcpu->arch.apic->regs + APIC_IRR))
			delivered |= BIT(i);
	}
	nr_events = 0;
	return delivered;
}
