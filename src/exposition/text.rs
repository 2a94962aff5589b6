//! Text format 0.0.4: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use super::{Family, Format};

/// The format.
pub struct Text;

impl Format for Text {
    fn content_type(&self) -> &'static str {
        "text/plain; version=0.0.4; charset=utf-8"
    }

    fn head(&self, family: &Family, out: &mut Vec<u8>) {
        let _ = (family, out);
        todo!()
    }

    fn end(&self, _: &mut Vec<u8>) {}
}
