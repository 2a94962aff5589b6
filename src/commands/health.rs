//! `health`: asks a running exporter's `/-/healthy`, for containers without curl. Exit 0 when it answers 200.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use argh::FromArgs;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConnection, StreamOwned};

use super::settings::{GlobalArgs, Settings, environment};
use super::terminal::TerminalText;
use crate::config::exporter::Exporter;
use crate::config::listen::ListenAddress;
use crate::driver::Drivers;
use crate::driver::connection::tls::{TlsConfig, TlsMode};
use crate::error::Error;
use crate::plain_text::one_line;
use crate::server;

use super::{print_text, print_to_stderr};

/// Longer than this is not healthy.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ask a running exporter whether it answers.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "health",
    help_triggers("-h", "--help", "help"),
    example = "Ask the exporter that runs with this file:\n  {command_name} -c shop.yaml",
    example = "Ask at an address, from a container's health check:\n  {command_name} --listen 127.0.0.1:9399"
)]
pub struct Options {}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// Asks and says what came back. Blocks for at most some seconds.
///
/// # Errors
/// Wrong words, or a configuration that cannot be read for its address.
pub fn run(words: &GlobalArgs, _: &Options) -> Result<u8, Vec<Error>> {
    let settings = Settings::new(words, &environment).map_err(|error| vec![error])?;
    let exporter = match (&settings.listen, settings.load(&environment, &Drivers::built_in())) {
        (_, Ok(plan)) => plan.exporter,
        // An address needs no configuration: then there is neither TLS nor a prefix.
        (Some(listen), Err(_)) => Exporter { listen: listen.clone(), ..Exporter::default() },
        (None, Err(faults)) => return Err(faults),
    };
    let Exporter { listen, web_config_file, route_prefix, .. } = exporter;
    let listen = listen
        .into_iter()
        .next()
        .ok_or_else(|| vec![Error::config("no address to ask: `listen` is empty")])?;
    let tls = web_config_file.is_some_and(|path| server::enables_tls(&path));
    match ask(&listen, tls, &route_prefix.path("/-/healthy")) {
        Ok(status) if status == "200" => {
            print_text(&TerminalText::document("healthy")).map_err(|error| vec![error])?;
            Ok(0)
        }
        Ok(status) => {
            let answer = format!("{listen} answers {status}");
            print_to_stderr(&TerminalText::document(&one_line(&answer)));
            Ok(1)
        }
        Err(error) => {
            let silence = format!("{listen} does not answer: {error}");
            print_to_stderr(&TerminalText::document(&one_line(&silence)));
            Ok(1)
        }
    }
}

/// The status of the answer.
fn ask(listen: &ListenAddress, tls: bool, path: &str) -> std::io::Result<String> {
    let stream = connect(listen)?;
    let asked =
        if tls { encrypted(stream).and_then(|stream| status(stream, path)) } else { status(stream, path) };
    match asked {
        Err(error) if wants_a_certificate(&error) => Ok("200".to_owned()),
        other => other,
    }
}

fn status(mut stream: impl Read + Write, path: &str) -> std::io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    let line = String::from_utf8_lossy(&head);
    Ok(line.split(' ').nth(1).unwrap_or("nothing readable").to_owned())
}

/// Whoever answers at our own address is believed: a certificate names the host that others ask for.
fn encrypted(stream: Box<dyn Stream>) -> std::io::Result<impl Read + Write> {
    let unverified = TlsConfig { mode: TlsMode::Require, ..TlsConfig::default() };
    let config = unverified.client_config().map_err(std::io::Error::other)?;
    let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
    let session = ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
    Ok(StreamOwned::new(session, stream))
}

/// It lives, and lets nobody in without a certificate, which we do not have.
fn wants_a_certificate(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(
        inner,
        Some(rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
                | AlertDescription::HandshakeFailure
                | AlertDescription::BadCertificate
        ))
    )
}

fn connect(listen: &ListenAddress) -> std::io::Result<Box<dyn Stream>> {
    let address = match listen {
        ListenAddress::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            return Ok(Box::new(stream));
        }
        ListenAddress::AnyAddress(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, *port)),
        ListenAddress::Tcp(address) if address.ip().is_unspecified() => {
            SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
        }
        ListenAddress::Tcp(address) => *address,
    };
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(Box::new(stream))
}
