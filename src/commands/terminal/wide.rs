//! How many columns of a terminal a text takes: letters of East Asia and most pictures take two, accents that stand on
//! the letter before them none.

/// Unicode's East Asian Width W and F (UAX #11), in whole blocks; what of a block is not assigned does not matter.
const WIDE: [(u32, u32); 17] = [
    (0x1100, 0x115f),
    (0x231a, 0x231b),
    (0x23e9, 0x23ec),
    (0x2614, 0x2615),
    (0x2705, 0x2705),
    (0x2728, 0x2728),
    (0x274c, 0x274c),
    (0x2753, 0x2757),
    (0x2795, 0x2797),
    (0x2e80, 0x303e),
    (0x3041, 0xa4cf),
    (0xac00, 0xd7a3),
    (0xf900, 0xfaff),
    (0xfe30, 0xfe6f),
    (0xff01, 0xff60),
    (0x1f300, 0x1faff),
    (0x20000, 0x3fffd),
];

/// Marks that combine with what stands before them, joiners, and what chooses how it looks.
const NONE: [(u32, u32); 9] = [
    (0x0300, 0x036f),
    (0x0483, 0x0489),
    (0x0591, 0x05bd),
    (0x064b, 0x065f),
    (0x1ab0, 0x1aff),
    (0x200b, 0x200f),
    (0x20d0, 0x20ff),
    (0xfe00, 0xfe0f),
    (0xfe20, 0xfe2f),
];

/// The columns of one character that is no control character.
pub(super) fn columns_of(c: char) -> usize {
    let code = u32::from(c);
    let within = |ranges: &[(u32, u32)]| ranges.iter().any(|(first, last)| (*first..=*last).contains(&code));
    match code {
        ..0x0300 => 1,
        _ if within(&NONE) => 0,
        _ if within(&WIDE) => 2,
        _ => 1,
    }
}

/// The columns of a text.
#[must_use]
pub fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn a_text_takes_as_many_columns_as_a_terminal_gives_it() {
        let cases = [
            ("", 0),
            ("abc", 3),
            ("é", 1),
            ("e\u{301}", 1),
            ("日本語", 6),
            ("한국", 4),
            ("🍎x", 3),
            ("…␛", 2),
        ];
        for (text, expected) in cases {
            assert_eq!(columns(text), expected, "{text}");
        }
    }
}
