//! A real process's memory over the loopback interface; the test is the destination.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use fog_api::agent::Ticket;

use super::*;
use crate::memory::kernel::read_memory;
use crate::transfer::{Arrivals, Bandwidth, TakesPages};

const VPID: u32 = 1;

struct Ends {
    pages: Arc<PagesOut>,
    bulk: PageLink,
    urgent: PageLink,
    images: tempfile::TempDir,
}

async fn ends() -> Ends {
    let arrivals = Arc::new(Arrivals::new(Arc::new(Bandwidth::default())));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(Arc::clone(&arrivals).serve(listener));
    let ticket = TicketKey::decode(&Ticket("a".repeat(64))).expect("a ticket");
    let (migration, images) = (Uuid::now_v7(), tempfile::tempdir().expect("a folder"));
    arrivals.expect(migration, ticket.clone(), images.path(), "b");
    let (sender, receiver) = mpsc::channel();
    arrivals.take_pages(migration, TakesPages(Arc::new(move |link| drop(sender.send(link)))));
    let source = Source { address, migration, ticket, compress: false, cap: None };
    let pages = PagesOut::connect(source, 7).await.expect("connect");
    let mut links = [0, 1].map(|_| receiver.recv_timeout(IDLE).expect("a connection"));
    links.sort_by_key(|link| link.lane == Lane::Urgent);
    let [bulk, urgent] = links;
    Ends { pages, bulk, urgent, images }
}

/// A process that waits, and a page of it that is not zero.
fn process() -> (Child, i32, u64) {
    let mut shell = Command::new("sh");
    let mut shell =
        shell.args(["-c", "echo; read x"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
    let out = shell.stdout.take().expect("its output");
    BufReader::new(out).read_line(&mut String::new()).expect("a line");
    let pid = i32::try_from(shell.id()).expect("a process id");
    let mut page = vec![0; page_size() as usize];
    let ranges = scan::resident(pid).expect("its memory");
    let mut places = ranges.into_iter().flat_map(|(start, len)| (start..start + len).step_by(page_size() as usize));
    let place = places.find(|place| {
        read_memory(pid, *place, &mut page).is_ok_and(|count| count == page.len()) && page.iter().any(|byte| *byte != 0)
    });
    (shell, pid, place.expect("some memory"))
}

/// What CRIU writes of one page that is to come later.
fn pagemap(place: u64) -> Vec<u8> {
    let number = |tag: u8, mut value: u64| {
        let mut bytes = vec![tag];
        while value >= 0x80 {
            bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let message = |body: Vec<u8>| [(body.len() as u32).to_le_bytes().to_vec(), body].concat();
    let entry = [number(0x08, place), number(0x20, 2), number(0x28, 1)].concat();
    [vec![0; 8], message(number(0x08, 1)), message(entry)].concat()
}

/// Looks at the next message that says something.
fn next(reader: &mut PageReader, look: impl FnOnce(PageMessage<'_>)) {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < IDLE, "nothing came");
        match reader.read().expect("a message") {
            None | Some(PageMessage::Alive) => {}
            Some(message) => return look(message),
        }
    }
}

/// The rounds' bytes may still be on their way, on the other connection: a word about them would overtake them, and the
/// destination would put older memory in the page's place.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_waits_for_comes_itself_though_it_went_ahead() {
    let Ends { pages, mut bulk, mut urgent, images } = ends().await;
    let (mut shell, pid, place) = process();
    let pids = BTreeMap::from([(VPID, pid)]);
    let drained = std::thread::spawn(move || while bulk.reader.read().is_ok() {});
    let (rounds, of) = (Arc::clone(&pages), pids.clone());
    tokio::task::spawn_blocking(move || rounds.round(&of)).await.expect("a thread").expect("a round");
    std::fs::write(images.path().join(format!("pagemap-{VPID}.img")), pagemap(place)).expect("write");
    pages.begin(images.path(), pids).expect("begin");
    let asked = tokio::task::spawn_blocking(move || {
        urgent.writer.write(&PageMessage::Fetch { pid: VPID, address: place, len: page_size() }).expect("ask");
        // The shell may still have been on its way to waiting, and have changed it since.
        next(&mut urgent.reader, |message| match message {
            PageMessage::Pages { pid: VPID, address, content } => {
                assert_eq!((address, content.len() as u64), (place, page_size()));
            }
            other => panic!("{other:?} instead of the page"),
        });
        urgent.writer.write(&PageMessage::Whole).expect("tell");
        urgent
    });
    let _urgent = asked.await.expect("the destination");
    let mut status = pages.watch();
    tokio::time::timeout(IDLE, status.wait_for(|status| status.whole)).await.expect("in time").expect("it goes on");
    pages.stop();
    drained.join().expect("the other connection");
    shell.kill().and_then(|()| shell.wait()).expect("its end");
}

/// Its user may end the frozen container. The destination, which may have all of it, is told, and heard.
#[tokio::test(flavor = "multi_thread")]
async fn memory_that_is_gone_is_told_and_the_end_is_heard_all_the_same() {
    let Ends { pages, mut bulk, mut urgent, images } = ends().await;
    let (mut shell, pid, place) = process();
    shell.kill().and_then(|()| shell.wait()).expect("its end");
    std::fs::write(images.path().join(format!("pagemap-{VPID}.img")), pagemap(place)).expect("write");
    pages.begin(images.path(), BTreeMap::from([(VPID, pid)])).expect("begin");
    let told = tokio::task::spawn_blocking(move || {
        next(&mut bulk.reader, |message| assert_eq!(message, PageMessage::Frozen));
        next(&mut bulk.reader, |message| assert_eq!(message, PageMessage::Gone));
        urgent.writer.write(&PageMessage::Whole).expect("tell");
        (bulk, urgent)
    });
    let _links = told.await.expect("the destination");
    let mut status = pages.watch();
    tokio::time::timeout(IDLE, status.wait_for(|status| status.whole)).await.expect("in time").expect("it goes on");
    pages.stop();
}
