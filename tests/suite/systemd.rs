//! The exporter as a service of systemd: what it tells it, the sockets that it takes from it. The units are checked by
//! `tests/deploy/systemd.py`.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::command::setup;
use crate::exporter::{Exporter, program};
use crate::process::{end, folder, mortal, signal, wait_for};
use crate::web_client::request;

const CONFIG: &str = "
databases: {shop: {driver: sqlite, database: shop.db}}
queries: [{name: one, sql: SELECT 1 AS one, metrics: [{name: one, value_column: one}]}]
";

/// What systemd is told.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn message(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a message within the time limit");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// The next message that is not a sign of life.
    fn state(&self) -> String {
        std::iter::repeat_with(|| self.message()).find(|message| message != "WATCHDOG=1\n").expect("endless")
    }
}

/// An exporter that systemd watches.
fn watched(limit: Duration) -> (Exporter, Manager) {
    let setup = setup(CONFIG);
    let path = setup.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let setup = setup.env("NOTIFY_SOCKET", &path.display().to_string());
    (setup.env("WATCHDOG_USEC", &limit.as_micros().to_string()).serve(), Manager { socket })
}

#[test]
fn systemd_hears_of_start_reload_and_stop() {
    let (exporter, systemd) = watched(Duration::from_secs(60));
    assert_eq!(systemd.state(), "READY=1\nSTATUS=serving\n");
    signal("HUP", &[exporter.pid()]);
    assert!(systemd.state().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(systemd.state(), "READY=1\nSTATUS=serving\n");
    std::fs::write(exporter.file("sql-exporter.yaml"), "databases: 1").expect("written");
    signal("HUP", &[exporter.pid()]);
    assert!(systemd.state().starts_with("RELOADING=1\n"));
    assert!(systemd.state().contains("the configuration was not reloaded"));
    let (code, _) = exporter.stop("TERM");
    assert_eq!(systemd.state(), "STOPPING=1\n");
    assert_eq!(code, Some(0));
}

#[test]
fn systemd_hears_a_sign_of_life_until_the_exporter_stands_still() {
    let (exporter, systemd) = watched(Duration::from_millis(300));
    for _ in 0..3 {
        while systemd.message() != "WATCHDOG=1\n" {}
    }
    signal("STOP", &[exporter.pid()]);
    // What was sent before has arrived; then there is silence for longer than the limit.
    systemd.socket.set_read_timeout(Some(Duration::from_millis(400))).expect("a timeout");
    wait_for("silence", || systemd.socket.recv(&mut [0; 4096]).is_err().then_some(()));
    signal("CONT", &[exporter.pid()]);
    systemd.socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    assert_eq!(systemd.message(), "WATCHDOG=1\n");
}

/// The exporter with sockets that are open before it starts, as systemd passes them: as descriptors from 3 on.
struct Activated {
    child: Child,
    log: std::path::PathBuf,
    folder: tempfile::TempDir,
}

impl Activated {
    fn start(tcp: OwnedFd, unix: OwnedFd) -> Self {
        let folder = folder();
        std::fs::write(folder.path().join("sql-exporter.yaml"), CONFIG).expect("written");
        rusqlite::Connection::open(folder.path().join("shop.db"))
            .and_then(|shop| shop.execute_batch("CREATE TABLE t (x)"))
            .expect("a database");
        let log = folder.path().join("log");
        let script =
            "LISTEN_PID=$$ LISTEN_FDS=2 exec \"$0\" --listen systemd 3<&0 4<&1 0</dev/null 1>/dev/null";
        let child = mortal(None, "sh")
            .args(["-c", script, &program()])
            .current_dir(folder.path())
            .stdin(Stdio::from(tcp))
            .stdout(Stdio::from(unix))
            .stderr(File::create(&log).expect("a file"))
            .spawn()
            .expect("setpriv is part of util-linux");
        Activated { child, log, folder }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("text")
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        let _ = end(&mut self.child);
    }
}

#[test]
fn sockets_of_systemd_are_served_and_stay() {
    let other = folder();
    let path = other.path().join("exporter.sock");
    let unix = UnixListener::bind(&path).expect("a socket");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address: SocketAddr = tcp.local_addr().expect("an address");
    let pass = |socket: OwnedFd| socket.try_clone().expect("a descriptor");
    let (tcp, unix) = (OwnedFd::from(tcp), OwnedFd::from(unix));
    // Requests that come before the exporter has started wait in the socket.
    let early = std::thread::spawn(move || request(address, "GET", "/metrics", &[]));
    let mut activated = Activated::start(pass(tcp), pass(unix));
    let reply = early.join().expect("a reply");
    assert_eq!(reply.status, 200, "{}", activated.log());
    assert!(reply.text().contains("\none{target=\"shop\"} 1\n"), "{}", reply.text());
    assert!(activated.log().contains(&format!("listening on http://{address}")), "{}", activated.log());
    assert!(
        activated.log().contains(&format!("listening on unix:{}", path.display())),
        "{}",
        activated.log()
    );
    assert!(UnixStream::connect(&path).is_ok());
    signal("TERM", &[activated.child.id()]);
    let status = wait_for("the exporter to end", || activated.child.try_wait().ok()?);
    assert_eq!(status.code(), Some(0), "{}", activated.log());
    assert!(path.exists(), "the socket's file is systemd's");
    assert!(activated.folder.path().exists());
}

#[test]
fn without_sockets_of_systemd_the_errors_say_what_to_do() {
    let setup = setup(&format!("{CONFIG}exporter: {{listen: systemd}}\n"));
    let output = setup.args(&["run"]).output();
    let expected = "error: cannot listen on systemd's sockets: it has passed none; start the exporter by a socket unit \
                    (sql-exporter.socket), or listen on :9399\n";
    assert_eq!((output.code(), output.errors()), (1, expected));
    let output =
        crate::command::setup(&format!("{CONFIG}exporter: {{listen: systemd}}\n")).args(&["health"]).output();
    let expected = "error: only systemd knows the address that `listen: systemd` stands for; name it as in the socket \
                    unit: --listen 127.0.0.1:9399\n";
    assert_eq!((output.code(), output.errors()), (2, expected));
}
