//! `health`: asks a running exporter's `/-/healthy`, for containers without curl. Exit 0 when it answers 200.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use argh::FromArgs;

use crate::app::settings::{Settings, Words, environment};
use crate::driver::Drivers;
use crate::error::Error;
use crate::http::Listen;

use super::{complain, say};

/// Longer than this is not healthy.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ask a running exporter whether it answers.
#[derive(FromArgs)]
#[argh(subcommand, name = "health", help_triggers("-h", "--help", "help"))]
pub struct Options {}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// Asks and says what came back. Blocks for at most some seconds.
///
/// # Errors
/// Wrong words, or a configuration that cannot be read for its address.
pub fn run(words: &Words, _: &Options) -> Result<u8, Vec<Error>> {
    let settings = Settings::new(words, &environment).map_err(|error| vec![error])?;
    let listen = match &settings.listen {
        Some(listen) => listen.clone(),
        None => settings.load(&environment, &Drivers::built_in())?.exporter.listen,
    };
    let listen = listen
        .into_iter()
        .next()
        .ok_or_else(|| vec![Error::config("no address to ask: `listen` is empty")])?;
    match ask(&listen) {
        Ok(status) if status == "200" => {
            say(&["healthy\n"]).map_err(|error| vec![error])?;
            Ok(0)
        }
        Ok(status) => {
            complain(&format!("{listen} answers {status}"));
            Ok(1)
        }
        Err(error) => {
            complain(&format!("{listen} does not answer: {error}"));
            Ok(1)
        }
    }
}

fn ask(listen: &Listen) -> std::io::Result<String> {
    let mut stream = connect(listen)?;
    stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    let line = String::from_utf8_lossy(&head);
    Ok(line.split(' ').nth(1).unwrap_or("nothing readable").to_owned())
}

fn connect(listen: &Listen) -> std::io::Result<Box<dyn Stream>> {
    let address = match listen {
        Listen::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            return Ok(Box::new(stream));
        }
        Listen::AnyAddress(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, *port)),
        Listen::Tcp(address) if address.ip().is_unspecified() => {
            SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
        }
        Listen::Tcp(address) => *address,
    };
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(Box::new(stream))
}
