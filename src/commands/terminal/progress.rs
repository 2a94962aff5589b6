//! One line on stderr that says what is going on, for who waits at a terminal: not before a second has passed, and
//! gone when it is over.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{cut, width};
use crate::plain_text::one_line;

/// What ends sooner says nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the line is written again.
const TICK: Duration = Duration::from_millis(200);
/// Back to the line's begin, and erase it (ECMA-48: CR, EL).
const WIPE: &str = "\r\x1b[K";

/// The line. Dropping it wipes it and ends its thread.
pub struct Progress {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    line: Mutex<Line>,
    over: Condvar,
}

struct Line {
    text: String,
    began: Instant,
    drawn: bool,
    over: bool,
    out: Box<dyn Write + Send>,
}

impl Progress {
    /// A line for what begins now: "connecting to 12 targets". Nothing at all where stderr is no terminal.
    #[must_use]
    pub fn start(text: impl Into<String>) -> Progress {
        let out = Box::new(std::io::stderr());
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let seen = out.is_terminal() && !dumb;
        Progress::on(out, seen.then_some(PATIENCE), text.into())
    }

    /// A line on `out` after `patience`; never without.
    fn on(out: Box<dyn Write + Send>, patience: Option<Duration>, text: String) -> Progress {
        let line = Line { text, began: Instant::now(), drawn: false, over: false, out };
        let shared = Arc::new(Shared { line: Mutex::new(line), over: Condvar::new() });
        let thread = patience.and_then(|patience| {
            let shared = Arc::clone(&shared);
            // Without a thread there is no line, which is no fault.
            std::thread::Builder::new()
                .name("progress".to_owned())
                .spawn(move || draw(&shared, patience))
                .ok()
        });
        Progress { shared, thread }
    }

    /// What goes on now: "12 of 33 queries".
    pub fn say(&self, text: impl Into<String>) {
        self.shared.line.lock().text = text.into();
    }

    /// Runs `print` while the line is out of its way: for results that are printed as they come.
    pub fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        let mut line = self.shared.line.lock();
        line.wipe();
        print()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shared.line.lock().over = true;
        self.shared.over.notify_all();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        self.shared.line.lock().wipe();
    }
}

fn draw(shared: &Shared, patience: Duration) {
    let mut line = shared.line.lock();
    let first = line.began + patience;
    while !line.over && Instant::now() < first {
        shared.over.wait_until(&mut line, first);
    }
    while !line.over {
        line.draw();
        shared.over.wait_for(&mut line, TICK);
    }
}

impl Line {
    /// A line that wraps could not be wiped: it stays below the terminal's width.
    fn draw(&mut self) {
        let text = format!("{} ({} s)", one_line(&self.text), self.began.elapsed().as_secs());
        let text = cut(&text, width().saturating_sub(1)).into_owned();
        drop(write!(self.out, "{WIPE}{text}").and_then(|()| self.out.flush()));
        self.drawn = true;
    }

    fn wipe(&mut self) {
        if std::mem::take(&mut self.drawn) {
            drop(write!(self.out, "{WIPE}").and_then(|()| self.out.flush()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::{Progress, WIPE};

    /// Hands on what is written.
    struct Pipe(Sender<String>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            drop(self.0.send(String::from_utf8_lossy(bytes).into_owned()));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            drop(self.0.send("\n".to_owned()));
            Ok(())
        }
    }

    fn progress(patience: Option<Duration>) -> (Progress, Receiver<String>) {
        let (sender, receiver) = channel();
        (Progress::on(Box::new(Pipe(sender)), patience, "reading".to_owned()), receiver)
    }

    /// What was written up to the next flush.
    fn next(receiver: &Receiver<String>) -> String {
        let parts = std::iter::from_fn(|| receiver.recv().ok().filter(|part| part != "\n"));
        parts.collect()
    }

    #[test]
    fn the_line_appears_changes_and_is_wiped_at_the_end() {
        let (progress, receiver) = progress(Some(Duration::ZERO));
        assert!(next(&receiver).starts_with("\r\x1b[Kreading (0 s)"));
        progress.say("1 of 2");
        while !next(&receiver).contains("1 of 2 (") {}
        drop(progress);
        let last = std::iter::from_fn(|| Some(next(&receiver)).filter(|text| !text.is_empty())).last();
        assert_eq!(last.as_deref(), Some(WIPE));
    }

    #[test]
    fn what_is_printed_aside_finds_the_line_gone() {
        let (progress, receiver) = progress(Some(Duration::ZERO));
        assert!(next(&receiver).contains("reading"));
        let found = progress.aside(|| std::iter::from_fn(|| receiver.try_recv().ok()).collect::<String>());
        assert!(found.trim_end().ends_with(WIPE), "{found:?}");
    }

    #[test]
    fn what_ends_soon_and_what_nobody_sees_writes_nothing() {
        for patience in [Some(Duration::from_secs(3600)), None] {
            let (progress, receiver) = progress(patience);
            progress.say("more");
            drop(progress);
            assert_eq!(receiver.recv().ok(), None);
        }
    }
}
