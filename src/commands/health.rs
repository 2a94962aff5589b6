//! `health`: requests `/-/healthy` of a running exporter, for containers without curl. Exit 0 on status 200.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConnection, StreamOwned};
use socket2::{SockAddr, Socket, Type};

use super::settings::{CommandSettings, GlobalArgs, process_environment};
use super::terminal::TerminalText;
use super::{CommandResult, print_stderr_line, print_stdout};
use crate::config::InvalidConfig;
use crate::config::exporter::Exporter;
use crate::config::listen::ListenAddress;
use crate::driver::Drivers;
use crate::driver::connection::tls::{TlsConfig, TlsMode};
use crate::error::Error;
use crate::server;

/// An exporter that takes longer is not healthy.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Check that a running exporter answers.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "health",
    help_triggers("-h", "--help", "help"),
    example = "Check the exporter that runs with this file:\n  {command_name} -c shop.yaml",
    example = "Check an address, from a container's health check:\n  {command_name} --listen 127.0.0.1:9399"
)]
pub struct HealthArgs {}

/// Sends one request and prints the outcome. Blocks for at most some seconds.
///
/// # Errors
/// Wrong arguments, or a configuration that cannot be read for its address.
pub fn run(args: &GlobalArgs, _: &HealthArgs) -> CommandResult {
    let settings = CommandSettings::new(args, &process_environment)?;
    let exporter =
        match (&settings.listen, settings.load_or_invalid(&process_environment, &Drivers::built_in())) {
            (_, Ok(config)) => config.exporter,
            // The file may have become faulty after the start: the exporter is healthy with the configuration that it has. An
            // address is enough without a file: then there is neither TLS nor a prefix.
            (Some(listen), Err(invalid)) => {
                let exporter = invalid.exporter.map(|exporter| *exporter);
                Exporter { listen: listen.clone(), ..exporter.unwrap_or_default() }
            }
            (None, Err(InvalidConfig { exporter: Some(exporter), .. })) if !exporter.listen.is_empty() => {
                *exporter
            }
            (None, Err(invalid)) => return Err(invalid.faults.into()),
        };
    let Exporter { listen, web_config_file, route_prefix, .. } = exporter;
    let listen = listen.iter().find(|listen| **listen != ListenAddress::Systemd).ok_or_else(|| {
        Error::config("only systemd knows the address that `listen: systemd` stands for")
            .with_hint("name it as in the socket unit: --listen 127.0.0.1:9399")
    })?;
    let tls = web_config_file.is_some_and(|path| server::enables_tls(&path));
    let problem = match status_of(listen, tls, &route_prefix.path("/-/healthy")) {
        Ok(status) if status == "200" => {
            print_stdout(&TerminalText::document("healthy"))?;
            return Ok(0);
        }
        // Without the exporter's configuration this command knows neither its TLS nor its `route_prefix`.
        Ok(status) if matches!(status.as_str(), "400" | "404") => format!(
            "{listen} answers {status}; if the exporter has TLS or a `route_prefix`, name its configuration with -c"
        ),
        Ok(status) => format!("{listen} answers {status}"),
        Err(error) => format!("{listen} does not answer: {error}"),
    };
    print_stderr_line(&problem);
    Ok(1)
}

/// The status code of the response.
fn status_of(listen: &ListenAddress, tls: bool, path: &str) -> std::io::Result<String> {
    let stream = connect(listen)?;
    let status =
        if tls { encrypted(stream).and_then(|stream| send(stream, path)) } else { send(stream, path) };
    match status {
        Err(error) if wants_a_certificate(&error) => Ok("200".to_owned()),
        other => other,
    }
}

fn send(mut stream: impl Read + Write, path: &str) -> std::io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    let line = String::from_utf8_lossy(&head);
    Ok(line.split(' ').nth(1).unwrap_or("with something other than HTTP").to_owned())
}

/// The certificate is not verified: it names the host that other clients connect to, and this is our own address.
fn encrypted(stream: Socket) -> std::io::Result<impl Read + Write> {
    let unverified = TlsConfig { mode: TlsMode::Require, ..TlsConfig::default() };
    let config = unverified.client_config().map_err(std::io::Error::other)?;
    let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
    let session = ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
    Ok(StreamOwned::new(session, stream))
}

/// The server is alive and requires a client certificate, which this command does not have.
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

fn connect(listen: &ListenAddress) -> std::io::Result<Socket> {
    let localhost = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let address: SockAddr = match listen {
        ListenAddress::Unix(path) => SockAddr::unix(path)?,
        ListenAddress::AnyAddress(port) => localhost(*port).into(),
        ListenAddress::Tcp(address) if address.ip().is_unspecified() => localhost(address.port()).into(),
        ListenAddress::Tcp(address) => (*address).into(),
        ListenAddress::Systemd => return Err(ErrorKind::AddrNotAvailable.into()),
    };
    let socket = Socket::new(address.domain(), Type::STREAM, None)?;
    socket.connect_timeout(&address, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    Ok(socket)
}
