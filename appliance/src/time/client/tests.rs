//! The client against servers that are honest, silent, wrong or rude; the clock jumps.

use super::super::packet::testing::honest;
use super::*;

const SERVERS: [&str; 3] = [
    "198.51.100.41:123",
    "198.51.100.42:123",
    "[2001:db8:e::43]:123",
];

/// A client with servers whose clocks are each off by a known span, `None` for one that is silent.
struct World {
    client: Client,
    now: Instant,
    start: Instant,
    clocks: Vec<(SocketAddr, Option<i64>)>,
    asked: Vec<(Instant, SocketAddr)>,
    offsets: Vec<i64>,
    disagreements: usize,
}

impl World {
    fn new(clocks_ms: &[Option<i64>]) -> Self {
        let now = Instant::now();
        let clocks: Vec<_> = SERVERS
            .iter()
            .map(|server| server.parse().unwrap())
            .zip(clocks_ms.iter().copied())
            .collect();
        let mut client = Client::new([7; 32], now);
        client.configure(
            &clocks.iter().map(|(server, _)| *server).collect::<Vec<_>>(),
            now,
        );
        Self {
            client,
            now,
            start: now,
            clocks,
            asked: Vec::new(),
            offsets: Vec::new(),
            disagreements: 0,
        }
    }

    /// Our clock, which is honest about seconds and starts at a whole one.
    fn wall(&self) -> Timestamp {
        Timestamp::of_unix(Duration::from_secs(1_800_000_000) + (self.now - self.start))
    }

    /// Runs for a span; `spoil` sees each reply before it is delivered.
    fn run(&mut self, span: Duration, spoil: impl Fn(SocketAddr, &mut [u8; LENGTH])) {
        let end = self.now + span;
        loop {
            while let Some(action) = self.client.poll_action() {
                match action {
                    Action::Open(server) => {
                        let request = self
                            .client
                            .handle_opened(self.now, self.wall(), server)
                            .unwrap();
                        self.asked.push((self.now, server));
                        let clock = self
                            .clocks
                            .iter()
                            .find(|(known, _)| *known == server)
                            .unwrap()
                            .1;
                        if let Some(off_ms) = clock {
                            let there = self.wall().0.wrapping_add_signed((off_ms << 32) / 1000);
                            let mut reply = honest(&request, Timestamp(there));
                            spoil(server, &mut reply);
                            self.client.handle_datagram(self.now, server, &reply);
                        }
                    }
                    Action::Offset { nanoseconds, .. } => self.offsets.push(nanoseconds),
                    Action::NoAgreement { .. } => self.disagreements += 1,
                    Action::CloseAll | Action::Refused { .. } => {}
                }
            }
            match self.client.poll_timeout() {
                Some(due) if due <= end => self.now = self.now.max(due),
                _ => break,
            }
            self.client.handle_timeout(self.now);
        }
        self.now = end;
    }
}

fn hour() -> Duration {
    Duration::from_secs(3_600)
}

#[test]
fn a_good_clock_is_looked_at_less_and_less_often() {
    let mut world = World::new(&[Some(0), Some(0), Some(0)]);
    world.run(hour(), |_, _| {});
    assert!(world.offsets.len() >= 5 && world.offsets.iter().all(|offset| offset.abs() < 1_000));
    let first: Vec<_> = world
        .asked
        .iter()
        .filter(|(_, server)| *server == world.clocks[0].0)
        .map(|(at, _)| *at)
        .collect();
    let gaps: Vec<_> = first.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        gaps.iter()
            .all(|gap| *gap >= SHORTEST && *gap <= LONGEST + LONGEST / 8 + PATIENCE),
        "{gaps:?}"
    );
    assert!(gaps.last().unwrap() > &Duration::from_secs(900), "{gaps:?}");
}

#[test]
fn one_lying_server_is_outvoted() {
    let mut world = World::new(&[Some(250), Some(86_400_000), Some(250)]);
    world.run(hour(), |_, _| {});
    assert!(!world.offsets.is_empty());
    assert!(
        world
            .offsets
            .iter()
            .all(|offset| (offset - 250_000_000).abs() < 1_000_000),
        "{:?}",
        world.offsets
    );
}

#[test]
fn two_servers_that_differ_move_nothing() {
    let mut world = World::new(&[Some(0), Some(5_000)]);
    world.run(hour(), |_, _| {});
    assert!(world.offsets.is_empty() && world.disagreements > 3);
}

#[test]
fn silence_is_met_with_patience() {
    let mut world = World::new(&[None, None, None]);
    world.run(hour(), |_, _| {});
    assert!(world.offsets.is_empty());
    // Before the first agreement a round comes after 8 s at first and every 64 s at last.
    assert!(
        (40..80).contains(&world.disagreements),
        "{}",
        world.disagreements
    );
}

#[test]
fn a_server_that_says_go_away_is_left_alone_for_a_day() {
    let mut world = World::new(&[Some(0), Some(0), Some(0)]);
    let rude = world.clocks[0].0;
    world.run(hour() * 23, |server, reply| {
        if server == rude {
            reply[1] = 0;
            reply[12..16].copy_from_slice(b"DENY");
        }
    });
    assert_eq!(
        world
            .asked
            .iter()
            .filter(|(_, server)| *server == rude)
            .count(),
        1
    );
    assert!(world.offsets.len() > 20);
}

#[test]
fn a_server_that_says_slower_is_asked_ever_less() {
    let mut world = World::new(&[Some(0), Some(0), Some(0)]);
    let busy = world.clocks[0].0;
    world.run(hour() * 24, |server, reply| {
        if server == busy {
            reply[1] = 0;
            reply[12..16].copy_from_slice(b"RATE");
        }
    });
    let asked = world
        .asked
        .iter()
        .filter(|(_, server)| *server == busy)
        .count();
    assert!((3..12).contains(&asked), "{asked}");
}

#[test]
fn a_forged_answer_does_not_use_up_the_question() {
    let mut world = World::new(&[Some(0)]);
    let server = world.clocks[0].0;
    world.client.handle_timeout(world.now);
    while let Some(action) = world.client.poll_action() {
        if action == Action::Open(server) {
            let request = world
                .client
                .handle_opened(world.now, world.wall(), server)
                .unwrap();
            let mut forged = honest(&request, Timestamp(1));
            forged[24] ^= 1;
            world.client.handle_datagram(world.now, server, &forged);
            world
                .client
                .handle_datagram(world.now, server, &honest(&request, world.wall()));
            // And a second right answer is one too many.
            world
                .client
                .handle_datagram(world.now, server, &honest(&request, Timestamp(1)));
        }
    }
    world.run(Duration::ZERO, |_, _| {});
    let actions = (world.offsets.len(), world.disagreements);
    assert_eq!(actions, (0, 0), "the actions were drained above");
    assert!(world.client.synchronised);
}

#[test]
fn no_server_is_never() {
    let mut client = Client::new([0; 32], Instant::now());
    client.handle_timeout(Instant::now() + hour());
    assert_eq!((client.poll_timeout(), client.poll_action()), (None, None));
}

#[test]
fn other_servers_are_asked_at_once_and_the_old_ones_no_more() {
    let mut world = World::new(&[Some(0), Some(0)]);
    world.run(hour(), |_, _| {});
    let gone = world.clocks.remove(0).0;
    world.clocks.push((SERVERS[2].parse().unwrap(), Some(0)));
    let servers: Vec<_> = world.clocks.iter().map(|(server, _)| *server).collect();
    let (changed, now) = (world.asked.len(), world.now);
    world.client.configure(&servers, now);
    world.run(Duration::from_secs(1), |_, _| {});
    assert_eq!(
        world.asked[changed..]
            .iter()
            .map(|(_, server)| *server)
            .collect::<Vec<_>>(),
        servers
    );
    assert!(
        world.asked[changed..]
            .iter()
            .all(|(_, server)| *server != gone)
    );
}
