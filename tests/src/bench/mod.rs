//! Benchmarks: the product and a well-known peer do the same work on the same cores in one run, and what counts is the
//! ratio. `gatehouse-bench` prints a table and one line of JSON.
//!
//! | module | noun |
//! |---|---|
//! | [`relay`] | G.711 calls through our media threads and through rtpengine |
//! | [`generator`] | sends and receives the calls' packets |
//! | [`subject`] | our media threads in a process of their own |
//! | [`rtpengine`] | the peer for media, by its control protocol |
//! | [`sip`] | calls through our whole sbc, and through its peers |
//! | [`sip_peers`] | Kamailio and Sippy |
//! | [`endurance`] | calls for an hour |
//! | [`register`] | phones that register and refresh through our whole sbc |
//! | [`tls`] | TLS handshakes and idle connections of our sbc and of Kamailio |
//! | [`product`] | the real sbc program in its sandbox |
//! | [`firewall`] | a firewall that grants everything |
//! | [`cpu`], [`memory`] | processor time and memory of a process |
//! | [`namespace`] | a loopback that nobody else uses |

pub mod cpu;
pub mod endurance;
pub mod firewall;
pub mod generator;
pub mod memory;
pub mod namespace;
pub mod product;
pub mod register;
pub mod relay;
pub mod rtpengine;
pub mod sip;
pub mod sip_peers;
pub mod subject;
pub mod tls;
