//! Settings and chains as rustls wants them, made anew when either changes; a handshake that has begun, and every
//! connection after it, keeps what it began with.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use broker_proto::settings::{Listener, Named, PeerTls, Settings, Transport, ZoneId};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, ServerConnection,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName},
    server::{NoServerSessionStorage, ResolvesServerCert, StoresServerSessions},
    sign::CertifiedKey,
};

use super::{
    certificates::{Chain, Listeners, Shown, certified},
    desk::Desk,
    peer_name::PeerName,
    profile,
    sessions::Sessions,
    verifier::PeerVerifier,
};

/// Why no handshake is begun. Each is a log line with this word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoContext {
    /// The keyholder has not given the listener's certificates (yet).
    #[error("no-certificate")]
    NoCertificate,
    /// A trunk's address, but nothing says what its certificate is, or who vouches for it.
    #[error("trunk-without-authorities")]
    NoAuthorities,
    /// No such listener or far end.
    #[error("not-configured")]
    NotConfigured,
}

type Name = (ZoneId, Transport, u16);
type Leaf = Option<CertificateDer<'static>>;

/// Who connects.
enum Client {
    /// The far end that bears a certificate.
    Peer(Arc<PeerVerifier>),
    /// Whoever comes, maybe again.
    Anybody(Arc<Sessions>),
}

const fn name_of(listener: &Listener) -> Name {
    (listener.zone, listener.transport, listener.port)
}

/// One for the process.
pub struct Contexts {
    provider: Arc<CryptoProvider>,
    desk: Desk,
    chains: BTreeMap<String, Chain>,
    /// For everybody who is no trunk.
    open: BTreeMap<Name, Arc<ServerConfig>>,
    /// For the trunk of that index.
    closed: BTreeMap<(Name, usize), Arc<ServerConfig>>,
    trunks: BTreeMap<(ZoneId, IpAddr), usize>,
    outward: BTreeMap<(ZoneId, SocketAddr), Outward>,
    /// Of a listener, with the names of its certificates; sessions live on through a commit that leaves them as they are.
    sessions: BTreeMap<Name, (Vec<Leaf>, Arc<Sessions>)>,
    /// Trunks that are known by name, by their index, and where they may be.
    named_trunks: Vec<(ZoneId, Named, usize)>,
    /// The same for connections to them and to the PBX.
    named_outward: Vec<(ZoneId, Named, Outward)>,
}

/// A handshake that we begin, and with whom.
type Outward = (Arc<ClientConfig>, ServerName<'static>);

impl Contexts {
    /// None yet.
    #[must_use]
    pub fn new(desk: Desk) -> Self {
        Self {
            provider: profile::provider(),
            desk,
            chains: BTreeMap::new(),
            open: BTreeMap::new(),
            closed: BTreeMap::new(),
            trunks: BTreeMap::new(),
            outward: BTreeMap::new(),
            sessions: BTreeMap::new(),
            named_trunks: Vec::new(),
            named_outward: Vec::new(),
        }
    }

    /// Names in the keyholder that these settings need.
    #[must_use]
    pub fn names(settings: &Settings) -> BTreeSet<String> {
        let listeners = settings.listeners.iter().flat_map(|l| &l.certificates);
        let peers = peers(settings).flat_map(|tls| tls.authorities.iter().chain(&tls.certificate));
        listeners.chain(peers).cloned().collect()
    }

    /// What the keyholder gives under a name from now on; true if that is something new.
    pub fn insert(&mut self, name: String, chain: Chain) -> bool {
        let new = self.chains.get(&name) != Some(&chain);
        self.chains.insert(name, chain);
        new
    }

    /// Makes everything anew.
    pub fn rebuild(&mut self, settings: &Settings) {
        let needed = Self::names(settings);
        self.chains.retain(|name, _| needed.contains(name));
        (self.open, self.closed) = Default::default();
        let mut kept = BTreeMap::new();
        self.trunks = settings
            .trunks
            .iter()
            .enumerate()
            .flat_map(|(index, trunk)| {
                let hosts = trunk.addresses.iter().map(SocketAddr::ip);
                hosts.map(move |host| ((trunk.zone, host), index))
            })
            .collect();
        let named = settings.trunks.iter().enumerate();
        self.named_trunks = named
            .filter_map(|(index, trunk)| Some((trunk.zone, trunk.named.clone()?, index)))
            .collect();
        for listener in settings
            .listeners
            .iter()
            .filter(|l| l.transport.is_secure())
        {
            let keys: Vec<_> = listener
                .certificates
                .iter()
                .filter_map(|name| self.certified(name))
                .collect();
            if !keys.is_empty() {
                let sessions = self.sessions_of(settings, listener, &keys);
                kept.insert(name_of(listener), sessions.clone());
                let sessions = sessions.1;
                self.listener(
                    settings,
                    listener,
                    Arc::new(Listeners::new(keys)),
                    &sessions,
                );
            }
        }
        self.sessions = kept;
        self.outward = settings
            .trunks
            .iter()
            .map(|trunk| (trunk.zone, trunk.transport, &trunk.addresses, &trunk.tls))
            .chain(
                settings
                    .registrar
                    .iter()
                    .map(|pbx| (pbx.zone, pbx.transport, &pbx.addresses, &pbx.tls)),
            )
            .filter(|(_, transport, _, _)| transport.is_secure())
            .filter_map(|(zone, _, addresses, tls)| Some((zone, addresses, tls.as_ref()?)))
            .flat_map(|(zone, addresses, tls)| addresses.iter().map(move |peer| (zone, *peer, tls)))
            .filter_map(|(zone, peer, tls)| {
                Some(((zone, peer), self.to_peer(tls, Some(peer.ip()))?))
            })
            .collect();
        let trunks = settings.trunks.iter().map(|t| (t.zone, &t.named, &t.tls));
        let pbx = settings
            .registrar
            .iter()
            .map(|r| (r.zone, &r.named, &r.tls));
        self.named_outward = trunks
            .chain(pbx)
            .filter_map(|(zone, named, tls)| {
                let named = named.as_ref()?;
                // RFC 5922 §4: whatever address it has, it shows the certificate of its name.
                let outward = self.to_peer(tls.as_ref()?, None)?;
                Some((zone, named.clone(), outward))
            })
            .collect();
    }

    /// The handshake of a connection that came from `peer` to `port`.
    ///
    /// # Errors
    /// See [`NoContext`]: the connection is of no use.
    pub fn accept(
        &self,
        (zone, transport): (ZoneId, Transport),
        port: u16,
        peer: IpAddr,
    ) -> Result<Arc<ServerConfig>, NoContext> {
        let name = (zone, transport, port);
        let peer = peer.to_canonical();
        let by_name = || {
            let mut named = self.named_trunks.iter();
            let found = named.find(|(at, named, _)| *at == zone && named.covers(peer));
            found.map(|(_, _, index)| index)
        };
        let context = match self.trunks.get(&(zone, peer)).or_else(by_name) {
            Some(index) => self
                .closed
                .get(&(name, *index))
                .ok_or(NoContext::NoAuthorities),
            None => self.open.get(&name).ok_or(NoContext::NoCertificate),
        };
        context.cloned()
    }

    /// The handshake of a connection to a far end of the configuration.
    ///
    /// # Errors
    /// `NotConfigured`.
    pub fn connect(&self, zone: ZoneId, peer: SocketAddr) -> Result<Outward, NoContext> {
        let by_name = || {
            let mut named = self.named_outward.iter();
            let found = named.find(|(at, named, _)| *at == zone && named.allows(peer));
            found.map(|(_, _, outward)| outward)
        };
        self.outward
            .get(&(zone, peer))
            .or_else(by_name)
            .cloned()
            .ok_or(NoContext::NotConfigured)
    }

    fn certified(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        certified(name, self.chains.get(name)?, &self.desk)
    }

    /// Sessions of a listener: those that it has, unless it shows other certificates now.
    fn sessions_of(
        &self,
        settings: &Settings,
        listener: &Listener,
        keys: &[Arc<CertifiedKey>],
    ) -> (Vec<Leaf>, Arc<Sessions>) {
        let leaves: Vec<Leaf> = keys.iter().map(|key| key.cert.first().cloned()).collect();
        let known = self.sessions.get(&name_of(listener));
        let sessions = known.filter(|(have, _)| *have == leaves).map_or_else(
            || {
                let most = usize::try_from(settings.limits.connections).unwrap_or(usize::MAX);
                Arc::new(Sessions::new(most))
            },
            |(_, sessions)| Arc::clone(sessions),
        );
        (leaves, sessions)
    }

    fn listener(
        &mut self,
        settings: &Settings,
        listener: &Listener,
        shown: Arc<dyn ResolvesServerCert>,
        sessions: &Arc<Sessions>,
    ) {
        let name = name_of(listener);
        let open = Client::Anybody(Arc::clone(sessions));
        if let Some(context) = self.server(open, listener.transport, Arc::clone(&shown)) {
            self.open.insert(name, context);
        }
        for (index, trunk) in settings.trunks.iter().enumerate() {
            let tls = trunk.tls.as_ref().filter(|_| trunk.zone == listener.zone);
            let verifier = tls.and_then(|tls| {
                let hosts = trunk.addresses.iter().map(SocketAddr::ip);
                self.verifier(tls, hosts)
            });
            if let Some(verifier) = verifier
                && let Some(context) = self.server(
                    Client::Peer(verifier),
                    listener.transport,
                    Arc::clone(&shown),
                )
            {
                self.closed.insert((name, index), context);
            }
        }
    }

    fn server(
        &self,
        client: Client,
        transport: Transport,
        shown: Arc<dyn ResolvesServerCert>,
    ) -> Option<Arc<ServerConfig>> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&profile::VERSIONS)
            .ok()?;
        // No session of a peer is resumed: its certificate is judged each time.
        let (builder, tickets, sessions): (_, _, Arc<dyn StoresServerSessions>) = match client {
            Client::Peer(verifier) => (
                builder.with_client_cert_verifier(verifier),
                0,
                Arc::new(NoServerSessionStorage {}),
            ),
            Client::Anybody(sessions) => (builder.with_no_client_auth(), 1, sessions),
        };
        let mut config = builder.with_cert_resolver(shown);
        config.send_tls13_tickets = tickets;
        config.session_storage = sessions;
        if transport == Transport::Wss {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        // A refusal here would be one at every handshake.
        ServerConnection::new(Arc::new(config.clone())).ok()?;
        Some(Arc::new(config))
    }

    fn to_peer(&self, tls: &PeerTls, peer: Option<IpAddr>) -> Option<Outward> {
        let verifier = self.verifier(tls, peer.into_iter())?;
        let names = names(tls, peer.into_iter());
        let server_name = names.first()?.server_name()?;
        let shown = tls
            .certificate
            .as_ref()
            .and_then(|name| self.certified(name));
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&profile::VERSIONS)
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(Shown(shown)));
        config.resumption = rustls::client::Resumption::disabled();
        Some((Arc::new(config), server_name))
    }

    fn verifier(
        &self,
        tls: &PeerTls,
        hosts: impl Iterator<Item = IpAddr>,
    ) -> Option<Arc<PeerVerifier>> {
        let mut authorities = RootCertStore::empty();
        for name in &tls.authorities {
            let bundle = self.chains.get(name)?;
            authorities.add_parsable_certificates(bundle.der.iter().cloned());
        }
        PeerVerifier::new(&self.provider, authorities, names(tls, hosts)).map(Arc::new)
    }
}

/// Names that a peer's certificate may bear: the configured ones, else its addresses.
fn names(tls: &PeerTls, hosts: impl Iterator<Item = IpAddr>) -> Vec<PeerName> {
    if tls.names.is_empty() {
        hosts.map(PeerName::Address).collect()
    } else {
        tls.names.iter().map(|name| PeerName::of(name)).collect()
    }
}

fn peers(settings: &Settings) -> impl Iterator<Item = &PeerTls> {
    let trunks = settings
        .trunks
        .iter()
        .filter_map(|trunk| trunk.tls.as_ref());
    let registrar = settings.registrar.iter();
    trunks.chain(registrar.filter_map(|pbx| pbx.tls.as_ref()))
}
