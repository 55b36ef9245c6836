//! The agents, of all three transports: killed and started again.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eap_tests::ports::free_address;
use eap_tests::proxy::Proxy;

use crate::network::Network;
use crate::support::{Running, eap};

/// How many agents there are of each transport.
pub(crate) type Crew = [(&'static str, usize); 3];

/// Appends which task and attempt it does, in which process of which agent, and gives the input with the attempt behind.
const SCRIPT: &str = r#"read -r input
echo "$EAP_TASK_ID $EAP_ATTEMPT $1 $2" >>"$0"
sleep "0.0$((EAP_ATTEMPT * 37 % 7))"
printf '%s %s' "$input" "$EAP_ATTEMPT""#;

/// A run of the command: which agent it was, and which of its processes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    pub(crate) agent: usize,
    pub(crate) process: usize,
}

/// The runs of each task's attempts.
pub(crate) type Runs = BTreeMap<(String, u32), Vec<Run>>;

pub(crate) struct Agents {
    dir: PathBuf,
    /// Where they find the server.
    url: String,
    agents: Vec<Agent>,
}

struct Agent {
    number: usize,
    transport: &'static str,
    /// Where it listens if it is pushed to, and how the server gets there.
    served: Option<(SocketAddr, Proxy)>,
    running: Running,
    /// How many processes there were before this one.
    killed: usize,
}

impl Agents {
    pub(crate) async fn start(dir: &Path, url: &str, network: &Arc<Network>, crew: Crew) -> Self {
        let mut agents = Vec::new();
        for transport in crew.iter().flat_map(|(transport, agents)| vec![*transport; *agents]) {
            let number = agents.len();
            let served = if transport == "push" {
                let address = free_address();
                Some((address, network.way_to(address).await))
            } else {
                None
            };
            let running = run(dir, number, 0, transport, url, served.as_ref());
            agents.push(Agent { number, transport, served, running, killed: 0 });
        }
        Self { dir: dir.to_owned(), url: url.to_owned(), agents }
    }

    /// Kills one of them, and starts it again.
    pub(crate) fn kill(&mut self, which: usize) {
        let which = which % self.agents.len();
        let agent = &mut self.agents[which];
        agent.running.kill_9();
        agent.killed += 1;
        let served = agent.served.as_ref();
        agent.running = run(&self.dir, agent.number, agent.killed, agent.transport, &self.url, served);
    }

    /// What the command wrote down.
    pub(crate) fn runs(&self) -> Runs {
        let mut runs = Runs::new();
        for line in fs::read_to_string(self.dir.join("runs")).unwrap_or_default().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [task, attempt, agent, process] = words[..] else { panic!("not a line of the command: {line}") };
            let number = |word: &str| word.parse::<usize>().expect("it is a number");
            let run = Run { agent: number(agent), process: number(process) };
            runs.entry((task.to_owned(), attempt.parse().expect("it is a number"))).or_default().push(run);
        }
        runs
    }

    /// Ends all of them in order; says how many were killed.
    pub(crate) fn stop(mut self) -> usize {
        for agent in &mut self.agents {
            assert_eq!(agent.running.stop(), 0, "{}", agent.running.log());
        }
        self.agents.iter().map(|agent| agent.killed).sum()
    }
}

fn run(
    dir: &Path,
    number: usize,
    process: usize,
    transport: &str,
    url: &str,
    served: Option<&(SocketAddr, Proxy)>,
) -> Running {
    let data = dir.join(format!("agent-{number}"));
    let mut command = eap(&["agent", "run", "--capability", "work", "--max-tasks", "4", "--drain-grace", "5"]);
    command.args(["--name", &format!("AGENT-CHAOS-{number:02}"), "--transport", transport, "--url", url]);
    command.arg("--data-dir").arg(data).env("EAP_LOG", "error");
    if let Some((address, way)) = served {
        command.args(["--listen", &address.to_string(), "--endpoint-url", &way.url()]);
    }
    command.args(["--", "sh", "-c", SCRIPT]).arg(dir.join("runs"));
    Running::start(command.args([number.to_string(), process.to_string()]))
}
