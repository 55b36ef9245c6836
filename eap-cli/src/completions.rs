//! `eap completions`: what a shell needs to finish a command line.

use clap::{Args, Command};
use clap_complete::{Shell, generate};

use crate::exit::{Exit, Failure};
use crate::output::print;

/// Print what a shell needs to complete `eap` command lines.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    eap completions bash > ~/.local/share/bash-completion/completions/eap\n  \
    eap completions zsh > \"${fpath[1]}/_eap\"\n  \
    eap completions fish > ~/.config/fish/completions/eap.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script; `command` is all of `eap`.
pub(crate) fn run(args: &CompletionsArgs, mut command: Command) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut command, "eap", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
