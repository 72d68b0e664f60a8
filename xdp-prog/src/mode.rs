//! How an XDP program is attached: asked for, and granted.

use std::fmt;

use serde::Serialize;

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the driver, before the kernel builds a socket buffer.
    Native,
    /// In the kernel, behind the driver, with a copy: works everywhere, several times slower.
    Generic,
    /// On the NIC. Never asked for here, but another program may be.
    Offload,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Native => "native",
            Mode::Generic => "generic",
            Mode::Offload => "offload",
        })
    }
}
