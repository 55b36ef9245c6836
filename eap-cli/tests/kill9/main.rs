//! `kill -9` of `eap serve` on SQLite under load, at random moments (docs/reliability.md G1 to G3, I1 to I6).
//!
//! Submitters and agents go on through every restart. In the end every submit that was answered 201 is there, every
//! result that was answered 200 is there byte for byte, every task has ended exactly once, and no agent was restarted.
//!
//! `EAP_KILL9_ROUNDS` says how often the server is killed (default 4), `EAP_KILL9_SEED` repeats a run's moments. The
//! last line printed is one JSON document of counts.

#[path = "../support/chance.rs"]
mod chance;
mod load;
#[path = "../support/mod.rs"]
mod support;
mod verdict;
mod witness;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::{Duration, Instant};

use eap_tests::ports::free_address;
use serde_json::json;

use self::chance::{Chance, number, random};
use self::load::Load;
use self::support::{Running, eap, until};
use self::witness::Witness;

#[test]
fn what_was_acknowledged_survives_kill_9_at_any_moment() {
    let rounds = number("EAP_KILL9_ROUNDS").unwrap_or(4);
    let seed = number("EAP_KILL9_SEED").unwrap_or_else(random);
    println!("EAP_KILL9_ROUNDS={rounds} EAP_KILL9_SEED={seed}");
    let mut chance = Chance(seed);
    let started = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();

    let mut server = serve(dir.path(), &free_address().to_string());
    let address = wait_until_serving(&mut server).expect("the first start succeeds");
    let witness = Arc::new(Witness::default());
    let load = runtime.block_on(async { Load::start(&format!("http://{address}"), &witness) });
    let mut kills_while_starting = 0;
    for _ in 0..rounds {
        let (submits, results) = (witness.submits_answered(), witness.results_answered());
        until("submits are answered again", || (witness.submits_answered() > submits + 5).then_some(()));
        until("results are answered again", || (witness.results_answered() > results + 5).then_some(()));
        sleep(Duration::from_millis(chance.below(400)));
        server.kill_9();
        server = serve(dir.path(), &address);
        // Now and then in the middle of reading back what the last kill left.
        if chance.below(4) == 0 {
            sleep(Duration::from_millis(chance.below(40)));
            server.kill_9();
            kills_while_starting += 1;
            server = serve(dir.path(), &address);
        }
        wait_until_serving(&mut server).expect("it starts again on the same file and port");
    }

    let findings = runtime.block_on(async {
        load.stop_submitting().await;
        load.wait_for_every_end().await;
        verdict::of(&load, &witness).await
    });
    let agents = runtime.block_on(load.stop());
    assert_eq!(server.stop(), 0, "{}", server.log());
    println!(
        "{}",
        json!({
            "rounds": rounds,
            "kills": rounds + kills_while_starting,
            "seed": seed,
            "seconds": (started.elapsed().as_secs_f64() * 10.0).round() / 10.0,
            "submits_answered": witness.submits_answered(),
            "submits_repeated": witness.submits_repeated.load(Relaxed),
            "results_answered": witness.results_answered(),
            "calls_of_agents_that_failed": witness.calls_failed.load(Relaxed),
            "tasks": findings.tasks,
            "attempts": findings.attempts,
            "submits_lost": findings.submits_lost,
            "results_lost_or_changed": findings.results_changed,
            "not_ended_exactly_once": findings.not_once,
            "agents": agents.agents,
            "agents_restarted": agents.restarted,
            "problems": findings.problems.len(),
        })
    );
    assert!(findings.problems.is_empty(), "{:#?}", findings.problems);
    assert_eq!((agents.restarted, agents.unsent), (0, 0));
    assert_eq!(findings.tasks, witness.submits_answered());
    assert_eq!(witness.results_answered(), findings.tasks, "every result was acknowledged in the end");
}

fn serve(dir: &Path, address: &str) -> Running {
    let database = format!("sqlite:{}", dir.join("eap.db").display());
    Running::start(eap(&["serve", "--listen", address, "--database", &database]).env("EAP_LOG", "warn"))
}

fn wait_until_serving(server: &mut Running) -> Option<String> {
    let rest = server.try_line("eap: serving on http://");
    rest.and_then(|rest| rest.split(' ').next().map(str::to_owned))
}
