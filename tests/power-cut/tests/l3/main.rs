//! Power cuts at any call of the disk, and every way a call can fail (L3 of docs/reliability.md: G1, G2, G6, A53).
//!
//! A run writes to a store on a disk that is photographed at random calls: what was synced by then, and any sectors of
//! the rest. From each photograph a store is opened, and it must have every change that had been acknowledged, no part
//! of any other, and a sound file. Most runs begin with what an earlier cut left.
//!
//! `EAP_L3_CUTS` says how many cuts (default 600), `EAP_L3_SEED` repeats a run. The last line printed is one JSON
//! document of counts.

mod load;
mod verdict;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use eap_power_cut::{Chance, Disk, Image, IoFault, Photo, register};
use serde_json::json;

use self::load::{Load, empty};
use self::verdict::verify;

/// How many cuts a run has unless it is told otherwise.
const CUTS: usize = 600;
/// How many steps a load has between two starts.
const STEPS: usize = 25;
/// One call in so many is photographed.
const ONE_IN: u64 = 6;

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_call() {
    register();
    let cuts = number("EAP_L3_CUTS").map_or(CUTS, |cuts| cuts as usize);
    let seed = number("EAP_L3_SEED").unwrap_or_else(fresh_seed);
    println!("EAP_L3_CUTS={cuts} EAP_L3_SEED={seed}");
    let (mut chance, started) = (Chance(seed), Instant::now());
    let runtime = runtime();
    let (mut done, mut torn, mut runs, mut acknowledged, mut before_tables) = (0, 0, 0, 0, 0);
    // What the next run begins with, and what has been acknowledged on it.
    let mut base = (empty(), Load::new(seed));
    while done < cuts {
        runs += 1;
        let (image, load) = std::mem::replace(&mut base, (empty(), Load::new(seed + runs)));
        let disk = Disk::mount(&format!("run-{seed}-{runs}"), &image);
        let known = load.acknowledged_count();
        disk.photograph(Chance(chance.below(u64::MAX)), ONE_IN, load.counter());
        runtime.block_on(load.run(&disk, &mut chance, STEPS));
        let photos = disk.develop();
        disk.unmount();
        acknowledged += load.acknowledged_count() - known;
        // Two of three runs go on where a cut left the one before.
        let kept = (chance.below(3) > 0 && !photos.is_empty()).then(|| chance.below(photos.len() as u64) as usize);
        for (number, photo) in photos.into_iter().enumerate().take(cuts - done) {
            let Photo { image, acknowledged, call, is_torn } = photo;
            let place = format!("EAP_L3_SEED={seed} EAP_L3_CUTS={cuts}: run {runs}, call {call}");
            let disk = Disk::mount(&format!("cut-{seed}-{runs}-{number}"), &image);
            let left = runtime.block_on(verify(&disk, &load, acknowledged, &place));
            disk.unmount();
            before_tables += usize::from(left.is_empty());
            (done, torn) = (done + 1, torn + usize::from(is_torn));
            if kept == Some(number) {
                base = (image, load.cut_back(acknowledged, &left));
            }
        }
    }
    println!(
        "{}",
        json!({
            "layer": "L3", "seed": seed, "cuts": done, "runs": runs, "acknowledged": acknowledged, "violations": 0,
            "sometimes": { "torn": torn, "before the first change": before_tables },
            "seconds": (started.elapsed().as_secs_f64() * 10.0).round() / 10.0,
        })
    );
    assert!(cuts < 300 || (torn > 0 && before_tables > 0 && acknowledged > 0), "a run must meet torn writes");
}

/// A broken drive and a full one, at each call of a script (one call in forty, unless `EAP_L3_CUTS` asks for a long run).
#[test]
fn whichever_call_fails_nothing_acknowledged_is_lost_and_nothing_is_torn() {
    register();
    let stride = if number("EAP_L3_CUTS").is_some_and(|cuts| cuts >= 5_000) { 1 } else { 40 };
    let seed = number("EAP_L3_SEED").unwrap_or_else(fresh_seed);
    println!("EAP_L3_SEED={seed}");
    let runtime = runtime();
    let script = |disk: &Disk| {
        let load = Load::new(seed);
        // The same chance each time: the same script.
        let mut chance = Chance(seed);
        runtime.block_on(load.run(disk, &mut chance, 40));
        load
    };
    let whole = Disk::mount(&format!("script-{seed}"), &empty());
    let load = script(&whole);
    let calls = whole.calls();
    assert!(load.acknowledged_count() > 20, "without faults the script succeeds");
    whole.unmount();
    let (mut points, mut refused, mut healed) = (0, 0, 0);
    for at in (1 + seed % stride..=calls).step_by(stride as usize) {
        for fault in [IoFault::Broken { at }, IoFault::Full { at, calls: 12 }] {
            points += 1;
            let place = format!("EAP_L3_SEED={seed}: {fault:?} of {calls} calls");
            let disk = Disk::mount(&format!("fault-{seed}-{points}"), &empty());
            disk.fail(fault);
            let load = script(&disk);
            if load.refused() > 0 {
                refused += 1;
                healed += usize::from(matches!(fault, IoFault::Full { .. }) && load.ended_well());
            }
            // As the process ends, and as the power goes at that moment.
            for (percent, end) in [(100, "end"), (0, "cut")] {
                let image: Image = disk.cut(&mut Chance(seed + at), percent);
                let left = Disk::mount(&format!("left-{end}-{seed}-{points}"), &image);
                runtime.block_on(verify(&left, &load, load.acknowledged_count(), &place));
                left.unmount();
            }
            disk.unmount();
        }
    }
    println!(
        "{}",
        json!({ "layer": "L3", "script": "faults", "seed": seed, "points": points, "calls": calls,
                "sometimes": { "refused": refused, "healed after a full disk": healed }, "violations": 0 })
    );
    assert!(refused > 0 && healed > 0, "faults strike writes, and a full disk heals");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text}")))
}

/// Another one for each process and each test of it.
fn fresh_seed() -> u64 {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let mut bytes = [0; 8];
    eap_orchestrator::Entropy::fill(&eap_orchestrator::SystemEntropy, &mut bytes);
    (u64::from_le_bytes(bytes) >> 16) + DRAWN.fetch_add(1, Ordering::Relaxed)
}
