//! Saying no: a short answer that arrives, even where the client is still sending.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::head::Fault;
use crate::server::backend::socket::Wire;
use crate::server::{phrase, protection};

/// How long a client may take to read a refusal, and to close after the last answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// What is read and thrown away meanwhile.
const DISCARDED: usize = 256 << 10;

/// Writes the refusal with `headers`, to a HEAD without its body, and closes.
pub(super) async fn refuse(
    mut stream: Box<dyn Wire>,
    fault: &Fault,
    head_only: bool,
    headers: &[(String, String)],
) {
    let extra = match fault.status {
        401 => "WWW-Authenticate: Basic realm=\"sql-exporter\", charset=\"UTF-8\"\r\n",
        405 => "Allow: GET, HEAD\r\n",
        503 => "Retry-After: 1\r\n",
        _ => "",
    };
    let Fault { status, message, .. } = fault;
    let mut answer = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n{extra}",
        phrase(*status),
        message.len() + 1
    );
    for (name, value) in headers {
        answer.extend([name, ": ", value, "\r\n"]);
    }
    for (name, value) in protection(headers.iter().map(|(name, _)| name.as_str())) {
        answer.extend([name, ": ", value, "\r\n"]);
    }
    answer.push_str("\r\n");
    if !head_only {
        answer.push_str(message);
        answer.push('\n');
    }
    if timeout(PATIENCE, stream.write_all(answer.as_bytes())).await.is_ok_and(|written| written.is_ok()) {
        linger(stream).await;
    }
}

/// Closes our direction and waits a moment for the client's: a socket closed over unread bytes is reset, and the
/// reset may overtake the answer.
pub(super) async fn linger(mut stream: Box<dyn Wire>) {
    let drained = async {
        stream.shutdown().await?;
        // Not in the future itself: each connection's would have room for it all its life.
        let mut nothing = vec![0; 4096];
        let mut discarded = 0;
        while discarded < DISCARDED {
            match stream.read(&mut nothing).await? {
                0 => break,
                read => discarded += read,
            }
        }
        std::io::Result::Ok(())
    };
    let _ = timeout(PATIENCE, drained).await;
}
