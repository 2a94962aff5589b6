//! Time and number: slow clients, many clients.

use super::*;

const SHORT: Duration = Duration::from_millis(300);

#[test]
fn a_head_that_trickles_is_cut_off_after_its_time() {
    let front = open(HttpLimits { head_timeout: SHORT, ..HttpLimits::default() }, echo);
    let mut client = front.connect();
    let started = Instant::now();
    let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".iter().chain(std::iter::repeat(&b'x'));
    client.stream().set_nonblocking(true).unwrap();
    let mut answer = Vec::new();
    // A byte every few milliseconds, for as long as the server bears it.
    while started.elapsed() < LONG && !answer.ends_with(b"\n") {
        client.send([*bytes.next().unwrap()]);
        std::thread::sleep(Duration::from_millis(5));
        let _ = client.0.read_to_end(&mut answer);
    }
    assert!(started.elapsed() >= SHORT, "{:?}", started.elapsed());
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert_eq!(front.rejected(), ["head_timeout"]);
}

#[test]
fn an_idle_connection_is_closed_after_its_time_and_rejects_nothing() {
    let front = open(HttpLimits { idle_timeout: SHORT, ..HttpLimits::default() }, echo);
    let mut fresh = front.connect();
    let mut used = front.connect();
    used.get("/");
    used.answer();
    assert!(fresh.is_closed() && used.is_closed());
    assert!(front.rejected().is_empty());
}

/// A page that tells when nobody holds it any more.
struct Page(Vec<u8>, std::sync::mpsc::Sender<()>);

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.1.send(());
    }
}

#[test]
fn a_reader_too_slow_for_the_write_deadline_is_cut_and_its_worker_is_free() {
    let (tell, told) = std::sync::mpsc::channel();
    let front = open(HttpLimits { write_timeout: SHORT, ..HttpLimits::default() }, move |_: &Request| {
        let page = Page(vec![b'x'; 64 << 20], tell.clone());
        Response::new(200, Vec::new(), vec![BodyPart::Shared(Arc::new(page))])
    });
    let mut client = front.connect();
    let started = Instant::now();
    client.get("/");
    told.recv_timeout(LONG).expect("the worker lets go of the page");
    assert!(started.elapsed() >= SHORT);
    wait_for("the rejection", || (front.rejected() == ["write_timeout"]).then_some(()));
    assert!(client.rest().len() < 64 << 20);
}

#[test]
fn at_the_cap_the_longest_idle_connection_makes_room() {
    let front = open(HttpLimits { max_connections: 3, ..HttpLimits::default() }, echo);
    let mut clients: Vec<Client> = (0..3).map(|_| front.connect()).collect();
    for client in &mut clients {
        client.get("/");
        client.answer();
    }
    // The first was served first; then it speaks again: the second is the longest idle now.
    clients[0].get("/");
    clients[0].answer();
    let mut late = front.connect();
    late.get("/late");
    assert_eq!(late.answer().1, "GET /late\n");
    assert!(clients[1].is_closed());
    for index in [0, 2] {
        clients[index].get("/still");
        assert_eq!(clients[index].answer().1, "GET /still\n");
    }
    assert!(front.rejected().is_empty());
}

/// A server whose answers wait until `release` is dropped.
fn held(limits: HttpLimits) -> (Front, std::sync::mpsc::Sender<()>, Arc<std::sync::atomic::AtomicUsize>) {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let front = open(limits, move |request: &Request| {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let _ = wait.lock().unwrap().recv();
        echo(request)
    });
    (front, release, count)
}

fn busy(count: &std::sync::atomic::AtomicUsize, wanted: usize) {
    wait_for("answers under way", || {
        (count.load(std::sync::atomic::Ordering::SeqCst) >= wanted).then_some(())
    });
}

#[test]
fn when_all_are_busy_a_new_connection_gets_503_with_retry_after() {
    let (front, release, count) = held(HttpLimits { max_connections: 2, ..HttpLimits::default() });
    let mut clients: Vec<Client> = (0..2).map(|_| front.connect()).collect();
    for (served, client) in clients.iter_mut().enumerate() {
        client.get("/busy");
        busy(&count, served + 1);
    }
    let answer = front.say("GET /late HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
    assert_eq!(front.rejected(), ["connections"]);
    // It leaves when the request was read: a HEAD gets no body.
    let answer = front.say("HEAD /late HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    drop(release);
    for client in &mut clients {
        assert_eq!(client.answer().1, "GET /busy\n");
    }
    let mut next = front.connect();
    next.get("/next");
    assert_eq!(next.answer().1, "GET /next\n");
}

#[test]
fn one_address_may_hold_only_its_share() {
    let (front, release, count) =
        held(HttpLimits { max_connections_per_address: 1, ..HttpLimits::default() });
    let mut first = front.connect();
    first.get("/busy");
    busy(&count, 1);
    assert!(front.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 503 "));
    assert_eq!(front.rejected(), ["connections"]);
    // Another address of this machine is not concerned.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], front.port)).into()).unwrap();
    let mut other = Client::new(socket.into());
    drop(release);
    other.get("/other");
    assert_eq!(other.answer().1, "GET /other\n");
    assert_eq!(first.answer().1, "GET /busy\n");
}

#[test]
fn clients_that_reset_in_mid_answer_leave_the_others_alone() {
    let front = open(HttpLimits::default(), |request: &Request| match request.path.as_str() {
        "/large" => Response::new(200, Vec::new(), vec![BodyPart::Owned(vec![b'x'; 32 << 20])]),
        _ => echo(request),
    });
    for _ in 0..20 {
        let mut client = front.connect();
        client.get("/large");
        client.0.read_exact(&mut [0; 1000]).unwrap();
        reset(client);
    }
    let mut client = front.connect();
    client.get("/small");
    assert_eq!(client.answer().1, "GET /small\n");
    assert!(front.rejected().is_empty());
    assert_eq!(front.stop(), 0);
}
