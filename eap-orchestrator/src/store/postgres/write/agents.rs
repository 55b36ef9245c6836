//! Agents, what was heard of them, and credentials.

use std::collections::{HashMap, HashSet};

use eap_types::{CredentialId, Timestamp};

use super::super::database::Transaction;
use super::super::fault::Fault;
use super::super::ground::{identity, known_agent};
use super::super::values::arguments;
use crate::store::CredentialWrite;
use crate::store::prepared::{Prepared, PreparedAgentWrite, PreparedVitals};

pub(super) async fn agents(transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
    for is_new in [false, true] {
        let written: Vec<_> = changes
            .iter()
            .flat_map(|change| &change.agents)
            .filter(|write| matches!(write.write, PreparedAgentWrite::Insert(_)) == is_new)
            .collect();
        if written.is_empty() {
            continue;
        }
        let ids: Vec<&str> = written.iter().map(|write| write.agent.id.as_str()).collect();
        let known: Vec<_> = written.iter().map(|write| known_agent(write)).collect();
        let epochs: Vec<i64> = known.iter().map(|known| known.epoch).collect();
        let active: Vec<bool> = known.iter().map(|known| known.is_active).collect();
        let gone: Vec<Option<i64>> = written.iter().map(|write| write.gone_at()).collect();
        let identities: Vec<_> = written.iter().map(|write| identity(&write.agent)).collect();
        let identities: Vec<Option<&[u8]>> = identities.iter().map(|key| key.as_ref().map(|key| &key[..])).collect();
        let records: Vec<&str> = written.iter().map(|write| write.record.as_str()).collect();
        let sql = if is_new {
            "INSERT INTO eap.agent (id, rev, epoch, is_active, gone_at, identity, record) \
             SELECT id, 1, epoch, is_active, gone_at, identity, record \
             FROM unnest($1::text[], $2::int8[], $3::bool[], $4::int8[], $5::bytea[], $6::text[]) \
                 AS w (id, epoch, is_active, gone_at, identity, record) ORDER BY id"
        } else {
            "UPDATE eap.agent a SET rev = a.rev + 1, epoch = w.epoch, is_active = w.is_active, gone_at = w.gone_at, \
                 identity = w.identity, record = w.record \
             FROM unnest($1::text[], $2::int8[], $3::bool[], $4::int8[], $5::bytea[], $6::text[]) \
                 AS w (id, epoch, is_active, gone_at, identity, record) WHERE a.id = w.id"
        };
        transaction.execute(sql, arguments![ids, epochs, active, gone, identities, records]).await?;
    }
    Ok(())
}

/// The newest of each agent, the last of those heard at once; those of agents that are unknown, or registered by a later change alone, are passed over.
pub(super) async fn vitals(transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
    let mut first = Vec::new();
    for write in changes.iter().flat_map(|change| &change.agents) {
        if let PreparedAgentWrite::Insert(vitals) = &write.write {
            first.push((write.agent.id.as_str(), vitals));
        }
    }
    let (mut unknown, mut last): (HashSet<&str>, HashMap<&str, &PreparedVitals>) = Default::default();
    unknown.extend(first.iter().map(|(agent, _)| *agent));
    for change in changes {
        for write in &change.agents {
            unknown.remove(write.agent.id.as_str());
        }
        let heard = change.vitals.iter().map(|(agent, vitals)| (agent.as_str(), vitals));
        for (agent, heard) in heard.filter(|(agent, _)| !unknown.contains(agent)) {
            let known = last.entry(agent).or_insert(heard);
            if (known.epoch, known.last_seen) <= (heard.epoch, heard.last_seen) {
                *known = heard;
            }
        }
    }
    let insert = "INSERT INTO eap.vitals (agent, epoch, last_seen, vitals) \
         SELECT * FROM unnest($1::text[], $2::int8[], $3::int8[], $4::text[])";
    // Another replica may have heard of the agent since then: a replica that wakes late undoes nothing.
    let update = "UPDATE eap.vitals v SET epoch = w.epoch, last_seen = w.last_seen, vitals = w.vitals \
         FROM unnest($1::text[], $2::int8[], $3::int8[], $4::text[]) AS w (agent, epoch, last_seen, vitals) \
         WHERE v.agent = w.agent AND (v.epoch, v.last_seen) <= (w.epoch, w.last_seen)";
    // In the order of ids: two replicas that heard of the same agents wait for each other, and not in a ring.
    let mut last: Vec<_> = last.into_iter().collect();
    last.sort_unstable_by_key(|(agent, _)| *agent);
    for (sql, rows) in [(insert, first), (update, last)] {
        if !rows.is_empty() {
            let agents: Vec<&str> = rows.iter().map(|(agent, _)| *agent).collect();
            let epochs: Vec<i64> = rows.iter().map(|(_, vitals)| vitals.epoch).collect();
            let seen: Vec<i64> = rows.iter().map(|(_, vitals)| vitals.last_seen).collect();
            let texts: Vec<&str> = rows.iter().map(|(_, vitals)| vitals.text.as_str()).collect();
            transaction.execute(sql, arguments![agents, epochs, seen, texts]).await?;
        }
    }
    Ok(())
}

pub(super) async fn credentials(transaction: &mut Transaction<'_>, changes: &[&Prepared]) -> Result<(), Fault> {
    for is_new in [false, true] {
        let written: Vec<_> = changes
            .iter()
            .flat_map(|change| &change.credentials)
            .filter(|write| matches!(write.write, CredentialWrite::Insert(_)) == is_new)
            .collect();
        if written.is_empty() {
            continue;
        }
        let ids: Vec<&[u8]> = written.iter().map(|write| &write.write.credential().id.as_bytes()[..]).collect();
        let ended: Vec<Option<i64>> =
            written.iter().map(|write| write.write.credential().ended_at().map(Timestamp::as_micros)).collect();
        let records: Vec<&str> = written.iter().map(|write| write.record.as_str()).collect();
        let sql = if is_new {
            "INSERT INTO eap.credential (id, rev, ended_at, record) \
             SELECT id, 1, ended_at, record FROM unnest($1::bytea[], $2::int8[], $3::text[]) AS w (id, ended_at, record)"
        } else {
            "UPDATE eap.credential c SET rev = c.rev + 1, ended_at = w.ended_at, record = w.record \
             FROM unnest($1::bytea[], $2::int8[], $3::text[]) AS w (id, ended_at, record) WHERE c.id = w.id"
        };
        transaction.execute(sql, arguments![ids, ended, records]).await?;
    }
    let last = last_used(changes);
    if last.is_empty() {
        return Ok(());
    }
    let ids: Vec<&[u8]> = last.iter().map(|(id, _)| &id.as_bytes()[..]).collect();
    let times: Vec<i64> = last.iter().map(|(_, at)| *at).collect();
    let sql = "UPDATE eap.credential c SET last_used_at = w.at \
         FROM unnest($1::bytea[], $2::int8[]) AS w (id, at) WHERE c.id = w.id";
    transaction.execute(sql, arguments![ids, times]).await?;
    Ok(())
}

/// The last of each credential, in the order of ids; those of credentials that a later change inserts are passed over.
fn last_used(changes: &[&Prepared]) -> Vec<(CredentialId, i64)> {
    let inserted = |change: &&Prepared| -> Vec<CredentialId> {
        let new = change.credentials.iter().filter(|write| matches!(write.write, CredentialWrite::Insert(_)));
        new.map(|write| write.write.credential().id).collect()
    };
    let mut unknown: HashSet<CredentialId> = changes.iter().flat_map(inserted).collect();
    let mut last = HashMap::new();
    for change in changes {
        for id in inserted(change) {
            unknown.remove(&id);
        }
        let used = change.last_used.iter().filter(|(id, _)| !unknown.contains(id));
        last.extend(used.map(|(id, at)| (*id, at.as_micros())));
    }
    let mut last: Vec<_> = last.into_iter().collect();
    last.sort_unstable();
    last
}
