//! Lookups at a name server of the test, over UDP on the loopback interface.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use buttress::VirtualClock;
use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

use super::*;

const SERVICE: &str = "_http._tcp.orders.test.";

/// The records of a server by name and type. A name without any does not exist. The server fails for a name with the
/// type [`FAILS`].
type Zone = Arc<Mutex<BTreeMap<(String, RecordType), Vec<Record>>>>;

const FAILS: RecordType = RecordType::ANY;
/// The type of a name that the server refuses to answer for.
const REFUSES: RecordType = RecordType::AXFR;

/// The names and types that a server was asked for.
type Asked = Mutex<Vec<(String, RecordType)>>;

/// A name server.
struct Server {
    address: SocketAddr,
    zone: Zone,
    asked: Arc<Asked>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// Answers a query from the zone. An answer that is longer than `room` is truncated.
fn answer(query: &[u8], zone: &Zone, asked: &Asked, room: usize) -> Vec<u8> {
    let query = Message::from_vec(query).unwrap();
    let question = query.query().unwrap();
    let mut message = Message::new();
    message.set_id(query.id()).set_message_type(MessageType::Response);
    message.set_recursion_desired(true).set_recursion_available(true);
    message.add_query(question.clone());
    let (asked_for, kind) =
        (question.name().to_ascii().to_ascii_lowercase(), question.query_type());
    asked.lock().unwrap().push((asked_for.clone(), kind));
    let zone = zone.lock().unwrap();
    match zone.get(&(asked_for.clone(), kind)) {
        _ if zone.contains_key(&(asked_for.clone(), FAILS)) => {
            message.set_response_code(ResponseCode::ServFail);
        }
        _ if zone.contains_key(&(asked_for.clone(), REFUSES)) => {
            message.set_response_code(ResponseCode::Refused);
        }
        Some(records) => {
            message.add_answers(records.clone());
        }
        None if zone.keys().any(|(name, _)| *name == asked_for) => {}
        None => {
            message.set_response_code(ResponseCode::NXDomain);
        }
    }
    let whole = message.to_vec().unwrap();
    if whole.len() > room { message.truncate().to_vec().unwrap() } else { whole }
}

impl Server {
    async fn start() -> Self {
        // A port that is free for both: another process can have the one of the first.
        let (tcp, address, udp) = loop {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = tcp.local_addr().unwrap();
            if let Ok(udp) = UdpSocket::bind(address).await {
                break (tcp, address, udp);
            }
        };
        let (zone, asked) = (Zone::default(), Arc::<Asked>::default());
        let (of_udp, of_tcp) = ((zone.clone(), asked.clone()), (zone.clone(), asked.clone()));
        let datagrams = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer).await {
                let answer = answer(&buffer[..length], &of_udp.0, &of_udp.1, 512);
                udp.send_to(&answer, peer).await.unwrap();
            }
        });
        let streams = tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                while let Ok(length) = stream.read_u16().await {
                    let mut query = vec![0; length.into()];
                    stream.read_exact(&mut query).await.unwrap();
                    let answer = answer(&query, &of_tcp.0, &of_tcp.1, usize::MAX);
                    stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
                    stream.write_all(&answer).await.unwrap();
                }
            }
        });
        Self { address, zone, asked, tasks: [datagrams, streams] }
    }

    /// Replaces the SRV records: priority, weight, port, target.
    fn serves(&self, ttl: u32, records: &[(u16, u16, u16, &str)]) {
        let records = records.iter().map(|(priority, weight, port, target)| {
            let data = RData::SRV(SRV::new(*priority, *weight, *port, name(target)));
            Record::from_rdata(name(SERVICE), ttl, data)
        });
        self.zone.lock().unwrap().insert((SERVICE.into(), RecordType::SRV), records.collect());
    }

    /// Fails for a target until the target has addresses again.
    fn fails(&self, target: &str) {
        self.zone.lock().unwrap().insert((target.into(), FAILS), Vec::new());
    }

    /// Refuses to answer for a name.
    fn refuses(&self, name: &str) {
        self.zone.lock().unwrap().insert((name.into(), REFUSES), Vec::new());
    }

    /// Replaces the addresses of a target. Without any the target has none, but exists.
    fn knows(&self, target: &str, ttl: u32, addresses: &[&str]) {
        let mut zone = self.zone.lock().unwrap();
        zone.remove(&(target.into(), FAILS));
        for kind in [RecordType::A, RecordType::AAAA] {
            zone.insert((target.into(), kind), Vec::new());
        }
        for address in addresses {
            let data = match address.parse().unwrap() {
                IpAddr::V4(address) => RData::A(A(address)),
                IpAddr::V6(address) => RData::AAAA(AAAA(address)),
            };
            let record = Record::from_rdata(name(target), ttl, data);
            let key = (target.to_owned(), record.record_type());
            zone.entry(key).or_default().push(record);
        }
    }

    fn resolver(&self, clock: &VirtualClock) -> Srv {
        srv(SERVICE).unwrap().servers([self.address]).clock(clock.clock()).rng(Rng::seeded(1))
    }

    /// Returns how often the server was asked for the service.
    fn asked(&self) -> usize {
        self.asked_for(SERVICE, RecordType::SRV)
    }

    fn asked_for(&self, name: &str, kind: RecordType) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(asked_for, of)| *asked_for == name && *of == kind).count()
    }
}

/// Lets the other tasks run until `is_done`, and fails if that takes too many turns.
async fn turns(mut is_done: impl FnMut() -> bool) {
    for _ in 0..5_000_000 {
        if is_done() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("nothing happens");
}

fn set(instances: &[Instance]) -> Vec<(&str, u32)> {
    instances.iter().map(|it| (it.address(), it.weight())).collect()
}

#[tokio::test]
async fn records_become_instances_by_priority_and_weight() {
    let (server, clock) = (Server::start().await, VirtualClock::new());
    server.knows("a.test.", 60, &["192.0.2.1"]);
    server.knows("b.test.", 60, &["192.0.2.2", "2001:db8::2"]);
    server.knows("spare.test.", 60, &["192.0.2.9"]);
    server.serves(
        60,
        &[(20, 1, 80, "spare.test."), (10, 1, 8001, "a.test."), (10, 3, 8002, "b.test.")],
    );
    let mut resolver = server.resolver(&clock);
    let found = resolver.next().await.unwrap();
    let expected = [("192.0.2.1:8001", 2), ("192.0.2.2:8002", 3), ("[2001:db8::2]:8002", 3)];
    assert_eq!(set(&found), expected);
    assert_eq!(found[0].id(), "192.0.2.1:8001");

    // The better priority has no address any more.
    server.knows("a.test.", 60, &[]);
    server.knows("b.test.", 60, &[]);
    clock.advance(Duration::from_secs(33));
    assert_eq!(set(&resolver.next().await.unwrap()), [("192.0.2.9:80", 1)]);
}

#[tokio::test]
async fn edge_5_2_targets_without_addresses_are_an_error_and_a_lone_root_is_the_empty_set() {
    let (server, clock) = (Server::start().await, VirtualClock::new());
    let mut resolver = server.resolver(&clock);
    let error = resolver.next().await.unwrap_err();
    let what = |text| format!("store: transient: {SERVICE}: {text}");
    assert_eq!(error.to_string(), what("the name has no record now"));
    assert!(error.source().is_some());

    server.serves(60, &[(0, 0, 80, "gone.test."), (1, 0, 80, "bare.test.")]);
    server.knows("bare.test.", 60, &[]);
    let error = resolver.next().await.unwrap_err();
    assert_eq!(error.to_string(), what("no target has an address now"));
    assert!(error.source().is_some());

    server.knows("bare.test.", 60, &["192.0.2.1"]);
    assert_eq!(set(&resolver.next().await.unwrap()), [("192.0.2.1:80", 1)]);
    server.serves(60, &[(0, 0, 0, ".")]);
    clock.advance(Duration::from_secs(33));
    assert_eq!(resolver.next().await.unwrap(), []);
}

/// Regression: a target whose lookup failed once lost its addresses, and the requests went to the others.
#[tokio::test]
async fn edge_5_1_a_target_that_cannot_be_looked_up_keeps_its_addresses() {
    let (server, clock) = (Server::start().await, VirtualClock::new());
    server.knows("a.test.", 60, &["192.0.2.1"]);
    server.knows("b.test.", 60, &["192.0.2.2"]);
    server.knows("spare.test.", 60, &["192.0.2.9"]);
    let records = [(10, 1, 80, "a.test."), (10, 1, 80, "b.test."), (20, 1, 80, "spare.test.")];
    server.serves(60, &records);
    let mut resolver = server.resolver(&clock);
    let both = [("192.0.2.1:80", 1), ("192.0.2.2:80", 1)];
    assert_eq!(set(&resolver.next().await.unwrap()), both);

    server.fails("b.test.");
    server.knows("a.test.", 60, &["192.0.2.3"]);
    clock.advance(Duration::from_secs(33));
    assert_eq!(set(&resolver.next().await.unwrap()), [("192.0.2.2:80", 1), ("192.0.2.3:80", 1)]);
    // It is asked for again soon.
    server.knows("b.test.", 60, &["192.0.2.4"]);
    clock.advance(Duration::from_secs(6));
    assert_eq!(set(&resolver.next().await.unwrap()), [("192.0.2.3:80", 1), ("192.0.2.4:80", 1)]);
    // A server says that it has no address any more.
    server.knows("b.test.", 60, &[]);
    clock.advance(Duration::from_secs(33));
    assert_eq!(set(&resolver.next().await.unwrap()), [("192.0.2.3:80", 1)]);
}

#[tokio::test]
async fn edge_5_1_targets_that_were_never_looked_up_do_not_give_way_to_the_next_priority() {
    let (server, clock) = (Server::start().await, VirtualClock::new());
    server.fails("a.test.");
    server.fails("b.test.");
    server.knows("spare.test.", 60, &["192.0.2.9"]);
    let records = [(10, 1, 80, "a.test."), (10, 1, 80, "b.test."), (20, 1, 80, "spare.test.")];
    server.serves(60, &records);
    let mut resolver = server.resolver(&clock);
    let error = resolver.next().await.unwrap_err();
    let expected = format!(
        "store: transient: {SERVICE}: the addresses of the targets cannot be looked up now"
    );
    assert_eq!(error.to_string(), expected);
    assert!(error.source().is_some());
    // One of them is enough.
    server.knows("b.test.", 60, &["192.0.2.2"]);
    assert_eq!(set(&resolver.next().await.unwrap()), [("192.0.2.2:80", 1)]);
}

#[tokio::test]
async fn edge_5_16_a_target_of_several_records_is_looked_up_once_and_sets_are_bounded() {
    let (server, clock) = (Server::start().await, VirtualClock::new());
    server.knows("a.test.", 60, &["192.0.2.1"]);
    server.serves(60, &[(0, 1, 80, "a.test."), (0, 1, 81, "a.test.")]);
    let mut resolver = server.resolver(&clock);
    assert_eq!(resolver.next().await.unwrap().len(), 2);
    assert_eq!(server.asked_for("a.test.", RecordType::A), 1);

    let records: Vec<_> = (1..=600).map(|port| (0, 1, port, "a.test.")).collect();
    server.serves(60, &records);
    server.knows("a.test.", 60, &["192.0.2.1", "192.0.2.2"]);
    clock.advance(Duration::from_secs(33));
    let error = resolver.next().await.unwrap_err().to_string();
    assert!(error.ends_with("has 1200 instances, more than the largest set of 1000"), "{error}");
}

#[tokio::test]
async fn an_answer_is_asked_for_again_when_it_ends_and_a_set_is_returned_when_it_changes() {
    let (server, clock) = (Server::start().await, VirtualClock::new());
    server.serves(86_400, &[(0, 0, 80, "a.test.")]);
    // The time to live of the addresses counts too.
    server.knows("a.test.", 5, &["192.0.2.1"]);
    let mut resolver = server.resolver(&clock);
    resolver.next().await.unwrap();
    assert_eq!(server.asked(), 1);
    let zone = Arc::clone(&server.zone);
    let changed = tokio::spawn(async move { resolver.next().await });
    for seconds in [4, 2] {
        tokio::task::yield_now().await;
        assert_eq!((server.asked(), changed.is_finished()), (1, false));
        clock.advance(Duration::from_secs(seconds));
    }
    turns(|| server.asked() >= 2).await;
    // The same set: the next lookup changes it.
    let address = Record::from_rdata(name("a.test."), 86_400, RData::A(A([192, 0, 2, 2].into())));
    let key = (String::from("a.test."), RecordType::A);
    turns(|| {
        zone.lock().unwrap().insert(key.clone(), vec![address.clone()]);
        clock.advance(Duration::from_secs(1));
        changed.is_finished()
    })
    .await;
    let found = changed.await.unwrap();
    assert_eq!(set(&found.unwrap()), [("192.0.2.2:80", 1)]);
}

/// A name server that fails, refuses or is unavailable says nothing about the name: another one of the set may know it.
#[tokio::test]
async fn edge_5_14_each_name_server_is_asked_until_one_of_them_knows() {
    let clock = VirtualClock::new();
    let [away, failing, refusing, knowing] = [
        Server::start().await,
        Server::start().await,
        Server::start().await,
        Server::start().await,
    ];
    for server in [&failing, &refusing, &knowing] {
        server.serves(60, &[(0, 0, 80, "a.test.")]);
        server.knows("a.test.", 60, &["192.0.2.1"]);
    }
    failing.fails(SERVICE);
    failing.fails("a.test.");
    refusing.refuses(SERVICE);
    refusing.refuses("a.test.");
    let servers = [away.address, failing.address, refusing.address, knowing.address];
    drop(away);
    for first in 0..servers.len() {
        let mut servers = servers;
        servers.rotate_left(first);
        let mut resolver = knowing.resolver(&clock).servers(servers);
        let found = resolver.next().await.unwrap_or_else(|error| panic!("{first}: {error}"));
        assert_eq!(set(&found), [("192.0.2.1:80", 1)], "{first}");
    }
    // All of them fail: the balancer keeps its set.
    let mut resolver = failing.resolver(&clock).servers([failing.address, refusing.address]);
    resolver.next().await.unwrap_err();
}

#[tokio::test]
async fn an_answer_that_is_too_long_for_a_datagram_is_asked_for_over_tcp() {
    let (server, clock) = (Server::start().await, VirtualClock::new());
    let targets: Vec<String> =
        (0..40).map(|n| format!("instance-number-{n}.orders.test.")).collect();
    let records: Vec<_> = targets.iter().map(|target| (0, 0, 80, &**target)).collect();
    server.serves(60, &records);
    for (n, target) in targets.iter().enumerate() {
        server.knows(target, 60, &[&*format!("192.0.2.{n}")]);
    }
    assert_eq!(server.resolver(&clock).next().await.unwrap().len(), 40);
    assert_eq!(server.asked(), 2);
}

#[test]
fn what_is_no_service_is_refused() {
    let long = format!("_http._tcp.{}.test", "x".repeat(64));
    for name in [
        "",
        ".",
        "orders.test",
        "_http.orders.test",
        "_http._tcp",
        "_http._tcp.",
        "_._tcp.test",
        "http._tcp.test",
        "_http._tcp..test",
        "_http._tcp.te st",
        "_http._tcp.test:80",
        &long,
    ] {
        assert_eq!(srv(name).unwrap_err().field(), "srv", "{name}");
    }
    for name in ["_http._tcp.test", "_http._tcp.orders.internal.", "_x-1._udp.a_b.test"] {
        assert!(srv(name).is_ok(), "{name}");
    }
}
