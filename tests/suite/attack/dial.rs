//! The way in: how a connection is made of a socket, and what the exporter's configuration needs for it.
//!
//! Another way (TLS) is a variant, its arm in each method here, and a line of `attacks!` in `table`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, LazyLock};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::exporter::Setup;
use crate::servers::tls_file;

/// Both directions of a connection.
pub(super) trait Wire: Read + Write {
    /// What carries it.
    fn socket(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Wire for StreamOwned<ClientConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

/// Trusts the tests' own CA.
static TRUST: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(tls_file("ca.pem")).expect("made")).expect("a CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Arc::new(builder.expect("versions").with_root_certificates(roots).with_no_client_auth())
});

/// Shakes hands. Where the exporter closes amid that, every later read finds the end.
fn encrypted(mut socket: TcpStream) -> Box<dyn Wire> {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut session = ClientConnection::new(Arc::clone(&TRUST), name).expect("a session");
    while session.is_handshaking() {
        if session.complete_io(&mut socket).is_err() {
            break;
        }
    }
    Box::new(StreamOwned::new(session, socket))
}

/// How the exporter is spoken to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dial {
    /// Plain TCP.
    Plain,
    /// TLS.
    Tls,
    /// Plain TCP to an exporter with a user, `u` with the password `p`.
    Users,
}

/// The web-config file of an exporter that speaks TLS.
const TLS: &str = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n";
/// That of one with a user; `p` as bcrypt of cost 10.
const USERS: &str = "basic_auth_users: {u: $2b$10$abcdefghijklmnopqrstuufTpAkGU.os58rNmF0HwM/ElI1QqwvoO}\n";

impl Dial {
    /// Keys of `exporter` beside `http`, as YAML lines.
    pub(super) fn keys(self) -> &'static str {
        match self {
            Dial::Plain => "",
            Dial::Tls | Dial::Users => "  web_config_file: web.yml\n",
        }
    }

    /// Files that the keys name.
    pub(super) fn equip(self, setup: Setup) -> Setup {
        let read = |name: &str| std::fs::read_to_string(tls_file(name)).expect("made");
        match self {
            Dial::Plain => setup,
            Dial::Tls => {
                let setup = setup.file("cert.pem", &read("server.pem")).file("key.pem", &read("server.key"));
                setup.file("web.yml", TLS)
            }
            Dial::Users => setup.file("web.yml", USERS),
        }
    }

    /// Speaks over a socket that is connected.
    pub(super) fn over(self, socket: TcpStream) -> Box<dyn Wire> {
        match self {
            Dial::Plain | Dial::Users => Box::new(socket),
            Dial::Tls => encrypted(socket),
        }
    }
}
