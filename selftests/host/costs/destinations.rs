// SPDX-License-Identifier: GPL-2.0

//! The destination map of VMs of several sizes, all of whose vCPUs are in x2APIC
//! mode.

use criterion::{BenchmarkId, Criterion};
use ferric_model::destination::{
    x2apic_ldr, DestinationMap, Identity, Policy, Resolution, Source, Target, MIN_SLOTS,
    X2APIC_BROADCAST,
};
use ferric_model::message::{DeliveryMode, DestinationMode, Message, Shorthand, Trigger};
use std::hint::black_box;

const SIZES: [u32; 4] = [8, 64, 255, 1024];
const POLICY: Policy = Policy {
    broadcast_quirk_disabled: true,
    x2apic_format: true,
    vector_hashing: true,
};
const IPI: Source = Source::Apic { is_x2apic: true };

type Map = DestinationMap<u32, Vec<<u32 as Target>::Slot>>;

fn identity(id: u32) -> Identity {
    Identity {
        x2apic_id: id,
        xapic_id: id as u8,
        is_x2apic: true,
        is_software_enabled: true,
        ldr: x2apic_ldr(id),
        dfr: u32::MAX,
    }
}

fn build(size: u32) -> Map {
    let ids = MIN_SLOTS.max(size as usize);
    let slots = (0..ids + size as usize).map(|_| u32::slot(None)).collect();
    let apics = (0..size).map(|id| (identity(id), id));
    let (map, _) = DestinationMap::build(slots, ids, &POLICY, apics);
    map.unwrap_or_else(|error| panic!("{error:?}"))
}

fn message(destination_mode: DestinationMode, destination: u32) -> Message {
    Message {
        vector: 0x31,
        delivery_mode: DeliveryMode::Fixed,
        destination_mode,
        shorthand: Shorthand::None,
        trigger: Trigger::Edge,
        assert: true,
        redirection_hint: false,
        destination,
    }
}

/// Finds all destinations, and how many they are.
fn visit(map: &Map, message: &Message) -> u32 {
    let visit = |count: u32, apic: u32| {
        black_box(apic);
        count + 1
    };
    match map.resolve(message, IPI, &POLICY, |_| 0) {
        Resolution::Targets(targets) => targets.fold(0, visit),
        Resolution::All(all) | Resolution::Others(all) => all.fold(0, visit),
        Resolution::Sender | Resolution::Slow => 0,
    }
}

pub fn costs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("map");
    for size in SIZES {
        let map = build(size);
        let last = size - 1;
        let cluster = last >> 4;
        let messages = [
            ("unicast", message(DestinationMode::Physical, last), 1),
            (
                "cluster",
                message(DestinationMode::Logical, cluster << 16 | 0xffff),
                size - (cluster << 4),
            ),
            (
                "broadcast",
                message(DestinationMode::Physical, X2APIC_BROADCAST),
                size,
            ),
        ];
        for (name, message, targets) in messages {
            assert_eq!(visit(&map, &message), targets);
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter(|| visit(black_box(&map), black_box(&message)));
            });
        }
        // The guest disables an APIC by its spurious vector register, or enables it.
        group.bench_function(BenchmarkId::new("update", size), |b| {
            let mut old = identity(last);
            b.iter(|| {
                let new = Identity {
                    is_software_enabled: !old.is_software_enabled,
                    ..old
                };
                let result = map.update(black_box(last), Some(&old), Some(&new), &POLICY);
                old = new;
                result
            });
            assert_eq!(
                map.update(last, Some(&old), Some(&identity(last)), &POLICY),
                Ok(())
            );
        });
        group.bench_function(BenchmarkId::new("build", size), |b| {
            b.iter(|| build(black_box(size)));
        });
    }
    group.finish();
}
