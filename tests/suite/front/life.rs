//! Opening and closing: addresses, sockets, what a stop does to whom.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use sql_exporter::error::ErrorKind;

use super::*;

fn listen(listen: &[ListenAddress]) -> Result<Server, sql_exporter::error::Error> {
    serve(plain(listen, HttpLimits::default(), Arc::new(is_unix), Arc::new(|_| {})))
        .map_err(|mut errors| errors.remove(0))
}

/// The message of a socket that cannot be opened.
fn refusal(wanted: ListenAddress) -> String {
    let error = listen(&[wanted]).err().expect("the address is refused");
    assert_eq!(error.kind(), ErrorKind::Machine);
    error.to_string()
}

#[test]
fn without_an_address_both_families_are_answered_on_one_port() {
    let server = listen(&[ListenAddress::AnyAddress(0)]).unwrap();
    assert!(server.addresses()[0].starts_with("http://[::]:"), "{:?}", server.addresses());
    for host in ["127.0.0.1", "::1"] {
        let mut client = Client::new(TcpStream::connect((host, port(&server))).unwrap());
        client.get("/");
        assert_eq!(client.answer().1, "false", "{host}");
    }
}

#[test]
fn an_old_address_in_new_clothes_is_seen_as_what_it_is() {
    let front_peer = |request: &Request| Response::text(200, format!("{:?}", request.peer));
    let listen = [ListenAddress::AnyAddress(0)];
    let server =
        serve(plain(&listen, HttpLimits::default(), Arc::new(front_peer), Arc::new(|_| {}))).unwrap();
    let mut client = Client::new(TcpStream::connect(("127.0.0.1", port(&server))).unwrap());
    client.get("/");
    assert_eq!(client.answer().1, "Address(127.0.0.1)");
}

fn get_unix(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_unix_socket_is_answered_beside_a_port_and_its_file_goes_at_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("exporter.sock");
    let server =
        listen(&[ListenAddress::Unix(path.clone()), ListenAddress::Tcp("127.0.0.1:0".parse().unwrap())])
            .unwrap();
    assert_eq!(server.addresses()[0], format!("unix:{}", path.display()));
    assert!(server.addresses()[1].starts_with("http://127.0.0.1:"));
    assert!(get_unix(&path).ends_with("\r\n\r\ntrue"));
    stop(server, LONG);
    assert!(!path.exists());
}

/// As in a restart that does not wait for the last answers of the old process.
#[test]
fn a_server_that_drains_leaves_the_socket_of_its_successor_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("exporter.sock");
    let (begin, begun) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let ended = Mutex::new(ended);
    let slow = move |request: &Request| {
        begin.send(()).unwrap();
        let _ = ended.lock().unwrap().recv();
        is_unix(request)
    };
    let at = [ListenAddress::Unix(path.clone())];
    let old = serve(plain(&at, HttpLimits::default(), Arc::new(slow), Arc::new(|_| {}))).unwrap();
    std::thread::scope(|scope| {
        let last = scope.spawn(|| get_unix(&path));
        begun.recv_timeout(LONG).unwrap();
        let stopping = scope.spawn(move || stop(old, LONG));
        wait_for("the old socket to be closed", || UnixStream::connect(&path).is_err().then_some(()));
        let new = listen(&at).unwrap();
        drop(end);
        assert_eq!(stopping.join().unwrap(), 0);
        assert!(last.join().unwrap().ends_with("true"));
        assert!(get_unix(&path).ends_with("true"), "of the new one");
        drop(new);
    });
    assert!(!path.exists());
}

#[test]
fn a_unix_socket_left_by_a_process_that_was_killed_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("exporter.sock");
    // Dropping a listener leaves its file, as a kill does.
    drop(UnixListener::bind(&path).unwrap());
    let server = listen(&[ListenAddress::Unix(path.clone())]).unwrap();
    assert!(get_unix(&path).ends_with("true"));
    drop(server);
    assert!(!path.exists());
}

#[test]
fn what_cannot_be_listened_on_is_said_with_what_to_change() {
    let folder = tempfile::tempdir().unwrap();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let held = holder.local_addr().unwrap();
    assert_eq!(
        refusal(ListenAddress::Tcp(held)),
        format!(
            "cannot listen on {held}: the port is in use; stop the process that holds it, or choose another port \
             with --listen or exporter.listen"
        )
    );
    let any = refusal(ListenAddress::AnyAddress(held.port()));
    assert!(any.starts_with(&format!("cannot listen on :{}: the port is in use; ", held.port())), "{any}");
    let elsewhere = refusal(ListenAddress::Tcp("192.0.2.1:9399".parse().unwrap()));
    assert!(
        elsewhere.starts_with("cannot listen on 192.0.2.1:9399: this machine does not have the address; ")
    );

    let path = folder.path().join("a.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    assert!(
        refusal(ListenAddress::Unix(path)).contains(": a process listens there, or it is not a socket; ")
    );
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(
        refusal(ListenAddress::Unix(file.clone()))
            .contains(": a process listens there, or it is not a socket; ")
    );
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    assert!(
        refusal(ListenAddress::Unix(folder.path().join("no/a.sock")))
            .contains(": the folder does not exist; ")
    );
    assert!(
        refusal(ListenAddress::Unix(folder.path().join("x".repeat(120)))).contains(": the path is too long ")
    );
}

#[test]
fn a_stop_closes_who_waits_and_lets_who_is_served_finish() {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let (entered, inside) = std::sync::mpsc::channel();
    let front = open(HttpLimits::default(), move |request: &Request| {
        if request.path == "/slow" {
            entered.send(()).unwrap();
            let _ = wait.lock().unwrap().recv();
        }
        echo(request)
    });
    let mut idle = front.connect();
    idle.get("/");
    idle.answer();
    let mut served = front.connect();
    served.get("/slow");
    inside.recv_timeout(LONG).unwrap();
    let port = front.port;
    let stopping = std::thread::spawn(move || front.stop());
    assert!(idle.is_closed());
    // Closed is closed: there is nobody to connect to any more.
    wait_for("the port to close", || TcpStream::connect(("127.0.0.1", port)).is_err().then_some(()));
    drop(release);
    let (head, body) = served.answer();
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(body, "GET /slow\n");
    assert_eq!(stopping.join().unwrap(), 0);
}

#[test]
fn a_stop_cuts_what_is_not_done_at_its_deadline_and_counts_it() {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let (entered, inside) = std::sync::mpsc::channel();
    let front = open(HttpLimits::default(), move |request: &Request| {
        entered.send(()).unwrap();
        let _ = wait.lock().unwrap().recv();
        echo(request)
    });
    let mut served = front.connect();
    served.get("/slow");
    inside.recv_timeout(LONG).unwrap();
    let started = Instant::now();
    assert_eq!(stop(front.server, Duration::from_millis(200)), 1);
    assert!(started.elapsed() >= Duration::from_millis(200) && started.elapsed() < LONG);
    assert!(served.is_closed());
    drop(release);
}
