//! Clients that hold on to a request, or have many begun that they do not want.

use buttress::Clock;
use buttress::bulkhead::{self, BulkheadLayer};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

use super::resources::{SECOND, fill};
use super::serve::{HEADERS, PREFACE, frame};
use super::support::{Backend, Edge, Raw, get, in_time, route, status};
use crate::serve::connection::Stage;
use crate::{Config, RouteStats};

/// The limit of a client that takes nothing.
const LIMIT: u32 = 60;

/// A route with one permit.
fn narrow() -> (bulkhead::Handle, Edge, Backend) {
    let bulkhead = BulkheadLayer::new(bulkhead::Config::new().max_concurrent(1)).unwrap().handle();
    let edge = Edge::new(Config::new(), [route("all", &["b"]).max_concurrent(bulkhead.clone())]);
    let backend = edge.network.listen("b");
    (bulkhead, edge, backend)
}

/// SETTINGS without room for an answer.
fn shut() -> Vec<u8> {
    [PREFACE, &frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])].concat()
}

fn get_on(stream: u32) -> Vec<u8> {
    frame(1, 5, stream, HEADERS)
}

fn room(stream: u32, bytes: u32) -> Vec<u8> {
    frame(8, 0, stream, &bytes.to_be_bytes())
}

/// Reads frames up to the next one of `kind` on `stream`, and returns its payload.
async fn next_frame(client: &mut Raw, kind: u8, stream: u32) -> Vec<u8> {
    loop {
        let head = client.bytes(9).await;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let payload = client.bytes(length as usize).await;
        if head[3] == kind && head[5..9] == stream.to_be_bytes() {
            return payload;
        }
    }
}

/// Answers the next request with `length` bytes.
async fn answer(backend: &mut Backend, length: usize) -> Raw {
    let (mut connection, _) = backend.accept_request().await;
    connection.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")).await;
    connection.write(vec![b'x'; length]).await;
    connection
}

#[tokio::test(start_paused = true)]
async fn edge_2_30_a_client_that_takes_no_bytes_loses_its_connection_and_its_permit() {
    let (bulkhead, edge, mut backend) = narrow();
    let (_stage, stages) = watch::channel(Stage::Running);
    let (mut client, task) = edge.connect(&stages);
    client.write(get("/")).await;
    let (_, _io) = fill(backend.accept().await).await;
    assert_eq!(bulkhead.stats().active, 1);
    assert!(in_time(task).await.unwrap());
    assert_eq!(bulkhead.stats().active, 0);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn edge_2_30_a_client_of_h2_that_gives_no_room_loses_its_stream_and_its_permit() {
    let (bulkhead, edge, mut backend) = narrow();
    let (_stage, stages) = watch::channel(Stage::Running);
    let clock = Clock::default();
    // No room at all, and room for a part of the answer.
    for given in [0, 10_000] {
        let (mut client, _task) = edge.connect(&stages);
        client.write([shut(), get_on(1)].concat()).await;
        let connection = answer(&mut backend, 30_000).await;
        if given > 0 {
            client.write(room(1, given)).await;
        }
        next_frame(&mut client, 1, 1).await;
        let start = clock.now();
        assert_eq!(bulkhead.stats().active, 1);
        let code = next_frame(&mut client, 3, 1).await;
        assert_eq!(clock.now() - start, SECOND * LIMIT, "{given}");
        assert_eq!(code, 8_u32.to_be_bytes(), "CANCEL");
        assert_eq!(bulkhead.stats().active, 0);
        assert_eq!(edge.proxy.stats()[0].1.in_flight, 0);
        // The connection of the client continues.
        drop(connection);
        client.write(get_on(3)).await;
        let _connection = answer(&mut backend, 0).await;
        next_frame(&mut client, 1, 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_20_a_client_of_h2_that_reads_slowly_gets_the_whole_answer() {
    let (edge, mut backend) = Edge::simple();
    let (_stage, stages) = watch::channel(Stage::Running);
    let (mut client, _task) = edge.connect(&stages);
    client.write([shut(), get_on(1)].concat()).await;
    let _connection = answer(&mut backend, 60_000).await;
    let mut read = 0;
    for given in (10_000..=60_000).step_by(10_000) {
        Clock::default().sleep(SECOND * (LIMIT - 1)).await;
        client.write(room(1, 10_000)).await;
        while read < given {
            read += next_frame(&mut client, 0, 1).await.len();
        }
    }
    assert_eq!(read, 60_000);
}

#[tokio::test(start_paused = true)]
async fn edge_2_49_requests_that_the_client_gives_up_end_the_connection() {
    let (edge, mut backend) = Edge::simple();
    let (_stage, stages) = watch::channel(Stage::Running);
    let (mut client, task) = edge.connect(&stages);
    client.write([PREFACE, &frame(4, 0, 0, &[])].concat()).await;
    let mut streams = (0..).map(|n| 2 * n + 1);
    // As many as it lets be answered, and 99 more.
    for n in 0..298 {
        let stream = streams.next().unwrap();
        client.write(get_on(stream)).await;
        if n < 199 && n % 2 == 0 {
            let _connection = answer(&mut backend, 0).await;
            next_frame(&mut client, 1, stream).await;
        } else {
            give_up(&mut client, &mut backend, stream).await;
        }
    }
    assert!(!task.is_finished());
    // A connection ends by itself when it stays unused, so no time may pass.
    let start = Clock::default().now();
    let stream = streams.next().unwrap();
    client.write(get_on(stream)).await;
    give_up(&mut client, &mut backend, stream).await;
    let goaway = next_frame(&mut client, 7, 0).await;
    // The first one allows streams that are on their way.
    assert_eq!(goaway, [&0x7fff_ffff_u32.to_be_bytes()[..], &[0; 4]].concat());
    // A client that does not mind it is cut off.
    for stream in streams.take(100) {
        assert!(!task.is_finished());
        client.write(get_on(stream)).await;
        give_up(&mut client, &mut backend, stream).await;
    }
    assert!(in_time(task).await.unwrap());
    assert_eq!(Clock::default().now(), start);
    let stats = edge.proxy.stats()[0].1;
    assert_eq!((stats.answered, stats.abandoned, stats.in_flight), (100, 299, 0));
}

/// Resets a request that has reached the backend.
async fn give_up(client: &mut Raw, backend: &mut Backend, stream: u32) {
    let (mut connection, _) = backend.accept_request().await;
    client.write(frame(3, 0, stream, &[0, 0, 0, 8])).await;
    connection.bytes_to_end().await;
}

#[tokio::test(start_paused = true)]
async fn edge_2_47_a_head_of_h2_that_never_ends_beside_an_open_stream_is_bounded() {
    let (bulkhead, edge, mut backend) = narrow();
    let (_stage, stages) = watch::channel(Stage::Running);
    let (mut client, task) = edge.connect(&stages);
    client.write([shut(), get_on(1)].concat()).await;
    let _connection = answer(&mut backend, 30_000).await;
    let start = Clock::default().now();
    // END_STREAM, and no END_HEADERS: nothing but CONTINUATION may follow, so the client cannot give room either.
    client.write(frame(1, 1, 3, HEADERS)).await;
    assert!(in_time(task).await.unwrap());
    // The answer that the client does not take, and twice the time of a head: until GOAWAY, and until the client has
    // left.
    assert_eq!(Clock::default().now() - start, SECOND * (LIMIT + 20));
    assert_eq!(bulkhead.stats().active, 0);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn edge_2_47_a_head_that_never_ends_on_a_kept_connection_is_closed() {
    let (edge, mut backend) = Edge::simple();
    let (_stage, stages) = watch::channel(Stage::Running);
    // After an answer, and while it is in progress.
    for begins_early in [false, true] {
        let (mut client, task) = edge.connect(&stages);
        client.write(get("/")).await;
        let (mut connection, _) = backend.accept_request().await;
        if begins_early {
            client.write("GET / HT").await;
        }
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(status(&client.answer().await.0), 200);
        let start = Clock::default().now();
        for byte in "GET / HTTP".bytes() {
            if !client.try_write(&char::from(byte).to_string()).await {
                break;
            }
            Clock::default().sleep(SECOND).await;
        }
        assert_eq!(client.read_to_end().await, "");
        assert_eq!(Clock::default().now() - start, SECOND * 10, "{begins_early}");
        assert!(task.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_its_sending_side_is_taken_for_one_that_has_left() {
    let (edge, mut backend) = Edge::simple();
    let (_stage, stages) = watch::channel(Stage::Running);
    let (mut client, _task) = edge.connect(&stages);
    client.write(get("/")).await;
    let (mut connection, _) = backend.accept_request().await;
    let (mut reader, mut writer) = client.split();
    writer.shutdown().await.unwrap();
    assert_eq!(reader.read_to_end().await, "", "no answer");
    assert_eq!(connection.read_to_end().await, "", "the backend works no further");
    let stats = edge.proxy.stats().remove(0).1;
    assert_eq!(stats, RouteStats { begun: 1, abandoned: 1, ..RouteStats::default() });
}
