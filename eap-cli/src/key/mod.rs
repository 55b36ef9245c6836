//! `eap key` and `eap registration-secret`: made, listed, revoked.

mod operator;
mod registration;

use std::time::Duration;

use clap::{Args, Subcommand};
use eap_orchestrator::{Clock as _, SystemClock};
use eap_types::{CredentialId, Timestamp};

use crate::exit::{Exit, Failure};
use crate::output::{age, print};
use crate::paging::Paging;
use crate::server::ServerArgs;

/// What can be done with operator keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    Create(operator::CreateArgs),
    /// List keys, newest first, ended ones among them; never the keys themselves.
    List(ListArgs),
    /// Take a key out of use, at once and for good.
    Revoke(RevokeArgs),
}

/// What can be done with registration secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum RegistrationSecretCommand {
    Create(registration::CreateArgs),
    /// List secrets, newest first, ended ones among them; never the secrets themselves.
    List(ListArgs),
    /// Take a secret out of use, at once and for good; agents that registered with it stay.
    Revoke(RevokeArgs),
}

/// Which of them to show, and how.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    server: ServerArgs,

    #[command(flatten)]
    paging: Paging,

    /// Print the answer as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Which one to revoke.
#[derive(Args, Debug)]
pub(crate) struct RevokeArgs {
    /// Its id, as the list shows it; it also stands in the text itself.
    id: CredentialId,

    #[command(flatten)]
    server: ServerArgs,
}

/// When something is to end.
#[derive(Args, Debug)]
struct End {
    /// How long it works, as in 90s, 45m, 12h or 30d [default: until it is revoked].
    #[arg(long, value_name = "LENGTH", value_parser = length, conflicts_with = "expires_at")]
    expires_in: Option<Duration>,

    /// When it stops working, as in 2027-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Timestamp>,
}

impl End {
    fn at(&self) -> Option<Timestamp> {
        self.expires_at.or_else(|| self.expires_in.map(|length| SystemClock::new().now() + length))
    }
}

/// Carries out one of them.
pub(crate) async fn run(command: KeyCommand) -> Result<Exit, Failure> {
    match command {
        KeyCommand::Create(args) => operator::create(args).await,
        KeyCommand::List(args) => operator::list(args).await,
        KeyCommand::Revoke(RevokeArgs { id, server }) => {
            let client = server.client()?;
            server.repeat_or("`eap key list` shows the keys there are", || client.revoke_key(&id)).await?;
            print(&format!("{id} revoked\n"))?;
            Ok(Exit::Done)
        }
    }
}

/// The same for registration secrets.
pub(crate) async fn run_for_secrets(command: RegistrationSecretCommand) -> Result<Exit, Failure> {
    match command {
        RegistrationSecretCommand::Create(args) => registration::create(args).await,
        RegistrationSecretCommand::List(args) => registration::list(args).await,
        RegistrationSecretCommand::Revoke(RevokeArgs { id, server }) => {
            let client = server.client()?;
            let advice = "`eap registration-secret list` shows the secrets there are";
            server.repeat_or(advice, || client.revoke_registration_secret(&id)).await?;
            print(&format!("{id} revoked\n"))?;
            Ok(Exit::Done)
        }
    }
}

fn ago(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), age)
}

fn end(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.to_string())
}

fn length(text: &str) -> Result<Duration, String> {
    let wrong = || "is not a length: write a number and s, m, h or d, as in 30d".to_owned();
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(u64::from(number) * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_a_number_with_its_unit() {
        let read = |text: &str| length(text).map(|length| length.as_secs());
        assert_eq!(
            [read("90s"), read("45m"), read("12h"), read("30d")],
            [Ok(90), Ok(2_700), Ok(43_200), Ok(2_592_000)]
        );
        for wrong in ["", "30", "d", "-1d", "1.5h", "30 d", "1w", "é"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
