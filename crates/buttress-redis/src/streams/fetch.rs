//! Reads of new entries without a script, which would copy every entry twice more.
//!
//! The connection watches the leases that the next read needs, and has seen that they are this member's. The read is
//! a transaction. Redis does not run the transaction if one of the leases was changed, or has ended, since then: the
//! check of the lease and the read are one step, as in a script.

use std::sync::{Mutex, PoisonError};

use redis::{Cmd, Pipeline, Value};

use super::scripts::{CONSUMER, Commands, Entry, page_of_new};
use super::state::{Claim, Page, Read};
use crate::error::Error;
use crate::link::Link;
use crate::value::{array, streams, text};

const DOING: &str = "reading new entries";
const WRONG: Error = Error::Answer { doing: DOING, expected: "the answer to a transaction" };

/// The leases that a connection watches.
#[derive(Clone, Debug)]
struct Watched {
    /// The number of the connection. Another connection watches nothing.
    connection: u64,
    claims: Vec<Claim>,
}

/// The connection of these reads. Nothing else may use it: the end of a transaction ends every watch.
#[derive(Debug)]
pub(super) struct Fetch {
    link: Link,
    watched: Mutex<Option<Watched>>,
}

impl Fetch {
    pub(super) fn new(link: Link) -> Self {
        Self { link, watched: Mutex::new(None) }
    }

    pub(super) fn close(&self) {
        self.link.close();
    }

    fn take(&self) -> Option<Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, watched: Watched) {
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = Some(watched);
    }
}

impl Commands {
    /// Reads entries that were never delivered. Returns `None` if a lease is not this member's, and if leases change
    /// all the time: then a script has to read. There is one call at a time.
    pub(super) async fn fetch(&self, reads: &[Read]) -> Result<Option<Vec<Page<Entry>>>, Error> {
        let claims: Vec<Claim> = reads.iter().map(|read| read.claim).collect();
        // The first transaction fails if this member has renewed a lease meanwhile.
        for _ in 0..2 {
            let Some(connection) = self.watch(&claims).await? else { return Ok(None) };
            if let Some(pages) = self.transact(reads, &claims, connection).await? {
                return Ok(Some(pages));
            }
        }
        Ok(None)
    }

    /// Watches the leases, unless it does already. Returns the connection, or `None` if a lease is not this member's.
    async fn watch(&self, claims: &[Claim]) -> Result<Option<u64>, Error> {
        let covers = |watched: &Watched| claims.iter().all(|it| watched.claims.contains(it));
        if let Some(watched) = self.fetch.take().filter(covers) {
            return Ok(Some(watched.connection));
        }
        let mut cmds = Pipeline::with_capacity(3);
        cmds.cmd("UNWATCH");
        self.add_watch(&mut cmds, claims);
        let Some((connection, mut answers)) = self.fetch.link.ask_all(DOING, &cmds, None).await?
        else {
            return Ok(None);
        };
        let owners = answers.pop().ok_or(WRONG)?;
        let is_mine = self.owned(claims, owners)?.len() == claims.len();
        Ok(is_mine.then_some(connection))
    }

    /// Reads, unless a watched lease has changed, and watches the leases again for the next read.
    async fn transact(
        &self,
        reads: &[Read],
        claims: &[Claim],
        connection: u64,
    ) -> Result<Option<Vec<Page<Entry>>>, Error> {
        let mut cmds = Pipeline::with_capacity(reads.len() + 4);
        cmds.cmd("MULTI");
        for read in reads {
            let mut cmd = Cmd::new();
            cmd.arg(&["XREADGROUP", "GROUP"]).arg(&self.group).arg(CONSUMER).arg("COUNT");
            cmd.arg(read.count).arg("STREAMS").arg(self.topic.stream(read.claim.shard)).arg(">");
            cmds.add_command(cmd);
        }
        cmds.cmd("EXEC");
        self.add_watch(&mut cmds, claims);
        let asking = self.fetch.link.ask_all(DOING, &cmds, Some(connection));
        let Some((connection, mut answers)) = asking.await.map_err(|error| self.why(error))? else {
            return Ok(None);
        };
        let (owners, _watch) = (answers.pop().ok_or(WRONG)?, answers.pop());
        let claims = self.owned(claims, owners)?;
        self.fetch.set(Watched { connection, claims });
        let pages = match answers.pop().ok_or(WRONG)? {
            Value::Nil => return Ok(None),
            pages => array(pages).filter(|pages| pages.len() == reads.len()).ok_or(WRONG)?,
        };
        let page = |page: Value| match page {
            Value::Nil => Ok(Page::default()),
            Value::ServerError(error) => Err(self.why(self.fetch.link.error(DOING, error.into()))),
            page => {
                let stream = streams(page).and_then(|streams| streams.into_iter().next());
                stream.and_then(|(_, entries)| page_of_new(entries)).ok_or(WRONG)
            }
        };
        pages.into_iter().map(page).collect::<Result<_, _>>().map(Some)
    }

    fn add_watch(&self, cmds: &mut Pipeline, claims: &[Claim]) {
        let leases: Vec<String> = claims.iter().map(|claim| self.lease_of(claim.shard)).collect();
        cmds.cmd("WATCH").arg(&leases);
        cmds.cmd("MGET").arg(&leases);
    }

    /// Returns the claims whose leases have this member as their owner.
    fn owned(&self, claims: &[Claim], owners: Value) -> Result<Vec<Claim>, Error> {
        let owners = array(owners).filter(|owners| owners.len() == claims.len()).ok_or(WRONG)?;
        let claims = claims.iter().zip(owners);
        let is_mine = |(claim, owner): &(&Claim, Value)| text(owner) == Some(&*self.owner(**claim));
        Ok(claims.filter(is_mine).map(|(claim, _)| *claim).collect())
    }
}
