//! XDP steering program and the tool that loads, replaces, inspects and removes it.
