//! The way in: how a connection is made of a socket, and what the exporter's configuration needs for it.
//!
//! Another way (TLS) is a variant, its arm in each method here, and a line of `attacks!` in `table`.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::exporter::Setup;

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

/// How the exporter is spoken to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dial {
    /// Plain TCP.
    Plain,
}

impl Dial {
    /// Keys of `exporter` beside `http`, as YAML lines.
    pub(super) fn keys(self) -> &'static str {
        match self {
            Dial::Plain => "",
        }
    }

    /// Files that the keys name.
    pub(super) fn equip(self, setup: Setup) -> Setup {
        match self {
            Dial::Plain => setup,
        }
    }

    /// Speaks over a socket that is connected.
    pub(super) fn over(self, socket: TcpStream) -> Box<dyn Wire> {
        match self {
            Dial::Plain => Box::new(socket),
        }
    }
}
