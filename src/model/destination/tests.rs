// SPDX-License-Identifier: GPL-2.0

//! Every addressing mode, by the matcher and by the map.

use super::super::message::{DeliveryMode, DestinationMode, Message, Shorthand, Trigger};
use super::*;
use std::vec;
use std::vec::Vec;

const QUIRKED: Policy = Policy {
    broadcast_quirk_disabled: false,
    x2apic_format: false,
    vector_hashing: true,
};
const MODERN: Policy = Policy {
    broadcast_quirk_disabled: true,
    x2apic_format: true,
    vector_hashing: true,
};
const ARBITRATED: Policy = Policy {
    vector_hashing: false,
    ..QUIRKED
};
const XAPIC_IPI: Source = Source::Apic { is_x2apic: false };
const X2APIC_IPI: Source = Source::Apic { is_x2apic: true };

type Map = DestinationMap<u32, Vec<<u32 as Target>::Slot>>;

fn slots(count: usize) -> Vec<<u32 as Target>::Slot> {
    (0..count).map(|_| u32::slot(None)).collect()
}

fn xapic(id: u32, ldr: u8, dfr: u32) -> Identity {
    Identity {
        x2apic_id: id,
        xapic_id: id as u8,
        is_x2apic: false,
        is_software_enabled: true,
        ldr: u32::from(ldr) << 24,
        dfr,
    }
}

fn flat(id: u32) -> Identity {
    xapic(id, 1 << id, DFR_FLAT)
}

fn cluster(id: u32, number: u8, member: u8) -> Identity {
    xapic(id, number << 4 | member, DFR_CLUSTER)
}

fn x2apic(id: u32) -> Identity {
    Identity {
        is_x2apic: true,
        ldr: x2apic_ldr(id),
        ..xapic(id, 0, DFR_FLAT)
    }
}

fn message(destination_mode: DestinationMode, destination: u32) -> Message {
    Message {
        vector: 0x40,
        delivery_mode: DeliveryMode::Fixed,
        destination_mode,
        shorthand: Shorthand::None,
        trigger: Trigger::Edge,
        assert: true,
        redirection_hint: false,
        destination,
    }
}

fn physical(destination: u32) -> Message {
    message(DestinationMode::Physical, destination)
}

fn logical(destination: u32) -> Message {
    message(DestinationMode::Logical, destination)
}

fn try_map(policy: &Policy, apics: &[Identity]) -> (Result<Map, BuildError>, Inhibits) {
    let largest = apics.iter().map(|apic| apic.x2apic_id as usize + 1).max();
    let ids = largest.unwrap_or(0).max(MIN_SLOTS);
    let slots = slots(ids + apics.len());
    let apics = apics.iter().map(|apic| (*apic, apic.x2apic_id));
    Map::build(slots, ids, policy, apics)
}

fn map(policy: &Policy, apics: &[Identity]) -> Map {
    let (map, _) = try_map(policy, apics);
    map.unwrap_or_else(|error| panic!("{error:?}"))
}

/// The vCPU IDs that the map finds, none if it cannot tell.
fn resolved(map: &Map, message: &Message, source: Source, policy: &Policy) -> Option<Vec<u32>> {
    match map.resolve(message, source, policy, |id| 100 - id as i32) {
        Resolution::Targets(targets) => Some(targets.collect()),
        Resolution::All(all) => Some(all.collect()),
        Resolution::Slow | Resolution::Sender | Resolution::Others(_) => None,
    }
}

fn matching(apics: &[Identity], message: &Message, source: Source, policy: &Policy) -> Vec<u32> {
    let matching = apics
        .iter()
        .filter(|apic| matches(apic, message, source, false, policy));
    matching.map(|apic| apic.x2apic_id).collect()
}

/// Both ways must find these.
fn assert_found(apics: &[Identity], message: &Message, source: Source, expected: &[u32]) {
    let map = map(&QUIRKED, apics);
    assert_eq!(matching(apics, message, source, &QUIRKED), expected);
    assert_eq!(
        resolved(&map, message, source, &QUIRKED).as_deref(),
        Some(expected)
    );
}

#[test]
fn the_logical_id_of_an_x2apic_follows_from_its_id() {
    for (id, ldr) in [
        (0, 1),
        (15, 0x8000),
        (16, 0x1_0001),
        (0xff, 0xf_8000),
        (0xffff, 0x0fff_8000),
    ] {
        assert_eq!(x2apic_ldr(id), ldr);
    }
}

#[test]
fn a_physical_destination_is_the_apic_with_that_id() {
    let apics = [flat(0), flat(1), flat(5)];
    for id in 0..255 {
        let expected: &[u32] = match id {
            0 => &[0],
            1 => &[1],
            5 => &[5],
            _ => &[],
        };
        assert_found(&apics, &physical(id), XAPIC_IPI, expected);
        assert_found(&apics, &physical(id), Source::Device, expected);
    }
}

#[test]
fn an_xapic_answers_to_the_id_that_the_guest_has_given_it() {
    let changed = Identity {
        xapic_id: 0x42,
        ..flat(1)
    };
    let apics = [flat(0), changed];
    assert_found(&apics, &physical(0x42), XAPIC_IPI, &[1]);
    assert_found(&apics, &physical(1), XAPIC_IPI, &[]);
    assert!(try_map(&QUIRKED, &apics).1.apic_id_modified);
}

#[test]
fn a_flat_destination_is_every_apic_that_shares_a_bit() {
    let apics = [flat(0), flat(1), flat(2), flat(7)];
    assert_found(&apics, &logical(0x01), XAPIC_IPI, &[0]);
    assert_found(&apics, &logical(0x86), XAPIC_IPI, &[1, 2, 7]);
    assert_found(&apics, &logical(0x78), XAPIC_IPI, &[]);
    assert_found(&apics, &logical(0), XAPIC_IPI, &[]);
}

#[test]
fn a_cluster_destination_is_the_members_of_one_cluster() {
    let mut apics = Vec::new();
    for number in 0..15 {
        for member in 0..4 {
            apics.push(cluster(number * 4 + member, number as u8, 1 << member));
        }
    }
    for number in 0..15_u32 {
        for members in 0..16_u32 {
            let expected: Vec<u32> = (0..4)
                .filter(|member| members & 1 << member != 0)
                .map(|member| number * 4 + member)
                .collect();
            let message = logical(number << 4 | members);
            assert_found(&apics, &message, XAPIC_IPI, &expected);
            assert_found(&apics, &message, Source::Device, &expected);
        }
    }
}

#[test]
fn an_x2apic_cluster_has_16_members_and_a_16_bit_number() {
    let apics: Vec<Identity> = (0..40)
        .chain([0x1000, 0x1001, 0x100f])
        .map(x2apic)
        .collect();
    assert_found(&apics, &logical(0x0000_8001), X2APIC_IPI, &[0, 15]);
    assert_found(&apics, &logical(0x0001_0003), X2APIC_IPI, &[16, 17]);
    assert_found(
        &apics,
        &logical(0x0002_ffff),
        X2APIC_IPI,
        &[32, 33, 34, 35, 36, 37, 38, 39],
    );
    assert_found(&apics, &logical(0x0003_ffff), X2APIC_IPI, &[]);
    assert_found(
        &apics,
        &logical(0x0100_ffff),
        X2APIC_IPI,
        &[0x1000, 0x1001, 0x100f],
    );
    assert_found(&apics, &logical(0x0101_ffff), X2APIC_IPI, &[]);
    assert_found(&apics, &logical(0xfffe_ffff), X2APIC_IPI, &[]);
}

#[test]
fn the_last_cluster_of_the_table_may_be_cut_short() {
    let apics: Vec<Identity> = (0..261).map(x2apic).collect();
    assert_found(
        &apics,
        &logical(0x0010_ffff),
        X2APIC_IPI,
        &[256, 257, 258, 259, 260],
    );
}

#[test]
fn a_device_broadcasts_to_x2apics_by_0xff_unless_the_quirk_is_off() {
    let mut apics: Vec<Identity> = (0..9).map(x2apic).collect();
    apics.push(x2apic(0xff));
    let all: Vec<u32> = apics.iter().map(|apic| apic.x2apic_id).collect();

    let message = physical(0xff);
    assert_eq!(matching(&apics, &message, Source::Device, &QUIRKED), all);
    assert_eq!(matching(&apics, &message, Source::Device, &MODERN), [0xff]);
    assert_eq!(matching(&apics, &message, X2APIC_IPI, &QUIRKED), [0xff]);

    let quirked = map(&QUIRKED, &apics);
    assert_eq!(
        resolved(&quirked, &message, Source::Device, &QUIRKED),
        Some(all)
    );
    let modern = map(&MODERN, &apics);
    assert_eq!(
        resolved(&modern, &message, Source::Device, &MODERN),
        Some([0xff].to_vec())
    );
    // 0xff is cluster 0, CPUs 0 to 7.
    assert_eq!(
        resolved(&modern, &logical(0xff), Source::Device, &MODERN),
        Some((0..8).collect())
    );
}

#[test]
fn an_xapic_with_a_large_id_is_reached_by_its_x2apic_id() {
    let hotplugged = xapic(0x123, 0, DFR_FLAT);
    let apics = [x2apic(0), x2apic(1), hotplugged];
    let map = map(&MODERN, &apics);
    for policy in [QUIRKED, MODERN] {
        let message = physical(0x123);
        assert_eq!(matching(&apics, &message, X2APIC_IPI, &policy), [0x123]);
    }
    assert_eq!(
        resolved(&map, &physical(0x123), X2APIC_IPI, &MODERN),
        Some([0x123].to_vec())
    );
    assert_eq!(map.physical(0x23), Some(0x123));
    assert_eq!(map.physical(0x123), Some(0x123));
}

#[test]
fn an_xapic_with_id_0xff_is_not_reached_by_that_when_it_has_changed_its_id() {
    let changed = Identity {
        xapic_id: 0x10,
        ..xapic(0xff, 0, DFR_FLAT)
    };
    let map = map(&MODERN, &[flat(0), changed]);
    assert_eq!(map.physical(0x10), Some(0xff));
    assert_eq!(map.physical(0xff), None);
}

#[test]
fn a_large_destination_is_not_truncated_for_xapics() {
    let apics = [flat(0), flat(1)];
    assert_found(&apics, &physical(0x101), X2APIC_IPI, &[]);
    assert!(!matches(
        &flat(1),
        &physical(0x101),
        X2APIC_IPI,
        false,
        &QUIRKED
    ));
}

#[test]
fn shorthands_ignore_the_destination() {
    let mut message = physical(77);
    for (shorthand, sender, others) in [
        (Shorthand::Own, true, false),
        (Shorthand::AllIncludingSelf, true, true),
        (Shorthand::AllExcludingSelf, false, true),
    ] {
        message.shorthand = shorthand;
        assert_eq!(
            matches(&flat(0), &message, XAPIC_IPI, true, &QUIRKED),
            sender
        );
        assert_eq!(
            matches(&flat(1), &message, XAPIC_IPI, false, &QUIRKED),
            others
        );
        let map = map(&QUIRKED, &[flat(0)]);
        let resolution = map.resolve(&message, XAPIC_IPI, &QUIRKED, |_| 0);
        match (shorthand, resolution) {
            (Shorthand::Own, Resolution::Sender) => {}
            (Shorthand::AllIncludingSelf, Resolution::All(all))
            | (Shorthand::AllExcludingSelf, Resolution::Others(all)) => {
                assert_eq!(all.collect::<Vec<u32>>(), [0]);
            }
            _ => panic!("{shorthand:?}"),
        }
        // A device is no sender that could be meant by itself.
        let resolution = map.resolve(&message, Source::Device, &QUIRKED, |_| 0);
        assert!(matches!(resolution, Resolution::Slow));
    }
}

#[test]
fn two_apics_with_one_id_disable_the_map_without_32_bit_ids() {
    let alias = Identity {
        xapic_id: 0,
        ..flat(1)
    };
    let (result, inhibits) = try_map(&QUIRKED, &[flat(0), alias]);
    assert_eq!(result.err(), Some(BuildError::Aliased));
    assert_eq!(
        inhibits,
        Inhibits {
            physical_id_aliased: true,
            logical_id_aliased: true,
            apic_id_modified: true,
        }
    );
    assert_eq!(
        matching(&[flat(0), alias], &physical(0), XAPIC_IPI, &QUIRKED),
        [0, 1]
    );

    // With them the first one counts.
    let map = map(&MODERN, &[flat(0), alias]);
    assert_eq!(map.physical(0), Some(0));
}

#[test]
fn ids_that_wrap_are_aliased_too() {
    let apics = [xapic(1, 2, DFR_FLAT), xapic(0x101, 4, DFR_FLAT)];
    let (result, inhibits) = try_map(&QUIRKED, &apics);
    assert_eq!(result.err(), Some(BuildError::Aliased));
    assert!(!inhibits.apic_id_modified);
}

#[test]
fn an_id_beyond_the_table_asks_for_a_larger_one() {
    let slots = || slots(MIN_SLOTS + 1);
    let (result, _) = Map::build(slots(), MIN_SLOTS, &QUIRKED, [(x2apic(256), 256)]);
    assert_eq!(result.err(), Some(BuildError::TooSmall));
    let (result, _) = Map::build(Vec::new(), MIN_SLOTS, &QUIRKED, [(flat(0), 0)]);
    assert_eq!(result.err(), Some(BuildError::Aliased));
    let both = [(flat(0), 0), (flat(1), 1)];
    let (result, _) = Map::build(slots(), MIN_SLOTS, &QUIRKED, both);
    assert_eq!(result.err(), Some(BuildError::TooSmall));
}

#[test]
fn a_broadcast_is_for_everybody_and_found_if_they_agree_in_their_mode() {
    let all =
        |apics: &[Identity], message: &Message, source, policy: &Policy| match map(policy, apics)
            .resolve(message, source, policy, |_| 0)
        {
            Resolution::All(all) => Some(all.collect::<Vec<u32>>()),
            Resolution::Slow => None,
            _ => panic!("neither all nor unknown"),
        };
    let (xapics, x2apics) = ([flat(0), flat(1)], [x2apic(0), x2apic(1)]);
    let mixed = [flat(0), x2apic(1)];
    for message in [physical, logical] {
        let (short, long) = (message(BROADCAST), message(X2APIC_BROADCAST));
        assert_eq!(matching(&xapics, &short, XAPIC_IPI, &QUIRKED), [0, 1]);
        assert_eq!(matching(&x2apics, &long, X2APIC_IPI, &MODERN), [0, 1]);
        assert_eq!(all(&xapics, &short, XAPIC_IPI, &QUIRKED), Some(vec![0, 1]));
        assert_eq!(all(&x2apics, &long, X2APIC_IPI, &QUIRKED), Some(vec![0, 1]));
        for source in [XAPIC_IPI, Source::Device] {
            assert_eq!(all(&mixed, &short, source, &QUIRKED), None);
        }
        assert_eq!(all(&mixed, &long, X2APIC_IPI, &QUIRKED), None);
        // From a device, unless user space says that it means what it says.
        let from_device = all(&x2apics, &short, Source::Device, &QUIRKED);
        assert_eq!(from_device, Some(vec![0, 1]));
    }
    let lowest = Message {
        delivery_mode: DeliveryMode::LowestPriority,
        ..physical(BROADCAST)
    };
    assert_eq!(all(&xapics, &lowest, XAPIC_IPI, &QUIRKED), None);
}

#[test]
fn the_logical_mode_is_that_of_all_enabled_apics_or_none() {
    let off = Identity {
        is_software_enabled: false,
        ..cluster(3, 0, 1)
    };
    let unset = Identity { ldr: 0, ..flat(4) };
    for (apics, mode) in [
        (&[][..], LogicalMode::SoftwareDisabled),
        (&[off], LogicalMode::SoftwareDisabled),
        (&[flat(0), flat(1), off], LogicalMode::Flat),
        (&[cluster(0, 0, 1), unset], LogicalMode::Cluster),
        (&[x2apic(0), x2apic(1)], LogicalMode::X2Apic),
        (&[flat(0), cluster(1, 0, 1)], LogicalMode::Disabled),
        (&[flat(0), x2apic(1)], LogicalMode::Disabled),
        // Two with the same bit, or one with two.
        (&[flat(0), xapic(1, 1, DFR_FLAT)], LogicalMode::Disabled),
        (&[xapic(1, 3, DFR_FLAT)], LogicalMode::Disabled),
        (&[cluster(0, 2, 1), cluster(1, 2, 1)], LogicalMode::Disabled),
        (&[cluster(0, 2, 1), cluster(1, 3, 1)], LogicalMode::Cluster),
        // A cluster without a member.
        (&[cluster(0, 2, 0)], LogicalMode::Cluster),
    ] {
        let map = map(&QUIRKED, apics);
        assert_eq!(map.logical_mode(), mode, "{apics:x?}");
        let aliased = try_map(&QUIRKED, apics).1.logical_id_aliased;
        assert_eq!(aliased, mode == LogicalMode::Disabled);
        let found = resolved(&map, &logical(1), XAPIC_IPI, &QUIRKED);
        assert_eq!(found.is_none(), mode == LogicalMode::Disabled);
    }
}

#[test]
fn without_enabled_apics_a_logical_message_is_for_nobody() {
    let map = map(&QUIRKED, &[]);
    assert_eq!(
        resolved(&map, &logical(1), XAPIC_IPI, &QUIRKED),
        Some(Vec::new())
    );
}

fn lowest(destination: u32, vector: u8) -> Message {
    Message {
        delivery_mode: DeliveryMode::LowestPriority,
        vector,
        ..logical(destination)
    }
}

#[test]
fn lowest_priority_picks_by_the_vector() {
    let apics = [flat(0), flat(1), flat(2), flat(5)];
    let map = map(&QUIRKED, &apics);
    for vector in 0..=255 {
        let expected = [0, 2, 5][usize::from(vector) % 3];
        let found = resolved(&map, &lowest(0x25, vector), Source::Device, &QUIRKED);
        assert_eq!(found, Some([expected].to_vec()));

        let chosen = choose_lowest_priority([0, 2, 5].into_iter(), vector, &QUIRKED, |_| 0);
        assert_eq!(chosen, Some(expected));
    }
}

#[test]
fn an_apic_that_does_not_exist_can_be_picked_and_the_message_is_dropped() {
    let map = map(&QUIRKED, &[flat(0), flat(1)]);
    let found = resolved(&map, &lowest(0x05, 1), Source::Device, &QUIRKED);
    assert_eq!(found, Some(Vec::new()));
    let found = resolved(&map, &lowest(0x05, 2), Source::Device, &QUIRKED);
    assert_eq!(found, Some([0].to_vec()));
    let found = resolved(&map, &lowest(0, 2), Source::Device, &QUIRKED);
    assert_eq!(found, Some(Vec::new()));
}

#[test]
fn lowest_priority_by_arbitration_picks_the_lowest_and_of_equals_the_first() {
    let apics = [flat(0), flat(1), flat(2), flat(3)];
    let map = map(&QUIRKED, &apics);
    let pick = |priorities: [i32; 4]| {
        let priority = |id: u32| priorities[id as usize];
        let message = lowest(0xfe, 0x40);
        let Resolution::Targets(mut targets) =
            map.resolve(&message, Source::Device, &ARBITRATED, priority)
        else {
            panic!("slow");
        };
        let chosen = choose_lowest_priority(1..4, 0x40, &ARBITRATED, priority);
        let found = targets.next();
        assert_eq!(found, chosen);
        assert_eq!(targets.next(), None);
        found
    };
    assert_eq!(pick([0, 3, 2, 1]), Some(3));
    assert_eq!(pick([0, 3, 1, 1]), Some(2));
    assert_eq!(pick([0, 0, 0, 0]), Some(1));
    assert_eq!(
        pick([0, i32::MIN, i32::MAX, i32::MAX]),
        Some(2),
        "they wrap"
    );
    assert_eq!(
        choose_lowest_priority([0; 0].into_iter(), 0x40, &ARBITRATED, |_: u32| 0),
        None
    );
}

#[test]
fn a_redirection_hint_picks_as_lowest_priority_does() {
    let map = map(&QUIRKED, &[flat(0), flat(1)]);
    let hinted = Message {
        redirection_hint: true,
        vector: 0x41,
        ..logical(3)
    };
    assert_eq!(
        resolved(&map, &hinted, Source::Device, &QUIRKED),
        Some([1].to_vec())
    );
}

#[test]
fn a_candidate_that_vanishes_between_the_walks_is_replaced_by_another() {
    use std::cell::Cell;
    let walks = Cell::new(0);
    let candidates = (0..4).filter(|id| {
        if *id == 0 {
            walks.set(walks.get() + 1);
        }
        walks.get() < 2 || *id < 2
    });
    assert_eq!(
        choose_lowest_priority(candidates, 3, &QUIRKED, |_: u32| 0),
        Some(1)
    );
}

#[test]
fn a_lowest_priority_broadcast_is_fixed() {
    let message = Message {
        delivery_mode: DeliveryMode::LowestPriority,
        ..physical(0xff)
    };
    assert_eq!(
        slow_path_message(&message).delivery_mode,
        DeliveryMode::Fixed
    );
    for message in [lowest(0xff, 1), physical(0xfe)] {
        assert_eq!(slow_path_message(&message), message);
    }
}

#[test]
fn a_range_of_physical_ids_is_taken_by_its_bitmap() {
    let apics: Vec<Identity> = (0..300).map(x2apic).collect();
    let map = map(&QUIRKED, &apics);
    let found = |first, bitmap| -> Vec<u32> { map.physical_range(first, bitmap).collect() };
    assert_eq!(found(0, 0x8000_0000_0000_0001), [0, 63]);
    assert_eq!(found(200, 3), [200, 201]);
    assert_eq!(found(298, u64::MAX), [298, 299]);
    assert_eq!(found(300, u64::MAX), []);
    assert_eq!(found(u32::MAX, u64::MAX), []);
    assert_eq!(map.physical(299), Some(299));
    assert_eq!(map.physical(300), None);
    assert_eq!(map.physical(u32::MAX), None);
    // The memory is the caller's, a slot for each ID, and one for each APIC.
    assert_eq!(map.table().len(), 600);
    assert_eq!(u32::load(&map.table()[299]), Some(299));
    assert_eq!(u32::load(&map.table()[300]), Some(0));
}

#[test]
fn one_target_is_told_from_several_and_from_none() {
    let map = map(&QUIRKED, &[flat(0), flat(1)]);
    let is_single = |message| match map.resolve(&message, Source::Device, &QUIRKED, |_| 0) {
        Resolution::Targets(targets) => targets.is_single(),
        _ => false,
    };
    assert!(is_single(physical(1)));
    assert!(is_single(logical(2)));
    assert!(is_single(lowest(3, 0)));
    assert!(!is_single(logical(3)));
    assert!(!is_single(logical(0)));
}

#[test]
fn ids_of_the_guests_are_clamped_before_they_index() {
    use super::super::nospec::tests::calls;

    let apics: Vec<Identity> = (0..300).map(x2apic).collect();
    let map = map(&MODERN, &apics);
    let resolve = |message: &Message| resolved(&map, message, X2APIC_IPI, &MODERN);
    assert_eq!(calls(|| map.physical(17)), 1);
    assert_eq!(calls(|| map.physical_range(17, 3)), 1);
    assert_eq!(calls(|| resolve(&physical(17))), 1);
    assert_eq!(calls(|| resolve(&logical(0x1_0001))), 1);
}
