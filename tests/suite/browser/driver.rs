//! A headless Chromium, spoken to over WebDriver (<https://www.w3.org/TR/webdriver2/>) on loopback.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{end, folder, free_port, mortal, wait_for};
use crate::web_client::connect;

/// One browser window; closed at drop.
pub(super) struct Browser {
    child: Child,
    address: SocketAddr,
    session: String,
    _profile: TempDir,
}

/// Nothing but the page under test is asked for.
const QUIET: [&str; 12] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--window-size=1280,1000",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
];

impl Browser {
    pub(super) fn start() -> Self {
        let (profile, port) = (folder(), free_port());
        let mut command = mortal(None, "chromedriver");
        command.arg(format!("--port={port}")).env("HOME", profile.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("tests/run installs chromium-driver");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut browser = Browser { child, address, session: String::new(), _profile: profile };
        wait_for("chromedriver", || std::net::TcpStream::connect(address).ok());
        let profile = format!("--user-data-dir={}", browser._profile.path().display());
        let arguments: Vec<&str> = QUIET.into_iter().chain([profile.as_str()]).collect();
        // Chromium outlives a chromedriver that is killed, unless it is told not to.
        let program = browser._profile.path().join("chromium");
        std::fs::write(&program, "#!/bin/sh\nexec setpriv --pdeathsig KILL -- chromium \"$@\"\n")
            .expect("written");
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments, "binary": program},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let answer = browser.send("POST", "/session", &wanted);
        browser.session =
            answer["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {answer}")).to_owned();
        browser
    }

    /// One command; gives its value, or the error as a value.
    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}",
            self.address
        );
        let mut stream = connect(self.address);
        stream.write_all(request.as_bytes()).expect("sent");
        let body = read_body(BufReader::new(stream));
        let mut answer: Value =
            serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{path}: {error}"));
        answer["value"].take()
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let value = self.send(method, &format!("/session/{}{path}", self.session), body);
        assert!(value.get("error").is_none(), "{method} {path}: {value}");
        value
    }

    pub(super) fn open(&self, url: &str) {
        self.command("POST", "/url", &json!({"url": url}));
    }

    /// What a script's `return` gives.
    pub(super) fn run(&self, script: &str) -> Value {
        self.command("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Presses keys wherever the focus is.
    pub(super) fn press(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})]
            })
            .collect();
        self.command(
            "POST",
            "/actions",
            &json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]}),
        );
    }

    /// A command of the DevTools protocol, and its result.
    pub(super) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("POST", "/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// What the console says since it was read last.
    pub(super) fn console(&self) -> Vec<Value> {
        self.command("POST", "/se/log", &json!({"type": "browser"})).as_array().cloned().unwrap_or_default()
    }

    /// True while an `alert` is open.
    pub(super) fn alerts(&self) -> bool {
        self.send("GET", &format!("/session/{}/alert/text", self.session), &Value::Null)
            .get("error")
            .is_none()
    }

    /// Writes a picture of the window.
    pub(super) fn picture(&self, file: &Path) {
        let picture = self.command("GET", "/screenshot", &Value::Null);
        let bytes = STANDARD.decode(picture.as_str().expect("base64")).expect("base64");
        assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 5000, "{} bytes", bytes.len());
        std::fs::write(file, bytes).expect("written");
    }
}

/// The body of an answer, as long as its head says: chromedriver keeps the connection open.
fn read_body(mut answer: BufReader<TcpStream>) -> Vec<u8> {
    let mut length = 0;
    let mut line = String::new();
    while answer.read_line(&mut line).expect("a head") > 2 {
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().expect("a number");
        }
        line.clear();
    }
    let mut body = vec![0; length];
    answer.read_exact(&mut body).expect("a whole body");
    body
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.send("DELETE", &format!("/session/{}", self.session), &Value::Null);
        }
        let _ = end(&mut self.child);
    }
}
