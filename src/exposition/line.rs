//! Parts of the lines of a page, in bytes: escaped label text, numbers, the start of a head. Appends only and allocates
//! nothing else (`docs/metrics.md` has the rules).

use crate::name::LabelName;
use crate::value::float;

/// Appends `value` as both formats write it: integers below 2^63 plain, shortest round-trip floats, `NaN`, `+Inf`, `-Inf`.
pub fn number(value: f64, out: &mut Vec<u8>) {
    float::write(value, |piece| out.extend_from_slice(piece.as_bytes()));
}

/// Appends a bound or a quantile: as [`number`], but an integer gets `.0` (`1.0`, the same in both formats).
fn bound(value: f64, out: &mut Vec<u8>) {
    let start = out.len();
    number(value, out);
    let plain = out.iter().skip(start).all(|byte| byte.is_ascii_digit() || *byte == b'-');
    if plain {
        out.extend_from_slice(b".0");
    }
}

/// Appends a label value with `\`, `"` and line feeds escaped.
pub fn label_value(text: &str, out: &mut Vec<u8>) {
    escaped(text, |byte| matches!(byte, b'\\' | b'"' | b'\n'), out);
}

/// Appends a help text with `\` and line feeds escaped (0.0.4 does not escape `"` there).
pub fn help(text: &str, out: &mut Vec<u8>) {
    escaped(text, |byte| matches!(byte, b'\\' | b'\n'), out);
}

fn escaped(text: &str, special: impl Fn(u8) -> bool, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    // A loop over every byte that does not stop early is vector code: several times faster than a search.
    if !rest.iter().fold(false, |found, byte| found | special(*byte)) {
        return out.extend_from_slice(rest);
    }
    while let Some((at, byte)) = rest.iter().enumerate().find(|(_, byte)| special(**byte)) {
        out.extend_from_slice(rest.get(..at).unwrap_or_default());
        out.extend_from_slice(&[b'\\', if *byte == b'\n' { b'n' } else { *byte }]);
        rest = rest.get(at + 1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// Appends `# KEYWORD name `: the start of a line that describes a family.
pub(super) fn describe(keyword: &str, name: &str, out: &mut Vec<u8>) {
    for part in ["# ", keyword, " ", name, " "] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Appends `,name="value"`, the value escaped. Every label starts with a comma; the line writer makes the first a `{`.
pub fn label(name: &str, value: &str, out: &mut Vec<u8>) {
    open_label(name, out);
    label_value(value, out);
    out.push(b'"');
}

/// What [`label`] appends.
pub fn label_bytes(name: &LabelName, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    label(name.as_str(), value, &mut out);
    out
}

/// `,name="bound"`: the label of a bucket or a quantile.
pub fn bound_label(name: &LabelName, value: f64) -> Vec<u8> {
    let mut out = Vec::new();
    open_label(name.as_str(), &mut out);
    bound(value, &mut out);
    out.push(b'"');
    out
}

/// Appends `,name="`: the value and its closing quote follow.
pub fn open_label(name: &str, out: &mut Vec<u8>) {
    out.push(b',');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
}

/// The labels that all samples of one row share, as they stand on a line, each with a comma before it.
///
/// Label names are in one order in every line of a family, so that equal label sets are equal bytes. `gap` is where the
/// label that the metric type adds (the `value_label`, `le`) goes.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelBytes {
    bytes: Vec<u8>,
    gap: usize,
}

impl Clone for LabelBytes {
    fn clone(&self) -> Self {
        LabelBytes { bytes: self.bytes.clone(), gap: self.gap }
    }

    /// Keeps the memory: the labels of the next row cost no allocation.
    fn clone_from(&mut self, source: &Self) {
        self.bytes.clone_from(&source.bytes);
        self.gap = source.gap;
    }
}

impl LabelBytes {
    /// No labels, and capacity for so many bytes of them.
    pub fn with_capacity(bytes: usize) -> Self {
        LabelBytes { bytes: Vec::with_capacity(bytes), gap: 0 }
    }

    /// Forgets the labels and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.gap = 0;
    }

    /// Appends one label.
    pub fn push(&mut self, name: &LabelName, value: &str) {
        label(name.as_str(), value, &mut self.bytes);
    }

    /// The bytes, to append what [`label`] writes.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The label that the type adds goes where the labels end now.
    pub fn mark_gap(&mut self) {
        self.gap = self.bytes.len();
    }

    /// What is before the label that the type adds, and what after it.
    pub fn around_gap(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at_checked(self.gap).unwrap_or((&self.bytes, &[]))
    }

    /// All labels without the one that the type adds: equal for equal label sets of one metric.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn label_values_escape_three_characters_and_no_other() {
        let cases = [
            ("", ""),
            ("plain é 💚", "plain é 💚"),
            ("a\"b", "a\\\"b"),
            ("\\", "\\\\"),
            ("\n\n", "\\n\\n"),
            ("\\n", "\\\\n"),
            ("end\\", "end\\\\"),
            ("\t\r\u{0}\u{7f}\u{2028}", "\t\r\u{0}\u{7f}\u{2028}"),
        ];
        for (text, expected) in cases {
            assert_eq!(written(|out| label_value(text, out)), expected, "{text:?}");
        }
    }

    #[test]
    fn a_help_text_keeps_its_quotes() {
        assert_eq!(
            written(|out| help("the \"real\" C:\\ path\nand more", out)),
            "the \"real\" C:\\\\ path\\nand more"
        );
    }

    #[test]
    fn bounds_look_like_floats() {
        let cases = [(1.0, "1.0"), (0.005, "0.005"), (-1.0, "-1.0"), (1e20, "1e20"), (f64::INFINITY, "+Inf")];
        for (value, expected) in cases {
            assert_eq!(written(|out| bound(value, out)), expected);
        }
    }
}
