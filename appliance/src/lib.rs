//! Everything on the box that is neither packet filter nor SBC.
