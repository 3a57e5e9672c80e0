// SPDX-License-Identifier: GPL-2.0

//! Where messages go, by KVM's code and by the model, for random populations of
//! local APICs: the map, the slow path and what is delivered in the end.

use super::library::{Icr, Reference, Settings, State, Targets, Vcpu};
use super::steps::Knob;
use super::{icr_low, OnC};
use ferric_model::destination::{
    choose_lowest_priority, matches, slow_path_message, x2apic_ldr, BuildError, DestinationMap,
    Identity, LogicalMode, Policy, Resolution, Source, Target, MIN_SLOTS,
};
use ferric_model::message::{Message, Shorthand};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

/// An APIC of a population: its identity, whether it is enabled in its base,
/// and its arbitration priority.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    identity: Identity,
    is_present: bool,
    id_register: u32,
    priority: i32,
}

fn member(
    id: u32,
    mode: u8,
    ldr: Option<u8>,
    changed_id: Option<u8>,
    flags: (bool, bool),
    priority: i32,
) -> Member {
    let index = id % 60;
    let logical_id = match (ldr, mode) {
        (Some(ldr), _) => ldr.into(),
        (None, 0) => 1 << (index & 7),
        (None, _) => (index / 4) << 4 | 1 << (index & 3),
    };
    let is_x2apic = mode == 2;
    let id_register = match changed_id {
        _ if is_x2apic => id,
        Some(changed) => u32::from(changed) << 24,
        None => id << 24,
    };
    Member {
        identity: Identity {
            x2apic_id: id,
            xapic_id: (id_register >> 24) as u8,
            is_x2apic: is_x2apic && flags.1,
            is_software_enabled: flags.0,
            ldr: if is_x2apic {
                x2apic_ldr(id)
            } else {
                logical_id << 24
            },
            dfr: match mode {
                1 => 0x0fff_ffff,
                3 => 0x1fff_ffff,
                _ => 0xffff_ffff,
            },
        },
        is_present: flags.1,
        id_register,
        priority,
    }
}

pub fn population() -> impl Strategy<Value = Vec<Member>> {
    // Flat, cluster, x2APIC, mixed; the reserved DFR value among the mixed.
    let kind = prop_oneof![Just(Some(0)), Just(Some(1)), Just(Some(2)), Just(None)];
    let ids = btree_set(
        prop_oneof![4 => 0..20_u32, 2 => 0..300_u32, 1 => 0..4096_u32],
        0..14,
    );
    (kind, ids)
        .prop_flat_map(|(kind, ids)| {
            let count = ids.len();
            let member = (
                prop_oneof![5 => 0..3_u8, 1 => Just(3)],
                prop::option::weighted(0.2, any::<u8>()),
                prop::option::weighted(0.1, any::<u8>()),
                (prop::bool::weighted(0.9), prop::bool::weighted(0.93)),
                prop_oneof![0..4_i32, any::<i32>()],
            );
            (Just(kind), Just(ids), vec(member, count))
        })
        .prop_map(|(kind, ids, members)| {
            let pairs = ids.into_iter().zip(members);
            pairs
                .map(|(id, (mode, ldr, changed, flags, priority))| {
                    member(id, kind.unwrap_or(mode), ldr, changed, flags, priority)
                })
                .collect()
        })
        .prop_shuffle()
}

/// A message and, if it is not a device's, the index of its sender.
pub fn sending() -> impl Strategy<Value = (Message, Option<prop::sample::Index>)> {
    let destination = prop_oneof![
        4 => 0..256_u32,
        2 => 0..4096_u32,
        2 => (0..20_u32, any::<u16>()).prop_map(|(cluster, members)| {
            cluster << 16 | u32::from(members)
        }),
        1 => prop::sample::select(&[0xff, 0xffff_ffff][..]),
        1 => any::<u32>(),
    ];
    let sender = prop::option::of(any::<prop::sample::Index>());
    let shorthand = prop_oneof![6 => Just(0_u32), 1 => 0..4_u32];
    (
        destination,
        any::<bool>(),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.1),
        16..256_u32,
        shorthand,
        sender,
    )
        .prop_map(
            |(destination, logical, lowest, hint, vector, shorthand, sender)| {
                let low = vector
                    | u32::from(lowest) << 8
                    | u32::from(logical) << 11
                    | 1 << 14
                    // A device has no shorthands.
                    | if sender.is_some() { shorthand << 18 } else { 0 };
                let mut message = Message::from_icr(low, destination);
                message.redirection_hint = hint;
                (message, sender)
            },
        )
}

type Map = DestinationMap<usize, Vec<<usize as Target>::Slot>>;

/// The set of those indices.
fn set(indices: impl Iterator<Item = usize>) -> u64 {
    indices.fold(0, |set, index| set | 1 << index)
}

/// Finds the destinations as the glue does it.
fn resolve(
    members: &[Member],
    map: Option<&Map>,
    message: &Message,
    sender: Option<usize>,
    policy: &Policy,
) -> Targets {
    let source = match sender {
        Some(index) => Source::Apic {
            is_x2apic: members[index].identity.is_x2apic,
        },
        None => Source::Device,
    };
    let priority = |index: usize| members[index].priority;
    let matching = |message: &Message, source, sender| {
        let present = members
            .iter()
            .enumerate()
            .filter(|(_, member)| member.is_present);
        let message = *message;
        present
            .filter(move |(index, member)| {
                let is_sender = Some(*index) == sender;
                matches(&member.identity, &message, source, is_sender, policy)
            })
            .map(|(index, _)| index)
    };
    let is_enabled = |index: &usize| members[*index].identity.is_software_enabled;
    let takes = |index: &usize| is_enabled(index) && members[*index].is_present;

    let resolution = match map {
        Some(map) => map.resolve(message, source, policy, priority),
        None if message.shorthand == Shorthand::Own => Resolution::Sender,
        None => Resolution::Slow,
    };
    let by_match = set(matching(message, source, sender));
    let mut result = Targets {
        by_match,
        ..Targets::default()
    };
    match resolution {
        Resolution::Sender => {
            result.is_fast = 1;
            result.by_map = set(sender.into_iter());
            result.delivered = set(sender.into_iter().filter(takes));
        }
        Resolution::Targets(targets) => {
            result.is_fast = 1;
            result.by_map = set(targets);
            result.delivered = set(targets.filter(takes));
        }
        // Where KVM asks one after the other.
        Resolution::All(all) => result.delivered = set(all.filter(takes)),
        Resolution::Others(all) => {
            let others = all.filter(|index| Some(*index) != sender);
            result.delivered = set(others.filter(takes));
        }
        Resolution::Slow => {
            let message = slow_path_message(message);
            let candidates = matching(&message, source, sender);
            result.delivered = if message.is_lowest_priority() {
                let candidates: Vec<usize> = candidates.filter(is_enabled).collect();
                let candidates = candidates.iter().copied();
                set(
                    choose_lowest_priority(candidates, message.vector, policy, priority)
                        .into_iter(),
                )
            } else {
                set(candidates.filter(takes))
            };
        }
    }

    // For posting by the IOMMU, as if from a device.
    if message.shorthand == Shorthand::None {
        let by_map =
            map.and_then(
                |map| match map.resolve(message, Source::Device, policy, priority) {
                    Resolution::Targets(mut targets) if targets.is_single() => targets.next(),
                    _ => None,
                },
            );
        result.single = match by_map {
            Some(index) => 1 << index,
            None => {
                let all = set(matching(message, Source::Device, None));
                if all.is_power_of_two() {
                    all
                } else {
                    0
                }
            }
        };
    }
    result
}

pub fn compare(
    reference: &Reference,
    settings: &Settings,
    mut members: Vec<Member>,
    messages: &[(Message, Option<prop::sample::Index>)],
    ranges: &[(u32, u64, u64)],
) -> Result<(), TestCaseError> {
    let policy = Policy {
        broadcast_quirk_disabled: settings.broadcast_quirk_disabled != 0,
        x2apic_format: settings.x2apic_format != 0,
        vector_hashing: settings.vector_hashing != 0,
    };
    // SAFETY: Valid settings, and a VM that was just made; less than 64 vCPUs.
    let (vm, vcpus) = unsafe {
        let vm = (reference.create_vm)(settings);
        let create = |member: &Member| {
            let vcpu = (reference.create_vcpu)(vm, member.identity.x2apic_id, 0, 3 << 17);
            let identity = &member.identity;
            let base = match (
                member.is_present,
                member.id_register == identity.x2apic_id && identity.is_x2apic,
            ) {
                (false, _) => 0xfee0_0000,
                (true, false) => 0xfee0_0800,
                (true, true) => 0xfee0_0c00,
            };
            let enabled = identity.is_software_enabled.into();
            let (id, ldr, dfr) = (member.id_register, identity.ldr, identity.dfr);
            (reference.set_identity)(vcpu, base, enabled, id, ldr, dfr);
            (reference.set)(vcpu, Knob::Arbitration, member.priority as u32 as u64);
            vcpu
        };
        (vm, members.iter().map(create).collect::<Vec<Vcpu>>())
    };
    let c = OnC {
        reference,
        vm,
        vcpu: vcpus.first().copied().unwrap_or(std::ptr::null_mut()),
    };

    let present = members
        .iter()
        .enumerate()
        .filter(|(_, member)| member.is_present);
    let largest = present
        .clone()
        .map(|(_, member)| member.identity.x2apic_id as usize + 1)
        .max();
    let ids = largest.unwrap_or(0).max(MIN_SLOTS);
    let slots = (0..ids + members.len())
        .map(|_| usize::slot(None))
        .collect();
    let apics = present.map(|(index, member)| (member.identity, index));
    let (map, inhibits) = Map::build(slots, ids, &policy, apics);

    let mut c_inhibits = 0;
    // SAFETY: The VM lives.
    let c_mode = unsafe { (reference.build_map)(c.vm, &mut c_inhibits) };
    let mode = match &map {
        Ok(map) => match map.logical_mode() {
            LogicalMode::SoftwareDisabled => 0,
            LogicalMode::Cluster => 1,
            LogicalMode::Flat => 2,
            LogicalMode::X2Apic => 3,
            LogicalMode::Disabled => 4,
        },
        Err(BuildError::Aliased) => -1,
        Err(BuildError::TooSmall) => -2,
    };
    prop_assert_eq!(c_mode, mode);
    let inhibits = u64::from(inhibits.physical_id_aliased)
        | u64::from(inhibits.logical_id_aliased) << 1
        | u64::from(inhibits.apic_id_modified) << 2;
    prop_assert_eq!(c_inhibits, inhibits);

    for (message, sender) in messages {
        let sender = sender.as_ref().filter(|_| !members.is_empty());
        let sender = sender.map(|sender| sender.index(members.len()));
        if sender.is_none() && message.shorthand != Shorthand::None {
            continue;
        }
        let icr = Icr {
            low: icr_low(message),
            destination: message.destination,
            redirection_hint: message.redirection_hint.into(),
        };
        let mut by_c = Targets::default();
        let vcpu = sender.map_or(std::ptr::null_mut(), |index| vcpus[index]);
        // SAFETY: The VM lives, and the sender is one of its vCPUs or null.
        unsafe { (reference.resolve)(c.vm, vcpu, &icr, &mut by_c) };
        let by_model = resolve(&members, map.as_ref().ok(), message, sender, &policy);
        prop_assert_eq!(by_c, by_model, "{:x?} from {:?}", message, sender);

        // Lowest priority counts.
        for (member, vcpu) in members.iter_mut().zip(&vcpus) {
            let mut state = State::default();
            // SAFETY: The vCPU lives.
            unsafe { (reference.look)(*vcpu, &mut state) };
            member.priority = state.arbitration_priority as i32;
        }
    }

    if let Ok(map) = &map {
        for (first, low, high) in ranges {
            // SAFETY: The VM lives.
            let by_c = unsafe { (reference.pv_ipi)(c.vm, *low, *high, *first) };
            let low = map.physical_range(*first, *low);
            let high = map.physical_range(first.wrapping_add(64), *high);
            let enabled = |index: &usize| members[*index].identity.is_software_enabled;
            prop_assert_eq!(by_c, set(low.chain(high).filter(enabled)));
        }
    }
    Ok(())
}
