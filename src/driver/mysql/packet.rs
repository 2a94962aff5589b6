//! What the packets of MySQL's protocol say: bytes in, a value or nothing out. No packet makes one of these functions
//! panic, reserve more than its own length, or give a text longer than its bound.
//!
//! Source: MySQL's "Client/Server Protocol" and MariaDB's "Clients & Utilities" documentation. Knows no stream; `link`
//! finds where a packet begins and ends.

use mysql_common::constants::{CapabilityFlags, ColumnFlags, ColumnType, StatusFlags};

use crate::driver::bounded_text;

/// The longest name of a column: MySQL has 256 characters.
const LONGEST_COLUMN: usize = 1024;
/// More columns than any server gives.
pub(super) const MOST_COLUMNS: u64 = 4096;

/// Reads the fields of a packet one after the other; `None` where it ends too early.
#[derive(Debug, Clone)]
pub(super) struct Fields<'p>(pub(super) &'p [u8]);

impl<'p> Fields<'p> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    /// One byte.
    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    /// An unsigned 16-bit number.
    pub(super) fn short(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    /// An unsigned 32-bit number.
    pub(super) fn long(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    /// So many bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'p [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    /// A number of variable length.
    pub(super) fn number(&mut self) -> Option<u64> {
        match self.byte()? {
            small @ 0..=0xfa => Some(small.into()),
            0xfc => self.short().map(u64::from),
            0xfd => self.take().map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]).into()),
            0xfe => self.take().map(u64::from_le_bytes),
            _ => None,
        }
    }

    /// Bytes behind their length.
    pub(super) fn counted(&mut self) -> Option<&'p [u8]> {
        let count = usize::try_from(self.number()?).ok()?;
        self.bytes(count)
    }

    /// Bytes up to a zero byte, or to the end where there is none.
    fn take_to_zero(&mut self) -> &'p [u8] {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        let (head, rest) = self.0.split_at(end);
        self.0 = rest.get(1..).unwrap_or_default();
        head
    }
}

/// At most so many bytes of a text, with U+FFFD for what is not UTF-8.
fn text(bytes: &[u8], longest: usize) -> String {
    let bytes = bytes.get(..longest).unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    // A character that was cut in two.
    let whole = if bytes.len() == longest { text.trim_end_matches('\u{fffd}') } else { &text };
    whole.to_owned()
}

/// The server's first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Greeting {
    /// As the server, or the proxy before it, writes it.
    pub(super) version: String,
    /// The number of the server's thread for this connection.
    pub(super) thread: u32,
    /// What the server can do.
    pub(super) capabilities: CapabilityFlags,
    /// The login plugin that the server begins with.
    pub(super) plugin: String,
    /// What a password is mixed with.
    pub(super) nonce: Vec<u8>,
}

impl Greeting {
    /// Reads protocol version 10.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let mut fields = Fields(packet);
        if fields.byte()? != 10 {
            return None;
        }
        let version = text(fields.take_to_zero(), bounded_text::MAX_NAME_BYTES);
        let thread = fields.long()?;
        let mut nonce = fields.bytes(8)?.to_vec();
        fields.byte()?;
        let low = fields.short()?;
        let (_collation, _status) = (fields.byte()?, fields.short()?);
        let high = fields.short()?;
        let length = fields.byte()?;
        fields.bytes(10)?;
        let capabilities = CapabilityFlags::from_bits_truncate(u32::from(high) << 16 | u32::from(low));
        if capabilities.contains(CapabilityFlags::CLIENT_SECURE_CONNECTION) {
            let rest = usize::from(length.saturating_sub(8)).max(13);
            nonce.extend_from_slice(fields.bytes(rest.min(fields.0.len()))?);
        }
        let plugin = text(fields.take_to_zero(), bounded_text::MAX_NAME_BYTES);
        Some(Greeting { version, thread, capabilities, plugin, nonce: without_zero(&nonce).to_vec() })
    }
}

/// A nonce of 20 bytes ends with a zero byte that is no part of it; others (MariaDB's have 32) end as they like.
fn without_zero(nonce: &[u8]) -> &[u8] {
    match nonce {
        [nonce @ .., 0] if nonce.len() == 20 => nonce,
        nonce => nonce,
    }
}

/// What the server says during a login, after the greeting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LoginPacket<'p> {
    /// The login is through.
    Done,
    /// The account has another plugin.
    Switch {
        /// Its name.
        plugin: String,
        /// What a password is mixed with.
        nonce: &'p [u8],
    },
    /// Something of the plugin's own.
    More(&'p [u8]),
    /// The account has another factor after this one, with this plugin.
    NextFactor(String),
    /// The plugin of before MySQL 4.1.
    OldPassword,
    /// The login failed.
    Refused(ServerError),
}

impl<'p> LoginPacket<'p> {
    /// Reads a packet of a login; `None` for an empty one.
    pub(super) fn read(packet: &'p [u8]) -> Option<Self> {
        let mut fields = Fields(packet);
        Some(match fields.byte()? {
            0x00 => LoginPacket::Done,
            0x01 => LoginPacket::More(fields.0),
            0x02 => LoginPacket::NextFactor(text(fields.take_to_zero(), bounded_text::MAX_NAME_BYTES)),
            0xfe if fields.0.is_empty() => LoginPacket::OldPassword,
            0xfe => {
                let plugin = text(fields.take_to_zero(), bounded_text::MAX_NAME_BYTES);
                LoginPacket::Switch { plugin, nonce: without_zero(fields.0) }
            }
            0xff => LoginPacket::Refused(ServerError::read(packet)?),
            // MariaDB's first servers with `parsec` leave out the byte that says so.
            _ => LoginPacket::More(packet),
        })
    }
}

/// The server's objection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerError {
    pub(super) code: u16,
    /// Five letters and digits; `HY000` where the server sends none.
    pub(super) state: String,
    pub(super) message: String,
}

impl ServerError {
    /// Reads a packet that begins with `ff`.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let mut fields = Fields(packet);
        fields.byte()?;
        let code = fields.short()?;
        let state = match fields.0 {
            [b'#', state @ ..] if state.len() >= 5 => {
                fields.bytes(6)?;
                state.get(..5)?
            }
            _ => b"HY000",
        };
        // Anything else would stand in logs and on pages as the server likes.
        let legal = state.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        let state = if legal { text(state, 5) } else { "HY000".to_owned() };
        Some(ServerError { code, state, message: text(fields.0, bounded_text::MAX_MESSAGE_BYTES) })
    }
}

/// What stands at the end of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    /// Another answer to the same command follows.
    pub(super) more: bool,
    /// The session is not what it was: a variable, the schema, a temporary table. Never where the server does not tell.
    pub(super) changed: bool,
}

impl Ending {
    /// Reads what stands behind the first byte.
    fn read(mut fields: Fields<'_>, tracks: bool) -> Option<Self> {
        let (_affected, _id) = (fields.number()?, fields.number()?);
        let status = StatusFlags::from_bits_truncate(fields.short()?);
        let more = status.contains(StatusFlags::SERVER_MORE_RESULTS_EXISTS);
        let tells = tracks && status.contains(StatusFlags::SERVER_SESSION_STATE_CHANGED);
        // What cannot be read may be a change.
        Some(Ending { more, changed: tells && has_change(fields).unwrap_or(true) })
    }

    /// Reads the form without anything about the session, behind its first byte.
    fn read_short(mut fields: Fields<'_>) -> Option<Self> {
        let _warnings = fields.short()?;
        let status = StatusFlags::from_bits_truncate(fields.short()?);
        Some(Ending { more: status.contains(StatusFlags::SERVER_MORE_RESULTS_EXISTS), changed: false })
    }
}

/// Whether what the server tells about the session is a change; there are also numbers of transactions.
fn has_change(mut fields: Fields<'_>) -> Option<bool> {
    const SCHEMA: u8 = 1;
    const STATE: u8 = 2;
    let _warnings = fields.short()?;
    let _text = fields.counted()?;
    let mut told = Fields(fields.counted()?);
    let mut changed = false;
    while !told.0.is_empty() {
        changed |= matches!(told.byte()?, SCHEMA | STATE);
        told.counted()?;
    }
    Some(changed)
}

/// The first packet of a good answer to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// Done, no rows.
    Done(Ending),
    /// So many columns, then rows.
    Rows(usize),
}

impl Reply {
    /// Reads it, or the server's objection, which ends the command; `None` also for a request to send a file, and for
    /// more columns than there may be. `tracks`: the server tells what becomes of the session.
    pub(super) fn read(packet: &[u8], tracks: bool) -> Option<Result<Self, ServerError>> {
        match packet.first()? {
            0x00 => Some(Ok(Reply::Done(Ending::read(Fields(packet.get(1..)?), tracks)?))),
            0xff => ServerError::read(packet).map(Err),
            _ => {
                let mut fields = Fields(packet);
                let count = fields.number().filter(|count| (1..=MOST_COLUMNS).contains(count))?;
                let count = usize::try_from(count).ok()?;
                fields.0.is_empty().then_some(Ok(Reply::Rows(count)))
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
    End(Ending),
}

impl RowPacket {
    /// Reads its kind, or the server's objection, which ends the command; `None` for an empty packet. `tracks` as in
    /// [`Reply::read`].
    pub(super) fn read(packet: &[u8], tracks: bool) -> Option<Result<Self, ServerError>> {
        // A row that begins so has a value of 16 MiB and more.
        const SHORTEST_ROW: usize = 1 << 24;
        match packet.first()? {
            0xfe if tracks && packet.len() < SHORTEST_ROW => {
                Some(Ok(RowPacket::End(Ending::read(Fields(packet.get(1..)?), tracks)?)))
            }
            0xfe if packet.len() < 9 => {
                Some(Ok(RowPacket::End(Ending::read_short(Fields(packet.get(1..)?))?)))
            }
            0xff => ServerError::read(packet).map(Err),
            _ => Some(Ok(RowPacket::Row)),
        }
    }
}

/// True for the packet behind the definitions of columns, which servers that track do not send.
pub(super) fn is_end(packet: &[u8]) -> bool {
    matches!(packet, [0xfe, ..]) && packet.len() < 9
}

/// A statement that the server has prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prepared {
    /// The server's number of it.
    pub(super) id: u32,
    /// How many columns its result has; none where the server cannot tell yet.
    pub(super) columns: usize,
    /// How many parameters it wants.
    pub(super) params: usize,
}

impl Prepared {
    /// Reads the first packet of an answer, or the server's objection.
    pub(super) fn read(packet: &[u8]) -> Option<Result<Self, ServerError>> {
        let mut fields = Fields(packet);
        match fields.byte()? {
            0x00 => {}
            0xff => return ServerError::read(packet).map(Err),
            _ => return None,
        }
        let id = fields.long()?;
        let (columns, params) = (fields.short()?, fields.short()?);
        let prepared = Prepared { id, columns: columns.into(), params: params.into() };
        (u64::from(columns) <= MOST_COLUMNS).then_some(Ok(prepared))
    }
}

/// The definition of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) column_type: ColumnType,
    pub(super) flags: ColumnFlags,
    /// The number of its collation.
    pub(super) character_set: u16,
    pub(super) decimals: u8,
}

impl Column {
    /// Reads a definition.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let mut fields = Fields(packet);
        let (_catalog, _schema, _table, _original_table) =
            (fields.counted()?, fields.counted()?, fields.counted()?, fields.counted()?);
        let name = text(fields.counted()?, LONGEST_COLUMN);
        let _original_name = fields.counted()?;
        let mut fields = Fields(fields.counted()?);
        let character_set = fields.short()?;
        let _length = fields.long()?;
        let column_type = ColumnType::try_from(fields.byte()?).ok()?;
        let flags = ColumnFlags::from_bits_truncate(fields.short()?);
        Some(Column { name, column_type, flags, character_set, decimals: fields.byte()? })
    }
}

/// In which of the two forms the values of a row are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Of a prepared statement.
    Binary,
    /// Of a statement that was sent as text.
    Text,
}

/// Why a row is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// It is not what its columns say.
    Unreadable,
    /// The value of this column is longer than it may be.
    TooLong(usize),
}

/// The length of the longest row whose values are not longer than `longest`.
pub(super) fn longest_row(columns: usize, longest: usize) -> usize {
    // Each with its length before it; then the header and the marks of NULLs.
    longest.saturating_add(9).saturating_mul(columns).saturating_add(columns / 8 + 3)
}

/// Where one value lies in a row's packet; `None` is NULL.
type Span = Option<(usize, usize)>;

/// The places of one row's values after the other's, in one allocation.
#[derive(Debug, Default)]
pub(super) struct Spans(Vec<Span>);

impl Spans {
    /// Finds the values of a row, of which none may be longer than `longest`. A value of variable length lies without
    /// its length.
    pub(super) fn find(
        &mut self,
        packet: &[u8],
        columns: &[Column],
        form: Form,
        longest: usize,
    ) -> Result<(), Misfit> {
        self.find_all(packet, columns, form).ok_or(Misfit::Unreadable)?;
        let length = |span: &Span| span.map_or(0, |(start, end)| end - start);
        match self.0.iter().position(|span| length(span) > longest) {
            Some(column) => Err(Misfit::TooLong(column)),
            None => Ok(()),
        }
    }

    /// `None` when the row is not what its columns say.
    fn find_all(&mut self, packet: &[u8], columns: &[Column], form: Form) -> Option<()> {
        self.0.clear();
        let mut fields = Fields(packet);
        let nulls = match form {
            Form::Text => &[][..],
            Form::Binary => {
                fields.byte().filter(|header| *header == 0)?;
                fields.bytes((columns.len() + 9) / 8)?
            }
        };
        for (index, column) in columns.iter().enumerate() {
            let is_null = match form {
                Form::Text => fields.0.first() == Some(&0xfb),
                Form::Binary => nulls.get((index + 2) / 8)? & (1 << ((index + 2) % 8)) != 0,
            };
            if is_null {
                if form == Form::Text {
                    fields.byte()?;
                }
                self.0.push(None);
                continue;
            }
            let value = match fixed_length(column.column_type).filter(|_| form == Form::Binary) {
                Some(length) => fields.bytes(length)?,
                None => fields.counted()?,
            };
            let end = packet.len() - fields.0.len();
            self.0.push(Some((end - value.len(), end)));
        }
        fields.0.is_empty().then_some(())
    }

    /// The bytes of one value; the inner `None` is NULL.
    pub(super) fn value<'p>(&self, packet: &'p [u8], column: usize) -> Option<Option<&'p [u8]>> {
        match self.0.get(column)? {
            None => Some(None),
            Some((start, end)) => packet.get(*start..*end).map(Some),
        }
    }
}

/// How long a value is in the binary form; `None` where its length stands before it.
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

/// One value of a row, borrowed from its packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'p> {
    Null,
    Int(i64),
    /// Only what is above the largest [`Value::Int`].
    UInt(u64),
    Float(f32),
    Double(f64),
    /// Year, month, day, hour, minute, second, microseconds.
    Date(u16, u8, u8, u8, u8, u8, u32),
    /// Negative, days, hours, minutes, seconds, microseconds.
    Time(bool, u32, u8, u8, u8, u32),
    /// Everything else, and everything in the text form.
    Bytes(&'p [u8]),
}

impl<'p> Value<'p> {
    /// Reads the bytes that [`Spans`] found; `None` when they are not what the column says.
    pub(super) fn read(bytes: &'p [u8], column: &Column, form: Form) -> Option<Self> {
        use ColumnType as T;
        if form == Form::Text {
            return Some(Value::Bytes(bytes));
        }
        let unsigned = column.flags.contains(ColumnFlags::UNSIGNED_FLAG);
        let mut fields = Fields(bytes);
        Some(match column.column_type {
            T::MYSQL_TYPE_TINY if unsigned => Value::Int(fields.byte()?.into()),
            T::MYSQL_TYPE_TINY => Value::Int(i8::from_le_bytes(fields.take()?).into()),
            T::MYSQL_TYPE_SHORT | T::MYSQL_TYPE_YEAR if unsigned => Value::Int(fields.short()?.into()),
            T::MYSQL_TYPE_SHORT | T::MYSQL_TYPE_YEAR => Value::Int(i16::from_le_bytes(fields.take()?).into()),
            T::MYSQL_TYPE_LONG | T::MYSQL_TYPE_INT24 if unsigned => Value::Int(fields.long()?.into()),
            T::MYSQL_TYPE_LONG | T::MYSQL_TYPE_INT24 => Value::Int(i32::from_le_bytes(fields.take()?).into()),
            T::MYSQL_TYPE_LONGLONG if unsigned => {
                let number = u64::from_le_bytes(fields.take()?);
                i64::try_from(number).map_or(Value::UInt(number), Value::Int)
            }
            T::MYSQL_TYPE_LONGLONG => Value::Int(i64::from_le_bytes(fields.take()?)),
            T::MYSQL_TYPE_FLOAT => Value::Float(f32::from_le_bytes(fields.take()?)),
            T::MYSQL_TYPE_DOUBLE => Value::Double(f64::from_le_bytes(fields.take()?)),
            T::MYSQL_TYPE_NULL => Value::Null,
            T::MYSQL_TYPE_DATE
            | T::MYSQL_TYPE_NEWDATE
            | T::MYSQL_TYPE_DATETIME
            | T::MYSQL_TYPE_DATETIME2
            | T::MYSQL_TYPE_TIMESTAMP
            | T::MYSQL_TYPE_TIMESTAMP2 => date(fields)?,
            T::MYSQL_TYPE_TIME | T::MYSQL_TYPE_TIME2 => time(fields)?,
            _ => Value::Bytes(bytes),
        })
    }
}

/// What is left out at the end is zero: nothing, the date, the seconds, or all.
fn date(mut fields: Fields<'_>) -> Option<Value<'static>> {
    let length = fields.0.len();
    let (mut day, mut clock, mut micros) = ((0, 0, 0), (0, 0, 0), 0);
    if length > 0 {
        day = (fields.short()?, fields.byte()?, fields.byte()?);
    }
    if length > 4 {
        clock = (fields.byte()?, fields.byte()?, fields.byte()?);
    }
    if length > 7 {
        micros = fields.long()?;
    }
    let (year, month, day) = day;
    let (hour, minute, second) = clock;
    fields.0.is_empty().then_some(Value::Date(year, month, day, hour, minute, second, micros))
}

fn time(mut fields: Fields<'_>) -> Option<Value<'static>> {
    let length = fields.0.len();
    let (mut negative, mut days, mut clock, mut micros) = (false, 0, (0, 0, 0), 0);
    if length > 0 {
        negative = fields.byte()? != 0;
        days = fields.long()?;
        clock = (fields.byte()?, fields.byte()?, fields.byte()?);
    }
    if length > 8 {
        micros = fields.long()?;
    }
    let (hours, minutes, seconds) = clock;
    fields.0.is_empty().then_some(Value::Time(negative, days, hours, minutes, seconds, micros))
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

    fn column(column_type: ColumnType, flags: ColumnFlags) -> Column {
        Column { name: "c".to_owned(), column_type, flags, character_set: 63, decimals: 0 }
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
            let _ = (Greeting::read(packet), LoginPacket::read(packet), ServerError::read(packet));
            let _ = (Reply::read(packet, true), RowPacket::read(packet, true), Prepared::read(packet));
            let _ = (Reply::read(packet, false), RowPacket::read(packet, false), Column::read(packet));
            for form in [Form::Binary, Form::Text] {
                let mut spans = Spans::default();
                let found = spans.find(packet, &columns, form, 10);
                for (at, column) in columns.iter().enumerate() {
                    let Some(Some(bytes)) = spans.value(packet, at) else { continue };
                    assert!(
                        Value::read(bytes, column, form).is_some() || found.is_err() || form == Form::Binary
                    );
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
        let read = Greeting::read(&greeting()).unwrap();
        assert_eq!((read.version.as_str(), read.thread), ("5.5.5-10.11.6-MariaDB", 42));
        assert_eq!(
            (read.plugin.as_str(), read.nonce),
            ("mysql_native_password", b"abcdefghijklmnopqrst".to_vec())
        );
        assert!(
            read.capabilities.contains(CapabilityFlags::CLIENT_SSL | CapabilityFlags::CLIENT_PLUGIN_AUTH)
        );
        assert_eq!(Greeting::read(b"\x09old\0"), None);
        // 32 bytes of MariaDB's own, the last one zero.
        let switch = [b"\xfeclient_ed25519\0", &[7; 31][..], &[0]].concat();
        let Some(LoginPacket::Switch { plugin, nonce }) = LoginPacket::read(&switch) else {
            panic!("{switch:?}")
        };
        assert_eq!((plugin.as_str(), nonce.len()), ("client_ed25519", 32));
    }

    #[test]
    fn counts_and_texts_are_bounded() {
        for (packet, reply) in [
            (&b"\x05"[..], Some(Ok(Reply::Rows(5)))),
            (b"\xfc\x00\x10", Some(Ok(Reply::Rows(4096)))),
            (b"\xfc\x01\x10", None),
            (b"\xfe\0\0\0\0\x10\0\0\0", None),
            (b"\xfb", None),
            (b"\x05\0", None),
            (b"", None),
            (b"\x00\x00\x00\x0a\x00\x00\x00", Some(Ok(Reply::Done(Ending { more: true, changed: false })))),
        ] {
            assert_eq!(Reply::read(packet, false), reply, "{packet:?}");
            assert_eq!(Reply::read(packet, true), reply, "{packet:?}");
        }
        assert_eq!(Prepared::read(b"\x00\x01\0\0\0\xff\xff\0\0\0\0\0"), None);
        let error =
            ServerError::read(&[&b"\xff\x28\x04#42000"[..], "é".repeat(4000).as_bytes()].concat()).unwrap();
        assert_eq!((error.code, error.state.as_str()), (1064, "42000"));
        assert!(
            error.message.len() <= bounded_text::MAX_MESSAGE_BYTES && error.message.ends_with('é'),
            "{}",
            error.message.len()
        );
        let error = ServerError::read(b"\xff\x10\x04Too many connections").unwrap();
        assert_eq!((error.state.as_str(), error.message.as_str()), ("HY000", "Too many connections"));
        assert_eq!(ServerError::read(b"\xff\x28\x04#\x1b[31mx").unwrap().state, "HY000");
    }

    #[test]
    fn a_server_that_tracks_tells_of_changes() {
        let end = |told: &[u8]| {
            let packet = [&[0xfe, 0, 0, 2, 0x40, 0, 0, 0], told].concat();
            match RowPacket::read(&packet, true).unwrap().unwrap() {
                RowPacket::End(Ending { more: false, changed }) => changed,
                other => panic!("{other:?}"),
            }
        };
        // A function has set a variable; a setting by its name only, and the number of a transaction; the schema.
        assert!(end(b"\x03\x02\x011"));
        assert!(!end(b"\x08\x00\x02\x011\x03\x02\x011"));
        assert!(end(b"\x04\x01\x02\x01p"));
        // What ends too early.
        assert!(end(b"\x03\x02\x05") && end(b"\x09\x02"));
        let unchanged = [0xfe, 0, 0, 2, 0, 0, 0];
        let none = Some(Ok(RowPacket::End(Ending { more: false, changed: false })));
        assert_eq!(RowPacket::read(&unchanged, true), none);
        assert_eq!(RowPacket::read(&[0xfe, 0, 0, 2, 0], false), none);
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
        let mut spans = Spans::default();
        let binary = [
            &[0, 0b0000_1000, 200][..],
            &u64::MAX.to_le_bytes(),
            &[7, 0xea, 7, 1, 2, 3, 4, 5],
            &[12, 1, 34, 0, 0, 0, 22, 59, 58, 1, 0, 0, 0],
        ]
        .concat();
        spans.find(&binary, &columns, Form::Binary, 12).unwrap();
        let read = |at: usize| {
            let bytes = spans.value(&binary, at).unwrap();
            bytes.map(|bytes| Value::read(bytes, &columns[at], Form::Binary).unwrap())
        };
        assert_eq!(read(0), Some(Value::Int(200)));
        assert_eq!(read(1), None);
        assert_eq!(read(2), Some(Value::UInt(u64::MAX)));
        assert_eq!(read(3), Some(Value::Date(2026, 1, 2, 3, 4, 5, 0)));
        assert_eq!(read(4), Some(Value::Time(true, 34, 22, 59, 58, 1)));
        let text = b"\x03200\xfb\x011\x0a2026-01-02\x00";
        spans.find(text, &columns, Form::Text, 10).unwrap();
        assert_eq!(spans.value(text, 0), Some(Some(&b"200"[..])));
        assert_eq!((spans.value(text, 1), spans.value(text, 4)), (Some(None), Some(Some(&b""[..]))));
        assert_eq!(spans.find(text, &columns, Form::Text, 9), Err(Misfit::TooLong(3)));
        assert!(text.len() <= longest_row(5, 10) && binary.len() <= longest_row(5, 13));
        assert_eq!(longest_row(4096, usize::MAX), usize::MAX);
        // A row that is longer or shorter than its columns.
        let cut = &text[..text.len() - 1];
        assert_eq!(spans.find(cut, &columns, Form::Text, 10), Err(Misfit::Unreadable));
        assert_eq!(spans.find(b"\x00\x00\x01x", &columns[..1], Form::Binary, 10), Err(Misfit::Unreadable));
    }
}
