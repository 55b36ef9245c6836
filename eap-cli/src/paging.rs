//! How much of a list to show: the same options for every list, and the same way to read it.

use eap_client::ClientError;
use eap_types::{AgentPage, KeyPage, PageQuery, RegistrationSecretPage, SessionPage, TaskPage, WorkflowPage};

use crate::exit::Failure;
use crate::server::ServerArgs;

/// The most one call gives.
const MOST: u32 = 500;

/// How much of a list to show.
#[derive(Debug, clap::Args)]
pub(crate) struct Paging {
    /// How many to show, at most 500 [default: 50].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: Option<u32>,

    /// Go on where an earlier list ended.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,

    /// Show all there are.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl Paging {
    /// Reads as much as is to be shown, as one page; `ask` gets where a page begins and how much it is to hold.
    pub(crate) async fn read<P: Page>(
        &self,
        server: &ServerArgs,
        ask: impl AsyncFn(Option<String>, Option<u32>) -> Result<P, ClientError>,
    ) -> Result<P, Failure> {
        let limit = if self.all { Some(MOST) } else { self.limit };
        let (mut page, mut cursor) = (P::default(), self.cursor.clone());
        loop {
            page.join(ask(cursor, limit).await.map_err(|error| server.failed(&error))?);
            cursor = page.next_cursor().map(str::to_owned);
            if !self.all || cursor.is_none() {
                return Ok(page);
            }
        }
    }
}

/// A query for a page and nothing else.
pub(crate) fn query(cursor: Option<String>, limit: Option<u32>) -> PageQuery {
    let mut query = PageQuery::default();
    (query.cursor, query.limit) = (cursor, limit);
    query
}

/// The line below a list that goes on, which says how to read on.
pub(crate) fn more(page: &impl Page) -> String {
    page.next_cursor().map(|cursor| format!("more: --cursor {cursor}\n")).unwrap_or_default()
}

/// A page of a list.
pub(crate) trait Page: Default {
    /// Takes in the page that follows.
    fn join(&mut self, next: Self);

    /// Where the next page begins, if there is one.
    fn next_cursor(&self) -> Option<&str>;
}

macro_rules! pages {
    ($($page:ident: $entries:ident),+ $(,)?) => {$(
        impl Page for $page {
            fn join(&mut self, next: Self) {
                self.$entries.extend(next.$entries);
                self.next_cursor = next.next_cursor;
            }

            fn next_cursor(&self) -> Option<&str> {
                self.next_cursor.as_deref()
            }
        }
    )+};
}

pages! {
    AgentPage: agents,
    KeyPage: keys,
    RegistrationSecretPage: registration_secrets,
    SessionPage: sessions,
    TaskPage: tasks,
    WorkflowPage: workflows,
}
