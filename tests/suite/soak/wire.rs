//! A wire to a server that refuses, stays silent, resets, and cuts or stops an answer in the middle of a row.

use super::chance::Chance;
use super::part::{Fault, Part};
use crate::proxy::{Mode, Proxy};

/// The wire behind one target.
pub(crate) struct Wire {
    target: &'static str,
    proxy: Proxy,
}

impl Wire {
    /// Listens on a port of its own and passes everything to a port of this machine.
    pub(crate) fn to(upstream: u16, target: &'static str) -> Self {
        Wire { target, proxy: Proxy::before(upstream) }
    }

    /// Where the exporter connects.
    pub(crate) fn port(&self) -> u16 {
        self.proxy.port()
    }
}

impl Part for Wire {
    fn target(&self) -> &'static str {
        self.target
    }

    fn fail(&mut self, chance: &mut Chance) -> Fault {
        let bytes = usize::try_from(chance.between(1, 4000)).expect("small");
        let modes = [
            (2, (Mode::Refuse, "a connect refused")),
            (1, (Mode::Freeze, "a connection that stays silent")),
            (3, (Mode::StallAfter(bytes), "half an answer, then silence")),
            (3, (Mode::CutAfter(bytes), "an answer cut short")),
            (3, (Mode::ResetAfter(bytes), "a reset")),
        ];
        let (mode, name) = chance.pick(&modes);
        self.proxy.set(mode);
        Fault { name, hangs: matches!(mode, Mode::Freeze | Mode::StallAfter(_)) }
    }

    fn heal(&mut self) {
        self.proxy.set(Mode::Pass);
    }
}
