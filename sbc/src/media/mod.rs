//! Media threads: one for each core, each with its own epoll and its own streams. All streams of a call run on one of
//! them, so that no packet ever meets a lock.
//!
//! | module | noun |
//! |---|---|
//! | [`pool`] | the signalling thread's end: which stream is where |
//! | [`thread`] | the loop: wait, receive, judge, send |
//! | [`batch`] | system calls for more than one packet |
//! | [`counters`] | what the threads counted |
//! | [`lease`] | lent sockets by lease |

pub mod batch;
pub mod counters;
pub mod lease;
pub mod pool;
pub mod thread;
