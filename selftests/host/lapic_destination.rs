// SPDX-License-Identifier: GPL-2.0

//! Property: whenever the destination map can tell where a message goes, it
//! goes where the bus would take it, for any population of local APICs.

use ferric_model::destination::{
    counts_up, matches, x2apic_ldr, BuildError, DestinationMap, Identity, LogicalMode,
    NeedsRebuild, PackedIdentity, Policy, Resolution, Source, Target, MIN_SLOTS,
};
use ferric_model::message::{DeliveryMode, DestinationMode, Message, Shorthand, Trigger};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

const DFR_FLAT: u32 = 0xffff_ffff;
const DFR_CLUSTER: u32 = 0x0fff_ffff;

/// How a population's APICs are set up. Mixed ones are what an attack makes,
/// uniform ones what operating systems make; both must occur often.
#[derive(Clone, Copy, Debug)]
enum Population {
    Flat,
    Cluster,
    X2Apic,
    Mixed,
}

/// What distinguishes an APIC, besides its ID.
#[derive(Clone, Copy, Debug)]
struct Setup {
    mode: u8,
    ldr: Option<u8>,
    changed_id: Option<u8>,
    is_software_enabled: bool,
}

fn setup() -> impl Strategy<Value = Setup> {
    (
        0..3_u8,
        prop::option::weighted(0.2, any::<u8>()),
        prop::option::weighted(0.1, any::<u8>()),
        prop::bool::weighted(0.9),
    )
        .prop_map(|(mode, ldr, changed_id, is_software_enabled)| Setup {
            mode,
            ldr,
            changed_id,
            is_software_enabled,
        })
}

fn identity(population: Population, id: u32, setup: &Setup) -> Identity {
    let mode = match population {
        Population::Flat => 0,
        Population::Cluster => 1,
        Population::X2Apic => 2,
        Population::Mixed => setup.mode,
    };
    let index = id % 60;
    let logical_id = match (setup.ldr, mode) {
        (Some(ldr), _) => ldr.into(),
        (None, 0) => 1 << (index & 7),
        (None, _) => (index / 4) << 4 | 1 << (index & 3),
    };
    let is_x2apic = mode == 2;
    Identity {
        x2apic_id: id,
        xapic_id: setup.changed_id.unwrap_or(id as u8),
        is_x2apic,
        is_software_enabled: setup.is_software_enabled,
        ldr: if is_x2apic {
            x2apic_ldr(id)
        } else {
            logical_id << 24
        },
        dfr: if mode == 1 { DFR_CLUSTER } else { DFR_FLAT },
    }
}

fn population() -> impl Strategy<Value = Vec<Identity>> {
    let kind = prop_oneof![
        Just(Population::Flat),
        Just(Population::Cluster),
        Just(Population::X2Apic),
        Just(Population::Mixed),
    ];
    let ids = btree_set(
        prop_oneof![4 => 0..20_u32, 2 => 0..300_u32, 1 => 0..4096_u32],
        0..12,
    );
    (kind, ids).prop_flat_map(|(kind, ids)| {
        let count = ids.len();
        vec(setup(), count).prop_map(move |setups| {
            let pairs = setups.iter().zip(&ids);
            pairs
                .map(|(setup, id)| identity(kind, *id, setup))
                .collect()
        })
    })
}

fn message() -> impl Strategy<Value = Message> {
    let destination = prop_oneof![
        4 => 0..256_u32,
        2 => 0..300_u32,
        2 => (0..20_u32, any::<u16>()).prop_map(|(cluster, members)| cluster << 16 | u32::from(members)),
        1 => prop::sample::select(&[0xff, 0xffff_ffff, 0xfffe, 0x1_00ff][..]),
        1 => any::<u32>(),
    ];
    (
        destination,
        any::<bool>(),
        prop::bool::weighted(0.3),
        any::<u8>(),
        prop::sample::select(
            &[
                Shorthand::None,
                Shorthand::None,
                Shorthand::None,
                Shorthand::Own,
                Shorthand::AllIncludingSelf,
                Shorthand::AllExcludingSelf,
            ][..],
        ),
    )
        .prop_map(
            |(destination, logical, lowest, vector, shorthand)| Message {
                vector,
                delivery_mode: DeliveryMode::from_bits(lowest.into()),
                destination_mode: DestinationMode::from_bit(logical),
                shorthand,
                trigger: Trigger::Edge,
                assert: true,
                redirection_hint: false,
                destination,
            },
        )
}

fn policy() -> impl Strategy<Value = Policy> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(broadcast_quirk_disabled, x2apic_format, vector_hashing)| Policy {
            broadcast_quirk_disabled,
            x2apic_format,
            vector_hashing,
        },
    )
}

fn priority(id: u32) -> i32 {
    (id.wrapping_mul(2_654_435_761) >> 28) as i32
}

type Map = DestinationMap<u32, Vec<<u32 as Target>::Slot>>;

fn build(policy: &Policy, apics: &[Identity]) -> Result<Map, BuildError> {
    let largest = apics.iter().map(|apic| apic.x2apic_id as usize + 1).max();
    let ids = largest.unwrap_or(0).max(MIN_SLOTS);
    let slots = (0..ids + apics.len()).map(|_| u32::slot(None)).collect();
    let apics = apics.iter().map(|apic| (*apic, apic.x2apic_id));
    Map::build(slots, ids, policy, apics).0
}

/// How what the map finds must relate to what the bus finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    /// The same APICs take the message.
    Same,
    /// It finds some of those.
    Some,
    /// It reads the destination otherwise.
    None,
}

/// Where the map means to differ from the bus. In each case KVM's map does
/// likewise, and the guest can tell only with an unusual set-up.
fn relation(
    on_the_bus: &[Identity],
    map: &Map,
    message: &Message,
    source: Source,
    policy: &Policy,
) -> Relation {
    let is_physical = message.destination_mode == DestinationMode::Physical;

    // A cluster's number is taken for four bits, where the bus compares all.
    if !is_physical && message.destination > 0xff && map.logical_mode() == LogicalMode::Cluster {
        return Relation::None;
    }
    // Only one is picked, by the IDs addressed and not by the APICs there are.
    if message.is_lowest_priority() {
        return Relation::Some;
    }
    // With 32-bit IDs only one of the APICs with an ID counts. Without them an
    // xAPIC's large ID is not in the map.
    if is_physical
        && (policy.x2apic_format && on_the_bus.len() > 1
            || !policy.x2apic_format && message.destination > 0xff)
    {
        return Relation::Some;
    }
    // It may be a broadcast to those in the other mode only.
    let is_broadcast_to = |is_x2apic: bool| {
        let other = on_the_bus.iter().any(|apic| apic.is_x2apic == is_x2apic);
        other && message.destination == if is_x2apic { 0xffff_ffff } else { 0xff }
    };
    if is_broadcast_to(false)
        || is_broadcast_to(true) && source != (Source::Apic { is_x2apic: true })
    {
        return Relation::Some;
    }
    Relation::Same
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_map_finds_what_the_bus_finds(
        apics in population(),
        message in message(),
        policy in policy(),
        sender in any::<prop::sample::Index>(),
        from_device in any::<bool>(),
    ) {
        let sender = (!from_device && !apics.is_empty()).then(|| sender.get(&apics));
        let source = match sender {
            Some(apic) => Source::Apic { is_x2apic: apic.is_x2apic },
            None => Source::Device,
        };
        let Ok(map) = build(&policy, &apics) else {
            return Ok(());
        };
        let mut found: Vec<u32> = match map.resolve(&message, source, &policy, priority) {
            Resolution::Slow => return Ok(()),
            Resolution::Sender => vec![sender.unwrap().x2apic_id],
            Resolution::Targets(targets) => targets.collect(),
            Resolution::All(all) => all.collect(),
            Resolution::Others(all) => {
                let sender = sender.unwrap().x2apic_id;
                all.filter(|id| *id != sender).collect()
            }
        };
        found.sort_unstable();
        let matching: Vec<Identity> = apics
            .iter()
            .filter(|apic| {
                let is_sender = sender.is_some_and(|sender| sender.x2apic_id == apic.x2apic_id);
                matches(apic, &message, source, is_sender, &policy)
            })
            .copied()
            .collect();

        // An APIC that is disabled by software drops the message.
        let takes = |id: &u32| apics.iter().any(|apic| apic.x2apic_id == *id && apic.is_software_enabled);
        let on_the_bus: Vec<u32> = matching.iter().map(|apic| apic.x2apic_id).collect();
        let relation = match message.shorthand {
            Shorthand::None => relation(&matching, &map, &message, source, &policy),
            _ => Relation::Same,
        };
        match relation {
            Relation::Same => {
                let taken: Vec<u32> = found.iter().copied().filter(takes).collect();
                let expected: Vec<u32> = on_the_bus.iter().copied().filter(takes).collect();
                prop_assert_eq!(taken, expected);
            }
            // One that drops it may lie in a cluster that is not its own.
            Relation::Some => {
                prop_assert!(found.iter().filter(|id| takes(id)).all(|id| on_the_bus.contains(id)));
            }
            Relation::None => {}
        }
        if message.is_lowest_priority() && message.shorthand == Shorthand::None {
            prop_assert!(found.len() <= 1);
            let lowest = on_the_bus.iter().map(|id| priority(*id)).min();
            if !policy.vector_hashing && on_the_bus.len() > 1 && relation != Relation::None
                && message.destination_mode == DestinationMode::Logical
                && ![0xff, 0xffff_ffff].contains(&message.destination)
                && on_the_bus.iter().all(takes)
            {
                prop_assert_eq!(found.first().map(|id| priority(*id)), lowest);
            }
        }
    }

    #[test]
    fn the_map_is_refused_only_where_two_apics_share_an_id(
        apics in population(),
        policy in policy(),
    ) {
        let mut ids: Vec<u32> = apics
            .iter()
            .map(|apic| if apic.is_x2apic { apic.x2apic_id } else { apic.xapic_id.into() })
            .collect();
        ids.sort_unstable();
        let shared = ids.windows(2).any(|pair| pair[0] == pair[1]);
        let result = build(&policy, &apics);
        if shared && !policy.x2apic_format {
            prop_assert_eq!(result.err(), Some(BuildError::Aliased));
        } else {
            prop_assert!(result.is_ok());
        }
    }

    #[test]
    fn a_range_of_ids_is_the_same_as_one_after_the_other(
        apics in population(),
        policy in policy(),
        first in prop_oneof![0..300_u32, any::<u32>()],
        bitmap in any::<u64>(),
    ) {
        let Ok(map) = build(&policy, &apics) else {
            return Ok(());
        };
        let range: Vec<u32> = map.physical_range(first, bitmap).collect();
        let singles: Vec<u32> = (0..64)
            .filter(|bit| bitmap & 1 << bit != 0)
            .filter_map(|bit| map.physical(first.checked_add(bit)?))
            .collect();
        prop_assert_eq!(range, singles);
    }
}

/// What a map says, as a value.
fn answer(map: &Map, message: &Message, source: Source, policy: &Policy) -> String {
    let sorted = |ids: &mut dyn Iterator<Item = u32>| {
        let mut ids: Vec<u32> = ids.collect();
        ids.sort_unstable();
        ids
    };
    match map.resolve(message, source, policy, priority) {
        Resolution::Slow => "slow".into(),
        Resolution::Sender => "sender".into(),
        Resolution::Targets(mut targets) => format!("{:?}", sorted(&mut targets)),
        Resolution::All(mut all) => format!("all {:?}", sorted(&mut all)),
        Resolution::Others(mut all) => format!("others {:?}", sorted(&mut all)),
    }
}

/// How a guest's APICs change, one at a time: mostly as at a boot, each coming in
/// as an xAPIC, then with software enabled, then perhaps as an x2APIC.
fn changes() -> impl Strategy<Value = Vec<(usize, u8, Population, Setup)>> {
    let kind = prop_oneof![
        2 => Just(Population::Flat),
        1 => Just(Population::Cluster),
        4 => Just(Population::X2Apic),
        1 => Just(Population::Mixed),
    ];
    vec((0..10_usize, 0..8_u8, kind, setup()), 1..60)
}

/// The IDs of a VM's vCPUs: often they count up, for a while or all of them.
fn ids() -> impl Strategy<Value = Vec<u32>> {
    let id = prop_oneof![
        3 => 0..12_u32,
        1 => 0..270_u32,
        1 => 250..600_u32,
        3 => (0..4_u32).prop_map(|n| n << 8 | 44),
    ];
    (0..10_u32, btree_set(id, 10), any::<bool>()).prop_map(|(count, others, counts)| {
        let count = if counts { count } else { 0 };
        let others = others.into_iter().filter(|id| *id >= count);
        (0..count).chain(others).chain(600..).take(10).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_map_that_follows_is_one_that_is_built(
        ids in ids(),
        changes in changes(),
        messages in vec((message(), 0..3_u8), 12),
        policy in policy(),
    ) {
        let mut apics: Vec<Option<Identity>> = Vec::new();
        let of = |apics: &[Option<Identity>]| -> Vec<Identity> { apics.iter().flatten().copied().collect() };
        let fresh = |apics: &[Option<Identity>], with_list: bool| {
            let apics = of(apics);
            let list = if with_list { 16 } else { 0 };
            let slots = (0..1024 + list).map(|_| u32::slot(None)).collect();
            let apics = apics.iter().map(|apic| (*apic, apic.x2apic_id));
            Map::build(slots, 1024, &policy, apics)
        };
        // With a list only if that is needed, as ferric.ko does.
        let follower = |apics: &[Option<Identity>]| fresh(apics, !counts_up(of(apics), &policy)).0.ok();
        let mut map = follower(&apics);
        for (index, step, kind, setup) in changes {
            let index = index.min(apics.len());
            let is_last = index == apics.len();
            if is_last {
                apics.push(None);
            }
            let old = apics[index];
            let boots = Identity { is_software_enabled: false, ..identity(Population::Flat, ids[index], &Setup { changed_id: None, ..setup }) };
            let new = match step {
                0..3 => old.or(Some(boots)),
                3..6 => old.map(|_| identity(kind, ids[index], &Setup { changed_id: None, ldr: None, ..setup })),
                6 => Some(identity(kind, ids[index], &setup)),
                _ => None,
            };
            apics[index] = new;
            let (built, inhibits) = fresh(&apics, true);
            let follows = map.take().filter(|map| {
                match &new {
                    Some(new) if is_last => map.append(ids[index], new, &policy).is_ok(),
                    new => map.update(ids[index], old.as_ref(), new.as_ref(), &policy).is_ok(),
                }
            });
            if let Some(follows) = follows {
                let built = built.as_ref().unwrap();
                prop_assert_eq!(follows.inhibits(), inhibits);
                prop_assert_eq!(follows.logical_mode(), built.logical_mode());
                for (message, source) in &messages {
                    let source = match source {
                        0 => Source::Device,
                        source => Source::Apic { is_x2apic: *source == 2 },
                    };
                    let (a, b) = (answer(&follows, message, source, &policy), answer(built, message, source, &policy));
                    prop_assert_eq!(a, b, "{:?} from {:?} in {:#?}", message, source, of(&apics));
                }
                for id in 0..1024 {
                    prop_assert_eq!(follows.physical(id), built.physical(id), "{}", id);
                }
                map = Some(follows);
            } else {
                map = follower(&apics);
                prop_assert_eq!(map.is_some(), built.is_ok());
            }
        }
    }
}

/// The changes of a boot are followed, each of them, with a list of all APICs and
/// without one.
#[test]
fn a_boot_is_followed_from_one_vcpu_to_a_thousand() {
    let policy = Policy {
        broadcast_quirk_disabled: true,
        x2apic_format: true,
        vector_hashing: true,
    };
    let off = |id: u32| Identity {
        x2apic_id: id,
        xapic_id: id as u8,
        is_x2apic: false,
        is_software_enabled: false,
        ldr: 0,
        dfr: DFR_FLAT,
    };
    let x2apic = |id: u32| Identity {
        is_x2apic: true,
        ldr: x2apic_ldr(id),
        ..off(id)
    };
    let on = |id: u32| Identity {
        is_software_enabled: true,
        ..x2apic(id)
    };
    for list in [0, 1024] {
        let slots = (0..1024 + list).map(|_| u32::slot(None)).collect();
        let (map, _) = Map::build(slots, 1024, &policy, []);
        let map = map.unwrap();
        for id in 0..1024 {
            map.append(id, &off(id), &policy).unwrap();
            assert_eq!(map.all().count(), id as usize + 1);
        }
        assert!(map.all().eq(0..1024));
        for id in 0..1024 {
            map.update(id, Some(&off(id)), Some(&x2apic(id)), &policy)
                .unwrap();
            assert!(map.all().eq(0..1024), "after {id}");
            map.update(id, Some(&x2apic(id)), Some(&on(id)), &policy)
                .unwrap();
        }
        assert_eq!(map.logical_mode(), LogicalMode::X2Apic);
        assert!(map.all().eq(0..1024));
        for id in 0..1024 {
            assert_eq!(map.physical(id), Some(id));
        }
        // There is no room for another one, and nothing of it is left.
        let more = map.append(1024, &off(1024), &policy);
        assert_eq!(more, Err(NeedsRebuild));
        assert!(map.all().eq(0..1024));
    }
}

/// Whatever a guest can make of its registers is kept as it is.
#[test]
fn an_identity_that_a_guest_can_have_is_packed() {
    let restored = Identity {
        x2apic_id: 1,
        xapic_id: 1,
        is_x2apic: false,
        is_software_enabled: true,
        ldr: 0x0200_0000,
        dfr: DFR_FLAT,
    };
    let unpacked =
        |identity: &Identity| PackedIdentity::new(Some(identity)).unpack(identity.x2apic_id);
    for (xapic_id, ldr) in (0..=0xff_u8).zip((0..=0xff_u32).rev()) {
        for dfr in 0..16_u32 {
            for is_software_enabled in [false, true] {
                let xapic = Identity {
                    xapic_id,
                    is_software_enabled,
                    ldr: ldr << 24,
                    dfr: dfr << 28 | 0x0fff_ffff,
                    ..restored
                };
                assert_eq!(unpacked(&xapic), Some(Some(xapic)));
                let x2apic_id = u32::from(xapic_id) << 4 | ldr;
                let x2apic = Identity {
                    is_x2apic: true,
                    x2apic_id,
                    ldr: x2apic_ldr(x2apic_id),
                    ..xapic
                };
                assert_eq!(unpacked(&x2apic), Some(Some(x2apic)));
            }
        }
    }
    assert_eq!(PackedIdentity::new(None).unpack(1), Some(None));
    assert_eq!(PackedIdentity::new(None).bits(), 0);

    // User space can restore more than that.
    let odd = [
        Identity {
            ldr: 0x0200_0001,
            ..restored
        },
        Identity { dfr: 0, ..restored },
        Identity {
            is_x2apic: true,
            ..restored
        },
    ];
    for identity in odd {
        assert_eq!(unpacked(&identity), None, "{identity:?}");
    }
}

/// Without a list, an APIC that does not count up needs another map.
#[test]
fn ids_that_do_not_count_up_need_a_list() {
    let policy = Policy {
        broadcast_quirk_disabled: true,
        x2apic_format: true,
        vector_hashing: true,
    };
    let apic = |id: u32| Identity {
        x2apic_id: id,
        xapic_id: id as u8,
        is_x2apic: true,
        is_software_enabled: true,
        ldr: x2apic_ldr(id),
        dfr: DFR_FLAT,
    };
    let build = |list: usize, ids: &[u32]| {
        let slots = (0..MIN_SLOTS + list).map(|_| u32::slot(None)).collect();
        Map::build(
            slots,
            MIN_SLOTS,
            &policy,
            ids.iter().map(|&id| (apic(id), id)),
        )
        .0
    };
    for ids in [&[1][..], &[0, 2], &[1, 0], &[0, 1, 3]] {
        assert!(!counts_up(ids.iter().map(|&id| apic(id)), &policy));
        assert_eq!(build(0, ids).err(), Some(BuildError::TooSmall));
        assert!(build(4, ids).unwrap().all().eq(ids.iter().copied()));
    }

    let map = build(0, &[0, 1]).unwrap();
    assert!(counts_up([apic(0), apic(1)], &policy));
    assert_eq!(map.append(3, &apic(3), &policy), Err(NeedsRebuild));
    assert_eq!((map.physical(3), map.all().count()), (None, 2));
    assert_eq!(map.append(2, &apic(2), &policy), Ok(()));
    assert!(map.all().eq(0..3));
    // As an xAPIC it would be found by an ID that its guest can change.
    let renamed = Identity {
        xapic_id: 7,
        is_x2apic: false,
        ldr: 0,
        ..apic(3)
    };
    assert_eq!(map.append(3, &renamed, &policy), Err(NeedsRebuild));
    assert_eq!((map.physical(7), map.all().count()), (None, 3));
}
