//! Everything on the box that is neither packet filter nor SBC.

pub mod console;
pub mod dhcp;
pub mod dispatch;
pub mod init;
pub mod journal;
pub mod keyholder;
pub mod lent;
pub mod management;
pub mod process;
pub mod store;
pub mod time;
