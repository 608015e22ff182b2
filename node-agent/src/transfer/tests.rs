//! Whole streams over the loopback interface.

use std::sync::Arc;
use std::time::Duration;

use fog_api::agent::Ticket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use super::*;

struct Destination {
    arrivals: Arc<Arrivals>,
    bandwidth: Arc<Bandwidth>,
    address: String,
    folder: tempfile::TempDir,
}

async fn destination() -> Destination {
    let bandwidth = Arc::new(Bandwidth::default());
    let arrivals = Arc::new(Arrivals::new(Arc::clone(&bandwidth)));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(Arc::clone(&arrivals).serve(listener));
    Destination { arrivals, bandwidth, address, folder: tempfile::tempdir().expect("a folder") }
}

fn ticket(digit: &str) -> TicketKey {
    TicketKey::decode(&Ticket(digit.repeat(64))).expect("a ticket")
}

async fn end(destination: &Destination, migration: Uuid) -> Arrival {
    let mut arrival = destination.arrivals.watch(migration).expect("expected");
    let ended = arrival.wait_for(|arrival| matches!(arrival, Arrival::Complete(_) | Arrival::Broken(_)));
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("in time").expect("still expected").clone()
}

fn files(destination: &Destination) -> usize {
    let folders = ["images", "history", "tail"].map(|name| std::fs::read_dir(destination.folder.path().join(name)));
    folders.into_iter().flatten().map(Iterator::count).sum()
}

#[tokio::test]
async fn a_stream_arrives_as_it_was_sent() {
    let destination = destination().await;
    let migration = Uuid::now_v7();
    destination.arrivals.expect(migration, ticket("a"), destination.folder.path(), "b");
    let content: Vec<u8> = (0..3_000_000_u32).map(|number| ((number * 7) >> 3) as u8).collect();
    let mut outgoing = Outgoing::connect(&destination.address, migration, ticket("a")).await.expect("connect");
    outgoing.send(Kind::History, "current", &b"line\n"[..], |_| {}).await.expect("history");
    outgoing.end_history().await.expect("end");
    outgoing.alive().await.expect("alive");
    outgoing.announce(content.len() as u64).await.expect("announce");
    outgoing.send(Kind::Image, "pages-1.img", &content[..], |_| {}).await.expect("image");
    outgoing.send(Kind::Image, "empty.img", &b""[..], |_| {}).await.expect("image");
    outgoing.finish().await.expect("finish");

    assert!(matches!(end(&destination, migration).await, Arrival::Complete(received) if received.bytes == 3_000_005));
    assert_eq!(std::fs::read(destination.folder.path().join("images/pages-1.img")).expect("read"), content);
    assert_eq!(std::fs::read(destination.folder.path().join("history/current")).expect("read"), b"line\n");
    assert_eq!(files(&destination), 3);
    assert!(destination.bandwidth.snapshot()["b"] > 0.0);

    let again = Outgoing::connect(&destination.address, migration, ticket("a")).await.expect("the ticket is right");
    drop(again);
    assert!(matches!(end(&destination, migration).await, Arrival::Complete(_)), "a second stream changes nothing");
}

#[tokio::test]
async fn another_ticket_and_another_migration_are_refused_alike() {
    let destination = destination().await;
    let migration = Uuid::now_v7();
    destination.arrivals.expect(migration, ticket("a"), destination.folder.path(), "b");
    for (migration, digit) in [(migration, "b"), (Uuid::now_v7(), "a")] {
        let refused = Outgoing::connect(&destination.address, migration, ticket(digit)).await;
        assert!(matches!(refused, Err(TransferError::Handshake(_))));
    }
    assert_eq!(*destination.arrivals.watch(migration).expect("expected").borrow(), Arrival::Awaited);
    assert_eq!(files(&destination), 0);
}

/// Passes bytes on and turns over one bit of what the source says, at this place.
async fn meddler(address: String, at: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let own = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        let (source, _) = listener.accept().await.expect("accept");
        let destination = TcpStream::connect(address).await.expect("connect");
        let (mut from_source, mut to_source) = source.into_split();
        let (mut from_destination, mut to_destination) = destination.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_destination, &mut to_source).await });
        let mut seen = 0;
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from_source.read(&mut buffer).await {
            if (seen..seen + count).contains(&at) {
                buffer[at - seen] ^= 1;
            }
            seen += count;
            if to_destination.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    });
    own
}

#[tokio::test]
async fn a_turned_bit_is_found_before_anything_is_written() {
    // The handshake is 87 bytes; behind it come the frame of the file's name and that of its content.
    for at in [88, 96, 111, 200, 100_000] {
        let destination = destination().await;
        let migration = Uuid::now_v7();
        destination.arrivals.expect(migration, ticket("a"), destination.folder.path(), "b");
        let address = meddler(destination.address.clone(), at).await;
        let mut outgoing = Outgoing::connect(&address, migration, ticket("a")).await.expect("connect");
        let content = vec![7; 150_000];
        let sent = async {
            outgoing.send(Kind::Image, "pages-1.img", &content[..], |_| {}).await?;
            outgoing.finish().await
        };
        // Where a length was changed, more bytes are waited for than will come.
        let sent = tokio::time::timeout(Duration::from_secs(2), sent).await;
        assert!(!matches!(sent, Ok(Ok(()))), "bit at {at}");
        drop(outgoing);
        assert!(matches!(end(&destination, migration).await, Arrival::Broken(_)), "bit at {at}");
        let written = std::fs::read(destination.folder.path().join("images/pages-1.img")).unwrap_or_default();
        assert!(written.is_empty(), "bit at {at}: {} bytes were written", written.len());
    }
}

#[tokio::test]
async fn a_stream_that_ends_early_is_broken() {
    let destination = destination().await;
    let migration = Uuid::now_v7();
    destination.arrivals.expect(migration, ticket("a"), destination.folder.path(), "b");
    let mut outgoing = Outgoing::connect(&destination.address, migration, ticket("a")).await.expect("connect");
    outgoing.send(Kind::Image, "pages-1.img", &b"abc"[..], |_| {}).await.expect("image");
    drop(outgoing);
    assert!(matches!(end(&destination, migration).await, Arrival::Broken(_)));
}

#[tokio::test]
async fn silent_strangers_do_not_keep_others_out() {
    let destination = destination().await;
    let migration = Uuid::now_v7();
    destination.arrivals.expect(migration, ticket("a"), destination.folder.path(), "b");
    let mut strangers = Vec::new();
    for _ in 0..40 {
        strangers.push(TcpStream::connect(&destination.address).await.expect("connect"));
    }
    let outgoing = Outgoing::connect(&destination.address, migration, ticket("a"));
    assert!(tokio::time::timeout(Duration::from_secs(2), outgoing).await.expect("at once").is_ok());
}

#[tokio::test]
async fn the_reason_of_a_rejection_reaches_the_source() {
    let destination = destination().await;
    let migration = Uuid::now_v7();
    std::fs::write(destination.folder.path().join("images"), "in the way").expect("write");
    destination.arrivals.expect(migration, ticket("a"), destination.folder.path(), "b");
    let mut outgoing = Outgoing::connect(&destination.address, migration, ticket("a")).await.expect("connect");
    let sent = async {
        outgoing.send(Kind::Image, "pages-1.img", &b"abc"[..], |_| {}).await?;
        outgoing.finish().await
    };
    let error = sent.await.expect_err("nothing can be written").to_string();
    assert!(error.contains("rejected") && error.contains("pages-1.img"), "{error}");
}
