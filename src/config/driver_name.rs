//! The driver of an entry: by its name, or by the scheme of its URL.

use crate::driver::connection::AddressSyntax;
use crate::driver::{Driver, Drivers, UNSUPPORTED_DRIVERS};
use crate::file;
use crate::yaml::keys::{Keys, Origin, nearest};

/// The keys that hold a URL, or name a file that does.
const URLS: [&str; 3] = ["url", "connection_string", "url_file"];

/// What a driver's name means.
pub(super) enum DriverName {
    /// A driver of this binary.
    BuiltIn(&'static dyn Driver),
    /// A driver that other exporters have: its targets load as long as nothing needs them.
    NotBuiltIn(&'static str),
    /// A slip for a driver of this binary. That is a fault, and the rest of the entry is read as if it were right.
    Slip(&'static dyn Driver),
}

impl DriverName {
    /// `driver`, else what stands before `:` in the URL, and whether it was that. An entry's own URL counts more than a
    /// `driver` of the defaults.
    pub(super) fn of_entry(keys: &mut Keys<'_>, drivers: &Drivers) -> (Option<DriverName>, bool) {
        let own_url = URLS.into_iter().find(|key| keys.origin(key) == Some(Origin::Own));
        DriverName::names("driver", keys, drivers);
        let written = keys.has("driver");
        let name = keys.text("driver");
        if written && (keys.origin("driver") == Some(Origin::Own) || own_url.is_none()) {
            return (name.and_then(|name| DriverName::find(&name, "driver", keys, drivers)), false);
        }
        let Some(key) = own_url.or_else(|| URLS.into_iter().find(|key| keys.has(key))) else {
            let names: Vec<&str> = drivers.names().collect();
            let hint = Some(format!("drivers: {}", names.join(", ")));
            keys.lacks(
                "",
                &["driver", "url", "connection_string", "url_file"],
                "has neither `driver` nor `url`",
                hint,
            );
            return (None, false);
        };
        (of_url(key, keys, drivers), true)
    }

    /// Says which names `key` may have.
    pub(super) fn names(key: &'static str, keys: &Keys<'_>, drivers: &Drivers) {
        keys.words(key, drivers.names().chain(UNSUPPORTED_DRIVERS.iter().copied()));
    }

    /// Finds the driver called `name`; a wrong name is recorded at `key` with the nearest one.
    pub(super) fn find(name: &str, key: &str, keys: &Keys<'_>, drivers: &Drivers) -> Option<DriverName> {
        let lower = name.to_ascii_lowercase();
        if let Some(driver) = drivers.find(&lower) {
            return Some(DriverName::BuiltIn(driver));
        }
        if let Some(known) = UNSUPPORTED_DRIVERS.iter().copied().find(|known| *known == lower) {
            return Some(DriverName::NotBuiltIn(known));
        }
        let names: Vec<&str> = drivers.names().collect();
        let near = nearest(&lower, names.iter().chain(UNSUPPORTED_DRIVERS).copied());
        let hint = match near {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("drivers: {}", names.join(", ")),
        };
        keys.fault_with_hint(key, format!("there is no driver {name:?}"), hint);
        drivers.find(near?).map(DriverName::Slip)
    }

    /// The driver's one name: the label value `driver`.
    pub(super) fn label(&self) -> &'static str {
        match self {
            DriverName::BuiltIn(driver) | DriverName::Slip(driver) => {
                driver.names().first().copied().unwrap_or_default()
            }
            DriverName::NotBuiltIn(name) => name,
        }
    }
}

fn of_url(key: &'static str, keys: &mut Keys<'_>, drivers: &Drivers) -> Option<DriverName> {
    let url = if key == "url_file" {
        let path = keys.file(key)?;
        keys.valid(key, file::small_text(&path))?
    } else {
        keys.secret(key)?.expose().to_owned()
    };
    // Only what stands before `:` may be shown, and only where it looks like a scheme: the rest may be a secret.
    let (message, hint) = match AddressSyntax::of(&url) {
        AddressSyntax::Url(scheme) if scheme == "jdbc" => {
            ("is a URL for Java", "leave `jdbc:` out: DRIVER://USER@HOST/DATABASE")
        }
        AddressSyntax::Url(scheme)
            if scheme.split_once('+').is_some_and(|(name, _)| drivers.find(name).is_some()) =>
        {
            ("is a URL for Python", "leave out the `+` and what follows it: DRIVER://USER@HOST/DATABASE")
        }
        AddressSyntax::Url(scheme) => return DriverName::find(&scheme, key, keys, drivers),
        AddressSyntax::Keywords => return DriverName::find("postgres", key, keys, drivers),
        AddressSyntax::Go => {
            ("is the form of the Go driver for MySQL", "write mysql://USER:PASSWORD@HOST:PORT/DATABASE")
        }
        AddressSyntax::Unknown => ("is not a URL", "write DRIVER://USER@HOST/DATABASE or sqlite:PATH"),
    };
    keys.fault_with_hint(key, message, hint);
    None
}
