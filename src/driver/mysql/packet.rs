//! Packets of MySQL's protocol: bytes in, a value or `None` out. No packet makes one of these functions panic, allocate
//! more than its own length, or return a text longer than its bound.
//!
//! Sources: MySQL's "Client/Server Protocol" and MariaDB's "Clients & Utilities" documentation. Knows no socket.

use mysql_common::constants::{CapabilityFlags, ColumnFlags, ColumnType, StatusFlags};
use mysql_common::io::ParseBuf;

use crate::driver::bounded_text;

/// The longest name of a column that is kept; MySQL allows 256 characters.
const MAX_COLUMN_NAME_BYTES: usize = 1024;
/// More columns than any server sends.
pub(super) const MAX_COLUMNS: u64 = 4096;

/// At most `longest` bytes of a text, with U+FFFD for what is not UTF-8.
fn text(bytes: &[u8], longest: usize) -> String {
    let bytes = bytes.get(..longest).unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    // A character that was cut in two.
    let whole = if bytes.len() == longest { text.trim_end_matches('\u{fffd}') } else { &text };
    whole.to_owned()
}

fn name(bytes: &[u8]) -> String {
    text(bytes, bounded_text::MAX_NAME_BYTES)
}

/// The server's first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerGreeting {
    /// As the server, or the proxy in front of it, writes it.
    pub(super) version: String,
    /// The number of the server's thread for this connection.
    pub(super) thread: u32,
    pub(super) capabilities: CapabilityFlags,
    /// The login plugin that the server tries first.
    pub(super) plugin: String,
    /// Random bytes that a password is hashed with.
    pub(super) nonce: Vec<u8>,
}

impl ServerGreeting {
    /// Reads protocol version 10.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let mut buffer = ParseBuf(packet);
        buffer.checked_eat_u8().filter(|version| *version == 10)?;
        let version = name(buffer.eat_null_str());
        let thread = buffer.checked_eat_u32_le()?;
        let mut nonce = buffer.checked_eat(8)?.to_vec();
        let _filler = buffer.checked_eat_u8()?;
        let low = buffer.checked_eat_u16_le()?;
        let _collation_and_status = buffer.checked_eat(3)?;
        let high = buffer.checked_eat_u16_le()?;
        let nonce_length = buffer.checked_eat_u8()?;
        let _reserved = buffer.checked_eat(10)?;
        let capabilities = CapabilityFlags::from_bits_truncate(u32::from(high) << 16 | u32::from(low));
        if capabilities.contains(CapabilityFlags::CLIENT_SECURE_CONNECTION) {
            let rest = usize::from(nonce_length.saturating_sub(8)).max(13);
            nonce.extend_from_slice(buffer.checked_eat(rest.min(buffer.len()))?);
        }
        let plugin = name(buffer.eat_null_str());
        let nonce = without_final_zero(&nonce).to_vec();
        Some(ServerGreeting { version, thread, capabilities, plugin, nonce })
    }
}

/// A nonce of 20 bytes is followed by a zero byte that is not part of it; others (MariaDB's have 32) end in any byte.
fn without_final_zero(nonce: &[u8]) -> &[u8] {
    match nonce {
        [nonce @ .., 0] if nonce.len() == 20 => nonce,
        nonce => nonce,
    }
}

/// What the server sends during a login, after the greeting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LoginReply<'p> {
    /// The login succeeded.
    Done,
    /// The account has another plugin.
    Switch { plugin: String, nonce: &'p [u8] },
    /// A message of the plugin's own protocol.
    PluginData(&'p [u8]),
    /// The account needs another factor after this one, with this plugin.
    NextFactor(String),
    /// The plugin from before MySQL 4.1.
    OldPassword,
    /// The login failed.
    Refused(MySqlError),
}

impl<'p> LoginReply<'p> {
    /// Reads a packet of a login; `None` for an empty one.
    pub(super) fn read(packet: &'p [u8]) -> Option<Self> {
        let mut buffer = ParseBuf(packet);
        Some(match buffer.checked_eat_u8()? {
            0x00 => LoginReply::Done,
            0x01 => LoginReply::PluginData(buffer.0),
            0x02 => LoginReply::NextFactor(name(buffer.eat_null_str())),
            0xfe if buffer.is_empty() => LoginReply::OldPassword,
            0xfe => {
                let plugin = name(buffer.eat_null_str());
                LoginReply::Switch { plugin, nonce: without_final_zero(buffer.0) }
            }
            0xff => LoginReply::Refused(MySqlError::read(packet)?),
            // MariaDB's first servers with `parsec` leave out the first byte.
            _ => LoginReply::PluginData(packet),
        })
    }
}

/// An error packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MySqlError {
    pub(super) code: u16,
    /// Five letters and digits; `HY000` where the server sends none.
    pub(super) state: String,
    pub(super) message: String,
}

impl MySqlError {
    /// Reads a packet that begins with `ff`.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let mut buffer = ParseBuf(packet.get(1..)?);
        let code = buffer.checked_eat_u16_le()?;
        let mut state = &b"HY000"[..];
        if buffer.0.first() == Some(&b'#') && buffer.len() > 5 {
            state = buffer.checked_eat(6)?.get(1..)?;
        }
        // Anything else would reach logs and pages as the server likes.
        let legal = state.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        let state = text(if legal { state } else { b"HY000" }, 5);
        Some(MySqlError { code, state, message: text(buffer.0, bounded_text::MAX_MESSAGE_BYTES) })
    }
}

/// What the server tells about the session at the end of each answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum SessionTracking {
    /// Nothing.
    #[default]
    Nothing,
    /// That it changed.
    Changes,
    /// The same, and which variables. That it has this schema is no change: servers tell it behind a stored function of another
    /// schema, and MariaDB where it has opened tables for `information_schema`.
    Variables { schema: String },
}

/// What the last packet of a result says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ResultEnd {
    /// Another result of the same command follows.
    pub(super) more: bool,
    /// The statement changed the session: a variable, the schema, a temporary table. False where the server does not tell.
    pub(super) changed_session: bool,
}

impl ResultEnd {
    /// Reads the long form, behind its first byte.
    fn read(mut buffer: ParseBuf<'_>, tracking: &SessionTracking) -> Option<Self> {
        let (_affected, _id) = (buffer.checked_eat_lenenc_int()?, buffer.checked_eat_lenenc_int()?);
        let status = StatusFlags::from_bits_truncate(buffer.checked_eat_u16_le()?);
        let more = status.contains(StatusFlags::SERVER_MORE_RESULTS_EXISTS);
        let tells = *tracking != SessionTracking::Nothing
            && status.contains(StatusFlags::SERVER_SESSION_STATE_CHANGED);
        // What cannot be read may be a change.
        Some(ResultEnd { more, changed_session: tells && has_change(buffer, tracking).unwrap_or(true) })
    }

    /// Reads the form that says nothing about the session, behind its first byte.
    fn read_short(mut buffer: ParseBuf<'_>) -> Option<Self> {
        let _warnings = buffer.checked_eat_u16_le()?;
        let status = StatusFlags::from_bits_truncate(buffer.checked_eat_u16_le()?);
        let more = status.contains(StatusFlags::SERVER_MORE_RESULTS_EXISTS);
        Some(ResultEnd { more, changed_session: false })
    }
}

/// Whether what the server tells about the session is a change; it also tells numbers of transactions.
fn has_change(mut buffer: ParseBuf<'_>, tracking: &SessionTracking) -> Option<bool> {
    const VARIABLE: u8 = 0;
    const SCHEMA: u8 = 1;
    const STATE: u8 = 2;
    let _warnings = buffer.checked_eat_u16_le()?;
    let _text = buffer.checked_eat_lenenc_str()?;
    let mut told = ParseBuf(buffer.checked_eat_lenenc_str()?);
    // That something changed is told of a schema, too, whichever it is.
    let (mut something, mut schema_of_before, mut other) = (false, false, false);
    while !told.is_empty() {
        let kind = told.checked_eat_u8()?;
        let mut value = ParseBuf(told.checked_eat_lenenc_str()?);
        match (kind, tracking) {
            (STATE, _) => something = true,
            (VARIABLE, SessionTracking::Variables { .. }) => other = true,
            (SCHEMA, SessionTracking::Variables { schema })
                if value.checked_eat_lenenc_str()? == schema.as_bytes() =>
            {
                schema_of_before = true;
            }
            (SCHEMA, _) => other = true,
            _ => {}
        }
    }
    Some(other || something && !schema_of_before)
}

/// The first packet of a successful answer to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResultHead {
    /// A result without rows.
    Done(ResultEnd),
    /// This many columns, then rows.
    Rows(usize),
}

impl ResultHead {
    /// Reads it, or the server's error, which ends the command; `None` also for a request to send a file, and for more
    /// columns than there may be. `tracking`: what the server tells at the end.
    pub(super) fn read(packet: &[u8], tracking: &SessionTracking) -> Option<Result<Self, MySqlError>> {
        match packet.first()? {
            0x00 => Some(Ok(ResultHead::Done(ResultEnd::read(ParseBuf(packet.get(1..)?), tracking)?))),
            0xff => MySqlError::read(packet).map(Err),
            _ => {
                let mut buffer = ParseBuf(packet);
                let count =
                    buffer.checked_eat_lenenc_int().filter(|count| (1..=MAX_COLUMNS).contains(count))?;
                let count = usize::try_from(count).ok()?;
                buffer.is_empty().then_some(Ok(ResultHead::Rows(count)))
            }
        }
    }
}

/// A packet after the columns of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowPacket {
    /// The values of a row.
    Row,
    /// No more rows.
    End(ResultEnd),
}

impl RowPacket {
    /// Reads its kind, or the server's error, which ends the command; `None` for an empty packet. `tracking` as in
    /// [`ResultHead::read`].
    pub(super) fn read(packet: &[u8], tracking: &SessionTracking) -> Option<Result<Self, MySqlError>> {
        // A row that begins with `fe` has a value of 16 MiB and more.
        const SHORTEST_ROW: usize = 1 << 24;
        let (first, rest) = packet.split_first()?;
        match first {
            0xfe if *tracking != SessionTracking::Nothing && packet.len() < SHORTEST_ROW => {
                Some(Ok(RowPacket::End(ResultEnd::read(ParseBuf(rest), tracking)?)))
            }
            0xfe if is_end_of_columns(packet) => {
                Some(Ok(RowPacket::End(ResultEnd::read_short(ParseBuf(rest))?)))
            }
            0xff => MySqlError::read(packet).map(Err),
            _ => Some(Ok(RowPacket::Row)),
        }
    }
}

/// True for the packet behind the definitions of columns, which servers that track the session do not send.
pub(super) fn is_end_of_columns(packet: &[u8]) -> bool {
    matches!(packet, [0xfe, ..]) && packet.len() < 9
}

/// A statement that the server has prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PreparedStatement {
    /// The server's number of it.
    pub(super) id: u32,
    /// How many columns its result has; none where the server cannot tell yet.
    pub(super) columns: usize,
    /// How many parameters it wants.
    pub(super) params: usize,
}

impl PreparedStatement {
    /// Reads the first packet of an answer, or the server's error.
    pub(super) fn read(packet: &[u8]) -> Option<Result<Self, MySqlError>> {
        let (first, rest) = packet.split_first()?;
        match first {
            0x00 => {}
            0xff => return MySqlError::read(packet).map(Err),
            _ => return None,
        }
        let mut buffer = ParseBuf(rest);
        let id = buffer.checked_eat_u32_le()?;
        let (columns, params) = (buffer.checked_eat_u16_le()?, buffer.checked_eat_u16_le()?);
        let prepared = PreparedStatement { id, columns: columns.into(), params: params.into() };
        (u64::from(columns) <= MAX_COLUMNS).then_some(Ok(prepared))
    }
}

/// The definition of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ColumnDefinition {
    pub(super) name: String,
    pub(super) column_type: ColumnType,
    pub(super) flags: ColumnFlags,
    /// The number of its collation.
    pub(super) character_set: u16,
    /// How many decimal places the server shows of a floating-point number, as of a `DOUBLE(10,2)`; `None`: as many as there are.
    pub(super) decimals: Option<u8>,
    /// How many digits a number is shown with, and how many bits a `BIT` has.
    pub(super) width: u32,
    /// It is a column of a table, and no expression. MariaDB also says so of a derived table.
    pub(super) of_table: bool,
}

/// No number is shown with more digits.
const MAX_DISPLAY_WIDTH: u32 = 255;

/// What a server says of a floating-point number whose decimal places are not fixed.
const DECIMALS_NOT_FIXED: u8 = 31;

impl ColumnDefinition {
    /// Reads a definition.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let mut buffer = ParseBuf(packet);
        for _catalog_schema_and_table in 0..3 {
            buffer.checked_eat_lenenc_str()?;
        }
        let of_table = !buffer.checked_eat_lenenc_str()?.is_empty();
        let name = text(buffer.checked_eat_lenenc_str()?, MAX_COLUMN_NAME_BYTES);
        let _original_name = buffer.checked_eat_lenenc_str()?;
        let mut buffer = ParseBuf(buffer.checked_eat_lenenc_str()?);
        let character_set = buffer.checked_eat_u16_le()?;
        let width = buffer.checked_eat_u32_le()?.min(MAX_DISPLAY_WIDTH);
        let column_type = ColumnType::try_from(buffer.checked_eat_u8()?).ok()?;
        let flags = ColumnFlags::from_bits_truncate(buffer.checked_eat_u16_le()?);
        let decimals = Some(buffer.checked_eat_u8()?).filter(|decimals| *decimals < DECIMALS_NOT_FIXED);
        Some(ColumnDefinition { name, column_type, flags, character_set, decimals, width, of_table })
    }
}

/// How the values of a row are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowFormat {
    /// Of a prepared statement.
    Binary,
    /// Of a statement that was sent as text.
    Text,
}

/// Why a row is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowError {
    /// It is not what its columns say.
    Unreadable,
    /// The value of this column is longer than it may be.
    TooLong(usize),
}

/// The length of the longest row whose values are not longer than `longest`.
pub(super) fn longest_row(columns: usize, longest: usize) -> usize {
    // Each with its length before it; then the header and the bits for NULLs.
    longest.saturating_add(9).saturating_mul(columns).saturating_add(columns / 8 + 3)
}

/// Where the values of one row lie in its packet; `None` is NULL. Reused from row to row.
#[derive(Debug, Default)]
pub(super) struct MySqlValueSpans(Vec<Option<(usize, usize)>>);

impl MySqlValueSpans {
    /// Finds the values of a row, of which none may be longer than `longest`. The span of a value of variable length does
    /// not include its length.
    pub(super) fn find(
        &mut self,
        packet: &[u8],
        columns: &[ColumnDefinition],
        format: RowFormat,
        longest: usize,
    ) -> Result<(), RowError> {
        self.find_all(packet, columns, format).ok_or(RowError::Unreadable)?;
        let is_too_long =
            |span: &Option<(usize, usize)>| span.is_some_and(|(start, end)| end - start > longest);
        self.0.iter().position(is_too_long).map_or(Ok(()), |column| Err(RowError::TooLong(column)))
    }

    /// `None` when the row is not what its columns say.
    fn find_all(&mut self, packet: &[u8], columns: &[ColumnDefinition], format: RowFormat) -> Option<()> {
        self.0.clear();
        let mut buffer = ParseBuf(packet);
        let mut nulls = &[][..];
        if format == RowFormat::Binary {
            buffer.checked_eat_u8().filter(|header| *header == 0)?;
            nulls = buffer.checked_eat((columns.len() + 9) / 8)?;
        }
        for (index, column) in columns.iter().enumerate() {
            let is_null = match format {
                RowFormat::Text => buffer.0.first() == Some(&0xfb) && buffer.checked_skip(1),
                RowFormat::Binary => nulls.get((index + 2) / 8)? & (1 << ((index + 2) % 8)) != 0,
            };
            if is_null {
                self.0.push(None);
                continue;
            }
            let value = match fixed_length(column.column_type).filter(|_| format == RowFormat::Binary) {
                Some(length) => buffer.checked_eat(length)?,
                None => buffer.checked_eat_lenenc_str()?,
            };
            let end = packet.len() - buffer.len();
            self.0.push(Some((end - value.len(), end)));
        }
        buffer.is_empty().then_some(())
    }

    /// The bytes of one value; the inner `None` is NULL.
    pub(super) fn value<'p>(&self, packet: &'p [u8], column: usize) -> Option<Option<&'p [u8]>> {
        match self.0.get(column)? {
            None => Some(None),
            Some((start, end)) => packet.get(*start..*end).map(Some),
        }
    }
}

/// How long a value is in the binary format; `None` where its length stands before it.
fn fixed_length(column_type: ColumnType) -> Option<usize> {
    use ColumnType as T;
    match column_type {
        T::MYSQL_TYPE_TINY => Some(1),
        T::MYSQL_TYPE_SHORT | T::MYSQL_TYPE_YEAR => Some(2),
        T::MYSQL_TYPE_LONG | T::MYSQL_TYPE_INT24 | T::MYSQL_TYPE_FLOAT => Some(4),
        T::MYSQL_TYPE_LONGLONG | T::MYSQL_TYPE_DOUBLE => Some(8),
        T::MYSQL_TYPE_NULL => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting() -> Vec<u8> {
        let mut packet = b"\x0a5.5.5-10.11.6-MariaDB\0\x2a\0\0\0abcdefgh\0".to_vec();
        packet.extend_from_slice(&[0x00, 0xaa, 45, 2, 0, 0x08, 0x00, 21]);
        packet.extend_from_slice(&[0; 10]);
        packet.extend_from_slice(b"ijklmnopqrst\0mysql_native_password\0");
        packet
    }

    fn column(column_type: ColumnType, flags: ColumnFlags) -> ColumnDefinition {
        let name = "c".to_owned();
        ColumnDefinition {
            name,
            column_type,
            flags,
            character_set: 63,
            decimals: None,
            width: 0,
            of_table: false,
        }
    }

    /// Every function of this file on every beginning of a packet: none panics.
    fn read_all(packet: &[u8]) {
        let columns = [
            column(ColumnType::MYSQL_TYPE_LONGLONG, ColumnFlags::UNSIGNED_FLAG),
            column(ColumnType::MYSQL_TYPE_DATETIME, ColumnFlags::empty()),
            column(ColumnType::MYSQL_TYPE_TIME, ColumnFlags::empty()),
            column(ColumnType::MYSQL_TYPE_STRING, ColumnFlags::empty()),
        ];
        for end in 0..=packet.len() {
            let packet = &packet[..end];
            let _ = (ServerGreeting::read(packet), LoginReply::read(packet), MySqlError::read(packet));
            let _ = (
                ResultHead::read(packet, &SessionTracking::Changes),
                RowPacket::read(packet, &SessionTracking::Changes),
                PreparedStatement::read(packet),
            );
            let _ = (
                ResultHead::read(packet, &SessionTracking::Nothing),
                RowPacket::read(packet, &SessionTracking::Nothing),
                ColumnDefinition::read(packet),
            );
            for form in [RowFormat::Binary, RowFormat::Text] {
                let mut spans = MySqlValueSpans::default();
                let found = spans.find(packet, &columns, form, 10);
                for at in (0..columns.len()).filter(|_| found.is_ok()) {
                    assert!(spans.value(packet, at).is_some(), "{packet:?}");
                }
            }
        }
    }

    #[test]
    fn no_packet_makes_a_reader_panic() {
        read_all(&greeting());
        // A cheap generator: the same bytes at every run.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        };
        for round in 0..2000 {
            let mut packet: Vec<u8> = (0..60).map(|_| next()).collect();
            packet[0] = [0x00, 0x01, 0x0a, 0xfb, 0xfe, 0xff, 0x02, 0x03][round % 8];
            read_all(&packet);
            let mut changed = greeting();
            let place = usize::from(next()) % changed.len();
            changed[place] = next();
            read_all(&changed);
        }
    }

    #[test]
    fn a_greeting_gives_version_thread_plugin_and_nonce() {
        let read = ServerGreeting::read(&greeting()).unwrap();
        assert_eq!((read.version.as_str(), read.thread), ("5.5.5-10.11.6-MariaDB", 42));
        assert_eq!(
            (read.plugin.as_str(), read.nonce),
            ("mysql_native_password", b"abcdefghijklmnopqrst".to_vec())
        );
        assert!(
            read.capabilities.contains(CapabilityFlags::CLIENT_SSL | CapabilityFlags::CLIENT_PLUGIN_AUTH)
        );
        assert_eq!(ServerGreeting::read(b"\x09old\0"), None);
        // 32 bytes of MariaDB's own, the last one zero.
        let switch = [b"\xfeclient_ed25519\0", &[7; 31][..], &[0]].concat();
        let Some(LoginReply::Switch { plugin, nonce }) = LoginReply::read(&switch) else {
            panic!("{switch:?}")
        };
        assert_eq!((plugin.as_str(), nonce.len()), ("client_ed25519", 32));
    }

    #[test]
    fn counts_and_texts_are_bounded() {
        for (packet, reply) in [
            (&b"\x05"[..], Some(Ok(ResultHead::Rows(5)))),
            (b"\xfc\x00\x10", Some(Ok(ResultHead::Rows(4096)))),
            (b"\xfc\x01\x10", None),
            (b"\xfe\0\0\0\0\x10\0\0\0", None),
            (b"\xfb", None),
            (b"\x05\0", None),
            (b"", None),
            (
                b"\x00\x00\x00\x0a\x00\x00\x00",
                Some(Ok(ResultHead::Done(ResultEnd { more: true, changed_session: false }))),
            ),
        ] {
            assert_eq!(ResultHead::read(packet, &SessionTracking::Nothing), reply, "{packet:?}");
            assert_eq!(ResultHead::read(packet, &SessionTracking::Changes), reply, "{packet:?}");
        }
        assert_eq!(PreparedStatement::read(b"\x00\x01\0\0\0\xff\xff\0\0\0\0\0"), None);
        let error =
            MySqlError::read(&[&b"\xff\x28\x04#42000"[..], "é".repeat(4000).as_bytes()].concat()).unwrap();
        assert_eq!((error.code, error.state.as_str()), (1064, "42000"));
        assert!(
            error.message.len() <= bounded_text::MAX_MESSAGE_BYTES && error.message.ends_with('é'),
            "{}",
            error.message.len()
        );
        let error = MySqlError::read(b"\xff\x10\x04Too many connections").unwrap();
        assert_eq!((error.state.as_str(), error.message.as_str()), ("HY000", "Too many connections"));
        assert_eq!(MySqlError::read(b"\xff\x28\x04#\x1b[31mx").unwrap().state, "HY000");
    }

    #[test]
    fn a_server_that_tracks_tells_of_changes() {
        let end_of = |told: &[u8], tracking: &SessionTracking| {
            let packet = [&[0xfe, 0, 0, 2, 0x40, 0, 0, 0], told].concat();
            match RowPacket::read(&packet, tracking).unwrap().unwrap() {
                RowPacket::End(ResultEnd { more: false, changed_session }) => changed_session,
                other => panic!("{other:?}"),
            }
        };
        let end = |told: &[u8]| end_of(told, &SessionTracking::Changes);
        // A function has set a variable; a setting by its name only, and the number of a transaction; the schema.
        assert!(end(b"\x03\x02\x011"));
        assert!(!end(b"\x08\x00\x02\x011\x03\x02\x011"));
        assert!(end(b"\x04\x01\x02\x01p"));
        // What ends too early.
        assert!(end(b"\x03\x02\x05") && end(b"\x09\x02"));
        // The schema of before, behind a function of another one: alone, and beside a variable.
        let variables = SessionTracking::Variables { schema: "p".to_owned() };
        assert!(!end_of(b"\x07\x01\x02\x01p\x02\x011", &variables));
        assert!(end_of(b"\x0d\x00\x04\x01v\x011\x01\x02\x01p\x02\x011", &variables));
        assert!(end_of(b"\x07\x01\x02\x01q\x02\x011", &variables) && end_of(b"\x03\x02\x011", &variables));
        let unchanged = [0xfe, 0, 0, 2, 0, 0, 0];
        let none = Some(Ok(RowPacket::End(ResultEnd { more: false, changed_session: false })));
        assert_eq!(RowPacket::read(&unchanged, &SessionTracking::Changes), none);
        assert_eq!(RowPacket::read(&[0xfe, 0, 0, 2, 0], &SessionTracking::Nothing), none);
    }

    #[test]
    fn a_row_is_read_in_both_forms() {
        let columns = [
            column(ColumnType::MYSQL_TYPE_TINY, ColumnFlags::UNSIGNED_FLAG),
            column(ColumnType::MYSQL_TYPE_STRING, ColumnFlags::empty()),
            column(ColumnType::MYSQL_TYPE_LONGLONG, ColumnFlags::UNSIGNED_FLAG),
            column(ColumnType::MYSQL_TYPE_DATETIME, ColumnFlags::empty()),
            column(ColumnType::MYSQL_TYPE_TIME, ColumnFlags::empty()),
        ];
        let mut spans = MySqlValueSpans::default();
        let binary = [
            &[0, 0b0000_1000, 200][..],
            &u64::MAX.to_le_bytes(),
            &[7, 0xea, 7, 1, 2, 3, 4, 5],
            &[12, 1, 34, 0, 0, 0, 22, 59, 58, 1, 0, 0, 0],
        ]
        .concat();
        spans.find(&binary, &columns, RowFormat::Binary, 12).unwrap();
        let read = |at: usize| spans.value(&binary, at).unwrap();
        assert_eq!((read(0), read(1)), (Some(&[200][..]), None));
        assert_eq!(read(2), Some(&[0xff; 8][..]));
        assert_eq!(read(3), Some(&[0xea, 7, 1, 2, 3, 4, 5][..]));
        assert_eq!(read(4), Some(&[1, 34, 0, 0, 0, 22, 59, 58, 1, 0, 0, 0][..]));
        let text = b"\x03200\xfb\x011\x0a2026-01-02\x00";
        spans.find(text, &columns, RowFormat::Text, 10).unwrap();
        assert_eq!(spans.value(text, 0), Some(Some(&b"200"[..])));
        assert_eq!((spans.value(text, 1), spans.value(text, 4)), (Some(None), Some(Some(&b""[..]))));
        assert_eq!(spans.find(text, &columns, RowFormat::Text, 9), Err(RowError::TooLong(3)));
        assert!(text.len() <= longest_row(5, 10) && binary.len() <= longest_row(5, 13));
        assert_eq!(longest_row(4096, usize::MAX), usize::MAX);
        // A row that is longer or shorter than its columns.
        let cut = &text[..text.len() - 1];
        assert_eq!(spans.find(cut, &columns, RowFormat::Text, 10), Err(RowError::Unreadable));
        assert_eq!(
            spans.find(b"\x00\x00\x01x", &columns[..1], RowFormat::Binary, 10),
            Err(RowError::Unreadable)
        );
    }
}
