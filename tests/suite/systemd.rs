//! The exporter as a service of systemd: what it tells it, the sockets that it takes from it. The units are checked by
//! `tests/deploy/systemd.py`, and the exporter runs confined as they say in `tests/deploy/confined.py`.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::command::setup;
use crate::exporter::{Exporter, program};
use crate::process::{end, folder, free_port, mortal, signal, wait_for};
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
        self.receive().expect("a message within the time limit")
    }

    /// The next message; an error once there is none for the time limit.
    fn receive(&self) -> io::Result<String> {
        let mut buffer = [0; 4096];
        loop {
            match self.socket.recv(&mut buffer) {
                // A signal to the test's process ends a wait with a time limit.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => {
                    return received.map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned());
                }
            }
        }
    }

    /// The next message that is not for the watchdog.
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
    let before = uptime();
    signal("HUP", &[exporter.pid()]);
    let reloading = systemd.state();
    let time =
        reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|time| time.trim().parse().ok());
    let time = Duration::from_micros(time.unwrap_or_else(|| panic!("{reloading}")));
    // The clock of /proc/uptime also counts sleep, and has two decimals.
    assert!(
        before < time + Duration::from_millis(20) && time <= uptime() + Duration::from_millis(20),
        "{time:?}"
    );
    assert_eq!((systemd.state(), systemd.state()), ("STATUS=serving\n".into(), "READY=1\n".into()));
    std::fs::write(exporter.file("sql-exporter.yaml"), "databases: 1").expect("written");
    signal("HUP", &[exporter.pid()]);
    assert!(systemd.state().starts_with("RELOADING=1\n"));
    assert!(systemd.state().contains("the configuration was not reloaded"));
    assert_eq!(systemd.state(), "READY=1\n");
    // Whoever asks for the reload that succeeds.
    std::fs::write(exporter.file("sql-exporter.yaml"), CONFIG).expect("written");
    assert_eq!(exporter.request("POST", "/-/reload", &[]).status, 200);
    assert_eq!(systemd.state(), "STATUS=serving\n");
    let (code, _) = exporter.stop("TERM");
    assert_eq!(systemd.state(), "STOPPING=1\n");
    assert_eq!(code, Some(0));
}

/// The time since the machine has started.
fn uptime() -> Duration {
    let text = std::fs::read_to_string("/proc/uptime").expect("Linux has it");
    Duration::from_secs_f64(
        text.split(' ').next().and_then(|seconds| seconds.parse().ok()).expect("a number"),
    )
}

#[test]
fn systemd_hears_of_a_delayed_stop_at_once() {
    let setup = setup(&format!("{CONFIG}exporter: {{shutdown_delay: 1h}}\n"));
    let path = setup.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let exporter = setup.env("NOTIFY_SOCKET", &path.display().to_string()).serve();
    let systemd = Manager { socket };
    assert!(systemd.state().starts_with("READY=1\n"));
    signal("TERM", &[exporter.pid()]);
    assert_eq!(systemd.state(), "STOPPING=1\n");
    wait_for("the delay", || (exporter.get("/-/ready").status == 503).then_some(()));
    // A second signal ends the delay.
    assert_eq!(exporter.stop("TERM").0, Some(0));
}

#[test]
fn the_watchdog_is_told_until_the_exporter_is_stopped() {
    let (exporter, systemd) = watched(Duration::from_millis(300));
    for _ in 0..3 {
        while systemd.message() != "WATCHDOG=1\n" {}
    }
    signal("STOP", &[exporter.pid()]);
    // What was sent before has arrived; then there is silence for longer than the limit.
    systemd.socket.set_read_timeout(Some(Duration::from_millis(400))).expect("a timeout");
    wait_for("silence", || systemd.receive().is_err().then_some(()));
    signal("CONT", &[exporter.pid()]);
    systemd.socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    assert_eq!(systemd.message(), "WATCHDOG=1\n");
}

#[test]
fn without_a_limit_there_is_no_sign_of_life() {
    let (exporter, systemd) = watched(Duration::ZERO);
    assert!(systemd.message().starts_with("READY=1\n"));
    assert_eq!(exporter.get("/-/healthy").status, 200);
    assert_eq!(exporter.stop("TERM").0, Some(0));
    assert_eq!(systemd.message(), "STOPPING=1\n");
}

#[test]
fn a_manager_that_is_gone_is_told_of_once() {
    let setup = setup(CONFIG).env("NOTIFY_SOCKET", "/nowhere").env("WATCHDOG_USEC", "30000");
    let exporter = setup.args(&["--log-level", "debug"]).serve();
    exporter.wait_for_log("systemd's watchdog is not told");
    let (_, log) = exporter.stop("TERM");
    let warned = log.matches("systemd cannot be told how the service is").count();
    assert_eq!(warned, 2, "at the start and the end: {log}");
}

/// The exporter with sockets that are open before it starts.
struct Activated {
    child: Child,
    log: PathBuf,
    folder: tempfile::TempDir,
}

impl Activated {
    /// With the sockets as systemd passes them: as descriptors from 3 on.
    fn start(first: &OwnedFd, second: Option<&OwnedFd>) -> Self {
        let count = 1 + usize::from(second.is_some());
        Self::as_told(&format!("LISTEN_PID=$$ LISTEN_FDS={count}"), "systemd", first, second)
    }

    /// With other variables of systemd, and another `listen`.
    fn as_told(variables: &str, listen: &str, first: &OwnedFd, second: Option<&OwnedFd>) -> Self {
        let pass = |socket: &OwnedFd| Stdio::from(socket.try_clone().expect("a descriptor"));
        let fourth = if second.is_some() { "4<&1" } else { "4<&-" };
        let script =
            format!("{variables} exec \"$0\" --listen {listen} 3<&0 {fourth} 0</dev/null 1>/dev/null");
        let mut command = mortal(None, "sh");
        command.args(["-c", &script, &program()]).stdin(pass(first));
        Self::spawn(command.stdout(second.map_or_else(Stdio::null, pass)))
    }

    fn spawn(command: &mut Command) -> Self {
        let folder = folder();
        std::fs::write(folder.path().join("sql-exporter.yaml"), CONFIG).expect("written");
        rusqlite::Connection::open(folder.path().join("shop.db"))
            .and_then(|shop| shop.execute_batch("CREATE TABLE t (x)"))
            .expect("a database");
        let log = folder.path().join("log");
        let child = command
            .current_dir(folder.path())
            .stderr(File::create(&log).expect("a file"))
            .spawn()
            .expect("setpriv is part of util-linux");
        Activated { child, log, folder }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("text")
    }

    fn exit_code(&mut self) -> Option<i32> {
        wait_for("the exporter to end", || self.child.try_wait().ok()?).code()
    }

    fn stop(mut self) -> String {
        signal("TERM", &[self.child.id()]);
        assert_eq!(self.exit_code(), Some(0), "{}", self.log());
        self.log()
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
    let (tcp, unix) = (OwnedFd::from(tcp), OwnedFd::from(unix));
    // Requests that come before the exporter has started wait in the socket.
    let early = std::thread::spawn(move || request(address, "GET", "/metrics", &[]));
    let activated = Activated::start(&tcp, Some(&unix));
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
    assert!(activated.folder.path().exists());
    activated.stop();
    assert!(path.exists(), "the socket's file is systemd's");
    // What comes while nobody runs waits for the next start.
    let queued = |mut client: UnixStream| {
        client
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("sent");
        client
    };
    let waiting: Vec<UnixStream> =
        (0..3).map(|_| queued(UnixStream::connect(&path).expect("systemd listens"))).collect();
    let late = std::thread::spawn(move || request(address, "GET", "/-/healthy", &[]));
    let again = Activated::start(&tcp, Some(&unix));
    for mut client in waiting {
        let mut reply = String::new();
        client.read_to_string(&mut reply).expect("a reply");
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}\n{}", again.log());
    }
    assert_eq!(late.join().expect("a reply").status, 200, "{}", again.log());
    again.stop();
}

#[test]
fn one_named_socket_of_systemd_is_enough() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = tcp.local_addr().expect("an address");
    let variables = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web";
    let activated = Activated::as_told(variables, "systemd", &OwnedFd::from(tcp), None);
    assert_eq!(request(address, "GET", "/-/ready", &[]).status, 200, "{}", activated.log());
    activated.stop();
}

#[test]
fn descriptors_that_are_not_for_us_or_not_sockets_that_listen_are_refused() {
    let listening = OwnedFd::from(TcpListener::bind("127.0.0.1:0").expect("a socket"));
    let datagrams = OwnedFd::from(UnixDatagram::unbound().expect("a socket"));
    let file = OwnedFd::from(File::open("/dev/null").expect("it is there"));
    let other = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let connected = TcpStream::connect(other.local_addr().expect("an address")).expect("a connection");
    let hint = "use ListenStream= and leave out Accept= in the socket unit";
    for (variables, socket, said) in [
        ("LISTEN_PID=1 LISTEN_FDS=1", &listening, "it has passed none"),
        ("LISTEN_PID=$$ LISTEN_FDS=0", &listening, "it has passed none"),
        ("LISTEN_PID=$$ LISTEN_FDS=many", &listening, "it has passed none"),
        // Others with these numbers are the exporter's own.
        ("LISTEN_PID=$$ LISTEN_FDS=9", &listening, hint),
        ("LISTEN_PID=$$ LISTEN_FDS=1", &datagrams, hint),
        ("LISTEN_PID=$$ LISTEN_FDS=1", &file, hint),
        ("LISTEN_PID=$$ LISTEN_FDS=1", &OwnedFd::from(connected), hint),
    ] {
        let mut activated = Activated::as_told(variables, "systemd", socket, None);
        assert_eq!(activated.exit_code(), Some(1), "{variables}: {}", activated.log());
        let log = activated.log();
        assert!(
            log.starts_with("error: cannot listen on systemd's sockets: ") && log.contains(said),
            "{log}"
        );
    }
}

#[test]
fn sockets_of_systemd_that_the_configuration_does_not_use_are_told() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let port = tcp.local_addr().expect("an address").port();
    let listen = format!("127.0.0.1:{port}");
    let mut activated = Activated::as_told("LISTEN_PID=$$ LISTEN_FDS=1", &listen, &OwnedFd::from(tcp), None);
    assert_eq!(activated.exit_code(), Some(1));
    let log = activated.log();
    assert!(
        log.contains("systemd has passed sockets (1), which are not used: write `listen: systemd`"),
        "{log}"
    );
    assert!(log.contains("the port is in use"), "{log}");
}

#[test]
fn systemd_s_own_tool_starts_it_at_the_first_request() {
    let program_of_systemd = "systemd-socket-activate";
    if Command::new(program_of_systemd).arg("--version").output().is_err() {
        // Not eprintln: libtest hides what a test that passes prints.
        let _ = std::io::stderr().write_all(b"left out: socket activation needs systemd-socket-activate\n");
        return;
    }
    let other = folder();
    let path = other.path().join("exporter.sock");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = mortal(None, program_of_systemd);
    command.args(["--listen", &address.to_string(), "--listen"]).arg(&path);
    command.args(["--fdname=web:local", &program(), "--listen", "systemd"]).stdin(Stdio::null());
    let activated = Activated::spawn(command.stdout(Stdio::null()));
    wait_for("the socket", || path.exists().then_some(()));
    assert!(!activated.log().contains("listening on http"), "nobody has asked yet: {}", activated.log());
    let reply = request(address, "GET", "/metrics", &[]);
    assert!(reply.text().contains("\none{target=\"shop\"} 1\n"), "{}\n{}", reply.text(), activated.log());
    assert!(UnixStream::connect(&path).is_ok());
    let log = activated.stop();
    assert!(
        log.contains(&format!("listening on http://{address}")) && log.contains("listening on unix:"),
        "{log}"
    );
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
    // An address beside it is asked. Nobody listens on port 1.
    let both = crate::command::setup(&format!("{CONFIG}exporter: {{listen: [systemd, '127.0.0.1:1']}}\n"));
    let output = both.args(&["health"]).output();
    assert_eq!(output.code(), 1);
    assert!(output.errors().starts_with("127.0.0.1:1 does not answer: "), "{}", output.errors());
}
