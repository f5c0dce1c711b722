//! The inbox on PostgreSQL.

use buttress_durable::Answer;
use buttress_durable::outbox::{Inbox, MessageId, Receipt};

use super::PostgresStore;
use super::rows::{Tx, query, uuid};
use crate::bounds::check_name;
use crate::error::during;

/// The second caller waits for the transaction of the first one, and then sees its result.
impl<'a> Inbox<Tx<'a>> for PostgresStore {
    async fn receive(
        &self,
        tx: &mut Tx<'a>,
        consumer: &str,
        message: MessageId,
    ) -> Answer<Receipt> {
        check_name("consumer", consumer)?;
        let sql = self.sql(
            "INSERT INTO {s}buttress_inbox (consumer, message, received_at) VALUES ($2, $3, {now}) \
             ON CONFLICT DO NOTHING",
        );
        let what = "receiving a message";
        let query = query(sql).bind(self.time()).bind(consumer).bind(uuid(message.get()));
        let done = self
            .bounded(what, async { query.execute(&mut **tx).await.map_err(during(what)) })
            .await?;
        Ok(if done.rows_affected() == 0 { Receipt::Repeated } else { Receipt::First })
    }
}
