//! One sample line: escaping of label values and help, and how numbers are written (DESIGN 5).

/// Appends `value` as both formats write it: integers below 2^63 plain, shortest round-trip floats, `NaN`, `+Inf`, `-Inf`.
pub fn number(value: f64, out: &mut Vec<u8>) {
    let _ = (value, out);
    todo!()
}

/// Appends a label value with `\`, `"` and line feeds escaped.
pub fn label_value(text: &str, out: &mut Vec<u8>) {
    let _ = (text, out);
    todo!()
}
