//! What a sequence is made of: operations that name records by small numbers, so that they shrink well and always mean
//! something.

use proptest::prelude::*;
use proptest::sample::select;

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// One write, answered before the next step.
    Write(Write),
    /// Writes that are handed over at once, so that they may share a transaction; claims come last.
    Burst(Vec<Write>),
    /// Time passes.
    Advance { millis: u64 },
    /// What is older than this goes, in steps of `limit`.
    Purge { millis: u64, limit: usize },
    /// The store is closed and opened again, if it survives that.
    Reopen,
    /// Everything is read and compared.
    ReadAll,
}

/// One write.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Submit {
        shapes: Vec<Shape>,
        /// The idempotency key, if there is one.
        key: Option<u8>,
        /// Under the id of a task that there was.
        taken: Option<u8>,
    },
    Register {
        agent: u8,
        offer: Offer,
        /// As a new one, even if it is there.
        anew: bool,
    },
    Stand {
        agent: u8,
        standing: u8,
        is_stale: bool,
    },
    Happen(Happening),
    /// Two tasks in one change.
    Both(Happening, Happening),
    /// A result that follows from nothing.
    Result {
        task: u8,
    },
    Late {
        task: u8,
        attempt: u32,
        said: u8,
    },
    Vitals {
        agent: u8,
        seq: u64,
    },
    Pulse,
    Claim(Vec<Wish>),
}

/// What happens to one task.
#[derive(Clone, Debug)]
pub(crate) struct Happening {
    pub(crate) task: u8,
    pub(crate) what: What,
    /// Decided on a record that has moved on.
    pub(crate) is_stale: bool,
    /// Written with another input: the spec is not written again.
    pub(crate) is_spoiled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum What {
    Complete,
    Fail { retryable: bool },
    Reject,
    Release,
    Drain,
    Renew,
    Progress { seq: u64 },
    Due,
    FreshStart,
    Cancel,
}

/// What a task asks for.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) tenant: u8,
    pub(crate) task_type: u8,
    pub(crate) needs_more: bool,
    pub(crate) has_label: bool,
    pub(crate) only: Option<u8>,
    pub(crate) priority: u8,
    pub(crate) delay: Option<u64>,
    pub(crate) expires: Option<u64>,
    pub(crate) max_attempts: u32,
}

/// What an agent offers.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// Bit by bit: the types of tasks, then the further capability.
    pub(crate) capabilities: u8,
    pub(crate) has_label: bool,
    pub(crate) room: u32,
    pub(crate) instance: Option<u8>,
}

/// One ask of a claim.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) agent: u8,
    pub(crate) max_tasks: u32,
    pub(crate) request: Option<u8>,
    pub(crate) only_type: Option<u8>,
    pub(crate) is_stale: bool,
    /// Refuses tasks of odd priority, as the core may refuse one to an agent that rejected it.
    pub(crate) is_choosy: bool,
}

pub(crate) const AGENTS: u8 = 4;
pub(crate) const TYPES: u8 = 3;
pub(crate) const KEYS: u8 = 4;

/// Sequences of up to 60 steps.
pub(crate) fn sequence() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 1..=60)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        30 => write().prop_map(Op::Write),
        8 => prop::collection::vec(write(), 2..6).prop_map(Op::Burst),
        5 => (0..120_000_u64).prop_map(|millis| Op::Advance { millis }),
        2 => (0..240_000_u64, 1..4_usize).prop_map(|(millis, limit)| Op::Purge { millis, limit }),
        1 => Just(Op::Reopen),
        1 => Just(Op::ReadAll),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    let submit = (
        prop::collection::vec(shape(), 1..4),
        prop::option::weighted(0.2, 0..KEYS),
        prop::option::weighted(0.05, any::<u8>()),
    );
    let stand = (0..AGENTS, 0..4_u8, prop::bool::weighted(0.2));
    prop_oneof![
        10 => submit.prop_map(|(shapes, key, taken)| Write::Submit { shapes, key, taken }),
        4 => (0..AGENTS, offer(), prop::bool::weighted(0.2))
            .prop_map(|(agent, offer, anew)| Write::Register { agent, offer, anew }),
        1 => stand.prop_map(|(agent, standing, is_stale)| Write::Stand { agent, standing, is_stale }),
        14 => happening().prop_map(Write::Happen),
        2 => (happening(), happening()).prop_map(|(one, other)| Write::Both(one, other)),
        1 => any::<u8>().prop_map(|task| Write::Result { task }),
        2 => (any::<u8>(), 1..3_u32, any::<u8>()).prop_map(|(task, attempt, said)| Write::Late { task, attempt, said }),
        1 => (0..AGENTS, any::<u64>()).prop_map(|(agent, seq)| Write::Vitals { agent, seq }),
        1 => Just(Write::Pulse),
        10 => prop::collection::vec(wish(), 1..4).prop_map(Write::Claim),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    let what = prop_oneof![
        4 => Just(What::Complete),
        2 => any::<bool>().prop_map(|retryable| What::Fail { retryable }),
        1 => Just(What::Reject),
        2 => Just(What::Release),
        1 => Just(What::Drain),
        2 => Just(What::Renew),
        2 => (0..6_u64).prop_map(|seq| What::Progress { seq }),
        4 => Just(What::Due),
        1 => Just(What::FreshStart),
        1 => Just(What::Cancel),
    ];
    (any::<u8>(), what, prop::bool::weighted(0.1), prop::bool::weighted(0.05))
        .prop_map(|(task, what, is_stale, is_spoiled)| Happening { task, what, is_stale, is_spoiled })
}

fn shape() -> impl Strategy<Value = Shape> {
    let routing = (
        prop::bool::weighted(0.15).prop_map(u8::from),
        0..TYPES,
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        prop::option::weighted(0.1, 0..AGENTS),
    );
    let rest = (
        select(&[0_u8, 2, 2, 2, 3, 4][..]),
        prop::option::weighted(0.15, 1..60_000_u64),
        prop::option::weighted(0.1, 1..120_000_u64),
        1..4_u32,
    );
    (routing, rest).prop_map(
        |((tenant, task_type, needs_more, has_label, only), (priority, delay, expires, max_attempts))| Shape {
            tenant,
            task_type,
            needs_more,
            has_label,
            only,
            priority,
            delay,
            expires,
            max_attempts,
        },
    )
}

fn offer() -> impl Strategy<Value = Offer> {
    (1..16_u8, any::<bool>(), 1..6_u32, prop::option::of(0..2_u8))
        .prop_map(|(capabilities, has_label, room, instance)| Offer { capabilities, has_label, room, instance })
}

fn wish() -> impl Strategy<Value = Wish> {
    let weighted = prop::bool::weighted;
    (
        0..AGENTS,
        0..5_u32,
        prop::option::of(0..3_u8),
        prop::option::weighted(0.2, 0..TYPES),
        weighted(0.1),
        weighted(0.1),
    )
        .prop_map(|(agent, max_tasks, request, only_type, is_stale, is_choosy)| Wish {
            agent,
            max_tasks,
            request,
            only_type,
            is_stale,
            is_choosy,
        })
}
