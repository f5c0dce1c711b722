//! Streams of Redis.

use std::time::{Duration, Instant};

use buttress_durable::outbox::Message;
use buttress_redis::Redis;
use buttress_redis::streams::{RedisSource, SourceConfig, Topic, Trim};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};
use tower::Service as _;

use crate::bench::{
    Error, IN_FLIGHT, MESSAGES, Rates, Row, all, consume, key, new_message, payload, publish, rate,
    relay,
};
use crate::report::Target;
use crate::take_over::{self, LEASE};

const URL: &str = "redis://127.0.0.1:6379";
const RAW: &str = "{bench-raw}:0";

pub async fn measure(rounds: usize) -> Result<Vec<Row>, Error> {
    let client = redis::Client::open(URL)?;
    let connecting = client.get_multiplexed_async_connection_with_config(&unlimited()).await;
    let mut connection = match connecting {
        Ok(connection) => connection,
        Err(error) => {
            println!("left out: Redis: {error}");
            return Ok(Vec::new());
        }
    };
    let redis = Redis::new(URL)?;
    let mut rows = Vec::new();
    for shards in [1, 8] {
        let topic = Topic::new(format!("bench-{shards}"))?.shards(shards)?;
        let mut rates = Rates::default();
        for _ in 0..rounds {
            clear(&mut connection).await?;
            rates.raw_out.push(publish_raw(&connection).await?);
            rates.raw_in.push(consume_raw(&mut connection).await?);
            clear(&mut connection).await?;
            let publisher = redis.publisher(topic.clone(), Trim::Never).await?;
            let source = redis.source(topic.clone(), "bench", SourceConfig::new()).await?;
            rates.ours_out.push(publish(&publisher).await?);
            rates.ours_in.push(consume(source).await?);
            clear(&mut connection).await?;
            let publisher = redis.publisher(topic.clone(), Trim::Never).await?;
            rates.ours_relayed.push(relay(&publisher).await?);
        }
        let broker = format!("Redis, {shards} shards").replace("1 shards", "1 shard");
        rows.extend(rates.rows(&broker, 0.7));
    }
    clear(&mut connection).await?;
    Ok(rows)
}

/// The source of the consumer that is killed, and of the one that takes over.
async fn member(redis: &Redis) -> Result<RedisSource, Error> {
    let topic = Topic::new("bench-take-over")?.shards(1)?;
    Ok(redis.source(topic, "bench", SourceConfig::new().lease(LEASE)).await?)
}

/// Holds a message until this process is killed.
pub async fn hold() -> Result<(), Error> {
    take_over::hold(member(&Redis::new(URL)?).await?).await
}

pub async fn take_over() -> Result<Option<Target>, Error> {
    let client = redis::Client::open(URL)?;
    let Ok(mut connection) = client.get_multiplexed_async_connection().await else {
        return Ok(None);
    };
    clear(&mut connection).await?;
    let redis = Redis::new(URL)?;
    let topic = Topic::new("bench-take-over")?.shards(1)?;
    let mut publisher = redis.publisher(topic, Trim::Never).await?;
    let publish = async {
        publisher.call(Message::new(new_message(0), 0, 0, Duration::ZERO)).await?;
        Ok(())
    };
    let target =
        take_over::measure("redis", LEASE, Duration::ZERO, publish, member(&redis)).await?;
    clear(&mut connection).await?;
    Ok(Some(target))
}

fn unlimited() -> redis::AsyncConnectionConfig {
    redis::AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(1024)
}

async fn clear(connection: &mut MultiplexedConnection) -> Result<(), Error> {
    let keys: Vec<String> = redis::cmd("KEYS").arg("{bench-*").query_async(connection).await?;
    if !keys.is_empty() {
        let _: u64 = redis::cmd("DEL").arg(keys).query_async(connection).await?;
    }
    Ok(())
}

/// `XADD` with the same fields as ours.
async fn publish_raw(connection: &MultiplexedConnection) -> Result<f64, Error> {
    let begun = Instant::now();
    let calls = (0..MESSAGES).map(|number| {
        let mut cmd = redis::cmd("XADD");
        cmd.arg(RAW).arg("*").arg("data").arg(payload());
        cmd.arg(".key").arg(key(number)).arg(".topic").arg("order.paid");
        let mut connection = connection.clone();
        async move {
            connection.send_packed_command(&cmd).await?;
            Ok(())
        }
    });
    all(calls).await?;
    Ok(rate(begun))
}

/// `XREADGROUP` of 256 entries, and one `XACK` for them.
async fn consume_raw(connection: &mut MultiplexedConnection) -> Result<f64, Error> {
    let mut group = redis::cmd("XGROUP");
    group.arg("CREATE").arg(RAW).arg("bench").arg("0");
    let _: Value = group.query_async(connection).await?;
    let begun = Instant::now();
    let mut handled = 0;
    while handled < MESSAGES {
        let mut read = Cmd::new();
        read.arg(&["XREADGROUP", "GROUP", "bench", "raw", "COUNT"]).arg(IN_FLIGHT);
        read.arg(&["STREAMS", RAW, ">"]);
        let entries = ids(connection.send_packed_command(&read).await?).ok_or("no entries")?;
        handled += entries.len();
        let mut acknowledge = redis::cmd("XACK");
        acknowledge.arg(RAW).arg("bench").arg(entries);
        connection.send_packed_command(&acknowledge).await?;
    }
    Ok(rate(begun))
}

fn ids(answer: Value) -> Option<Vec<Vec<u8>>> {
    let first = |value: Value| match value {
        Value::Array(values) => Some(values),
        _ => None,
    };
    let stream = first(answer)?.into_iter().next()?;
    let entries = first(first(stream)?.into_iter().nth(1)?)?;
    let id = |entry: Value| match first(entry)?.into_iter().next()? {
        Value::BulkString(id) => Some(id),
        _ => None,
    };
    entries.into_iter().map(id).collect()
}
