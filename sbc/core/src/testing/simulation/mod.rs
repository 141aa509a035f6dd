//! Deterministic simulation: two cores back to back, random calls between a peer behind each, a network that loses, doubles
//! and reorders up to three datagrams of ten. Whatever happens, no dialog stays, no lease leaks, and both ends agree on how
//! each call went. With transfers too: who talks to whom at the end is walked through both cores.
//!
//! `GATEHOUSE_SCENARIOS` says how many seeds are tried (500 if not), `GATEHOUSE_SEED` which one alone, with all its messages
//! printed: a failure names its seed.

mod extensions;
mod fabric;
mod node;
mod pairs;
mod peer;
mod scenario;
mod uac;
mod uas;
