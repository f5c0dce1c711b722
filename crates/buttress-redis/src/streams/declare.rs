//! Creates streams and groups, if they do not exist.

use std::sync::LazyLock;
use std::time::UNIX_EPOCH;

use buttress_durable::consume::Start;
use redis::Value;

use super::topic::Topic;
use crate::error::Error;
use crate::link::Link;
use crate::script::Script;
use crate::value;

/// Returns the id that the first entry of a new group is behind.
fn id(start: Start) -> String {
    match start {
        Start::First => "0-0".to_owned(),
        Start::New => "$".to_owned(),
        Start::At(time) => match time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() {
            0 => "0-0".to_owned(),
            ms => format!("{}-{}", ms - 1, u64::MAX),
        },
    }
}

/// An empty stream cannot be made directly: a group makes it, and goes.
static TOPIC: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local found = redis.call('HGET', KEYS[1], 'shards')
if found and found ~= ARGV[1] then return found end
redis.call('HSET', KEYS[1], 'shards', ARGV[1])
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then
    redis.call('XGROUP', 'CREATE', KEYS[i], 'buttress', '$', 'MKSTREAM')
    redis.call('XGROUP', 'DESTROY', KEYS[i], 'buttress')
  end
end
return ARGV[1]",
    )
});

/// Creates the streams of a topic.
pub(super) async fn topic(link: &Link, topic: &Topic) -> Result<(), Error> {
    let doing = "declaring a topic";
    let answer = link.run(doing, &TOPIC, |cmd| {
        cmd.arg(usize::from(topic.count()) + 1).arg(topic.declaration());
        for shard in 0..topic.count().into() {
            cmd.arg(topic.stream(shard));
        }
        cmd.arg(topic.count());
    });
    let answer = answer.await?;
    let found = value::text(&answer).ok_or(Error::Answer { doing, expected: "a number" })?;
    if found == topic.count().to_string() {
        return Ok(());
    }
    let (name, found) = (topic.name().to_owned(), found.to_owned());
    Err(Error::Shards { topic: name, wanted: topic.count(), found })
}

/// Creates a group on every stream of a topic. A group that exists stays where it is.
pub(super) async fn group(
    link: &Link,
    topic: &Topic,
    group: &str,
    start: Start,
) -> Result<(), Error> {
    for shard in 0..topic.count().into() {
        let mut cmd = redis::cmd("XGROUP");
        cmd.arg("CREATE").arg(topic.stream(shard)).arg(group).arg(id(start));
        match link.ask("creating a group", &cmd).await {
            Ok(Value::Okay) | Ok(Value::SimpleString(_)) => {}
            Ok(_) => {
                return Err(Error::Answer { doing: "creating a group", expected: "OK" });
            }
            Err(error) if error.has_code("BUSYGROUP") => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
