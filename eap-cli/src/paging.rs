//! How much of a list to show: the same options for every list.

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
    pub(crate) cursor: Option<String>,

    /// Show all there are.
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
}

impl Paging {
    /// How many to ask for at once.
    pub(crate) fn limit(&self) -> Option<u32> {
        if self.all { Some(MOST) } else { self.limit }
    }
}
