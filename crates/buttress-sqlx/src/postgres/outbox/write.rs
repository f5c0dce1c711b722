//! Writing messages inside a transaction of the user's.

use buttress_durable::Answer;
use buttress_durable::outbox::{NewMessage, Write};

use crate::bounds::check_message;
use crate::error::during;
use crate::headers;
use crate::outbox::status::{DELAYED, PENDING};
use crate::postgres::PostgresStore;
use crate::postgres::rows::{Tx, query, uuid};
use crate::time::span;

impl<'a> Write<Tx<'a>> for PostgresStore {
    async fn write(&self, tx: &mut Tx<'a>, message: &NewMessage) -> Answer<()> {
        check_message(message)?;
        let id = message.id;
        let sql = self.sql(
            "INSERT INTO {s}buttress_outbox \
             (id, partition, key, topic, payload, headers, status, due_at, length) \
             VALUES ($2, $3, $4, $5, $6, $7, $8, {now} + $9::int8, $9::int8)",
        );
        let what = format!("writing message {id}");
        let partition = i64::from(NewMessage::partition(&message.key, self.partitions()));
        let status = if message.delay.is_zero() { PENDING } else { DELAYED };
        let query = query(sql).bind(self.time()).bind(uuid(id.get())).bind(partition);
        let query = query.bind(&message.key).bind(&message.topic).bind(&message.payload);
        let query = query.bind(headers::encode(&message.headers)).bind(status);
        let query = query.bind(span(message.delay));
        self.bounded(&what, async {
            query.execute(&mut **tx).await.map(drop).map_err(during(&what))
        })
        .await
    }

    /// Takes an advisory lock of the transaction.
    ///
    /// It waits for other transactions on the key up to the `lock_timeout` of the connection, which
    /// connections of the store's pool have. It waits at most the operation timeout.
    async fn lock_key(&self, tx: &mut Tx<'a>, key: &str) -> Answer<()> {
        let what = "locking a key";
        let query = query(self.sql("SELECT pg_advisory_xact_lock($1)"))
            .bind(self.inner.sql.lock("outbox", key));
        self.bounded(what, async { query.execute(&mut **tx).await.map(drop).map_err(during(what)) })
            .await
    }
}
