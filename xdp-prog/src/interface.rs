//! A network interface of this network namespace.

use std::ffi::CString;

use crate::error::Error;
use crate::kernel::{self, XdpInfo};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    name: String,
    index: u32,
}

impl Interface {
    /// Looks an interface up in this thread's network namespace.
    pub fn named(name: &str) -> Result<Self, Error> {
        let missing = || Error::NoInterface { interface: name.to_string() };
        let c_name = CString::new(name).map_err(|_| missing())?;
        let index = kernel::interface_index(&c_name).map_err(|_| missing())?;
        Ok(Self { name: name.to_string(), index })
    }

    /// The interface of this thread's network namespace that has the index, whatever it is called.
    pub(crate) fn of_index(index: u32) -> Option<Self> {
        Some(Self { name: kernel::interface_name(index).ok()?, index })
    }

    /// The name, as `ip link` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The index in its network namespace.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// What is attached to it.
    pub(crate) fn xdp(&self) -> Result<XdpInfo, Error> {
        kernel::xdp_info(self.index).map_err(|source| Error::Bpf {
            action: format!("ask what is attached to {}", self.name),
            source,
            hint: "",
        })
    }
}
